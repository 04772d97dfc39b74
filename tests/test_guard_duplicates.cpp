// What a second caller gets: the table of OnDuplicate. Many callers at once: test_guard_callers.cpp.
#include <doctest/doctest.h>

#include "support/guard_support.hpp"
#include "support/hook_store.hpp"

#include <chrono>
#include <optional>
#include <stdexcept>
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
