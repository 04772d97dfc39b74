// Bytes to and from files at given offsets, room for them, and the way to the disk.
#pragma once

#include <idem/detail/cancellation.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/file/descriptor.hpp>
#include <idem/detail/file/problem.hpp>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <limits>

#include <fcntl.h>  // fallocate
#include <unistd.h>

IDEM_BEGIN_NAMESPACE
namespace detail::file {

/// EFBIG where a file may not grow to `end`. Asked before each write, since a write past RLIMIT_FSIZE brings SIGXFSZ,
/// which ends the program (setrlimit(2)).
inline Problem check_file_size(std::uint64_t end) noexcept {
  constexpr auto most = static_cast<std::uint64_t>((std::numeric_limits<SystemOffset>::max)());
  SystemLimit limit;
  if (end > most) return {"cannot grow so far", EFBIG};
  if (call_file_size_limit(limit) == 0 && limit.rlim_cur != no_file_size_limit && end > limit.rlim_cur) {
    return {"cannot grow so far", EFBIG};
  }
  return {};
}

/// Writes all of `size` bytes at `offset` (pwrite(2)), going on after short writes and signals. After a problem any
/// part of them may be there. Past RLIMIT_FSIZE: EFBIG, nothing written, no signal.
inline Problem write_all(int fd, const void* data, std::size_t size, std::uint64_t offset) noexcept {
  if (offset > (std::numeric_limits<std::uint64_t>::max)() - size) return {"cannot grow so far", EFBIG};
  if (const Problem problem = check_file_size(offset + size)) return problem;
  const NoCancellation shield;
  const auto* from = static_cast<const unsigned char*>(data);
  while (size > 0) {
    const ssize_t written = call_pwrite(fd, from, size, static_cast<SystemOffset>(offset));
    if (written > 0) {
      const auto step = static_cast<std::size_t>(written);
      from += step;
      offset += step;
      size -= step;
    } else if (written == 0) {
      return {"cannot be written: the system wrote nothing", 0};
    } else if (errno != EINTR) {
      return {"cannot be written", errno};
    }
  }
  return {};
}

/// Reads all of `size` bytes at `offset` (pread(2)). A file that ends before is a problem with error 0.
inline Problem read_all(int fd, void* to, std::size_t size, std::uint64_t offset) noexcept {
  constexpr auto most = static_cast<std::uint64_t>((std::numeric_limits<SystemOffset>::max)());
  if (offset > most || size > most - offset) return {"cannot be read so far", EFBIG};
  const NoCancellation shield;
  auto* at = static_cast<unsigned char*>(to);
  while (size > 0) {
    const ssize_t got = call_pread(fd, at, size, static_cast<SystemOffset>(offset));
    if (got > 0) {
      const auto step = static_cast<std::size_t>(got);
      at += step;
      offset += step;
      size -= step;
    } else if (got == 0) {
      return {"ends before what was to be read", 0};
    } else if (errno != EINTR) {
      return {"cannot be read", errno};
    }
  }
  return {};
}

/// Writes zeros to [from, to).
inline Problem write_zeros(int fd, std::uint64_t from, std::uint64_t to) noexcept {
  const unsigned char zeros[16384] = {};
  while (from < to) {
    const std::uint64_t left = to - from;
    const std::size_t piece = left < sizeof zeros ? static_cast<std::size_t>(left) : sizeof zeros;
    if (const Problem problem = write_all(fd, zeros, piece, from)) return problem;
    from += piece;
  }
  return {};
}

/// fallocate(2) with mode 0; false, with errno set, where it failed or there is none (EOPNOTSUPP).
inline bool call_allocate(int fd, std::uint64_t from, std::uint64_t size) noexcept {
#if defined(__linux__)
  int result = 0;
  do {
#if defined(__GLIBC__) && defined(_LARGEFILE64_SOURCE)
    result = ::fallocate64(fd, 0, static_cast<SystemOffset>(from), static_cast<SystemOffset>(size));
#else
    result = ::fallocate(fd, 0, static_cast<SystemOffset>(from), static_cast<SystemOffset>(size));
#endif
  } while (result != 0 && errno == EINTR);
  return result == 0;
#else
  static_cast<void>(fd);
  static_cast<void>(from);
  static_cast<void>(size);
  errno = EOPNOTSUPP;
  return false;
#endif
}

/// Makes room on the disk for [from, to) and lets the file reach to `to`, so that writing there later can't fail for
/// want of space. What lay past the end of the file is zero afterwards; what lay before it stays as it is. With
/// `initialise` the new part is also written, so that a later fdatasync has no extents to convert. Where the system
/// can't allocate, zeros are written instead. Nothing is synced. Past RLIMIT_FSIZE: EFBIG, no signal. After a problem
/// the file may have grown by any part of it.
inline Problem allocate(int fd, std::uint64_t from, std::uint64_t to, bool initialise) noexcept {
  if (from >= to) return {};
  if (const Problem problem = check_file_size(to)) return problem;
  const NoCancellation shield;
  FileStatus before;
  if (const Problem problem = status_of(fd, before)) return problem;
  const std::uint64_t fresh = before.size > from ? before.size : from;
  if (call_allocate(fd, from, to - from)) return initialise ? write_zeros(fd, fresh, to) : Problem{};
  if (errno != EOPNOTSUPP && errno != ENOSYS) return {"gets no room on the disk", errno};
  // A gap between the end of the file and `from` is left alone, as by fallocate.
  return write_zeros(fd, fresh, to);
}

/// fdatasync(2): what was written to `fd` is on disk afterwards, with as much of the inode as is needed to read it.
/// After a failure the system may have dropped what it couldn't write: a second call that succeeds proves nothing.
inline Problem sync_data(int fd) noexcept {
  const NoCancellation shield;
  int result = 0;
  do {
#if defined(__APPLE__)
    result = ::fcntl(fd, F_FULLFSYNC);  // fsync there stops at the cache of the disk
#else
    result = ::fdatasync(fd);
#endif
  } while (result != 0 && errno == EINTR);
  return result == 0 ? Problem{} : Problem{"cannot be synced to disk", errno};
}

/// fsync(2) of a directory: its entries are on disk afterwards. File systems that have no such thing (EINVAL) are
/// believed to need none.
inline Problem sync_directory(int fd) noexcept {
  const NoCancellation shield;
  int result = 0;
  do {
    result = ::fsync(fd);
  } while (result != 0 && errno == EINTR);
  return result == 0 || errno == EINVAL ? Problem{} : Problem{"cannot be synced to disk", errno};
}

}  // namespace detail::file
IDEM_END_NAMESPACE
