// Waiting for a running call in the memory store.
#include <doctest/doctest.h>

#include "memory_support.hpp"

#include <idem/memory_store.hpp>
#include <idem/testing/manual_clock.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <pthread.h>
#include <time.h>
#endif

using namespace memory_support;
using namespace std::chrono_literals;
using idem::Answer;
using idem::MemoryStore;
using idem::Reply;

namespace {

constexpr idem::TimePoint never = (idem::TimePoint::max)();

/// Threads that wait for one epoch of a key, counted once they return.
class Waiters {
 public:
  Waiters(MemoryStore& store, const idem::Key& key, std::uint64_t epoch, int count) {
    for (int i = 0; i < count; ++i) {
      threads_.emplace_back([this, &store, &key, epoch] {
        started_.fetch_add(1);
        store.wait(key, epoch, never);
        returned_.fetch_add(1);
      });
    }
    while (started_.load() != count) std::this_thread::yield();
  }
  ~Waiters() { join(); }
  int returned() const { return returned_.load(); }
  void join() {
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

 private:
  std::atomic<int> started_{0};
  std::atomic<int> returned_{0};
  std::vector<std::thread> threads_;
};

}  // namespace

TEST_CASE("MEM-05: every end of a run wakes all who wait for it, whatever has become of the record meanwhile") {
  const idem::Key key = key_of(1);
  for (int way = 0; way < 6; ++way) {
    CAPTURE(way);
    MemoryStore store;
    const Reply running = claim(store, key);
    Waiters waiters(store, key, running.record.owner.epoch, 4);
    CHECK(waiters.returned() == 0);
    switch (way) {
      case 0: store.complete(key, outcome(running, 1)); break;
      case 1: store.fail(key, outcome(running, 1)); break;
      case 2: store.release(key, running.record.owner); break;
      case 3: store.abandon(key, running.record.owner); break;
      case 4:
        // Finished and forgotten before a waiter can look.
        store.complete(key, outcome(running, 1));
        store.erase(key);
        break;
      default:
        // Somebody else has the key by the time a waiter looks.
        store.release(key, running.record.owner);
        CHECK(claim(store, key).answer == Answer::acquired);
        break;
    }
    waiters.join();
    CHECK(waiters.returned() == 4);
  }
}

TEST_CASE("T-23: a waiter belongs to one run, and returns at once when that isn't the one that is running") {
  MemoryStore store;
  const idem::Key key = key_of(1);
  store.wait(key, 1, never);
  const Reply first = claim(store, key);
  store.wait(key, first.record.owner.epoch + 1, never);
  store.abandon(key, first.record.owner);
  store.wait(key, first.record.owner.epoch, never);
  const Reply second = claim(store, key, true);
  store.wait(key, first.record.owner.epoch, never);
  // The stale owner's late news must not wake those who wait for the present one.
  Waiters waiters(store, key, second.record.owner.epoch, 2);
  CHECK(store.complete(key, outcome(first, 1)).answer == Answer::stale);
  CHECK(store.release(key, first.record.owner).answer == Answer::stale);
  CHECK(store.abandon(key, first.record.owner).answer == Answer::stale);
  CHECK(store.erase(key).answer == Answer::refused);
  CHECK(waiters.returned() == 0);
  CHECK(store.complete(key, outcome(second, 1)).answer == Answer::ok);
  waiters.join();
  store.wait(key, second.record.owner.epoch, never);
}

TEST_CASE("MEM-07: waiters that a release frees at the same time get the key one after the other") {
  MemoryStore store;
  const idem::Key key = key_of(1);
  std::atomic<int> inside{0};
  std::atomic<int> runs{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      for (;;) {
        const Reply reply = claim(store, key);
        if (reply.answer == Answer::running) {
          store.wait(key, reply.record.owner.epoch, never);
          continue;
        }
        if (reply.answer != Answer::acquired) {
          CHECK(reply.answer == Answer::completed);
          return;
        }
        CHECK(inside.fetch_add(1) == 0);
        const bool last = runs.fetch_add(1) == 200;
        std::this_thread::yield();
        inside.fetch_sub(1);
        if (last) {
          store.complete(key, outcome(reply, 1));
        } else {
          store.release(key, reply.record.owner);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(runs.load() == 201);
}

TEST_CASE("T-20: a waiter whose time is over changes nothing") {
  idem::testing::ManualClock clock;
  for (const bool injected : {false, true}) {
    CAPTURE(injected);
    idem::MemoryStoreOptions options;
    if (injected) options.clock = clock;
    MemoryStore store(options);
    const idem::Key key = key_of(1);
    const Reply running = claim(store, key);
    const std::uint64_t epoch = running.record.owner.epoch;
    store.wait(key, epoch, store.now());
    store.wait(key, epoch, idem::TimePoint{});
    const idem::TimePoint deadline = store.now() + (injected ? 20ms : 2ms);
    std::atomic<bool> returned{false};
    std::thread waiter([&] {
      store.wait(key, epoch, deadline);
      returned.store(true);
    });
    // In small steps, so that the waiter sleeps already when the deadline comes.
    while (injected && !returned.load()) {
      clock.advance(1us);
      std::this_thread::yield();
    }
    waiter.join();
    CHECK(store.now() >= deadline);
    const Reply found = store.find(key);
    CHECK(found.answer == Answer::running);
    CHECK(found.record.owner == running.record.owner);
    CHECK(claim(store, key).answer == Answer::running);
    CHECK(store.complete(key, outcome(running, 1)).answer == Answer::ok);
  }
}

#if defined(__linux__)

TEST_CASE("MEM-10: waiting for an owner that never ends takes until the deadline and next to no processor time") {
  MemoryStore store;
  const idem::Key key = key_of(1);
  const Reply running = claim(store, key);
  timespec before{};
  timespec after{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
  const idem::TimePoint deadline = store.now() + 200ms;
  store.wait(key, running.record.owner.epoch, deadline);
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
  CHECK(store.now() >= deadline);
  const auto used = (after.tv_sec - before.tv_sec) * 1000000000L + (after.tv_nsec - before.tv_nsec);
  CHECK(used < 100000000L);
}

#endif

#if IDEM_FORCED_UNWIND && !defined(__SANITIZE_THREAD__)

TEST_CASE("MEM-03: a waiting thread that is cancelled leaves the store as it was") {
  MemoryStore store;
  const idem::Key key = key_of(1);
  const Reply running = claim(store, key);
  struct Job {
    MemoryStore* store;
    const idem::Key* key;
    std::uint64_t epoch;
  } job{&store, &key, running.record.owner.epoch};
  pthread_t thread;
  REQUIRE(::pthread_create(&thread, nullptr, [](void* argument) -> void* {
            const Job& todo = *static_cast<Job*>(argument);
            todo.store->wait(*todo.key, todo.epoch, never);
            return nullptr;
          }, &job) == 0);
  REQUIRE(::pthread_cancel(thread) == 0);
  REQUIRE(::pthread_join(thread, nullptr) == 0);
  Waiters others(store, key, running.record.owner.epoch, 2);
  CHECK(store.complete(key, outcome(running, 1)).answer == Answer::ok);
  others.join();
}

#endif
