// Options and extras: how they may be written, and what is refused when the guard is made.
#include <idem/idem.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <cstdint>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

namespace options {

using namespace std::chrono_literals;
using idem::Duration;
using idem::Options;

int charge(int cents) {
  return cents;
}
const auto lambda = [](int cents) { return cents; };

/// What a duplicate gets shows whether the options were taken.
template <class Guard>
bool raises(const Guard& guard) {
  guard(1);
  return guard.try_call(1).verdict() == idem::Verdict::duplicate;
}

TEST_CASE("options may be left out, be {}, name some fields, or be a variable") {
  CHECK_FALSE(raises(idem::idempotent<charge>()));
  CHECK_FALSE(raises(idem::idempotent<charge>({})));
  CHECK_FALSE(raises(idem::idempotent<charge>({.ttl = 5min})));
  CHECK_FALSE(raises(idem::idempotent<"charge">(lambda)));
  CHECK_FALSE(raises(idem::idempotent<"charge">(lambda, {})));
  CHECK_FALSE(raises(idem::idempotent<"charge">(lambda, {.ttl = 5min})));

  CHECK(raises(idem::idempotent<charge>({.on_duplicate = idem::OnDuplicate::raise})));
  CHECK(raises(idem::idempotent<"charge">(lambda, {.ttl = 24h, .on_duplicate = idem::OnDuplicate::raise})));
  Options variable;
  variable.on_duplicate = idem::OnDuplicate::raise;
  const Options fixed = variable;
  CHECK(raises(idem::idempotent<charge>(variable)));
  CHECK(raises(idem::idempotent<charge>(fixed)));
  Options moved = variable;
  CHECK(raises(idem::idempotent<charge>(std::move(moved))));
  CHECK(raises(idem::idempotent<"charge">(lambda, variable)));
  CHECK(raises(idem::idempotent<"charge">(lambda, fixed)));
  CHECK(raises(idem::idempotent<"charge">(lambda, Options{.on_duplicate = idem::OnDuplicate::raise})));
}

TEST_CASE("extras stand behind options or without them, in any order") {
  idem::MemoryStore store;
  const Options variable{.on_duplicate = idem::OnDuplicate::raise};
  const auto by = idem::key_by([](int cents) { return cents; });
  CHECK(raises(idem::idempotent<charge>({.on_duplicate = idem::OnDuplicate::raise}, idem::key_from<0>)));
  CHECK(raises(idem::idempotent<charge>(variable, by, idem::MemoryStore{})));
  CHECK(raises(idem::idempotent<"a">(lambda, variable, by, store)));
  CHECK(raises(idem::idempotent<"b">(lambda, variable, store, by)));
  CHECK(raises(
      idem::idempotent<"c">(lambda, {.on_duplicate = idem::OnDuplicate::raise}, idem::without_result, store, by)));
  CHECK(raises(idem::idempotent<"d">(lambda, by, idem::without_result, store)));
  CHECK(raises(idem::idempotent<"e">(lambda, store, idem::without_result)));
  CHECK(raises(idem::idempotent<charge>(idem::without_result)));
  CHECK(raises(idem::idempotent<charge>(store, idem::without_result, idem::key_from<0>)));
  CHECK(store.stats().completed == 6);
}

TEST_CASE("every observer is told, however many there are") {
  int first = 0;
  int second = 0;
  const auto guard =
      idem::idempotent<"observed">(lambda, idem::observe([&](const idem::Event&) { ++first; }), idem::MemoryStore{},
                                   idem::observe([&](const idem::Event&) { ++second; }));
  guard(1);
  CHECK(first > 0);
  CHECK(first == second);
}

/// An extra of another header.
struct OwnExtra {
  using idem_extra = idem::extra::result_keeping;
};
static_assert(idem::Extra<OwnExtra>);
static_assert(idem::Extra<idem::MemoryStore&>);
static_assert(idem::Extra<std::shared_ptr<idem::MemoryStore>>);
static_assert(!idem::Extra<int>);
static_assert(!idem::Extra<Options>);

TEST_CASE("another header's extra has the effect of its role") {
  CHECK(raises(idem::idempotent<"own">(lambda, OwnExtra{})));
}

TEST_CASE("T-60: what isn't named keeps its default") {
  const Options none;
  CHECK(none.ttl == Duration(24h));
  CHECK(none.on_duplicate == idem::OnDuplicate::return_stored);
  CHECK(none.on_failure == idem::OnFailure::unlock);
  CHECK(none.on_in_doubt == idem::OnInDoubt::report);
  CHECK(none.on_conflict == idem::OnConflict::ignore);
  CHECK(none.on_store_error == idem::OnStoreError::fail_closed);
  CHECK(none.on_unrecorded == idem::OnUnrecorded::return_value);
  CHECK(none.wait_timeout == Duration(10s));
  CHECK(none.wait_limit == idem::forever);
  CHECK(none.lease == Duration(30s));
  CHECK(none.max_result_bytes == std::size_t{1} << 20);
  CHECK(none.version == 1);
  CHECK(none.scope.empty());
  const Options some{.ttl = 5min, .scope = "tenant"};
  CHECK(some.wait_timeout == none.wait_timeout);
  CHECK(some.version == 1);
}

TEST_CASE("the order of the options is part of the interface") {
  const Options all{1h,
                    idem::OnDuplicate::wait,
                    idem::OnFailure::lock,
                    idem::OnInDoubt::rerun,
                    idem::OnConflict::raise,
                    idem::OnStoreError::run_unguarded,
                    idem::OnUnrecorded::raise,
                    1s,
                    2s,
                    3s,
                    4,
                    5,
                    "scope"};
  CHECK(all.wait_timeout == Duration(1s));
  CHECK(all.wait_limit == Duration(2s));
  CHECK(all.lease == Duration(3s));
  CHECK(all.max_result_bytes == 4);
  CHECK(all.version == 5);
  CHECK(all.scope == "scope");
}

template <class Change>
bool refused(Change change) {
  Options changed;
  change(changed);
  try {
    static_cast<void>(idem::idempotent<charge>(changed));
  } catch (const std::invalid_argument& error) {
    return std::string(error.what()).starts_with("idem: ");
  }
  return false;
}

TEST_CASE("T-26 T-76: spans that are zero, negative or too long are refused when the guard is made") {
  const std::chrono::hours too_long((std::numeric_limits<std::int64_t>::max)() / 1000);
  const Duration bad[] = {0s, -1ns, -5min, too_long};
  for (const Duration span : bad) {
    CHECK(refused([&](Options& o) { o.ttl = span; }));
    CHECK(refused([&](Options& o) { o.wait_limit = span; }));
    CHECK(refused([&](Options& o) { o.lease = span; }));
  }
  CHECK_FALSE(refused([](Options& o) { o.wait_timeout = 0s; }));
  CHECK(refused([](Options& o) { o.wait_timeout = -1ns; }));
  CHECK(refused([&](Options& o) { o.wait_timeout = too_long; }));
  for (const Duration span : {Duration(1ns), Duration(24h), idem::forever}) {
    CHECK_FALSE(refused([&](Options& o) { o.ttl = o.wait_timeout = o.wait_limit = o.lease = span; }));
  }
}

TEST_CASE("a version of 0, an empty secret and a previous secret that is the present one are refused") {
  CHECK(refused([](Options& o) { o.version = 0; }));
  CHECK_THROWS_AS(idem::idempotent<charge>(idem::keyed_with("")), std::invalid_argument);
  CHECK_THROWS_AS(idem::idempotent<charge>(idem::keyed_with("0123456789abcdef", {.previous = "0123456789abcdef"})),
                  std::invalid_argument);
  CHECK_NOTHROW(idem::idempotent<charge>(idem::keyed_with("0123456789abcdef", {.previous = "another secret..."})));
}

}  // namespace options
