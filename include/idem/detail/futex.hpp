// Words on which threads sleep.
#pragma once

#include <idem/detail/cancellation.hpp>
#include <idem/detail/config.hpp>

#include <atomic>
#include <cstdint>

#if defined(__linux__)
#include <sys/syscall.h>  // the numbers of system calls without a function in the C library
#include <unistd.h>       // syscall
#else
#include <time.h>  // nanosleep where there is no futex
#endif

IDEM_BEGIN_NAMESPACE
namespace detail {

inline constexpr std::uint32_t one_sleeper = 1;
inline constexpr std::uint32_t all_sleepers = 0x7fffffffu;

/// Who may sleep on a word: threads of several processes, through memory that they share, or of one alone, for less.
enum class FutexScope : int { shared = 0, own_process = 128 };

namespace futex_impl {

inline constexpr std::int64_t longest_sleep = 3'600'000'000;  // microseconds, so that every time fits into 32 bits

#if defined(__linux__)

// futex(2): FUTEX_WAIT and FUTEX_WAKE, with FUTEX_PRIVATE_FLAG for one process. <linux/futex.h> would put some forty
// macros into the user's program. The time is what the kernel reads, which needn't be the library's timespec on
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

inline void wait(std::atomic<std::uint32_t>* word, std::uint32_t value, std::int64_t micros,
                 FutexScope scope = FutexScope::shared) noexcept {
  struct {
    KernelTime seconds;
    KernelTime nanoseconds;
  } const time = {static_cast<int>(micros / 1'000'000), static_cast<int>(micros % 1'000'000 * 1000)};
  ::syscall(call, word, 0 | static_cast<int>(scope), value, &time, nullptr, 0);
}

/// Nothing is read or written at `word`, so that it may be gone already: then nobody wakes, or somebody for no reason.
inline void wake(const std::atomic<std::uint32_t>* word, std::uint32_t how_many,
                 FutexScope scope = FutexScope::shared) noexcept {
  ::syscall(call, word, 1 | static_cast<int>(scope), how_many, nullptr, nullptr, 0);
}

#else

// Elsewhere it is looked every two milliseconds.
inline void wait(std::atomic<std::uint32_t>* word, std::uint32_t value, std::int64_t micros,
                 FutexScope = FutexScope::shared) noexcept {
  const NoCancellation shield;
  while (micros > 0 && word->load() == value) {
    const std::int64_t nap = micros < 2000 ? micros : 2000;
    timespec time = {};
    time.tv_nsec = static_cast<long>(nap * 1000);
    if (::nanosleep(&time, nullptr) != 0) return;
    micros -= nap;
  }
}

inline void wake(const std::atomic<std::uint32_t>*, std::uint32_t, FutexScope = FutexScope::shared) noexcept {}

#endif

}  // namespace futex_impl

}  // namespace detail
IDEM_END_NAMESPACE
