// RFT-05 to RFT-07, RFT-09, RFT-15, T-15: records on the primary that Sentinel names, which fails over.
#include <idem/clock.hpp>
#include <idem/idempotent.hpp>
#include <idem/redis_store.hpp>
#include <idem/testing/conformance.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>

#include "support/process_support.hpp"
#include "support/redis_failover.hpp"

namespace {

using namespace std::chrono_literals;
using idem::Answer;
using idem::Clock;
using idem::RedisOptions;
using idem::RedisStore;
using idem::Verdict;
using support::Counted;
using support::options_of;
using support::RedisLoad;
using support::SentinelGroup;

support::Ahead<SentinelGroup>& groups() {
  static support::Ahead<SentinelGroup> ahead(3, [] { return std::make_unique<SentinelGroup>(); });
  return ahead;
}

}  // namespace

TEST_CASE(
    "T-15: a store on the primary that Sentinel names keeps every store's promises, also after a failover by hand") {
  SentinelGroup group("sentinels' secret");
  groups().prepare();
  group.await_order();
  int cases = 0;
  Clock used;
  const auto open = [&](const Clock& clock) {
    RedisOptions options = options_of(group, "case " + std::to_string(cases) + ":");
    options.sentinel_password = "sentinels' secret";
    options.clock = clock;
    return RedisStore(options);
  };
  std::size_t skipped = 0;
  idem::testing::check_conformance(
      [&](const Clock& clock) {
        ++cases;
        used = clock;
        return open(clock);
      },
      [&](const idem::testing::ConformanceResult& result) {
        if (result.skipped) ++skipped;
        CHECK_MESSAGE(result.passed, result.id, ": ", result.promise, ": ", result.detail);
      },
      [&](RedisStore&) { return open(used); });
  CHECK(skipped == 1);  // the one about objects

  // A call that finds its primary demoted goes on at the new one.
  RedisOptions options = options_of(group);
  options.sentinel_password = "sentinels' secret";
  RedisStore store(options);
  Counted counted;
  const auto guard = counted.guard(store);
  REQUIRE(guard.try_call(1).verdict() == Verdict::executed);
  group.sentinel(1).kill();  // two are enough
  group.fail_over(0);
  for (int i = 2; i < 50; ++i) REQUIRE(guard.try_call(i).verdict() == Verdict::executed);
  CHECK(guard.try_call(1).verdict() == Verdict::replayed);
  CHECK(counted.runs == 49);
}

TEST_CASE("RFT-09, RFT-15: a primary killed under load repeats no call where a replica had each claim") {
  const std::unique_ptr<SentinelGroup> own = groups().take();
  SentinelGroup& group = own->await_order();
  RedisOptions options = options_of(group);
  options.min_replicas = 1;
  options.replica_timeout = 200ms;
  RedisLoad load(options);
  REQUIRE(load.progresses(500));
  group.server(0).kill();
  const std::size_t second = group.await_failover_of(0);
  REQUIRE(load.progresses(500));
  // No replica was ever asked. On a busy machine the sentinels may depose the second one, too: then the third is none.
  support::RedisServer& other = group.server(3 - second);
  const long long asked = other.calls("evalsha") + other.calls("eval");
  CHECK((asked == 0 || other.info("replication", "role") == "master"));
  load.stop();
  const RedisLoad::Tally tally = load.tally();
  MESSAGE("killed, min_replicas=1: ", support::summary(load, tally));
  CHECK(tally.repeated == 0);
  CHECK(tally.forgotten == 0);
  CHECK(tally.unknown == 0);
}

TEST_CASE(
    "RFT-05: a primary that hangs is left for the new one, and isn't asked when it wakes as if nothing had been") {
  const std::unique_ptr<SentinelGroup> own = groups().take();
  SentinelGroup& group = own->await_order();
  RedisOptions options = options_of(group);
  options.min_replicas = 1;
  options.replica_timeout = 200ms;
  RedisLoad load(options);
  REQUIRE(load.progresses(500));
  group.server(0).pause();
  group.await_failover_of(0);
  REQUIRE(load.progresses(500));
  group.server(0).resume();
  // What had been on its way when it stopped may have been carried out since.
  const auto scripts = [&] { return group.server(0).calls("evalsha") + group.server(0).calls("eval"); };
  const long long before = scripts();
  REQUIRE(load.progresses(500));
  RedisStore late(options);
  Counted counted;
  CHECK(counted.guard(late).try_call(1).verdict() == Verdict::executed);
  CHECK(group.server(0).info("replication", "role") == "master");
  CHECK(scripts() == before);
  load.stop();
  const RedisLoad::Tally tally = load.tally();
  MESSAGE("hung, min_replicas=1: ", support::summary(load, tally));
  CHECK(tally.repeated == 0);
  CHECK(tally.forgotten == 0);
  CHECK(tally.unknown == 0);
}

TEST_CASE("RFT-05, RFT-06: a failover forgets what no replica had, and with min_replicas no such call has run") {
  const std::unique_ptr<SentinelGroup> own = groups().take();
  SentinelGroup& group = own->await_order();
  RedisOptions options = options_of(group);
  options.password = "secret";  // where none is asked for, any will do
  RedisStore trusting(options);
  options.min_replicas = 1;
  options.replica_timeout = 50ms;
  RedisStore careful(options);
  Counted counted;
  const auto trusting_guard = counted.guard(trusting);
  const auto careful_guard = counted.guard(careful);
  REQUIRE(careful_guard.try_call(1).verdict() == Verdict::executed);

  // The replicas hear nothing any more, since they don't know the password.
  group.server(0).command({"CONFIG", "SET", "requirepass", "secret"});
  group.server(0).command({"CLIENT", "KILL", "TYPE", "replica"});
  support::wait_until("the replicas are cut off",
                      [&] { return group.server(0).info("replication", "connected_slaves") == "0"; });
  REQUIRE(trusting_guard.try_call(2).verdict() == Verdict::executed);
  const auto refused = careful_guard.try_call(3);
  CHECK(refused.verdict() == Verdict::unavailable);
  CHECK(refused.error().message.find("min_replicas") != std::string::npos);
  CHECK(counted.runs == 2);
  group.server(0).kill();
  group.await_failover_of(0);

  CHECK(trusting_guard.try_call(1).verdict() == Verdict::replayed);
  CHECK(trusting_guard.try_call(2).verdict() == Verdict::executed);  // a second time
  CHECK(trusting_guard.try_call(3).verdict() == Verdict::executed);  // the first time
  CHECK(counted.runs == 4);
}

TEST_CASE("what sentinels can't tell, or name wrongly, is unavailable by the deadline") {
  support::RedisServer sentinel({.arguments = {"--sentinel"}});
  support::RedisServer primary;
  support::RedisServer replica({.arguments = {"--replicaof", "127.0.0.1 " + std::to_string(primary.port())}});
  RedisOptions options;
  options.sentinels = {support::address_of(sentinel)};
  options.master_name = "other";
  options.timeout = 200ms;
  RedisStore store(options);
  // Within so little time one may hear no more than what was known before, or nothing where the machine is busy.
  const auto says = [&](const char* why) {
    idem::Reply reply;
    const bool said = process_support::eventually([&] {
      reply = store.open();
      REQUIRE(reply.answer == Answer::unavailable);
      return reply.message.find(why) != std::string::npos;
    });
    CHECK_MESSAGE(said, reply.message);
  };
  says("knows no primary");

  // A sentinel that is wrong: what it names is a replica, and nothing is said to that.
  sentinel.command({"SENTINEL", "MONITOR", "other", "127.0.0.1", std::to_string(replica.port()), "1"});
  says("isn't a primary");
  CHECK(replica.calls("evalsha") + replica.calls("eval") == 0);

  options.sentinels = {"127.0.0.1:" + std::to_string(support::RedisServer::free_port())};
  RedisStore nobody(options);
  CHECK(nobody.open().answer == Answer::unavailable);
}
