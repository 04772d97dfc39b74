// A guarded call: what is run, what is replayed, and what makes two calls one.
#include <doctest/doctest.h>

#include "support/guard_support.hpp"
#include "support/hook_store.hpp"

#include <chrono>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <variant>
#include <vector>

using namespace guard_support;
using namespace std::chrono_literals;
using idem::Effect;
using idem::Verdict;

namespace {

/// Something like std::expected, which C++20 doesn't have.
struct ParseError {
  int code = 0;
  friend bool operator==(const ParseError&, const ParseError&) = default;
};
using Parsed = std::variant<int, ParseError>;

/// Calls a guarded function that gives `value` twice, and shows both results.
template <class K, class R>
void replays(const R& value) {
  ManualClock clock;
  auto store = K::make(clock);
  int runs = 0;
  auto once = idem::idempotent<"falsy">(function_of([&](int) -> R { ++runs; return value; }), store);
  const idem::Outcome<R> first = once.try_call(1);
  const idem::Outcome<R> second = once.try_call(1);
  CHECK(runs == 1);
  CHECK(first.verdict() == Verdict::executed);
  CHECK(second.verdict() == Verdict::replayed);
  REQUIRE(second.has_value());
  CHECK(second.value() == value);
  CHECK(once(1) == value);
  CHECK(runs == 1);
}

}  // namespace

namespace guard_calls {
// Not in the anonymous namespace: a guard that is named by its function needs a name that is its own.
int counted_runs = 0;
int count_run(int number);
int count_run(int number) {
  ++counted_runs;
  return number * 2;
}
}  // namespace guard_calls

TEST_CASE_TEMPLATE("CORE-01: the same call once more runs nothing and gives the same value", K, Memory, Leases, AnyMemory,
                   AnyLeases) {
  ManualClock clock;
  auto store = K::make(clock);
  int runs = 0;
  auto once = idem::idempotent<"issue receipt">(
      function_of([&](int number, const std::string& text) {
        ++runs;
        return Receipt{number + runs, text};
      }),
      {.ttl = 5min}, store);

  const auto first = once.try_call(41, "a");
  CHECK(first.verdict() == Verdict::executed);
  CHECK(first.error().effect == Effect::ran);
  CHECK(first.value() == Receipt{42, "a"});
  CHECK(first.attempt() == 1);
  CHECK(first.started_at() == clock.now());
  CHECK(first.finished_at() == clock.now());
  CHECK(first.expires_at() == clock.now() + 5min);

  const auto second = once.try_call(41, "a");
  CHECK(second.verdict() == Verdict::replayed);
  CHECK(second.error().effect == Effect::ran);
  CHECK(second.value() == Receipt{42, "a"});
  CHECK(second.attempt() == 1);
  CHECK(second.expires_at() == first.expires_at());
  CHECK(second.key() == first.key());
  CHECK(once(41, "a") == Receipt{42, "a"});
  CHECK(runs == 1);

  CHECK(once(41, "b") == Receipt{43, "b"});
  CHECK(runs == 2);
}

TEST_CASE_TEMPLATE("CORE-01: a finished outcome is remembered to the end of its ttl, and not a microsecond longer", K,
                   Memory, Leases) {
  ManualClock clock;
  auto store = K::make(clock);
  int runs = 0;
  auto once = idem::idempotent<"expire">(function_of([&](int) { return ++runs; }), {.ttl = 1s}, store);
  CHECK(once(1) == 1);
  clock.advance(1s - 1us);
  CHECK(once(1) == 1);
  clock.advance(1us);
  const auto again = once.try_call(1);
  CHECK(again.verdict() == Verdict::executed);
  CHECK(again.value() == 2);
  CHECK(again.attempt() == 1);
}

TEST_CASE_TEMPLATE("T-55: results that look like nothing are replayed as what they are", K, Memory, Leases, AnyMemory,
                   AnyLeases) {
  replays<K>(0);
  replays<K>(false);
  replays<K>(std::string());
  replays<K>(std::vector<int>());
  replays<K>(std::optional<int>());
  replays<K>(std::optional<std::optional<int>>(std::optional<int>()));
  replays<K>(Receipt{});
  replays<K>(Parsed(ParseError{0}));
  replays<K>(Parsed(0));
}

TEST_CASE_TEMPLATE("T-55: a function that gives nothing is replayed as having given nothing", K, Memory, Leases, AnyMemory,
                   AnyLeases) {
  ManualClock clock;
  auto store = K::make(clock);
  int runs = 0;
  auto once = idem::idempotent<"nothing">(function_of([&](int) { ++runs; }), store);
  CHECK(once.try_call(1).verdict() == Verdict::executed);
  const auto second = once.try_call(1);
  CHECK(second.verdict() == Verdict::replayed);
  CHECK(second.has_value());
  once(1);
  CHECK(runs == 1);
}

TEST_CASE("T-60: options that are given leave the others as they are") {
  const idem::Options defaults;
  const idem::Options options{.ttl = 5min};
  CHECK(options.ttl == idem::Duration(5min));
  CHECK(options.on_duplicate == idem::OnDuplicate::return_stored);
  CHECK(options.on_failure == idem::OnFailure::unlock);
  CHECK(options.on_in_doubt == idem::OnInDoubt::report);
  CHECK(options.on_conflict == idem::OnConflict::ignore);
  CHECK(options.on_store_error == idem::OnStoreError::fail_closed);
  CHECK(options.on_unrecorded == idem::OnUnrecorded::return_value);
  CHECK(options.wait_timeout == idem::Duration(10s));
  CHECK(options.wait_limit == idem::forever);
  CHECK(options.lease == idem::Duration(30s));
  CHECK(options.max_result_bytes == std::size_t{1} << 20);
  CHECK(options.version == 1);
  CHECK(options.scope.empty());
  CHECK(defaults.ttl == idem::Duration(24h));
}

TEST_CASE("TIM-09: options that make no sense are refused when the guard is made") {
  const auto make = [](idem::Options options) { idem::idempotent<"refused">(
      function_of([](int a) { return a; }), options); };
  CHECK_THROWS_AS(make({.ttl = 0s}), std::invalid_argument);
  CHECK_THROWS_AS(make({.ttl = -1s}), std::invalid_argument);
  CHECK_THROWS_AS(make({.ttl = std::chrono::hours::max()}), std::invalid_argument);
  CHECK_THROWS_AS(make({.wait_timeout = -1s}), std::invalid_argument);
  CHECK_THROWS_AS(make({.wait_limit = 0s}), std::invalid_argument);
  CHECK_THROWS_AS(make({.lease = 0s}), std::invalid_argument);
  CHECK_THROWS_AS(make({.version = 0}), std::invalid_argument);
  CHECK_NOTHROW(make({.ttl = idem::forever, .wait_timeout = 0s}));
}

TEST_CASE_TEMPLATE("CORE-15: a key chosen by hand that says nothing is refused, not run", K, Memory, Leases) {
  ManualClock clock;
  auto store = K::make(clock);
  int runs = 0;
  auto once = idem::idempotent<"empty key">(function_of([&](const std::string&) { return ++runs; }), store,
                                            idem::key_by([](const std::string& id) { return id; }));
  const auto outcome = once.try_call("");
  CHECK(outcome.verdict() == Verdict::invalid_key);
  CHECK(outcome.error().effect == Effect::not_run);
  CHECK_FALSE(outcome.has_value());
  CHECK(throws_exactly<idem::SerializationError>([&] { return once(""); }));
  CHECK(effect_of([&] { return once(""); }) == Effect::not_run);
  CHECK(runs == 0);
  CHECK(once("evt_1") == 1);

  auto optional = idem::idempotent<"absent key">(function_of([&](std::optional<int>) { return ++runs; }), store,
                                                 idem::key_by([](std::optional<int> id) { return id; }));
  CHECK(optional.try_call(std::nullopt).verdict() == Verdict::invalid_key);
  CHECK(runs == 1);
}

TEST_CASE_TEMPLATE("KEY-03: arguments without a key are refused, whatever the options say", K, Memory, Leases) {
  ManualClock clock;
  auto store = K::make(clock);
  int runs = 0;
  auto once = idem::idempotent<"not a number">(function_of([&](double) { return ++runs; }),
                                               {.on_store_error = idem::OnStoreError::run_unguarded}, store);
  const auto outcome = once.try_call(std::numeric_limits<double>::quiet_NaN());
  CHECK(outcome.verdict() == Verdict::invalid_key);
  CHECK(outcome.error().effect == Effect::not_run);
  CHECK_FALSE(outcome.key().valid());
  CHECK(throws_exactly<idem::SerializationError>([&] { return once.key(std::numeric_limits<double>::quiet_NaN()); }));

  auto throwing = idem::idempotent<"throwing choice">(
      function_of([&](int) { return ++runs; }), store,
      idem::key_by([](int) -> int { throw std::runtime_error("no id"); }));
  CHECK(throwing.try_call(1).verdict() == Verdict::invalid_key);
  CHECK(runs == 0);
}

TEST_CASE_TEMPLATE("T-45: the key is made once, before the function can change its argument", K, Memory, Leases) {
  ManualClock clock;
  auto store = K::make(clock);
  int runs = 0;
  auto once = idem::idempotent<"mutates">(
      function_of([&](std::vector<int>& items) {
        ++runs;
        items.push_back(runs);
        return items.size();
      }),
      store, idem::key_by([](const std::vector<int>& items) { return items; }));
  std::vector<int> items{1, 2};
  CHECK(once(items) == 3);
  CHECK(items == std::vector<int>{1, 2, 1});
  std::vector<int> same{1, 2};
  CHECK(once.try_call(same).verdict() == Verdict::replayed);
  CHECK(same == std::vector<int>{1, 2});
  CHECK(runs == 1);
}

TEST_CASE_TEMPLATE("T-25: keys that look like each other's helpers are keys of their own", K, Memory, Leases) {
  ManualClock clock;
  auto store = K::make(clock);
  int runs = 0;
  auto once = idem::idempotent<"spaces">(function_of([&](const std::string&) { return ++runs; }), store);
  CHECK(once("key") == 1);
  CHECK(once("key:lock") == 2);
  CHECK(once("key@1") == 3);
  CHECK(once("key") == 1);
  CHECK(runs == 3);
}

TEST_CASE_TEMPLATE("T-25: a duplicate stops before anything of the function's own", K, Memory, Leases) {
  ManualClock clock;
  auto store = K::make(clock);
  int touched = 0;
  struct Counting {
    int* touched;
    int operator()(int number) const {
      ++*touched;
      return number;
    }
  };
  auto once = idem::idempotent<"untouched">(Counting{&touched}, store);
  static_cast<void>(once(1));
  for (int i = 0; i < 5; ++i) static_cast<void>(once(1));
  CHECK(touched == 1);
}

TEST_CASE("T-51: two guards with other names, versions or scopes never share a call") {
  ManualClock clock;
  auto store = Memory::make(clock);
  const auto function = [](int number) { return number; };
  auto a = idem::idempotent<"a">(function, store);
  auto b = idem::idempotent<"b">(function, store);
  auto second = idem::idempotent<"a">(function, {.version = 2}, store);
  auto scoped = idem::idempotent<"a">(function, {.scope = "tenant"}, store);
  const idem::Key keys[] = {a.key(1), b.key(1), second.key(1), scoped.key(1)};
  for (const idem::Key& x : keys) {
    for (const idem::Key& y : keys) CHECK((x == y) == (&x == &y));
  }
  CHECK(a.try_call(1).verdict() == Verdict::executed);
  CHECK(b.try_call(1).verdict() == Verdict::executed);
  CHECK(second.try_call(1).verdict() == Verdict::executed);
  CHECK(scoped.try_call(1).verdict() == Verdict::executed);
}

TEST_CASE("KEY-14: scope, name and arguments never run into each other") {
  ManualClock clock;
  auto store = Memory::make(clock);
  const auto function = [](const std::string& text) { return text; };
  auto ab = idem::idempotent<"c">(function, {.scope = "ab"}, store);
  auto a = idem::idempotent<"bc">(function, {.scope = "a"}, store);
  auto none = idem::idempotent<"abc">(function, store);
  CHECK_FALSE(ab.key("x") == a.key("x"));
  CHECK_FALSE(ab.key("x") == none.key("x"));
  auto tenant_a = idem::idempotent<"charge">(function, {.scope = "A"}, store);
  auto tenant_b = idem::idempotent<"charge">(function, {.scope = "B"}, store);
  CHECK(tenant_a.try_call("order 1").verdict() == Verdict::executed);
  CHECK(tenant_b.try_call("order 1").verdict() == Verdict::executed);
}

TEST_CASE("a guard is a handle: copies share the callable, the options and the store") {
  guard_calls::counted_runs = 0;
  auto once = idem::idempotent<guard_calls::count_run>({.ttl = 5min});
  const auto copy = once;
  CHECK(once(21) == 42);
  CHECK(copy.try_call(21).verdict() == Verdict::replayed);
  CHECK(guard_calls::counted_runs == 1);
  // The arguments are converted to the parameters' types first.
  CHECK(copy.try_call(short{21}).verdict() == Verdict::replayed);
}

TEST_CASE("a store is borrowed, owned or shared, as it is given") {
  ManualClock clock;
  const auto function = [](int number) { return number; };
  auto shared = std::make_shared<idem::MemoryStore>();
  auto borrowed = idem::idempotent<"one store">(function, *shared);
  auto sharing = idem::idempotent<"one store">(function, shared);
  auto owning = idem::idempotent<"one store">(function, Memory::make(clock));
  CHECK(borrowed.try_call(1).verdict() == Verdict::executed);
  CHECK(sharing.try_call(1).verdict() == Verdict::replayed);
  CHECK(owning.try_call(1).verdict() == Verdict::executed);
  idem::AnyGuard<int(int)> any = sharing;
  CHECK(any.try_call(1).verdict() == Verdict::replayed);
  CHECK(any(1) == 1);
}

TEST_CASE_TEMPLATE("find looks without running, forget lets the next call run", K, Memory, Leases, AnyMemory, AnyLeases) {
  ManualClock clock;
  auto store = K::make(clock);
  int runs = 0;
  auto once = idem::idempotent<"looked up">(function_of([&](int) { return Receipt{++runs, "r"}; }), {.ttl = 1h}, store);
  CHECK_FALSE(once.find(1).has_value());
  CHECK_FALSE(once.forget(1));
  static_cast<void>(once(1));
  auto found = once.find(1);
  REQUIRE(found.has_value());
  CHECK(found->verdict() == Verdict::replayed);
  CHECK(found->value() == Receipt{1, "r"});
  CHECK(found->key() == once.key(1));
  CHECK(found->expires_at() == clock.now() + 1h);
  CHECK(once.forget(1));
  CHECK_FALSE(once.find(1).has_value());
  CHECK(once(1) == Receipt{2, "r"});

  auto claim = hold(store, once.key(7));
  CHECK(once.find(7)->verdict() == Verdict::in_progress);
  CHECK_FALSE(once.forget(7));
  { const idem::Claim dropped = std::move(claim); }
  CHECK(once.find(7)->verdict() == Verdict::in_doubt);
  CHECK(once.forget(7));
  CHECK(once(7) == Receipt{3, "r"});
}

TEST_CASE("a Context may stand anywhere among the parameters and is no argument") {
  ManualClock clock;
  auto store = Leases::make(clock);
  std::string derived;
  std::uint64_t token = 0;
  auto middle = idem::idempotent<"context">(
      function_of([&](int a, idem::Context& run, int b) {
        derived = run.derived_key("gateway");
        token = run.fencing_token();
        CHECK(run.attempt() == 1);
        REQUIRE(run.deadline().has_value());
        CHECK(*run.deadline() == clock.now() + 30s);
        CHECK_FALSE(run.lease_lost());
        return a - b;
      }),
      store);
  auto without = idem::idempotent<"context">(function_of([&](int a, int b) { return a - b; }), store);
  CHECK(middle(3, 1) == 2);
  CHECK(token > 0);
  CHECK(derived.size() == 36);
  CHECK(derived == without.key(3, 1).derived("gateway"));
  CHECK_FALSE(derived == without.key(3, 1).derived("other"));
  CHECK(without.try_call(3, 1).verdict() == Verdict::replayed);
}
