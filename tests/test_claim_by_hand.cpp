// Claims by hand: every way in which one can end, and what the next caller is told.
#include <idem/idem.hpp>
#include <idem/testing/lease_store.hpp>
#include <idem/testing/manual_clock.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <coroutine>
#include <exception>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

namespace claim_by_hand {

using namespace std::chrono_literals;
using idem::Answer;
using idem::Claim;
using idem::Effect;
using idem::MemoryStore;
using idem::Verdict;
using idem::testing::LeaseStore;

const idem::Key key = idem::make_key("webhook", "evt_1");

/// What the next caller is told, without waiting.
template <class Store>
Claim next(Store& store, idem::OnInDoubt on_in_doubt = idem::OnInDoubt::report) {
  return idem::claim(store, key, {.wait_timeout = 0s, .on_in_doubt = on_in_doubt});
}

static_assert(!std::is_copy_constructible_v<Claim> && !std::is_copy_assignable_v<Claim>);
static_assert(std::is_nothrow_move_constructible_v<Claim> && std::is_nothrow_move_assignable_v<Claim>);
static_assert(std::is_nothrow_destructible_v<Claim>);

TEST_CASE_TEMPLATE("a claim that is completed gives later ones its value", Store, MemoryStore, LeaseStore) {
  Store store;
  Claim claim = idem::claim(store, key);
  REQUIRE(claim.acquired());
  CHECK(static_cast<bool>(claim));
  CHECK(claim.status() == Answer::acquired);
  CHECK(claim.key() == key);
  CHECK(claim.complete(std::string("done")) == Verdict::executed);

  Claim later = next(store);
  CHECK_FALSE(later.acquired());
  CHECK(later.status() == Answer::completed);
  const idem::Outcome<std::string> outcome = later.result<std::string>();
  CHECK(outcome.verdict() == Verdict::replayed);
  CHECK(outcome.value() == "done");
  CHECK(outcome.key() == key);
  CHECK(outcome.attempt() == 1);
  CHECK(outcome.error().effect == Effect::ran);
  CHECK(later.first_seen_at() == claim.first_seen_at());
  CHECK(outcome.started_at() == claim.first_seen_at());
  CHECK(outcome.finished_at() >= outcome.started_at());
  CHECK(outcome.expires_at() == outcome.finished_at() + 24h);
}

TEST_CASE_TEMPLATE("a claim may be completed without a value", Store, MemoryStore, LeaseStore) {
  Store store;
  CHECK(idem::claim(store, key).complete() == Verdict::executed);
  const idem::Outcome<void> outcome = next(store).template result<void>();
  CHECK(outcome.verdict() == Verdict::replayed);
  CHECK(outcome.has_value());
}

TEST_CASE_TEMPLATE("a result that is asked for as another type is corrupt, and says that it happened", Store,
                   MemoryStore, LeaseStore) {
  Store store;
  idem::claim(store, key).complete(5);
  const auto outcome = next(store).template result<std::string>();
  CHECK(outcome.verdict() == Verdict::corrupt);
  CHECK(outcome.error().effect == Effect::ran);
  CHECK(next(store).template result<void>().verdict() == Verdict::corrupt);
  CHECK(next(store).template result<int>().value() == 5);
}

TEST_CASE_TEMPLATE("a literal is kept as a string's value", Store, MemoryStore, LeaseStore) {
  Store store;
  CHECK(idem::claim(store, key).complete(std::string("text")) == Verdict::executed);
  CHECK(next(store).template result<std::string>().value() == "text");
}

TEST_CASE_TEMPLATE("a claim that failed for good replays its exception", Store, MemoryStore, LeaseStore) {
  Store store;
  {
    Claim claim = idem::claim(store, key);
    CHECK(claim.fail(std::invalid_argument("declined")) == Verdict::failed);
  }
  Claim later = next(store);
  CHECK_FALSE(later.acquired());
  CHECK(later.status() == Answer::failed);
  const auto outcome = later.template result<int>();
  CHECK(outcome.verdict() == Verdict::failure_replayed);
  CHECK(outcome.exception() != nullptr);
  CHECK_THROWS_AS(outcome.value(), std::invalid_argument);

  store.clear();
  std::exception_ptr caught;
  try {
    throw std::out_of_range("caught");
  } catch (...) {
    caught = std::current_exception();
  }
  CHECK(idem::claim(store, key).fail(caught) == Verdict::failed);
  CHECK_THROWS_WITH_AS(next(store).template result<int>().value(), "caught", std::out_of_range);
}

TEST_CASE_TEMPLATE("a released claim frees the key, and the next one has a higher fencing token", Store, MemoryStore,
                   LeaseStore) {
  Store store;
  Claim first = idem::claim(store, key);
  const auto token = first.context().fencing_token();
  CHECK(token > 0);
  CHECK(first.release());
  Claim second = next(store);
  REQUIRE(second.acquired());
  CHECK(second.context().attempt() == 1);
  CHECK(second.context().fencing_token() > token);
  CHECK_FALSE(first.release());
}

TEST_CASE_TEMPLATE("a claim that is dropped is in doubt at once: neither free nor done", Store, MemoryStore,
                   LeaseStore) {
  Store store;
  { const Claim dropped = idem::claim(store, key); }
  Claim later = next(store);
  CHECK_FALSE(later.acquired());
  CHECK(later.status() == Answer::in_doubt);
  const auto outcome = later.template result<int>();
  CHECK(outcome.verdict() == Verdict::in_doubt);
  CHECK(outcome.error().effect == Effect::unknown);
  CHECK_THROWS_AS(outcome.value(), idem::InDoubtError);
  CHECK(store.stats().in_doubt == 1);

  try {
    const Claim unwound = idem::claim(store, idem::make_key("webhook", "evt_2"));
    throw std::runtime_error("between claim and complete");
  } catch (const std::runtime_error&) {
  }
  CHECK(store.stats().in_doubt == 2);
}

TEST_CASE_TEMPLATE(
    "T-72: on_in_doubt = rerun acquires it with a higher token, as another attempt of the same first sight", Store,
    MemoryStore, LeaseStore) {
  Store store;
  std::optional<Claim> dropped = idem::claim(store, key);
  const auto token = dropped->context().fencing_token();
  const auto first_seen = dropped->first_seen_at();
  const std::string derived = dropped->context().derived_key("gateway");
  dropped.reset();
  Claim again = next(store, idem::OnInDoubt::rerun);
  REQUIRE(again.acquired());
  CHECK(again.context().fencing_token() > token);
  CHECK(again.context().attempt() == 2);
  CHECK(again.context().key() == key);
  CHECK(again.context().derived_key("gateway") == derived);
  CHECK(again.first_seen_at() == first_seen);
  CHECK(again.complete(1) == Verdict::executed);
  CHECK(next(store).template result<int>().attempt() == 2);
}

TEST_CASE_TEMPLATE("a running claim is told as running, without waiting or after it", Store, MemoryStore, LeaseStore) {
  Store store;
  Claim running = idem::claim(store, key);
  for (const idem::Duration wait : {idem::Duration(0s), idem::Duration(1us)}) {
    const Claim other = idem::claim(store, key, {.wait_timeout = wait});
    CHECK_FALSE(other.acquired());
    CHECK(other.status() == Answer::running);
    CHECK(other.template result<int>().verdict() == Verdict::in_progress);
    CHECK(other.template result<int>().error().effect == Effect::unknown);
    CHECK(other.first_seen_at() == running.first_seen_at());
    CHECK_THROWS_AS(other.template result<int>().value(), idem::LockTimeoutError);
  }
  CHECK(running.template result<int>().verdict() == Verdict::in_progress);
  CHECK(running.complete(1) == Verdict::executed);
}

TEST_CASE_TEMPLATE("CXX-14: only the first end of a claim counts", Store, MemoryStore, LeaseStore) {
  Store store;
  {
    Claim claim = idem::claim(store, key);
    CHECK(claim.complete(1) == Verdict::executed);
    CHECK(claim.complete(2) == Verdict::stale);
    CHECK(claim.complete() == Verdict::stale);
    CHECK(claim.fail(std::runtime_error("late")) == Verdict::stale);
    CHECK_FALSE(claim.release());
  }
  CHECK(next(store).template result<int>().value() == 1);
  store.clear();
  {
    Claim claim = idem::claim(store, key);
    CHECK(claim.release());
    CHECK(claim.complete(2) == Verdict::stale);
    CHECK(claim.fail(std::runtime_error("late")) == Verdict::stale);
    CHECK_FALSE(claim.release());
  }
  {
    Claim claim = next(store);
    CHECK(claim.acquired());
    CHECK(claim.fail(std::runtime_error("for good")) == Verdict::failed);
    CHECK(claim.complete(2) == Verdict::stale);
    CHECK_FALSE(claim.release());
  }
  CHECK(next(store).status() == Answer::failed);
}

TEST_CASE_TEMPLATE("ending a claim that wasn't acquired changes nothing", Store, MemoryStore, LeaseStore) {
  Store store;
  Claim owner = idem::claim(store, key);
  Claim other = next(store);
  CHECK(other.complete(2) == Verdict::stale);
  CHECK(other.fail(std::runtime_error("not mine")) == Verdict::stale);
  CHECK_FALSE(other.release());
  CHECK(next(store).status() == Answer::running);
  CHECK(owner.complete(1) == Verdict::executed);
  CHECK(next(store).template result<int>().value() == 1);
}

TEST_CASE_TEMPLATE("CXX-14: a claim moves with its key; what was moved from holds none", Store, MemoryStore,
                   LeaseStore) {
  Store store;
  Claim first = idem::claim(store, key);
  idem::Context& context = first.context();
  Claim second = std::move(first);
  CHECK(second.acquired());
  CHECK(&second.context() == &context);  // a pointer to it, handed out before, stays good
  // NOLINTBEGIN: what a claim says after it was moved from is what is tested
  CHECK_FALSE(first.acquired());
  CHECK(first.complete(2) == Verdict::stale);
  CHECK(first.fail(std::runtime_error("moved")) == Verdict::stale);
  CHECK_FALSE(first.release());
  CHECK(first.status() == Answer::unavailable);
  CHECK(first.template result<int>().verdict() == Verdict::unavailable);
  CHECK(first.first_seen_at() == idem::TimePoint{});
  CHECK_FALSE(first.key().valid());
  // NOLINTEND
  CHECK(next(store).status() == Answer::running);
  Claim& alias = second;
  second = std::move(alias);
  CHECK(second.acquired());
  CHECK(second.complete(1) == Verdict::executed);
}

TEST_CASE_TEMPLATE("what a claim held before another is moved to it is in doubt", Store, MemoryStore, LeaseStore) {
  Store store;
  const idem::Key other = idem::make_key("webhook", "evt_2");
  Claim claim = idem::claim(store, key);
  claim = idem::claim(store, other);
  CHECK(claim.acquired());
  CHECK(claim.key() == other);
  CHECK(next(store).status() == Answer::in_doubt);
  CHECK(claim.complete(1) == Verdict::executed);
}

TEST_CASE("CORE-03: a claim whose lease ended and that was taken over is stale, and changes nothing") {
  idem::testing::ManualClock clock;
  LeaseStore store{{.clock = clock}};
  Claim slow = idem::claim(store, key, {.lease = 30s});
  REQUIRE(slow.acquired());
  REQUIRE(slow.context().deadline().has_value());
  CHECK(*slow.context().deadline() == clock.now() + 30s);
  clock.advance(31s);
  CHECK(next(store).status() == Answer::in_doubt);
  Claim taker = next(store, idem::OnInDoubt::rerun);
  REQUIRE(taker.acquired());
  CHECK(slow.complete(1) == Verdict::stale);
  CHECK(next(store).status() == Answer::running);
  CHECK(taker.complete(2) == Verdict::executed);
  CHECK(next(store).result<int>().value() == 2);
}

TEST_CASE("a claim whose lease ended may still complete while nobody took over") {
  idem::testing::ManualClock clock;
  LeaseStore store{{.clock = clock}};
  Claim slow = idem::claim(store, key, {.lease = 30s});
  clock.advance(31s);
  CHECK(next(store).status() == Answer::in_doubt);
  CHECK(slow.complete(1) == Verdict::executed);
  CHECK(next(store).result<int>().value() == 1);
}

TEST_CASE("a claim is remembered for its ttl, from its end on") {
  idem::testing::ManualClock clock;
  MemoryStore store{{.clock = clock}};
  Claim claim = idem::claim(store, key, {.ttl = 1h});
  clock.advance(50min);
  claim.complete(1);
  clock.advance(59min);
  CHECK(next(store).status() == Answer::completed);
  clock.advance(1min);
  Claim after = next(store);
  CHECK(after.acquired());
  CHECK(after.context().attempt() == 1);
  CHECK(after.first_seen_at() == clock.now());
  CHECK(after.release());
}

TEST_CASE("a result too large to be kept is completed all the same: duplicates are told that it happened") {
  LeaseStore store;
  Claim claim = idem::claim(store, key);
  CHECK(claim.complete(std::string((1 << 20) + 1, 'x')) == Verdict::executed);
  const auto outcome = next(store).result<std::string>();
  CHECK(outcome.verdict() == Verdict::unrecorded);
  CHECK(outcome.error().effect == Effect::ran);
  CHECK_THROWS_AS(outcome.value(), idem::UnrecordedError);
}

TEST_CASE("a guard and a claim by hand under one name and key are one") {
  MemoryStore store;
  int runs = 0;
  const auto guard = idem::idempotent<"webhook">(
      [&](const std::string& id) { return ++runs, static_cast<int>(id.size()); }, {.wait_timeout = 0s}, store);
  Claim claim = idem::claim(store, guard.key("evt_1"));
  CHECK(guard.try_call("evt_1").verdict() == Verdict::in_progress);
  CHECK(claim.complete(42) == Verdict::executed);
  CHECK(guard("evt_1") == 42);
  CHECK(guard("evt_2") == 5);
  CHECK(runs == 1);
  const Claim seen = idem::claim(store, idem::make_key("webhook", "evt_2"));
  CHECK(seen.status() == Answer::completed);
  CHECK(seen.result<int>().value() == 5);
}

TEST_CASE("a claim goes through an AnyStore, and outlives it") {
  MemoryStore store;
  std::optional<Claim> claim;
  {
    idem::AnyStore any = store;
    claim = idem::claim(any, key);
  }
  REQUIRE(claim->acquired());
  CHECK(claim->complete(std::string("through")) == Verdict::executed);
  CHECK(next(store).result<std::string>().value() == "through");
}

TEST_CASE("options of a claim that make no sense are refused") {
  MemoryStore store;
  CHECK_THROWS_AS(idem::claim(store, key, {.ttl = 0s}), std::invalid_argument);
  CHECK_THROWS_AS(idem::claim(store, key, {.ttl = -1s}), std::invalid_argument);
  CHECK_THROWS_AS(idem::claim(store, key, {.lease = 0s}), std::invalid_argument);
  CHECK_THROWS_AS(idem::claim(store, key, {.wait_timeout = -1s}), std::invalid_argument);
  CHECK(store.stats().records == 0);
}

TEST_CASE("an empty key is claimed by nobody") {
  MemoryStore store;
  const Claim claim = idem::claim(store, idem::Key{});
  CHECK_FALSE(claim.acquired());
  CHECK(claim.status() == Answer::unavailable);
  CHECK(store.stats().records == 0);
}

/// A coroutine that claims, works when it's resumed, and completes when it's resumed once more.
class Job {
 public:
  struct promise_type {
    Job get_return_object() { return Job(std::coroutine_handle<promise_type>::from_promise(*this)); }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_always final_suspend() noexcept { return {}; }
    void return_void() {}
    void unhandled_exception() { std::terminate(); }
  };

  explicit Job(std::coroutine_handle<promise_type> handle) : handle_(handle) {}
  Job(Job&& other) noexcept : handle_(std::exchange(other.handle_, {})) {}
  Job& operator=(Job&&) = delete;
  ~Job() {
    if (handle_) handle_.destroy();
  }

  void resume() { handle_.resume(); }

 private:
  std::coroutine_handle<promise_type> handle_;
};

template <class Store>
Job job(Store& store, int& effects) {
  Claim claim = idem::claim(store, key);
  co_await std::suspend_always();
  if (!claim.acquired()) co_return;
  ++effects;
  co_await std::suspend_always();
  static_cast<void>(claim.complete(std::string("done")));
}

TEST_CASE_TEMPLATE("CXX-07: a coroutine destroyed while it's suspended leaves its call in doubt, before and after the effect",
                   Store, MemoryStore, LeaseStore) {
  for (const int resumed : {0, 1, 2}) {
    CAPTURE(resumed);
    Store store;
    int effects = 0;
    {
      Job suspended = job(store, effects);
      CHECK(next(store).status() == Answer::running);
      for (int i = 0; i < resumed; ++i) suspended.resume();
    }
    CHECK(effects == (resumed == 0 ? 0 : 1));
    CHECK(next(store).status() == (resumed == 2 ? Answer::completed : Answer::in_doubt));
  }
}

}  // namespace claim_by_hand

TEST_CASE("a claim that has ended shows the outcome that it recorded") {
  idem::MemoryStore store;
  idem::Claim claim = idem::claim(store, idem::make_key("ended", 1));
  REQUIRE(claim.acquired());
  CHECK(claim.result<int>().verdict() == idem::Verdict::in_progress);
  REQUIRE(claim.complete(7) == idem::Verdict::executed);
  CHECK(claim.result<int>().value() == 7);
  CHECK(claim.result<int>().verdict() == idem::Verdict::replayed);
}
