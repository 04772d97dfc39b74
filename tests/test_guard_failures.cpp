// What a failure of the function says about its effect: on_failure, classify_failure, classify_result.
#include <doctest/doctest.h>

#include "support/guard_support.hpp"
#include "support/hook_store.hpp"

#include <atomic>
#include <chrono>
#include <exception>
#include <latch>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#if defined(__linux__)
#include <pthread.h>
#endif

using namespace guard_support;
using namespace std::chrono_literals;
using idem::Effect;
using idem::EventKind;
using idem::Failure;
using idem::OnFailure;
using idem::Verdict;

namespace {

struct Declined : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace

TEST_CASE_TEMPLATE("CORE-08: by default an exception says that nothing happened, and the next call runs", K, Memory, Leases,
                   AnyMemory, AnyLeases) {
  ManualClock clock;
  auto store = K::make(clock);
  Events events;
  int runs = 0;
  auto once = idem::idempotent<"unlock">(
      function_of([&](int) {
        if (++runs == 1) throw Declined("not now");
        return runs;
      }),
      store, idem::observe(events));
  const auto first = once.try_call(1);
  CHECK(first.verdict() == Verdict::failed);
  CHECK(first.error().effect == Effect::not_run);
  CHECK_FALSE(first.has_value());
  CHECK(throws_exactly<Declined>([&] { return first.value(); }));
  CHECK(events.kinds() == std::vector{EventKind::claimed, EventKind::released});
  CHECK_FALSE(once.find(1).has_value());
  const auto second = once.try_call(1);
  CHECK(second.verdict() == Verdict::executed);
  CHECK(second.attempt() == 1);
}

TEST_CASE_TEMPLATE("CORE-08: the first caller gets its function's own exception, unwrapped, whatever the policy", K, Memory,
                   Leases) {
  for (const OnFailure policy : {OnFailure::unlock, OnFailure::lock, OnFailure::in_doubt}) {
    ManualClock clock;
    auto store = K::make(clock);
    auto once = idem::idempotent<"own exception">(
        function_of([](int) -> int { throw Declined("mine"); }), {.on_failure = policy},
                                                  store);
    CHECK(throws_exactly<Declined>([&] { return once(1); }));
  }
}

TEST_CASE_TEMPLATE("CORE-08: under lock a failure is the outcome: kept for its ttl and replayed", K, Memory, Leases,
                   AnyMemory, AnyLeases) {
  ManualClock clock;
  auto store = K::make(clock);
  int runs = 0;
  auto once = idem::idempotent<"lock">(
      function_of([&](int) -> int {
        ++runs;
        throw std::domain_error("the card is stolen");
      }),
      {.ttl = 1h, .on_failure = OnFailure::lock}, store);
  CHECK(once.try_call(1).error().effect == Effect::ran);
  const auto again = once.try_call(1);
  CHECK(again.verdict() == Verdict::failure_replayed);
  CHECK(again.expires_at() == clock.now() + 1h);
  CHECK_THROWS_WITH_AS(once(1), "the card is stolen", std::domain_error);
  CHECK(runs == 1);
  clock.advance(1h);
  CHECK(once.try_call(1).verdict() == Verdict::failed);
  CHECK(runs == 2);
}

TEST_CASE_TEMPLATE("CORE-08: under in_doubt a failure leaves the key in doubt at once", K, Memory, Leases, AnyMemory,
                   AnyLeases) {
  ManualClock clock;
  auto store = K::make(clock);
  Events events;
  int runs = 0;
  auto once = idem::idempotent<"doubt">(
      function_of([&](int) -> int {
        ++runs;
        throw Declined("timeout");
      }),
      {.on_failure = OnFailure::in_doubt}, store, idem::observe(events));
  const auto first = once.try_call(1);
  CHECK(first.verdict() == Verdict::failed);
  CHECK(first.error().effect == Effect::unknown);
  CHECK(once.try_call(1).verdict() == Verdict::in_doubt);
  CHECK(events.kinds() == std::vector{EventKind::claimed, EventKind::abandoned, EventKind::in_doubt});
  CHECK(runs == 1);
}

TEST_CASE_TEMPLATE("CORE-08: classify_failure goes before on_failure, and sees the exception itself", K, Memory, Leases,
                   AnyMemory, AnyLeases) {
  const auto classify = [](std::exception_ptr failure) {
    try {
      std::rethrow_exception(failure);
    } catch (const std::invalid_argument&) {
      return Failure::permanent;
    } catch (const std::length_error&) {
      return Failure::retryable;
    } catch (...) {
      return Failure::in_doubt;
    }
  };
  ManualClock clock;
  auto store = K::make(clock);
  int runs = 0;
  auto once = idem::idempotent<"classified">(
      function_of([&](int kind) -> int {
        ++runs;
        if (kind == 1) throw std::invalid_argument("permanent");
        if (kind == 2) throw std::length_error("retryable");
        throw std::out_of_range("anything else");
      }),
      {.on_failure = OnFailure::unlock}, store, idem::classify_failure(classify));

  CHECK(once.try_call(1).error().effect == Effect::ran);
  CHECK(once.try_call(1).verdict() == Verdict::failure_replayed);
  CHECK(once.try_call(2).error().effect == Effect::not_run);
  CHECK(once.try_call(2).verdict() == Verdict::failed);
  CHECK(once.try_call(3).error().effect == Effect::unknown);
  CHECK(once.try_call(3).verdict() == Verdict::in_doubt);
  CHECK(runs == 4);
}

TEST_CASE_TEMPLATE("CORE-08: a classify_failure that throws leaves the key in doubt, and the exception is the function's", K,
                   Memory, Leases) {
  ManualClock clock;
  auto store = K::make(clock);
  auto once = idem::idempotent<"bad classifier">(
      function_of([](int) -> int { throw Declined("mine"); }), store,
      idem::classify_failure([](std::exception_ptr) -> Failure { throw std::logic_error("not mine"); }));
  CHECK(throws_exactly<Declined>([&] { return once(1); }));
  CHECK(once.try_call(1).verdict() == Verdict::in_doubt);
}

TEST_CASE_TEMPLATE("classify_result: a value that is a failure frees the key, is kept, or leaves it in doubt", K, Memory,
                   Leases, AnyMemory, AnyLeases) {
  ManualClock clock;
  auto store = K::make(clock);
  int runs = 0;
  auto once = idem::idempotent<"by value">(
      function_of([&](int kind) { return Receipt{kind, std::to_string(++runs)}; }), store,
                                           idem::classify_result([](const Receipt& receipt) -> std::optional<Failure> {
                                             if (receipt.number == 1) return Failure::retryable;
                                             if (receipt.number == 2) return Failure::permanent;
                                             if (receipt.number == 3) return Failure::in_doubt;
                                             if (receipt.number == 4) throw std::runtime_error("can't tell");
                                             return std::nullopt;
                                           }));
  const auto success = once.try_call(0);
  CHECK(success.verdict() == Verdict::executed);
  CHECK(success.error().effect == Effect::ran);
  CHECK(once(0) == Receipt{0, "1"});

  // Retryable: the caller has the value, the key is free.
  CHECK(once(1) == Receipt{1, "2"});
  CHECK(once(1) == Receipt{1, "3"});

  // Permanent: the value is the outcome.
  CHECK(once(2) == Receipt{2, "4"});
  const auto kept = once.try_call(2);
  REQUIRE(kept.has_value());
  CHECK(kept.value() == Receipt{2, "4"});
  CHECK(runs == 4);

  // In doubt, or nobody can tell.
  for (const int kind : {3, 4}) {
    const auto doubtful = once.try_call(kind);
    REQUIRE(doubtful.has_value());
    CHECK(doubtful.value().number == kind);
    CHECK(doubtful.error().effect == Effect::unknown);
    CHECK(once.try_call(kind).verdict() == Verdict::in_doubt);
  }
  CHECK(runs == 6);
}

TEST_CASE_TEMPLATE("CORE-10: a store that fails while a failure is recorded never masks the function's exception", K, Memory,
                   Leases) {
  for (const auto& [policy, failing] : {std::pair{OnFailure::unlock, Op::release}, std::pair{OnFailure::lock, Op::fail},
                                        std::pair{OnFailure::in_doubt, Op::abandon}}) {
    ManualClock clock;
    auto store = K::make(clock);
    HookStore<typename K::Store> broken(store, always_unreachable(failing));
    Events events;
    auto once = idem::idempotent<"masked">(
        function_of([](int) -> int { throw Declined("mine"); }), {.on_failure = policy}, broken,
                                           idem::observe(events));
    const auto outcome = once.try_call(1);
    CHECK(outcome.verdict() == Verdict::failed);
    CHECK(throws_exactly<Declined>([&] { return outcome.value(); }));
    CHECK(outcome.error().message.find("the store is down") != std::string::npos);
    const std::size_t told = events.count(EventKind::unavailable) + events.count(EventKind::unrecorded);
    CHECK(told >= 1);
    // Nothing was recorded, so that the key can't be free.
    CHECK(store.find(once.key(1)).answer != idem::Answer::absent);
    CHECK(store.find(once.key(1)).answer != idem::Answer::completed);
  }
}

TEST_CASE_TEMPLATE("T-32: what isn't a std::exception says nothing about the effect, whatever on_failure says", K, Memory,
                   Leases) {
  for (const OnFailure policy : {OnFailure::unlock, OnFailure::lock, OnFailure::in_doubt}) {
    ManualClock clock;
    auto store = K::make(clock);
    int runs = 0;
    auto once = idem::idempotent<"throws 42">(
        function_of([&](int) -> int {
          ++runs;
          throw 42;
        }),
        {.on_failure = policy}, store);
    const auto outcome = once.try_call(1);
    CHECK(outcome.verdict() == Verdict::failed);
    CHECK(outcome.error().effect == Effect::unknown);
    CHECK(once.try_call(1).verdict() == Verdict::in_doubt);
    CHECK(once.forget(1));
    CHECK_THROWS_AS(once(1), int);
    CHECK(runs == 2);
  }
}

TEST_CASE_TEMPLATE("T-38: an exception that can't be kept still reaches its caller, and isn't recorded as another", K,
                   Leases, AnyLeases) {
  ManualClock clock;
  auto store = K::make(clock);
  int runs = 0;
  auto once = idem::idempotent<"too long to keep">(
      function_of([&](int) -> int {
        ++runs;
        throw std::runtime_error(std::string(10'000, 'x'));
      }),
      {.on_failure = OnFailure::lock, .max_result_bytes = 100}, store);
  const auto first = once.try_call(1);
  CHECK(first.verdict() == Verdict::failed);
  CHECK(throws_exactly<std::runtime_error>([&] { return first.value(); }));
  // It isn't run again, and nobody is told of an exception that wasn't thrown.
  const auto second = once.try_call(1);
  CHECK(second.verdict() == Verdict::unrecorded);
  CHECK(second.error().effect == Effect::ran);
  CHECK(throws_exactly<idem::UnrecordedError>([&] { return second.value(); }));
  CHECK(runs == 1);
}

#if defined(__linux__) && defined(__GLIBC__) && defined(__GLIBCXX__)

TEST_CASE_TEMPLATE("T-32 CXX-05: a thread that ends itself inside the function leaves the key in doubt", K, Memory, Leases,
                   AnyLeases) {
  ManualClock clock;
  auto store = K::make(clock);
  auto once = idem::idempotent<"pthread_exit">(
      function_of([](int) -> int {
        ::pthread_exit(nullptr);
        return 1;
      }),
      {.on_failure = OnFailure::lock}, store, idem::classify_failure([](std::exception_ptr) { return Failure::retryable; }));
  bool passed = false;
  std::thread thread([&] {
    static_cast<void>(once.try_call(1));
    passed = true;
  });
  thread.join();
  CHECK_FALSE(passed);
  CHECK(once.try_call(1).verdict() == Verdict::in_doubt);
}

TEST_CASE_TEMPLATE("MEM-03 CXX-05: waiters of a leader that is cancelled are told that it is in doubt", K, Memory, Leases) {
  ManualClock clock;
  auto store = K::make(clock);
  constexpr int waiters = 8;
  std::latch waiting(waiters);
  std::latch running(1);
  auto once = idem::idempotent<"cancelled">(
      function_of([&](int) {
        running.count_down();
        for (;;) {
          ::pthread_testcancel();
          std::this_thread::yield();
        }
        return 1;
      }),
      {.on_duplicate = idem::OnDuplicate::wait}, store, idem::observe([&](const idem::Event& event) {
        if (event.kind == EventKind::waiting) waiting.count_down();
      }));
  pthread_t leader = {};
  const auto lead = [](void* guard) -> void* {
    static_cast<void>((*static_cast<decltype(once)*>(guard)).try_call(1));
    return nullptr;
  };
  REQUIRE(::pthread_create(&leader, nullptr, lead, &once) == 0);
  running.wait();
  std::atomic<int> in_doubt{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < waiters; ++i) {
    threads.emplace_back([&] {
      if (once.try_call(1).verdict() == Verdict::in_doubt) in_doubt.fetch_add(1);
    });
  }
  waiting.wait();
  CHECK(::pthread_cancel(leader) == 0);
  void* ended = nullptr;
  CHECK(::pthread_join(leader, &ended) == 0);
  CHECK(ended == PTHREAD_CANCELED);
  for (std::thread& thread : threads) thread.join();
  CHECK(in_doubt.load() == waiters);
}

TEST_CASE_TEMPLATE("CXX-05: a thread that is cancelled inside the store's work passes through, its key in doubt", K, Memory,
                   Leases) {
  ManualClock clock;
  auto store = K::make(clock);
  HookStore<typename K::Store> slow(store, [](Op op, const idem::Key&) {
    if (op == Op::complete) ::pthread_exit(nullptr);
    return std::optional<idem::Reply>();
  });
  int runs = 0;
  auto once = idem::idempotent<"cancelled in the store">(function_of([&](int) { return ++runs; }), slow);
  bool passed = false;
  std::thread thread([&] {
    static_cast<void>(once.try_call(1));
    passed = true;
  });
  thread.join();
  CHECK_FALSE(passed);
  CHECK(runs == 1);
  CHECK(once.try_call(1).verdict() == Verdict::in_doubt);
}

namespace {

/// A result whose copies, and whose destructor once it has been copied, are cancellation points.
struct Cancelled {
  Cancelled() = default;
  Cancelled(const Cancelled&) noexcept(false) : copied(true) { ::pthread_testcancel(); }
  Cancelled& operator=(const Cancelled&) = delete;
  ~Cancelled() {
    if (copied) ::pthread_testcancel();
  }
  bool copied = false;
};

}  // namespace

TEST_CASE("CXX-05: copying a result into a store and destroying it there can't be cancelled") {
  idem::MemoryStore store;
  std::atomic<int> runs{0};
  auto once = idem::idempotent<"cancelled while copied">(
      function_of([&](int) {
        runs.fetch_add(1);
        ::pthread_cancel(::pthread_self());
        return Cancelled();
      }),
      store);
  const auto run = [](void* guard) -> void* {
    {
      const auto outcome = static_cast<decltype(once)*>(guard)->try_call(1);
      if (outcome.verdict() != Verdict::executed) return guard;
    }
    static_cast<void>(static_cast<decltype(once)*>(guard)->forget(1));
    ::pthread_testcancel();
    return guard;
  };
  pthread_t thread = {};
  REQUIRE(::pthread_create(&thread, nullptr, run, &once) == 0);
  void* ended = nullptr;
  CHECK(::pthread_join(thread, &ended) == 0);
  CHECK(ended == PTHREAD_CANCELED);
  CHECK(runs.load() == 1);
  CHECK(store.stats().records == 0);
}

#endif
