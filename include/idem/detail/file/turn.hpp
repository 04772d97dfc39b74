// Whose turn it is among the threads of one process, with a deadline.
#pragma once

#include <idem/detail/chrono.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/file/futex.hpp>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>

IDEM_BEGIN_NAMESPACE
namespace detail::file {

/// What a Turn sleeps on and tells the time by.
struct TurnSystem {
  using Sleepers = std::condition_variable;
  static std::int64_t now() noexcept { return monotonic_micros(); }
};

/// A lock that gives up at a deadline. Not std::timed_mutex, whose waiting ThreadSanitizer doesn't see with g++ 12, and
/// which wakes somebody up with every release: that takes longer than what is done under this one.
///
/// Who finds it taken looks again for as long as falling asleep would take. A release wakes one sleeper, but not while
/// threads that are awake use the lock one after the other: then one in a tenth of a millisecond. Who has waited for a
/// millisecond goes before all others the next time. (Boqun Feng's and Go's mutexes know such a starvation mode, too.)
///
/// Thread safety: any thread; `give_back` and `wanted` by whoever has it.
template <class System>
class BasicTurn {
 public:
  /// False where it wasn't to be had within `micros` microseconds.
  bool take(std::int64_t micros) {
    if (!(may_take(false) && try_take()) && !look_out(false)) return sleep(micros);
    if (!barged_.load(std::memory_order_relaxed)) barged_.store(true, std::memory_order_relaxed);
    return true;
  }

  /// Whether another thread is about to take it. It then does take it, or sees, when it gives up, that it's free.
  bool wanted() const noexcept { return looking_.load() != 0; }

  void give_back() noexcept {
    const bool in_use = barged_.load(std::memory_order_relaxed);
    const std::int64_t woke_at = woke_at_.load(std::memory_order_relaxed);
    taken_.store(false);
    // Asked after the store: who falls asleep says so first and then tries once more.
    if (asleep_.load() == 0) return;
    if (first_in_line_.load()) return wake_one(first_free_);
    if (woken_.load()) return;
    const std::int64_t now = System::now();
    if ((in_use && now - woke_at < patience) || woken_.exchange(true)) return;
    barged_.store(false, std::memory_order_relaxed);
    woke_at_.store(now, std::memory_order_relaxed);
    wake_one(free_);
  }

  /// Wakes one who sleeps although it's free, as the last release may have left it in favour of those who use it one
  /// after the other. For somebody who did and now goes on to something that takes long.
  void leave() noexcept {
    if (asleep_.load() == 0 || taken_.load() || wanted()) return;
    if (first_in_line_.load()) return wake_one(first_free_);
    if (!woken_.exchange(true)) wake_one(free_);
  }

  /// Takes it where it's free and nobody is about to.
  bool take_unwanted() noexcept { return !wanted() && try_take(); }

 private:
  using Sleepers = typename System::Sleepers;

  // Microseconds.
  static constexpr std::int64_t patience = 100;  // between two who are woken although others use the lock
  static constexpr std::int64_t short_nap = 100;
  static constexpr std::int64_t long_nap = 100'000;
  static constexpr std::int64_t longest_wait = 1000;  // before somebody goes first
  static constexpr int looks = 200;

  bool may_take(bool first) const noexcept { return first || !first_in_line_.load(); }

  bool try_take() noexcept {
    bool free = false;
    // Not a relaxed load: it could come before the store by which this thread said that it's about to take the turn or
    // to sleep, and find taken what was given back to a thread that isn't there.
    return !taken_.load() && taken_.compare_exchange_strong(free, true);
  }

  /// Who is about to sleep there is either there already, or tries once more.
  void wake_one(Sleepers& sleepers) noexcept {
    { const std::lock_guard lock(mutex_); }
    sleepers.notify_one();
  }

  /// Takes it if it becomes free within some microseconds.
  bool look_out(bool first) noexcept {
    looking_.fetch_add(1);
    bool mine = false;
    for (int i = 0; i < looks && !mine; ++i) {
      pause_briefly();
      mine = may_take(first) && try_take();
    }
    looking_.fetch_sub(1);
    // Whoever gave it back a moment ago may have counted on this thread.
    return mine || (may_take(first) && try_take());
  }

  bool sleep(std::int64_t micros) {
    const std::int64_t began = System::now();
    std::unique_lock lock(mutex_);
    asleep_.fetch_add(1);
    bool first = false;
    bool watches = false;
    bool mine = false;
    for (int naps = 0;; ++naps) {
      mine = may_take(first) && try_take();
      const std::int64_t waited = mine ? 0 : System::now() - began;
      if (mine || waited >= micros) break;
      // A release that woke nobody may have been the last one, so that one sleeper looks again in a moment.
      watches = watches || !watched_;
      watched_ = true;
      const std::int64_t nap = watches ? short_nap << (naps < 4 ? naps : 4) : long_nap;
      const std::int64_t left = micros - waited;
      // Somebody who was to be woken while all sleepers were looking is this one: nobody else would be woken meanwhile.
      if (!woken_.load()) {
        (first ? first_free_ : free_).wait_for(lock, std::chrono::microseconds(left < nap ? left : nap));
      }
      woken_.store(false);
      if (!first && System::now() - began >= longest_wait) first = !first_in_line_.exchange(true);
      lock.unlock();
      mine = look_out(first);
      lock.lock();
      if (mine) break;
    }
    asleep_.fetch_sub(1);
    if (first) first_in_line_.store(false);
    if (watches) watched_ = false;
    // Who is woken watches next, or takes it and wakes the next one here.
    if (!watched_) free_.notify_one();
    return mine || try_take();  // others may have left it to this one
  }

  std::atomic<bool> taken_{false};
  std::atomic<std::uint32_t> looking_{0};  // awake and about to take it
  std::atomic<std::uint32_t> asleep_{0};
  std::atomic<bool> woken_{false};          // somebody was woken and hasn't looked yet
  std::atomic<bool> first_in_line_{false};  // somebody has waited for so long that only they may take it
  std::atomic<bool> barged_{false};         // somebody took it without having slept since the last one was woken
  std::atomic<std::int64_t> woke_at_{0};
  std::mutex mutex_;
  bool watched_ = false;  // REQUIRES: mutex_; one of the sleepers looks again without being woken
  Sleepers free_;
  Sleepers first_free_;
};

using Turn = BasicTurn<TurnSystem>;

}  // namespace detail::file
IDEM_END_NAMESPACE
