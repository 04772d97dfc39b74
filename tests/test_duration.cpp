// Spans and points of time: nothing is silently cut, wrapped or turned into "none".
#include <idem/clock.hpp>
#include <idem/duration.hpp>
#include <idem/testing/manual_clock.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <cstdint>
#include <limits>
#include <ratio>
#include <thread>
#include <type_traits>
#include <vector>

namespace {

using idem::Duration;
using idem::TimePoint;
using namespace std::chrono_literals;

constexpr std::int64_t most = (std::numeric_limits<std::int64_t>::max)();
constexpr TimePoint never = (TimePoint::max)();

template <class Rep, class Period>
constexpr std::chrono::duration<Rep, Period> span(Rep count) {
  return std::chrono::duration<Rep, Period>(count);
}

}  // namespace

TEST_CASE("TIM-09: a span is kept to the nanosecond") {
  CHECK(Duration{}.nanoseconds() == 0);
  CHECK(Duration{5min}.nanoseconds() == 300'000'000'000);
  CHECK(Duration{1ns}.nanoseconds() == 1);
  CHECK(Duration{-3ms}.nanoseconds() == -3'000'000);
  CHECK(Duration{24h} == Duration{86400s});
  CHECK(Duration{24h} < Duration{25h});
  CHECK(Duration{span<std::uint8_t, std::ratio<60>>(255)}.nanoseconds() == 255 * 60'000'000'000);
  CHECK(Duration{span<std::int8_t, std::ratio<1>>(-128)}.nanoseconds() == -128'000'000'000);
  CHECK(Duration{std::chrono::nanoseconds::max()}.nanoseconds() == most);
  CHECK_FALSE(Duration{std::chrono::nanoseconds::max()}.overflowed());
  static_assert(Duration{1s}.nanoseconds() == 1'000'000'000);
}

TEST_CASE("TIM-09: zero, negative and too long spans are told apart from for ever and from positive ones") {
  CHECK_FALSE(Duration{}.is_positive());
  CHECK_FALSE(Duration{0s}.is_positive());
  CHECK_FALSE(Duration{-1ns}.is_positive());
  CHECK(Duration{1ns}.is_positive());
  CHECK(idem::forever.is_positive());
  CHECK(idem::forever.is_forever());
  CHECK_FALSE(idem::forever.overflowed());
  CHECK_FALSE(Duration{std::chrono::nanoseconds::max()}.is_forever());
  CHECK(Duration{std::chrono::nanoseconds::max()} != idem::forever);
  CHECK(Duration{std::chrono::nanoseconds::max()} < idem::forever);
  CHECK(Duration{1000h} < idem::forever);
}

TEST_CASE("T-26 T-76: a span that doesn't fit is remembered as such, on either side of nothing") {
  using Hours = std::chrono::duration<std::int64_t, std::ratio<3600>>;
  using Pico = std::chrono::duration<std::int64_t, std::pico>;
  constexpr std::int64_t whole_hours = most / 3'600'000'000'000;

  CHECK_FALSE(Duration{Hours{whole_hours}}.overflowed());
  CHECK(Duration{Hours{whole_hours + 1}}.overflowed());
  CHECK_FALSE(Duration{Hours{whole_hours + 1}}.is_positive());
  CHECK(Duration{Hours{-whole_hours - 1}}.overflowed());
  CHECK(Duration{Hours::max()}.overflowed());
  CHECK(Duration{Hours::min()}.overflowed());
  CHECK(Duration{std::chrono::nanoseconds::min()}.overflowed());
  CHECK(Duration{span<std::uint64_t, std::nano>(std::uint64_t{1} << 63)}.overflowed());
  CHECK(Duration{span<std::uint64_t, std::ratio<1>>((std::numeric_limits<std::uint64_t>::max)())}.overflowed());
  CHECK_FALSE(Duration{span<std::int64_t, std::giga>(9)}.overflowed());
  CHECK(Duration{span<std::int64_t, std::giga>(9)}.nanoseconds() == 9'000'000'000'000'000'000);
  CHECK(Duration{span<std::int64_t, std::giga>(10)}.overflowed());
  CHECK_FALSE(Duration{Pico::max()}.overflowed());

  // One that overflowed isn't mistaken for a finite one or for ever.
  CHECK_FALSE(Duration{Hours::max()}.is_forever());
  CHECK(Duration{Hours::max()} != Duration{std::chrono::nanoseconds::max()});
}

TEST_CASE("TIM-09: less than a nanosecond is rounded up, so that a positive span never becomes none") {
  CHECK(Duration{span<std::int64_t, std::pico>(1)}.nanoseconds() == 1);
  CHECK(Duration{span<std::int64_t, std::pico>(999)}.nanoseconds() == 1);
  CHECK(Duration{span<std::int64_t, std::pico>(1000)}.nanoseconds() == 1);
  CHECK(Duration{span<std::int64_t, std::pico>(1001)}.nanoseconds() == 2);
  CHECK(Duration{span<std::int64_t, std::pico>(0)}.nanoseconds() == 0);
  CHECK(Duration{span<std::int64_t, std::ratio<1, 3>>(1)}.nanoseconds() == 333'333'334);
  CHECK(Duration{span<std::int64_t, std::ratio<1, 3>>(3)}.nanoseconds() == 1'000'000'000);
}

TEST_CASE("TIM-09: a point of time after a span is rounded up to the microsecond and never lies before its start") {
  const TimePoint start{1'700'000'000s};
  CHECK(idem::later(start, Duration{}) == start);
  CHECK(idem::later(start, 1ns) == start + 1us);
  CHECK(idem::later(start, 1us) == start + 1us);
  CHECK(idem::later(start, 1001ns) == start + 2us);
  CHECK(idem::later(start, 24h) == start + 24h);
  CHECK(idem::later(start, -1ms) == start - 1ms);
  const TimePoint far{std::chrono::microseconds{most / 1000 + 1}};
  CHECK(idem::later(TimePoint{}, std::chrono::nanoseconds::max()) == far);
}

TEST_CASE("T-26 T-76: a point of time that doesn't fit is never") {
  CHECK(idem::later(TimePoint{}, idem::forever) == never);
  CHECK(idem::later(never, 1ns) == never);
  CHECK(idem::later(never, Duration{}) == never);
  CHECK(idem::later(never, idem::forever) == never);
  CHECK(idem::later(never - 1us, 1us) == never);
  CHECK(idem::later(never - 1us, 2us) == never);
  CHECK(idem::later(never - 2us, 1us) == never - 1us);
  CHECK(idem::later(never, std::chrono::nanoseconds::max()) == never);
  CHECK(idem::later(TimePoint{}, std::chrono::hours::max()) == never);
  CHECK(idem::later((TimePoint::min)(), std::chrono::nanoseconds::max()) > (TimePoint::min)());
}

TEST_CASE("a point of time converts to the system clock's own without a cast") {
  static_assert(std::is_convertible_v<TimePoint, std::chrono::system_clock::time_point>);
  static_assert(!std::is_convertible_v<double, Duration>);
  const std::chrono::system_clock::time_point converted = TimePoint{5s};
  CHECK(converted.time_since_epoch() == 5s);
}

TEST_CASE("a manual clock moves only by hand, and all its copies are one clock") {
  idem::testing::ManualClock clock;
  const idem::testing::ManualClock copy = clock;
  const idem::Clock held = clock;
  const TimePoint start = clock.now();
  CHECK(clock.now() == start);
  clock.advance(1h);
  CHECK(copy.now() == start + 1h);
  CHECK(held.now() == start + 1h);
  clock.set(TimePoint{7s});
  CHECK(copy.now() == TimePoint{7s});
  CHECK(held.now() == TimePoint{7s});
  clock.advance(idem::forever);
  CHECK(clock.now() == never);
  CHECK(idem::testing::ManualClock{TimePoint{3s}}.now() == TimePoint{3s});
}

TEST_CASE("a manual clock that many threads advance loses none of it") {
  idem::testing::ManualClock clock{TimePoint{}};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([clock]() mutable {
      for (int step = 0; step < 1000; ++step) clock.advance(1us);
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(clock.now() == TimePoint{4ms});
}

TEST_CASE("a clock is made from anything that tells the time, and an empty one stands for the store's own") {
  CHECK_FALSE(static_cast<bool>(idem::Clock{}));
  const idem::Clock fixed = [] { return TimePoint{42s}; };
  REQUIRE(static_cast<bool>(fixed));
  CHECK(fixed.now() == TimePoint{42s});
}
