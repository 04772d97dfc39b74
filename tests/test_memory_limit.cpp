// The memory store when it is full.
#include <doctest/doctest.h>

#include "memory_support.hpp"

#include <idem/memory_store.hpp>
#include <idem/testing/manual_clock.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace memory_support;
using namespace std::chrono_literals;
using idem::Answer;
using idem::MemoryStore;
using idem::Reply;

TEST_CASE("MEM-09: a full store refuses new claims and forgets nothing, to the last record") {
  for (const std::size_t most : {std::size_t{1}, std::size_t{2}, std::size_t{100}, std::size_t{3000}}) {
    CAPTURE(most);
    MemoryStore store({.max_entries = most});
    for (std::size_t i = 0; i < most; ++i) REQUIRE(put(store, key_of(static_cast<int>(i)), i).answer == Answer::ok);
    const Reply refused = claim(store, key_of(-1));
    CHECK(refused.answer == Answer::unavailable);
    CHECK(refused.message.find("max_entries = " + std::to_string(most)) != std::string::npos);
    CHECK(store.stats().records == most);
    for (std::size_t i = 0; i < most; ++i) {
      REQUIRE(store.peek(key_of(static_cast<int>(i)), nullptr).answer == Answer::completed);
    }
    // Room made anywhere is room for any key.
    CHECK(store.erase(key_of(0)).answer == Answer::ok);
    CHECK(claim(store, key_of(-1)).answer == Answer::acquired);
    CHECK(claim(store, key_of(-2)).answer == Answer::unavailable);
  }
}

TEST_CASE("T-42: running and in-doubt records are never evicted to make room") {
  idem::testing::ManualClock clock;
  idem::MemoryStoreOptions options;
  options.max_entries = 10;
  options.clock = clock;
  MemoryStore store(options);
  std::vector<Reply> held;
  for (int i = 0; i < 10; ++i) held.push_back(claim(store, key_of(i)));
  for (int i = 0; i < 5; ++i) store.abandon(key_of(i), held[static_cast<std::size_t>(i)].record.owner);
  clock.advance(std::chrono::hours(24 * 365));
  CHECK(claim(store, key_of(10)).answer == Answer::unavailable);
  for (int i = 0; i < 5; ++i) CHECK(store.find(key_of(i)).answer == Answer::in_doubt);
  for (int i = 5; i < 10; ++i) CHECK(store.find(key_of(i)).answer == Answer::running);
  // Those that are there go on: a takeover needs no room, and neither does a completion.
  CHECK(claim(store, key_of(0), true).answer == Answer::acquired);
  CHECK(store.complete(key_of(9), outcome(held[9], 9, 1s)).answer == Answer::ok);
  CHECK(claim(store, key_of(10)).answer == Answer::unavailable);
  clock.advance(1s);
  CHECK(claim(store, key_of(10)).answer == Answer::acquired);
}

TEST_CASE("MEM-09: expired records are reclaimed as the store is used") {
  idem::testing::ManualClock clock;
  idem::MemoryStoreOptions options;
  options.max_entries = 100000;
  options.clock = clock;
  MemoryStore store(options);
  std::size_t most = 0;
  for (int i = 0; i < 50000; ++i) {
    put(store, key_of(i), i, 1s);
    clock.advance(1ms);  // a thousand live at any time
    if (i % 1000 == 0) most = (std::max)(most, store.stats().records);
  }
  CHECK(most < 6000);
}

TEST_CASE("MEM-09: a full store whose records have all expired takes as many new ones") {
  idem::testing::ManualClock clock;
  idem::MemoryStoreOptions options;
  options.max_entries = 1000;
  options.clock = clock;
  MemoryStore store(options);
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 1000; ++i) REQUIRE(put(store, key_of(round * 1000 + i), i, 1h).answer == Answer::ok);
    CHECK(claim(store, key_of(-1)).answer == Answer::unavailable);
    clock.advance(1h);
  }
}

TEST_CASE("MEM-09: a store with room for all never says that it is full, however its room moves about") {
  constexpr int threads = 4;
  constexpr int share = 16;
  MemoryStore store({.max_entries = threads * share});
  std::atomic<int> refused{0};
  std::vector<std::thread> workers;
  for (int t = 0; t < threads; ++t) {
    workers.emplace_back([&, t] {
      std::vector<std::pair<idem::Key, idem::Ownership>> held;
      for (int i = 0; i < 5000; ++i) {
        // Never more than its share, given back before more is asked for.
        if (held.size() == share) {
          store.release(held.front().first, held.front().second);
          held.erase(held.begin());
        }
        const idem::Key key = key_of(t * 1000000 + i);
        const Reply claimed = claim(store, key);
        if (claimed.answer == Answer::acquired) {
          held.emplace_back(key, claimed.record.owner);
        } else {
          refused.fetch_add(1);
        }
      }
    });
  }
  for (std::thread& worker : workers) worker.join();
  CHECK(refused.load() == 0);
}
