// What each call sends over the wire, by a table: method, path, query, headers and body as a real server receives them.
#include <doctest/doctest.h>

#include <set>

#include "support.hpp"

namespace {

using namespace std::chrono_literals;
using namespace onceonly_support;
using namespace idem::onceonly;
using onceonly_server::Received;
using onceonly_server::Server;

struct Row {
  const char* name;
  const char* method;
  const char* target;  // behind /v1
  Json body;           // null: none
  std::function<void(const Client&)> call;
  std::function<void(const Client&)> call_async;
};

/// The service's own errors don't matter here, only what was sent.
template <class Call>
std::function<void(const Client&)> sent(Call call) {
  return [call](const Client& client) {
    try {
      static_cast<void>(call(client));
    } catch (const Error&) {
    }
  };
}
template <class Call>
std::function<void(const Client&)> later(Call call) {
  return [call](const Client& client) {
    try {
      static_cast<void>(call(client).get());
    } catch (const Error&) {
    }
  };
}

std::vector<Row> table() {
  std::vector<Row> rows;
  const auto row = [&rows](const char* name, const char* method, const char* target, Json body, auto call, auto twin) {
    rows.push_back({name, method, target, std::move(body), sent(call), later(twin)});
  };
#define CALL(expression) [](const Client& client) { return client.expression; }
  row("check_lock", "POST", "/check-lock", {{"key", "k"}}, CALL(check_lock("k")), CALL(check_lock_async("k")));
  row("check_lock with everything", "POST", "/check-lock", {{"key", "ü/?"}, {"ttl", 2}, {"metadata", {{"a", 1}}}},
      CALL(check_lock("ü/?", {.ttl = 1500ms, .metadata = Json{{"a", 1}}})),
      CALL(check_lock_async("ü/?", {.ttl = 1500ms, .metadata = Json{{"a", 1}}})));
  row("me", "GET", "/me", nullptr, CALL(me()), CALL(me_async()));
  row("update_notifications", "POST", "/me/notifications",
      {{"email_notifications_enabled", true}, {"run_failure_notifications_enabled", false}},
      CALL(update_notifications({.email = true, .run_failure = false})),
      CALL(update_notifications_async({.email = true, .run_failure = false})));
  row("update_notifications of tools", "POST", "/me/notifications", {{"tool_error_notifications_enabled", true}},
      CALL(update_notifications({.tool_error = true})), CALL(update_notifications_async({.tool_error = true})));
  row("usage", "GET", "/usage?kind=make", nullptr, CALL(usage()), CALL(usage_async()));
  row("usage of a kind", "GET", "/usage?kind=a%26b%20%2B%2F", nullptr, CALL(usage("a&b +/")), CALL(usage_async("a&b +/")));
  row("usage_all", "GET", "/usage/all", nullptr, CALL(usage_all()), CALL(usage_all_async()));
  row("events", "GET", "/events?limit=50&offset=0", nullptr, CALL(events()), CALL(events_async()));
  row("events of a page", "GET", "/events?limit=5&offset=10", nullptr, CALL(events({.limit = 5, .offset = 10})),
      CALL(events_async({.limit = 5, .offset = 10})));
  row("metrics", "GET", "/metrics?from_day=2026-03-01&to_day=2026-03-02", nullptr,
      CALL(metrics("2026-03-01", "2026-03-02")), CALL(metrics_async("2026-03-01", "2026-03-02")));
  row("post_event", "POST", "/events", {{"run_id", "r"}, {"type", "t"}}, CALL(post_event({.run_id = "r", .type = "t"})),
      CALL(post_event_async({.run_id = "r", .type = "t"})));
  const Json whole{{"run_id", "r"}, {"type", "t"}, {"ts", 7}, {"status", "s"}, {"duration_ms", 8}, {"step", "st"},
                   {"tool", "to"}, {"req_id", "re"}, {"lease_id", "l"}, {"agent_id", "a"}, {"message", "m"},
                   {"data", {{"d", 1}}}, {"more", true}};
  const auto event = [] {
    return PostEventOptions{.run_id = " r ", .type = "t", .ts = 7, .status = "s", .duration_ms = 8, .step = "st",
                            .tool = "to", .req_id = "re", .lease_id = "l", .agent_id = "a", .message = "m",
                            .data = Json{{"d", 1}}, .extra = Json{{"more", true}}};
  };
  row("post_event with everything", "POST", "/events", whole,
      [event](const Client& client) { return client.post_event(event()); },
      [event](const Client& client) { return client.post_event_async(event()); });
  row("run_timeline", "GET", "/runs/a%2Fb%20c?limit=200&offset=0", nullptr, CALL(run_timeline("a/b c")),
      CALL(run_timeline_async("a/b c")));
  row("run_timeline of a page", "GET", "/runs/r?limit=2&offset=1", nullptr,
      CALL(run_timeline("r", {.limit = 2, .offset = 1})), CALL(run_timeline_async("r", {.limit = 2, .offset = 1})));

  row("ai.run", "POST", "/ai/run", {{"key", "job"}}, CALL(ai.run("job")), CALL(ai.run_async("job")));
  row("ai.run with everything", "POST", "/ai/run",
      {{"key", "job"}, {"ttl", 60}, {"metadata", {{"a", 1}, {"run_id", "run_1"}}}},
      CALL(ai.run("job", {.ttl = 1min, .metadata = Json{{"a", 1}}, .run_id = " run_1 "})),
      CALL(ai.run_async("job", {.ttl = 1min, .metadata = Json{{"a", 1}}, .run_id = " run_1 "})));
  row("ai.run_tool", "POST", "/ai/run", {{"agent_id", "a"}, {"tool", "t"}},
      CALL(ai.run_tool({.agent_id = "a", .tool = "t"})), CALL(ai.run_tool_async({.agent_id = "a", .tool = "t"})));
  row("ai.run_tool with everything", "POST", "/ai/run",
      {{"agent_id", "a"}, {"tool", "t"}, {"args", {{"x", 1}, {"run_id", "run_1"}}}, {"spend_usd", 0.5}},
      CALL(ai.run_tool({.agent_id = "a", .tool = "t", .args = Json{{"x", 1}}, .spend_usd = 0.5, .run_id = "run_1"})),
      CALL(ai.run_and_wait_async(
          {.agent_id = "a", .tool = "t", .args = Json{{"x", 1}}, .spend_usd = 0.5, .run_id = "run_1"})));
  row("ai.status", "GET", "/ai/status?key=a%3Ab%2F%C3%BC", nullptr, CALL(ai.status("a:b/ü")),
      CALL(ai.status_async("a:b/ü")));
  row("ai.result", "GET", "/ai/result?key=k", nullptr, CALL(ai.result("k")), CALL(ai.result_async("k")));
  row("ai.lease", "POST", "/ai/lease", {{"key", "k"}, {"ttl", 30}, {"metadata", {{"a", 1}}}},
      CALL(ai.lease("k", {.ttl = 30s, .metadata = Json{{"a", 1}}})),
      CALL(ai.lease_async("k", {.ttl = 30s, .metadata = Json{{"a", 1}}})));
  row("ai.extend", "POST", "/ai/extend", {{"key", "k"}, {"lease_id", "l"}, {"ttl", 5}},
      CALL(ai.extend("k", "l", {.ttl = 5s})), CALL(ai.extend_async("k", "l", {.ttl = 5s})));
  row("ai.complete", "POST", "/ai/complete",
      {{"key", "k"}, {"lease_id", "l"}, {"result", {{"a", 1}}}, {"result_hash", "h"}},
      CALL(ai.complete("k", "l", {.result = Json{{"a", 1}}, .result_hash = "h"})),
      CALL(ai.complete_async("k", "l", {.result = Json{{"a", 1}}, .result_hash = "h"})));
  row("ai.fail", "POST", "/ai/fail", {{"key", "k"}, {"lease_id", "l"}, {"error_code", "e"}, {"error_hash", "h"}},
      CALL(ai.fail("k", "l", "e", {.error_hash = "h"})), CALL(ai.fail_async("k", "l", "e", {.error_hash = "h"})));
  row("ai.cancel", "POST", "/ai/cancel", {{"key", "k"}, {"lease_id", "l"}, {"reason", "r"}},
      CALL(ai.cancel("k", "l", {.reason = "r"})), CALL(ai.cancel_async("k", "l", {.reason = "r"})));

  row("gov.upsert_policy", "POST", "/policies/b%2F1", {{"agent_id", "b/1"}, {"max_actions_per_hour", 2}},
      CALL(gov.upsert_policy(Json{{"agent_id", "b/1"}, {"max_actions_per_hour", 2}})),
      CALL(gov.upsert_policy_async(Json{{"max_actions_per_hour", 2}}, "b/1")));
  row("gov.policy_from_template", "POST", "/policies/a/from-template",
      {{"agent_id", "a"}, {"template", "strict"}, {"overrides", Json::object()}},
      CALL(gov.policy_from_template("a", "strict")), CALL(gov.policy_from_template_async("a", "strict")));
  row("gov.policy_from_template with overrides", "POST", "/policies/a/from-template",
      {{"agent_id", "a"}, {"template", "strict"}, {"overrides", {{"x", 1}}}},
      CALL(gov.policy_from_template("a", "strict", Json{{"x", 1}})),
      CALL(gov.policy_from_template_async("a", "strict", Json{{"x", 1}})));
  row("gov.list_policies", "GET", "/policies", nullptr, CALL(gov.list_policies()), CALL(gov.list_policies_async()));
  row("gov.get_policy", "GET", "/policies/a%20b", nullptr, CALL(gov.get_policy("a b")), CALL(gov.get_policy_async("a b")));
  row("gov.create_tool", "POST", "/tools", {{"name", "t"}}, CALL(gov.create_tool(Json{{"name", "t"}})),
      CALL(gov.create_tool_async(Json{{"name", "t"}})));
  row("gov.list_tools", "GET", "/tools?scope_id=global", nullptr, CALL(gov.list_tools()), CALL(gov.list_tools_async()));
  row("gov.get_tool", "GET", "/tools/a%3Ab?scope_id=team%201", nullptr, CALL(gov.get_tool("a:b", "team 1")),
      CALL(gov.get_tool_async("a:b", "team 1")));
  row("gov.toggle_tool", "POST", "/tools/t/toggle?scope_id=global", {{"enabled", false}},
      CALL(gov.toggle_tool("t", false)), CALL(gov.toggle_tool_async("t", false)));
  row("gov.delete_tool", "DELETE", "/tools/t?scope_id=global", nullptr, CALL(gov.delete_tool("t")),
      CALL(gov.delete_tool_async("t")));
  row("gov.disable_agent", "POST", "/agents/a/disable", {{"reason", "r"}}, CALL(gov.disable_agent("a", "r")),
      CALL(gov.disable_agent_async("a", "r")));
  row("gov.enable_agent", "POST", "/agents/a/enable", Json::object(), CALL(gov.enable_agent("a")),
      CALL(gov.enable_agent_async("a")));
  row("gov.agent_logs", "GET", "/agents/a/logs?limit=100", nullptr, CALL(gov.agent_logs("a")),
      CALL(gov.agent_logs_async("a")));
  row("gov.agent_metrics", "GET", "/agents/a/metrics?period=week", nullptr, CALL(gov.agent_metrics("a", "week")),
      CALL(gov.agent_metrics_async("a", "week")));
#undef CALL
  return rows;
}

std::string header(const Received& received, const char* name) {
  std::string all;
  for (const auto& [own, value] : received.headers) {
    std::string lower = own;
    for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    if (lower == name) all += value;
  }
  return all;
}

}  // namespace

TEST_CASE("each call sends what the contract says, blocking and not") {
  Server server;
  const Client client(options(server));
  for (const Row& row : table()) {
    CAPTURE(row.name);
    for (const auto* call : {&row.call, &row.call_async}) {
      server.forget_received();
      (*call)(client);
      const std::vector<Received> all = server.received();
      REQUIRE(all.size() == 1);
      const Received& received = all[0];
      CHECK(received.method == row.method);
      CHECK(received.target == std::string("/v1") + row.target);
      CHECK(header(received, "authorization") == std::string("Bearer ") + secret_key);
      CHECK(header(received, "content-type") == "application/json");
      CHECK(header(received, "user-agent").substr(0, 5) == "idem/");
      CHECK(header(received, "x-request-id").empty());
      CHECK(header(received, "expect").empty());
      if (row.body.is_null()) {
        CHECK(received.body.empty());
      } else {
        CHECK(Json::parse(received.body) == row.body);
      }
    }
  }
}

TEST_CASE("a request id is sent as X-Request-Id, and one that would add a header is refused") {
  Server server;
  const Client client(options(server));
  const CheckLockResult result = client.check_lock("k", {.request_id = "r1"});
  CHECK(header(server.received().at(0), "x-request-id") == "r1");
  CHECK(result.request_id == "r1");
  CHECK_THROWS_AS(client.check_lock("k", {.request_id = "a\r\nX-Evil: 1"}), std::invalid_argument);
  CHECK(server.received().size() == 1);
}

TEST_CASE("connections are kept: many requests of one thread are one connection") {
  Server server;
  const Client client(options(server));
  for (int i = 0; i < 20; ++i) client.usage();
  CHECK(server.connections() == 1);
}

TEST_CASE("a client is used by many threads at once") {
  Server server;
  const Client client(options(server));
  std::vector<std::future<CheckLockResult>> all;
  for (int i = 0; i < 200; ++i) all.push_back(client.check_lock_async("key " + std::to_string(i % 50)));
  int locked = 0;
  for (auto& one : all) locked += one.get().should_proceed() ? 1 : 0;
  CHECK(locked == 50);
}
