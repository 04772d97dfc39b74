// What the server says instead of an answer, and answers that never arrive.
#include <idem/idem.hpp>
#include <idem/redis_store.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <cstddef>
#include <string>
#include <vector>

#include <time.h>

#include "support/process_support.hpp"
#include "support/redis_world.hpp"

namespace {

using namespace redis_world;
using idem::Key;
using idem::Verdict;
using idem::detail::redis::Scripts;
using process_support::eventually;

struct Code {
  std::string code;
  bool passes;
};
const std::vector<Code>& all_codes() {
  static const std::vector<Code> codes = {{"LOADING", true},     {"BUSY", true},        {"TRYAGAIN", true},
                                          {"CLUSTERDOWN", true}, {"MASTERDOWN", true},  {"READONLY", true},
                                          {"NOREPLICAS", false}, {"MISCONF", false},    {"OOM", false},
                                          {"NOAUTH", false},     {"NOPERM", false},     {"MOVED 1 h:1", false},
                                          {"ASK 1 h:1", false},  {"ERR unknown", false}, {"EXECABORT", false}};
  return codes;
}
std::string error_of(const Code& code) { return "-" + code.code + " in these words\r\n"; }

void pause(std::chrono::microseconds span) {
  const timespec time{0, span.count() * 1000};
  ::nanosleep(&time, nullptr);
}

/// The arguments of a script without its name or text.
RespCommand arguments(const RespCommand& call) { return {call.begin() + 2, call.end()}; }

}  // namespace

TEST_CASE("RFT-07 CORE-14: whatever the server says to a claim, the call isn't run and is told the code") {
  RedisServer& server = common_server();
  for (const Code& code : all_codes()) {
    CAPTURE(code.code);
    std::atomic<int> said{0};
    Between between(server, [&](const RespCommand& command) -> Between::Verdict {
      if (!Between::is_script(command, &Scripts::claim)) return {};
      ++said;
      return {.answer = error_of(code)};
    });
    RedisOptions options = between.options();
    options.timeout = 300ms;
    RedisStore store(options);
    int runs = 0;
    const auto pay = idem::idempotent<"pay">([&](int number) { return ++runs, number; }, store);
    const auto outcome = pay.try_call(1);
    CHECK(outcome.verdict() == Verdict::unavailable);
    CHECK(outcome.error().effect == idem::Effect::not_run);
    CHECK(outcome.error().message.find(code.code + " in these words") != std::string::npos);
    CHECK(runs == 0);
    if (code.passes) {
      CHECK(said > 1);
    } else {
      CHECK(said == 1);
    }
  }
  CHECK(server.command({"DBSIZE"}).integer == 0);
}

TEST_CASE("RFT-07: what passes is waited out, and the claim said again is the same claim") {
  RedisServer& server = common_server();
  int number = 0;
  for (const Code& code : all_codes()) {
    if (!code.passes) continue;
    CAPTURE(code.code);
    std::atomic<int> left{3};
    Between between(server, [&](const RespCommand& command) -> Between::Verdict {
      if (!Between::is_script(command) || left == 0) return {};
      --left;
      return {.answer = error_of(code)};
    });
    RedisStore store(between.options());
    CHECK(claim(store, idem::make_key("passes", ++number)).answer == Answer::acquired);
    const std::vector<RespCommand> calls = between.calls();
    CHECK(calls.size() >= 4);
    for (const RespCommand& call : calls) CHECK(arguments(call) == arguments(calls[0]));
    // Whoever isn't the primary any more isn't asked on the same connection.
    CHECK(between.connections() == (code.code == "READONLY" ? 4 : 1));
  }
}

TEST_CASE("RFT-08 CORE-09: what the server says to an outcome is waited out, or the value is in hand and unrecorded") {
  RedisServer& server = common_server();
  int number = 0;
  for (const Code& code : all_codes()) {
    CAPTURE(code.code);
    for (const bool ends : {true, false}) {
      ++number;
      std::atomic<int> left{ends ? 2 : 1 << 30};
      Between between(server, [&](const RespCommand& command) -> Between::Verdict {
        const bool is_outcome =
            Between::is_script(command, &Scripts::finish) || Between::is_script(command, &Scripts::give_up);
        if (!is_outcome || left == 0) return {};
        --left;
        return {.answer = error_of(code)};
      });
      RedisOptions options = between.options();
      options.timeout = ends ? 5s : 300ms;
      RedisStore store(options);
      int runs = 0;
      const auto pay = idem::idempotent<"pay">([&](int amount) { return ++runs, amount; }, store);
      const auto outcome = pay.try_call(number);
      CHECK(runs == 1);
      REQUIRE(outcome.has_value());
      CHECK(outcome.value() == number);
      RedisStore others(options_for(server));
      const auto found = others.find(pay.key(number));
      if (ends && code.passes) {
        CHECK(outcome.verdict() == Verdict::executed);
        CHECK(found.answer == Answer::completed);
        continue;
      }
      CHECK(outcome.verdict() == Verdict::unrecorded);
      CHECK(outcome.error().effect == idem::Effect::ran);
      // Never free, never taken for failed; and this process says so at once, told or not.
      CHECK((found.answer == Answer::running || found.answer == Answer::in_doubt));
      CHECK(pay.try_call(number).verdict() == Verdict::in_doubt);
      CHECK(runs == 1);
      left = 0;
      CHECK(eventually([&] { return others.find(pay.key(number)).answer == Answer::in_doubt; }));
    }
  }
}

TEST_CASE("RLU-02 RLU-03 T-12: an answer that is lost is asked for again, and is the same") {
  RedisServer& server = common_server();
  using Which = idem::detail::redis::Script Scripts::*;
  std::atomic<int> lose{0};
  std::atomic<int> drop{0};
  Which which = nullptr;
  Between between(server, [&](const RespCommand& command) -> Between::Verdict {
    if (!Between::is_script(command) || (which != nullptr && !Between::is_script(command, which))) return {};
    if (lose > 0) return --lose, Between::Verdict{Between::Do::lose_reply};
    if (drop > 0) return --drop, Between::Verdict{Between::Do::drop};
    return {};
  });
  RedisStore store(between.options());
  REQUIRE(store.open().answer == Answer::ok);
  // All scripts are known, so that what is lost isn't the server's word that it knows none.
  const Key first = idem::make_key("lost", 0);
  REQUIRE(store.release(first, claim(store, first).record.owner).answer == Answer::ok);
  REQUIRE(store.complete(first, outcome(claim(store, first).record.owner, "x")).answer == Answer::ok);
  idem::Resolution found;
  found.source = outcome({}, "found").source;
  REQUIRE(store.resolve(first, found, "").answer == Answer::stale);
  REQUIRE(store.erase(first).answer == Answer::ok);

  int number = 0;
  for (const bool carried_out : {true, false}) {
    const auto next = [&](Which script) {
      which = script;
      (carried_out ? lose : drop) = 2;
    };
    const Key key = idem::make_key("lost", ++number);
    next(&Scripts::claim);
    const Reply claimed = claim(store, key);
    CHECK(claimed.answer == Answer::acquired);
    CHECK(claimed.record.attempt == 1);
    CHECK(store.find(key).record.owner == claimed.record.owner);
    CHECK(claim(store, key).answer == Answer::running);
    next(&Scripts::renew);
    CHECK(store.renew(key, claimed.record.owner, 2h).answer == Answer::ok);
    next(&Scripts::give_up);
    CHECK(store.abandon(key, claimed.record.owner).answer == Answer::ok);
    CHECK(store.find(key).answer == Answer::in_doubt);
    next(&Scripts::claim);
    const Reply second = take_over(store, key);
    CHECK(second.answer == Answer::acquired);
    CHECK(second.record.attempt == 2);
    next(&Scripts::finish);
    CHECK(store.complete(key, outcome(second.record.owner, "value")).answer == Answer::ok);
    CHECK(text_of(store.find(key)) == "value");
    CHECK(store.complete(key, outcome(claimed.record.owner, "stale")).answer == Answer::stale);

    const Key freed = idem::make_key("lost", ++number);
    const Reply held = claim(store, freed);
    next(&Scripts::give_up);
    CHECK(store.release(freed, held.record.owner).answer == Answer::ok);
    CHECK(store.find(freed).answer == Answer::absent);

    const Key doubt = idem::make_key("lost", ++number);
    REQUIRE(store.abandon(doubt, claim(store, doubt).record.owner).answer == Answer::ok);
    next(&Scripts::resolve);
    CHECK(store.resolve(doubt, found, "").answer == Answer::ok);
    CHECK(text_of(store.find(doubt)) == "found");

    idem::ClaimRequest lock = new_claim();
    lock.complete_at_once = true;
    lock.ttl = 1h;
    next(&Scripts::claim);
    const Key locked = idem::make_key("lost", ++number);
    CHECK(store.claim(locked, lock, nullptr).answer == Answer::acquired);
    CHECK(claim(store, locked).answer == Answer::completed);
    CHECK(lose == 0);
    CHECK(drop == 0);
  }
}

TEST_CASE("T-12: a claim whose answer never comes is given back, and the key is in doubt here until that is sure") {
  RedisServer& server = common_server();
  std::atomic<bool> broken{true};
  Between between(server, [&](const RespCommand& command) -> Between::Verdict {
    if (broken && Between::is_script(command)) return {Between::Do::lose_reply};
    return {};
  });
  RedisOptions options = between.options();
  options.timeout = 50ms;
  RedisStore store(options);
  RedisStore others(options_for(server));
  const Key key = idem::make_key("lost for good", 1);
  int runs = 0;
  const auto pay = idem::idempotent<"lost for good">([&](int) { ++runs; }, store);
  // The server's first word may have been that it knew no script.
  while (others.find(key).answer == Answer::absent) CHECK(pay.try_call(1).verdict() != Verdict::executed);
  CHECK(runs == 0);
  CHECK((others.find(key).answer == Answer::running || others.find(key).answer == Answer::in_doubt));
  CHECK(claim(store, key).answer != Answer::acquired);
  broken = false;
  CHECK(eventually([&] { return others.find(key).answer == Answer::absent; }));
  CHECK(eventually([&] { return pay.try_call(1).verdict() == Verdict::executed; }));
  CHECK(runs == 1);
}

TEST_CASE("RLU-01 T-67: a server that forgets its scripts between any two commands is told them once more each time") {
  RedisServer& server = common_server();
  RedisStore store(options_for(server));
  const auto forget = [&] {
    server.command({"SCRIPT", "FLUSH"});
    server.reset_statistics();
  };
  const auto told = [&] { return server.calls("eval"); };
  const Key key = idem::make_key("forgotten", 1);
  forget();
  const Reply claimed = claim(store, key);
  CHECK(claimed.answer == Answer::acquired);
  CHECK(told() == 1);
  forget();
  CHECK(claim(store, key).answer == Answer::running);
  CHECK(told() == 1);
  CHECK(claim(store, key).answer == Answer::running);
  CHECK(told() == 1);
  forget();
  CHECK(store.renew(key, claimed.record.owner, 2h).answer == Answer::ok);
  CHECK(told() == 1);
  forget();
  CHECK(store.complete(key, outcome(claimed.record.owner, "x")).answer == Answer::ok);
  CHECK(told() == 1);
  forget();
  CHECK(text_of(store.find(key)) == "x");
  CHECK(told() == 1);
  // Many in one pipeline.
  for (int i = 0; i < 40; ++i) {
    const Key other = idem::make_key("forgotten too", i);
    REQUIRE(store.complete(other, outcome(claim(store, other).record.owner, "x")).answer == Answer::ok);
  }
  forget();
  CHECK(store.clear() == 41);
  CHECK(told() >= 1);
}

TEST_CASE("a duplicate is one command, and so is a claim and its outcome") {
  RedisServer& server = common_server();
  RedisStore store(options_for(server));
  const auto pay = idem::idempotent<"pay">([](int number) { return number; }, store);
  pay(0);
  server.reset_statistics();
  pay(1);
  CHECK(server.calls("evalsha") == 2);
  for (int i = 0; i < 10; ++i) CHECK(pay.try_call(1).verdict() == Verdict::replayed);
  CHECK(server.calls("evalsha") == 12);
  CHECK(server.calls("eval") == 0);
}

TEST_CASE("HIR-09: an answer that no script gives is never taken for one") {
  RedisServer& server = common_server();
  RedisStore real(options_for(server));
  const Key key = idem::make_key("nonsense", 1);
  const Key other = idem::make_key("nonsense", 2);
  REQUIRE(real.complete(other, outcome(claim(real, other).record.owner, "other's")).answer == Answer::ok);
  const std::string record = server.command({"GET", name_of(other)}).text;
  std::string answer;
  Between between(server, [&](const RespCommand& command) -> Between::Verdict {
    if (Between::is_script(command)) return {.answer = answer};
    return {};
  });
  RedisOptions options = between.options();
  options.timeout = 200ms;
  RedisStore store(options);
  const auto array = [](const std::string& first, const std::string& second) { return "*2\r\n" + first + second; };
  for (const std::string& nonsense :
       {std::string(":1\r\n"), std::string("+OK\r\n"), std::string("$-1\r\n"), std::string("*0\r\n"), std::string("*-1\r\n"),
        support::bulk("1"), std::string("*1\r\n+1\r\n"), std::string("*1\r\n*1\r\n:1\r\n"), std::string("*1\r\n:0\r\n"),
        std::string("*1\r\n:13\r\n"), std::string("*1\r\n:-1\r\n"), std::string("*1\r\n:9223372036854775807\r\n"),
        std::string("*1\r\n:1\r\n"), array(":1\r\n", "$-1\r\n"), array(":1\r\n", ":1\r\n"), array(":1\r\n", support::bulk("")),
        array(":1\r\n", support::bulk("IDR")), array(":4\r\n", support::bulk(record)), array(":4\r\n", "$-1\r\n"),
        array(":5\r\n", support::bulk(record)), array(":2\r\n", support::bulk(std::string(116, '\0'))),
        array(":4\r\n", support::bulk(record.substr(0, 116)))}) {
    CAPTURE(nonsense);
    answer = nonsense;
    for (const Reply& reply : {claim(store, key), store.find(key)}) {
      CHECK((reply.answer == Answer::unavailable || reply.answer == Answer::corrupt));
      CHECK(text_of(reply).empty());
      CHECK(!reply.message.empty());
    }
  }
}

TEST_CASE("HIR-01: the answer to another claim of the same key is never taken for one's own, and the key is given back") {
  RedisServer& server = common_server();
  RedisStore others(options_for(server));
  const Key key = idem::make_key("mixed up", 1);
  REQUIRE(claim(others, idem::make_key("mixed up", 2)).answer == Answer::acquired);
  const std::string record = server.command({"GET", name_of(idem::make_key("mixed up", 2))}).text;
  std::atomic<bool> mixes{true};
  Between between(server, [&](const RespCommand& command) -> Between::Verdict {
    if (mixes && Between::is_script(command, &Scripts::claim)) return {.answer = support::bulk("\1" + record)};
    return {};
  });
  RedisStore store(between.options());
  const Reply refused = claim(store, key);
  CHECK(refused.answer == Answer::unavailable);
  CHECK(refused.message.find("another claim") != std::string::npos);
  mixes = false;
  CHECK(eventually([&] { return claim(store, key).answer == Answer::acquired; }));
}

TEST_CASE("CORE-10: a lock whose claim was never heard of is there for who asks again, at once") {
  RedisServer& server = common_server();
  std::atomic<bool> broken{true};
  Between between(server, [&](const RespCommand& command) -> Between::Verdict {
    if (broken && Between::is_script(command)) return {Between::Do::drop};
    return {};
  });
  RedisOptions options = between.options();
  options.timeout = 1s;
  RedisStore store(options);
  const Key key = idem::make_key("never heard of", 1);
  idem::ClaimRequest request = new_claim();
  request.complete_at_once = true;
  CHECK(store.claim(key, request, nullptr).answer == Answer::unavailable);
  broken = false;
  Reply reply;
  CHECK(eventually([&] {
    request.owner = idem::detail::new_owner_token();
    reply = store.claim(key, request, nullptr);
    return reply.answer != Answer::unavailable;
  }));
  CHECK(reply.answer == Answer::acquired);
}

TEST_CASE("CORE-10: check_lock says that a lock whose answer was lost may be there, and never that of one that wasn't asked for") {
  RedisServer& server = common_server();
  std::atomic<bool> loses{true};
  Between between(server, [&](const RespCommand& command) -> Between::Verdict {
    if (loses && Between::is_script(command)) return {Between::Do::lose_reply};
    return {};
  });
  RedisOptions options = between.options();
  options.timeout = 500ms;
  RedisStore store(options);
  const Key key = idem::make_key("lost lock", 1);
  const auto complaint = [&](RedisStore& asked) -> std::string {
    try {
      static_cast<void>(idem::check_lock(asked, key, 1h));
    } catch (const idem::StoreError& error) {
      CHECK(error.effect() == idem::Effect::not_run);
      return error.what();
    }
    return {};
  };
  const std::string why = complaint(store);
  CHECK_MESSAGE(why.find("may be locked all the same") != std::string::npos, why);
  loses = false;
  // It may take a moment to be connected again.
  const auto is_duplicate = [&] {
    try {
      return idem::check_lock(store, key, 1h).duplicate;
    } catch (const idem::StoreError&) {
      return false;
    }
  };
  CHECK(eventually(is_duplicate));
  RedisOptions nowhere;
  nowhere.port = RedisServer::free_port();
  nowhere.timeout = 100ms;
  RedisStore unreachable(nowhere);
  const std::string other = complaint(unreachable);
  CHECK_FALSE(other.empty());
  CHECK_MESSAGE(other.find("may be locked") == std::string::npos, other);
}

TEST_CASE("TIM-05 RFT-10: a lease counts from before its claim was sent, however late the answer comes") {
  RedisServer& server = common_server();
  std::atomic<std::int64_t> heard{0};
  Between between(server, [&](const RespCommand& command) -> Between::Verdict {
    if (Between::is_script(command, &Scripts::claim)) {
      heard = idem::detail::boot_micros();
      pause(150ms);
    }
    return {};
  });
  RedisStore store(between.options());
  REQUIRE(store.open().answer == Answer::ok);
  const std::int64_t offset = store.now().time_since_epoch().count() - idem::detail::boot_micros();
  const Reply reply = claim(store, idem::make_key("late", 1), 10s);
  REQUIRE(reply.answer == Answer::acquired);
  // A microsecond or two have gone by between the two clocks' readings.
  const std::int64_t until = reply.valid_until.time_since_epoch().count() - offset;
  CHECK(until < heard + 10'000'000);

  int runs = 0;
  const auto pay = idem::idempotent<"late">([&](int) { ++runs; }, idem::Options{.lease = 100ms}, store);
  const auto outcome = pay.try_call(2);
  CHECK(outcome.verdict() != Verdict::executed);
  CHECK(outcome.error().effect == idem::Effect::not_run);
  CHECK(runs == 0);
}

TEST_CASE("TIM-03: no clock of a client's judges anything") {
  RedisServer& server = common_server();
  Between between(server, [](const RespCommand&) { return Between::Verdict{}; });
  RedisStore store(between.options());
  const Key key = idem::make_key("clocks", 1);
  const idem::Ownership owner = claim(store, key).record.owner;
  store.renew(key, owner, 1h);
  store.abandon(key, owner);
  const idem::Ownership second = take_over(store, key).record.owner;
  store.complete(key, outcome(second, "x"));
  store.resolve(key, {}, "");
  store.find(key);
  store.erase(key);
  store.release(key, owner);
  store.purge({});
  CHECK(between.calls().size() >= 9);
  for (const RespCommand& call : between.calls()) {
    REQUIRE(call.size() > 4);
    CHECK(call[4].empty());
  }
}
