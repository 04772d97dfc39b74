// check_lock: first one wins.
#include <idem/idem.hpp>
#include <idem/testing/lease_store.hpp>
#include <idem/testing/manual_clock.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <vector>

namespace check_lock {

using namespace std::chrono_literals;
using idem::CheckLock;

TEST_CASE_TEMPLATE("the first one wins, later ones are told when it was", Store, idem::MemoryStore,
                   idem::testing::LeaseStore) {
  idem::testing::ManualClock clock;
  Store store{{.clock = clock}};
  const idem::Key key = idem::make_key("webhook", "evt_1");
  const CheckLock first = idem::check_lock(store, key, 1h);
  CHECK(first.locked);
  CHECK_FALSE(first.duplicate);
  CHECK(first.first_seen_at == clock.now());
  const idem::TimePoint then = clock.now();
  clock.advance(30min);
  const CheckLock second = idem::check_lock(store, key, 1h);
  CHECK_FALSE(second.locked);
  CHECK(second.duplicate);
  CHECK(second.first_seen_at == then);
  CHECK(idem::check_lock(store, idem::make_key("webhook", "evt_2"), 1h).locked);

  // A duplicate doesn't prolong it.
  clock.advance(30min);
  const CheckLock third = idem::check_lock(store, key, 1h);
  CHECK(third.locked);
  CHECK(third.first_seen_at == clock.now());
}

TEST_CASE_TEMPLATE("what it locks is completed at once: nothing is left running or in doubt", Store, idem::MemoryStore,
                   idem::testing::LeaseStore) {
  Store store;
  const idem::Key key = idem::make_key("webhook", "evt_1");
  CHECK(idem::check_lock(store, key, idem::forever).locked);
  CHECK(store.stats().completed == 1);
  CHECK(store.stats().running == 0);
  CHECK(idem::claim(store, key).status() == idem::Answer::completed);
  CHECK(store.erase(key).answer == idem::Answer::ok);
  CHECK(idem::check_lock(store, key, idem::forever).locked);
}

TEST_CASE_TEMPLATE("a key that is running, in doubt or done by another way is a duplicate", Store, idem::MemoryStore,
                   idem::testing::LeaseStore) {
  Store store;
  const idem::Key key = idem::make_key("webhook", "evt_1");
  {
    const idem::Claim running = idem::claim(store, key);
    const CheckLock meets = idem::check_lock(store, key, 1h);
    CHECK(meets.duplicate);
    CHECK_FALSE(meets.locked);
    CHECK(meets.first_seen_at == running.first_seen_at());
  }
  CHECK(idem::check_lock(store, key, 1h).duplicate);
  CHECK(idem::claim(store, key).status() == idem::Answer::in_doubt);
  CHECK(idem::resolve(store, key, 1h, "found out", 1) == idem::Answer::ok);
  CHECK(idem::check_lock(store, key, 1h).duplicate);
}

TEST_CASE("of many threads one is the first") {
  for (int round = 0; round < 200; ++round) {
    idem::MemoryStore store;
    const idem::Key key = idem::make_key("webhook", round);
    std::atomic<bool> go{false};
    std::atomic<int> locked{0};
    std::atomic<int> duplicates{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        while (!go.load()) std::this_thread::yield();
        const CheckLock found = idem::check_lock(store, key, 1h);
        locked += found.locked ? 1 : 0;
        duplicates += found.duplicate ? 1 : 0;
      });
    }
    go = true;
    for (std::thread& thread : threads) thread.join();
    CHECK(locked == 1);
    CHECK(duplicates == 3);
  }
}

TEST_CASE("CORE-14: a store that can't answer means StoreError, never a lock that nobody holds") {
  idem::MemoryStore full{{.max_entries = 1}};
  CHECK(idem::check_lock(full, idem::make_key("webhook", 1), idem::forever).locked);
  try {
    static_cast<void>(idem::check_lock(full, idem::make_key("webhook", 2), idem::forever));
    CHECK(false);
  } catch (const idem::StoreError& error) {
    CHECK(error.effect() == idem::Effect::not_run);
    CHECK(error.key() == idem::make_key("webhook", 2));
  }
  CHECK(idem::check_lock(full, idem::make_key("webhook", 1), idem::forever).duplicate);
  CHECK_THROWS_AS(idem::check_lock(full, idem::Key{}, 1h), idem::StoreError);
}

TEST_CASE("a ttl that makes no sense is refused") {
  idem::MemoryStore store;
  const idem::Key key = idem::make_key("webhook", 1);
  CHECK_THROWS_AS(idem::check_lock(store, key, 0s), std::invalid_argument);
  CHECK_THROWS_AS(idem::check_lock(store, key, -1s), std::invalid_argument);
  CHECK(store.stats().records == 0);
}

}  // namespace check_lock
