// What tests of real files share: a directory that goes away, and children that die alone.
#pragma once

#include "directory.hpp"
#include "process_support.hpp"

#include <doctest/doctest.h>

#include <idem/detail/file/os.hpp>

#include <string>
#include <vector>

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

namespace file_system_support {

namespace file = idem::detail::file;

/// A new directory of mode 0700, removed with all that it holds.
class Folder {
 public:
  explicit Folder(const std::string& above = support::Directory::base())
      : place_(above), fd_(file::open_at(AT_FDCWD, path().c_str(), O_RDONLY | O_DIRECTORY)) {
    REQUIRE(fd_);
  }

  int get() const { return fd_.get(); }
  const std::string& path() const { return place_.path(); }
  std::string operator/(const char* name) const { return place_ / name; }

 private:
  support::Directory place_;
  file::Fd fd_;
};

/// Runs `run` in a child and tells what it returned, or minus the signal that ended it.
template <class Run>
int in_child(Run&& run) {
  return process_support::Child(run).wait();
}

/// Permissions, type excluded; 0 where there is nothing.
inline unsigned mode_of(const std::string& path) {
  struct stat status = {};
  return ::lstat(path.c_str(), &status) == 0 ? status.st_mode & 07777u : 0u;
}

inline std::uint64_t size_of(int fd) {
  file::FileStatus status;
  return file::status_of(fd, status) ? 0 : status.size;
}

/// All of a file.
inline std::string content_of(int fd) {
  const std::uint64_t size = size_of(fd);
  std::string content(static_cast<std::size_t>(size), '?');
  return file::read_all(fd, content.data(), content.size(), 0) ? "unreadable" : content;
}

inline bool is_open(int fd) {
  return ::fcntl(fd, F_GETFD) >= 0;
}

inline std::vector<int> open_descriptors() {
  std::vector<int> open;
  for (int fd = 0; fd < 256; ++fd) {
    if (is_open(fd)) open.push_back(fd);
  }
  return open;
}

}  // namespace file_system_support
