// Many callers of one key at once: one of them runs, and the others are told the same.
#include <doctest/doctest.h>

#include "support/guard_support.hpp"

#include <atomic>
#include <barrier>
#include <latch>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace guard_support;
using idem::OnDuplicate;
using idem::Verdict;

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
