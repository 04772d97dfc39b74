// Opens the directory of a store, makes it where it is missing, and says what is doubtful about where it lies.
#pragma once

#include <idem/detail/cancellation.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/file/descriptor.hpp>
#include <idem/detail/file/open_file.hpp>
#include <idem/detail/file/problem.hpp>
#include <idem/detail/file/transfer.hpp>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include <fcntl.h>
#include <sys/stat.h>
#if defined(__linux__)
#include <sys/vfs.h>  // fstatfs
#endif
#include <unistd.h>

IDEM_BEGIN_NAMESPACE
namespace detail::file {

#if defined(__linux__)
// Enough to go through a directory, also one that may not be listed.
inline constexpr int walk_flags = O_PATH | O_DIRECTORY;
#else
inline constexpr int walk_flags = O_RDONLY | O_DIRECTORY;
#endif
inline constexpr int list_flags = O_RDONLY | O_DIRECTORY | O_NONBLOCK;

/// Syncs the entries of `directory`, which may be open for walking only; `child` lies in it.
inline Problem sync_entries(int directory, int child) noexcept {
  const Fd listed = open_at(directory, ".", list_flags);
  if (listed) return sync_directory(listed.get());
#if defined(__linux__) && defined(_GNU_SOURCE)
  // It may be entered and written but not listed: then the whole file system has to go to disk.
  if (::syncfs(child) == 0) return {};
#else
  static_cast<void>(child);
#endif
  return {"has a parent directory that cannot be synced to disk", errno};
}

/// Opens the directory `name`, made a moment ago, and gives it its mode.
inline Problem adopt_directory(int parent, const char* name, mode_t mode) noexcept {
  Fd fd = open_at(parent, name, list_flags | O_NOFOLLOW);
  // The umask may have taken away even what the owner needs.
  if (!fd && errno == EACCES && ::fchmodat(parent, name, mode, AT_SYMLINK_NOFOLLOW) == 0) {
    fd = open_at(parent, name, list_flags | O_NOFOLLOW);
  }
  if (!fd) return {"cannot be opened after it was created", errno};
  SystemStatus status;
  if (call_fstat(fd.get(), status) != 0) return {"cannot be examined", errno};
  if (status.st_uid != ::geteuid()) return {"was replaced while it was created: somebody else can write its parent", 0};
  if ((status.st_mode & 07777u) != mode && ::fchmod(fd.get(), mode) != 0) return {"cannot be given its mode", errno};
  if (const Problem problem = sync_directory(fd.get())) return problem;
  return sync_entries(parent, fd.get());
}

/// Makes what is missing of `path`, entry by entry as mkdir -p does, each of them on disk before the next, and opens
/// the last one for walking.
inline Problem create_path(const char* path, mode_t mode, Fd& out) noexcept {
  Fd at = open_at(AT_FDCWD, *path == '/' ? "/" : ".", walk_flags);
  if (!at) return {"cannot be created: where its path begins cannot be opened", errno};
  bool made_before = false;
  while (*path != '\0') {
    char name[256];
    std::size_t length = 0;
    while (*path == '/') ++path;
    for (; *path != '\0' && *path != '/'; ++path) {
      if (length + 1 == sizeof name) return {"cannot be created", ENAMETOOLONG};
      name[length++] = *path;
    }
    name[length] = '\0';
    if (length == 0) break;
    // Each further round loses against somebody who makes or removes the same directory.
    Fd next;
    for (int round = 0; !next; ++round) {
      next = open_at(at.get(), name, walk_flags);
      if (next) break;
      if (errno != ENOENT) return {"cannot be created", errno};
      if (round == 10) return {"cannot be created: a symbolic link in its path leads nowhere", ENOENT};
      if (!made_before) {
        // Who made the directory above may have died before it was on disk.
        const Fd above = open_at(at.get(), "..", list_flags);
        if (above) sync_directory(above.get());
        made_before = true;
      }
      if (::mkdirat(at.get(), name, mode & 0777u) == 0) {
        if (const Problem problem = adopt_directory(at.get(), name, mode)) return problem;
      } else if (errno != EEXIST) {
        return {"cannot be created", errno};
      }
    }
    at = static_cast<Fd&&>(next);
  }
  out = static_cast<Fd&&>(at);
  return {};
}

/// What is wrong with the directory that was opened; ENOENT and the like don't come here.
inline Problem judge_directory(int fd, const SystemStatus& status, bool group) noexcept {
  if (!S_ISDIR(status.st_mode)) return {"isn't a directory", ENOTDIR};
  if (status.st_uid != ::geteuid() && !group) return {"belongs to another user: run as its owner", 0};
  if ((status.st_mode & S_IWOTH) != 0) return {"can be written by everybody: chmod 700", 0};
  if ((status.st_mode & S_IWGRP) != 0 && !group) return {"can be written by its group: chmod 700", 0};
  if (group && (status.st_mode & (S_ISGID | S_IRWXG)) != (S_ISGID | S_IRWXG)) {
    return {"isn't shared with its group: chmod 2770", 0};
  }
  SystemStatus parent;
  if (call_fstatat(fd, "..", parent) != 0) return {"has a parent directory that cannot be examined", errno};
  if ((parent.st_mode & S_IWOTH) != 0 && (parent.st_mode & S_ISVTX) == 0) {
    return {"lies in a directory in which everybody can replace it: chmod o-w its parent", 0};
  }
  return {};
}

/// A sentence on a kind of file system, or null where there is nothing to say. The numbers are those of statfs(2) and
/// of the kernel's include/uapi/linux/magic.h; virtiofs has that of FUSE.
inline const char* warning_of_kind(std::uint64_t kind) noexcept {
  switch (kind & 0xffffffffu) {
    case 0x01021994:
    case 0x858458f6:
      return "the directory lies on tmpfs, in memory: all records are lost when the machine restarts";
    case 0x6969:
      return "the directory lies on NFS: other machines may not see its locks, so that a function may run twice, and "
             "what was synced may be lost with the server";
    case 0x517b:
    case 0xff534d42:
    case 0xfe534d42:
      return "the directory lies on CIFS/SMB: other machines may not see its locks, so that a function may run twice, "
             "and what was synced may be lost with the server";
    case 0x01021997:
      return "the directory lies on 9p: the other side may not see its locks, so that a function may run twice, and "
             "what was synced may be lost with the host";
    case 0x65735546:
      return "the directory lies on FUSE or virtiofs: whether locks hold and synced records survive a power failure "
             "depends on the program that serves it";
    case 0x794c7630:
      return "the directory lies on overlayfs: records are lost with the container, and where it is mounted volatile a "
             "power failure loses what was synced";
    case 0x00c36400:
    case 0x0bd00bd0:
    case 0x5346414f:
    case 0x6b414653:
      return "the directory lies on a file system of several machines (Ceph, Lustre or AFS): whether its locks hold "
             "between them depends on how it is mounted, and a function may run twice";
    default:
      return nullptr;
  }
}

/// The same for the file system of `fd`.
inline const char* warning_of_file_system(int fd) noexcept {
#if defined(__linux__)
#if defined(__GLIBC__) && defined(_LARGEFILE64_SOURCE)
  struct ::statfs64 status;
  if (::fstatfs64(fd, &status) != 0) return nullptr;
#else
  struct ::statfs status;
  if (::fstatfs(fd, &status) != 0) return nullptr;
#endif
  return warning_of_kind(static_cast<std::uint64_t>(status.f_type));
#else
  static_cast<void>(fd);
  return nullptr;
#endif
}

/// The same for where the directory lies in the tree of names.
inline const char* warning_of_place(int fd, const char* path) noexcept {
  char place[16] = {};
#if defined(__linux__)
  // The kernel's name for what was opened, whatever symbolic links led there (proc(5), /proc/pid/fd).
  char link[32] = "/proc/self/fd/";
  std::size_t length = std::strlen(link);
  int power = 1;
  while (fd / power > 9) power *= 10;
  for (; power > 0; power /= 10) link[length++] = static_cast<char>('0' + fd / power % 10);
  if (::readlink(link, place, sizeof place - 1) > 0) path = place;
#else
  static_cast<void>(fd);
  static_cast<void>(place);
#endif
  const auto lies_in = [path](const char* folder) noexcept {
    const std::size_t size = std::strlen(folder);
    return std::strncmp(path, folder, size) == 0 && (path[size] == '/' || path[size] == '\0');
  };
  if (lies_in("/tmp")) {
    return "the directory lies in /tmp: records may be deleted when the machine restarts or they grow old";
  }
  if (lies_in("/var/tmp")) return "the directory lies in /var/tmp: records may be deleted when they grow old";
  return nullptr;
}

/// The same path, from the root on where the working directory has a name. A store that is opened later, or once more
/// by a child process, means the directory that its maker meant, wherever they have gone meanwhile.
inline std::string absolute_path(std::string path) {
  if (path.empty() || path.front() == '/') return path;
  std::string here(256, '\0');
  while (::getcwd(here.data(), here.size()) == nullptr) {
    if (errno != ERANGE || here.size() > 65536) return path;
    here.resize(here.size() * 2);
  }
  here.resize(std::strlen(here.c_str()));
  if (here.front() != '/') return path;  // Linux: the working directory lies outside of this process's root
  if (here.back() != '/') here += '/';
  return here += path;
}

/// Opens the directory `path` of a store and sets `out`; all files are then opened relative to it, whatever becomes of
/// its name. Missing directories are made with mode 0700 (with `group` 2770) whatever the umask, and are on disk before
/// this returns. Symbolic links in the path are followed; what counts is the directory behind them: it must be this
/// user's, not writable by others, nor by its group unless `group` is given, and its parent must not be writable by
/// everybody (unless sticky). With `group` its owner may be another one. `warning` is set to a literal, or null, as
/// above. Safe from any thread; relative paths are meant from the working directory of this moment.
inline Problem open_directory(const std::string& path, bool group, Fd& out, const char*& warning) noexcept {
  warning = nullptr;
  const NoCancellation shield;
  if (path.empty()) return {"needs a directory: its path is empty", 0};
  if (std::strlen(path.c_str()) != path.size()) return {"needs a directory: its path holds a zero byte", 0};
  const mode_t mode = group ? 02770u : 0700u;
  Fd fd;
  SystemStatus status;
  for (int round = 1;; ++round) {
    fd = open_at(AT_FDCWD, path.c_str(), list_flags);
    if (!fd && errno == ENOENT) {
      Fd made;
      if (const Problem problem = create_path(path.c_str(), mode, made)) return problem;
      fd = open_at(made.get(), ".", list_flags);
    }
    const bool last = round >= permission_attempts;
    if (!fd) {
      if (errno != EACCES || last) return {"cannot be opened", errno};
    } else {
      if (call_fstat(fd.get(), status) != 0) return {"cannot be examined", errno};
      const Problem problem = judge_directory(fd.get(), status, group);
      if (!problem) break;
      // Another member of the group may be about to give its new directory the right mode.
      if (!group || last || (status.st_mode & S_IWOTH) != 0) return problem;
    }
    wait_for_permission();
  }
  // Whoever made it may have died before its entry was on disk.
  SystemStatus parent;
  if (call_fstatat(fd.get(), "..", parent) == 0 && parent.st_dev == status.st_dev) {
    const Fd above = open_at(fd.get(), "..", list_flags);
    if (above) {
      if (const Problem problem = sync_directory(above.get())) return problem;
    }
  }
  warning = warning_of_file_system(fd.get());
  if (warning == nullptr) warning = warning_of_place(fd.get(), path.c_str());
  out = static_cast<Fd&&>(fd);
  return {};
}

}  // namespace detail::file
IDEM_END_NAMESPACE
