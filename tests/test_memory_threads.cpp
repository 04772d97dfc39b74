// The memory store under many threads.
#include <doctest/doctest.h>

#include "memory_support.hpp"

#include <idem/memory_store.hpp>

#include <array>
#include <atomic>
#include <barrier>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

using namespace memory_support;
using namespace std::chrono_literals;
using idem::Answer;
using idem::MemoryStore;
using idem::Reply;

namespace {

/// Has its number twice, so that a torn or freed one shows.
struct Small {
  std::uint64_t number;
  std::uint64_t complement;
};

struct Generator {
  std::uint64_t state;
  std::uint32_t operator()() {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<std::uint32_t>(state >> 33);
  }
};

}  // namespace

TEST_CASE("MEM-01: among 32 threads that claim, finish, forget and expire random keys, each key has one owner") {
  constexpr int key_count = 97;
  constexpr int threads = 32;
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
  constexpr int rounds = 4000;
#else
  constexpr int rounds = 20000;
#endif
  MemoryStore store({.max_entries = 90});
  std::vector<idem::Key> keys;
  for (int i = 0; i < key_count; ++i) keys.push_back(key_of(i));
  std::array<std::atomic<int>, key_count> owners{};
  std::array<std::atomic<std::uint64_t>, key_count> epochs{};
  std::atomic<int> two_owners{0};
  std::atomic<int> old_epochs{0};
  std::atomic<int> wrong_results{0};
  std::atomic<int> odd_answers{0};
  std::atomic<int> replays{0};
  std::barrier start(threads);

  const auto check_result = [&](const auto& reply, int number) {
    replays.fetch_add(1, std::memory_order_relaxed);
    const auto wanted = static_cast<std::uint64_t>(number);
    if (const Small* small = reply.payload.template object<Small>()) {
      if (small->number != wanted || small->complement != ~wanted) wrong_results.fetch_add(1);
    } else if (const std::string* text = reply.payload.template object<std::string>()) {
      if (*text != std::string(100, static_cast<char>('!' + number % 90))) wrong_results.fetch_add(1);
    } else {
      wrong_results.fetch_add(1);
    }
  };

  const auto work = [&](int thread) {
    Generator random{static_cast<std::uint64_t>(thread)};
    start.arrive_and_wait();
    for (int round = 0; round < rounds; ++round) {
      const int number = static_cast<int>(random() % key_count);
      const auto index = static_cast<std::size_t>(number);
      const idem::Key& key = keys[index];
      const std::uint32_t what = random() % 64;
      if (what == 0) {
        store.erase(key);
        continue;
      }
      if (what == 1 && round % 64 == 0) {
        store.purge({});
        continue;
      }
      if (what == 2 && round % 64 == 0) {
        store.for_each([](const idem::RecordView&) {});
        continue;
      }
      const idem::Peeked seen = store.peek(key, nullptr);
      if (seen.answer == Answer::completed) {
        check_result(seen, number);
        if (what < 32) continue;
      }
      Reply reply = claim(store, key, what % 2 == 0);
      if (reply.answer == Answer::completed) {
        check_result(reply, number);
      } else if (reply.answer == Answer::running && what < 8) {
        store.wait(key, reply.record.owner.epoch, store.now() + 1ms);
      } else if (reply.answer == Answer::acquired) {
        if (owners[index].fetch_add(1) != 0) two_owners.fetch_add(1);
        if (epochs[index].exchange(reply.record.owner.epoch) >= reply.record.owner.epoch) old_epochs.fetch_add(1);
        if (what < 40) std::this_thread::yield();
        owners[index].fetch_sub(1);
        const idem::Duration ttl = what % 4 == 0 ? idem::Duration(100us) : idem::forever;
        const auto value = static_cast<std::uint64_t>(number);
        Answer answer = Answer::ok;
        if (what < 12) {
          answer = store.release(key, reply.record.owner).answer;
        } else if (what < 16) {
          answer = store.abandon(key, reply.record.owner).answer;
        } else if (what < 40) {
          answer = store.complete(key, outcome(reply, Small{value, ~value}, ttl)).answer;
        } else {
          const std::string text(100, static_cast<char>('!' + number % 90));
          answer = store.complete(key, outcome(reply, text, ttl)).answer;
        }
        if (answer != Answer::ok) odd_answers.fetch_add(1);
      } else if (reply.answer != Answer::running && reply.answer != Answer::in_doubt &&
                 reply.answer != Answer::unavailable) {
        odd_answers.fetch_add(1);
      }
    }
  };
  std::vector<std::thread> pool;
  for (int thread = 0; thread < threads; ++thread) pool.emplace_back(work, thread);
  for (std::thread& thread : pool) thread.join();
  CHECK(two_owners.load() == 0);
  CHECK(old_epochs.load() == 0);
  CHECK(wrong_results.load() == 0);
  CHECK(odd_answers.load() == 0);
  CHECK(replays.load() > 0);
  CHECK(store.stats().running == 0);
  CHECK(store.stats().records <= 90);
}

TEST_CASE("MEM-01: of threads that claim the same new keys at the same time, one acquires each") {
  constexpr int threads = 8;
  constexpr int key_count = 2000;
  MemoryStore store;
  std::array<std::atomic<int>, key_count> runs{};
  std::atomic<int> wrong{0};
  std::barrier start(threads);
  std::vector<std::thread> pool;
  for (int thread = 0; thread < threads; ++thread) {
    pool.emplace_back([&] {
      start.arrive_and_wait();
      for (int i = 0; i < key_count; ++i) {
        const idem::Key key = key_of(i);
        for (;;) {
          if (const idem::Peeked seen = store.peek(key, nullptr); seen.answer == Answer::completed) {
            if (*seen.payload.object<int>() != i) wrong.fetch_add(1);
            break;
          }
          const Reply reply = claim(store, key);
          if (reply.answer == Answer::running) {
            store.wait(key, reply.record.owner.epoch, (idem::TimePoint::max)());
            continue;
          }
          if (reply.answer == Answer::acquired) {
            runs[static_cast<std::size_t>(i)].fetch_add(1);
            store.complete(key, outcome(reply, i));
          } else if (reply.answer != Answer::completed || *reply.payload.object<int>() != i) {
            wrong.fetch_add(1);
          }
          break;
        }
      }
    });
  }
  for (std::thread& thread : pool) thread.join();
  CHECK(wrong.load() == 0);
  int ran_once = 0;
  for (const std::atomic<int>& count : runs) ran_once += count.load() == 1 ? 1 : 0;
  CHECK(ran_once == key_count);
}
