// Opens a file of the store's directory and trusts only what it then holds in its hand.
#pragma once

#include <idem/detail/cancellation.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/file/descriptor.hpp>
#include <idem/detail/file/problem.hpp>

#include <cerrno>
#include <cstdint>

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>  // nanosleep
#include <unistd.h>

IDEM_BEGIN_NAMESPACE
namespace detail::file {

enum class Creation : std::uint8_t { never = 1, if_missing = 2, exclusive = 3 };

/// Where somebody else has just made a file or directory, its mode may still lack, for a moment, what the umask took
/// away. How often, a millisecond apart, it is looked at again before the lack is believed.
inline constexpr int permission_attempts = 20;

inline void wait_for_permission() noexcept {
  const timespec pause{0, 1000000};
  ::nanosleep(&pause, nullptr);
}

/// What is wrong with an existing file that somebody may have put there for us.
inline const char* judge_file(int directory, const SystemStatus& status, bool group, unsigned max_links) noexcept {
  if (!S_ISREG(status.st_mode)) return "isn't a regular file: remove it";
  if (status.st_uid != ::geteuid() && !(group && is_ours(directory, status))) {
    return "belongs to another user: run as its owner, or remove it";
  }
  if (status.st_nlink > max_links) return "has another name (a hard link), so that others may hold it: remove it";
  if ((status.st_mode & S_IWOTH) != 0) return "can be written by others: chmod 600";
  if ((status.st_mode & S_IWGRP) != 0 && !group) return "can be written by its group: chmod 600";
  return nullptr;
}

/// Opens `name` in `directory` for reading and writing, for this process and not for programs that it starts, and sets
/// `out`. Never follows a symbolic link, never waits (as for a FIFO), never yields a descriptor below 3. All checks are
/// made on what was opened: a regular file of this user (or, with `group`, of the directory's group), with at most
/// `max_links` names, not writable by anybody else. Files made here have mode 0600, with `group` 0660, whatever the
/// umask; `created`, where given, says whether this call made it. Making a file doesn't sync the directory. ENOENT
/// where there is none and none was to be made, EEXIST where `exclusive` finds one. Safe from any thread.
inline Problem open_file(int directory, const char* name, Creation creation, bool group, Fd& out,
                         bool* created = nullptr, unsigned max_links = 1) noexcept {
  const NoCancellation shield;
  const char* const file = known_file(name);
  const mode_t mode = group ? 0660u : 0600u;
  constexpr int flags = O_RDWR | O_NOFOLLOW | O_NONBLOCK;
  if (created != nullptr) *created = false;
  int refused = 0;
  // Each round loses against somebody who makes, replaces or removes the file between two calls.
  for (int round = 0; round < 100; ++round) {
    bool made = false;
    Fd fd;
    if (creation != Creation::exclusive) fd = open_at(directory, name, flags);
    if (!fd && (creation == Creation::exclusive || (creation == Creation::if_missing && errno == ENOENT))) {
      fd = open_at(directory, name, flags | O_CREAT | O_EXCL, mode);
      made = static_cast<bool>(fd);
      if (!fd && errno == EEXIST && creation == Creation::if_missing) continue;
    }
    if (!fd) {
      const int error = errno;
      if (error == EACCES && creation != Creation::exclusive && ++refused < permission_attempts) {
        wait_for_permission();
        continue;
      }
      if (error == ELOOP) return {"is a symbolic link, which isn't followed: remove it", error, file};
      if (error == ENXIO || error == EISDIR) return {"isn't a regular file: remove it", error, file};
      return {made || creation == Creation::exclusive ? "cannot be created" : "cannot be opened", error, file};
    }
    SystemStatus status;
    if (call_fstat(fd.get(), status) != 0) return {"cannot be examined", errno, file};
    if (status.st_nlink == 0) continue;  // replaced since: the name now stands for another file
    if (made && (status.st_mode & 07777u) != mode && ::fchmod(fd.get(), mode) != 0) {
      return {"cannot be given its mode", errno, file};
    }
    if (made) status.st_mode = (status.st_mode & ~07777u) | mode;
    if (const char* const reason = judge_file(directory, status, group, max_links)) return {reason, 0, file};
    // A name that somebody took away between open and fstat isn't among the links. So the file, while it has no more of
    // them, must still be the one of this name; which also finds out whether it has been replaced. Two more changes of
    // names within the few instructions of this check can't be seen by anybody.
    SystemStatus named;
    if (call_fstatat(directory, name, named) != 0 || named.st_ino != status.st_ino || named.st_dev != status.st_dev ||
        named.st_nlink > max_links) {
      continue;
    }
    out = static_cast<Fd&&>(fd);
    if (created != nullptr) *created = made;
    return {};
  }
  return {"keeps being replaced while it is opened", EAGAIN, file};
}

}  // namespace detail::file
IDEM_END_NAMESPACE
