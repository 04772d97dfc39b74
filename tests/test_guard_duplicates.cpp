// What a second caller gets: the table of OnDuplicate, and races for one key.
#include <doctest/doctest.h>

#include "support/guard_support.hpp"
#include "support/hook_store.hpp"

#include <atomic>
#include <barrier>
#include <chrono>
#include <latch>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace guard_support;
using namespace std::chrono_literals;
using idem::Effect;
using idem::OnDuplicate;
using idem::Verdict;

namespace {

constexpr OnDuplicate all_policies[] = {OnDuplicate::return_stored, OnDuplicate::wait, OnDuplicate::raise};

/// A guard of one policy whose waits end by the clock being moved on.
template <class Store, class Function>
auto with_policy(OnDuplicate policy, Store& store, const ManualClock& clock, Function function) {
  return idem::idempotent<"duplicates">(function,
                                        {.on_duplicate = policy, .wait_timeout = 10s, .wait_limit = 20s}, store,
                                        idem::observe(pass_time_while_waiting(clock, 21s)));
}

}  // namespace

TEST_CASE_TEMPLATE("table of duplicates: nothing and an expired record run, whatever the policy", K, Memory, Leases,
                   AnyMemory, AnyLeases) {
  for (const OnDuplicate policy : all_policies) {
    ManualClock clock;
    auto store = K::make(clock);
    int runs = 0;
    auto once = with_policy(policy, store, clock, [&](int) { return ++runs; });
    CHECK(once.try_call(1).verdict() == Verdict::executed);
    clock.advance(24h);
    const auto again = once.try_call(1);
    CHECK(again.verdict() == Verdict::executed);
    CHECK(again.value() == 2);
  }
}

TEST_CASE_TEMPLATE("table of duplicates: a completed call gives its value, or DuplicateExecutionError where asked for", K,
                   Memory, Leases, AnyMemory, AnyLeases) {
  for (const OnDuplicate policy : all_policies) {
    ManualClock clock;
    auto store = K::make(clock);
    int runs = 0;
    auto once = with_policy(policy, store, clock, [&](int) { return ++runs; });
    CHECK(once(1) == 1);
    const auto second = once.try_call(1);
    CHECK(second.error().effect == Effect::ran);
    if (policy == OnDuplicate::raise) {
      CHECK(second.verdict() == Verdict::duplicate);
      CHECK_FALSE(second.has_value());
      CHECK(throws_exactly<idem::DuplicateExecutionError>([&] { return once(1); }));
      CHECK(throws_exactly<idem::DuplicateExecutionError>([&] { return second.value(); }));
      CHECK(effect_of([&] { return once(1); }) == Effect::ran);
    } else {
      CHECK(second.verdict() == Verdict::replayed);
      CHECK(once(1) == 1);
    }
    CHECK(runs == 1);
  }
}

TEST_CASE_TEMPLATE("table of duplicates: a failure that was kept is thrown again, or DuplicateExecutionError", K, Memory,
                   Leases, AnyMemory, AnyLeases) {
  for (const OnDuplicate policy : all_policies) {
    ManualClock clock;
    auto store = K::make(clock);
    int runs = 0;
    auto once = idem::idempotent<"kept failures">(
        [&](int) -> int {
          ++runs;
          throw std::out_of_range("no such account");
        },
        {.on_duplicate = policy, .on_failure = idem::OnFailure::lock}, store);
    const auto first = once.try_call(1);
    CHECK(first.verdict() == Verdict::failed);
    CHECK(first.error().effect == Effect::ran);
    const auto second = once.try_call(1);
    CHECK(second.error().effect == Effect::ran);
    if (policy == OnDuplicate::raise) {
      CHECK(second.verdict() == Verdict::duplicate);
      CHECK(throws_exactly<idem::DuplicateExecutionError>([&] { return once(1); }));
    } else {
      CHECK(second.verdict() == Verdict::failure_replayed);
      CHECK(second.exception() != nullptr);
      CHECK(throws_exactly<std::out_of_range>([&] { return once(1); }));
      CHECK_THROWS_WITH(once(1), "no such account");
    }
    CHECK(runs == 1);
  }
}

TEST_CASE_TEMPLATE("table of duplicates: a running call is waited for, up to the limit, or DuplicateExecutionError", K,
                   Memory, Leases, AnyMemory, AnyLeases) {
  for (const OnDuplicate policy : all_policies) {
    ManualClock clock;
    auto store = K::make(clock);
    int runs = 0;
    auto once = with_policy(policy, store, clock, [&](int) { return ++runs; });
    const auto claim = hold(store, once.key(1));
    REQUIRE(claim.acquired());
    const auto busy = once.try_call(1);
    CHECK(busy.verdict() == Verdict::in_progress);
    CHECK(busy.error().effect == Effect::unknown);
    CHECK_FALSE(busy.has_value());
    if (policy == OnDuplicate::raise) {
      CHECK(busy.waited() == 0us);
      CHECK(throws_exactly<idem::DuplicateExecutionError>([&] { return once(1); }));
      CHECK(throws_exactly<idem::DuplicateExecutionError>([&] { return busy.value(); }));
    } else {
      CHECK(busy.waited() >= 10s);
      CHECK(throws_exactly<idem::LockTimeoutError>([&] { return once(1); }));
      CHECK(throws_exactly<idem::LockTimeoutError>([&] { return busy.value(); }));
    }
    CHECK(effect_of([&] { return once(1); }) == Effect::unknown);
    CHECK(runs == 0);
  }
}

TEST_CASE_TEMPLATE("table of duplicates: wait_timeout = 0 doesn't wait", K, Memory, Leases) {
  ManualClock clock;
  auto store = K::make(clock);
  Events events;
  auto once = idem::idempotent<"impatient">([](int number) { return number; }, {.wait_timeout = 0s}, store,
                                            idem::observe(events));
  const auto claim = hold(store, once.key(1));
  const auto busy = once.try_call(1);
  CHECK(busy.verdict() == Verdict::in_progress);
  CHECK(busy.waited() == 0us);
  CHECK(events.count(idem::EventKind::waiting) == 0);
  CHECK(events.count(idem::EventKind::in_progress) == 1);
  CHECK(throws_exactly<idem::LockTimeoutError>([&] { return once(1); }));
  if (!K::objects) CHECK(busy.retry_after() == 1h);
}

TEST_CASE_TEMPLATE("table of duplicates: a call in doubt is told so under every policy", K, Memory, Leases, AnyMemory,
                   AnyLeases) {
  for (const OnDuplicate policy : all_policies) {
    ManualClock clock;
    auto store = K::make(clock);
    int runs = 0;
    auto once = with_policy(policy, store, clock, [&](int) { return ++runs; });
    leave_in_doubt(store, once.key(1));
    const auto doubtful = once.try_call(1);
    CHECK(doubtful.verdict() == Verdict::in_doubt);
    CHECK(doubtful.error().effect == Effect::unknown);
    CHECK(throws_exactly<idem::InDoubtError>([&] { return once(1); }));
    CHECK(effect_of([&] { return once(1); }) == Effect::unknown);
    CHECK(runs == 0);
    // Time alone never ends a doubt.
    clock.advance(24h * 365);
    CHECK(once.try_call(1).verdict() == Verdict::in_doubt);
  }
}

TEST_CASE_TEMPLATE("CORE-02: of 64 callers with one key exactly one runs, the others get its value", K, Memory, Leases,
                   AnyLeases) {
  constexpr int callers = 64;
  constexpr int rounds = K::objects ? 60 : 15;
  ManualClock clock;
  auto store = K::make(clock);
  std::atomic<int> runs{0};
  auto once = idem::idempotent<"raced">(
      [&](int round) {
        runs.fetch_add(1);
        return Receipt{round, "receipt " + std::to_string(round)};
      },
      {.on_duplicate = OnDuplicate::wait}, store);
  std::atomic<int> executed{0};
  std::atomic<int> replayed{0};
  std::atomic<int> wrong{0};
  std::barrier start(callers);
  std::vector<std::thread> threads;
  for (int i = 0; i < callers; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < rounds; ++round) {
        start.arrive_and_wait();
        const auto outcome = once.try_call(round);
        if (outcome.verdict() == Verdict::executed) executed.fetch_add(1);
        if (outcome.verdict() == Verdict::replayed) replayed.fetch_add(1);
        if (!outcome.has_value() || !(outcome.value() == Receipt{round, "receipt " + std::to_string(round)})) wrong.fetch_add(1);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(runs.load() == rounds);
  CHECK(executed.load() == rounds);
  CHECK(replayed.load() == rounds * (callers - 1));
  CHECK(wrong.load() == 0);
}

TEST_CASE_TEMPLATE("CORE-02: under raise 63 of 64 callers are refused, none of them with a store's error", K, Memory, Leases) {
  constexpr int callers = 64;
  constexpr int rounds = 15;
  ManualClock clock;
  auto store = K::make(clock);
  std::atomic<int> runs{0};
  auto once = idem::idempotent<"refused">([&](int) { return runs.fetch_add(1); }, {.on_duplicate = OnDuplicate::raise},
                                          store);
  std::atomic<int> refused{0};
  std::atomic<int> other{0};
  std::barrier start(callers);
  std::vector<std::thread> threads;
  for (int i = 0; i < callers; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < rounds; ++round) {
        start.arrive_and_wait();
        switch (once.try_call(round).verdict()) {
          case Verdict::executed: break;
          case Verdict::duplicate:
          case Verdict::in_progress: refused.fetch_add(1); break;
          default: other.fetch_add(1);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(runs.load() == rounds);
  CHECK(refused.load() == rounds * (callers - 1));
  CHECK(other.load() == 0);
}

TEST_CASE_TEMPLATE("T-20: a waiter whose time is up writes nothing, the holder completes", K, Memory, Leases) {
  ManualClock clock;
  auto store = K::make(clock);
  std::vector<Op> operations;
  HookStore<typename K::Store> watched(store, [&](Op op, const idem::Key&) {
    operations.push_back(op);
    return std::optional<idem::Reply>();
  });
  int runs = 0;
  auto once = with_policy(OnDuplicate::return_stored, watched, clock, [&](int) { return ++runs; });
  auto claim = hold(store, once.key(1));
  const idem::Record before = store.find(once.key(1)).record;
  CHECK(once.try_call(1).verdict() == Verdict::in_progress);
  for (const Op op : operations) CHECK(op == Op::claim);
  const idem::Record after = store.find(once.key(1)).record;
  CHECK(after.owner == before.owner);
  CHECK(after.attempt == before.attempt);
  CHECK(after.lease_until == before.lease_until);
  CHECK(once.try_call(1).verdict() == Verdict::in_progress);
  CHECK(claim.complete(7) == Verdict::executed);
  CHECK(once(1) == 7);
  CHECK(runs == 0);
}

TEST_CASE_TEMPLATE("T-21: a record that goes away between two looks makes the waiter claim it, not run without", K, Memory,
                   Leases) {
  ManualClock clock;
  auto store = K::make(clock);
  // The holder releases its claim while the waiter has seen it running but doesn't wait yet.
  std::optional<idem::Claim> holder;
  int runs = 0;
  auto once = idem::idempotent<"vanished">([&](int) { return ++runs; }, store,
                                           idem::observe([&](const idem::Event& event) {
                                             if (event.kind == idem::EventKind::waiting) CHECK(holder->release());
                                           }));
  holder.emplace(hold(store, once.key(1)));
  const auto outcome = once.try_call(1);
  CHECK(outcome.verdict() == Verdict::executed);
  CHECK(runs == 1);
  CHECK(once.try_call(1).verdict() == Verdict::replayed);
}

TEST_CASE_TEMPLATE("T-22 T-79: a loser whose winner completes meanwhile gets the value, not a refusal", K, Memory, Leases) {
  ManualClock clock;
  auto store = K::make(clock);
  std::optional<idem::Claim> winner;
  int runs = 0;
  auto once = idem::idempotent<"late">([&](int) { return ++runs; }, {.on_duplicate = OnDuplicate::wait}, store,
                                       idem::observe([&](const idem::Event& event) {
                                         if (event.kind == idem::EventKind::waiting) {
                                           clock.advance(2s);
                                           CHECK(winner->complete(99) == Verdict::executed);
                                         }
                                       }));
  winner.emplace(hold(store, once.key(1)));
  const auto outcome = once.try_call(1);
  CHECK(outcome.verdict() == Verdict::replayed);
  CHECK(outcome.value() == 99);
  CHECK(runs == 0);
}

TEST_CASE_TEMPLATE("MEM-10: a waiter whose owner never ends is let go at its deadline by the store's clock", K, Memory,
                   Leases) {
  ManualClock clock;
  auto store = K::make(clock);
  auto once = with_policy(OnDuplicate::wait, store, clock, [](int number) { return number; });
  const auto claim = hold(store, once.key(1));
  const auto outcome = once.try_call(1);
  CHECK(outcome.verdict() == Verdict::in_progress);
  CHECK(outcome.waited() == 21s);
}

TEST_CASE_TEMPLATE("MEM-02: waiters of a leader that throws wake up, and one of them runs", K, Memory, Leases) {
  constexpr int waiters = 31;
  ManualClock clock;
  auto store = K::make(clock);
  std::latch waiting(waiters);
  std::atomic<int> runs{0};
  auto once = idem::idempotent<"leader throws">(
      [&](int) {
        if (runs.fetch_add(1) == 0) {
          waiting.wait();
          throw std::runtime_error("the leader fails");
        }
        return 7;
      },
      {.on_duplicate = OnDuplicate::wait}, store, idem::observe([&](const idem::Event& event) {
        if (event.kind == idem::EventKind::waiting) waiting.count_down();
      }));
  std::atomic<int> failed{0};
  std::atomic<int> executed{0};
  std::atomic<int> replayed{0};
  const auto call = [&] {
    switch (once.try_call(1).verdict()) {
      case Verdict::failed: failed.fetch_add(1); break;
      case Verdict::executed: executed.fetch_add(1); break;
      case Verdict::replayed: replayed.fetch_add(1); break;
      default: break;
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < waiters + 1; ++i) threads.emplace_back(call);
  for (std::thread& thread : threads) thread.join();
  CHECK(runs.load() == 2);
  CHECK(failed.load() == 1);
  CHECK(executed.load() == 1);
  CHECK(replayed.load() == waiters - 1);
}

TEST_CASE_TEMPLATE("MEM-02: waiters of a leader whose failure is kept all get that failure", K, Memory, Leases) {
  constexpr int waiters = 31;
  ManualClock clock;
  auto store = K::make(clock);
  std::latch waiting(waiters);
  std::atomic<int> runs{0};
  auto once = idem::idempotent<"leader fails for good">(
      [&](int) -> int {
        runs.fetch_add(1);
        waiting.wait();
        throw std::runtime_error("declined");
      },
      {.on_duplicate = OnDuplicate::wait, .on_failure = idem::OnFailure::lock}, store,
      idem::observe([&](const idem::Event& event) {
        if (event.kind == idem::EventKind::waiting) waiting.count_down();
      }));
  std::atomic<int> declined{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < waiters + 1; ++i) {
    threads.emplace_back([&] {
      try {
        static_cast<void>(once(1));
      } catch (const std::runtime_error& error) {
        if (std::string(error.what()) == "declined") declined.fetch_add(1);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(runs.load() == 1);
  CHECK(declined.load() == waiters + 1);
}
