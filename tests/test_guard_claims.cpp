// Claims by hand: what becomes of a key whose owner says how it ended, and of one whose owner doesn't.
#include <doctest/doctest.h>

#include "support/guard_support.hpp"
#include "support/hook_store.hpp"

#include <chrono>
#include <exception>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

using namespace guard_support;
using namespace std::chrono_literals;
using idem::Answer;
using idem::Claim;
using idem::Effect;
using idem::Verdict;

TEST_CASE_TEMPLATE("CXX-06: a claim that is dropped without a word is in doubt: not success, not free", K, Memory, Leases,
                   AnyMemory, AnyLeases) {
  ManualClock clock;
  auto store = K::make(clock);
  const idem::Key key = idem::make_key("webhook", "evt_1");
  REQUIRE(std::uncaught_exceptions() == 0);
  {
    const Claim claim = idem::claim(store, key);
    CHECK(claim.acquired());
    CHECK(claim.status() == Answer::acquired);
    CHECK(claim.first_seen_at() == clock.now());
  }
  const Claim next = idem::claim(store, key);
  CHECK_FALSE(next.acquired());
  CHECK(next.status() == Answer::in_doubt);
  CHECK(next.result<int>().verdict() == Verdict::in_doubt);
}

TEST_CASE_TEMPLATE("CXX-06: a claim that an exception passes by is in doubt as well", K, Memory, Leases) {
  ManualClock clock;
  auto store = K::make(clock);
  const idem::Key key = idem::make_key("webhook", "evt_1");
  try {
    const Claim claim = idem::claim(store, key);
    throw std::runtime_error("passing by");
  } catch (const std::runtime_error&) {
  }
  CHECK(store.find(key).answer == Answer::in_doubt);
}

TEST_CASE_TEMPLATE("a claim's outcome is what a guard of the same key would give, and the other way round", K, Memory, Leases,
                   AnyMemory, AnyLeases) {
  ManualClock clock;
  auto store = K::make(clock);
  auto once = idem::idempotent<"webhook">(
      function_of([](const std::string& id) { return Receipt{1, id}; }), {.ttl = 1h}, store);
  CHECK(idem::make_key("webhook", std::string("evt_1")) == once.key("evt_1"));

  Claim claim = idem::claim(store, once.key("evt_1"));
  CHECK(claim.complete(Receipt{7, "by hand"}) == Verdict::executed);
  CHECK(once("evt_1") == Receipt{7, "by hand"});

  CHECK(once("evt_2") == Receipt{1, "evt_2"});
  const Claim late = idem::claim(store, once.key("evt_2"));
  CHECK(late.status() == Answer::completed);
  const auto result = late.result<Receipt>();
  CHECK(result.verdict() == Verdict::replayed);
  CHECK(result.value() == Receipt{1, "evt_2"});
  CHECK(result.expires_at() == clock.now() + 1h);

  // A result of another type is never taken for one's own.
  CHECK(late.result<double>().verdict() == Verdict::corrupt);
  CHECK(late.result<double>().error().effect == Effect::ran);
}

TEST_CASE_TEMPLATE("a claim fails for good, or is given back", K, Memory, Leases, AnyMemory, AnyLeases) {
  ManualClock clock;
  auto store = K::make(clock);
  const idem::Key key = idem::make_key("webhook", "evt_1");
  {
    Claim claim = idem::claim(store, key);
    CHECK(claim.fail(std::domain_error("refused")) == Verdict::failed);
  }
  const Claim after = idem::claim(store, key);
  const auto failed = after.result<int>();
  CHECK(failed.verdict() == Verdict::failure_replayed);
  CHECK_THROWS_WITH_AS(static_cast<void>(failed.value()), "refused", std::domain_error);

  const idem::Key other = idem::make_key("webhook", "evt_2");
  {
    Claim claim = idem::claim(store, other);
    CHECK(claim.release());
    CHECK_FALSE(claim.release());
  }
  CHECK(idem::claim(store, other).acquired());
}

TEST_CASE_TEMPLATE("CXX-14: a claim moves but isn't copied, and what has ended once stays ended", K, Memory, Leases) {
  static_assert(!std::is_copy_constructible_v<Claim> && !std::is_copy_assignable_v<Claim>);
  static_assert(std::is_nothrow_move_constructible_v<Claim> && std::is_nothrow_move_assignable_v<Claim>);
  ManualClock clock;
  auto store = K::make(clock);
  const idem::Key key = idem::make_key("webhook", 1);

  Claim claim = idem::claim(store, key);
  Claim moved = std::move(claim);
  CHECK(moved.acquired());
  CHECK_FALSE(claim.acquired());
  CHECK(claim.status() == Answer::unavailable);
  CHECK(claim.complete(1) == Verdict::stale);
  CHECK_FALSE(claim.release());
  CHECK(claim.fail(std::runtime_error("late")) == Verdict::stale);
  CHECK(claim.result<int>().verdict() == Verdict::unavailable);
  CHECK(claim.first_seen_at() == idem::TimePoint());

  CHECK(moved.complete(1) == Verdict::executed);
  CHECK(moved.complete(2) == Verdict::stale);
  CHECK(moved.fail(std::runtime_error("late")) == Verdict::stale);
  CHECK_FALSE(moved.release());
  const Claim after = idem::claim(store, key);
  CHECK(after.result<int>().value() == 1);

  // Release, then complete.
  const idem::Key second = idem::make_key("webhook", 2);
  Claim released = idem::claim(store, second);
  CHECK(released.release());
  CHECK(released.complete(1) == Verdict::stale);
  CHECK(store.find(second).answer == Answer::absent);
}

TEST_CASE_TEMPLATE("CXX-14: assigning over a claim that is held puts what it held in doubt", K, Memory, Leases) {
  ManualClock clock;
  auto store = K::make(clock);
  const idem::Key first = idem::make_key("webhook", 1);
  const idem::Key second = idem::make_key("webhook", 2);
  Claim claim = idem::claim(store, first);
  Claim other = idem::claim(store, second);
  claim = std::move(other);
  CHECK(store.find(first).answer == Answer::in_doubt);
  CHECK(store.find(second).answer == Answer::running);
  CHECK(claim.key() == second);
  CHECK(claim.complete() == Verdict::executed);
}

TEST_CASE_TEMPLATE("CXX-01: a store that fails in a claim's destructor ends nothing and throws nothing", K, Memory, Leases) {
  static_assert(std::is_nothrow_destructible_v<Claim>);
  ManualClock clock;
  auto store = K::make(clock);
  HookStore<typename K::Store> broken(store, always_unreachable(Op::abandon));
  const idem::Key key = idem::make_key("webhook", 1);
  { const Claim claim = idem::claim(broken, key); }
  CHECK(store.find(key).answer == Answer::running);
  try {
    const Claim claim = idem::claim(broken, idem::make_key("webhook", 2));
    throw std::runtime_error("unwinding");
  } catch (const std::runtime_error&) {
  }
}

TEST_CASE_TEMPLATE("CXX-01: a store that fails when a claim is completed leaves it unrecorded and not free", K, Memory,
                   Leases) {
  ManualClock clock;
  auto store = K::make(clock);
  HookStore<typename K::Store> broken(store, always_unreachable(Op::complete));
  const idem::Key key = idem::make_key("webhook", 1);
  {
    Claim claim = idem::claim(broken, key);
    CHECK(claim.complete(1) == Verdict::unrecorded);
  }
  CHECK(store.find(key).answer == Answer::in_doubt);
}

TEST_CASE_TEMPLATE("a claim in doubt is taken over only where that is asked for, with a higher token", K, Memory, Leases) {
  ManualClock clock;
  auto store = K::make(clock);
  const idem::Key key = idem::make_key("webhook", 1);
  std::uint64_t before = 0;
  {
    Claim claim = idem::claim(store, key);
    before = claim.context().fencing_token();
    CHECK(claim.context().attempt() == 1);
    CHECK(claim.context().key() == key);
  }
  CHECK(idem::claim(store, key).status() == Answer::in_doubt);
  Claim again = idem::claim(store, key, {.on_in_doubt = idem::OnInDoubt::rerun});
  REQUIRE(again.acquired());
  CHECK(again.context().attempt() == 2);
  CHECK(again.context().fencing_token() > before);
  // Giving it back says nothing about the run that was in doubt.
  CHECK(again.release());
  CHECK(idem::claim(store, key).status() == Answer::in_doubt);
}

TEST_CASE_TEMPLATE("a running claim is waited for no longer than asked", K, Memory, Leases) {
  ManualClock clock;
  auto store = K::make(clock);
  const idem::Key key = idem::make_key("webhook", 1);
  const Claim claim = idem::claim(store, key);
  CHECK(idem::claim(store, key, {.wait_timeout = 0s}).status() == Answer::running);
  CHECK_THROWS_AS(idem::claim(store, key, {.ttl = 0s}), std::invalid_argument);
  CHECK_THROWS_AS(idem::claim(store, key, {.wait_timeout = -1s}), std::invalid_argument);
}

TEST_CASE_TEMPLATE("check_lock: the first one wins, for as long as the lock is remembered", K, Memory, Leases, AnyMemory,
                   AnyLeases) {
  ManualClock clock;
  auto store = K::make(clock);
  const idem::Key key = idem::make_key("mail", 1);
  const idem::TimePoint start = clock.now();
  const auto first = idem::check_lock(store, key, 1h);
  CHECK(first.locked);
  CHECK_FALSE(first.duplicate);
  CHECK(first.first_seen_at == start);
  clock.advance(30min);
  const auto second = idem::check_lock(store, key, 1h);
  CHECK_FALSE(second.locked);
  CHECK(second.duplicate);
  CHECK(second.first_seen_at == start);
  clock.advance(30min);
  CHECK(idem::check_lock(store, key, 1h).locked);

  HookStore<typename K::Store> broken(store, always_unreachable(Op::claim));
  CHECK(throws_exactly<idem::StoreError>([&] { return idem::check_lock(broken, key, 1h).locked; }));
}

TEST_CASE("CORE-15: a key made of nothing is refused") {
  CHECK(throws_exactly<idem::SerializationError>([] { return idem::make_key("", 1); }));
  CHECK(throws_exactly<idem::SerializationError>([] { return idem::make_key("webhook", std::string()); }));
  CHECK(throws_exactly<idem::SerializationError>([] { return idem::make_key("webhook", std::optional<int>()); }));
  ManualClock clock;
  auto store = Memory::make(clock);
  CHECK(idem::claim(store, idem::Key()).status() == Answer::unavailable);
}
