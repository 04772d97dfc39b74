// What tests of real files share: a directory that goes away, and children that die alone.
#pragma once

#include <doctest/doctest.h>

#include <idem/detail/file/os.hpp>

#include <cstdlib>
#include <string>
#include <vector>

#include <ftw.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

namespace file_system_support {

namespace file = idem::detail::file;

/// A new directory of mode 0700, removed with all that it holds.
class Folder {
 public:
  explicit Folder(const char* below = std::getenv("TMPDIR")) {
    std::string name = below == nullptr ? "/tmp" : below;
    name += "/idem_test_XXXXXX";
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path_ = name;
    fd_ = file::open_at(AT_FDCWD, path_.c_str(), O_RDONLY | O_DIRECTORY);
    REQUIRE(fd_);
  }
  ~Folder() {
    const auto remove = [](const char* name, const struct stat*, int, struct FTW*) { return ::remove(name); };
    ::nftw(path_.c_str(), remove, 16, FTW_DEPTH | FTW_PHYS);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  int get() const { return fd_.get(); }
  const std::string& path() const { return path_; }
  std::string operator/(const char* name) const { return path_ + "/" + name; }

 private:
  std::string path_;
  file::Fd fd_;
};

/// Runs `run` in a child and tells what it returned, or minus the signal that ended it.
template <class Run>
int in_child(Run&& run) {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const rlimit none{0, 0};
    ::setrlimit(RLIMIT_CORE, &none);
    ::alarm(30);
    ::_exit(run());
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
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

inline bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

inline std::vector<int> open_descriptors() {
  std::vector<int> open;
  for (int fd = 0; fd < 256; ++fd) {
    if (is_open(fd)) open.push_back(fd);
  }
  return open;
}

}  // namespace file_system_support
