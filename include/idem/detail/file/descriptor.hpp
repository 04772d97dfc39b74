// File descriptors with an owner, and what the system says of a file.
#pragma once

#include <idem/detail/cancellation.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/file/problem.hpp>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>  // strcmp for the names of the store's files

#include <fcntl.h>         // openat, AT_SYMLINK_NOFOLLOW
#include <sys/mman.h>      // mmap
#include <sys/resource.h>  // getrlimit
#include <sys/stat.h>
#if defined(__GLIBC__) && defined(STATX_INO)
#include <sys/sysmacros.h>  // makedev
#endif
#include <unistd.h>

IDEM_BEGIN_NAMESPACE
namespace detail::file {

// Sizes, offsets and inode numbers have 64 bits also on 32-bit machines, and also where only one of two translation
// units was compiled with _FILE_OFFSET_BITS=64: glibc's own names for that are used wherever it has them.
#if defined(__GLIBC__) && defined(_LARGEFILE64_SOURCE)
using SystemStatus = struct ::stat64;
using SystemOffset = ::off64_t;
using SystemLimit = struct ::rlimit64;
inline constexpr int large_file_flag = O_LARGEFILE;
inline constexpr std::uint64_t no_file_size_limit = RLIM64_INFINITY;
inline int call_fstat(int fd, SystemStatus& to) noexcept { return ::fstat64(fd, &to); }
inline int call_fstatat(int directory, const char* name, SystemStatus& to) noexcept {
  return ::fstatat64(directory, name, &to, AT_SYMLINK_NOFOLLOW);
}
inline ssize_t call_pread(int fd, void* to, std::size_t size, SystemOffset at) { return ::pread64(fd, to, size, at); }
inline ssize_t call_pwrite(int fd, const void* from, std::size_t size, SystemOffset at) {
  return ::pwrite64(fd, from, size, at);
}
inline void* call_mmap(void* at, std::size_t size, int protection, int flags, int fd) noexcept {
  return ::mmap64(at, size, protection, flags, fd, 0);
}
inline int call_file_size_limit(SystemLimit& to) noexcept { return ::getrlimit64(RLIMIT_FSIZE, &to); }
#else
using SystemStatus = struct ::stat;
using SystemOffset = ::off_t;
using SystemLimit = struct ::rlimit;
inline constexpr int large_file_flag = 0;
inline constexpr std::uint64_t no_file_size_limit = RLIM_INFINITY;
inline int call_fstat(int fd, SystemStatus& to) noexcept { return ::fstat(fd, &to); }
inline int call_fstatat(int directory, const char* name, SystemStatus& to) noexcept {
  return ::fstatat(directory, name, &to, AT_SYMLINK_NOFOLLOW);
}
inline ssize_t call_pread(int fd, void* to, std::size_t size, SystemOffset at) { return ::pread(fd, to, size, at); }
inline ssize_t call_pwrite(int fd, const void* from, std::size_t size, SystemOffset at) {
  return ::pwrite(fd, from, size, at);
}
inline void* call_mmap(void* at, std::size_t size, int protection, int flags, int fd) noexcept {
  return ::mmap(at, size, protection, flags, fd, 0);
}
inline int call_file_size_limit(SystemLimit& to) noexcept { return ::getrlimit(RLIMIT_FSIZE, &to); }
#endif

#if defined(__GLIBC__) && defined(STATX_INO)
/// Everything of a status but the times. A file whose times were asked for gets new ones with the next write, which
/// costs that write half as much again (Linux from 6.13 on: multigrain timestamps). False where there is no statx(2).
inline bool call_statx(int fd, const char* name, int flags, SystemStatus& to, int& result) noexcept {
  constexpr unsigned wanted = STATX_TYPE | STATX_MODE | STATX_NLINK | STATX_UID | STATX_GID | STATX_INO | STATX_SIZE;
  struct ::statx seen = {};
  result = ::statx(fd, name, flags, wanted, &seen);
  // Sandboxes that don't know it say EPERM.
  if (result != 0) return errno != ENOSYS && errno != EPERM;
  if ((seen.stx_mask & wanted) != wanted) return false;
  to = {};
  to.st_dev = gnu_dev_makedev(seen.stx_dev_major, seen.stx_dev_minor);
  to.st_ino = seen.stx_ino;
  to.st_mode = seen.stx_mode;
  to.st_nlink = seen.stx_nlink;
  to.st_uid = seen.stx_uid;
  to.st_gid = seen.stx_gid;
  to.st_size = static_cast<SystemOffset>(seen.stx_size);
  return true;
}
#endif

/// fstat(2), of which the times aren't to be looked at.
inline int call_fstat_timeless(int fd, SystemStatus& to) noexcept {
#if defined(__GLIBC__) && defined(STATX_INO)
  int result = 0;
  if (call_statx(fd, "", AT_EMPTY_PATH, to, result)) return result;
#endif
  return call_fstat(fd, to);
}

/// The same of a name; a symbolic link isn't followed.
inline int call_fstatat_timeless(int directory, const char* name, SystemStatus& to) noexcept {
#if defined(__GLIBC__) && defined(STATX_INO)
  int result = 0;
  if (call_statx(directory, name, AT_SYMLINK_NOFOLLOW, to, result)) return result;
#endif
  return call_fstatat(directory, name, to);
}

/// Owns one descriptor. Not thread-safe. errno is kept by all of its functions.
class Fd {
 public:
  Fd() noexcept = default;
  explicit Fd(int fd) noexcept : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(other.release()) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) {
      reset();
      fd_ = other.release();
    }
    return *this;
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() { reset(); }

  /// The descriptor, -1 where there is none.
  int get() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }

  /// Gives the descriptor away.
  int release() noexcept {
    const int fd = fd_;
    fd_ = -1;
    return fd;
  }

  /// Closes it. Never tried again: after EINTR the number may already be somebody else's (close(2), "Dealing with error
  /// returns from close").
  void reset() noexcept {
    if (fd_ < 0) return;
    const NoCancellation shield;
    const int errno_before = errno;
    ::close(release());
    errno = errno_before;
  }

 private:
  int fd_ = -1;
};

/// What tells one file from another, and how long it is.
struct FileStatus {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::uint64_t size = 0;   // bytes
  std::uint64_t links = 0;  // names that it has; 0 once it has been replaced or removed
};

inline FileStatus to_file_status(const SystemStatus& status) noexcept {
  FileStatus result;
  result.device = status.st_dev;
  result.inode = status.st_ino;
  result.size = status.st_size > 0 ? static_cast<std::uint64_t>(status.st_size) : 0;
  result.links = status.st_nlink;
  return result;
}

/// The literal for a file of the store, so that a problem may name it for longer than the caller keeps `name`.
inline const char* known_file(const char* name) noexcept {
  static constexpr const char* names[] = {"lock",         "compacting",  "page",    "journal",
                                          "journal.next", "journal.old", "poisoned"};
  for (const char* known : names) {
    if (std::strcmp(name, known) == 0) return known;
  }
  return std::strncmp(name, "owner.", 6) == 0 ? "owner.*" : nullptr;
}

/// fstat(2).
inline Problem status_of(int fd, FileStatus& out) noexcept {
  SystemStatus status;
  if (call_fstat_timeless(fd, status) != 0) return {"cannot be examined", errno};
  out = to_file_status(status);
  return {};
}

/// Whether `status` is that of a file in `directory` made by somebody who is trusted with it: this user, or, where the
/// directory is shared with its group, anybody who could make a file of that group there.
inline bool is_ours(int directory, const SystemStatus& status) noexcept {
  if (status.st_uid == ::geteuid()) return true;
  SystemStatus place;
  if (call_fstat(directory, place) != 0) return false;
  return (place.st_mode & (S_IWGRP | S_IWOTH)) == S_IWGRP && status.st_gid == place.st_gid;
}

/// What `name` in `directory` is now, without opening it; a symbolic link isn't followed. Anything but a regular file
/// of this user (or of the group with which the directory is shared) is refused. ENOENT where there is no such name.
inline Problem status_of(int directory, const char* name, FileStatus& out) noexcept {
  SystemStatus status;
  const char* const file = known_file(name);
  if (call_fstatat_timeless(directory, name, status) != 0) return {"cannot be examined", errno, file};
  if (!S_ISREG(status.st_mode)) return {"isn't a regular file: remove it", 0, file};
  if (!is_ours(directory, status)) return {"belongs to another user: run as its owner, or remove it", 0, file};
  out = to_file_status(status);
  return {};
}

/// openat(2), with EINTR tried again. The descriptor is never 0, 1 or 2, not for a moment: what others write there
/// while their standard streams are closed must not reach a file of the store. Sets errno where it returns an empty Fd.
inline Fd open_at(int directory, const char* name, int flags, mode_t mode = 0) noexcept {
  const NoCancellation shield;
  // Whichever of the three are free are occupied by something that nobody can write to.
  Fd occupied[3];
  for (Fd& low : occupied) {
    int fd = ::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd > 2) {
      Fd{fd}.reset();
      fd = -1;
    }
    low = Fd(fd);
    if (!low) break;
  }
  int fd = -1;
  do {
    fd = ::openat(directory, name, flags | O_CLOEXEC | O_NOCTTY | large_file_flag, mode);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0 || fd > 2) return Fd(fd);
  // Somebody closed one of them at this very moment.
  const Fd low(fd);
  return Fd(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
}

}  // namespace detail::file
IDEM_END_NAMESPACE
