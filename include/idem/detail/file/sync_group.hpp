// Whether the next fdatasync waits for more of those who will need one.
#pragma once

#include <idem/detail/config.hpp>

#include <cstdint>

IDEM_BEGIN_NAMESPACE
namespace detail::file {

/// The threads that the next fdatasync(2) serves. If one begins as soon as the last one ends, those whom that one
/// served come back too late for it, and every fdatasync serves half of the threads. Where they come back much faster
/// than the disk syncs, the next one waits for them: all threads then share each, and none has to sit out the one that
/// runs.
///
/// It waits for half the time that an fdatasync takes, and not where that has turned out to be in vain: then the next
/// ones begin at once, more of them each time. So threads that stay away, or that are busy for as long as the disk,
/// cost hardly anything. (PostgreSQL's commit_delay and commit_siblings are the same thing set by hand.)
///
/// Thread safety: none. Times are in microseconds of a clock that nobody sets.
class SyncGroup {
 public:
  /// A thread needs an fdatasync that hasn't begun.
  void join() noexcept { ++joined_; }

  /// How long the next fdatasync should wait for more threads: 0, begin now.
  std::int64_t wait(std::int64_t now) const noexcept {
    if (is_full() || at_once_ != 0 || patience() < worthwhile) return 0;
    const std::int64_t left = ended_ + patience() - now;
    // A clock that went back says nothing.
    return left > 0 && left <= patience() ? left : 0;
  }
  /// Whether `wait` is 0 whatever the time.
  bool is_full() const noexcept { return joined_ >= expected_; }

  /// An fdatasync begins that serves all who joined.
  void begin(std::int64_t now) noexcept {
    if (at_once_ != 0) {
      --at_once_;
    } else if (is_full()) {
      penalty_ = penalty_ / 2 > least_penalty ? penalty_ / 2 : least_penalty;
    } else if (patience() >= worthwhile) {
      at_once_ = penalty_;
      if (penalty_ < most_penalty) penalty_ *= 2;
    }
    served_ = joined_;
    joined_ = 0;
    began_ = now;
  }

  void end(std::int64_t now) noexcept {
    const std::int64_t took = now > began_ ? now - began_ : 0;
    duration_ = duration_ == 0 ? took : duration_ + (took - duration_) / 8;
    expected_ = served_ + joined_;
    ended_ = now;
  }

 private:
  static constexpr std::int64_t worthwhile = 20;  // microseconds: less than that falling asleep takes
  static constexpr std::uint32_t least_penalty = 8;
  static constexpr std::uint32_t most_penalty = 4096;

  std::int64_t patience() const noexcept { return duration_ / 2; }

  std::uint32_t joined_ = 0;
  std::uint32_t served_ = 0;
  std::uint32_t expected_ = 0;  // those who were served last, and those who joined meanwhile
  std::uint32_t at_once_ = 0;   // how many more begin without waiting
  std::uint32_t penalty_ = least_penalty;
  std::int64_t began_ = 0;
  std::int64_t ended_ = 0;
  std::int64_t duration_ = 0;  // of an fdatasync, as of late
};

}  // namespace detail::file
IDEM_END_NAMESPACE
