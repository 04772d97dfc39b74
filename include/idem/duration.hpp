// Spans and points of time as idem takes and gives them.
#pragma once

#include <idem/detail/chrono.hpp>
#include <idem/detail/config.hpp>

#include <compare>
#include <cstdint>
#include <limits>
#include <ratio>
#include <type_traits>

IDEM_BEGIN_NAMESPACE

/// A point of time in every record and every answer: microseconds of the system clock's epoch on every platform.
/// `TimePoint::max()` stands for never. Converts to `std::chrono::system_clock::time_point` without a cast.
using TimePoint = std::chrono::time_point<std::chrono::system_clock, std::chrono::microseconds>;

/// A span of time, made from any chrono duration with an integral count; kept in nanoseconds.
///
/// Nothing is silently cut: a span that doesn't fit (about 292 years) is remembered as `overflowed()` and refused with
/// std::invalid_argument by whoever takes the options it stands in. Use `idem::forever` for a span without end.
/// A floating-point count doesn't compile, since it has no exact value; `std::chrono::duration_cast` says what is
/// meant. Thread safety: a plain value.
class Duration {
 public:
  constexpr Duration() noexcept = default;

  template <class Rep, class Period>
  constexpr Duration(std::chrono::duration<Rep, Period> span) noexcept {  // NOLINT: conversion is the point
    static_assert(std::is_integral_v<Rep>,
                  "idem: a duration with a floating-point count has no exact value; "
                  "use an integral one, for example std::chrono::milliseconds(1500) for 1.5 s");
    if constexpr (std::is_integral_v<Rep>) assign<Period>(span.count());
  }

  static constexpr Duration unlimited() noexcept {
    Duration span;
    span.count_ = (std::numeric_limits<std::int64_t>::max)();
    span.kind_ = Kind::unlimited;
    return span;
  }

  /// Nanoseconds; the largest value for `forever`.
  constexpr std::int64_t nanoseconds() const noexcept { return count_; }
  constexpr bool is_forever() const noexcept { return kind_ == Kind::unlimited; }
  /// The span it was made from doesn't fit; options that hold it are refused.
  constexpr bool overflowed() const noexcept { return kind_ == Kind::overflowed; }
  /// Longer than nothing, and representable.
  constexpr bool is_positive() const noexcept { return !overflowed() && count_ > 0; }

  friend constexpr bool operator==(Duration, Duration) noexcept = default;
  friend constexpr auto operator<=>(Duration, Duration) noexcept = default;

 private:
  enum class Kind : std::uint8_t { finite, unlimited, overflowed };

  template <class Period, class Rep>
  constexpr void assign(Rep count) noexcept {
    // std::ratio is in lowest terms, so a unit that is no whole number of nanoseconds has a denominator that is left.
    using ToNano = std::ratio_divide<Period, std::nano>;
    constexpr std::int64_t limit = (std::numeric_limits<std::int64_t>::max)();
    const bool negative = count < Rep{};
    // The magnitude of the most negative count fits an unsigned number.
    const std::uint64_t magnitude =
        negative ? std::uint64_t{0} - static_cast<std::uint64_t>(count) : static_cast<std::uint64_t>(count);
    constexpr auto num = static_cast<std::uint64_t>(ToNano::num);
    constexpr auto den = static_cast<std::uint64_t>(ToNano::den);
    const std::uint64_t whole = magnitude / den;
    const std::uint64_t rest = magnitude % den;
    if (whole > static_cast<std::uint64_t>(limit) / num || rest > static_cast<std::uint64_t>(limit) / num) {
      count_ = negative ? -limit : limit;
      kind_ = Kind::overflowed;
      return;
    }
    // A rest of less than a nanosecond is rounded up, so that a positive span never becomes none.
    const std::uint64_t fraction = (rest * num + (den - 1)) / den;
    const std::uint64_t total = whole * num + fraction;
    if (total > static_cast<std::uint64_t>(limit)) {
      count_ = negative ? -limit : limit;
      kind_ = Kind::overflowed;
      return;
    }
    count_ = negative ? -static_cast<std::int64_t>(total) : static_cast<std::int64_t>(total);
  }

  std::int64_t count_ = 0;
  Kind kind_ = Kind::finite;
};

/// A span without end.
inline constexpr Duration forever = Duration::unlimited();

/// `start + span`, rounded up to a microsecond; `TimePoint::max()`, which is never, where that doesn't fit.
constexpr TimePoint later(TimePoint start, Duration span) noexcept {
  if (span.is_forever() || span.overflowed()) return (TimePoint::max)();
  const std::int64_t nanos = span.nanoseconds();
  const std::int64_t micros = nanos / 1000 + (nanos % 1000 > 0 ? 1 : 0);
  const std::int64_t from = start.time_since_epoch().count();
  if (micros > 0 && from > (std::numeric_limits<std::int64_t>::max)() - micros) return (TimePoint::max)();
  return TimePoint{std::chrono::microseconds{from + micros}};
}

IDEM_END_NAMESPACE
