// Words in shared memory on which threads of several processes sleep.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/futex.hpp>

#include <atomic>
#include <cerrno>
#include <cstdint>

#include <time.h>  // clock_gettime

IDEM_BEGIN_NAMESPACE
namespace detail::file {

/// Microseconds of a clock that nobody sets.
inline std::int64_t monotonic_micros() noexcept {
  timespec now = {};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return std::int64_t{now.tv_sec} * 1'000'000 + now.tv_nsec / 1000;
}

/// For loops that look again at what another thread is about to change.
inline void pause_briefly() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#endif
}

/// A count of events, and whether anybody sleeps until the next one. Refers to two words, whose values may be anything
/// at first. Both survive that a process is killed at any instruction: sleepers that are gone cost the next ring one
/// system call, and one that is killed between counting and waking leaves the others asleep until their time is over.
///
/// Thread safety: any number of threads at once, of several processes where the scope says so. Keeps errno.
class Bell {
 public:
  Bell(std::atomic<std::uint32_t>& count, std::atomic<std::uint32_t>& asleep,
       FutexScope scope = FutexScope::shared) noexcept
      : count_(count), asleep_(asleep), scope_(scope) {}

  std::uint32_t ticket() const noexcept { return count_.load(); }

  /// Returns after a ring since the ticket was taken, after `micros` microseconds, or for no reason.
  void sleep(std::uint32_t ticket, std::int64_t micros) const noexcept {
    if (micros <= 0 || count_.load() != ticket) return;
    const int errno_before = errno;
    // Said before the kernel compares count and ticket: a ring before this changes the count, one after it sees it.
    expect_sleepers();
    futex_impl::wait(&count_, ticket, micros < futex_impl::longest_sleep ? micros : futex_impl::longest_sleep, scope_);
    errno = errno_before;
  }

  /// The next ring makes the system call.
  void expect_sleepers() const noexcept { asleep_.store(1); }

  /// Whether somebody may be sleeping.
  bool has_sleepers() const noexcept { return asleep_.load(std::memory_order_relaxed) != 0; }

  /// Where it wakes fewer than all, who is woken sees to it that the others are, too: by `expect_sleepers`.
  void ring(std::uint32_t how_many) const noexcept {
    count_.fetch_add(1);
    if (asleep_.load() == 0 || asleep_.exchange(0) == 0) return;
    // Whose word was just taken back may have a ticket that is newer than this ring, and not be asleep yet: they would
    // sleep without anybody's knowing.
    count_.fetch_add(1);
    wake(how_many);
  }

  /// Wakes one and leaves the word of the others. For somebody after whom a ring for all is sure to follow.
  void ring_for_one() const noexcept {
    count_.fetch_add(1);
    if (asleep_.load() != 0) wake(one_sleeper);
  }

 private:
  void wake(std::uint32_t how_many) const noexcept {
    const int errno_before = errno;
    futex_impl::wake(&count_, how_many, scope_);
    errno = errno_before;
  }

  std::atomic<std::uint32_t>& count_;
  std::atomic<std::uint32_t>& asleep_;
  FutexScope scope_;
};

}  // namespace detail::file
IDEM_END_NAMESPACE
