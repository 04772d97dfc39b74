// The same key with other arguments: ignored, or refused in every state.
#include <doctest/doctest.h>

#include "support/guard_support.hpp"
#include "support/hook_store.hpp"

#include <chrono>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>

using namespace guard_support;
using namespace std::chrono_literals;
using idem::Effect;
using idem::EventKind;
using idem::OnConflict;
using idem::OnDuplicate;
using idem::Verdict;

namespace {

/// Keyed by the order's number alone, so that the amount may differ.
template <class Store, class Function, class... Extras>
auto by_order(idem::Options options, Store& store, Function function, Extras... extras) {
  options.on_conflict = OnConflict::raise;
  options.wait_timeout = 0s;
  return idem::idempotent<"conflicts">(function, options, store, idem::key_from<0>, extras...);
}

}  // namespace

TEST_CASE_TEMPLATE("on_conflict = ignore: other arguments under the same key get the stored result", K, Memory, Leases) {
  ManualClock clock;
  auto store = K::make(clock);
  int runs = 0;
  auto once = idem::idempotent<"ignored">(
      function_of([&](int, int amount) { ++runs; return amount; }), store, idem::key_from<0>);
  CHECK(once(1, 100) == 100);
  CHECK(once(1, 200) == 100);
  CHECK(runs == 1);
}

TEST_CASE_TEMPLATE("CORE-07 T-47 T-48: other arguments are refused after completion, the same ones are replayed", K, Memory,
                   Leases, AnyMemory, AnyLeases) {
  for (const OnDuplicate policy : {OnDuplicate::return_stored, OnDuplicate::wait, OnDuplicate::raise}) {
    ManualClock clock;
    auto store = K::make(clock);
    int runs = 0;
    Events events;
    auto once = by_order({.on_duplicate = policy}, store, [&](int, int amount) { ++runs; return amount; },
                         idem::observe(events));
    CHECK(once(1, 100) == 100);
    const auto other = once.try_call(1, 200);
    CHECK(other.verdict() == Verdict::conflict);
    CHECK(other.error().effect == Effect::ran);
    CHECK(throws_exactly<idem::KeyConflictError>([&] { return once(1, 200); }));
    CHECK(events.count(EventKind::conflict) == 2);
    const auto same = once.try_call(1, 100);
    CHECK(same.verdict() == (policy == OnDuplicate::raise ? Verdict::duplicate : Verdict::replayed));
    CHECK(runs == 1);
  }
}

TEST_CASE_TEMPLATE("CORE-07 T-50: other arguments are refused while the first call runs, before anything about waiting", K,
                   Memory, Leases, AnyLeases) {
  for (const OnDuplicate policy : {OnDuplicate::return_stored, OnDuplicate::wait, OnDuplicate::raise}) {
    ManualClock clock;
    auto store = K::make(clock);
    idem::Verdict inside{};
    idem::Effect effect{};
    std::function<void()> meanwhile;
    auto once = by_order({.on_duplicate = policy}, store, [&](int, int amount) {
      meanwhile();
      return amount;
    });
    meanwhile = [&] {
      std::thread([&] {
        const auto other = once.try_call(1, 200);
        inside = other.verdict();
        effect = other.error().effect;
      }).join();
    };
    CHECK(once(1, 100) == 100);
    CHECK(inside == Verdict::conflict);
    CHECK(effect == Effect::unknown);
  }
}

TEST_CASE_TEMPLATE("T-49: other arguments are refused for a kept failure and for a call in doubt, which they don't take over",
                   K, Memory, Leases, AnyLeases) {
  ManualClock clock;
  auto store = K::make(clock);
  auto failing = by_order({.on_failure = idem::OnFailure::lock}, store,
                          [](int, int) -> int { throw std::domain_error("refused"); });
  CHECK_THROWS_AS(failing(1, 100), std::domain_error);
  CHECK(failing.try_call(1, 200).verdict() == Verdict::conflict);
  CHECK(failing.try_call(1, 100).verdict() == Verdict::failure_replayed);

  auto doubtful = by_order({.on_failure = idem::OnFailure::in_doubt}, store,
                           [](int, int) -> int { throw std::domain_error("timeout"); });
  CHECK_THROWS_AS(doubtful(2, 100), std::domain_error);
  int runs = 0;
  auto again = by_order({.on_in_doubt = idem::OnInDoubt::rerun}, store, [&](int, int amount) {
    ++runs;
    return amount;
  });
  CHECK(again.try_call(2, 200).verdict() == Verdict::conflict);
  CHECK(again.try_call(2, 200).error().effect == Effect::unknown);
  CHECK(runs == 0);
  CHECK(again.try_call(2, 100).verdict() == Verdict::executed);
  // The fingerprint outlives the change of hands and the completion.
  CHECK(again.try_call(2, 200).verdict() == Verdict::conflict);
  CHECK(again.try_call(2, 100).verdict() == Verdict::replayed);
}

TEST_CASE_TEMPLATE("T-48: a waiter with other arguments is refused, whenever it looks", K, Memory, Leases) {
  ManualClock clock;
  auto store = K::make(clock);
  // The winner has no fingerprint when the other one begins to wait; it has none after completion either.
  auto plain = idem::idempotent<"conflicts">(
      function_of([](int, int amount) { return amount; }), store, idem::key_from<0>);
  CHECK(plain(1, 100) == 100);
  auto checked = by_order({}, store, [](int, int amount) { return amount; });
  // Nothing to compare with: the stored result.
  CHECK(checked.try_call(1, 200).verdict() == Verdict::replayed);
}

TEST_CASE_TEMPLATE("T-43: a conflict is no error of the store: it isn't run unguarded and isn't called unavailable", K, Memory,
                   Leases) {
  ManualClock clock;
  auto store = K::make(clock);
  int runs = 0;
  Events events;
  auto once = by_order({.on_store_error = idem::OnStoreError::run_unguarded}, store,
                       [&](int, int) { return ++runs; }, idem::observe(events));
  CHECK(once(1, 100) == 1);
  CHECK(once.try_call(1, 200).verdict() == Verdict::conflict);
  CHECK(events.count(EventKind::unavailable) == 0);
  CHECK(events.count(EventKind::unguarded) == 0);
  CHECK(runs == 1);
}

TEST_CASE_TEMPLATE("compare_by: only what it gives is compared", K, Memory, Leases) {
  ManualClock clock;
  auto store = K::make(clock);
  auto once = by_order({}, store, [](int, int amount, const std::string&) { return amount; },
                       idem::compare_by([](int, int amount, const std::string&) { return amount; }));
  CHECK(once(1, 100, "first note") == 100);
  CHECK(once.try_call(1, 100, "another note").verdict() == Verdict::replayed);
  CHECK(once.try_call(1, 200, "first note").verdict() == Verdict::conflict);
}

TEST_CASE_TEMPLATE("key_by and key_from: only what they choose enters the key", K, Memory, Leases) {
  ManualClock clock;
  auto store = K::make(clock);
  int runs = 0;
  struct Order {
    int id;
    const char* note;  // A pointer couldn't enter a key.
  };
  auto by_id = idem::idempotent<"key_by">(function_of([&](const Order&) { return ++runs; }), store,
                                          idem::key_by([](const Order& order) { return order.id; }));
  CHECK(by_id(Order{1, "a"}) == 1);
  CHECK(by_id(Order{1, "b"}) == 1);
  CHECK(by_id(Order{2, "a"}) == 2);

  auto by_position = idem::idempotent<"key_from">(
      function_of([&](int, int, int) { return ++runs; }), store, idem::key_from<0, 2>);
  CHECK(by_position(1, 2, 3) == 3);
  CHECK(by_position(1, 9, 3) == 3);
  CHECK(by_position(1, 2, 4) == 4);
  CHECK(by_position(2, 2, 3) == 5);
}

namespace guard_conflicts {
struct Account {
  int id = 0;
  int charges = 0;
  int charge(int amount) { return charges += amount; }
};
}  // namespace guard_conflicts

TEST_CASE("any_object: the object of a member function plays no part; it is argument 0 otherwise") {
  using guard_conflicts::Account;
  ManualClock clock;
  auto store = Memory::make(clock);
  Account a{.id = 1};
  Account b{.id = 2};
  auto any = idem::idempotent<"any account">(&Account::charge, store, idem::any_object);
  CHECK(any(a, 5) == 5);
  CHECK(any(b, 5) == 5);
  CHECK(a.charges == 5);
  CHECK(b.charges == 0);
  auto each = idem::idempotent<&Account::charge>(store,
                                                 idem::key_by([](const Account& account, int amount) { return account.id * 100 + amount; }));
  CHECK(each(a, 7) == 12);
  CHECK(each(a, 7) == 12);
  CHECK(each(b, 7) == 7);
}

TEST_CASE("T-48: a place for an answer says nothing about the call, and is not compared") {
  auto once = idem::idempotent<"conflict with a place">(
      function_of([](int id, std::string& answer) {
        answer = "done";
        return id;
      }),
      {.on_conflict = idem::OnConflict::raise}, idem::key_from<0>);
  std::string answer = "before";
  CHECK(once(1, answer) == 1);
  CHECK(once.try_call(1, answer).verdict() == idem::Verdict::replayed);
}
