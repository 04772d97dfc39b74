#include "service.hpp"

#include <idem/detail/random.hpp>
#include <idem/detail/sha256.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>

namespace onceonly_server {

namespace {

using idem::Answer;
using idem::TimePoint;
using std::chrono::hours;
using std::chrono::seconds;

Told told(Json body) { return {200, std::move(body), {}}; }

Told error(int status, const char* error, const std::string& message) {
  return {status, Json{{"detail", {{"error", error}, {"message", message}}}}, {}};
}

Told missing(const char* what) {
  return {422, Json{{"detail", {{"error", "validation_error"}, {"message", std::string(what) + " is missing or wrong"},
                                {"field", what}}}}, {}};
}

std::optional<std::string> text(const Json& object, const char* name) {
  if (!object.is_object() || !object.contains(name) || !object[name].is_string()) return std::nullopt;
  return object[name].get<std::string>();
}

double number(const Json& object, const char* name, double otherwise) {
  return object.is_object() && object.contains(name) && object[name].is_number() ? object[name].get<double>()
                                                                                 : otherwise;
}

/// Whole seconds; nothing where it's no positive number.
std::optional<seconds> ttl_of(const Json& body, seconds otherwise) {
  if (!body.contains("ttl") || body["ttl"].is_null()) return otherwise;
  if (!body["ttl"].is_number_integer()) return std::nullopt;
  const auto ttl = body["ttl"].get<std::int64_t>();
  if (ttl <= 0 || ttl > 100LL * 366 * 86400) return std::nullopt;
  return seconds(ttl);
}

std::string hex(std::uint64_t number) {
  char digits[17];
  std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(number));
  return digits;
}

std::string hex(const idem::Digest& digest) {
  std::string all;
  for (const std::uint8_t byte : digest.bytes) {
    char two[3];
    std::snprintf(two, sizeof two, "%02x", byte);
    all += two;
  }
  return all;
}

std::string lease_id(const idem::Ownership& owner) {
  return "lease_" + hex(owner.token.hi) + hex(owner.token.lo) + hex(owner.epoch);
}

idem::Ownership owner_in(const std::string& id) {
  idem::Ownership owner;
  if (id.size() != 6 + 48 || id.substr(0, 6) != "lease_") return owner;
  const auto part = [&id](std::size_t at) { return std::strtoull(id.substr(at, 16).c_str(), nullptr, 16); };
  owner.token.hi = part(6);
  owner.token.lo = part(22);
  owner.epoch = part(38);
  return owner;
}

idem::Key key_of(const char* what, const std::string& key) { return idem::make_key(what, key); }

Json page(std::vector<Json> all, const std::map<std::string, std::string>& query, std::size_t otherwise) {
  const auto value = [&query](const char* name, std::size_t unless) {
    const auto found = query.find(name);
    return found == query.end() ? unless : static_cast<std::size_t>(std::strtoull(found->second.c_str(), nullptr, 10));
  };
  const std::size_t from = (std::min)(value("offset", 0), all.size());
  const std::size_t count = (std::min)(value("limit", otherwise), all.size() - from);
  Json list = Json::array();
  for (std::size_t i = from; i < from + count; ++i) list.push_back(std::move(all[i]));
  return list;
}

const std::map<std::string, Json>& templates() {
  static const std::map<std::string, Json> all = {
      {"strict", {{"max_actions_per_hour", 10}, {"max_spend_usd_per_day", 10.0}}},
      {"moderate", {{"max_actions_per_hour", 100}, {"max_spend_usd_per_day", 100.0}}},
      {"permissive", {{"max_actions_per_hour", 10000}, {"max_spend_usd_per_day", 10000.0}}},
      {"read_only", {{"max_actions_per_hour", 100}, {"blocked_tools", {"write_*", "delete_*"}}}},
      {"support_bot", {{"max_actions_per_hour", 60}, {"allowed_tools", {"send_email", "create_ticket"}}}}};
  return all;
}

bool matches(const std::string& pattern, const std::string& tool) {
  if (!pattern.empty() && pattern.back() == '*') return tool.substr(0, pattern.size() - 1) == pattern.substr(0, pattern.size() - 1);
  return pattern == tool;
}

bool lists(const Json& policy, const char* name, const std::string& tool) {
  if (!policy.is_object() || !policy.contains(name) || !policy[name].is_array()) return false;
  return std::any_of(policy[name].begin(), policy[name].end(),
                     [&](const Json& one) { return one.is_string() && matches(one.get<std::string>(), tool); });
}

}  // namespace

std::string written(TimePoint time) {
  const std::int64_t micros = time.time_since_epoch().count();
  const std::time_t whole = micros / 1'000'000;
  std::tm parts = {};
  gmtime_r(&whole, &parts);
  char text[64];
  const std::size_t size = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
  std::snprintf(text + size, sizeof text - size, ".%06dZ", static_cast<int>(micros % 1'000'000));
  return text;
}

Service::Service()
    : locks_({.clock = [this] { return now(); }}),
      calls_({.clock = [this] { return now(); }}),
      leases_({.clock = [this] { return now(); }}) {}

TimePoint Service::now() const {
  const auto wall = std::chrono::system_clock::now().time_since_epoch();
  return TimePoint(std::chrono::duration_cast<std::chrono::microseconds>(wall) +
                   std::chrono::microseconds(offset_.load()));
}

void Service::advance(idem::Duration span) { offset_.fetch_add(span.nanoseconds() / 1000); }

void Service::limit_rate(std::uint64_t requests, idem::Duration window) {
  const std::lock_guard lock(mutex_);
  rate_limit_ = requests;
  rate_window_ = window;
  rate_used_ = 0;
  rate_since_ = now();
}

Told Service::answer(const Asked& asked) {
  const std::lock_guard lock(mutex_);
  Told answer = refused(asked);
  if (answer.status == 200) answer = route(asked);
  return answer;
}

/// Whatever is said before anybody looks at what is asked for; 200 where nothing is.
Told Service::refused(const Asked& asked) {
  if (asked.api_key == "once_disabled") return {403, Json{{"detail", "API key is disabled"}}, {}};
  if (asked.api_key == "once_forbidden") return {403, Json{{"detail", {{"error", "forbidden"}}}}, {}};
  if (asked.api_key == "once_suspended") return error(403, "account_suspended", "this account is suspended");
  if (asked.api_key.substr(0, 5) != "once_") return {401, Json{{"detail", "Invalid API key"}}, {}};
  if (rate_limit_ != 0) {
    if (idem::later(rate_since_, rate_window_) <= now()) {
      rate_since_ = now();
      rate_used_ = 0;
    }
    if (++rate_used_ > rate_limit_) {
      Told limited = error(429, "rate_limited", "too many requests");
      const auto left = idem::later(rate_since_, rate_window_) - now();
      limited.headers["Retry-After"] = std::to_string((left.count() + 999'999) / 1'000'000);
      return limited;
    }
  }
  if (asked.body.is_discarded()) return {422, Json{{"detail", {{"error", "invalid_json"}}}}, {}};
  if (asked.method == "POST" && !asked.body.is_object()) return missing("body");
  return told(Json::object());
}

Told Service::route(const Asked& asked) {
  const std::string& first = asked.segments.empty() ? asked.path : asked.segments[0];
  const bool governance = first == "policies" || first == "tools" || first == "agents";
  if (governance && asked.api_key == "once_free")
    return error(403, "feature_not_available", "governance is not part of this plan");
  if (asked.path == "/check-lock" && asked.method == "POST") return check_lock(asked);
  if (first == "ai" && asked.segments.size() == 2) return ai(asked, asked.segments[1]);
  if (first == "policies") return policies(asked);
  if (first == "tools") return tools(asked);
  if (first == "agents") return agents(asked);
  if (first == "events" || first == "runs") return events(asked);
  return usage(asked);
}

/// Counts an action that is paid for. False where the plan has none left.
bool Service::charge(const Asked& asked, const char* kind) {
  std::map<std::string, std::int64_t>& used = usage_[asked.api_key];
  std::int64_t all = 0;
  for (const auto& [name, count] : used) all += count;
  if (asked.api_key == "once_tiny" && all >= 3) return false;
  ++used[kind];
  return true;
}

static Told over_limit() {
  return {402, Json{{"detail", {{"error", "limit_reached"}, {"message", "the plan's limit is reached"},
                                {"limit", 3}, {"usage", 3}}}}, {}};
}

Told Service::check_lock(const Asked& asked) {
  const std::optional<std::string> key = text(asked.body, "key");
  if (!key || key->empty()) return missing("key");
  const std::optional<seconds> ttl = ttl_of(asked.body, hours(24));
  if (!ttl) return missing("ttl");
  if (!charge(asked, "make")) return over_limit();
  const idem::CheckLock found = idem::check_lock(locks_, key_of("check-lock", *key), *ttl);
  const std::string since = written(found.first_seen_at);
  const std::string status = found.locked ? "locked" : "duplicate";
  Told answer;
  if (found.locked) {
    answer.body = {{"success", true}, {"status", status}, {"key", *key}, {"ttl", ttl->count()}, {"first_seen_at", since}};
  } else {
    answer.status = 409;
    answer.body = {{"detail", {{"error", "duplicate"}, {"key", *key}, {"first_seen_at", since}}}};
  }
  answer.headers["X-OnceOnly-Status"] = status;
  answer.headers["X-Request-Id"] = asked.request_id.empty() ? "req_" + since : asked.request_id;
  return answer;
}

Told Service::ai(const Asked& asked, const std::string& what) {
  if (asked.method == "GET") {
    if (what == "status") return look(asked, false);
    if (what == "result") return look(asked, true);
  } else if (asked.method == "POST") {
    if (what == "run") return asked.body.contains("agent_id") ? run_tool(asked) : run_job(asked);
    if (what == "lease") return lease(asked);
    if (what == "extend" || what == "complete" || what == "fail" || what == "cancel") return with_lease(asked, what);
  }
  return error(404, "not_found", "there is no such call");
}

/// A record as the AI calls describe it.
Json Service::described(const std::string& key, const idem::Reply& reply, bool whole) {
  Json body{{"ok", true}, {"key", key}, {"version", reply.record.attempt},
            {"first_seen_at", written(reply.record.started_at)}};
  switch (reply.answer) {
    case Answer::acquired:
      body["status"] = "acquired";
      body["lease_id"] = lease_id(reply.record.owner);
      break;
    case Answer::running: {
      body["status"] = "in_progress";
      body["ttl_left"] = (reply.record.lease_until - now()).count() / 1'000'000;
      body["retry_after_sec"] = 1;
      break;
    }
    case Answer::completed:
    case Answer::failed: {
      body["status"] = reply.answer == Answer::completed ? "completed" : "failed";
      body["ok"] = reply.answer == Answer::completed;
      body["done_at"] = written(reply.record.finished_at);
      const auto* data = reinterpret_cast<const char*>(reply.payload.data());
      const Json kept = Json::parse(std::string(data == nullptr ? "" : data, data == nullptr ? 0 : reply.payload.size()),
                                    nullptr, false);
      for (const char* name : {"result_hash", "error_code", "error_hash"}) {
        if (kept.is_object() && kept.contains(name)) body[name] = kept[name];
      }
      if (whole && kept.is_object() && kept.contains("result")) body["result"] = kept["result"];
      break;
    }
    default:
      // Its lease ended, and nobody knows what became of it.
      body["status"] = "expired";
      body["ttl_left"] = 0;
      break;
  }
  return body;
}

Told Service::lease(const Asked& asked) {
  const std::optional<std::string> key = text(asked.body, "key");
  if (!key || key->empty()) return missing("key");
  const std::optional<seconds> ttl = ttl_of(asked.body, seconds(300));
  if (!ttl) return missing("ttl");
  settle(*key);
  idem::ClaimRequest request;
  request.owner = idem::detail::new_owner_token();
  request.lease = *ttl;
  request.take_over = true;  // what ended without an outcome is leased again, and its version says so
  const idem::Reply reply = leases_.claim(key_of("ai", *key), request, nullptr);
  if (reply.answer == Answer::acquired && !charge(asked, "ai")) {
    leases_.release(key_of("ai", *key), reply.record.owner);
    return over_limit();
  }
  Json body = described(*key, reply, false);
  if (reply.answer == Answer::acquired) body["ttl"] = ttl->count();
  return told(std::move(body));
}

Told Service::with_lease(const Asked& asked, const std::string& what) {
  const std::optional<std::string> key = text(asked.body, "key");
  const std::optional<std::string> id = text(asked.body, "lease_id");
  if (!key || key->empty()) return missing("key");
  if (!id) return missing("lease_id");
  settle(*key);
  const idem::Key record = key_of("ai", *key);
  const idem::Ownership owner = owner_in(*id);
  idem::Reply reply;
  Json body{{"ok", true}, {"key", *key}};
  if (what == "extend") {
    const std::optional<seconds> ttl = ttl_of(asked.body, seconds(300));
    if (!ttl) return missing("ttl");
    reply = leases_.renew(record, owner, *ttl);
    body["status"] = "in_progress";
    body["ttl"] = ttl->count();
  } else if (what == "cancel") {
    reply = leases_.release(record, owner);
    body["status"] = "cancelled";
  } else {
    if (what == "fail" && !text(asked.body, "error_code")) return missing("error_code");
    if (asked.body.contains("result") && !asked.body["result"].is_object()) return missing("result");
    Json kept = Json::object();
    for (const char* name : {"result", "result_hash", "error_code", "error_hash"}) {
      if (asked.body.contains(name)) kept[name] = asked.body[name];
    }
    const std::string bytes = kept.dump();
    idem::Source source;
    source.kind = idem::PayloadKind::value;
    source.data = reinterpret_cast<const std::uint8_t*>(bytes.data());
    source.size = bytes.size();
    const idem::FinishRequest request{owner, hours(24), source};
    reply = what == "complete" ? leases_.complete(record, request) : leases_.fail(record, request);
    body["status"] = what == "complete" ? "completed" : "failed";
  }
  if (reply.answer != Answer::ok) return error(409, "lease_lost", "this lease doesn't hold the key any more");
  return told(std::move(body));
}

Told Service::look(const Asked& asked, bool whole) {
  const auto key = asked.query.find("key");
  if (key == asked.query.end() || key->second.empty()) return missing("key");
  settle(key->second);
  const idem::Reply reply = leases_.find(key_of("ai", key->second));
  if (reply.answer == Answer::absent) return error(404, "not_found", "nobody has used this key");
  Json body = described(key->second, reply, whole);
  if (whole && reply.answer != Answer::completed && reply.answer != Answer::failed) body["ok"] = false;
  return told(std::move(body));
}

/// A job whose time has come is done.
void Service::settle(const std::string& key) {
  const auto job = jobs_.find(key);
  if (job == jobs_.end() || now() < job->second.done_at) return;
  const Json kept = job->second.error.empty() ? Json{{"result", job->second.result}}
                                              : Json{{"error_code", job->second.error}};
  const std::string bytes = kept.dump();
  idem::Source source;
  source.kind = idem::PayloadKind::value;
  source.data = reinterpret_cast<const std::uint8_t*>(bytes.data());
  source.size = bytes.size();
  const idem::FinishRequest request{job->second.owner, hours(24), source};
  if (job->second.error.empty()) {
    leases_.complete(key_of("ai", key), request);
  } else {
    leases_.fail(key_of("ai", key), request);
  }
  jobs_.erase(job);
}

Told Service::run_job(const Asked& asked) {
  const std::optional<std::string> key = text(asked.body, "key");
  if (!key || key->empty()) return missing("key");
  const std::optional<seconds> ttl = ttl_of(asked.body, seconds(300));
  if (!ttl) return missing("ttl");
  settle(*key);
  idem::ClaimRequest request;
  request.owner = idem::detail::new_owner_token();
  request.lease = *ttl;
  request.take_over = true;
  const idem::Reply reply = leases_.claim(key_of("ai", *key), request, nullptr);
  if (reply.answer == Answer::acquired) {
    if (!charge(asked, "ai")) {
      leases_.release(key_of("ai", *key), reply.record.owner);
      return over_limit();
    }
    const Json metadata = asked.body.value("metadata", Json::object());
    Job job;
    job.done_at = now() + std::chrono::microseconds(static_cast<std::int64_t>(number(metadata, "job_ms", 0) * 1000));
    job.owner = reply.record.owner;
    job.result = metadata.is_object() ? metadata : Json::object();
    job.error = text(metadata, "job_error").value_or("");
    jobs_[*key] = std::move(job);
  }
  Json body = described(*key, reply, true);
  if (reply.answer == Answer::acquired) {
    body["status"] = "in_progress";
    body["ttl"] = ttl->count();
    body["charged"] = 1;
    body["retry_after_sec"] = 0;
  } else {
    body["charged"] = 0;
  }
  return told(std::move(body));
}

/// Why an agent may not call a tool now, if so.
std::optional<std::string> Service::blocked(Agent& agent, const std::string& tool, double spend) const {
  if (!agent.enabled) return "agent_disabled";
  const auto registered = tools_.find({"global", tool});
  if (registered != tools_.end() && !registered->second.value("enabled", true)) return "tool_disabled";
  const Json& policy = agent.policy;
  if (!policy.is_object()) return std::nullopt;
  if (lists(policy, "blocked_tools", tool)) return "tool_blocked";
  if (policy.contains("allowed_tools") && policy["allowed_tools"].is_array() && !policy["allowed_tools"].empty() &&
      !lists(policy, "allowed_tools", tool))
    return "tool_not_allowed";
  double actions = 0;
  double calls = 0;
  double spent = 0;
  for (const Action& action : agent.actions) {
    if (!action.executed) continue;
    if (action.at + hours(1) > now()) ++actions;
    if (action.at + hours(24) > now()) spent += action.spend;
    if (action.entry.value("tool", "") == tool) ++calls;
  }
  if (actions + 1 > number(policy, "max_actions_per_hour", 1e300)) return "max_actions_per_hour";
  if (spent + spend > number(policy, "max_spend_usd_per_day", 1e300)) return "max_spend_usd_per_day";
  if (policy.contains("max_calls_per_tool") && calls + 1 > number(policy["max_calls_per_tool"], tool.c_str(), 1e300))
    return "max_calls_per_tool";
  return std::nullopt;
}

Json Service::executed(const std::string& tool, const Json& args, bool& good) {
  good = true;
  const auto found = tools_.find({"global", tool});
  if (found == tools_.end() || !call_tool_) return Json{{"tool", tool}, {"args", args}};
  const std::string body = Json{{"tool", tool}, {"args", args}}.dump();
  const std::string timestamp = std::to_string(now().time_since_epoch().count() / 1'000'000);
  const std::string secret = text(found->second["auth"], "secret").value_or("");
  const std::string signed_text = timestamp + "." + body;
  const idem::detail::HmacSha256 mac(secret.data(), secret.size());
  const std::optional<std::string> answer =
      call_tool_(text(found->second, "url").value_or(""), body,
                 {{"X-OnceOnly-Timestamp", timestamp},
                  {"X-OnceOnly-Signature", "sha256=" + hex(mac.mac(signed_text.data(), signed_text.size()))}});
  good = answer.has_value();
  Json result = Json::parse(answer.value_or(""), nullptr, false);
  if (result.is_object()) return result;
  return good ? Json::object() : Json{{"error", "tool_unreachable"}};
}

Told Service::run_tool(const Asked& asked) {
  const std::optional<std::string> agent_id = text(asked.body, "agent_id");
  const std::optional<std::string> tool = text(asked.body, "tool");
  if (!agent_id || agent_id->empty()) return missing("agent_id");
  if (!tool || tool->empty()) return missing("tool");
  const Json args = asked.body.value("args", Json::object());
  Agent& agent = agents_[*agent_id];
  double price = 0;
  if (agent.policy.is_object() && agent.policy.contains("pricing_rules")) {
    for (const Json& rule : agent.policy["pricing_rules"]) {
      if (text(rule, "tool") == *tool) price = number(rule, "price_usd", 0);
    }
  }
  const double spend = number(asked.body, "spend_usd", price);
  const idem::Digest digest = [&] {
    const std::string all = args.dump();
    return idem::detail::sha256(all.data(), all.size());
  }();
  Json entry{{"ts", written(now())}, {"agent_id", *agent_id}, {"tool", *tool}, {"args_hash", hex(digest)},
             {"spend_usd", spend}, {"risk_level", spend > 100 ? "high" : "low"}};
  Json body{{"ok", true}, {"allowed", true}, {"risk_level", entry["risk_level"]}};
  const auto log = [&](const char* decision, bool done) {
    entry["decision"] = decision;
    entry["allowed"] = body["allowed"];
    agent.actions.push_back({now(), entry, done, done ? spend : 0});
    body["decision"] = decision;
    if (const std::optional<std::string> run = text(args, "run_id")) {
      events_.push_back(Json{{"run_id", *run}, {"type", "tool"}, {"tool", *tool}, {"status", decision},
                             {"agent_id", *agent_id}, {"ts", written(now())}});
    }
  };

  idem::Claim claim = idem::claim(calls_, idem::make_key("tool", *agent_id, *tool, args.dump()), {.ttl = hours(1)});
  if (!claim.acquired()) {
    body["result"] = Json::parse(claim.result<std::string>().value(), nullptr, false);
    log("dedup", false);
    return told(std::move(body));
  }
  if (const std::optional<std::string> reason = blocked(agent, *tool, spend)) {
    claim.release();
    body["ok"] = false;
    body["allowed"] = false;
    body["policy_reason"] = *reason;
    entry["policy_reason"] = *reason;
    log("blocked", false);
    return told(std::move(body));
  }
  if (!charge(asked, "ai")) {
    claim.release();
    return over_limit();
  }
  bool good = false;
  body["result"] = executed(*tool, args, good);
  body["ok"] = good;
  claim.complete(body["result"].dump());
  log("executed", true);
  return told(std::move(body));
}

Told Service::policies(const Asked& asked) {
  const std::size_t depth = asked.segments.size();
  if (depth == 1 && asked.method == "GET") {
    Json items = Json::array();
    for (const auto& [id, agent] : agents_) {
      if (agent.policy.is_object()) items.push_back({{"agent_id", id}, {"policy", agent.policy}});
    }
    return told({{"items", items}});
  }
  if (depth < 2 || depth > 3) return error(404, "not_found", "there is no such call");
  const std::string& id = asked.segments[1];
  if (asked.method == "GET" && depth == 2) {
    const auto found = agents_.find(id);
    if (found == agents_.end() || !found->second.policy.is_object())
      return error(404, "not_found", "this agent has no policy");
    return told({{"agent_id", id}, {"policy", found->second.policy}});
  }
  if (asked.method != "POST" || (depth == 3 && asked.segments[2] != "from-template"))
    return error(404, "not_found", "there is no such call");
  Json policy = asked.body;
  if (depth == 3) {
    const auto base = templates().find(text(asked.body, "template").value_or(""));
    if (base == templates().end()) return missing("template");
    policy = base->second;
    policy.update(asked.body.value("overrides", Json::object()));
  }
  policy["agent_id"] = id;
  agents_[id].policy = policy;
  return told({{"agent_id", id}, {"policy", policy}});
}

Told Service::tools(const Asked& asked) {
  const auto query = asked.query.find("scope_id");
  std::string scope = query == asked.query.end() ? "global" : query->second;
  const auto shown = [](Json tool) {
    if (tool.contains("auth")) tool["auth"].erase("secret");
    return tool;
  };
  if (asked.segments.size() == 1 && asked.method == "GET") {
    Json list = Json::array();
    for (const auto& [where, tool] : tools_) {
      if (where.first == scope) list.push_back(shown(tool));
    }
    return told(std::move(list));
  }
  if (asked.segments.size() == 1 && asked.method == "POST") {
    const std::string name = text(asked.body, "name").value_or("");
    const auto allowed = [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
             std::string_view("_.:-").find(c) != std::string_view::npos;
    };
    if (name.empty() || !std::all_of(name.begin(), name.end(), allowed)) return missing("name");
    if (!asked.body.contains("auth") || text(asked.body["auth"], "type") != "hmac_sha256") return missing("auth.type");
    scope = text(asked.body, "scope_id").value_or(scope);
    if (tools_.count({scope, name}) != 0) return error(409, "tool_exists", "there is a tool of this name");
    Json tool = asked.body;
    tool["scope_id"] = scope;
    if (!tool.contains("enabled")) tool["enabled"] = true;
    tools_[{scope, name}] = tool;
    return told(shown(tool));
  }
  if (asked.segments.size() < 2) return error(404, "not_found", "there is no such call");
  const auto found = tools_.find({scope, asked.segments[1]});
  if (found == tools_.end()) return error(404, "not_found", "there is no such tool");
  if (asked.segments.size() == 3 && asked.segments[2] == "toggle" && asked.method == "POST") {
    if (!asked.body.contains("enabled") || !asked.body["enabled"].is_boolean()) return missing("enabled");
    found->second["enabled"] = asked.body["enabled"];
    return told(shown(found->second));
  }
  if (asked.segments.size() == 2 && asked.method == "GET") return told(shown(found->second));
  if (asked.segments.size() == 2 && asked.method == "DELETE") {
    tools_.erase(found);
    return told({{"deleted", true}, {"name", asked.segments[1]}});
  }
  return error(404, "not_found", "there is no such call");
}

Told Service::agents(const Asked& asked) {
  if (asked.segments.size() != 3) return error(404, "not_found", "there is no such call");
  const std::string& id = asked.segments[1];
  const std::string& what = asked.segments[2];
  Agent& agent = agents_[id];
  if (asked.method == "POST" && (what == "disable" || what == "enable")) {
    agent.enabled = what == "enable";
    agent.disabled_reason = agent.enabled ? Json(nullptr) : asked.body.value("reason", Json(nullptr));
    agent.disabled_at = agent.enabled ? Json(nullptr) : Json(written(now()));
    return told({{"agent_id", id}, {"is_enabled", agent.enabled}, {"disabled_reason", agent.disabled_reason},
                 {"disabled_at", agent.disabled_at}});
  }
  if (asked.method == "GET" && what == "logs") {
    std::vector<Json> all;
    for (const Action& action : agent.actions) all.push_back(action.entry);
    std::reverse(all.begin(), all.end());
    return told({{"items", page(std::move(all), asked.query, 100)}});
  }
  if (asked.method == "GET" && what == "metrics") {
    const auto asked_for = asked.query.find("period");
    const std::string period = asked_for == asked.query.end() ? "day" : asked_for->second;
    if (period != "hour" && period != "day" && period != "week") return missing("period");
    const auto span = period == "hour" ? hours(1) : period == "day" ? hours(24) : hours(24 * 7);
    std::map<std::string, int> used;
    std::int64_t total = 0;
    std::int64_t stopped = 0;
    double spend = 0;
    for (const Action& action : agent.actions) {
      if (action.at + span <= now()) continue;
      ++total;
      if (!action.entry.value("allowed", true)) ++stopped;
      spend += action.spend;
      ++used[action.entry.value("tool", "")];
    }
    Json top = Json::array();
    for (const auto& [tool, count] : used) top.push_back({{"tool", tool}, {"count", count}});
    return told({{"agent_id", id}, {"period", period}, {"total_actions", total}, {"blocked_actions", stopped},
                 {"total_spend_usd", spend}, {"top_tools", top}});
  }
  return error(404, "not_found", "there is no such call");
}

Told Service::events(const Asked& asked) {
  if (asked.path == "/events" && asked.method == "POST") {
    if (text(asked.body, "run_id").value_or("").empty()) return missing("run_id");
    if (text(asked.body, "type").value_or("").empty()) return missing("type");
    Json event = asked.body;
    if (!event.contains("ts")) event["ts"] = written(now());
    events_.push_back(event);
    return told({{"ok", true}, {"event_id", "evt_" + std::to_string(events_.size())}});
  }
  if (asked.path == "/events" && asked.method == "GET") {
    std::vector<Json> all(events_.rbegin(), events_.rend());
    return told(page(std::move(all), asked.query, 50));
  }
  if (asked.segments.size() == 2 && asked.method == "GET") {
    std::vector<Json> all;
    for (const Json& event : events_) {
      if (text(event, "run_id") == asked.segments[1]) all.push_back(event);
    }
    if (all.empty()) return error(404, "not_found", "nothing is known of this run");
    const bool failed = std::any_of(all.begin(), all.end(), [](const Json& e) { return text(e, "status") == "failed"; });
    return told({{"run_id", asked.segments[1]}, {"status", failed ? "failed" : "ok"}, {"total", all.size()},
                 {"events", page(all, asked.query, 200)}});
  }
  return error(404, "not_found", "there is no such call");
}

Told Service::usage(const Asked& asked) {
  std::map<std::string, std::int64_t>& used = usage_[asked.api_key];
  const std::int64_t limit = asked.api_key == "once_tiny" ? 3 : 1'000'000;
  if (asked.method == "GET" && asked.path == "/me") {
    Json body{{"plan", asked.api_key == "once_free" ? "free" : "pro"}, {"email", "somebody@example.com"}};
    body.update(notifications_);
    return told(std::move(body));
  }
  if (asked.method == "POST" && asked.path == "/me/notifications") {
    for (const auto& member : asked.body.items()) {
      if (!notifications_.contains(member.key()) || !member.value().is_boolean()) return missing(member.key().c_str());
    }
    notifications_.update(asked.body);
    return told(notifications_);
  }
  if (asked.method == "GET" && asked.path == "/usage") {
    const auto kind = asked.query.find("kind");
    const std::string which = kind == asked.query.end() ? "make" : kind->second;
    if (which != "make" && which != "ai") return missing("kind");
    return told({{"kind", which}, {"usage", used[which]}, {"limit", limit}});
  }
  if (asked.method == "GET" && asked.path == "/usage/all")
    return told({{"make", {{"usage", used["make"]}, {"limit", limit}}}, {"ai", {{"usage", used["ai"]}, {"limit", limit}}}});
  if (asked.method == "GET" && asked.path == "/metrics") {
    if (asked.query.count("from_day") == 0 || asked.query.count("to_day") == 0) return missing("from_day");
    return told({{"from_day", asked.query.at("from_day")}, {"to_day", asked.query.at("to_day")},
                 {"actions", used["make"] + used["ai"]}});
  }
  return error(404, "not_found", "there is no such call");
}

}  // namespace onceonly_server
