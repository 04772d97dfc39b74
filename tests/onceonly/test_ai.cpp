// Jobs, tools, and work under a lease, against the server; what a lease's answers can be, against scripts.
#include <doctest/doctest.h>

#include <atomic>
#include <cstdint>
#include <condition_variable>
#include <limits>
#include <stdexcept>
#include <thread>

#include <sys/wait.h>
#include <unistd.h>

#include "support.hpp"

namespace {

using namespace std::chrono_literals;
using namespace onceonly_support;
using namespace idem::onceonly;
using onceonly_server::Server;

std::size_t count(const Server& server, const std::string& target) {
  std::size_t found = 0;
  for (const auto& one : server.received()) found += one.target == "/v1" + target ? 1u : 0u;
  return found;
}

/// A pause that moves the server's clock and the client's instead.
ClientOptions moving(Server& server) {
  ClientOptions made = options(server);
  auto passed = std::make_shared<std::atomic<std::int64_t>>(0);
  made.clock = [passed] { return idem::TimePoint(std::chrono::microseconds(passed->load())); };
  made.pause = [passed, &server](idem::Duration span) {
    passed->fetch_add(span.nanoseconds() / 1000);
    server.advance(span);
  };
  return made;
}

}  // namespace

TEST_CASE("run_fn runs its function once for a key, and gives everybody its result") {
  Server server;
  const Client client(options(server));
  int runs = 0;
  const auto fn = [&] {
    ++runs;
    return Json{{"sent", true}};
  };
  const AiResult first = client.ai.run_fn("email:1", fn);
  CHECK(first.ok);
  CHECK(first.status == "completed");
  CHECK(first.result == Json{{"sent", true}});
  const AiResult again = client.ai.run_fn("email:1", fn);
  CHECK(again.result == Json{{"sent", true}});
  CHECK(runs == 1);
  CHECK(client.ai.run_fn("void", [&] { ++runs; }).ok);
  CHECK(client.ai.run_fn("number", [] { return 42; }).result == Json{{"value", 42}});
  CHECK(client.ai.run_fn("async", fn).ok);
  CHECK(client.ai.run_fn_async("async", fn).get().ok);
  CHECK(runs == 3);
}

TEST_CASE("of many who run_fn one key at once one runs it, and the others wait for its result") {
  Server server;
  ClientOptions quick = options(server);
  quick.pause = [](idem::Duration) { std::this_thread::yield(); };
  const Client client(quick);
  std::atomic<int> runs{0};
  std::vector<std::future<AiResult>> all;
  for (int i = 0; i < 8; ++i)
    all.push_back(client.ai.run_fn_async("k", [&runs] { return Json{{"run", runs.fetch_add(1)}}; }));
  for (auto& one : all) CHECK(one.get().result == Json{{"run", 0}});
  CHECK(runs == 1);
}

TEST_CASE("where the function throws, that is reported and the exception thrown on") {
  Server server;
  const Client client(options(server));
  CHECK_THROWS_WITH_AS(client.ai.run_fn("k", []() -> Json { throw std::domain_error("mine"); }, {.error_code = "smtp"}),
                       "mine", std::domain_error);
  const AiResult failed = client.ai.run_fn("k", []() -> Json { throw std::logic_error("not run again"); });
  CHECK_FALSE(failed.ok);
  CHECK(failed.status == "failed");
  CHECK(failed.error_code == "smtp");
  CHECK_THROWS_AS(client.ai.run_fn("not std", []() -> Json { throw 7; }), int);
}

TEST_CASE("the lease is extended while the function runs, and not after run_fn has returned") {
  Server server;
  const Client client(options(server));
  const AiResult result = client.ai.run_fn(
      "k",
      [&] {
        while (count(server, "/ai/extend") < 3) std::this_thread::yield();
        return Json{{"done", true}};
      },
      {.ttl = 60s, .extend_every = 1ms});
  CHECK(result.ok);
  const std::size_t extended = count(server, "/ai/extend");
  client.usage();
  client.usage();
  CHECK(count(server, "/ai/extend") == extended);
}

TEST_CASE("a heartbeat that hangs doesn't keep run_fn from returning") {
  std::mutex mutex;
  std::condition_variable changed;
  bool extending = false;
  std::atomic<int> inside{0};
  const auto respond = [&](const Request& request) {
    if (request.url.find("/ai/extend") == std::string::npos) {
      return answer(200, Json{{"ok", true}, {"status", "acquired"}, {"lease_id", "l"}});
    }
    ++inside;
    {
      const std::lock_guard lock(mutex);
      extending = true;
    }
    changed.notify_all();
    while (!request.cancellation->requested()) std::this_thread::yield();
    --inside;
    return failure(TransportFailure::cancelled);
  };
  const Client client({.api_key = secret_key, .transport = std::make_shared<Respond>(Respond{respond})});
  client.ai.run_fn(
      "k",
      [&] {
        std::unique_lock lock(mutex);
        changed.wait(lock, [&] { return extending; });
      },
      {.extend_every = 1ms});
  CHECK(inside == 0);
}

TEST_CASE("a lease without an id runs nothing, and somebody else's is waited for or told") {
  int runs = 0;
  const auto fn = [&] { ++runs; };
  Scripted nameless({answer(200, Json{{"status", "acquired"}})});
  CHECK(nameless.client.ai.run_fn("k", fn).error_code == "missing_lease_id");
  Scripted number({answer(200, Json{{"status", "acquired"}, {"lease_id", 7}})});
  CHECK(number.client.ai.run_fn("k", fn).error_code == "missing_lease_id");
  for (const char* status : {"in_progress", "locked", ""}) {
    Scripted taken({answer(200, Json{{"status", status}})});
    const AiResult result = taken.client.ai.run_fn("k", fn, {.wait_on_conflict = false});
    CHECK(result.error_code == "not_acquired");
    CHECK_FALSE(result.ok);
    CHECK(taken.sent() == 1);
  }
  Scripted odd({answer(200, std::string("[1]"))});
  CHECK(odd.client.ai.run_fn("k", fn, {.wait_on_conflict = false}).error_code == "not_acquired");
  CHECK(runs == 0);
}

TEST_CASE("where complete fails its error is thrown, and the function hasn't failed") {
  int runs = 0;
  Scripted scripted({answer(200, Json{{"status", "acquired"}, {"lease_id", "l"}}), answer(409, Json{{"detail", "lost"}})});
  CHECK_THROWS_AS(scripted.client.ai.run_fn("k", [&] { ++runs; }), ApiError);
  CHECK(runs == 1);
  CHECK(scripted.sent() == 2);
  CHECK(scripted.request(1).url.find("/ai/complete") != std::string::npos);

  // The result is the function's even where the service can't be asked for it.
  Scripted silent({answer(200, Json{{"status", "acquired"}, {"lease_id", "l"}}), answer(200, Json{{"ok", true}}),
                   failure(TransportFailure::network)});
  const AiResult own = silent.client.ai.run_fn("k", [] { return Json{{"a", 1}}; });
  CHECK(own.ok);
  CHECK(own.result == Json{{"a", 1}});
}

TEST_CASE("a result that isn't UTF-8 is completed all the same, so that the function isn't run again") {
  Server server;
  const Client client(options(server));
  int runs = 0;
  const auto fn = [&] {
    ++runs;
    return Json{{"text", "a\xff"}};
  };
  CHECK(client.ai.run_fn("k", fn).result == Json{{"text", "a\xef\xbf\xbd"}});
  CHECK(client.ai.run_fn("k", fn).ok);
  CHECK(runs == 1);
}

TEST_CASE("a heartbeat that pauses before a retry doesn't keep run_fn from returning") {
  std::atomic<int> extends{0};
  const auto respond = [&](const Request& request) {
    if (request.url.find("/ai/extend") == std::string::npos)
      return answer(200, Json{{"ok", true}, {"status", "acquired"}, {"lease_id", "l"}});
    ++extends;
    return answer(429, Json::object(), {{"Retry-After", "59"}});
  };
  const Client client(
      {.api_key = secret_key, .max_retries_429 = 5, .transport = std::make_shared<Respond>(Respond{respond})});
  client.ai.run_fn("k", [&] { while (extends == 0) std::this_thread::yield(); }, {.extend_every = 1ms});
  CHECK(extends == 1);
}

TEST_CASE("a lost answer to lease, retried, runs nothing twice") {
  Server server;
  ClientOptions retrying = options(server);
  retrying.max_retries_429 = 2;
  retrying.pause = [](idem::Duration) {};
  const Client client(retrying);
  server.fail({.path = "/ai/lease", .drop = true});
  int runs = 0;
  const AiResult result = client.ai.run_fn("k", [&] { ++runs; }, {.wait_on_conflict = false});
  CHECK(result.error_code == "not_acquired");
  CHECK(runs == 0);
}

TEST_CASE("run_and_wait waits as long as the service says, within its limits, and extends the lease") {
  Server server;
  const Client client(moving(server));
  const AiResult done = client.ai.run_and_wait(
      "job", {.ttl = 100s, .metadata = Json{{"job_ms", 3500}}, .run_id = "run_1", .poll_min = 1s, .extend_every = 2s});
  CHECK(done.ok);
  CHECK(done.result == Json{{"job_ms", 3500}, {"run_id", "run_1"}});
  CHECK(count(server, "/ai/status?key=job") == 5);
  CHECK(count(server, "/ai/extend") == 2);
  const AiResult failed = client.ai.run_and_wait("bad", {.metadata = Json{{"job_ms", 1}, {"job_error", "boom"}}});
  CHECK(failed.status == "failed");
  CHECK(failed.error_code == "boom");
  const AiResult late = client.ai.run_and_wait("late", {.metadata = Json{{"job_ms", 600'000}}, .timeout = 10s});
  CHECK_FALSE(late.ok);
  CHECK(late.status == "failed");
  CHECK(late.error_code == "timeout");
}

TEST_CASE("what the service says how long to wait is kept within poll_min and poll_max") {
  const auto paused = [](const Json& seconds) {
    Scripted scripted({answer(200, Json{{"status", "in_progress"}, {"retry_after_sec", seconds}}),
                       answer(200, Json{{"status", "completed"}})});
    scripted.client.ai.wait("k", {.poll_min = 200ms, .poll_max = 3s});
    return scripted.pauses.all->at(0);
  };
  CHECK(paused(2) == 2000);
  CHECK(paused(0) == 200);
  CHECK(paused(-5) == 200);
  CHECK(paused(100) == 3000);
  CHECK(paused((std::numeric_limits<std::int64_t>::max)()) == 3000);
  CHECK(paused("soon") == 200);
}

TEST_CASE("closing a client ends waiting and pauses, and drops what hasn't begun") {
  Server server;
  ClientOptions few = options(server);
  few.max_async_calls = 1;
  std::future<AiResult> waiting;
  std::future<Json> dropped;
  {
    Client client(few);
    client.ai.lease("k", {.ttl = 600s});
    waiting = client.ai.wait_async("k", {.timeout = 600s, .poll_min = 600s, .poll_max = 600s});
    while (count(server, "/ai/status?key=k") == 0) std::this_thread::yield();
    dropped = client.usage_async();
  }
  CHECK_THROWS_AS(waiting.get(), TransportError);
  CHECK_THROWS_AS(dropped.get(), std::future_error);

  Client client(options(server));
  const AiCalls ai = client.ai;
  server.fail({.path = "/usage", .delay_ms = 600'000});
  std::future<Json> slow = client.usage_async();
  while (count(server, "/usage?kind=make") == 0) std::this_thread::yield();
  client.close();
  CHECK_THROWS_AS(slow.get(), TransportError);
  CHECK_THROWS_AS(ai.status("k"), TransportError);
  CHECK_THROWS_AS(client.check_lock("k"), TransportError);
  CHECK_THROWS_AS(client.me_async().get(), std::future_error);
}

TEST_CASE("a client that is closed on one of its own threads doesn't wait for itself") {
  Server server;
  auto client = std::make_unique<Client>(options(server));
  std::promise<void> go;
  std::shared_future<void> gone = go.get_future().share();
  Client* const raw = client.get();
  std::future<AiResult> result = raw->ai.run_fn_async("k", [&client, gone] {
    gone.wait();
    client.reset();
  });
  go.set_value();
  CHECK_THROWS_AS(result.get(), TransportError);
}

TEST_CASE("a child of fork can't use its parent's client, and can end it") {
  Server server;
  auto client = std::make_unique<Client>(options(server));
  client->usage_async().get();  // a thread of the client's waits for more
  const pid_t child = ::fork();
  if (child == 0) {
    bool thrown = false;
    try {
      client->usage();
    } catch (const TransportError&) {
      thrown = true;
    }
    client.reset();
    ::_exit(thrown ? 0 : 1);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  CHECK(client->check_lock("k").should_proceed());
}

TEST_CASE("tools: policies, budgets, limits, the kill switch and the audit log") {
  Server server;
  const Client client(options(server));
  const auto call = [&](const char* tool, int n, double usd = 0) {
    return client.ai.run_tool({.agent_id = "a", .tool = tool, .args = Json{{"n", n}}, .spend_usd = usd});
  };
  client.gov.upsert_policy(Json{{"agent_id", "a"}, {"max_actions_per_hour", 4}, {"max_spend_usd_per_day", 10},
                                {"blocked_tools", {"rm_*"}}, {"allowed_tools", {"pay", "mail", "rm_rf"}},
                                {"max_calls_per_tool", {{"mail", 1}}}});
  CHECK(call("pay", 1, 6).decision == "executed");
  const AiToolResult again = call("pay", 1, 6);
  CHECK(again.decision == "dedup");
  CHECK(again.result == Json{{"tool", "pay"}, {"args", {{"n", 1}}}});
  CHECK(call("pay", 2, 6).policy_reason == "max_spend_usd_per_day");
  CHECK(call("rm_rf", 1).policy_reason == "tool_blocked");
  CHECK(call("other", 1).policy_reason == "tool_not_allowed");
  CHECK(call("mail", 1).allowed);
  CHECK(call("mail", 2).policy_reason == "max_calls_per_tool");
  CHECK(call("pay", 3).allowed);
  CHECK(call("pay", 4).allowed);
  CHECK(call("pay", 5).policy_reason == "max_actions_per_hour");
  server.advance(1h);
  CHECK(call("pay", 5).allowed);
  const AgentStatus off = client.gov.disable_agent("a", "went mad");
  CHECK_FALSE(off.is_enabled);
  CHECK(off.disabled_reason == "went mad");
  CHECK(call("pay", 6).policy_reason == "agent_disabled");
  CHECK(client.gov.enable_agent("a").is_enabled);
  CHECK(call("pay", 6).allowed);
  const auto logs = client.gov.agent_logs("a", 2);
  REQUIRE(logs.size() == 2);
  CHECK(logs[0].decision == "executed");
  CHECK(logs[1].policy_reason == "agent_disabled");
  CHECK_FALSE(logs[1].allowed);
  const AgentMetrics metrics = client.gov.agent_metrics("a");
  CHECK(metrics.total_spend_usd == doctest::Approx(6));
  CHECK(metrics.blocked_actions == 6);
  CHECK(client.gov.policy_from_template("b", "strict", Json{{"max_actions_per_hour", 1}}).max_actions_per_hour == 1);
  CHECK(client.gov.list_policies().size() == 2);
  CHECK_THROWS_AS(client.gov.policy_from_template("b", "none"), ValidationError);
  CHECK_THROWS_AS(client.gov.get_policy("nobody"), ApiError);
}

TEST_CASE("registered tools are called signed; their secret isn't shown again") {
  Server server;
  Server tool;  // answers 404, which is no success
  const Client client(options(server));
  const Json made = client.gov.create_tool(
      Json{{"name", "remote"}, {"url", "http://127.0.0.1:" + std::to_string(tool.port()) + "/hook"},
           {"auth", {{"type", "hmac_sha256"}, {"secret", "s3cret"}}}});
  CHECK(made.dump().find("s3cret") == std::string::npos);
  CHECK(client.gov.get_tool("remote").dump().find("s3cret") == std::string::npos);
  CHECK_THROWS_AS(client.gov.create_tool(Json{{"name", "a b"}, {"auth", {{"type", "hmac_sha256"}}}}), ValidationError);
  CHECK_THROWS_AS(client.gov.create_tool(Json{{"name", "ab"}, {"auth", {{"type", "none"}}}}), ValidationError);
  CHECK_FALSE(client.ai.run_tool({.agent_id = "a", .tool = "remote"}).ok);
  const auto received = tool.received();
  REQUIRE(received.size() == 1);
  CHECK(received[0].headers.find("X-OnceOnly-Signature")->second.substr(0, 7) == "sha256=");
  client.gov.toggle_tool("remote", false);
  CHECK(client.ai.run_tool({.agent_id = "b", .tool = "remote"}).policy_reason == "tool_disabled");
  CHECK(client.gov.list_tools().size() == 1);
  CHECK(client.gov.list_tools("other").empty());
  client.gov.delete_tool("remote");
  CHECK_THROWS_AS(client.gov.get_tool("remote"), ApiError);
}

TEST_CASE("the service's refusals arrive as the errors they are") {
  Server server;
  const auto with = [&](const char* api_key) { return Client(options(server, api_key)); };
  CHECK_THROWS_AS(with("other").me(), UnauthorizedError);
  CHECK_THROWS_AS(with("once_disabled").me(), UnauthorizedError);
  CHECK_THROWS_AS(with("once_forbidden").me(), UnauthorizedError);
  CHECK_THROWS_AS(with("once_suspended").me(), ApiError);
  CHECK_THROWS_AS(with("once_free").gov.list_policies(), ApiError);
  const Client tiny = with("once_tiny");
  for (int i = 0; i < 3; ++i) CHECK(tiny.check_lock("tiny " + std::to_string(i)).should_proceed());
  CHECK_THROWS_AS(tiny.check_lock("tiny 4"), OverLimitError);
  const Client client = with(secret_key);
  CHECK_THROWS_AS(client.check_lock(""), ValidationError);
  server.limit_rate(1, 10s);
  client.me();
  CHECK_THROWS_AS(client.me(), RateLimitError);
  server.advance(10s);
  client.me();
}

TEST_CASE("a lost or broken answer to check_lock fails open, over a real connection too") {
  Server server;
  const Client client(options(server));
  server.fail({.path = "/check-lock", .drop = true});
  CHECK(client.check_lock("k").raw["reason"] == "request_error");
  CHECK(client.check_lock("k").duplicate);  // it had been carried out
  server.fail({.status = 502, .body = "<html>"});
  CHECK(client.check_lock("other").raw["reason"] == "api_5xx");
  ClientOptions quick = options(server);
  quick.timeout = 1ms;
  server.fail({.delay_ms = 60'000});
  CHECK(Client(quick).check_lock("slow").raw["reason"] == "timeout");
}

TEST_CASE("an answer larger than the limit is refused, and a redirection isn't followed") {
  Server server;
  ClientOptions small = options(server);
  small.max_response_bytes = 2000;
  const Client client(small);
  server.fail({.status = 200, .body = std::string(100'000, ' ')});
  try {
    client.me();
    CHECK(false);
  } catch (const TransportError& error) {
    CHECK(error.failure() == TransportFailure::too_large);
  }
  Server elsewhere;
  server.fail({.status = 307, .headers = {{"Location", elsewhere.url() + "/me"}}});
  CHECK_THROWS_AS(client.me(), ApiError);
  CHECK(elsewhere.received().empty());
  CHECK(client.me()["plan"] == "pro");
}

TEST_CASE("a run's timeline tells what happened in it") {
  Server server;
  const Client client(options(server));
  client.ai.run_tool({.agent_id = "a", .tool = "t", .run_id = "run_1"});
  client.post_event({.run_id = "run_1", .type = "step", .status = "failed", .message = "smtp"});
  const Json timeline = client.run_timeline("run_1");
  CHECK(timeline["status"] == "failed");
  CHECK(timeline["events"].size() == 2);
  CHECK(client.events({.limit = 1}).size() == 1);
  CHECK(client.update_notifications({.email = false})["email_notifications_enabled"] == false);
  CHECK(client.me()["email_notifications_enabled"] == false);
  CHECK(client.usage("ai")["usage"] == 1);
  CHECK(client.usage_all()["make"]["usage"] == 0);
  CHECK(client.metrics("2026-01-01", "2026-01-02")["actions"] == 1);
}

TEST_CASE("a lease that is shorter than extend_every is extended before it ends, also where less was granted than asked for") {
  Server server;
  const Client client(options(server));
  const auto extended = [&] {
    const std::size_t before = count(server, "/ai/extend");
    const auto patience = std::chrono::steady_clock::now() + 10s;
    while (count(server, "/ai/extend") == before && std::chrono::steady_clock::now() < patience)
      std::this_thread::yield();
    return Json{{"extended", count(server, "/ai/extend") > before}};
  };
  CHECK(client.ai.run_fn("k", extended, {.ttl = 1s}).result == Json{{"extended", true}});
  server.fail({.path = "/ai/lease", .status = 200, .body = R"({"status":"acquired","lease_id":"l","ttl":1})"});
  CHECK_THROWS_AS(client.ai.run_fn("granted", extended), ApiError);  // it isn't a real lease
  CHECK(count(server, "/ai/extend") >= 2);
}

TEST_CASE("a lease without an end is asked for and extended by what the plan says") {
  Server server;
  const Client client(options(server));
  client.ai.run_fn("k", [&] { while (count(server, "/ai/extend") == 0) std::this_thread::yield(); },
                   {.ttl = idem::forever, .extend_every = 1ms});
  for (const auto& one : server.received()) CHECK(one.body.find("ttl") == std::string::npos);
}

namespace {
struct Unwritable {};
void to_json(Json&, const Unwritable&) { throw std::domain_error("can't be written"); }
}  // namespace

TEST_CASE("a function whose result can't be written has run, and isn't reported as failed") {
  Server server;
  const Client client(options(server));
  int runs = 0;
  const auto fn = [&] {
    ++runs;
    return Unwritable{};
  };
  CHECK_THROWS_WITH_AS(client.ai.run_fn("k", fn), "can't be written", std::domain_error);
  const AiResult again = client.ai.run_fn("k", fn);
  CHECK(again.ok);
  CHECK(again.status == "completed");
  CHECK_FALSE(again.result.has_value());
  CHECK(runs == 1);
}

TEST_CASE("waiting for a job doesn't sleep past its timeout, whatever the service says") {
  Server server;
  ClientOptions made = moving(server);
  const idem::onceonly::Pause pass = made.pause;
  const Pauses pauses;
  made.pause = [pass, pauses](idem::Duration span) {
    pass(span);
    pauses(span);
  };
  made.transport =
      std::make_shared<Script>(std::vector<Response>{answer(200, Json{{"status", "in_progress"}, {"retry_after_sec", 60}})});
  const Client client(made);
  CHECK(client.ai.wait("k", {.timeout = 7s, .poll_max = 5s}).error_code == "timeout");
  CHECK(*pauses.all == std::vector<std::int64_t>{5000, 2000});
}
