// Words in shared memory on which threads of several processes sleep.
#pragma once

#include <idem/detail/cancellation.hpp>
#include <idem/detail/config.hpp>

#include <atomic>
#include <cerrno>
#include <cstdint>

#include <time.h>  // clock_gettime; nanosleep where there is no futex
#if defined(__linux__)
#include <sys/syscall.h>  // the numbers of system calls without a function in the C library
#include <unistd.h>       // syscall
#endif

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

inline constexpr std::uint32_t one_sleeper = 1;
inline constexpr std::uint32_t all_sleepers = 0x7fffffffu;

namespace futex_impl {

inline constexpr std::int64_t longest_sleep = 3'600'000'000;  // microseconds, so that every time fits into 32 bits

#if defined(__linux__)

// futex(2), between processes: FUTEX_WAIT and FUTEX_WAKE without FUTEX_PRIVATE_FLAG. <linux/futex.h> would put some
// forty macros into the user's program. The time is what the kernel reads, which needn't be the library's timespec on
// machines of 32 bits.
#if defined(SYS_futex)
inline constexpr long call = SYS_futex;
#if defined(__x86_64__) && defined(__ILP32__)
using KernelTime = long long;
#else
using KernelTime = long;
#endif
#else
inline constexpr long call = SYS_futex_time64;
using KernelTime = long long;
#endif

inline void wait(std::atomic<std::uint32_t>& word, std::uint32_t value, std::int64_t micros) noexcept {
  struct {
    KernelTime seconds;
    KernelTime nanoseconds;
  } const time = {static_cast<int>(micros / 1'000'000), static_cast<int>(micros % 1'000'000 * 1000)};
  ::syscall(call, &word, 0, value, &time, nullptr, 0);
}

inline void wake(std::atomic<std::uint32_t>& word, std::uint32_t how_many) noexcept {
  ::syscall(call, &word, 1, how_many, nullptr, nullptr, 0);
}

#else

// Elsewhere it is looked every two milliseconds.
inline void wait(std::atomic<std::uint32_t>& word, std::uint32_t value, std::int64_t micros) noexcept {
  const NoCancellation shield;
  while (micros > 0 && word.load() == value) {
    const std::int64_t nap = micros < 2000 ? micros : 2000;
    timespec time = {};
    time.tv_nsec = static_cast<long>(nap * 1000);
    if (::nanosleep(&time, nullptr) != 0) return;
    micros -= nap;
  }
}

inline void wake(std::atomic<std::uint32_t>&, std::uint32_t) noexcept {}

#endif

}  // namespace futex_impl

/// A count of events, and whether anybody sleeps until the next one. Refers to two words, whose values may be anything
/// at first. Both survive that a process is killed at any instruction: sleepers that are gone cost the next ring one
/// system call, and one that is killed between counting and waking leaves the others asleep until their time is over.
///
/// Thread safety: any number of threads and processes at once. Keeps errno.
class Bell {
 public:
  Bell(std::atomic<std::uint32_t>& count, std::atomic<std::uint32_t>& asleep) noexcept
      : count_(count), asleep_(asleep) {}

  std::uint32_t ticket() const noexcept { return count_.load(); }

  /// Returns after a ring since the ticket was taken, after `micros` microseconds, or for no reason.
  void sleep(std::uint32_t ticket, std::int64_t micros) const noexcept {
    if (micros <= 0 || count_.load() != ticket) return;
    const int errno_before = errno;
    // Said before the kernel compares count and ticket: a ring before this changes the count, one after it sees it.
    expect_sleepers();
    futex_impl::wait(count_, ticket, micros < futex_impl::longest_sleep ? micros : futex_impl::longest_sleep);
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
    const int errno_before = errno;
    futex_impl::wake(count_, how_many);
    errno = errno_before;
  }

 private:
  std::atomic<std::uint32_t>& count_;
  std::atomic<std::uint32_t>& asleep_;
};

}  // namespace detail::file
IDEM_END_NAMESPACE
