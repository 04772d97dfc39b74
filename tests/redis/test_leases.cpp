// A guard's calls on a RedisStore: leases that end, owners that stop, clocks that jump, processes that fork.
#include <idem/idem.hpp>
#include <idem/redis_store.hpp>
#include <idem/testing/recording_observer.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "support/process_support.hpp"
#include "support/redis_world.hpp"

namespace {

using namespace redis_world;
using idem::Context;
using idem::Key;
using idem::Options;
using idem::Verdict;
using idem::detail::redis::Scripts;
using process_support::Child;
using process_support::eventually;
using process_support::Shared;

/// Those who don't wait for a running call.
Options at_once(idem::Duration lease, idem::OnInDoubt on_in_doubt = idem::OnInDoubt::report) {
  Options options;
  options.lease = lease;
  options.wait_timeout = 0s;
  options.on_in_doubt = on_in_doubt;
  return options;
}

}  // namespace

TEST_CASE("T-16 RFT-12: a call that takes longer than its lease keeps its key, since the lease is renewed") {
  RedisServer& server = common_server();
  RedisStore store(options_for(server));
  RedisStore other(options_for(server));
  bool kept = false;
  // A machine that is busy may stop everybody for longer than a short lease.
  for (std::chrono::milliseconds lease = 150ms; !kept && lease < 10s; lease *= 2) {
    int runs = 0;
    const auto pay = idem::idempotent<"pay">(
        [&](int number, Context& context) {
          ++runs;
          const Key key = context.key();
          const idem::TimePoint first = other.find(key).record.lease_until;
          // Past the end of the lease as it was claimed.
          CHECK(eventually([&] { return other.find(key).record.lease_until > first + lease || context.lease_lost(); }));
          kept = other.find(key).answer == Answer::running && !context.lease_lost();
          return number;
        },
        at_once(lease), store);
    const int number = static_cast<int>(lease / 1ms);
    const Verdict verdict = pay.try_call(number).verdict();
    if (runs != 1) continue;
    CHECK(verdict == Verdict::executed);
    CHECK(other.find(pay.key(number)).answer == Answer::completed);
  }
  CHECK(kept);
}

TEST_CASE("T-06 T-74: a lease is lost in time while its renewal hangs, and before anybody else may have the key") {
  RedisServer& server = common_server();
  RedisStore other(options_for(server));
  std::atomic<bool> hangs{true};
  Between between(server, [&](const RespCommand& command) -> Between::Verdict {
    if (Between::is_script(command, &Scripts::renew)) {
      while (hangs) std::this_thread::yield();
    }
    return {};
  });
  RedisStore store(between.options());
  int runs = 0;
  const auto pay = idem::idempotent<"pay">(
      [&](int number, Context& context) {
        ++runs;
        // As long as it isn't lost nobody is told that the key is in doubt.
        bool in_doubt_before = false;
        CHECK(eventually([&] {
          const bool in_doubt = other.find(context.key()).answer == Answer::in_doubt;
          const bool lost = context.lease_lost();
          in_doubt_before = in_doubt_before || (in_doubt && !lost);
          return lost;
        }));
        CHECK_FALSE(in_doubt_before);
        CHECK(eventually([&] { return other.find(context.key()).answer == Answer::in_doubt; }));
        hangs = false;
        return number;
      },
      at_once(100ms), store);
  // Where its claim is answered when the lease has ended already, a call isn't run.
  int number = 0;
  Verdict verdict{};
  CHECK(eventually([&] {
    verdict = pay.try_call(++number).verdict();
    return runs == 1;
  }));
  // Nobody took over, so that it ends well all the same.
  CHECK(verdict == Verdict::executed);
}

TEST_CASE("T-07: a renewal that fails for a while is no lost lease; one that is refused is") {
  RedisServer& server = common_server();
  RedisStore other(options_for(server));
  std::atomic<int> failures{0};
  std::atomic<int> renewed{0};
  Between between(server, [&](const RespCommand& command) -> Between::Verdict {
    if (!Between::is_script(command, &Scripts::renew)) return {};
    const int left = failures--;
    if (left > 3) return {.answer = "-MISCONF for a moment\r\n"};
    if (left > 1) return {.answer = "-LOADING for a moment\r\n"};
    if (left == 1) return {Between::Do::lose_reply};
    ++renewed;
    return {};
  });
  RedisStore store(between.options());
  bool kept = false;
  // A machine that is busy may stop everybody for longer than a short lease.
  for (std::chrono::milliseconds lease = 1500ms; !kept && lease < 15s; lease *= 2) {
    failures = 5;
    renewed = 0;
    const auto pay = idem::idempotent<"pay">(
        [&](int number, Context& context) {
          CHECK(eventually([&] { return renewed >= 2 || context.lease_lost(); }));
          kept = renewed >= 2 && !context.lease_lost();
          return number;
        },
        at_once(lease), store);
    const Verdict verdict = pay.try_call(static_cast<int>(lease / 1ms)).verdict();
    if (kept) CHECK(verdict == Verdict::executed);
  }
  CHECK(kept);

  const auto taken = idem::idempotent<"taken">(
      [&](int number, Context& context) {
        server.command({"DEL", name_of(context.key())});
        CHECK(eventually([&] { return context.lease_lost(); }));
        return number;
      },
      at_once(1500ms), store);
  CHECK(taken.try_call(1).verdict() == Verdict::stale);
}

TEST_CASE("RFT-11 T-04 T-08: a process that is stopped for longer than its lease is taken over from, and changes nothing") {
  struct Seen {
    std::atomic<int> runs{0};
    std::atomic<std::uint64_t> first{0};
    std::atomic<std::uint64_t> second{0};
    std::atomic<int> go_on{0};
    std::atomic<int> verdict{0};
  };
  RedisServer& server = common_server();
  Shared<Seen> seen;
  const RedisOptions options = options_for(server);
  Child stopped([&] {
    RedisStore store(options);
    const auto pay = idem::idempotent<"pay">(
        [&](int, Context& context) {
          ++seen->runs;
          seen->first = context.fencing_token();
          while (seen->go_on == 0) ::sched_yield();
          return 1;
        },
        at_once(200ms), store);
    // Where its claim is answered when the lease has ended already, a call isn't run.
    for (;;) {
      const auto outcome = pay.try_call(1);
      if (seen->runs == 0) continue;
      seen->verdict = static_cast<int>(outcome.verdict());
      return outcome.has_value() && outcome.value() == 1 ? 0 : 1;
    }
  });
  REQUIRE(eventually([&] { return seen->first != 0; }));
  stopped.stop();
  RedisStore store(options);
  int runs = 0;
  const auto function = [&](int, Context& context) {
    ++runs;
    seen->second = context.fencing_token();
    return 2;
  };
  const auto careful = idem::idempotent<"pay">(function, at_once(10s), store);
  const auto bold = idem::idempotent<"pay">(function, at_once(10s, idem::OnInDoubt::rerun), store);
  CHECK(eventually([&] { return careful.try_call(1).verdict() == Verdict::in_doubt; }));
  CHECK(runs == 0);
  const auto outcome = bold.try_call(1);
  CHECK(outcome.verdict() == Verdict::executed);
  CHECK(outcome.attempt() == 2);
  CHECK(seen->second > seen->first);
  seen->go_on = 1;
  stopped.kill(SIGCONT);
  CHECK(stopped.wait() == 0);
  CHECK(seen->verdict == static_cast<int>(Verdict::stale));
  CHECK(careful.try_call(1).value() == 2);
}

TEST_CASE("T-33: a process that is killed in its call leaves the key in doubt when its lease ends, never free") {
  RedisServer& server = common_server();
  const RedisOptions options = options_for(server);
  Shared<std::atomic<int>> running;
  Child owner([&] {
    RedisStore store(options);
    const auto pay = idem::idempotent<"pay">(
        [&](int) {
          *running = 1;
          ::pause();
        },
        at_once(150ms), store);
    // Where its claim is answered when the lease has ended already, a call isn't run.
    while (*running == 0) pay.try_call(1);
    return 0;
  });
  REQUIRE(eventually([&] { return *running == 1; }));
  owner.kill(SIGKILL);
  owner.wait();
  RedisStore store(options);
  int runs = 0;
  const auto pay = idem::idempotent<"pay">([&](int) { ++runs; }, Options{.lease = 150ms}, store);
  // This one waits, and is told when the lease has ended.
  CHECK(pay.try_call(1).verdict() == Verdict::in_doubt);
  CHECK(runs == 0);
  CHECK(server.command({"PTTL", name_of(pay.key(1))}).integer == -1);
}

TEST_CASE("CORE-02 T-24: of several processes' threads exactly one runs the call, and all get its value") {
  RedisServer& server = common_server();
  const RedisOptions options = options_for(server);
  Shared<std::atomic<int>> runs;
  Shared<std::atomic<int>> wrong;
  const auto race = [&] {
    RedisStore store(options);
    const auto pay = idem::idempotent<"pay">([&](int number) { return ++*runs, number * 2; }, store);
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        for (int number = 0; number < 50; ++number) {
          const auto outcome = pay.try_call(number);
          if (!outcome.has_value() || outcome.value() != number * 2) ++*wrong;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    return 0;
  };
  {
    Child first(race);
    Child second(race);
    Child third(race);
    CHECK(first.wait() + second.wait() + third.wait() == 0);
  }
  CHECK(*runs == 50);
  CHECK(*wrong == 0);
}

TEST_CASE("TIM-01: a server's clock that jumps ends a lease too soon at worst, and then the key is in doubt") {
  if (!RedisServer::can_step_clock()) return;
  RedisServer server({.steppable_clock = true});
  RedisStore store(options_for(server));
  RedisStore other(options_for(server));
  int number = 0;
  for (const std::chrono::seconds step : {60s, -3600s}) {
    CAPTURE(step.count());
    server.set_clock_off(0s);
    ++number;
    int runs = 0;
    const auto duplicate = idem::idempotent<"pay">([&](int) { return ++runs, 0; }, at_once(30s), other);
    const auto pay = idem::idempotent<"pay">(
        [&](int, Context& context) {
          ++runs;
          server.set_clock_off(step);
          Verdict met{};
          std::thread([&] { met = duplicate.try_call(number).verdict(); }).join();
          CHECK(met == (step > 0s ? Verdict::in_doubt : Verdict::in_progress));
          CHECK_FALSE(context.lease_lost());
          return 1;
        },
        at_once(30s), store);
    // The owner is the one that the record knows, whatever time it is.
    CHECK(pay.try_call(number).verdict() == Verdict::executed);
    CHECK(runs == 1);
    CHECK(duplicate.try_call(number).verdict() == Verdict::replayed);
    // Retention goes by the server's clock, and so does its jump.
    const Key key = idem::make_key("retained", number);
    server.set_clock_off(0s);
    REQUIRE(store.complete(key, outcome(claim(store, key).record.owner, "x", 30s)).answer == Answer::ok);
    server.set_clock_off(step);
    CHECK(store.find(key).answer == (step > 0s ? Answer::absent : Answer::completed));
  }
  // After it was set back epochs grow all the same, as long as the record is there to tell.
  server.set_clock_off(0s);
  const Key key = idem::make_key("epochs", 1);
  const Reply first = claim(store, key);
  REQUIRE(store.abandon(key, first.record.owner).answer == Answer::ok);
  server.set_clock_off(-3600s);
  CHECK(take_over(store, key).record.owner.epoch == first.record.owner.epoch + 1);
}

TEST_CASE("CXX-12 HIR-07: a child of fork has connections of its own, and leaves its parent's alone") {
  RedisServer& server = common_server();
  RedisStore store(options_for(server));
  int runs = 0;
  const auto pay = idem::idempotent<"pay">([&](int number) { return ++runs, number; }, at_once(30s), store);
  REQUIRE(pay.try_call(1).verdict() == Verdict::executed);
  const Key held = idem::make_key("held", 1);
  const Reply claimed = claim(store, held, 300ms);
  const auto id_of_parent = [&] { return server.command({"CLIENT", "LIST"}).text; };
  const std::string before = id_of_parent();
  Child child([&] {
    if (pay.try_call(1).verdict() != Verdict::replayed) return 1;
    if (pay.try_call(2).verdict() != Verdict::executed) return 2;
    if (claim(store, held).answer == Answer::acquired) return 3;
    // What the child destroys is its own.
    RedisStore gone(std::move(store));
    return 0;
  });
  CHECK(child.wait() == 0);
  CHECK(pay.try_call(2).verdict() == Verdict::replayed);
  CHECK(runs == 1);
  CHECK(store.complete(held, outcome(claimed.record.owner, "x")).answer == Answer::ok);
  // The same connection as before, which nobody has closed or confused.
  const std::string after = id_of_parent();
  const auto id = [](const std::string& list) {
    const std::size_t name = list.find("name=idem");
    const std::size_t line = list.rfind("id=", name);
    return list.substr(line, list.find(' ', line) - line);
  };
  CHECK(id(after) == id(before));

  // In a child that is made while the parent's threads are in the middle of something.
  std::atomic<bool> ends{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      for (int number = 0; !ends; ++number) claim(store, idem::make_key("busy", i, number % 100));
    });
  }
  for (int i = 0; i < 10; ++i) {
    Child busy([&] { return claim(store, idem::make_key("child", i)).answer == Answer::acquired ? 0 : 1; });
    CHECK(busy.wait() == 0);
  }
  ends = true;
  for (std::thread& thread : threads) thread.join();
  CHECK(claim(store, idem::make_key("parent", 1)).answer == Answer::acquired);
}
