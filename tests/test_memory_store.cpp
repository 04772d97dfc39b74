// What the memory store answers, by one thread.
#include <doctest/doctest.h>

#include "memory_support.hpp"

#include <idem/memory_store.hpp>
#include <idem/testing/manual_clock.hpp>

#include <array>
#include <chrono>
#include <cstdint>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using namespace memory_support;
using namespace std::chrono_literals;
using idem::Answer;
using idem::MemoryStore;
using idem::PayloadKind;
using idem::Reply;

static_assert(idem::Store<MemoryStore>);

namespace {

struct Large {
  std::array<int, 100> numbers{};
};

struct alignas(64) Aligned {
  int number = 0;
};

struct Uncopyable {
  Uncopyable() = default;
  Uncopyable(const Uncopyable&) { idem::detail::raise(std::runtime_error("no copy")); }
};

idem::MemoryStoreOptions with(const idem::testing::ManualClock& clock) {
  idem::MemoryStoreOptions options;
  options.clock = clock;
  return options;
}

}  // namespace

TEST_CASE("MEM: options are taken by their names, and a store of no records is refused") {
  idem::testing::ManualClock clock;
  MemoryStore one{{.clock = clock}};
  MemoryStore two({.max_entries = 1});
  MemoryStore three;
  CHECK(one.now() == clock.now());
  CHECK(put(two, key_of(1), 1).answer == Answer::ok);
  CHECK(claim(two, key_of(2)).answer == Answer::unavailable);
  CHECK_THROWS_AS(MemoryStore({.max_entries = 0}), std::invalid_argument);
  CHECK(three.traits().liveness == idem::Liveness::process);
  CHECK_FALSE(three.traits().survives_process);

  MemoryStore moved(std::move(three));
  CHECK(put(moved, key_of(1), 1).answer == Answer::ok);
  CHECK(claim(three, key_of(1)).answer == Answer::unavailable);  // NOLINT: what a moved-from store says
  CHECK(three.peek(key_of(1), nullptr).answer == Answer::absent);
}

TEST_CASE("MEM: a result of any size and kind is handed out as it was kept, with and without the lock") {
  MemoryStore store;
  Large large;
  large.numbers[99] = 7;
  Aligned aligned;
  aligned.number = 8;
  put(store, key_of(1), 42);
  put(store, key_of(2), large);
  put(store, key_of(3), std::string(1000, 'x'));
  put(store, key_of(4), aligned);
  CHECK(*store.peek(key_of(1), nullptr).payload.object<int>() == 42);
  CHECK(store.peek(key_of(2), nullptr).payload.object<Large>()->numbers[99] == 7);
  CHECK(*store.peek(key_of(3), nullptr).payload.object<std::string>() == std::string(1000, 'x'));
  CHECK(store.peek(key_of(1), nullptr).payload.object<long>() == nullptr);
  const Reply found = store.find(key_of(4));
  CHECK(found.answer == Answer::completed);
  CHECK(found.payload.object<Aligned>()->number == 8);
  CHECK(reinterpret_cast<std::uintptr_t>(found.payload.object<Aligned>()) % alignof(Aligned) == 0);
  CHECK(*claim(store, key_of(1)).payload.object<int>() == 42);

  for (const std::size_t size : {std::size_t{0}, std::size_t{48}, std::size_t{49}, std::size_t{5000}}) {
    const idem::Key key = key_of(1000 + static_cast<int>(size));
    const std::vector<std::uint8_t> bytes(size, std::uint8_t{0xa5});
    idem::FinishRequest request;
    request.owner = claim(store, key).record.owner;
    request.source.kind = PayloadKind::value;
    request.source.data = bytes.data();
    request.source.size = size;
    CHECK(store.complete(key, request).answer == Answer::ok);
    const idem::Peeked reply = store.peek(key, nullptr);
    CHECK(reply.answer == Answer::completed);
    CHECK_FALSE(reply.payload.holds_object());
    CHECK(std::vector<std::uint8_t>(reply.payload.data(), reply.payload.data() + reply.payload.size()) == bytes);
  }
}

TEST_CASE("MEM: what is running, in doubt, conflicting or failed is answered by the protocol's rules") {
  MemoryStore store;
  const idem::Key key = key_of(1);
  CHECK(store.find(key).answer == Answer::absent);
  CHECK(store.peek(key, nullptr).answer == Answer::absent);
  const Reply first = claim(store, key);
  CHECK(first.answer == Answer::acquired);
  CHECK(first.record.attempt == 1);
  CHECK(first.record.lease_until == (idem::TimePoint::max)());
  CHECK(store.peek(key, nullptr).answer == Answer::absent);
  CHECK(claim(store, key).answer == Answer::running);
  CHECK(store.renew(key, first.record.owner, 1s).answer == Answer::ok);
  CHECK(store.find(key).record.lease_until == (idem::TimePoint::max)());
  CHECK(store.abandon(key, first.record.owner).answer == Answer::ok);
  CHECK(claim(store, key).answer == Answer::in_doubt);
  const Reply second = claim(store, key, true);
  CHECK(second.answer == Answer::acquired);
  CHECK(second.record.attempt == 2);
  CHECK(second.record.owner.epoch > first.record.owner.epoch);
  CHECK(store.complete(key, outcome(first, 1)).answer == Answer::stale);
  CHECK(store.fail(key, outcome(second, std::string("why"), idem::forever, PayloadKind::failure)).answer == Answer::ok);
  CHECK(store.fail(key, outcome(second, std::string("again"))).answer == Answer::ok);
  const idem::Peeked failed = store.peek(key, nullptr);
  CHECK(failed.answer == Answer::failed);
  CHECK(failed.payload.kind() == PayloadKind::failure);
  CHECK(*failed.payload.object<std::string>() == "why");

  idem::Digest mine;
  idem::Digest other;
  other.bytes[31] = 1;
  idem::ClaimRequest request;
  request.owner = idem::detail::new_owner_token();
  request.fingerprint = &mine;
  request.complete_at_once = true;
  const idem::Key second_key = key_of(2);
  CHECK(store.claim(second_key, request).answer == Answer::acquired);
  CHECK(store.peek(second_key, &mine).answer == Answer::completed);
  CHECK(store.peek(second_key, nullptr).answer == Answer::completed);
  CHECK(store.peek(second_key, &other).answer == Answer::conflict);
  CHECK(store.peek(second_key, &other).payload.object<int>() == nullptr);
  CHECK(store.peek(second_key, &mine).payload.kind() == PayloadKind::nothing);

  const idem::Key third = key_of(3);
  const Reply doubtful = claim(store, third);
  store.abandon(third, doubtful.record.owner);
  const int told = 5;
  idem::Resolution resolution;
  resolution.source = outcome(doubtful, told).source;
  CHECK(store.resolve(third, resolution, "asked the bank").answer == Answer::ok);
  CHECK(*store.peek(third, nullptr).payload.object<int>() == 5);
  CHECK(store.complete(third, outcome(doubtful, 6)).answer == Answer::stale);
  CHECK(store.resolve(key_of(4), resolution, "").answer == Answer::absent);
}

TEST_CASE("MEM: a result that can't be copied leaves the record completed, and says that it is lost") {
  MemoryStore store;
  const Reply reply = put(store, key_of(1), Uncopyable());
  CHECK(reply.answer == Answer::ok);
  CHECK(reply.payload.kind() == PayloadKind::lost);
  CHECK(store.peek(key_of(1), nullptr).answer == Answer::completed);
  CHECK(store.peek(key_of(1), nullptr).payload.kind() == PayloadKind::lost);
}

TEST_CASE("MEM: a key is found whatever was forgotten beside it") {
  MemoryStore store;
  constexpr int keys = 4000;
  // Each round forgets a third of what is there, in another pattern, and brings back what an earlier round forgot.
  for (int round = 0; round < 6; ++round) {
    for (int i = round % 2; i < keys; i += 2) put(store, key_of(i), i);
    int found = 0;
    int held = 0;
    for (int i = 0; i < keys; ++i) {
      if ((i * 7 + round) % 3 == 0) static_cast<void>(store.erase(key_of(i)));
    }
    for (int i = 0; i < keys; ++i) {
      const bool forgotten = (i * 7 + round) % 3 == 0;
      const bool peeked = store.peek(key_of(i), nullptr).answer == Answer::completed;
      if (peeked != (store.find(key_of(i)).answer == Answer::completed)) FAIL("peek and find differ");
      if (forgotten && peeked) FAIL("a forgotten key is there");
      if (!forgotten && i % 2 == round % 2 && !peeked) FAIL("a key is missing");
      if (peeked) ++found;
    }
    store.for_each([&](const idem::RecordView&) { ++held; });
    CHECK(found == held);
  }
}

TEST_CASE("T-11: a record that expired makes room for a new one, which no late sweep removes") {
  idem::testing::ManualClock clock;
  MemoryStore store(with(clock));
  const idem::Key key = key_of(1);
  put(store, key, 1, 1s);
  CHECK(store.peek(key, nullptr).answer == Answer::completed);
  clock.advance(999999us);
  CHECK(store.peek(key, nullptr).answer == Answer::completed);
  clock.advance(1us);
  CHECK(store.peek(key, nullptr).answer == Answer::absent);
  CHECK(store.find(key).answer == Answer::absent);
  CHECK(store.erase(key).answer == Answer::absent);
  put(store, key, 1, 1s);
  clock.advance(1s);
  const Reply again = claim(store, key);
  CHECK(again.answer == Answer::acquired);
  CHECK(again.record.attempt == 1);
  CHECK(store.purge({}).expired == 0);
  CHECK(store.find(key).answer == Answer::running);
  store.complete(key, outcome(again, 2, 1s));
  CHECK(*store.peek(key, nullptr).payload.object<int>() == 2);
  CHECK(store.stats().records == 1);
}

TEST_CASE("T-17: a running record can't be erased, cleared, purged or expire") {
  idem::testing::ManualClock clock;
  MemoryStore store(with(clock));
  const Reply running = claim(store, key_of(1));
  const Reply doubtful = claim(store, key_of(2));
  store.abandon(key_of(2), doubtful.record.owner);
  put(store, key_of(3), 3, 1s);
  put(store, key_of(4), 4);
  clock.advance(std::chrono::hours(24 * 365));
  CHECK(store.erase(key_of(1)).answer == Answer::refused);
  CHECK(claim(store, key_of(1)).answer == Answer::running);
  CHECK(claim(store, key_of(2)).answer == Answer::in_doubt);
  const idem::StoreStats stats = store.stats();
  CHECK(stats.records == 4);
  CHECK(stats.running == 1);
  CHECK(stats.in_doubt == 1);
  CHECK(stats.completed == 1);
  CHECK(stats.oldest_in_doubt == doubtful.record.started_at);
  CHECK(store.purge({}).in_doubt == 0);
  const idem::PurgeResult purged = store.purge({.in_doubt_older_than = idem::Duration(1h)});
  CHECK(purged.in_doubt == 1);
  CHECK(store.find(key_of(2)).answer == Answer::absent);
  CHECK(store.clear() == 1);
  CHECK(store.find(key_of(4)).answer == Answer::absent);
  CHECK(store.complete(key_of(1), outcome(running, 1)).answer == Answer::ok);
  CHECK(store.erase(key_of(1)).answer == Answer::ok);
  CHECK(store.stats().records == 0);
}

TEST_CASE("T-69: epochs of a key grow through erase, release, expiry, purge and clear") {
  idem::testing::ManualClock clock;
  MemoryStore store(with(clock));
  const idem::Key key = key_of(1);
  std::uint64_t last = 0;
  const auto next = [&] {
    Reply reply = claim(store, key);
    CHECK(reply.answer == Answer::acquired);
    CHECK(reply.record.attempt == 1);
    CHECK(reply.record.owner.epoch > last);
    last = reply.record.owner.epoch;
    return reply;
  };
  store.release(key, next().record.owner);
  store.complete(key, outcome(next(), 1));
  store.erase(key);
  store.complete(key, outcome(next(), 1, 1s));
  clock.advance(1s);
  store.complete(key, outcome(next(), 1, 1s));
  clock.advance(1s);
  CHECK(store.purge({}).expired == 1);
  store.complete(key, outcome(next(), 1));
  CHECK(store.clear() == 1);
  store.abandon(key, next().record.owner);
  const int value = 1;
  idem::Resolution found;
  found.source = outcome(Reply{}, value).source;
  const Reply resolved = store.resolve(key, found, "");
  CHECK(resolved.record.owner.epoch > last);
  last = resolved.record.owner.epoch;
  store.erase(key);
  next();
}

TEST_CASE("TIM-02: setting the clock neither ends a run nor makes one") {
  idem::testing::ManualClock clock;
  MemoryStore store(with(clock));
  const Reply running = claim(store, key_of(1));
  for (const auto step : {std::chrono::hours(-24), std::chrono::hours(48), std::chrono::hours(-24)}) {
    clock.advance(step);
    CHECK(claim(store, key_of(1)).answer == Answer::running);
    CHECK(store.renew(key_of(1), running.record.owner, 1s).answer == Answer::ok);
  }
  CHECK(store.complete(key_of(1), outcome(running, 1)).answer == Answer::ok);
  // The store's own clock moves on.
  const MemoryStore own;
  const idem::TimePoint before = own.now();
  CHECK(own.now() >= before);
}

TEST_CASE("MEM: for_each shows each record once, and its function may use the store") {
  MemoryStore store;
  for (int i = 0; i < 500; ++i) put(store, key_of(i), i);
  claim(store, key_of(500));
  std::set<std::string> expected;
  for (int i = 0; i <= 500; ++i) expected.insert(key_of(i).text());
  std::set<std::string> seen;
  std::size_t running = 0;
  store.for_each([&](const idem::RecordView& view) {
    CHECK(seen.insert(std::string(view.text)).second);
    if (view.status == idem::Status::running) ++running;
    // Grows tables and erases what is being looked at.
    const int number = static_cast<int>(seen.size());
    put(store, key_of(10000 + 3 * number), 1);
    store.erase(key_of(10000 + 3 * (number - 1)));
  });
  CHECK(running == 1);
  for (const std::string& text : expected) CHECK(seen.count(text) == 1);
}

TEST_CASE("MEM: what is done to records by hand is told to the observer, without a lock") {
  MemoryStore* in_use = nullptr;
  std::vector<idem::EventKind> kinds;
  std::string note;
  MemoryStore store({.on_event = [&](const idem::Event& event) {
    kinds.push_back(event.kind);
    note += event.message;
    in_use->find(event.key);
  }});
  in_use = &store;
  const Reply doubtful = claim(store, key_of(1));
  store.abandon(key_of(1), doubtful.record.owner);
  idem::Resolution found;
  store.resolve(key_of(1), found, "by phone");
  store.erase(key_of(1));
  store.erase(key_of(1));
  CHECK(kinds == std::vector{idem::EventKind::resolved, idem::EventKind::forgotten});
  CHECK(note == "by phone");
}

// Two types of one name, size and alignment, each local to its function.
static void put_local(MemoryStore& store) {
  struct Local {
    std::uint64_t words[4];
  };
  put(store, key_of(1), Local{{1, 2, 3, 4}});
}
static bool finds_local(MemoryStore& store) {
  struct Local {
    std::uint64_t words[4];
  };
  return store.find(key_of(1)).payload.object<Local>() != nullptr;
}

TEST_CASE("SER-04: a result is handed out as the type that it was kept as, and as no other of the same name") {
  MemoryStore store;
  put_local(store);
  CHECK_FALSE(finds_local(store));
}
