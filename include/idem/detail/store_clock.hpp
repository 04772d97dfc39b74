// The clock of stores that live in one process: never set back, and cheap to ask whether a moment has come.
#pragma once

#include <idem/clock.hpp>
#include <idem/detail/cancellation.hpp>
#include <idem/detail/chrono.hpp>
#include <idem/detail/config.hpp>
#include <idem/duration.hpp>

#include <cstdint>
#include <utility>

#if defined(__linux__)
#include <time.h>  // clock_gettime, which also has a clock that is read in a fifth of the time
#endif

IDEM_BEGIN_NAMESPACE
namespace detail {

/// The wall clock's time when this was made, moved on by the monotonic clock, so that setting the wall clock changes
/// nothing; or a clock of the user's. Time in which the machine sleeps isn't counted.
/// Thread safety: immutable.
class StoreClock {
 public:
  explicit StoreClock(Clock injected) noexcept : injected_(std::move(injected)) {
    const auto wall = std::chrono::system_clock::now().time_since_epoch();
    offset_ = std::chrono::duration_cast<std::chrono::microseconds>(wall).count() - monotonic();
  }

  bool injected() const noexcept { return static_cast<bool>(injected_); }

  TimePoint now() const noexcept {
    if (injected_) {
      const NoCancellation shield;  // the user's clock may have cancellation points
      return injected_.now();
    }
    return at(monotonic());
  }

  /// Whether now() has come to `moment`, without asking the exact clock where that is still far away.
  bool reached(TimePoint moment) const noexcept {
    if (moment == (TimePoint::max)()) return false;
#if defined(__linux__)
    // CLOCK_MONOTONIC_COARSE is CLOCK_MONOTONIC at the last tick (clock_gettime(2)): never ahead of it and, at the
    // lowest tick rate there is, 10 ms behind. A machine that was stopped for longer may see a record for that much
    // longer.
    if (!injected_ && at(read(CLOCK_MONOTONIC_COARSE)) + std::chrono::milliseconds(50) < moment) return false;
#endif
    return moment <= now();
  }

 private:
#if defined(__linux__)
  static std::int64_t read(clockid_t clock) noexcept {
    timespec time;
    ::clock_gettime(clock, &time);
    return std::int64_t{time.tv_sec} * 1000000 + time.tv_nsec / 1000;
  }
  static std::int64_t monotonic() noexcept {
    return read(CLOCK_MONOTONIC);
  }
#else
  static std::int64_t monotonic() noexcept {
    const auto time = std::chrono::steady_clock::now().time_since_epoch();
    return std::chrono::duration_cast<std::chrono::microseconds>(time).count();
  }
#endif

  TimePoint at(std::int64_t reading) const noexcept {
    return TimePoint{std::chrono::microseconds{offset_ + reading}};
  }

  Clock injected_;
  std::int64_t offset_ = 0;
};

}  // namespace detail
IDEM_END_NAMESPACE
