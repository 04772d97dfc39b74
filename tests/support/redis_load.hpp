// Calls from many threads while something happens to the servers, and how often each effect took place.
#pragma once

#include <idem/idempotent.hpp>
#include <idem/outcome.hpp>
#include <idem/redis_store.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace support {

class RedisLoad {
  static constexpr int most = 400'000;

  struct Effect {
    RedisLoad* load;
    int operator()(int key) const {
      load->runs_[static_cast<std::size_t>(key)].fetch_add(1);
      return key;
    }
  };

  auto make_guard(idem::RedisStore& store) { return idem::idempotent<"load">(Effect{this}, store); }

 public:
  /// Every call is made twice, one after the other or at the same time, by one of two stores.
  explicit RedisLoad(const idem::RedisOptions& options, int threads = 6)
      : stores_{idem::RedisStore(options), idem::RedisStore(options)}, runs_(most) {
    for (int i = 0; i < threads; ++i) threads_.emplace_back([this, i] { work(static_cast<std::size_t>(i)); });
  }
  ~RedisLoad() { stop(); }
  RedisLoad(const RedisLoad&) = delete;
  RedisLoad& operator=(const RedisLoad&) = delete;

  void stop() {
    stops_ = true;
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

  /// So many calls from now on have been answered by an outcome.
  bool progresses(long more) {
    const long before = answered_.load();
    const auto end_of_patience = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (answered_.load() < before + more) {
      if (std::chrono::steady_clock::now() > end_of_patience) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return true;
  }

  long answered() const { return answered_.load(); }
  /// In milliseconds, the longest time in which no call was answered.
  long longest_gap() const { return longest_gap_.load(); }
  std::string last_error() const {
    const std::lock_guard lock(mutex_);
    return last_error_;
  }

  struct Tally {
    long keys = 0;
    long run_once = 0;
    long repeated = 0;     ///< effects beyond the first of their key
    long forgotten = 0;    ///< that were run and of which the store knows nothing any more
    long unfinished = 0;   ///< running or in doubt: of a claim or an outcome that nobody confirmed
    long unknown = 0;      ///< the store didn't answer
    long unavailable = 0;  ///< calls answered so during the load
  };

  /// What the store knows of each key in the end, without running anything. REQUIRES: it's stopped.
  Tally tally() {
    Tally result;
    result.unavailable = unavailable_.load();
    const auto guard = make_guard(stores_[0]);
    const int keys = next_.load() / 2;
    for (int key = 0; key < keys && key < most; ++key) {
      const int runs = runs_[static_cast<std::size_t>(key)].load();
      ++result.keys;
      if (runs >= 1) ++result.run_once;
      if (runs > 1) result.repeated += runs - 1;
      const idem::Answer found = stores_[0].find(guard.key(key)).answer;
      if (found == idem::Answer::absent && runs > 0) ++result.forgotten;
      if (found == idem::Answer::running || found == idem::Answer::in_doubt) ++result.unfinished;
      if (found == idem::Answer::unavailable) ++result.unknown;
    }
    return result;
  }

 private:
  void work(std::size_t number) {
    const auto guard = make_guard(stores_[number % 2]);
    while (!stops_) {
      const int at = next_.fetch_add(1);
      if (at / 2 >= most) return;
      const auto outcome = guard.try_call(at / 2);
      if (outcome.has_value()) {
        note_answer();
        continue;
      }
      ++unavailable_;
      const std::lock_guard lock(mutex_);
      last_error_ = outcome.error().message;
    }
  }

  void note_answer() {
    ++answered_;
    const auto now =
        std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch())
            .count();
    const long before = last_answer_.exchange(now);
    long longest = longest_gap_.load();
    while (before != 0 && now - before > longest && !longest_gap_.compare_exchange_weak(longest, now - before)) {
    }
  }

  idem::RedisStore stores_[2];
  std::vector<std::atomic<int>> runs_;
  std::atomic<int> next_{0};
  std::atomic<long> answered_{0};
  std::atomic<long> unavailable_{0};
  std::atomic<long> last_answer_{0};
  std::atomic<long> longest_gap_{0};
  std::atomic<bool> stops_{false};
  mutable std::mutex mutex_;
  std::string last_error_;
  std::vector<std::thread> threads_;
};

}  // namespace support
