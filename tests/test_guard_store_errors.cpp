// Stores that fail: before the function runs nothing is run, after it nothing is lost and nothing becomes free.
#include <doctest/doctest.h>

#include "support/guard_support.hpp"
#include "support/hook_store.hpp"

#include <chrono>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using namespace guard_support;
using namespace std::chrono_literals;
using idem::Answer;
using idem::Effect;
using idem::EventKind;
using idem::OnStoreError;
using idem::OnUnrecorded;
using idem::Verdict;

namespace {

/// A result whose codec refuses some values.
struct Fragile {
  int value = 0;
};
struct Unreadable {
  int value = 0;
};

}  // namespace

template <>
struct idem::codec<Fragile> {
  static constexpr std::string_view shape = "guard test fragile";
  static void encode(idem::Writer& writer, const Fragile& fragile) {
    if (fragile.value < 0) throw std::runtime_error("can't be written");
    writer.write(fragile.value);
  }
  static Fragile decode(idem::Reader& reader) { return Fragile{reader.read<int>()}; }
};

template <>
struct idem::codec<Unreadable> {
  static constexpr std::string_view shape = "guard test unreadable";
  static void encode(idem::Writer& writer, const Unreadable& value) { writer.write(value.value); }
  static Unreadable decode(idem::Reader& reader) {
    // g++ warns of a result that it sees is never read.
    if (const int value = reader.read<int>(); value < 0) return {value};
    throw std::runtime_error("can't be read");
  }
};

TEST_CASE_TEMPLATE("CORE-14: a store that can't be reached at the claim means that the function isn't run", K, Memory, Leases) {
  ManualClock clock;
  auto store = K::make(clock);
  HookStore<typename K::Store> broken(store, always_unreachable(Op::claim));
  int runs = 0;
  Events events;
  auto once = idem::idempotent<"closed">(function_of([&](int) { return ++runs; }), broken, idem::observe(events));
  const auto outcome = once.try_call(1);
  CHECK(outcome.verdict() == Verdict::unavailable);
  CHECK(outcome.error().effect == Effect::not_run);
  CHECK(outcome.error().message.find("the store is down") != std::string::npos);
  CHECK(throws_exactly<idem::StoreError>([&] { return once(1); }));
  CHECK(effect_of([&] { return once(1); }) == Effect::not_run);
  CHECK(events.count(EventKind::unavailable) == 3);
  CHECK(runs == 0);
}

TEST_CASE_TEMPLATE("CORE-14: run_unguarded runs without protection, and only where the store can't be reached", K, Memory,
                   Leases) {
  ManualClock clock;
  auto store = K::make(clock);
  bool down = true;
  HookStore<typename K::Store> shaky(store, [&](Op op, const idem::Key&) {
    return down && op == Op::claim ? std::optional<idem::Reply>(unreachable()) : std::nullopt;
  });
  int runs = 0;
  Events events;
  auto once = idem::idempotent<"open">(
      function_of([&](int number) {
        ++runs;
        if (number < 0) throw std::domain_error("mine");
        return runs;
      }),
      {.on_store_error = OnStoreError::run_unguarded}, shaky, idem::observe(events));
  const auto first = once.try_call(1);
  CHECK(first.verdict() == Verdict::unguarded);
  CHECK(first.error().effect == Effect::ran);
  CHECK(first.value() == 1);
  CHECK(once(1) == 2);
  CHECK(events.count(EventKind::unguarded) == 2);
  CHECK(throws_exactly<std::domain_error>([&] { return once(-1); }));

  down = false;
  CHECK(once.try_call(1).verdict() == Verdict::executed);
  CHECK(once.try_call(1).verdict() == Verdict::replayed);
  leave_in_doubt(store, once.key(2));
  CHECK(once.try_call(2).verdict() == Verdict::in_doubt);
}

TEST_CASE("MEM-09: a full store refuses new calls, and run_unguarded is a choice there too") {
  ManualClock clock;
  idem::MemoryStore store(idem::MemoryStoreOptions{.max_entries = 1, .clock = clock});
  auto once = idem::idempotent<"full">(function_of([](int number) { return number; }), store);
  CHECK(once(1) == 1);
  CHECK(once.try_call(2).verdict() == Verdict::unavailable);
  CHECK(once.try_call(1).verdict() == Verdict::replayed);
}

TEST_CASE_TEMPLATE("CORE-09 T-27 T-29: a completion that fails keeps the value for its caller and the claim for nobody", K,
                   Memory, Leases) {
  ManualClock clock;
  auto store = K::make(clock);
  std::vector<Op> operations;
  HookStore<typename K::Store> broken(store, [&](Op op, const idem::Key&) {
    operations.push_back(op);
    return op == Op::complete ? std::optional<idem::Reply>(unreachable()) : std::nullopt;
  });
  int runs = 0;
  Events events;
  auto once = idem::idempotent<"unrecorded">(
      function_of([&](int) { return Receipt{++runs, "kept"}; }), broken, idem::observe(events));
  const auto outcome = once.try_call(1);
  CHECK(outcome.verdict() == Verdict::unrecorded);
  CHECK(outcome.error().effect == Effect::ran);
  REQUIRE(outcome.has_value());
  CHECK(outcome.value() == Receipt{1, "kept"});
  CHECK(outcome.error().message.find("the store is down") != std::string::npos);
  CHECK(events.count(EventKind::unrecorded) == 1);
  for (const Op op : operations) CHECK((op != Op::release && op != Op::fail && op != Op::erase));
  // In doubt at once: never free, never failed.
  CHECK(once.try_call(1).verdict() == Verdict::in_doubt);
  CHECK(runs == 1);
  CHECK(once(2) == Receipt{2, "kept"});

  auto strict = idem::idempotent<"strict">(
      function_of([&](int) { return ++runs; }), {.on_unrecorded = OnUnrecorded::raise}, broken);
  CHECK(throws_exactly<idem::UnrecordedError>([&] { return strict(1); }));
  CHECK(effect_of([&] { return strict(2); }) == Effect::ran);
  CHECK(strict.try_call(3).has_value());
}

TEST_CASE_TEMPLATE("CORE-09: where the abandonment fails as well, the key is still not free", K, Memory, Leases) {
  ManualClock clock;
  auto store = K::make(clock);
  HookStore<typename K::Store> broken(store, [&](Op op, const idem::Key&) {
    return op == Op::claim || op == Op::find ? std::nullopt : std::optional<idem::Reply>(unreachable());
  });
  int runs = 0;
  auto once = idem::idempotent<"all down">(function_of([&](int) { return ++runs; }), {.wait_timeout = 0s}, broken);
  CHECK(once.try_call(1).verdict() == Verdict::unrecorded);
  CHECK(store.find(once.key(1)).answer == Answer::running);
  CHECK_FALSE(once.try_call(1).has_value());
  CHECK(runs == 1);
}

TEST_CASE_TEMPLATE("a completion that took effect though its answer was lost is replayed, and isn't undone", K, Memory,
                   Leases) {
  ManualClock clock;
  auto store = K::make(clock);
  HookStore<typename K::Store> lossy(store, {}, [](Op op, const idem::Key&, idem::Reply& reply) {
    if (op == Op::complete) reply = unreachable();
  });
  int runs = 0;
  auto once = idem::idempotent<"answer lost">(function_of([&](int) { return ++runs; }), lossy);
  CHECK(once.try_call(1).verdict() == Verdict::unrecorded);
  CHECK(once.try_call(1).verdict() == Verdict::replayed);
  CHECK(once(1) == 1);
}

TEST_CASE_TEMPLATE("CORE-12 T-28 SER-08: a result that can't be kept is recorded as completed without it", K, Leases,
                   AnyLeases) {
  ManualClock clock;
  auto store = K::make(clock);
  int runs = 0;
  Events events;
  auto once = idem::idempotent<"oversized">(
      function_of([&](int size) { ++runs; return std::string(static_cast<std::size_t>(size), 'x'); }),
                                            {.max_result_bytes = 1000}, store, idem::observe(events));
  CHECK(once.try_call(10).verdict() == Verdict::executed);
  CHECK(once.try_call(10).verdict() == Verdict::replayed);
  const auto big = once.try_call(5000);
  REQUIRE(big.has_value());
  CHECK(big.value().size() == 5000);
  CHECK(events.count(EventKind::unrecorded) == 1);
  const auto second = once.try_call(5000);
  CHECK(second.verdict() == Verdict::unrecorded);
  CHECK(second.error().effect == Effect::ran);
  CHECK_FALSE(second.has_value());
  CHECK(throws_exactly<idem::UnrecordedError>([&] { return once(5000); }));
  CHECK(runs == 2);
}

TEST_CASE_TEMPLATE("SER-08 T-30: a codec that throws keeps the value for its caller, and the call is never made again", K,
                   Leases, AnyLeases) {
  ManualClock clock;
  auto store = K::make(clock);
  int runs = 0;
  auto fragile = idem::idempotent<"fragile">(function_of([&](int value) { ++runs; return Fragile{value}; }), store);
  CHECK(fragile(-1).value == -1);
  CHECK(fragile.try_call(-1).verdict() == Verdict::unrecorded);
  CHECK(throws_exactly<idem::UnrecordedError>([&] { return fragile(-1); }));
  CHECK(runs == 1);
  CHECK(fragile(1).value == 1);
  CHECK(fragile(1).value == 1);

  auto unreadable = idem::idempotent<"unreadable">(
      function_of([&](int value) { ++runs; return Unreadable{value}; }), store);
  CHECK(unreadable(1).value == 1);
  const auto again = unreadable.try_call(1);
  CHECK(again.verdict() == Verdict::corrupt);
  CHECK(again.error().effect == Effect::ran);
  CHECK(throws_exactly<idem::CorruptRecordError>([&] { return unreadable(1); }));
  CHECK(runs == 3);
}

TEST_CASE("SER-02 T-35: a record that can't be read is neither absent nor run, and stays as it is") {
  ManualClock clock;
  LeaseStore store = Leases::make(clock);
  int runs = 0;
  Events events;
  auto once = idem::idempotent<"damaged">(function_of([&](int) { return ++runs; }),
                                          {.on_in_doubt = idem::OnInDoubt::rerun, .on_store_error = OnStoreError::run_unguarded},
                                          store, idem::observe(events));
  CHECK(once(1) == 1);
  REQUIRE(store.damage(once.key(1)));
  const auto outcome = once.try_call(1);
  CHECK(outcome.verdict() == Verdict::corrupt);
  CHECK(outcome.error().effect == Effect::unknown);
  CHECK(throws_exactly<idem::CorruptRecordError>([&] { return once(1); }));
  CHECK(events.count(EventKind::corrupt) == 2);
  CHECK(runs == 1);
  CHECK(store.find(once.key(1)).answer == Answer::corrupt);
}

TEST_CASE("KEY-16: a stored result of another shape is corrupt with effect ran, never run again") {
  ManualClock clock;
  LeaseStore store = Leases::make(clock);
  auto before = idem::idempotent<"shape">(function_of([](int number) { return number; }), store);
  CHECK(before(1) == 1);
  int runs = 0;
  auto after = idem::idempotent<"shape">(function_of([&](int) { ++runs; return std::string("text"); }), store);
  const auto outcome = after.try_call(1);
  CHECK(outcome.verdict() == Verdict::corrupt);
  CHECK(outcome.error().effect == Effect::ran);
  CHECK(runs == 0);
}

TEST_CASE_TEMPLATE("a message that a store gives is passed on, whole and unchanged", K, Memory, Leases) {
  ManualClock clock;
  auto store = K::make(clock);
  HookStore<typename K::Store> broken(store, [](Op op, const idem::Key&) {
    idem::Reply reply;
    reply.answer = Answer::corrupt;
    reply.message = "bytes 4 to 7 are damaged";
    return op == Op::claim ? std::optional<idem::Reply>(std::move(reply)) : std::nullopt;
  });
  auto once = idem::idempotent<"message">(function_of([](int number) { return number; }), broken);
  const auto outcome = once.try_call(1);
  CHECK(outcome.verdict() == Verdict::corrupt);
  CHECK(outcome.error().message.find("bytes 4 to 7 are damaged") != std::string::npos);
}
