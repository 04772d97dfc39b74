// What a server loses and keeps: killed, flushed, full.
#include <idem/idem.hpp>
#include <idem/redis_store.hpp>
#include <idem/testing/recording_observer.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <string>
#include <vector>

#include "support/process_support.hpp"
#include "support/redis_world.hpp"

namespace {

using namespace redis_world;
using Events = idem::testing::RecordingObserver;
using idem::Key;
using idem::Verdict;
using process_support::eventually;

}  // namespace

TEST_CASE("RFT-03 RLU-01: a server that is killed keeps what its append-only file has: all, as everysec and always write it") {
  struct Mode {
    std::vector<std::string> arguments;
    bool keeps;
  };
  for (const Mode& mode : {Mode{{"--appendonly", "no"}, false}, Mode{{"--appendonly", "yes", "--appendfsync", "everysec"}, true},
                           Mode{{"--appendonly", "yes", "--appendfsync", "always"}, true}}) {
    CAPTURE(mode.arguments.back());
    RedisServer server({.arguments = mode.arguments});
    RedisStore store(options_for(server));
    const Key done = idem::make_key("killed", 1);
    const Key running = idem::make_key("killed", 2);
    REQUIRE(store.complete(done, outcome(claim(store, done).record.owner, "value")).answer == Answer::ok);
    const Reply held = claim(store, running);
    REQUIRE(held.answer == Answer::acquired);
    // While the disk is busy a server that waits for it once a second only may answer before it has written.
    REQUIRE(eventually([&] { return !mode.keeps || server.info("persistence", "aof_buffer_length") == "0"; }));
    server.restart();
    // The same object goes on: it connects anew and tells the server the scripts that it forgot.
    if (mode.keeps) {
      CHECK(text_of(claim(store, done)) == "value");
      CHECK(claim(store, running).answer == Answer::running);
      const std::string ended = text_of(store.find(done));
      CHECK(store.complete(running, outcome(held.record.owner, "late")).answer == Answer::ok);
      CHECK(text_of(store.find(running)) == "late");
      CHECK(server.command({"PTTL", name_of(done)}).integer > 0);
    } else {
      // As the README says: such a server forgets, and the owner is told so.
      CHECK(store.complete(running, outcome(held.record.owner, "late")).answer == Answer::stale);
      CHECK(claim(store, done).answer == Answer::acquired);
      const Reply again = claim(store, running);
      CHECK(again.answer == Answer::acquired);
      CHECK(again.record.owner.epoch > held.record.owner.epoch);
    }
  }
}

TEST_CASE("CORE-11 RFT-02 RFT-04 T-65: a record that is gone when its run ends isn't made anew, and the caller is told") {
  RedisServer& server = common_server();
  RedisStore store(options_for(server));
  int number = 0;
  for (const std::vector<std::string>& loss :
       {std::vector<std::string>{"FLUSHALL"}, std::vector<std::string>{"FLUSHDB"}, std::vector<std::string>{"DEL", ""}}) {
    ++number;
    const Events events;
    const auto pay = idem::idempotent<"pay">(
        [&](int amount) {
          std::vector<std::string> command = loss;
          if (command.size() > 1) {
            // As an eviction does.
            RedisStore other(options_for(server));
            other.for_each([&](const idem::RecordView&) {});
            command[1] = server.command({"KEYS", "idem:*"}).elements.at(0).text;
          }
          server.command(command);
          return amount;
        },
        store, idem::observe(events));
    const auto outcome_of_pay = pay.try_call(number);
    CHECK(outcome_of_pay.verdict() == Verdict::stale);
    REQUIRE(outcome_of_pay.has_value());
    CHECK(outcome_of_pay.value() == number);
    CHECK(events.count(idem::EventKind::stale) == 1);
    CHECK(server.command({"DBSIZE"}).integer == 0);
  }
}

TEST_CASE("RFT-02: a policy that takes keys with a TTL takes no running record and no doubt; one that takes all does") {
  RedisServer server;
  RedisStore store(options_for(server));
  const Key running = idem::make_key("evicted", 1);
  const Key doubt = idem::make_key("evicted", 2);
  const Key done = idem::make_key("evicted", 3);
  const Reply held = claim(store, running);
  REQUIRE(store.abandon(doubt, claim(store, doubt).record.owner).answer == Answer::ok);
  REQUIRE(store.complete(done, outcome(claim(store, done).record.owner, "x")).answer == Answer::ok);
  for (const char* const policy : {"volatile-lru", "volatile-random", "volatile-ttl", "volatile-lfu"}) {
    server.command({"CONFIG", "SET", "maxmemory-policy", policy});
    server.command({"CONFIG", "SET", "maxmemory", "1"});
    static_cast<void>(server.ask({"SET", "more", "x"}));
    CHECK(eventually([&] { return server.ask({"EXISTS", name_of(done)}).integer == 0; }));
    CHECK(store.find(running).answer == Answer::running);
    CHECK(store.find(doubt).answer == Answer::in_doubt);
  }
  server.command({"CONFIG", "SET", "maxmemory-policy", "allkeys-random"});
  static_cast<void>(server.ask({"SET", "more", "x"}));
  CHECK(eventually([&] { return server.ask({"DBSIZE"}).integer == 0; }));
  server.command({"CONFIG", "SET", "maxmemory", "0"});
  CHECK(store.complete(running, outcome(held.record.owner, "x")).answer == Answer::stale);
  CHECK(server.command({"DBSIZE"}).integer == 0);
}

TEST_CASE("RLU-10: at maxmemory nothing new runs, known keys are answered, and outcomes are recorded") {
  RedisServer server;
  Between older(server, [](const RespCommand& command) {
    if (command[0] == "HELLO") return Between::Verdict{.answer = support::answer_to_greeting(command, 6)};
    return Between::Verdict{};
  });
  // Once with what Redis 7 knows, once as before, where outcomes find no room either.
  for (const bool has_flags : {true, false}) {
    CAPTURE(has_flags);
    server.command({"CONFIG", "SET", "maxmemory", "0"});
    server.command({"FLUSHALL"});
    RedisStore store(has_flags ? options_for(server) : older.options());
    const auto key = [](int number) { return idem::make_key("full", number); };
    const Reply first = claim(store, key(1));
    const Reply second = claim(store, key(2));
    const Reply third = claim(store, key(3));
    const Reply fourth = claim(store, key(4));
    REQUIRE(store.complete(key(5), outcome(claim(store, key(5)).record.owner, "kept")).answer == Answer::ok);
    REQUIRE(store.release(key(6), claim(store, key(6)).record.owner).answer == Answer::ok);
    idem::Resolution found;
    found.source = outcome({}, "found").source;
    REQUIRE(store.resolve(key(6), found, "").answer == Answer::absent);
    server.command({"CONFIG", "SET", "maxmemory", "1"});

    int runs = 0;
    const auto pay = idem::idempotent<"pay">([&](int) { ++runs; }, store);
    const auto refused = pay.try_call(1);
    CHECK(refused.verdict() == Verdict::unavailable);
    CHECK(refused.error().message.find("OOM") != std::string::npos);
    CHECK(runs == 0);
    CHECK(claim(store, key(1)).answer == Answer::running);
    CHECK(text_of(claim(store, key(5))) == "kept");
    CHECK(store.find(pay.key(1)).answer == Answer::absent);
    if (has_flags) {
      CHECK(store.renew(key(1), first.record.owner, 1h).answer == Answer::ok);
      CHECK(store.complete(key(1), outcome(first.record.owner, std::string(10'000, 'x'))).answer == Answer::ok);
      CHECK(text_of(claim(store, key(1))) == std::string(10'000, 'x'));
      CHECK(store.fail(key(2), outcome(second.record.owner, "x")).answer == Answer::ok);
      CHECK(store.release(key(3), third.record.owner).answer == Answer::ok);
      CHECK(store.abandon(key(4), fourth.record.owner).answer == Answer::ok);
      CHECK(store.resolve(key(4), found, "").answer == Answer::ok);
      CHECK(store.erase(key(5)).answer == Answer::ok);
      CHECK(store.clear() == 3);
    } else {
      const Reply refused_too = store.complete(key(1), outcome(first.record.owner, "x"));
      CHECK(refused_too.answer == Answer::unavailable);
      CHECK(refused_too.message.find("OOM") != std::string::npos);
      CHECK(store.find(key(1)).answer == Answer::running);
      // What only frees room is done all the same.
      CHECK(store.release(key(3), third.record.owner).answer == Answer::ok);
      CHECK(store.erase(key(5)).answer == Answer::ok);
    }
  }
}
