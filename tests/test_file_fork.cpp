// FLK-03 to FLK-05: what becomes of descriptors, and the locks taken through them, in children.
#include <doctest/doctest.h>

#if !defined(_WIN32)

#include "support/file_system_support.hpp"

#include <idem/detail/file/fork_guard.hpp>

#include <atomic>
#include <cerrno>
#include <string>
#include <thread>

#include <fcntl.h>
#include <unistd.h>

using namespace file_system_support;
using file::Creation;
using file::Fd;
using file::ForkClosed;
using file::Locked;
using file::Problem;

namespace {

Fd open_lock(const Folder& folder) {
  Fd fd;
  REQUIRE_FALSE(file::open_file(folder.get(), "lock", Creation::if_missing, false, fd));
  return fd;
}

int nodes() {
  int count = 0;
  for (idem::detail::ForkNode* node = idem::detail::fork_list.first; node != nullptr; node = node->next) ++count;
  return count;
}

/// Whether there is no page that the kernel erases in children: old kernels, and emulators of other machines. REQUIRES:
/// a descriptor has been guarded.
bool is_emulated() {
  return idem::detail::process_state.word.load() == &idem::detail::process_state.word_without_page;
}

}  // namespace

TEST_CASE("FLK-03: a child has none of the guarded descriptors, and nothing that it does harms those of its parent") {
  const Folder folder;
  ForkClosed guarded, second;
  REQUIRE_FALSE(guarded.set(open_lock(folder)));
  REQUIRE_FALSE(second.set(open_lock(folder)));
  const int fd = guarded.get();
  const int other = second.get();
  Problem problem;
  REQUIRE(file::try_lock(fd, true, problem) == Locked::obtained);
  const int wrong = in_child([&] {
    if (guarded.get() != -1 || second.get() != -1 || is_open(fd) || is_open(other)) return 1;
    // The number may be somebody else's now, whom an object of the parent must leave alone.
    const Fd reused(::dup2(folder.get(), fd));
    guarded.close();
    if (!is_open(fd) || guarded.get() != -1) return 2;
    if (second.set(open_lock(folder)) || second.get() < 0) return 3;
    Problem inside;
    if (file::try_lock(second.get(), true, inside) != Locked::held) return 4;
    // And its own children have none either.
    const int own = second.get();
    return in_child([&] { return second.get() != -1 || is_open(own) ? 1 : 0; }) == 0 ? 0 : 5;
  });
  CHECK(wrong == 0);
  CHECK(guarded.get() == fd);
  CHECK(is_open(fd));
  const Fd prober = open_lock(folder);
  CHECK(file::try_lock(prober.get(), true, problem) == Locked::held);
}

TEST_CASE("FLK-04: a child that goes on living doesn't keep its parent's lock") {
  const Folder folder;
  int to_child[2], to_parent[2];
  REQUIRE(::pipe(to_child) == 0);
  REQUIRE(::pipe(to_parent) == 0);
  ForkClosed guarded;
  REQUIRE_FALSE(guarded.set(open_lock(folder)));
  Problem problem;
  REQUIRE(file::try_lock(guarded.get(), true, problem) == Locked::obtained);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  char byte = 'x';
  if (child == 0) {
    ::alarm(30);
    ::_exit(::write(to_parent[1], &byte, 1) == 1 && ::read(to_child[0], &byte, 1) == 1 ? 0 : 1);
  }
  const Fd prober = open_lock(folder);
  CHECK(::read(to_parent[0], &byte, 1) == 1);
  CHECK(file::try_lock(prober.get(), true, problem) == Locked::held);
  guarded.close();
  CHECK(file::try_lock(prober.get(), true, problem) == Locked::obtained);
  CHECK(::write(to_child[1], &byte, 1) == 1);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  for (const int fd : {to_child[0], to_child[1], to_parent[0], to_parent[1]}) ::close(fd);
}

TEST_CASE("FLK-05: a program that is started has none of the guarded descriptors") {
  const Folder folder;
  ForkClosed guarded;
  REQUIRE_FALSE(guarded.set(open_lock(folder)));
  const int fd = guarded.get();
  // posix_spawn and vfork run no handlers; there it is O_CLOEXEC.
  CHECK((::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
#if defined(__linux__)
  const std::string command = "test -e /proc/self/fd/0 && test ! -e /proc/self/fd/" + std::to_string(fd);
  CHECK(std::system(command.c_str()) == 0);
#endif
}

#if defined(__GLIBC__) && defined(__GLIBC_PREREQ)
#if __GLIBC_PREREQ(2, 34) && !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
TEST_CASE("a child made without the C library's handlers is not shown the descriptor of its parent") {
  const Folder folder;
  ForkClosed guarded;
  REQUIRE_FALSE(guarded.set(open_lock(folder)));
  if (is_emulated()) return;
  const pid_t child = ::_Fork();
  REQUIRE(child >= 0);
  if (child == 0) ::_exit(guarded.get() == -1 ? 0 : 1);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
}
#endif
#endif

TEST_CASE("what kept a descriptor is used again, moves with its object and closes with it") {
  const Folder folder;
  ForkClosed first;
  CHECK(first.get() == -1);
  REQUIRE_FALSE(first.set(open_lock(folder)));
  const int count = nodes();
  const auto open = open_descriptors();
  for (int i = 0; i < 100; ++i) REQUIRE_FALSE(first.set(open_lock(folder)));
  CHECK(nodes() == count);
  CHECK(open_descriptors().size() == open.size());
  const int fd = first.get();
  ForkClosed second(static_cast<ForkClosed&&>(first));
  CHECK(first.get() == -1);
  CHECK(second.get() == fd);
  REQUIRE_FALSE(first.set(open_lock(folder)));
  const int replaced = first.get();
  first = static_cast<ForkClosed&&>(second);
  CHECK_FALSE(is_open(replaced));
  CHECK(first.get() == fd);
  CHECK(in_child([&] { return first.get() != -1 || is_open(fd) ? 1 : 0; }) == 0);
  errno = 55;
  first.close();
  CHECK(errno == 55);
  CHECK_FALSE(is_open(fd));
  CHECK(first.get() == -1);
  {
    ForkClosed third;
    REQUIRE_FALSE(third.set(open_lock(folder)));
    CHECK(is_open(third.get()));
  }
  CHECK(open_descriptors().size() == open.size() - 1);
}

TEST_CASE("a child may be made at any moment while other threads take and close descriptors") {
  const Folder folder;
  ForkClosed kept;
  REQUIRE_FALSE(kept.set(open_lock(folder)));
  if (is_emulated()) return;  // qemu's own locks may be held for ever in such a child
  const int fd = kept.get();
  std::atomic<bool> over{false};
  std::atomic<int> failed{0};
  const auto churn = [&] {
    while (!over) {
      ForkClosed guarded;
      if (guarded.set(Fd(::open("/dev/null", O_RDONLY | O_CLOEXEC))) || !is_open(guarded.get())) ++failed;
    }
  };
  std::thread one(churn), other(churn);
  int wrong = 0;
  for (int i = 0; i < 300; ++i) {
    const int result = in_child([&] {
      if (kept.get() != -1 || is_open(fd) || !is_open(folder.get())) return 1;
      ForkClosed own;
      return own.set(Fd(::open("/dev/null", O_RDONLY | O_CLOEXEC))) || !is_open(own.get()) ? 1 : 0;
    });
    if (result != 0) ++wrong;
  }
  over = true;
  one.join();
  other.join();
  CHECK(wrong == 0);
  CHECK(failed == 0);
  CHECK(kept.get() == fd);
}

#endif
