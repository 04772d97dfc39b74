// Runs whose effect is unknown: reported, asked about, run again, resolved; and owners that come too late.
#include <doctest/doctest.h>

#include "support/guard_support.hpp"
#include "support/hook_store.hpp"

#include <chrono>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

using namespace guard_support;
using namespace std::chrono_literals;
using idem::Answer;
using idem::Effect;
using idem::EventKind;
using idem::OnInDoubt;
using idem::OnUnrecorded;
using idem::Verdict;

TEST_CASE_TEMPLATE("rerun: a call in doubt runs again with a higher fencing token and the next attempt", K, Memory, Leases,
                   AnyMemory, AnyLeases) {
  ManualClock clock;
  auto store = K::make(clock);
  std::vector<std::uint64_t> tokens;
  std::vector<std::uint32_t> attempts;
  Events events;
  auto once = idem::idempotent<"rerun">(
      function_of([&](int, idem::Context& run) {
        tokens.push_back(run.fencing_token());
        attempts.push_back(run.attempt());
        return Receipt{7, "again"};
      }),
      {.on_in_doubt = OnInDoubt::rerun}, store, idem::observe(events));
  const idem::TimePoint first_seen = clock.now();
  std::uint64_t lost = 0;
  {
    idem::Claim claim = hold(store, once.key(1));
    lost = claim.context().fencing_token();
  }
  clock.advance(1h);
  const auto outcome = once.try_call(1);
  CHECK(outcome.verdict() == Verdict::executed);
  CHECK(outcome.attempt() == 2);
  CHECK(outcome.started_at() == first_seen);
  CHECK(attempts == std::vector<std::uint32_t>{2});
  REQUIRE(tokens.size() == 1);
  CHECK(tokens[0] > lost);
  CHECK(events.kinds() == std::vector{EventKind::taken_over, EventKind::completed});
  CHECK(once.try_call(1).verdict() == Verdict::replayed);
}

TEST_CASE_TEMPLATE("recover_with: a value that was found out is recorded and replayed, the function doesn't run", K, Memory,
                   Leases, AnyMemory, AnyLeases) {
  ManualClock clock;
  auto store = K::make(clock);
  int runs = 0;
  int questions = 0;
  Events events;
  auto once = idem::idempotent<"recover">(
      function_of([&](int) {
        ++runs;
        return Receipt{};
      }),
      store, idem::recover_with([&](int number) -> std::optional<Receipt> {
        ++questions;
        return Receipt{number, "found"};
      }),
      idem::observe(events));
  leave_in_doubt(store, once.key(5));
  const auto outcome = once.try_call(5);
  CHECK(outcome.verdict() == Verdict::recovered);
  CHECK(outcome.error().effect == Effect::ran);
  CHECK(outcome.value() == Receipt{5, "found"});
  CHECK(once(5) == Receipt{5, "found"});
  CHECK(once.try_call(5).verdict() == Verdict::replayed);
  CHECK(questions == 1);
  CHECK(runs == 0);
  CHECK(events.count(EventKind::recovered) == 1);
  CHECK(events.count(EventKind::taken_over) == 1);
}

TEST_CASE_TEMPLATE("recover_with: nullopt says that it did not happen, and the function runs", K, Memory, Leases, AnyMemory,
                   AnyLeases) {
  ManualClock clock;
  auto store = K::make(clock);
  int runs = 0;
  auto once = idem::idempotent<"recover nothing">(function_of([&](int) { return ++runs; }), store,
                                                  idem::recover_with([](int) -> std::optional<int> { return std::nullopt; }));
  leave_in_doubt(store, once.key(1));
  const auto outcome = once.try_call(1);
  CHECK(outcome.verdict() == Verdict::executed);
  CHECK(outcome.attempt() == 2);
  CHECK(runs == 1);
  CHECK(once(1) == 1);
}

TEST_CASE_TEMPLATE("recover_with: is asked only about a doubt, never about a first call", K, Memory, Leases) {
  ManualClock clock;
  auto store = K::make(clock);
  int questions = 0;
  auto once = idem::idempotent<"not asked">(function_of([](int number) { return number; }), store,
                                            idem::recover_with([&](int) -> std::optional<int> {
                                              ++questions;
                                              return 0;
                                            }));
  CHECK(once(1) == 1);
  CHECK(once(1) == 1);
  CHECK(questions == 0);
}

TEST_CASE_TEMPLATE("recover_with: a question that throws leaves the key in doubt, and may be asked again", K, Memory, Leases,
                   AnyMemory, AnyLeases) {
  ManualClock clock;
  auto store = K::make(clock);
  int runs = 0;
  int questions = 0;
  auto once = idem::idempotent<"throwing question">(function_of([&](int) { return ++runs; }), store,
                                                    idem::recover_with([&](int) -> std::optional<int> {
                                                      if (++questions == 1) throw std::runtime_error("no answer");
                                                      return 9;
                                                    }));
  leave_in_doubt(store, once.key(1));
  const auto outcome = once.try_call(1);
  CHECK(outcome.verdict() == Verdict::in_doubt);
  CHECK(outcome.error().effect == Effect::unknown);
  CHECK(store.find(once.key(1)).answer == Answer::in_doubt);
  CHECK(once(1) == 9);
  CHECK(runs == 0);
}

TEST_CASE_TEMPLATE("recover_with: gets the Context with the new token, and a bool will do for a function without result", K,
                   Memory, Leases) {
  ManualClock clock;
  auto store = K::make(clock);
  int runs = 0;
  std::uint32_t attempt = 0;
  std::string derived;
  auto once = idem::idempotent<"question with context">(function_of([&](int) { ++runs; }), store,
                                                        idem::recover_with([&](int, idem::Context& run) {
                                                          attempt = run.attempt();
                                                          derived = run.derived_key("gateway");
                                                          return true;
                                                        }));
  leave_in_doubt(store, once.key(1));
  const auto outcome = once.try_call(1);
  CHECK(outcome.verdict() == Verdict::recovered);
  CHECK(outcome.has_value());
  CHECK(attempt == 2);
  CHECK(derived == once.key(1).derived("gateway"));
  CHECK(runs == 0);
}

TEST_CASE("recover_with: asks about an owner that vanished with its lease") {
  ManualClock clock;
  auto store = Leases::make(clock);
  auto once = idem::idempotent<"vanished">(function_of([](int number) { return number; }), {.wait_timeout = 0s}, store,
                                           idem::recover_with([](int) -> std::optional<int> { return 77; }));
  // The other process is stopped for longer than its lease.
  idem::AnyStore other(store);
  idem::Claim claim = hold(other, once.key(1));
  clock.advance(1h - 1us);
  CHECK(once.try_call(1).verdict() == Verdict::in_progress);
  clock.advance(1us);
  CHECK(once.try_call(1).verdict() == Verdict::recovered);
  CHECK(claim.complete(3) == Verdict::stale);
  CHECK(once(1) == 77);
}

TEST_CASE_TEMPLATE("CORE-03 T-04: an owner that was taken over changes nothing any more, and its caller has the value", K,
                   Leases, AnyLeases) {
  ManualClock clock;
  auto store = K::make(clock);
  auto second = idem::idempotent<"taken over">(function_of([](int) { return Receipt{2, "second"}; }),
                                               {.on_in_doubt = OnInDoubt::rerun}, store);
  Events events;
  const auto first_function = [&](int) {
    clock.advance(31s);
    const auto other = elsewhere([&] { return second.try_call(1); });
    CHECK(other.verdict() == Verdict::executed);
    return Receipt{1, "first"};
  };
  auto first = idem::idempotent<"taken over">(first_function, store, idem::observe(events));
  const auto outcome = first.try_call(1);
  CHECK(outcome.verdict() == Verdict::stale);
  CHECK(outcome.error().effect == Effect::ran);
  REQUIRE(outcome.has_value());
  CHECK(outcome.value() == Receipt{1, "first"});
  CHECK(events.count(EventKind::stale) == 1);
  CHECK(first(1) == Receipt{2, "second"});

  // With on_unrecorded = raise the caller is told by an exception.
  CHECK(second.forget(1));
  auto strict = idem::idempotent<"taken over">(first_function, {.on_unrecorded = OnUnrecorded::raise}, store);
  CHECK(throws_exactly<idem::StaleOwnerError>([&] { return strict(1); }));
  CHECK(strict.try_call(1).value() == Receipt{2, "second"});
  CHECK(second.forget(1));
  CHECK(effect_of([&] { return strict(1); }) == Effect::ran);
  CHECK(second.forget(1));
  // try_call has the value all the same.
  CHECK(strict.try_call(1).has_value());
}

TEST_CASE_TEMPLATE("CORE-03 T-04: a stale owner's failure, release and renewal leave the new owner's record alone", K, Leases,
                   AnyLeases) {
  for (const idem::OnFailure policy : {idem::OnFailure::unlock, idem::OnFailure::lock, idem::OnFailure::in_doubt}) {
    ManualClock clock;
    auto store = K::make(clock);
    auto second = idem::idempotent<"stale failure">(
        function_of([](int) { return 2; }), {.on_in_doubt = OnInDoubt::rerun}, store);
    auto first = idem::idempotent<"stale failure">(
        function_of([&](int) -> int {
          clock.advance(31s);
          CHECK(elsewhere([&] { return second(1); }) == 2);
          throw std::runtime_error("late failure");
        }),
        {.on_failure = policy}, store);
    CHECK_THROWS_WITH(first(1), "late failure");
    CHECK(first(1) == 2);
    CHECK(first.try_call(1).attempt() == 2);
  }
}

TEST_CASE("T-05: a renewal with an old token is refused and tells the function that its lease is lost") {
  ManualClock clock;
  LeaseStore store = Leases::make(clock);
  auto second = idem::idempotent<"thief">(function_of([](int) { return 2; }), {.on_in_doubt = OnInDoubt::rerun}, store);
  bool held = false;
  bool lost = false;
  auto first = idem::idempotent<"thief">(
      function_of([&](int, idem::Context& run) {
        clock.advance(10s);
        CHECK(store.renew_all(30s) == 1);
        clock.advance(25s);
        held = !run.lease_lost();
        clock.advance(5s);
        CHECK(elsewhere([&] { return second(1); }) == 2);
        CHECK(store.renew_all(30s) == 0);
        lost = run.lease_lost();
        return 1;
      }),
      store);
  CHECK(first.try_call(1).verdict() == Verdict::stale);
  CHECK(held);
  CHECK(lost);
  CHECK(first(1) == 2);
}

TEST_CASE("a late owner that nobody took over from may still complete: that ends the doubt") {
  ManualClock clock;
  LeaseStore store = Leases::make(clock);
  bool seen_in_doubt = false;
  auto probe = idem::idempotent<"late">(function_of([](int) { return 2; }), store);
  auto once = idem::idempotent<"late">(
      function_of([&](int) {
        clock.advance(31s);
        seen_in_doubt = elsewhere([&] { return probe.try_call(1); }).verdict() == Verdict::in_doubt;
        return 1;
      }),
      store);
  CHECK(once.try_call(1).verdict() == Verdict::executed);
  CHECK(seen_in_doubt);
  CHECK(probe(1) == 1);
}

TEST_CASE("RFT-10: a claim whose lease is over before the function could start doesn't start it") {
  ManualClock clock;
  LeaseStore store = Leases::make(clock);
  HookStore<LeaseStore> slow(store, {}, [&](Op op, const idem::Key&, idem::Reply&) {
    if (op == Op::claim) clock.advance(31s);
  });
  int runs = 0;
  auto once = idem::idempotent<"paused">(function_of([&](int) { return ++runs; }), slow);
  const auto outcome = once.try_call(1);
  CHECK_FALSE(outcome.has_value());
  CHECK(outcome.error().effect == Effect::not_run);
  CHECK(runs == 0);
  // It was given back by its token.
  CHECK(store.find(once.key(1)).answer == Answer::absent);
}

TEST_CASE_TEMPLATE("T-80: what somebody found out is what the next caller gets", K, Memory, Leases, AnyMemory, AnyLeases) {
  ManualClock clock;
  auto store = K::make(clock);
  int runs = 0;
  auto once = idem::idempotent<"resolved">(
      function_of([&](int) { return Receipt{++runs, "run"}; }), {.ttl = 24h}, store);
  leave_in_doubt(store, once.key(1));
  CHECK(once.try_call(1).verdict() == Verdict::in_doubt);
  CHECK(idem::resolve(store, once.key(1), 1h, "looked it up at the bank", Receipt{42, "found"}) == Answer::ok);
  const auto outcome = once.try_call(1);
  CHECK(outcome.verdict() == Verdict::replayed);
  CHECK(outcome.value() == Receipt{42, "found"});
  CHECK(outcome.expires_at() == clock.now() + 1h);
  CHECK(runs == 0);
  // A doubt that is over isn't resolved once more.
  CHECK(idem::resolve(store, once.key(1), 1h, "again", Receipt{43, "other"}) == Answer::stale);
  CHECK(idem::resolve(store, once.key(2), 1h, "never called", Receipt{}) == Answer::absent);
  const idem::Claim running = hold(store, once.key(3));
  CHECK(idem::resolve(store, once.key(3), 1h, "too early", Receipt{}) == Answer::refused);
}

TEST_CASE_TEMPLATE("T-80: a doubt that is forgotten by hand runs anew", K, Memory, Leases) {
  ManualClock clock;
  auto store = K::make(clock);
  int runs = 0;
  auto once = idem::idempotent<"forgotten doubt">(function_of([&](int) { return ++runs; }), store);
  leave_in_doubt(store, once.key(1));
  CHECK(once.forget(1));
  const auto outcome = once.try_call(1);
  CHECK(outcome.verdict() == Verdict::executed);
  CHECK(outcome.attempt() == 1);
}
