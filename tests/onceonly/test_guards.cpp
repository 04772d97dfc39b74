// The two extras: check_lock_with, where the service decides, and forward_to, where it's told.
#include <idem/claim.hpp>
#include <idem/file_store.hpp>
#include <idem/idempotent.hpp>
#include <idem/make_key.hpp>
#include <idem/onceonly/check_lock_with.hpp>
#include <idem/onceonly/forward_to.hpp>
#include <idem/onceonly/remote_store.hpp>
#include <idem/testing/recording_observer.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <map>
#include <stdexcept>
#include <thread>

#include "support.hpp"

namespace {

using namespace std::chrono_literals;
using namespace onceonly_support;
using idem::EventKind;
using idem::Verdict;
using idem::onceonly::check_lock_with;
using idem::onceonly::forward_to;
using onceonly_server::Server;

/// Counts events by their kind.
struct Heard {
  std::shared_ptr<std::map<EventKind, int>> kinds = std::make_shared<std::map<EventKind, int>>();
  std::shared_ptr<std::string> last = std::make_shared<std::string>();
  void operator()(const idem::Event& event) const {
    ++(*kinds)[event.kind];
    if (event.kind == EventKind::store_warning || event.kind == EventKind::unguarded) *last = std::string(event.message);
  }
  int operator[](EventKind kind) const { return (*kinds)[kind]; }
};

std::vector<Json> bodies(const Server& server, const std::string& target) {
  std::vector<Json> found;
  for (const auto& one : server.received()) {
    if (one.target == "/v1" + target && one.method == "POST") found.push_back(Json::parse(one.body));
  }
  return found;
}


}  // namespace

TEST_CASE("check_lock_with: the first one on any machine runs, later ones are duplicates") {
  Server server;
  const Client client(options(server));
  const Client elsewhere(options(server));
  int runs = 0;
  const auto fn = [&runs](const std::string& id) {
    ++runs;
    return "ran " + id;
  };
  auto guard = idem::idempotent<"notify">(fn, {.ttl = 1h}, check_lock_with(client, {.key_prefix = "shop", .metadata = Json{{"a", 1}}}));
  auto other = idem::idempotent<"notify">(fn, {.ttl = 1h}, check_lock_with(elsewhere, {.key_prefix = "shop"}));
  CHECK(guard("secret-id") == "ran secret-id");
  CHECK_THROWS_AS(other("secret-id"), idem::DuplicateExecutionError);
  CHECK(guard.try_call("secret-id").verdict() == Verdict::duplicate);
  auto valued = idem::idempotent<"notify">(fn, {.ttl = 1h}, check_lock_with(elsewhere, {.key_prefix = "shop"}),
                                           idem::on_duplicate_return([](const std::string& id) { return "seen " + id; }));
  CHECK(valued("secret-id") == "seen secret-id");
  CHECK(runs == 1);
  const Json sent = bodies(server, "/check-lock").at(0);
  CHECK(sent["key"].get<std::string>().substr(0, 5) == "shop:");
  CHECK(sent["key"].get<std::string>().size() == 5 + 64);
  CHECK(sent["ttl"] == 3600);
  CHECK(sent["metadata"] == Json{{"a", 1}});
  for (const Json& body : bodies(server, "/check-lock")) CHECK(body.dump().find("secret-id") == std::string::npos);
  // Another version of the key, another name and other arguments are other calls.
  auto versioned = idem::idempotent<"notify">(fn, check_lock_with(client, {.key_prefix = "shop", .key_version = "v2"}));
  CHECK(versioned.try_call("secret-id").verdict() == Verdict::executed);
  CHECK(guard.try_call("other").verdict() == Verdict::executed);
  server.advance(1h);
  CHECK(other.try_call("secret-id").verdict() == Verdict::executed);
}

TEST_CASE("check_lock_with needs no codec for results, since none is kept") {
  Server server;
  const Client client(options(server));
  struct Copyable {
    int n;
    void (*pointer)() = nullptr;
  };
  auto guard = idem::idempotent<"f">([](int n) { return Copyable{n}; }, check_lock_with(client));
  CHECK(guard(1).n == 1);
  auto nothing = idem::idempotent<"g">([](int) {}, check_lock_with(client));
  nothing(1);
  CHECK(nothing.try_call(1).verdict() == Verdict::duplicate);
}

TEST_CASE("check_lock_with fails closed, and under run_unguarded runs as unguarded with an event") {
  Server server;
  const Client client(options(server));  // fail_open
  int runs = 0;
  const auto fn = [&runs](int n) {
    ++runs;
    return n;
  };
  Heard heard;
  auto closed = idem::idempotent<"f">(fn, check_lock_with(client));
  auto open = idem::idempotent<"f">(fn, {.on_store_error = idem::OnStoreError::run_unguarded}, check_lock_with(client),
                                    idem::observe(heard));
  server.fail({.status = 503});
  CHECK_THROWS_AS(closed(1), idem::StoreError);
  CHECK(runs == 0);
  server.fail({.status = 503});
  const auto outcome = open.try_call(1);
  CHECK(outcome.verdict() == Verdict::unguarded);
  CHECK(heard[EventKind::unguarded] == 1);
  CHECK(heard.last->find("503") != std::string::npos);
  CHECK(runs == 1);
  for (const int status : {401, 402, 403, 422, 429}) {
    server.fail({.status = status});
    CHECK(open.try_call(2).verdict() == Verdict::unavailable);
  }
  CHECK(runs == 1);
  CHECK(open.try_call(2).verdict() == Verdict::executed);
}

TEST_CASE("check_lock_with: a failure without an effect frees the call for this process, whose lock it is") {
  Server server;
  const Client client(options(server));
  const Client elsewhere(options(server));
  int runs = 0;
  const auto fn = [&runs](int n) {
    if (++runs == 1) throw std::runtime_error("first time");
    return n;
  };
  auto guard = idem::idempotent<"f">(fn, {.ttl = 1h}, check_lock_with(client));
  CHECK_THROWS_AS(guard(1), std::runtime_error);
  CHECK(idem::idempotent<"f">(fn, check_lock_with(elsewhere)).try_call(1).verdict() == Verdict::duplicate);
  CHECK(guard(1) == 1);
  CHECK(guard.try_call(1).verdict() == Verdict::duplicate);
  CHECK(runs == 2);

  auto doubting = idem::idempotent<"g">([](int) -> int { throw std::runtime_error("x"); },
                                        {.on_failure = idem::OnFailure::in_doubt}, check_lock_with(client));
  CHECK_THROWS_AS(doubting(1), std::runtime_error);
  CHECK(doubting.try_call(1).verdict() == Verdict::in_doubt);
  CHECK(doubting.forget(1));
  CHECK_THROWS_AS(doubting(1), std::runtime_error);
}

TEST_CASE("check_lock_with: duplicates in one process wait for the run, and of many one runs") {
  Server server;
  const Client client(options(server));
  std::atomic<int> runs{0};
  std::atomic<int> executed{0};
  auto guard = idem::idempotent<"f">([&runs](int n) { runs.fetch_add(1); return n; }, check_lock_with(client));
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < 10; ++n) {
        const Verdict verdict = guard.try_call(n).verdict();
        CHECK((verdict == Verdict::executed || verdict == Verdict::duplicate));
        executed += verdict == Verdict::executed ? 1 : 0;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(runs == 10);
  CHECK(executed == 10);
}

TEST_CASE("check_lock_with: a duplicate that may be one's own lost lock is in doubt, not done") {
  Server server;
  ClientOptions retrying = options(server);
  retrying.max_retries_429 = 1;
  retrying.pause = [](idem::Duration) {};
  const Client client(retrying);
  int runs = 0;
  auto guard = idem::idempotent<"f">([&runs](int n) { ++runs; return n; }, check_lock_with(client));
  server.fail({.path = "/check-lock", .drop = true});
  CHECK(guard.try_call(1).verdict() == Verdict::in_doubt);
  CHECK(guard.try_call(1).verdict() == Verdict::in_doubt);
  CHECK(runs == 0);
  // One that was turned away before is no reason to doubt.
  CHECK(client.check_lock("other").locked);
  auto second = idem::idempotent<"f">([&runs](int n) { ++runs; return n; }, check_lock_with(client));
  CHECK(second.try_call(2).verdict() == Verdict::executed);
  const Client elsewhere(retrying);
  server.fail({.path = "/check-lock", .status = 429});
  auto third = idem::idempotent<"f">([&runs](int n) { ++runs; return n; }, check_lock_with(elsewhere));
  CHECK(third.try_call(2).verdict() == Verdict::duplicate);
}

TEST_CASE("idem::check_lock by hand works on it") {
  Server server;
  const Client client(options(server));
  auto store = check_lock_with(client);
  CHECK(idem::check_lock(store, idem::make_key("webhook", 1), 1h).locked);
  CHECK(idem::check_lock(store, idem::make_key("webhook", 1), 1h).duplicate);
  CHECK(bodies(server, "/check-lock").at(0)["ttl"] == 3600);
}

TEST_CASE("forward_to: the local store decides, the service is told of the run and of its outcome") {
  Server server;
  const Client client(options(server));
  Heard heard;
  int runs = 0;
  auto guard = idem::idempotent<"f">(
      [&runs](int n) {
        if (++runs == 2) throw std::runtime_error("secret text");
        return n;
      },
      {.ttl = 1h}, forward_to(client, {.metadata = Json{{"team", "a"}}}), idem::observe(heard));
  CHECK(guard(1) == 1);
  CHECK(guard(1) == 1);
  const Json lock = bodies(server, "/check-lock").at(0);
  CHECK(lock["key"] == "idem:" + guard.key(1).text());
  CHECK(lock["ttl"] == 3600);
  CHECK(lock["metadata"]["team"] == "a");
  CHECK(lock["metadata"]["idem"]["name"] == "f");
  const Json event = bodies(server, "/events").at(0);
  CHECK(event["run_id"] == lock["key"]);
  CHECK(event["type"] == "idem.call");
  CHECK(event["status"] == "completed");
  CHECK(event["data"]["verdict"] == "executed");
  CHECK(event["duration_ms"] >= 0);
  CHECK(bodies(server, "/events").size() == 1);  // the duplicate cost nothing
  CHECK_THROWS_AS(guard(2), std::runtime_error);
  const Json failed = bodies(server, "/events").at(1);
  CHECK(failed["status"] == "failed");
  CHECK(failed.dump().find("secret text") == std::string::npos);
  // Running again what had failed without an effect is no disagreement.
  CHECK(guard(2) == 2);
  CHECK(heard[EventKind::store_warning] == 0);
}

TEST_CASE("forward_to: a disagreement is reported, or raised without running the function") {
  Server server;
  const Client client(options(server));
  const auto made_elsewhere = [&](const idem::Key& key) { client.check_lock("idem:" + key.text()); };
  int runs = 0;
  const auto fn = [&runs](int n) {
    ++runs;
    return n;
  };
  Heard heard;
  auto reporting = idem::idempotent<"f">(fn, forward_to(client), idem::observe(heard));
  made_elsewhere(reporting.key(1));
  CHECK(reporting(1) == 1);
  CHECK(heard[EventKind::store_warning] == 1);
  CHECK(heard.last->find("made elsewhere") != std::string::npos);
  auto raising = idem::idempotent<"g">(fn, forward_to(client, {.on_disagreement = idem::onceonly::OnDisagreement::raise}));
  made_elsewhere(raising.key(1));
  CHECK_THROWS_AS(raising(1), idem::DuplicateExecutionError);
  CHECK(raising.try_call(1).error().effect == idem::Effect::ran);
  CHECK_FALSE(raising.find(1).has_value());  // nothing is recorded here
  CHECK(runs == 1);
  CHECK(raising(2) == 2);
}

TEST_CASE("forward_to: a service that is down is ignored, or the call doesn't run") {
  Server server;
  const Client client(options(server));
  int runs = 0;
  const auto fn = [&runs](int n) {
    ++runs;
    return n;
  };
  Heard heard;
  auto ignoring = idem::idempotent<"f">(fn, forward_to(client), idem::observe(heard));
  server.fail({.times = 2, .status = 503});
  CHECK(ignoring.try_call(1).verdict() == Verdict::executed);
  CHECK(heard[EventKind::store_warning] == 2);
  auto raising = idem::idempotent<"g">(fn, forward_to(client, {.on_down = idem::onceonly::OnDown::raise}));
  server.fail({.status = 503});
  CHECK_THROWS_AS(raising(1), idem::StoreError);
  CHECK(runs == 1);
  // Once it has run, nothing about telling that changes its outcome.
  server.fail({.path = "/events", .status = 503});
  CHECK(raising.try_call(1).verdict() == Verdict::executed);
  CHECK(raising.try_call(1).verdict() == Verdict::replayed);
  CHECK(runs == 2);
}

TEST_CASE("check_lock_with: a lock whose answer was lost is nobody's run: the next call here is in doubt, not a duplicate") {
  Server server;
  const Client client(options(server));  // no retries
  int runs = 0;
  auto guard = idem::idempotent<"f">([&runs](int n) { ++runs; return n; }, check_lock_with(client));
  server.fail({.path = "/check-lock", .drop = true});
  CHECK(guard.try_call(1).verdict() == Verdict::unavailable);
  CHECK(guard.try_call(1).verdict() == Verdict::in_doubt);
  CHECK(runs == 0);
  // Who finds out that nobody ran it says so, and the lock is this process's.
  CHECK(guard.forget(1));
  CHECK(guard.try_call(1).verdict() == Verdict::executed);
  CHECK(guard.try_call(1).verdict() == Verdict::duplicate);
  // One that the service didn't carry out is no reason to doubt what it says later.
  server.fail({.path = "/check-lock", .status = 503});
  CHECK(guard.try_call(2).verdict() == Verdict::unavailable);
  CHECK(guard.try_call(2).verdict() == Verdict::executed);
  CHECK(guard.try_call(2).verdict() == Verdict::duplicate);
  CHECK(runs == 2);
}

TEST_CASE("SEC: check_lock_with and forward_to take an answer that says nothing for neither a lock nor a duplicate") {
  for (const char* body : {"<html>log in to this network</html>", "[]", "{}", R"({"status":"paused"})", R"({"success":"yes"})"}) {
    CAPTURE(body);
    Scripted scripted({answer(200, std::string(body))});
    int runs = 0;
    const auto fn = [&runs](int n) {
      ++runs;
      return n;
    };
    auto guard = idem::idempotent<"f">(fn, {.on_store_error = idem::OnStoreError::run_unguarded}, check_lock_with(scripted.client),
                                       idem::on_duplicate_return(7));
    CHECK(guard.try_call(1).verdict() == Verdict::unavailable);
    auto forwarding = idem::idempotent<"f">(fn, forward_to(scripted.client, {.on_down = idem::onceonly::OnDown::raise}));
    CHECK(forwarding.try_call(1).verdict() == Verdict::unavailable);
    CHECK(runs == 0);
  }
}

TEST_CASE("check_lock_with: a lock isn't held for longer than it was asked for, counted from before the request") {
  std::size_t sent = 0;
  std::int64_t ttl = 0;
  std::int64_t slow = 0;
  const auto respond = [&](const Request&) {
    ++sent;
    const std::int64_t until = idem::detail::boot_micros() + slow;
    while (idem::detail::boot_micros() < until) std::this_thread::yield();
    return answer(200, Json{{"status", "locked"}, {"ttl", ttl}});
  };
  const Client client({.api_key = secret_key, .transport = std::make_shared<Respond>(Respond{respond})});
  const auto throws = [](int) -> int { throw std::runtime_error("nothing happened"); };
  auto guard = idem::idempotent<"f">(throws, {.ttl = 1s}, check_lock_with(client));
  const auto asks_again = [&](int n) {
    CHECK(guard.try_call(n).verdict() == Verdict::failed);
    const std::size_t before = sent;
    CHECK(guard.try_call(n).verdict() == Verdict::failed);
    return sent > before;
  };
  ttl = 1;
  CHECK_FALSE(asks_again(1));
  ttl = 0;
  CHECK(asks_again(2));
  ttl = -5;
  CHECK(asks_again(3));
  // The service may have given the lock to somebody else before its answer was here.
  ttl = 1'000'000'000;
  slow = 1'000'000;
  CHECK(asks_again(4));
}

TEST_CASE("forward_to: a duplicate that may be one's own lost request is told as such, and with raise isn't run") {
  Server server;
  const Client client(options(server));
  int runs = 0;
  const auto fn = [&runs](int n) {
    ++runs;
    return n;
  };
  using idem::onceonly::OnDisagreement;
  using idem::onceonly::OnDown;
  auto raising = idem::idempotent<"f">(
      fn, forward_to(client, {.on_disagreement = OnDisagreement::raise, .on_down = OnDown::raise}));
  server.fail({.path = "/check-lock", .drop = true});
  CHECK(raising.try_call(1).verdict() == Verdict::unavailable);
  for (int i = 0; i < 2; ++i) {
    const auto outcome = raising.try_call(1);
    CHECK(outcome.verdict() == Verdict::in_doubt);
    CHECK(outcome.error().effect == idem::Effect::unknown);
  }
  CHECK(runs == 0);
  // What wasn't carried out is told again, and the service had not heard of it.
  server.fail({.path = "/check-lock", .status = 503});
  CHECK(raising.try_call(2).verdict() == Verdict::unavailable);
  CHECK(raising.try_call(2).verdict() == Verdict::executed);
  CHECK(runs == 1);

  ClientOptions often = options(server);
  often.max_retries_429 = 1;
  often.pause = [](idem::Duration) {};
  const Client retrying(often);
  // A 503 and then "duplicate": the call may have been made elsewhere.
  client.check_lock("idem:" + raising.key(3).text());
  auto careful = idem::idempotent<"f">(fn, forward_to(retrying, {.on_disagreement = OnDisagreement::raise}));
  server.fail({.path = "/check-lock", .status = 503});
  CHECK_THROWS_AS(careful(3), idem::InDoubtError);
  CHECK(runs == 1);
  Heard heard;
  auto reporting = idem::idempotent<"g">(fn, forward_to(retrying), idem::observe(heard));
  server.fail({.path = "/check-lock", .drop = true});
  CHECK(reporting.try_call(1).verdict() == Verdict::executed);
  CHECK(heard[EventKind::store_warning] == 1);
}

TEST_CASE("SEC: no error of a guard holds a part of the API key, wherever its text is cut off") {
  for (std::size_t size = 900; size <= 1010; size += 5) {
    Scripted scripted({answer(422, Json{{"detail", std::string(size, '.') + secret_key}})});
    auto locking = idem::idempotent<"f">([](int n) { return n; }, check_lock_with(scripted.client));
    CHECK(locking.try_call(1).error().message.find("once_") == std::string::npos);
    auto leasing = idem::idempotent<"f">([](int n) { return n; }, idem::onceonly::RemoteStore(scripted.client));
    CHECK(leasing.try_call(1).error().message.find("once_") == std::string::npos);
  }
  // Nor does an event.
  Scripted scripted({answer(409, Json{{"detail", {{"first_seen_at", secret_key}}}})});
  Heard heard;
  auto guard = idem::idempotent<"f">([](int n) { return n; }, forward_to(scripted.client), idem::observe(heard));
  CHECK(guard(1) == 1);
  CHECK(heard.last->find("once_") == std::string::npos);
}
