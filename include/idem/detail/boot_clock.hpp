// A clock that nobody sets and that goes on while the machine sleeps: for leases that others judge by a clock of their
// own.
#pragma once

#include <idem/detail/chrono.hpp>
#include <idem/detail/config.hpp>

#include <cstdint>

#if defined(__unix__) || defined(__APPLE__)
#include <time.h>  // clock_gettime
#endif

IDEM_BEGIN_NAMESPACE
namespace detail {

/// Microseconds. CLOCK_BOOTTIME of clock_gettime(2) on Linux; CLOCK_MONOTONIC counts suspension on macOS; elsewhere the
/// steady clock, which may not. Async-signal-safe where the system's clock is.
inline std::int64_t boot_micros() noexcept {
#if defined(CLOCK_BOOTTIME)
  timespec now = {};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  return std::int64_t{now.tv_sec} * 1'000'000 + now.tv_nsec / 1000;
#elif defined(__APPLE__)
  timespec now = {};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return std::int64_t{now.tv_sec} * 1'000'000 + now.tv_nsec / 1000;
#else
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::microseconds>(now).count();
#endif
}

}  // namespace detail
IDEM_END_NAMESPACE
