// The lock under which one of all processes of a store appends to its journal.
#pragma once

#include <idem/detail/cancellation.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/file/fork_guard.hpp>
#include <idem/detail/file/futex.hpp>
#include <idem/detail/file/os.hpp>
#include <idem/detail/file/page.hpp>
#include <idem/detail/process.hpp>

#include <atomic>
#include <cstdint>

IDEM_BEGIN_NAMESPACE
namespace detail::file {

inline constexpr const char* lock_name = "lock";

inline constexpr const char* held_too_long =
    "was held by another process for longer than lock_timeout; is that one stopped, or does its disk hang?";

/// An exclusive flock(2) on the file `lock`, which is never replaced or unlinked, so that all who have it open mean the
/// same one. The kernel frees it when its holder dies. The page's words only save those who wait the polling: without
/// them they look every five milliseconds.
///
/// Thread safety: one thread of a process at a time; a second StoreLock of the same process is like another process.
class StoreLock {
 public:
  StoreLock() = default;
  StoreLock(const StoreLock&) = delete;
  StoreLock& operator=(const StoreLock&) = delete;

  Problem open(int directory, bool group) noexcept {
    const NoCancellation shield;
    Fd file;
    if (Problem problem = open_file(directory, lock_name, Creation::if_missing, group, file)) return problem;
    if (Problem problem = status_of(file.get(), identity_)) return problem;
    return descriptor_.set(static_cast<Fd&&>(file));
  }

  /// Whether the file that was opened still is the directory's. Where somebody else unlinked or replaced it, who opens
  /// the store from then on locks another file: then `open` has to be called again. One system call.
  /// REQUIRES: `acquire` succeeded.
  bool is_current(int directory) const noexcept {
    FileStatus named;
    return !status_of(directory, lock_name, named) && named.inode == identity_.inode &&
           named.device == identity_.device;
  }

  /// Waits for it, for at most about `timeout_micros` microseconds. Not for its own process: who holds it and asks
  /// again waits for nothing. REQUIRES: `open` succeeded, here and of the page.
  Problem acquire(SharedPage& page, std::int64_t timeout_micros) noexcept {
    const int fd = descriptor_.get();
    if (fd < 0) return {"was opened by a parent process: make a store in the child", 0, lock_name};
    const Bell bell = page.lock_bell();
    std::int64_t began = 0;
    for (int attempt = 1;; ++attempt) {
      // Taken before the attempt, so that a release after it isn't slept through.
      const std::uint32_t ticket = bell.ticket();
      Problem problem;
      const Locked locked = try_lock(fd, true, problem);
      if (locked == Locked::obtained) {
        // A release wakes one sleeper. Who was that one may have left others, and wakes the next in turn. (Drepper,
        // Futexes Are Tricky, section 6.)
        if (attempt > spins) bell.expect_sleepers();
        page.lock_holder(process_id());
        return {};
      }
      if (locked == Locked::failed) {
        problem.file = lock_name;
        return problem;
      }
      if (attempt < spins) {
        spin(bell, ticket);  // it is usually held for some microseconds, less than falling asleep takes
        continue;
      }
      const std::int64_t now = monotonic_micros();
      if (attempt == spins) began = now;
      const std::int64_t left = timeout_micros - (now - began);
      if (left <= 0) {
        bell.expect_sleepers();
        kept_out_by_.store(page.lock_holder(), std::memory_order_relaxed);
        return {held_too_long, 0, lock_name};
      }
      // A holder that dies rings no bell, and one may ring it that uses another page.
      bell.sleep(ticket, left < longest_nap ? left : longest_nap);
    }
  }

  /// REQUIRES: `acquire` succeeded. In a child of the process that acquired it this does nothing.
  void release(SharedPage& page) noexcept {
    const int fd = descriptor_.get();
    if (fd < 0) return;
    page.lock_holder(0);
    unlock(fd);
    page.lock_bell().ring(one_sleeper);
  }

  /// Who held it when the time of the last `acquire` that failed was over, for messages; 0 where that isn't known.
  std::int64_t kept_out_by() const noexcept { return kept_out_by_.load(std::memory_order_relaxed); }

  /// The id of the process that holds it, for messages; 0 where that isn't known.
  std::int64_t holder(const SharedPage& page) const noexcept { return page.lock_holder(); }

 private:
  static constexpr int spins = 4;
  static constexpr std::int64_t longest_nap = 5000;  // microseconds

  static void spin(const Bell& bell, std::uint32_t ticket) noexcept {
    for (int i = 0; i < 100 && bell.ticket() == ticket; ++i) pause_briefly();
  }

  ForkClosed descriptor_;
  FileStatus identity_ = {};
  std::atomic<std::int64_t> kept_out_by_{0};
};

}  // namespace detail::file
IDEM_END_NAMESPACE
