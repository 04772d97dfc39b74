// Threads that do what comes due.
#pragma once

#include <idem/detail/boot_clock.hpp>
#include <idem/detail/config.hpp>
#include <idem/onceonly/impl/quiet_thread.hpp>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

IDEM_BEGIN_NAMESPACE
namespace onceonly {
namespace impl {

/// A few threads, of which one looks what is due; the others do it, so that what takes long keeps nothing else waiting,
/// or sleep. (Leader and followers: Schmidt, Stal, Rohnert and Buschmann, Pattern-Oriented Software Architecture 2.)
///
/// `Owner` has `std::int64_t find_due(std::vector<Job>&)`, which finds what nobody has in hand, and
/// `std::int64_t look_after(Job&)`. Neither throws, and both give the time of boot_micros() when to look again. What
/// was found last is done first.
///
/// Thread safety: `look` from any thread, the keepers' own included; `end` and `abandon` once, by one thread.
template <class Owner, class Job>
class Keepers {
 public:
  Keepers(Owner& owner, std::size_t limit) : owner_(owner), limit_(limit) {}
  Keepers(const Keepers&) = delete;
  Keepers& operator=(const Keepers&) = delete;
  ~Keepers() = default;

  /// Something may be due earlier than was known. Throws where there is no thread yet and none is to be had.
  void look() {
    {
      const std::lock_guard lock(state_->mutex);
      if (state_->threads.empty() && !state_->ended) start();
      state_->news = true;
    }
    state_->looker.notify_one();
  }

  /// Waits for what is being done; does nothing more.
  void end() noexcept {
    std::vector<std::thread> threads;
    {
      const std::lock_guard lock(state_->mutex);
      state_->ended = true;
      threads.swap(state_->threads);
    }
    state_->looker.notify_all();
    state_->helpers.notify_all();
    for (std::thread& thread : threads) thread.join();
  }

  /// In a child of fork, which has no such threads, though they may be waiting here all the same.
  void abandon() noexcept { static_cast<void>(state_.release()); }

 private:
  struct State {
    std::mutex mutex = {};
    std::condition_variable looker = {};
    std::condition_variable helpers = {};
    std::vector<std::thread> threads = {};
    std::vector<Job> due = {};
    std::size_t idle = 0;
    std::int64_t look_at = 0;
    bool looking = false;  // somebody does, or sleeps until there's something to see
    bool news = false;
    bool ended = false;
  };

  // What follows: REQUIRES: the mutex.

  void start() {
    state_->threads.reserve(state_->threads.size() + 1);
    state_->threads.push_back(quiet_thread([this] { work(); }));
  }

  /// For whoever is about to be busy: somebody who looks meanwhile, or does what is due besides.
  void get_help() {
    if (state_->idle != 0) return state_->helpers.notify_one();
    if (state_->threads.size() >= limit_) return;
    IDEM_TRY {
      start();
    }
    IDEM_CATCH_ALL {}  // those that are there do it
  }

  void look_by(std::int64_t time) {
    if (time >= state_->look_at) return;
    state_->look_at = time;
    state_->looker.notify_one();
  }

  void look_out(std::unique_lock<std::mutex>& lock) {
    state_->looking = true;
    state_->news = false;
    state_->look_at = (std::numeric_limits<std::int64_t>::max)();
    lock.unlock();
    std::vector<Job> found;
    const std::int64_t next = owner_.find_due(found);
    lock.lock();
    state_->look_at = (std::min)(state_->look_at, next);
    state_->due.swap(found);  // nobody looks while something is due
    while (state_->due.empty() && !state_->news && !state_->ended) {
      const std::int64_t pause = state_->look_at - idem::detail::boot_micros();
      if (pause <= 0) break;
      state_->looker.wait_for(lock, std::chrono::microseconds(pause));
    }
    state_->looking = false;
  }

  void work() {
    std::unique_lock lock(state_->mutex);
    while (!state_->ended) {
      if (!state_->due.empty()) {
        Job job = std::move(state_->due.back());
        state_->due.pop_back();
        get_help();
        lock.unlock();
        const std::int64_t next = owner_.look_after(job);
        job = Job();
        lock.lock();
        look_by(next);
      } else if (!state_->looking) {
        look_out(lock);
      } else {
        ++state_->idle;
        state_->helpers.wait(lock);
        --state_->idle;
      }
    }
  }

  Owner& owner_;
  const std::size_t limit_;
  std::unique_ptr<State> state_ = std::make_unique<State>();
};

}  // namespace impl
}  // namespace onceonly
IDEM_END_NAMESPACE
