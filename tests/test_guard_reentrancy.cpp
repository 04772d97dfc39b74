// Calls that stand further up their own stack, calls within calls, and cycles across threads.
#include <doctest/doctest.h>

#include "support/guard_support.hpp"
#include "support/hook_store.hpp"

#include <atomic>
#include <barrier>
#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <thread>

using namespace guard_support;
using namespace std::chrono_literals;
using idem::Effect;
using idem::EventKind;
using idem::OnDuplicate;
using idem::Verdict;

TEST_CASE_TEMPLATE("MEM-04 CXX-09: a function that calls itself with the same key is told so at once, under every policy", K,
                   Memory, Leases, AnyMemory, AnyLeases) {
  for (const OnDuplicate policy : {OnDuplicate::return_stored, OnDuplicate::wait, OnDuplicate::raise}) {
    ManualClock clock;
    auto store = K::make(clock);
    Events events;
    idem::Verdict inside{};
    idem::Effect effect{};
    bool thrown = false;
    std::function<void()> again;
    auto once = idem::idempotent<"itself">(
        function_of([&](int number) {
          again();
          return number;
        }),
        {.on_duplicate = policy, .on_in_doubt = idem::OnInDoubt::rerun}, store, idem::observe(events));
    again = [&] {
      const auto inner = once.try_call(1);
      inside = inner.verdict();
      effect = inner.error().effect;
      thrown = throws_exactly<idem::ReentrantCallError>([&] { return once(1); });
    };
    CHECK(once(1) == 1);
    CHECK(inside == Verdict::reentrant);
    CHECK(effect == Effect::unknown);
    CHECK(thrown);
    CHECK(events.count(EventKind::reentrant) == 2);
    CHECK(events.count(EventKind::waiting) == 0);
  }
}

TEST_CASE_TEMPLATE("CXX-09: A(k1) calls B(k2) calls A(k1): the innermost is told, whatever handle or copy it goes through", K,
                   Memory, Leases, AnyLeases) {
  ManualClock clock;
  auto store = K::make(clock);
  idem::AnyStore view(store);
  idem::Verdict inside{};
  std::function<int()> b;
  auto a_once = idem::idempotent<"A">(
      function_of([&](int) { return b(); }), {.on_duplicate = OnDuplicate::wait}, store);
  auto a_again = idem::idempotent<"A">(
      function_of([&](int) { return b(); }), {.on_duplicate = OnDuplicate::wait}, view);
  auto b_once = idem::idempotent<"B">(
      function_of([&](int) {
        const auto copy = a_again;
        inside = copy.try_call(1).verdict();
        return 5;
      }),
      store);
  b = [&] { return b_once(2); };
  CHECK(a_once(1) == 5);
  CHECK(inside == Verdict::reentrant);
  CHECK(a_once(1) == 5);
  CHECK(b_once(2) == 5);
}

TEST_CASE_TEMPLATE("CXX-09: a recover_with that makes the call it is asked about is told so", K, Memory, Leases) {
  ManualClock clock;
  auto store = K::make(clock);
  idem::Verdict inside{};
  std::function<void()> again;
  auto once = idem::idempotent<"asks itself">(function_of([](int number) { return number; }), store,
                                              idem::recover_with([&](int) -> std::optional<int> {
                                                again();
                                                return 3;
                                              }));
  again = [&] { inside = once.try_call(1).verdict(); };
  leave_in_doubt(store, once.key(1));
  CHECK(once(1) == 3);
  CHECK(inside == Verdict::reentrant);
}

TEST_CASE_TEMPLATE("CXX-09: a cycle across threads ends by the waiting limit", K, Memory, Leases) {
  ManualClock clock;
  auto store = K::make(clock);
  // Both hold their key before either calls the other's function.
  std::barrier both(2);
  std::atomic<int> timed_out{0};
  std::atomic<int> waiting{0};
  std::function<int(int)> first;
  std::function<int(int)> second;
  const auto pass_time = [&](const idem::Event& event) {
    // Time passes once both wait, so that neither waits for nothing.
    if (event.kind == EventKind::waiting && waiting.fetch_add(1) == 1) clock.advance(6s);
  };
  const auto call_other = [&](std::function<int(int)>& other, int number) {
    both.arrive_and_wait();
    try {
      return other(number);
    } catch (const idem::LockTimeoutError&) {
      timed_out.fetch_add(1);
      return -1;
    }
  };
  auto a = idem::idempotent<"cycle A">(
      function_of([&](int number) { return call_other(second, number); }), {.wait_timeout = 5s}, store,
                                       idem::observe(pass_time));
  auto b = idem::idempotent<"cycle B">(
      function_of([&](int number) { return call_other(first, number); }), {.wait_timeout = 5s}, store,
                                       idem::observe(pass_time));
  first = [&](int number) { return a(number); };
  second = [&](int number) { return b(number); };
  std::thread one([&] { CHECK_NOTHROW(a(1)); });
  std::thread two([&] { CHECK_NOTHROW(b(1)); });
  one.join();
  two.join();
  CHECK(timed_out.load() >= 1);
}

TEST_CASE_TEMPLATE("T-46: guarded calls within guarded calls on one store keep apart", K, Memory, Leases) {
  ManualClock clock;
  auto store = K::make(clock);
  std::function<int(int)> self;
  int runs = 0;
  auto factorial = idem::idempotent<"factorial">(
      function_of([&](int number) {
        ++runs;
        return number <= 1 ? 1 : number * self(number - 1);
      }),
      store);
  self = [&](int number) { return factorial(number); };
  CHECK(factorial(6) == 720);
  CHECK(runs == 6);
  CHECK(factorial(6) == 720);
  CHECK(factorial(4) == 24);
  CHECK(factorial(7) == 5040);
  CHECK(runs == 7);
}

TEST_CASE_TEMPLATE("CXX-16: an observer, a copied result and its destructor may use the store that calls them", K, Memory,
                   Leases) {
  ManualClock clock;
  auto store = K::make(clock);
  auto other = idem::idempotent<"from within">(function_of([](int number) { return number; }), store);
  int depth = 0;
  auto once = idem::idempotent<"watched">(function_of([](int number) { return Receipt{number, "r"}; }), store,
                                          idem::observe([&](const idem::Event&) {
                                            if (depth > 0) return;
                                            ++depth;
                                            static_cast<void>(other.try_call(1));
                                            static_cast<void>(store.stats());
                                            static_cast<void>(store.find(other.key(1)));
                                            --depth;
                                          }));
  CHECK(once(1).number == 1);
  CHECK(once(1).number == 1);
  CHECK(other.find(1).has_value());
}

namespace {

/// Uses a store whenever it's copied or destroyed.
struct Meddler {
  static inline std::function<void()> meddle = {};
  int value = 0;

  explicit Meddler(int held) : value(held) {}
  Meddler(const Meddler& other) : value(other.value) { act(); }
  Meddler(Meddler&& other) noexcept : value(other.value) { act(); }
  Meddler& operator=(const Meddler&) = default;
  ~Meddler() { act(); }
  static void act() {
    static thread_local bool acting = false;
    if (acting || !meddle) return;
    acting = true;
    meddle();
    acting = false;
  }
};

}  // namespace

TEST_CASE("CXX-16: results that use the store when they are copied or destroyed don't deadlock it") {
  ManualClock clock;
  auto store = Memory::make(clock);
  auto other = idem::idempotent<"meddled with">(function_of([](int number) { return number; }), store);
  int next = 0;
  Meddler::meddle = [&] {
    static_cast<void>(other.try_call(++next));
    static_cast<void>(store.stats());
    static_cast<void>(store.purge({}));
  };
  auto once = idem::idempotent<"meddler">(function_of([](int number) { return Meddler(number); }), {.ttl = 1s}, store);
  CHECK(once(1).value == 1);
  CHECK(once(1).value == 1);
  CHECK(once.forget(1));
  CHECK(once(1).value == 1);
  clock.advance(2s);
  CHECK(once(1).value == 1);
  CHECK(store.clear() >= 1);
  CHECK(next > 0);
  Meddler::meddle = {};
}
