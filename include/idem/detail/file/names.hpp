// Whether a directory's names still stand for the same files, for one system call in place of one for each name.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/file/descriptor.hpp>

#include <cstdint>

#include <time.h>  // clock_gettime
#if defined(__linux__)
#include <sys/vfs.h>  // fstatfs
#endif

IDEM_BEGIN_NAMESPACE
namespace detail::file {

/// Knows a directory by the time of its last change, which making, removing and renaming an entry sets to the system's
/// clock as of its last tick. That clock being past the time it finds, no later change can be given the same one. File
/// systems that aren't known to work that way, and such as have times of seconds, are told every time that names may
/// have changed.
///
/// Thread safety: one thread at a time.
class DirectoryNames {
 public:
  /// Whether nothing was made, removed or renamed in the directory since the look that was `confirm`ed. What is looked
  /// at by name after a false answer may be confirmed.
  bool unchanged(int directory) noexcept {
#if defined(__linux__)
    if (kind_ == Kind::unknown) kind_ = is_exact(directory) ? Kind::exact : Kind::other;
    if (kind_ != Kind::exact) return false;
    timespec now = {};
    SystemStatus status;
    seen_ = {};
    // In this order: a change after the look has at least the time read before it.
    if (::clock_gettime(CLOCK_REALTIME_COARSE, &now) != 0 || call_fstat(directory, status) != 0) return false;
    const Time changed{status.st_ino, status.st_ctim.tv_sec, status.st_ctim.tv_nsec};
    if (changed == confirmed_) return true;
    const std::int64_t seconds = std::int64_t{now.tv_sec} - changed.seconds;
    const bool past =
        seconds > 1 || (seconds >= 0 && seconds * 1'000'000'000 + now.tv_nsec - changed.nanoseconds > margin);
    // An inode of ext4 with 128 bytes has no nanoseconds.
    if (past && changed.nanoseconds != 0) seen_ = changed;
#else
    static_cast<void>(directory);
#endif
    return false;
  }

  /// The names were looked at, one by one, after `unchanged` said no, and found to stand for what they did.
  void confirm() noexcept {
    confirmed_ = seen_;
  }

 private:
  enum class Kind : std::uint8_t { unknown = 0, exact = 1, other = 2 };

  // Nanoseconds: two of the longest ticks, though none would do.
  static constexpr std::int64_t margin = 20'000'000;

  struct Time {
    std::uint64_t inode = 0;
    std::int64_t seconds = 0;
    std::int64_t nanoseconds = 0;

    friend bool operator==(const Time& a, const Time& b) noexcept {
      return a.inode != 0 && a.inode == b.inode && a.seconds == b.seconds && a.nanoseconds == b.nanoseconds;
    }
  };

#if defined(__linux__)
  /// Those of linux/magic.h whose directories have times of nanoseconds and that are changed through this kernel alone.
  static bool is_exact(int directory) noexcept {
    struct ::statfs status;
    if (::fstatfs(directory, &status) != 0) return false;
    // The field is signed, and of 32 bits, on some machines.
    switch (static_cast<std::uint64_t>(status.f_type) & 0xffffffffu) {
      case 0xef53:      // ext2, ext3, ext4
      case 0x58465342:  // XFS
      case 0x9123683e:  // Btrfs
      case 0xf2f52010:  // F2FS
        return true;
      default:
        return false;
    }
  }
#endif

  Kind kind_ = Kind::unknown;
  Time seen_;
  Time confirmed_;
};

}  // namespace detail::file
IDEM_END_NAMESPACE
