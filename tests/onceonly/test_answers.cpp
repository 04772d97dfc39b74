// Errors, retries, fail-open, and answers that nobody can trust.
#include <doctest/doctest.h>

#include <cstdlib>
#include <limits>

#include "support.hpp"

namespace {

using namespace std::chrono_literals;
using namespace onceonly_support;
using namespace idem::onceonly;

/// What a call throws: its class, status, message.
struct Thrown {
  std::string type = "nothing";
  int status = -1;
  std::string message = {};
  Json detail = nullptr;
  std::optional<std::chrono::milliseconds> retry_after = {};
};

template <class Call>
Thrown thrown(Call call) {
  Thrown result;
  const auto note = [&result](const char* type, const Error& error) {
    result = {type, error.status_code(), error.what(), error.detail(), error.retry_after()};
  };
  try {
    static_cast<void>(call());
  } catch (const UnauthorizedError& error) {
    note("Unauthorized", error);
  } catch (const OverLimitError& error) {
    note("OverLimit", error);
  } catch (const ValidationError& error) {
    note("Validation", error);
  } catch (const RateLimitError& error) {
    note("RateLimit", error);
  } catch (const ApiError& error) {
    note("Api", error);
  } catch (const TransportError& error) {
    note("Transport", error);
  }
  return result;
}

}  // namespace

TEST_CASE("each status is the error that the contract says, for check_lock and for every other call") {
  struct Case {
    int status;
    Json body;
    const char* check_lock;
    const char* other;
    const char* message;
  };
  const Case cases[] = {
      {401, {{"detail", "Invalid API key"}}, "Unauthorized", "Unauthorized", "Invalid API key"},
      {403, {{"detail", {{"error", "feature_not_available"}}}}, "Unauthorized", "Api", "feature_not_available"},
      {403, {{"detail", {{"error", "forbidden"}}}}, "Unauthorized", "Unauthorized", "forbidden"},
      {403, {{"detail", "API key is disabled"}}, "Unauthorized", "Unauthorized", "API key is disabled"},
      {403, {{"detail", {{"error", "invalid_api_key"}}}}, "Unauthorized", "Unauthorized", "invalid_api_key"},
      {403, {{"detail", "account suspended"}}, "Unauthorized", "Api", "account suspended"},
      {402, {{"detail", {{"message", "limit"}, {"usage", 3}}}}, "OverLimit", "OverLimit", "limit"},
      {422, {{"error", "bad"}}, "Validation", "Validation", "bad"},
      {422, {{"detail", {{{"loc", {"body"}}}}}}, "Validation", "Validation", "the OnceOnly service answered 422"},
      {429, {{"detail", "slow down"}}, "RateLimit", "RateLimit", "slow down"},
      {409, {{"detail", {{"error", "conflict"}}}}, "nothing", "Api", "conflict"},
      {404, {{"detail", {{"error", "a"}, {"message", "b"}}}}, "Api", "Api", "a"},
      {301, {{"detail", "moved"}}, "Api", "Api", "moved"},
  };
  for (const Case& c : cases) {
    CAPTURE(c.status);
    CAPTURE(c.body.dump());
    Scripted locking({answer(c.status, c.body)});
    const Thrown first = thrown([&] { return locking.client.check_lock("k"); });
    CHECK(first.type == c.check_lock);
    Scripted other({answer(c.status, c.body)});
    const Thrown second = thrown([&] { return other.client.usage(); });
    CHECK(second.type == c.other);
    CHECK(second.status == c.status);
    CHECK(second.message == c.message);
    CHECK(second.detail == (c.body.contains("detail") ? c.body["detail"] : c.body));
    CHECK(other.sent() == 1);
  }
}

TEST_CASE("an error whose body isn't JSON is typed all the same") {
  Scripted scripted({answer(502, std::string("<html>Bad Gateway</html>"))});
  const Thrown error = thrown([&] { return scripted.client.me(); });
  CHECK(error.type == "Api");
  CHECK(error.status == 502);
  CHECK(error.message == "the OnceOnly service answered 502");
  CHECK(error.detail.is_null());
}

TEST_CASE("a success that is no object is wrapped, and one that is no JSON is an empty object") {
  CHECK(Scripted({answer(200, Json{1, 2})}).client.me() == Json{{"data", {1, 2}}});
  CHECK(Scripted({answer(200, Json("text"))}).client.me() == Json{{"data", "text"}});
  CHECK(Scripted({answer(204, std::string())}).client.me() == Json::object());
  CHECK(Scripted({answer(200, std::string("<html>"))}).client.me() == Json::object());
}

TEST_CASE("429, 500, 502, 503, 504 and network errors are retried, with growing pauses up to a limit") {
  for (const int status : {429, 500, 502, 503, 504}) {
    Scripted scripted({answer(status, Json::object()), answer(status, Json::object()), answer(200, Json{{"a", 1}})}, 2);
    CHECK(scripted.client.usage() == Json{{"a", 1}});
    CHECK(*scripted.pauses.all == std::vector<std::int64_t>{500, 1000});
  }
  for (const TransportFailure what : {TransportFailure::timeout, TransportFailure::network}) {
    Scripted scripted({failure(what), answer(200, Json{{"a", 1}})}, 1);
    CHECK(scripted.client.usage() == Json{{"a", 1}});
  }
  Scripted many({answer(503, Json::object())}, 6);
  CHECK(thrown([&] { return many.client.usage(); }).type == "Api");
  CHECK(*many.pauses.all == std::vector<std::int64_t>{500, 1000, 2000, 4000, 5000, 5000});
  CHECK(many.sent() == 7);
}

TEST_CASE("other answers are not retried") {
  for (const int status : {400, 401, 402, 403, 404, 409, 422, 501}) {
    Scripted scripted({answer(status, Json::object())}, 5);
    thrown([&] { return scripted.client.usage(); });
    CHECK(scripted.sent() == 1);
  }
  Scripted large({failure(TransportFailure::too_large)}, 5);
  CHECK(thrown([&] { return large.client.usage(); }).type == "Transport");
  CHECK(large.sent() == 1);
}

TEST_CASE("Retry-After goes before the backoff, and one of more than a minute is told instead of waited for") {
  Scripted scripted({answer(429, Json::object(), {{"retry-after", "2"}}), answer(503, Json::object(), {{"Retry-After", "0.25"}}),
                     answer(429, Json::object(), {{"Retry-After", "Wed, 21 Oct 2026 07:28:00 GMT"}}),
                     answer(200, Json::object())},
                    3);
  scripted.client.usage();
  CHECK(*scripted.pauses.all == std::vector<std::int64_t>{2000, 250, 2000});

  for (const char* endless : {"3600", "999999999999999999", "1e9", "-1", ""}) {
    Scripted asked({answer(429, Json::object(), {{"Retry-After", endless}})}, 1);
    const Thrown error = thrown([&] { return asked.client.usage(); });
    CHECK(error.type == "RateLimit");
    CHECK(asked.sent() == (endless[0] == '3' || endless[0] == '9' ? 1 : 2));
  }
  Scripted last({answer(429, Json::object(), {{"Retry-After", "7"}})});
  CHECK(thrown([&] { return last.client.usage(); }).retry_after == 7000ms);
}

TEST_CASE("check_lock fails open for timeouts, network errors and 5xx that outlive the retries, and says so") {
  struct Case {
    Response response;
    const char* reason;
  };
  const Case cases[] = {{failure(TransportFailure::timeout), "timeout"},
                        {failure(TransportFailure::network), "request_error"},
                        {failure(TransportFailure::too_large), "request_error"},
                        {answer(500, Json::object()), "api_5xx"},
                        {answer(507, std::string("<html>")), "api_5xx"}};
  for (const Case& c : cases) {
    Scripted open({c.response}, 1);
    const CheckLockResult result = open.client.check_lock("k", {.ttl = 60s, .metadata = Json{{"a", 1}}});
    CHECK(result.locked);
    CHECK_FALSE(result.duplicate);
    CHECK(result.should_proceed());
    CHECK(result.failed_open());
    CHECK(result.status_code == 0);
    CHECK(result.ttl == 60);
    CHECK(result.request_id == "fail-open");
    CHECK(result.raw == Json{{"fail_open", true}, {"reason", c.reason}, {"metadata", {{"a", 1}}}});

    auto script = std::make_shared<Script>(std::vector<Response>{c.response});
    ClientOptions closed = options(script);
    closed.fail_open = false;
    const Client client(closed);
    CHECK(thrown([&] { return client.check_lock("k"); }).type == (c.response.status == 0 ? "Transport" : "Api"));
  }
}

TEST_CASE("check_lock never fails open where the service has answered, and nothing else fails open at all") {
  for (const int status : {401, 402, 403, 422, 429}) {
    Scripted scripted({answer(status, Json::object())}, 1);
    CHECK(thrown([&] { return scripted.client.check_lock("k"); }).status == status);
  }
  Scripted down({failure(TransportFailure::network)});
  CHECK(thrown([&] { return down.client.usage(); }).type == "Transport");
  CHECK(thrown([&] { return down.client.ai.lease("k"); }).type == "Transport");
}

TEST_CASE("the body's status decides over the header, the header over success, and nothing means no lock") {
  struct Case {
    Json body;
    const char* header;
    bool locked;
  };
  const Case cases[] = {{{{"status", "locked"}, {"success", false}}, "duplicate", true},
                        {{{"status", "duplicate"}, {"success", true}}, "locked", false},
                        {{{"status", "other"}, {"success", false}}, " LOCKED ", true},
                        {{{"success", true}}, "duplicate", false},
                        {{{"success", true}}, "", true},
                        {{{"success", false}}, "", false},
                        {{{"success", "yes"}}, "", false},
                        {Json::object(), "", false}};
  for (const Case& c : cases) {
    CAPTURE(c.body.dump());
    Scripted scripted({answer(200, c.body, {{"X-OnceOnly-Status", c.header}})});
    const CheckLockResult result = scripted.client.check_lock("k", {.ttl = 9s, .metadata = Json{{"m", 1}}});
    CHECK(result.locked == c.locked);
    CHECK(result.duplicate == !c.locked);
    CHECK(result.key == "k");
    CHECK(result.ttl == 9);
    CHECK(result.raw["metadata"] == Json{{"m", 1}});
  }
  Scripted conflict({answer(409, Json{{"detail", {{"first_seen_at", "then"}}}})});
  const CheckLockResult duplicate = conflict.client.check_lock("k");
  CHECK(duplicate.duplicate);
  CHECK(duplicate.first_seen_at == "then");
  CHECK(duplicate.status_code == 409);
}

TEST_CASE("what can't be meant is refused before anything is sent") {
  Scripted scripted({answer(200, Json::object())});
  const Client& client = scripted.client;
  CHECK_THROWS_AS(client.update_notifications({}), std::invalid_argument);
  CHECK_THROWS_AS(client.post_event({.run_id = " ", .type = "t"}), std::invalid_argument);
  CHECK_THROWS_AS(client.post_event({.run_id = "r"}), std::invalid_argument);
  CHECK_THROWS_AS(client.run_timeline(""), std::invalid_argument);
  CHECK_THROWS_AS(client.run_timeline(".."), std::invalid_argument);
  CHECK_THROWS_AS(client.ai.run("k", {.run_id = " "}), std::invalid_argument);
  CHECK_THROWS_AS(client.ai.run_tool({.agent_id = "a"}), std::invalid_argument);
  CHECK_THROWS_AS(client.gov.upsert_policy(Json{{"x", 1}}), std::invalid_argument);
  CHECK_THROWS_AS(client.gov.get_policy(".."), std::invalid_argument);
  CHECK_THROWS_AS(client.check_lock("k", {.ttl = -1s}), std::invalid_argument);
  CHECK_THROWS_AS(client.check_lock(std::string("\xff")), std::invalid_argument);
  CHECK(scripted.sent() == 0);
}

TEST_CASE("options: the key is needed, the environment stands in, and addresses are put right") {
  ::unsetenv("ONCEONLY_API_KEY");
  ::unsetenv("ONCEONLY_BASE_URL");
  CHECK_THROWS_AS(Client{}, std::invalid_argument);
  CHECK_THROWS_AS(Client({.api_key = "a\nb"}), std::invalid_argument);
  CHECK_THROWS_AS(Client({.api_key = "k", .timeout = 0s}), std::invalid_argument);
  for (const char* wrong : {"ftp://host", "host/v1", "https://", "https://user:pw@host/v1", "https://host/v1?x=1", "http://a b"})
    CHECK_THROWS_AS(Client({.api_key = "k", .base_url = wrong}), std::invalid_argument);

  const auto address = [](const std::string& base_url) {
    auto script = std::make_shared<Script>(std::vector<Response>{answer(200, Json::object())});
    const Client client({.api_key = "k", .base_url = base_url, .transport = script});
    client.me();
    return script->requests.at(0).url;
  };
  CHECK(address("") == "https://api.onceonly.tech/v1/me");
  CHECK(address("https://host///") == "https://host/v1/me");
  CHECK(address("http://host:8080") == "http://host:8080/v1/me");
  CHECK(address("https://host/v2/") == "https://host/v2/me");
  ::setenv("ONCEONLY_BASE_URL", "http://elsewhere/api/", 1);
  CHECK(address("") == "http://elsewhere/api/me");
  ::setenv("ONCEONLY_API_KEY", "from_environment", 1);
  auto script = std::make_shared<Script>(std::vector<Response>{answer(200, Json::object())});
  Client({.user_agent = "shop/1", .transport = script}).me();
  CHECK(script->requests.at(0).headers.at(0).value == "Bearer from_environment");
  CHECK(script->requests.at(0).headers.at(3).value == "shop/1");
  ::unsetenv("ONCEONLY_API_KEY");
  ::unsetenv("ONCEONLY_BASE_URL");
}

TEST_CASE("SEC: neither the API key nor a tool's secret reaches an error, even where the service sends them back") {
  const std::string secret = "tool_secret_value";
  for (const Json& echo : {Json{{"detail", {{"error", std::string("no such key ") + secret_key}, {"input", {{"secret", secret}}},
                                            {secret, 1}}}},
                           Json{{"detail", std::string(secret_key) + secret}}, Json{{"message", secret}, {"list", {secret_key, secret}}}}) {
    for (const int status : {400, 401, 402, 403, 409, 422, 429, 500}) {
      Scripted scripted({answer(status, echo)});
      const Thrown error = thrown([&] {
        return scripted.client.gov.create_tool(
            Json{{"name", "t"}, {"auth", {{"type", "hmac_sha256"}, {"secret", secret}}}});
      });
      CHECK(error.status == status);
      const std::string all = error.message + error.detail.dump();
      CHECK(all.find(secret_key) == std::string::npos);
      CHECK(all.find(secret) == std::string::npos);
      CHECK(all.find("[redacted]") != std::string::npos);
    }
  }
  // A secret with quotes, in a request that the service quotes as a text.
  const std::string quoted = "qu\"oted\\";
  const Json tool{{"auth", {{"type", "hmac_sha256"}, {"secret", quoted}}}};
  Scripted echoing({answer(422, Json{{"detail", {{"error", "bad"}, {"body", tool.dump()}}}})});
  const Thrown echoed = thrown([&] { return echoing.client.gov.create_tool(tool); });
  CHECK(echoed.detail["body"].get<std::string>().find("oted") == std::string::npos);

  Client throwing({.api_key = secret_key, .transport = std::make_shared<Respond>(Respond{[](const Request& request) -> Response {
                     throw std::runtime_error(request.headers.at(0).value);
                   }})});
  const Thrown error = thrown([&] { return throwing.usage(); });
  CHECK(error.type == "Transport");
  CHECK(error.message.find(secret_key) == std::string::npos);
  try {
    Client({.api_key = std::string(secret_key) + "\r\n"});
    CHECK(false);
  } catch (const std::invalid_argument& refused) {
    CHECK(std::string(refused.what()).find(secret_key) == std::string::npos);
  }
}

TEST_CASE("SEC: hostile answers are read as far as they make sense, and crash nothing") {
  const std::string deep = std::string(100'000, '[') + std::string(100'000, ']');
  const std::string deep_object = [] {
    std::string text;
    for (int i = 0; i < 50'000; ++i) text += R"({"a":)";
    return text;
  }();
  const std::vector<std::string> bodies = {
      deep, deep_object, "", "null", "[]", "0", "\"\"", "{", "\xff\xfe", "{\"status\":\"\xff\"}", std::string(1, '\0'),
      R"({"status":{},"key":[],"version":"x","ttl":1e400,"lease_id":7,"result":[],"items":{},"data":3,"policy":7})",
      R"({"version":18446744073709551615,"ttl_left":-9223372036854775808,"retry_after_sec":9223372036854775807})",
      R"({"items":[null,1,"x",[],{"allowed":"yes","spend_usd":"1"}]})",
      R"({"policy":{"allowed_tools":[1],"max_calls_per_tool":{"a":"b"},"max_actions_per_hour":1.5}})",
      R"({"detail":)" + std::string(99, '[') + std::string(99, ']') + "}"};
  for (const std::string& body : bodies) {
    for (const int status : {200, 404, 409, 500}) {
      Scripted scripted({answer(status, body)});
      const Client& client = scripted.client;
      const auto quietly = [](auto call) { static_cast<void>(thrown(call)); };
      quietly([&] { return client.check_lock("k"); });
      quietly([&] { return client.events(); });
      quietly([&] { return client.ai.run("k"); });
      quietly([&] { return client.ai.run_tool({.agent_id = "a", .tool = "t"}); });
      quietly([&] { return client.ai.status("k"); });
      quietly([&] { return client.ai.result("k"); });
      quietly([&] { return client.gov.list_policies(); });
      quietly([&] { return client.gov.get_policy("a"); });
      quietly([&] { return client.gov.agent_logs("a"); });
      quietly([&] { return client.gov.agent_metrics("a"); });
      quietly([&] { return client.gov.enable_agent("a"); });
      quietly([&] { return client.gov.list_tools(); });
    }
  }
  const AiStatus status = Scripted({answer(200, bodies[12])}).client.ai.status("k");
  CHECK(status.version == 0);
  CHECK(status.retry_after_sec == (std::numeric_limits<std::int64_t>::max)());
}

TEST_CASE("lists arrive as an array, or as items or data") {
  for (const Json& body : {Json{1, 2}, Json{{"items", {1, 2}}}, Json{{"data", {1, 2}}}}) {
    CHECK(Scripted({answer(200, body)}).client.events() == std::vector<Json>{1, 2});
    CHECK(Scripted({answer(200, body)}).client.gov.list_tools() == std::vector<Json>{1, 2});
  }
  CHECK(Scripted({answer(200, Json{{"items", 3}})}).client.events().empty());
}

TEST_CASE("results keep what they are made of, and policies come from where the contract says") {
  const Json body{{"ok", true}, {"status", "completed"}, {"key", "k"}, {"version", 3}, {"new_field", 1},
                  {"result", {{"a", 1}}}};
  const AiRun run = Scripted({answer(200, body)}).client.ai.run("k");
  CHECK(run.version == 3);
  CHECK(run.result == Json{{"a", 1}});
  CHECK_FALSE(run.lease_id.has_value());
  CHECK(run.raw == body);

  const Json sent{{"agent_id", "a"}, {"max_actions_per_hour", 5}, {"allowed_tools", {"x"}},
                  {"max_calls_per_tool", {{"x", 2}}}, {"max_spend_usd_per_day", 1}};
  const Policy echoed = Scripted({answer(200, Json{{"ok", true}})}).client.gov.upsert_policy(sent);
  CHECK(echoed.policy == sent);
  CHECK(echoed.max_actions_per_hour == 5);
  CHECK(echoed.max_spend_usd_per_day == 1.0);
  CHECK(echoed.allowed_tools == std::vector<std::string>{"x"});
  CHECK(echoed.max_calls_per_tool == std::map<std::string, std::int64_t>{{"x", 2}});
  const Policy theirs =
      Scripted({answer(200, Json{{"agent_id", "b"}, {"policy", {{"max_actions_per_hour", 6}}}})}).client.gov.upsert_policy(sent);
  CHECK(theirs.agent_id == "b");
  CHECK(theirs.max_actions_per_hour == 6);
  CHECK(Scripted({answer(200, sent)}).client.gov.get_policy("a").max_actions_per_hour == 5);

  CHECK(Scripted({answer(200, Json{{"enabled", true}})}).client.gov.enable_agent("a").is_enabled);
  CHECK_FALSE(Scripted({answer(200, Json{{"is_enabled", false}, {"enabled", true}})}).client.gov.enable_agent("a").is_enabled);
  const auto logs = Scripted({answer(200, Json{{{"reason", "r"}, {"allowed", false}}, Json::object()})}).client.gov.agent_logs("a");
  CHECK(logs.at(0).decision == "blocked");
  CHECK(logs.at(0).policy_reason == "r");
  CHECK(logs.at(1).decision == "allowed");
  CHECK(logs.at(1).allowed);
  CHECK(logs.at(1).agent_id == "a");
}
