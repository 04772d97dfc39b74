// FLK-01 to FLK-05, FLK-13, FSE-03, FSE-04, T-78, T-82: by which files others know that an owner lives.
#include <doctest/doctest.h>

#if !defined(_WIN32)

#include "support/file_system_support.hpp"
#include "support/process_support.hpp"

#include <idem/detail/file/owner_file.hpp>
#include <idem/detail/file/page.hpp>
#include <idem/detail/file/store_lock.hpp>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include <dirent.h>
#include <signal.h>
#include <spawn.h>
#include <unistd.h>

using namespace process_support;
using namespace file_system_support;
using file::Alive;
using file::Creation;
using file::Fd;
using file::Id128;
using file::OwnerFile;
using file::OwnerSweep;
using file::Problem;

extern "C" char** environ;

namespace {

std::string name_of(const Id128& id) {
  return file::owner_impl::Name(id).text;
}

Alive probe(const Folder& folder, const Id128& id) {
  Problem problem;
  const Alive alive = file::probe_owner(folder.get(), id, problem);
  CHECK(static_cast<bool>(problem) == (alive == Alive::unknown));
  return alive;
}

OwnerSweep sweep(const Folder& folder) {
  OwnerSweep swept;
  CHECK(!file::sweep_owners(folder.get(), swept));
  return swept;
}

bool exists(const Folder& folder, const Id128& id) {
  return ::access((folder / name_of(id).c_str()).c_str(), F_OK) == 0;
}

void plant(const Folder& folder, const char* name) {
  Fd fd;
  REQUIRE(!file::open_file(folder.get(), name, Creation::exclusive, false, fd));
}

/// A process that is an owner.
template <class Run>
struct Owner {
  struct State {
    std::atomic<bool> ready{false};
    Id128 id;
  };

  Owner(const Folder& folder, Run run)
      : child([this, &folder, &run] {
          OwnerFile own;
          if (own.create(folder.get(), false)) return 90;
          state->id = own.id();
          const int result = run(own, *state);
          if (result >= 0) return result;
          state->ready.store(true);
          while (true) ::pause();
        }) {
    REQUIRE(eventually([this] { return state->ready.load(); }));
  }

  void kill() {
    child.kill(SIGKILL);
    CHECK(child.wait() == -SIGKILL);
  }

  Shared<State> state;
  Child child;
};

constexpr int lives_on = -1;

}  // namespace

TEST_CASE("an owner file has a random name, mode 0600 and no content, and goes with a clean end") {
  const Folder folder;
  OwnerFile owner;
  CHECK(!owner.held());
  CHECK(owner.id().empty());
  REQUIRE(!owner.create(folder.get(), false));
  CHECK(owner.held());
  const Id128 id = owner.id();
  CHECK(!id.empty());
  const std::string name = name_of(id);
  CHECK(name.size() == 38);
  CHECK(name.substr(0, 6) == "owner.");
  CHECK(name.find_first_not_of("0123456789abcdef", 6) == std::string::npos);
  CHECK(mode_of(folder / name.c_str()) == 0600);
  Id128 parsed;
  CHECK(file::owner_impl::parse(name.c_str(), parsed));
  CHECK(parsed == id);
  CHECK(probe(folder, id) == Alive::yes);
  const std::vector<int> open = open_descriptors();
  CHECK(sweep(folder).alive == 1);
  CHECK(open_descriptors() == open);
  owner.remove(folder.get());
  CHECK(!owner.held());
  CHECK(open_descriptors().size() == open.size() - 1);
  CHECK(!exists(folder, id));
  CHECK(probe(folder, id) == Alive::no);
  owner.remove(folder.get());
  REQUIRE(!owner.create(folder.get(), false));
  CHECK(!(owner.id() == id));
}

TEST_CASE("who names nobody, or somebody of whom there is no file, is dead") {
  const Folder folder;
  CHECK(probe(folder, Id128{}) == Alive::no);
  Id128 id;
  id.bytes[3] = 7;
  CHECK(probe(folder, id) == Alive::no);
}

TEST_CASE("FLK-01, FLK-02: an owner lives while it is slow or stopped, and is dead as soon as it is killed") {
  const Folder folder;
  Owner owner(folder, [](OwnerFile&, auto&) { return lives_on; });
  const Id128 id = owner.state->id;
  CHECK(probe(folder, id) == Alive::yes);
  owner.child.stop();
  for (int i = 0; i < 100; ++i) CHECK(probe(folder, id) == Alive::yes);
  owner.child.kill(SIGCONT);
  CHECK(probe(folder, id) == Alive::yes);
  owner.kill();
  CHECK(probe(folder, id) == Alive::no);
  CHECK(exists(folder, id));
  const OwnerSweep swept = sweep(folder);
  CHECK(swept.removed == 1);
  CHECK(swept.alive == 0);
  CHECK(!exists(folder, id));
  CHECK(probe(folder, id) == Alive::no);
}

TEST_CASE("T-78: processes that are copies of one another, or of a dead one, are different owners") {
  const Folder folder;
  OwnerFile first;
  OwnerFile second;
  REQUIRE(!first.create(folder.get(), false));
  REQUIRE(!second.create(folder.get(), false));
  CHECK(!(first.id() == second.id()));
  std::set<std::string> names = {name_of(first.id()), name_of(second.id())};
  for (int i = 0; i < 20; ++i) {
    Owner owner(folder, [](OwnerFile&, auto&) { return lives_on; });
    names.insert(name_of(owner.state->id));
    owner.kill();
  }
  CHECK(names.size() == 22);
  const OwnerSweep swept = sweep(folder);
  CHECK(swept.alive == 2);
  CHECK(swept.removed == 20);
}

TEST_CASE("FLK-03: a forked child is no owner, and what it does to its parent's file changes nothing") {
  const Folder folder;
  OwnerFile owner;
  REQUIRE(!owner.create(folder.get(), false));
  const Id128 id = owner.id();
  CHECK(in_child([&] {
          if (owner.held()) return 1;
          owner.remove(folder.get());
          return owner.held() ? 2 : 0;
        }) == 0);
  CHECK(exists(folder, id));
  CHECK(owner.held());
  CHECK(probe(folder, id) == Alive::yes);
  // An object that is destroyed in a child doesn't end its parent's ownership either.
  CHECK(in_child([&] {
          owner.~OwnerFile();
          return 0;
        }) == 0);
  CHECK(probe(folder, id) == Alive::yes);
}

TEST_CASE("FLK-03: a child that outlives its parent doesn't keep its parent's claims alive") {
  const Folder folder;
  const Shared<std::atomic<pid_t>> grandchild;
  Owner owner(folder, [&grandchild](OwnerFile&, auto&) {
    if (::fork() == 0) {
      ::alarm(60);
      grandchild->store(::getpid());
      while (true) ::pause();
    }
    return lives_on;
  });
  // The fork handler has run by then; before, the child does have its parent's descriptors.
  REQUIRE(eventually([&] { return grandchild->load() != 0; }));
  owner.kill();
  CHECK(probe(folder, owner.state->id) == Alive::no);
  CHECK(::kill(grandchild->load(), SIGKILL) == 0);
}

#if defined(__GLIBC__)
#if __GLIBC_PREREQ(2, 34)
TEST_CASE("FLK-04: a copy made behind the handlers' backs keeps its parent's claims alive until it ends") {
  const Folder folder;
  const Shared<std::atomic<pid_t>> copy;
  Owner owner(folder, [&copy](OwnerFile& own, auto&) {
    const pid_t pid = ::_Fork();
    if (pid == 0) {
      ::alarm(60);
      if (own.held()) ::_exit(1);  // but it doesn't take itself for the owner
      while (true) ::pause();
    }
    copy->store(pid);
    return lives_on;
  });
  owner.kill();
  CHECK(probe(folder, owner.state->id) == Alive::yes);
  CHECK(sweep(folder).alive == 1);
  REQUIRE(::kill(copy->load(), SIGKILL) == 0);
  CHECK(eventually([&] { return probe(folder, owner.state->id) == Alive::no; }));
}
#endif
#endif

TEST_CASE("FLK-05: a program that the owner started doesn't keep its claims alive") {
  const Folder folder;
  int pipe_ends[2];
  REQUIRE(::pipe(pipe_ends) == 0);
  const Fd read_end(pipe_ends[0]);
  const Fd write_end(pipe_ends[1]);
  const Shared<std::atomic<pid_t>> program;
  Owner owner(folder, [&](OwnerFile&, auto&) {
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, read_end.get(), 0);
    ::posix_spawn_file_actions_addclose(&actions, write_end.get());
    char name[] = "cat";
    char* arguments[] = {name, nullptr};
    pid_t pid = 0;
    if (::posix_spawnp(&pid, name, &actions, nullptr, arguments, environ) != 0) return 1;
    program->store(pid);
    return lives_on;
  });
  owner.kill();
  CHECK(::kill(program->load(), 0) == 0);
  // posix_spawn returns a little before the kernel closes what a program doesn't inherit.
  CHECK(eventually([&] { return probe(folder, owner.state->id) == Alive::no; }));
}

TEST_CASE("T-82: an owner is never taken for dead between the making of its file and its locking") {
  const Folder folder;
  const Shared<std::atomic<int>> done;
  constexpr int rounds = 300;
  const auto live = [&] {
    file::SharedPage page;
    file::StoreLock lock;
    if (page.open(folder.get(), false) || lock.open(folder.get(), false)) return 1;
    for (int round = 0; round < rounds; ++round) {
      OwnerFile owner;
      if (lock.acquire(page, 30'000'000)) return 2;
      const bool failed = static_cast<bool>(owner.create(folder.get(), false));
      lock.release(page);
      if (failed) return 3;
      for (int look = 0; look < 3; ++look) {
        ::sched_yield();
        if (!exists(folder, owner.id())) return 4;
      }
      // Half of them end without a word.
      if (round % 2 == 0) owner.remove(folder.get());
    }
    done->fetch_add(1);
    return 0;
  };
  Child a(live);
  Child b(live);
  file::SharedPage page;
  file::StoreLock lock;
  REQUIRE(!page.open(folder.get(), false));
  REQUIRE(!lock.open(folder.get(), false));
  std::size_t removed = 0;
  REQUIRE(eventually([&] {
    REQUIRE(!lock.acquire(page, 30'000'000));
    const bool over = done->load() == 2;
    const OwnerSweep swept = sweep(folder);
    lock.release(page);
    removed += swept.removed;
    return over || ::kill(a.pid(), 0) != 0 || ::kill(b.pid(), 0) != 0;
  }));
  CHECK(a.wait() == 0);
  CHECK(b.wait() == 0);
  CHECK(removed == rounds);
}

TEST_CASE("FDU-11: a sweep leaves alone whatever isn't an owner file") {
  const Folder folder;
  const std::vector<const char*> names = {"journal",
                                          "owner.",
                                          "owner.txt",
                                          "owner.0123456789abcdef0123456789abcde",
                                          "owner.0123456789abcdef0123456789abcdef0",
                                          "owner.0123456789ABCDEF0123456789ABCDEF",
                                          "owner.0123456789abcdef0123456789abcdeg",
                                          "Owner.0123456789abcdef0123456789abcdef"};
  for (const char* name : names) plant(folder, name);
  plant(folder, "owner.0123456789abcdef0123456789abcdef");
  const OwnerSweep swept = sweep(folder);
  CHECK(swept.removed == 1);
  CHECK(swept.alive == 0);
  for (const char* name : names) {
    CAPTURE(name);
    CHECK(::access((folder / name).c_str(), F_OK) == 0);
  }
}

TEST_CASE(
    "FSE-03, FSE-04: what stands where an owner file should is nobody's proof of death, and nobody waits for it") {
  const Folder folder;
  Id128 id;
  id.bytes[0] = 1;
  const std::string name = name_of(id);
  SUBCASE("a symbolic link") {
    REQUIRE(::symlink("elsewhere", (folder / name.c_str()).c_str()) == 0);
  }
  SUBCASE("a FIFO") {
    REQUIRE(::mkfifo((folder / name.c_str()).c_str(), 0600) == 0);
  }
  SUBCASE("a directory") {
    REQUIRE(::mkdir((folder / name.c_str()).c_str(), 0700) == 0);
  }
  SUBCASE("a second name of another file") {
    plant(folder, "victim");
    REQUIRE(::link((folder / "victim").c_str(), (folder / name.c_str()).c_str()) == 0);
  }
  Problem problem;
  CHECK(file::probe_owner(folder.get(), id, problem) == Alive::unknown);
  CHECK(problem);
  const OwnerSweep swept = sweep(folder);
  CHECK(swept.alive == 1);
  CHECK(swept.removed == 0);
}

TEST_CASE("FLK-13: without descriptors to be had an owner is neither alive nor dead, and none is lost") {
  const Folder folder;
  Owner dead(folder, [](OwnerFile&, auto&) { return lives_on; });
  dead.kill();
  const Id128 id = dead.state->id;
  const std::vector<int> before = open_descriptors();
  CHECK(in_child([&] {
          const rlimit few{static_cast<rlim_t>(before.back()) + 1, static_cast<rlim_t>(before.back()) + 1};
          ::setrlimit(RLIMIT_NOFILE, &few);
          std::vector<Fd> taken;
          for (Fd fd(::dup(0)); fd; fd = Fd(::dup(0))) taken.push_back(static_cast<Fd&&>(fd));
          int wrong = 0;
          Problem problem;
          if (file::probe_owner(folder.get(), id, problem) != Alive::unknown || problem.error != EMFILE) wrong |= 1;
          OwnerSweep swept;
          if (file::sweep_owners(folder.get(), swept).error != EMFILE || swept.removed != 0) wrong |= 2;
          OwnerFile owner;
          if (owner.create(folder.get(), false).error != EMFILE || owner.held()) wrong |= 4;
          return wrong;
        }) == 0);
  CHECK(probe(folder, id) == Alive::no);
  for (int i = 0; i < 10; ++i) {
    OwnerFile owner;
    REQUIRE(!owner.create(folder.get(), false));
    owner.remove(folder.get());
  }
  CHECK(sweep(folder).removed == 1);
  CHECK(open_descriptors() == before);
}

#endif
