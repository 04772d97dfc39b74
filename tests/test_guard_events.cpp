// What observers hear, and the counters made of it.
#include <doctest/doctest.h>

#include "support/guard_support.hpp"
#include "support/hook_store.hpp"

#include <chrono>
#include <stdexcept>
#include <string>
#include <vector>

using namespace guard_support;
using namespace std::chrono_literals;
using idem::EventKind;
using idem::Verdict;

TEST_CASE_TEMPLATE("observe: hears each transition and each answer once, in order", K, Memory, Leases, AnyLeases) {
  ManualClock clock;
  auto store = K::make(clock);
  Events events;
  Events second_observer;
  auto once = idem::idempotent<"observed">(
      function_of([](int number) {
        if (number == 2) throw std::runtime_error("retryable");
        if (number == 3) throw 42;
        return number;
      }),
      {.wait_timeout = 0s}, store, idem::observe(events), idem::observe(second_observer));
  static_cast<void>(once.try_call(1));
  static_cast<void>(once.try_call(1));
  static_cast<void>(once.try_call(2));
  static_cast<void>(once.try_call(3));
  static_cast<void>(once.try_call(3));
  static_cast<void>(once.forget(3));
  static_cast<void>(once.forget(3));
  const auto running = hold(store, once.key(4));
  static_cast<void>(once.try_call(4));
  const std::vector expected{EventKind::claimed,  EventKind::completed, EventKind::replayed,  EventKind::claimed,
                             EventKind::released, EventKind::claimed,   EventKind::abandoned, EventKind::in_doubt,
                             EventKind::forgotten, EventKind::in_progress};
  CHECK(events.kinds() == expected);
  CHECK(second_observer.kinds() == expected);
}

TEST_CASE_TEMPLATE("observe: an event names the key, the token and the attempt", K, Memory, Leases) {
  ManualClock clock;
  auto store = K::make(clock);
  std::vector<std::string> texts;
  std::vector<std::uint64_t> epochs;
  std::vector<std::uint32_t> attempts;
  std::uint64_t token = 0;
  auto once = idem::idempotent<"named events">(
      function_of([&](int number, idem::Context& run) {
        token = run.fencing_token();
        return number;
      }),
      {.on_in_doubt = idem::OnInDoubt::rerun}, store, idem::observe([&](const idem::Event& event) {
        texts.push_back(event.key.text());
        epochs.push_back(event.epoch);
        attempts.push_back(event.attempt);
      }));
  leave_in_doubt(store, once.key(1));
  CHECK(once(1) == 1);
  REQUIRE(texts.size() == 2);
  for (std::size_t i = 0; i < texts.size(); ++i) {
    CHECK(texts[i] == once.key(1).text());
    CHECK(epochs[i] == token);
    CHECK(attempts[i] == 2);
  }
}

TEST_CASE_TEMPLATE("observe: an observer that throws changes nothing for anybody", K, Memory, Leases) {
  ManualClock clock;
  auto store = K::make(clock);
  Events events;
  auto once = idem::idempotent<"throwing observer">(function_of([](int number) { return number; }), store,
                                                    idem::observe([](const idem::Event&) { throw std::runtime_error("no"); }),
                                                    idem::observe(events));
  CHECK(once.try_call(1).verdict() == Verdict::executed);
  CHECK(once.try_call(1).verdict() == Verdict::replayed);
  CHECK(events.kinds() == std::vector{EventKind::claimed, EventKind::completed, EventKind::replayed});
}

TEST_CASE("T-65: counters count by kind, together for all guards, and print for Prometheus") {
  ManualClock clock;
  auto store = Leases::make(clock);
  const idem::Counters counters;
  auto a = idem::idempotent<"a">(function_of([](int number) { return number; }), store, idem::observe(counters));
  auto b = idem::idempotent<"b">(function_of([](int number) { return number; }), store, idem::observe(counters));
  CHECK(a(1) + b(1) + a(1) + b(1) + b(2) == 6);
  CHECK(counters.count(EventKind::claimed) == 3);
  CHECK(counters.count(EventKind::completed) == 3);
  CHECK(counters.count(EventKind::replayed) == 2);
  CHECK(counters.count(EventKind::stale) == 0);
  // A stale completion is counted when it arrives.
  auto thief = idem::idempotent<"late">(
      function_of([](int) { return 2; }), {.on_in_doubt = idem::OnInDoubt::rerun}, store);
  auto late = idem::idempotent<"late">(
      function_of([&](int) { clock.advance(31s); return elsewhere([&] { return thief(1); }); }), store,
      idem::observe(counters));
  static_cast<void>(late.try_call(1));
  CHECK(counters.count(EventKind::stale) == 1);

  const std::string text = counters.prometheus();
  CHECK(text.find("# TYPE idem_events_total counter\n") != std::string::npos);
  CHECK(text.find("idem_events_total{event=\"claimed\"} 4\n") != std::string::npos);
  CHECK(text.find("idem_events_total{event=\"stale\"} 1\n") != std::string::npos);
  CHECK(text.find("idem_events_total{event=\"store_warning\"} 0\n") != std::string::npos);
  CHECK(text.find("none") == std::string::npos);
  CHECK(counters.prometheus("shop").find("shop_events_total{event=\"replayed\"} 2\n") != std::string::npos);
}

TEST_CASE("every kind of event, verdict and effect has a name of its own") {
  std::vector<std::string> names;
  for (std::size_t kind = 1; kind < idem::event_kinds; ++kind) names.emplace_back(name_of(static_cast<EventKind>(kind)));
  for (std::size_t i = 0; i < names.size(); ++i) {
    CHECK(names[i] != "none");
    for (std::size_t j = 0; j < i; ++j) CHECK(names[i] != names[j]);
  }
  CHECK(name_of(static_cast<EventKind>(200)) == "none");
  CHECK(name_of(Verdict::corrupt) == "corrupt");
  CHECK(name_of(static_cast<Verdict>(200)) == "none");
  CHECK(name_of(idem::Effect::unknown) == "unknown");
}

#if defined(__cpp_lib_jthread)

TEST_CASE("CXX-08: losing the lease requests a stop, before or after the token was asked for") {
  for (const bool ask_first : {true, false}) {
    ManualClock clock;
    LeaseStore store = Leases::make(clock);
    bool before = true;
    bool after = false;
    bool lost = false;
    auto once = idem::idempotent<"stopped">(
        function_of([&](int number, idem::Context& run) {
          before = run.lease_lost();
          std::stop_token token;
          if (ask_first) {
            token = run.stop_token();
            before = before || token.stop_requested();
          }
          clock.advance(31s);
          CHECK(store.renew_all(30s) == 0);
          if (!ask_first) token = run.stop_token();
          after = token.stop_requested();
          lost = run.lease_lost();
          return number;
        }),
        store);
    static_cast<void>(once.try_call(1));
    CHECK_FALSE(before);
    CHECK(after);
    CHECK(lost);
  }
}

TEST_CASE("CXX-08: a function that stops in the middle leaves its key in doubt unless it says that nothing happened") {
  ManualClock clock;
  LeaseStore store = Leases::make(clock);
  struct Stopped : std::exception {};
  const auto function = [&](int number, idem::Context& run) -> int {
    clock.advance(31s);
    CHECK(store.renew_all(30s) == 0);
    if (run.stop_token().stop_requested()) throw Stopped();
    return number;
  };
  auto careful = idem::idempotent<"stops">(function, {.on_failure = idem::OnFailure::in_doubt}, store);
  CHECK_THROWS_AS(careful(1), Stopped);
  CHECK(careful.try_call(1).verdict() == Verdict::in_doubt);
  auto sure = idem::idempotent<"stops">(function, {.on_failure = idem::OnFailure::unlock}, store);
  CHECK_THROWS_AS(sure(2), Stopped);
  CHECK_FALSE(sure.find(2).has_value());
}

TEST_CASE("CXX-08: while the lease is renewed nothing is lost and no stop is requested") {
  ManualClock clock;
  LeaseStore store = Leases::make(clock);
  auto once = idem::idempotent<"renewed">(
      function_of([&](int number, idem::Context& run) {
        const std::stop_token token = run.stop_token();
        for (int i = 0; i < 10; ++i) {
          clock.advance(10s);
          CHECK(store.renew_all(30s) == 1);
        }
        CHECK_FALSE(run.lease_lost());
        CHECK_FALSE(token.stop_requested());
        return number;
      }),
      store);
  CHECK(once.try_call(1).verdict() == Verdict::executed);
}

#endif

TEST_CASE("RFT-12 TIM-06: a lease is lost at its end by the clock, before any thread of the store has said so") {
  using idem::detail::boot_micros;
  idem::detail::LeaseState unsaid;
  CHECK_FALSE(unsaid.is_lost());
  idem::detail::LeaseState lease;
  lease.sure_until(boot_micros() + 3'600'000'000);
  CHECK_FALSE(lease.is_lost());
#if defined(__cpp_lib_jthread)
  const std::stop_token asked_before = lease.token();
#endif
  lease.sure_until(boot_micros());
  CHECK(lease.is_lost());
  // What a function was told stays so, whatever a renewal that comes late says.
  lease.sure_until(boot_micros() + 3'600'000'000);
  CHECK(lease.is_lost());
#if defined(__cpp_lib_jthread)
  CHECK(lease.token().stop_requested());
  CHECK(asked_before.stop_requested());
#endif
}
