// A clock that stands still until a test moves it.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/duration.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>

IDEM_BEGIN_NAMESPACE
namespace testing {

/// A clock for tests, to stand as `.clock` in a store's options. A handle: copies are one clock.
///
///     idem::testing::ManualClock clock;
///     idem::MemoryStore store{{.clock = clock}};
///     clock.advance(std::chrono::hours(24));
///
/// Thread safety: every member from any thread.
class ManualClock {
 public:
  /// Starts in 2023, so that neither zero nor a present date passes for it by accident.
  ManualClock() : ManualClock(TimePoint{std::chrono::seconds{1'700'000'000}}) {}
  explicit ManualClock(TimePoint start) : micros_(std::make_shared<Micros>(count(start))) {}

  TimePoint now() const noexcept {
    return TimePoint{std::chrono::microseconds{micros_->load(std::memory_order_acquire)}};
  }

  /// Moves on by `span`, rounded up to a microsecond; back, where it's negative. Stops at `TimePoint::max()`.
  void advance(Duration span) noexcept {
    std::int64_t before = micros_->load(std::memory_order_acquire);
    for (;;) {
      const std::int64_t after = count(later(TimePoint{std::chrono::microseconds{before}}, span));
      if (micros_->compare_exchange_weak(before, after, std::memory_order_acq_rel)) return;
    }
  }

  void set(TimePoint now) noexcept { micros_->store(count(now), std::memory_order_release); }

 private:
  using Micros = std::atomic<std::int64_t>;

  static constexpr std::int64_t count(TimePoint time) noexcept { return time.time_since_epoch().count(); }

  std::shared_ptr<Micros> micros_;
};

}  // namespace testing
IDEM_END_NAMESPACE
