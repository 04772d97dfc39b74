// All that a store on files asks of the operating system: descriptors, directories, transfers, names, and locks.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/file/descriptor.hpp>
#include <idem/detail/file/directory.hpp>
#include <idem/detail/file/boot_id.hpp>
#include <idem/detail/file/open_file.hpp>
#include <idem/detail/file/problem.hpp>
#include <idem/detail/file/transfer.hpp>

#include <cerrno>
#include <cstdint>

#include <sys/file.h>  // flock

IDEM_BEGIN_NAMESPACE
namespace detail::file {

enum class Locked : std::uint8_t { obtained = 1, held = 2, failed = 3 };

/// flock(2) without waiting. The lock belongs to what open returned, hence to all copies of the descriptor, those of
/// forked children included; two opens of one file exclude each other also in one process. `problem` is set where it
/// failed. REQUIRES: no lock is held through `fd`, since a change from shared to exclusive gives up the first one.
inline Locked try_lock(int fd, bool exclusive, Problem& problem) noexcept {
  int result = 0;
  do {
    result = ::flock(fd, (exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB);
  } while (result != 0 && errno == EINTR);
  if (result == 0) return Locked::obtained;
  if (errno == EWOULDBLOCK) return Locked::held;
  problem = {"cannot be locked", errno};
  return Locked::failed;
}

/// Gives the lock up, for all copies of the descriptor at once. Keeps errno.
inline void unlock(int fd) noexcept {
  const int errno_before = errno;
  int result = 0;
  do {
    result = ::flock(fd, LOCK_UN);
  } while (result != 0 && errno == EINTR);
  errno = errno_before;
}

}  // namespace detail::file
IDEM_END_NAMESPACE
