// FSE-03 to FSE-08, FDU-13, FDU-14, FLK-10, FLK-11: what a store on files asks of the operating system.
#include <doctest/doctest.h>

#if !defined(_WIN32)

#include "support/file_system_support.hpp"

#include <idem/detail/file/os.hpp>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>
#include <thread>

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#if defined(__linux__)
#include <linux/filter.h>
#include <linux/magic.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#endif

using namespace file_system_support;
using file::Creation;
using file::Fd;
using file::Locked;
using file::Problem;

namespace {

constexpr uid_t nobody = 65534;

struct Umask {
  explicit Umask(mode_t mask) : before(::umask(mask)) {}
  ~Umask() { ::umask(before); }
  mode_t before;
};

Problem open_named(const Folder& folder, const char* name, Creation creation, bool group = false) {
  Fd fd;
  return file::open_file(folder.get(), name, creation, group, fd);
}

Problem open_path(const std::string& path, bool group = false) {
  Fd fd;
  const char* warning = nullptr;
  return file::open_directory(path, group, fd, warning);
}

const char* warning_for(const std::string& path) {
  Fd fd;
  const char* warning = nullptr;
  REQUIRE_FALSE(file::open_directory(path, false, fd, warning));
  return warning;
}

bool says(const Problem& problem, const char* words) {
  return problem && std::strstr(problem.what, words) != nullptr;
}

void write_file(const std::string& path, const char* text) {
  const Fd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600));
  REQUIRE_FALSE(file::write_all(fd.get(), text, std::strlen(text), 0));
}

std::string read_file(const std::string& path) {
  const Fd fd(::open(path.c_str(), O_RDONLY));
  return content_of(fd.get());
}

// Without the C library where that is possible: ThreadSanitizer would take the open and the write for a race, as it is.
void print(int fd) {
#if defined(__linux__)
  static_cast<void>(::syscall(SYS_write, fd, "what others print", 17));
#else
  static_cast<void>(::write(fd, "what others print", 17) != 0);
#endif
}

}  // namespace

TEST_CASE("FSE-06: whatever the umask, files and directories get exactly the mode that they need") {
  for (const mode_t mask : {0000u, 0022u, 0077u, 0777u}) {
    CAPTURE(mask);
    for (const bool as_nobody : {false, true}) {
      if (as_nobody && ::geteuid() != 0) continue;
      const Folder folder;
      REQUIRE((!as_nobody || ::chown(folder.path().c_str(), nobody, nobody) == 0));
      const std::string alone = folder / "a/b/alone";
      const std::string shared = folder / "c/shared";
      const int wrong = in_child([&] {
        if (as_nobody && (::setgid(nobody) != 0 || ::setuid(nobody) != 0)) return 1;
        const Umask umask(mask);
        Fd directory, made;
        const char* warning = nullptr;
        bool created = false;
        if (file::open_directory(alone, false, directory, warning)) return 2;
        if (file::open_file(directory.get(), "one", Creation::exclusive, false, made, &created) || !created) return 3;
        if (file::open_file(directory.get(), "two", Creation::if_missing, false, made, &created) || !created) return 4;
        if (file::open_file(directory.get(), "two", Creation::if_missing, false, made, &created) || created) return 5;
        if (file::open_directory(shared, true, directory, warning)) return 6;
        if (file::open_file(directory.get(), "one", Creation::if_missing, true, made, &created) || !created) return 7;
        // And once more, now that everything is there.
        if (file::open_directory(alone, false, directory, warning)) return 8;
        if (file::open_directory(shared, true, directory, warning)) return 9;
        return 0;
      });
      CHECK(wrong == 0);
      CHECK(mode_of(folder / "a") == 0700u);
      CHECK(mode_of(folder / "a/b") == 0700u);
      CHECK(mode_of(alone) == 0700u);
      CHECK(mode_of(alone + "/one") == 0600u);
      CHECK(mode_of(alone + "/two") == 0600u);
      CHECK(mode_of(folder / "c") == 02770u);
      CHECK(mode_of(shared) == 02770u);
      CHECK(mode_of(shared + "/one") == 0660u);
    }
  }
}

TEST_CASE("FSE-03: a symbolic link in place of a file is refused and what it leads to stays as it was") {
  const Folder folder;
  write_file(folder / "victim", "precious");
  REQUIRE(::symlink((folder / "victim").c_str(), (folder / "journal").c_str()) == 0);
  REQUIRE(::symlink((folder / "nowhere").c_str(), (folder / "lock").c_str()) == 0);
  for (const char* name : {"journal", "lock"}) {
    CHECK(open_named(folder, name, Creation::never).error == ELOOP);
    CHECK(open_named(folder, name, Creation::if_missing).error == ELOOP);
    CHECK(open_named(folder, name, Creation::exclusive).error == EEXIST);
    file::FileStatus status;
    CHECK(says(file::status_of(folder.get(), name, status), "isn't a regular file"));
  }
  CHECK(read_file(folder / "victim") == "precious");
  CHECK(::access((folder / "nowhere").c_str(), F_OK) != 0);
}

TEST_CASE("FSE-04: what isn't a regular file is refused, and nobody waits for the other end of it") {
  const Folder folder;
  REQUIRE(::mkfifo((folder / "fifo").c_str(), 0600) == 0);
  REQUIRE(::mkdir((folder / "directory").c_str(), 0700) == 0);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  REQUIRE((folder / "socket").size() < sizeof address.sun_path);
  std::strcpy(address.sun_path, (folder / "socket").c_str());
  const Fd listening(::socket(AF_UNIX, SOCK_STREAM, 0));
  REQUIRE(::bind(listening.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  // Only root may make one, and not everywhere.
  const bool has_device = ::mknod((folder / "device").c_str(), S_IFCHR | 0600, (1 << 8) | 3) == 0;
  const int wrong = in_child([&] {
    for (const char* name : {"fifo", "directory", "socket", "device"}) {
      if (name == std::string("device") && !has_device) continue;
      file::FileStatus status;
      if (!says(open_named(folder, name, Creation::never), "isn't a regular file")) return 1;
      if (!says(open_named(folder, name, Creation::if_missing), "isn't a regular file")) return 2;
      if (open_named(folder, name, Creation::exclusive).error != EEXIST) return 3;
      if (!says(file::status_of(folder.get(), name, status), "isn't a regular file")) return 4;
    }
    return 0;
  });
  CHECK(wrong == 0);
}

TEST_CASE("FSE-05: a file that has another name is refused, unless the caller knows why") {
  const Folder folder;
  const Folder elsewhere;
  write_file(elsewhere / "victim", "precious");
  if (::link((elsewhere / "victim").c_str(), (folder / "journal").c_str()) == 0) {
    CHECK(says(open_named(folder, "journal", Creation::if_missing), "hard link"));
    CHECK(says(open_named(folder, "journal", Creation::never), "hard link"));
    Fd fd;
    bool created = true;
    CHECK_FALSE(file::open_file(folder.get(), "journal", Creation::never, false, fd, &created, 2));
    CHECK_FALSE(created);
    file::FileStatus status;
    CHECK_FALSE(file::status_of(fd.get(), status));
    CHECK(status.links == 2);
  }
  CHECK(read_file(elsewhere / "victim") == "precious");
}

TEST_CASE("FSE-07: a file that others can write is refused") {
  const Folder folder;
  write_file(folder / "journal", "");
  const auto with_mode = [&](mode_t mode, bool group) {
    REQUIRE(::chmod((folder / "journal").c_str(), mode) == 0);
    return open_named(folder, "journal", Creation::never, group);
  };
  CHECK_FALSE(with_mode(0600, false));
  CHECK_FALSE(with_mode(0644, false));
  CHECK(says(with_mode(0660, false), "by its group"));
  CHECK(says(with_mode(0602, false), "by others"));
  CHECK_FALSE(with_mode(0660, true));
  CHECK(says(with_mode(0662, true), "by others"));
  CHECK(mode_of(folder / "journal") == 0662u);
}

TEST_CASE("FSE-07: a directory that others can write, or replace, is refused") {
  const Folder folder;
  REQUIRE(::mkdir((folder / "store").c_str(), 0700) == 0);
  const auto with_modes = [&](mode_t parent, mode_t mode, bool group) {
    REQUIRE(::chmod(folder.path().c_str(), parent) == 0);
    REQUIRE(::chmod((folder / "store").c_str(), mode) == 0);
    return open_path(folder / "store", group);
  };
  CHECK_FALSE(with_modes(0700, 0700, false));
  CHECK_FALSE(with_modes(0755, 0755, false));
  CHECK_FALSE(with_modes(0775, 0700, false));
  CHECK_FALSE(with_modes(01777, 0700, false));
  CHECK(says(with_modes(0777, 0700, false), "replace it"));
  CHECK(says(with_modes(0700, 0777, false), "by everybody"));
  CHECK(says(with_modes(0700, 01777, false), "by everybody"));
  CHECK(says(with_modes(0700, 0770, false), "by its group"));
  CHECK(says(with_modes(0700, 02770, false), "by its group"));
  CHECK_FALSE(with_modes(0700, 02770, true));
  CHECK(says(with_modes(0700, 02772, true), "by everybody"));
  CHECK(says(with_modes(0700, 0700, true), "chmod 2770"));
  CHECK(says(with_modes(0700, 0770, true), "chmod 2770"));
}

TEST_CASE("FSE-07: what belongs to somebody else is refused, unless it is shared with the group") {
  if (::geteuid() != 0) return;
  const Folder folder;
  const std::string store = folder / "store";
  REQUIRE(::mkdir(store.c_str(), 0700) == 0);
  write_file(store + "/journal", "");
  const Fd directory = file::open_at(AT_FDCWD, store.c_str(), O_RDONLY | O_DIRECTORY);
  file::FileStatus status;
  Fd fd;
  REQUIRE(::chown((store + "/journal").c_str(), nobody, nobody) == 0);
  CHECK(says(file::open_file(directory.get(), "journal", Creation::never, false, fd), "another user"));
  CHECK(says(file::open_file(directory.get(), "journal", Creation::never, true, fd), "another user"));
  CHECK(says(file::status_of(directory.get(), "journal", status), "another user"));
  REQUIRE(::chown(store.c_str(), nobody, nobody) == 0);
  CHECK(says(open_path(store), "another user"));
  REQUIRE(::chmod(store.c_str(), 02770) == 0);
  REQUIRE(::chmod((store + "/journal").c_str(), 0660) == 0);
  CHECK_FALSE(open_path(store, true));
  CHECK_FALSE(file::open_file(directory.get(), "journal", Creation::never, true, fd));
  CHECK_FALSE(file::status_of(directory.get(), "journal", status));
  // Of another group than the directory, it was put there by somebody with more rights than the group has.
  REQUIRE(::chown((store + "/journal").c_str(), nobody, 1) == 0);
  CHECK(says(file::open_file(directory.get(), "journal", Creation::never, true, fd), "another user"));
  CHECK(says(file::status_of(directory.get(), "journal", status), "another user"));
}

TEST_CASE("FSE-10: another user can't get at the lock, not even to read it, and so can't hold it for ever") {
  if (::geteuid() != 0) return;
  const Folder folder;
  REQUIRE(::chmod(folder.path().c_str(), 0755) == 0);
  const std::string store = folder / "store";
  Fd directory, lock;
  const char* warning = nullptr;
  REQUIRE_FALSE(file::open_directory(store, false, directory, warning));
  REQUIRE_FALSE(file::open_file(directory.get(), "lock", Creation::if_missing, false, lock));
  const auto as_somebody = [&] {
    return in_child([&] {
      if (::setgid(nobody) != 0 || ::setuid(nobody) != 0) return 1;
      const Fd theirs = file::open_at(AT_FDCWD, (store + "/lock").c_str(), O_RDONLY);
      return theirs ? 2 : errno == EACCES ? 0 : 3;
    });
  };
  CHECK(as_somebody() == 0);
  // Neither would one of the two modes do without the other.
  REQUIRE(::chmod(store.c_str(), 0755) == 0);
  CHECK(as_somebody() == 0);
  REQUIRE(::chmod(store.c_str(), 0700) == 0);
  REQUIRE(::chmod((store + "/lock").c_str(), 0644) == 0);
  CHECK(as_somebody() == 0);
}

TEST_CASE("FSE-08: a file that is swapped while it is opened is never the wrong one") {
  const Folder folder;
  const Folder elsewhere;
  write_file(elsewhere / "victim", "precious");
  file::FileStatus victim;
  REQUIRE_FALSE(file::status_of(elsewhere.get(), "victim", victim));
  const pid_t racer = ::fork();
  REQUIRE(racer >= 0);
  if (racer == 0) {
    ::alarm(30);
    for (unsigned i = 0;; ++i) {
      const std::string next = folder / "next";
      if (i % 3 == 0) {
        static_cast<void>(::symlink((elsewhere / "victim").c_str(), next.c_str()));
      } else {
        const int fd = ::open(next.c_str(), O_WRONLY | O_CREAT | O_EXCL, 0600);
        if (i % 3 == 1) static_cast<void>(::fchmod(fd, 0666));
        ::close(fd);
      }
      static_cast<void>(::rename(next.c_str(), (folder / "journal").c_str()));
    }
  }
  int good = 0;
  int wrong = 0;
  for (int i = 0; i < 20000 || (good == 0 && i < 1000000); ++i) {
    Fd fd;
    if (file::open_file(folder.get(), "journal", Creation::never, false, fd)) continue;
    struct stat status = {};
    if (::fstat(fd.get(), &status) != 0 || status.st_ino == victim.inode || (status.st_mode & 07777u) != 0600u) ++wrong;
    ++good;
  }
  ::kill(racer, SIGKILL);
  ::waitpid(racer, nullptr, 0);
  CHECK(good > 0);
  CHECK(wrong == 0);
}

TEST_CASE("FDU-14: with the standard streams closed, what others write there never reaches a file") {
  const Folder folder;
  const int wrong = in_child([&] {
    for (int fd = 0; fd < 3; ++fd) ::close(fd);
    std::atomic<bool> over{false};
    std::thread writer([&over] {
      while (!over.load()) {
        for (int fd = 0; fd < 3; ++fd) print(fd);
      }
    });
    int result = 0;
    Fd directory;
    const char* warning = nullptr;
    if (file::open_directory(folder / "store", false, directory, warning)) result = 1;
    for (int i = 0; i < 2000 && result == 0; ++i) {
      Fd fd, again;
      if (file::open_file(directory.get(), "journal", Creation::if_missing, false, fd)) result = 2;
      if (file::open_file(directory.get(), "journal", Creation::never, false, again)) result = 3;
      if (directory.get() < 3 || fd.get() < 3 || again.get() < 3) result = 4;
      if (size_of(fd.get()) != 0) result = 5;
    }
    over = true;
    writer.join();
    for (int fd = 0; fd < 3; ++fd) {
      if (is_open(fd)) result = 6;
    }
    return result;
  });
  CHECK(wrong == 0);
}

TEST_CASE("FLK-13: where no descriptor is left, opening says so and keeps none") {
  const Folder folder;
  write_file(folder / "journal", "");
  const int wrong = in_child([&] {
    const auto before = open_descriptors();
    const rlimit few{static_cast<rlim_t>(before.back() + 1), static_cast<rlim_t>(before.back() + 1)};
    if (::setrlimit(RLIMIT_NOFILE, &few) != 0) return 1;
    while (::fcntl(folder.get(), F_DUPFD, 0) >= 0) continue;
    const auto full = open_descriptors();
    if (open_named(folder, "journal", Creation::never).error != EMFILE) return 2;
    if (open_named(folder, "lock", Creation::if_missing).error != EMFILE) return 3;
    if (open_path(folder.path()).error != EMFILE) return 4;
    if (open_path(folder / "new").error != EMFILE) return 5;
    return open_descriptors() == full ? 0 : 6;
  });
  CHECK(wrong == 0);
}

TEST_CASE("FLK-05: no program that is started gets a descriptor") {
  const Folder folder;
  Fd directory, fd;
  const char* warning = nullptr;
  REQUIRE_FALSE(file::open_directory(folder / "store", false, directory, warning));
  REQUIRE_FALSE(file::open_file(directory.get(), "lock", Creation::if_missing, false, fd));
  CHECK((::fcntl(directory.get(), F_GETFD) & FD_CLOEXEC) != 0);
  CHECK((::fcntl(fd.get(), F_GETFD) & FD_CLOEXEC) != 0);
}

TEST_CASE("FLK-10: a directory is the same by whichever way it is reached, and files follow it, not its name") {
  const Folder folder;
  REQUIRE(::mkdir((folder / "store").c_str(), 0700) == 0);
  REQUIRE(::mkdir((folder / "other").c_str(), 0700) == 0);
  REQUIRE(::symlink("store", (folder / "link").c_str()) == 0);
  const int wrong = in_child([&] {
    if (::chdir((folder / "other").c_str()) != 0) return 1;
    const std::string ways[] = {folder / "store",          folder / "link",    folder / "store/",
                                folder / "other/../store", folder / "./store", folder / "link/./.",
                                std::string("../store")};
    Fd first;
    for (const std::string& way : ways) {
      Fd directory, lock;
      const char* warning = nullptr;
      Problem problem;
      if (file::open_directory(way, false, directory, warning)) return 2;
      if (file::open_file(directory.get(), "lock", Creation::if_missing, false, lock)) return 3;
      const Locked locked = file::try_lock(lock.get(), true, problem);
      if (locked != (first ? Locked::held : Locked::obtained) || problem) return 4;
      if (!first) first = static_cast<Fd&&>(lock);
    }
    Fd directory, lock;
    const char* warning = nullptr;
    if (file::open_directory("../store", false, directory, warning)) return 5;
    if (::chdir("/") != 0 || ::rename((folder / "store").c_str(), (folder / "moved").c_str()) != 0) return 6;
    if (file::open_file(directory.get(), "lock", Creation::never, false, lock)) return 7;
    Problem problem;
    if (file::try_lock(lock.get(), true, problem) != Locked::held) return 8;
    return 0;
  });
  CHECK(wrong == 0);
}

TEST_CASE("FLK-11, FDU-13: a doubtful place is named") {
  for (const char* below : {"/tmp", "/var/tmp"}) {
    const Folder folder(below);
    const char* const warning = warning_for(folder / "store");
    REQUIRE(warning != nullptr);
    const char* const kind = file::warning_of_file_system(folder.get());
    if (kind == nullptr) CHECK(std::strstr(warning, below) != nullptr);
    if (kind != nullptr) CHECK(warning == kind);
  }
  const Fd root = file::open_at(AT_FDCWD, "/usr", O_RDONLY | O_DIRECTORY);
  CHECK(file::warning_of_place(root.get(), "/usr") == nullptr);
#if defined(__linux__)
  const auto names = [](std::uint64_t kind, const char* name) {
    const char* const warning = file::warning_of_kind(kind);
    return warning != nullptr && std::strstr(warning, name) != nullptr;
  };
  CHECK(names(TMPFS_MAGIC, "tmpfs"));
  CHECK(names(RAMFS_MAGIC, "tmpfs"));
  CHECK(names(NFS_SUPER_MAGIC, "NFS"));
  CHECK(names(SMB_SUPER_MAGIC, "SMB"));
  CHECK(names(0xff534d42, "CIFS"));
  // As statfs gives it where f_type is a signed number of 32 bits.
  CHECK(names(static_cast<std::uint64_t>(static_cast<std::int32_t>(0xff534d42u)), "CIFS"));
  CHECK(names(0xfe534d42, "SMB"));
  CHECK(names(V9FS_MAGIC, "9p"));
  CHECK(names(0x65735546, "virtiofs"));
  CHECK(names(OVERLAYFS_SUPER_MAGIC, "overlayfs"));
  CHECK(names(0x00c36400, "Ceph"));
  CHECK(names(AFS_SUPER_MAGIC, "AFS"));
  CHECK(names(0x6b414653, "AFS"));
  CHECK(file::warning_of_kind(EXT4_SUPER_MAGIC) == nullptr);
  CHECK(file::warning_of_kind(BTRFS_SUPER_MAGIC) == nullptr);
  struct statfs memory = {};
  if (::statfs("/dev/shm", &memory) == 0 && memory.f_type == TMPFS_MAGIC && ::access("/dev/shm", W_OK) == 0) {
    const Folder folder("/dev/shm");
    const char* const warning = warning_for(folder.path());
    REQUIRE(warning != nullptr);
    CHECK(std::strstr(warning, "tmpfs") != nullptr);
  }
#endif
}

TEST_CASE("a path that can't be a directory is refused with the reason") {
  const Folder folder;
  write_file(folder / "file", "text");
  REQUIRE(::symlink("nowhere", (folder / "dangling").c_str()) == 0);
  CHECK(says(open_path(""), "empty"));
  CHECK(says(open_path((folder / "a") + std::string(1, '\0') + "b"), "zero byte"));
  CHECK(open_path(folder / "file").error == ENOTDIR);
  CHECK(open_path(folder / "file/below").error == ENOTDIR);
  CHECK(open_path(folder / std::string(300, 'n').c_str()).error == ENAMETOOLONG);
  CHECK(open_path((folder / "new/") + std::string(300, 'n')).error == ENAMETOOLONG);
  CHECK(says(open_path(folder / "dangling"), "leads nowhere"));
  CHECK(says(open_path(folder / "dangling/below"), "leads nowhere"));
  CHECK(open_path(folder / "a//b/../c/./").error == 0);
  CHECK(mode_of(folder / "a/c") == 0700u);
  CHECK(read_file(folder / "file") == "text");
  CHECK(open_named(folder, "missing", Creation::never).error == ENOENT);
  file::FileStatus status;
  CHECK(file::status_of(folder.get(), "missing", status).error == ENOENT);
}

TEST_CASE("FDU-05: past the limit on file size there is an error, not a signal, and nothing is written") {
  const Folder folder;
  Fd fd;
  REQUIRE_FALSE(file::open_file(folder.get(), "journal", Creation::exclusive, false, fd));
  const int wrong = in_child([&] {
    ::signal(SIGXFSZ, SIG_DFL);
    const rlimit limit{8192, 8192};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 1;
    const std::string text(8192, 'x');
    if (file::write_all(fd.get(), text.data(), 8192, 1).error != EFBIG) return 2;
    if (size_of(fd.get()) != 0) return 3;
    if (file::allocate(fd.get(), 0, 8193, false).error != EFBIG) return 4;
    if (file::allocate(fd.get(), 0, 8193, true).error != EFBIG) return 5;
    if (size_of(fd.get()) != 0) return 6;
    if (file::write_all(fd.get(), text.data(), 8192, 0)) return 7;
    if (file::allocate(fd.get(), 0, 8192, true)) return 8;
    return content_of(fd.get()) == text ? 0 : 9;
  });
  CHECK(wrong == 0);
  const char byte = 'x';
  CHECK(file::write_all(fd.get(), &byte, 1, UINT64_MAX).error == EFBIG);
  CHECK(file::write_all(fd.get(), &byte, 1, UINT64_MAX / 2).error == EFBIG);
  char to = 0;
  CHECK(file::read_all(fd.get(), &to, 1, UINT64_MAX).error == EFBIG);
  CHECK(file::allocate(fd.get(), 0, UINT64_MAX, false).error == EFBIG);
}

TEST_CASE("FDU-05: a full disk and an unusable descriptor are told by their error") {
#if defined(__linux__)
  const Fd full(::open("/dev/full", O_RDWR));
  if (full) CHECK(file::write_all(full.get(), "text", 4, 0).error == ENOSPC);
#endif
  char to = 0;
  file::FileStatus status;
  Problem problem;
  CHECK(file::write_all(-1, "text", 4, 0).error == EBADF);
  CHECK(file::read_all(-1, &to, 1, 0).error == EBADF);
  CHECK(file::allocate(-1, 0, 10, true).error == EBADF);
  CHECK(file::sync_data(-1).error == EBADF);
  CHECK(file::sync_directory(-1).error == EBADF);
  CHECK(file::status_of(-1, status).error == EBADF);
  CHECK(file::try_lock(-1, true, problem) == Locked::failed);
  CHECK(problem.error == EBADF);
}

TEST_CASE("bytes come back from where they were written, also beyond what 32 bits can say") {
  const Folder folder;
  Fd fd;
  REQUIRE_FALSE(file::open_file(folder.get(), "journal", Creation::exclusive, false, fd));
  const std::uint64_t far = (std::uint64_t{5} << 30) + 7;
  std::string text(300000, '\0');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 31 % 251);
  REQUIRE_FALSE(file::write_all(fd.get(), text.data(), text.size(), far));
  CHECK(size_of(fd.get()) == far + text.size());
  std::string back(text.size(), '?');
  REQUIRE_FALSE(file::read_all(fd.get(), back.data(), back.size(), far));
  CHECK(back == text);
  REQUIRE_FALSE(file::read_all(fd.get(), back.data(), back.size(), 12345));
  CHECK(back == std::string(text.size(), '\0'));
  const Problem beyond = file::read_all(fd.get(), back.data(), back.size(), far + 1);
  CHECK(says(beyond, "ends before"));
  CHECK(beyond.error == 0);
  CHECK_FALSE(file::sync_data(fd.get()));
  CHECK_FALSE(file::sync_directory(folder.get()));
  file::FileStatus open, named;
  REQUIRE_FALSE(file::status_of(fd.get(), open));
  REQUIRE_FALSE(file::status_of(folder.get(), "journal", named));
  CHECK(open.inode == named.inode);
  CHECK(open.device == named.device);
  CHECK(named.size == far + text.size());
  CHECK(named.links == 1);
  REQUIRE(::unlinkat(folder.get(), "journal", 0) == 0);
  REQUIRE_FALSE(file::status_of(fd.get(), open));
  CHECK(open.links == 0);
}

TEST_CASE("room is made behind what is there, holds zeros, and takes the disk space at once") {
  // Once as the file system does it, once as where it can't.
  for (const bool refused : {false, true}) {
    CAPTURE(refused);
    for (const bool initialise : {false, true}) {
      const Folder folder;
      Fd fd;
      REQUIRE_FALSE(file::open_file(folder.get(), "journal", Creation::exclusive, false, fd));
      const std::string text(5000, 'x');
      REQUIRE_FALSE(file::write_all(fd.get(), text.data(), text.size(), 0));
      const int wrong = in_child([&] {
#if defined(__linux__) && defined(SYS_fallocate)
        if (refused) {
          sock_filter steps[] = {
              {BPF_LD | BPF_W | BPF_ABS, 0, 0, 0},  // the number of the system call
              {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, SYS_fallocate},
              {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | EOPNOTSUPP},
              {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
          };
          const sock_fprog program{sizeof steps / sizeof steps[0], steps};
          // Without filters this is one more round of the first kind.
          if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
              ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0 &&
              (file::call_allocate(fd.get(), 0, 10) || errno != EOPNOTSUPP)) {
            return 1;
          }
        }
#endif
        if (file::allocate(fd.get(), 4000, 4000, initialise)) return 2;
        if (file::allocate(fd.get(), 1000, 2000, initialise)) return 3;
        if (size_of(fd.get()) != 5000) return 4;
        if (file::allocate(fd.get(), 4096, 400000, initialise)) return 5;
        return 0;
      });
      CHECK(wrong == 0);
      CHECK(content_of(fd.get()) == text + std::string(395000, '\0'));
      struct stat status = {};
      REQUIRE(::fstat(fd.get(), &status) == 0);
      CHECK(status.st_blocks * 512 >= 395000);
    }
  }
}

TEST_CASE("FLK-09: two opens of a file exclude each other in one process, and copies of one don't") {
  const Folder folder;
  Fd first, second;
  Problem problem;
  REQUIRE_FALSE(file::open_file(folder.get(), "lock", Creation::if_missing, false, first));
  REQUIRE_FALSE(file::open_file(folder.get(), "lock", Creation::if_missing, false, second));
  CHECK(file::try_lock(first.get(), true, problem) == Locked::obtained);
  CHECK(file::try_lock(second.get(), true, problem) == Locked::held);
  CHECK(file::try_lock(second.get(), false, problem) == Locked::held);
  file::unlock(first.get());
  CHECK(file::try_lock(second.get(), false, problem) == Locked::obtained);
  CHECK(file::try_lock(first.get(), false, problem) == Locked::obtained);
  file::unlock(first.get());
  CHECK(file::try_lock(first.get(), true, problem) == Locked::held);
  file::unlock(second.get());
  CHECK(file::try_lock(first.get(), true, problem) == Locked::obtained);
  CHECK(in_child([&] {
    Problem inside;
    return static_cast<int>(file::try_lock(second.get(), true, inside));
  }) == static_cast<int>(Locked::held));
  first.reset();
  CHECK(file::try_lock(second.get(), true, problem) == Locked::obtained);
  CHECK_FALSE(problem);
}

TEST_CASE("a descriptor has one owner and errno survives its end") {
  int fds[2];
  REQUIRE(::pipe(fds) == 0);
  Fd first(fds[0]);
  Fd second(fds[1]);
  errno = 1234;
  second = static_cast<Fd&&>(first);
  CHECK(errno == 1234);
  CHECK_FALSE(first);
  CHECK(second.get() == fds[0]);
  CHECK_FALSE(is_open(fds[1]));
  errno = 1234;
  Fd third(static_cast<Fd&&>(second));
  const int released = third.release();
  CHECK(released == fds[0]);
  CHECK(is_open(released));
  errno = 1234;
  Fd{released}.reset();
  CHECK(errno == 1234);
  CHECK_FALSE(is_open(released));
  errno = 1234;
  Fd{released}.reset();  // fails, and must not tell
  CHECK(errno == 1234);
}

TEST_CASE("a problem is told with the path, the reason and what to do") {
  CHECK(file::describe({"cannot be written", ENOSPC, "journal"}, "/dir") ==
        "FileStore /dir/journal: cannot be written: No space left on device (ENOSPC); free space on its file system");
  CHECK(file::describe({"isn't a regular file: remove it", 0, file::known_file("owner.0123")}, "/dir/") ==
        "FileStore /dir/owner.*: isn't a regular file: remove it");
  CHECK(file::describe({"cannot be opened", ENOENT}, "/dir") ==
        "FileStore /dir: cannot be opened: No such file or directory (ENOENT)");
  CHECK(file::describe({"cannot be opened", 99999}, "/dir").find("(errno 99999)") != std::string::npos);
  for (const int error : {EDQUOT, EFBIG, EMFILE, ENFILE, ENOLCK, EIO, EACCES, EROFS}) {
    CHECK(file::describe({"cannot be opened", error}, "/dir").find("); ") != std::string::npos);
  }
  CHECK(file::known_file("journal.old") == std::string("journal.old"));
  CHECK(file::known_file("anything") == nullptr);
}

TEST_CASE("the name of the machine's run is the kernel's, and the same in a child") {
  const file::Id128 id = file::boot_id();
  CHECK(file::Id128{}.empty());
  CHECK(file::boot_id() == id);
  CHECK(in_child([&] { return file::boot_id() == id ? 0 : 1; }) == 0);
  const char* const text = "00112233-4455-6677-8899-aabbccddeeff";
  const file::Id128 parsed = file::parse_id(text, std::strlen(text));
  for (int i = 0; i < 16; ++i) CHECK(parsed.bytes[i] == i * 0x11);
  CHECK(file::parse_id(text, std::strlen(text) - 1).empty());
  CHECK(file::parse_id("00112233-4455-6677-8899-aabbccddeefff", 37).empty());
  CHECK(file::parse_id("00112233-4455-6677-8899-aabbccddeefg", 36).empty());
#if defined(__linux__)
  const Fd fd(::open("/proc/sys/kernel/random/boot_id", O_RDONLY));
  if (fd) {
    char bytes[36] = {};
    REQUIRE(::read(fd.get(), bytes, sizeof bytes) == 36);
    CHECK_FALSE(id.empty());
    CHECK(file::parse_id(bytes, sizeof bytes) == id);
  }
#endif
}

#endif
