// FLK-03, FLK-04, FLK-05, FLK-07, FLK-09: the lock under which one of all processes appends to the journal.
#include <doctest/doctest.h>

#if !defined(_WIN32)

#include "support/file_system_support.hpp"
#include "support/process_support.hpp"

#include <idem/detail/file/page.hpp>
#include <idem/detail/file/store_lock.hpp>

#include <atomic>
#include <cstdint>
#include <limits>
#include <thread>
#include <vector>

#include <signal.h>
#include <spawn.h>
#include <sys/time.h>
#include <unistd.h>

using namespace process_support;
using namespace file_system_support;
using file::Fd;
using file::Id128;
using file::Problem;
using file::SharedPage;
using file::StoreLock;

extern "C" char** environ;

namespace {

constexpr std::int64_t minute = 60'000'000;
constexpr std::int64_t moment = 20'000;

/// What one opener of a directory has of the lock.
struct Party {
  explicit Party(const Folder& folder) {
    REQUIRE(!page.open(folder.get(), false));
    REQUIRE(!lock.open(folder.get(), false));
  }

  Problem acquire(std::int64_t timeout = minute) { return lock.acquire(page, timeout); }
  void release() { lock.release(page); }
  std::int64_t holder() const { return lock.holder(page); }

  SharedPage page;
  StoreLock lock;
};

/// Whether it was still held after a while.
bool is_held(Party& party) {
  const Problem problem = party.acquire(moment);
  if (!problem) party.release();
  return static_cast<bool>(problem);
}

/// A process that takes the lock and does something with it held.
template <class Run>
struct Holder {
  Holder(const Folder& folder, Run run)
      : child([this, &folder, &run] {
          Party own(folder);
          if (own.acquire()) return 90;
          holds->store(true);
          return run(own);
        }) {
    REQUIRE(eventually([this] { return holds->load(); }));
  }

  Shared<std::atomic<bool>> holds;
  Child child;
};

int hold_for_ever(Party&) {
  while (true) ::pause();
}

}  // namespace

TEST_CASE("FLK-09: two openers of one directory exclude each other, in one process too") {
  const Folder folder;
  Party one(folder);
  Party other(folder);
  REQUIRE(!one.acquire());
  CHECK(one.holder() == ::getpid());
  CHECK(other.holder() == ::getpid());
  const Problem problem = other.acquire(moment);
  REQUIRE(problem);
  CHECK(describe(problem, "/dir").find("/dir/lock: was held by another process for longer than lock_timeout") !=
        std::string::npos);
  one.release();
  CHECK(other.holder() == 0);
  REQUIRE(!other.acquire(0));
  CHECK(is_held(one));
  other.release();
  REQUIRE(!one.acquire((std::numeric_limits<std::int64_t>::max)()));
  one.release();
  CHECK(mode_of(folder / "lock") == 0600);
}

TEST_CASE("a lock that is held is asked for once where there is no time") {
  const Folder folder;
  Party one(folder);
  Party other(folder);
  REQUIRE(!one.acquire());
  CHECK(other.acquire(0));
  CHECK(other.acquire(-1));
  CHECK(other.acquire((std::numeric_limits<std::int64_t>::min)()));
  one.release();
  CHECK(!other.acquire((std::numeric_limits<std::int64_t>::min)()));
  other.release();
}

TEST_CASE("FLK-09: never two at once, in four processes of two threads each") {
  const Folder folder;
  struct State {
    std::atomic<int> inside{0};
    std::atomic<int> most{0};
    long count = 0;  // guarded by the lock alone
  };
  const Shared<State> state;
  constexpr int rounds = 500;
  const auto work = [&] {
    Party own(folder);
    for (int round = 0; round < rounds; ++round) {
      if (own.acquire()) return 1;
      const int inside = state->inside.fetch_add(1) + 1;
      if (inside > state->most.load()) state->most.store(inside);
      state->count = state->count + 1;
      if (round % 16 == 0) ::sched_yield();
      state->inside.fetch_sub(1);
      own.release();
    }
    return 0;
  };
  const auto process = [&] {
    std::atomic<int> wrong{0};
    std::thread second([&] { wrong += work(); });
    wrong += work();
    second.join();
    return wrong.load();
  };
  Child a(process);
  Child b(process);
  Child c(process);
  Child d(process);
  CHECK(a.wait() == 0);
  CHECK(b.wait() == 0);
  CHECK(c.wait() == 0);
  CHECK(d.wait() == 0);
  CHECK(state->most.load() == 1);
  CHECK(state->count == 8 * rounds);
}

TEST_CASE("FLK-01: the lock of a killed process is free at once, also for one who slept on it") {
  const Folder folder;
  Party mine(folder);
  Holder holder(folder, hold_for_ever);
  CHECK(mine.holder() == holder.child.pid());
  CHECK(is_held(mine));
  const Shared<std::atomic<bool>> asks;
  Child waiter([&] {
    Party own(folder);
    asks->store(true);
    if (own.acquire()) return 1;
    own.release();
    return 0;
  });
  REQUIRE(eventually([&] { return asks->load(); }));
  holder.child.kill(SIGKILL);
  CHECK(holder.child.wait() == -SIGKILL);
  CHECK(waiter.wait() == 0);
  REQUIRE(!mine.acquire());
  CHECK(mine.holder() == ::getpid());
  mine.release();
}

TEST_CASE("FLK-02: while its holder is stopped the lock isn't to be had, and who has it can be told; later it is") {
  const Folder folder;
  Party mine(folder);
  const Shared<std::atomic<bool>> over;
  Holder holder(folder, [&over](Party& own) {
    while (!over->load()) ::sched_yield();
    own.release();
    return 0;
  });
  holder.child.stop();
  over->store(true);
  for (int attempt = 0; attempt < 3; ++attempt) {
    CHECK(mine.acquire(moment));
    CHECK(mine.holder() == holder.child.pid());
  }
  holder.child.kill(SIGCONT);
  CHECK(!mine.acquire());
  mine.release();
  CHECK(holder.child.wait() == 0);
}

TEST_CASE("FLK-03: a forked child has no part in its parent's lock, whatever it calls and however it ends") {
  const Folder folder;
  Party mine(folder);
  Party other(folder);
  REQUIRE(!mine.acquire());
  CHECK(in_child([&mine] {
          int wrong = 0;
          const Problem problem = mine.acquire(moment);
          if (!problem) wrong |= 1;
          if (describe(problem, "/dir").find("make a store in the child") == std::string::npos) wrong |= 2;
          mine.release();
          if (mine.holder() != ::getppid()) wrong |= 4;
          return wrong;
        }) == 0);
  CHECK(is_held(other));
  CHECK(in_child([&folder] {
          Party own(folder);
          return own.acquire(0) ? 0 : 1;
        }) == 0);
  CHECK(is_held(other));
  mine.release();
  CHECK(!is_held(other));
}

TEST_CASE("FLK-03: a child that outlives its parent doesn't keep the parent's lock") {
  const Folder folder;
  Party mine(folder);
  const Shared<std::atomic<pid_t>> grandchild;
  Holder holder(folder, [&grandchild](Party& own) {
    const pid_t pid = ::fork();
    if (pid == 0) {
      ::alarm(60);
      hold_for_ever(own);
    }
    grandchild->store(pid);
    return hold_for_ever(own);
  });
  REQUIRE(eventually([&] { return grandchild->load() != 0; }));
  holder.child.kill(SIGKILL);
  CHECK(holder.child.wait() == -SIGKILL);
  CHECK(!mine.acquire());
  CHECK(::kill(grandchild->load(), SIGKILL) == 0);
  mine.release();
}

TEST_CASE("FLK-05: a program that is started with the lock held doesn't get it") {
  const Folder folder;
  Party mine(folder);
  int pipe_ends[2];
  REQUIRE(::pipe(pipe_ends) == 0);
  const file::Fd read_end(pipe_ends[0]);
  file::Fd write_end(pipe_ends[1]);
  const Shared<std::atomic<pid_t>> program;
  Holder holder(folder, [&](Party& own) {
    // `cat` lives until the write end is closed, here and in this child.
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, read_end.get(), 0);
    ::posix_spawn_file_actions_addclose(&actions, write_end.get());
    char name[] = "cat";
    char* arguments[] = {name, nullptr};
    pid_t pid = 0;
    if (::posix_spawnp(&pid, name, &actions, nullptr, arguments, environ) != 0) return 1;
    program->store(pid);
    return hold_for_ever(own);
  });
  REQUIRE(eventually([&] { return program->load() != 0; }));
  holder.child.kill(SIGKILL);
  CHECK(holder.child.wait() == -SIGKILL);
  CHECK(!mine.acquire());
  CHECK(::kill(program->load(), 0) == 0);
  mine.release();
}

#if defined(__GLIBC__)
#if __GLIBC_PREREQ(2, 34)
TEST_CASE("FLK-04: a copy of the process made behind the handlers' backs keeps a dead one's lock, not a living one's") {
  const Folder folder;
  Party mine(folder);
  const Shared<std::atomic<pid_t>> copy;
  const auto make_copy = [&copy] {
    const pid_t pid = ::_Fork();
    if (pid == 0) {
      ::alarm(60);
      while (true) ::pause();
    }
    copy->store(pid);
  };
  SUBCASE("the holder is killed") {
    Holder holder(folder, [&](Party& own) {
      make_copy();
      return hold_for_ever(own);
    });
    REQUIRE(eventually([&] { return copy->load() != 0; }));
    holder.child.kill(SIGKILL);
    CHECK(holder.child.wait() == -SIGKILL);
    CHECK(is_held(mine));
    // Whoever is told looks for the descendants of the one that is named.
    CHECK(mine.holder() != 0);
  }
  SUBCASE("the holder lets go") {
    Holder holder(folder, [&](Party& own) {
      make_copy();
      own.release();
      return 0;
    });
    CHECK(holder.child.wait() == 0);
    CHECK(!is_held(mine));
  }
  CHECK(::kill(copy->load(), SIGKILL) == 0);
  CHECK(!mine.acquire());
  mine.release();
}
#endif
#endif

TEST_CASE("FLK-07: signals while waiting for the lock neither fail it nor give it away") {
  const Folder folder;
  struct State {
    std::atomic<long> turns{0};
    long count = 0;  // guarded by the lock alone
  };
  const Shared<State> state;
  const auto work = [&] {
    static std::atomic<long> signals{0};
    struct sigaction action = {};
    action.sa_handler = [](int) { signals.fetch_add(1); };  // without SA_RESTART
    ::sigaction(SIGALRM, &action, nullptr);
    const itimerval often = {{0, 200}, {0, 200}};
    ::setitimer(ITIMER_REAL, &often, nullptr);
    Party own(folder);
    for (int round = 0; round < 300 || signals.load() < 20; ++round) {
      if (own.acquire()) return 1;
      const long before = state->count;
      ::sched_yield();
      state->count = before + 1;
      own.release();
      state->turns.fetch_add(1);
    }
    return 0;
  };
  Child a(work);
  Child b(work);
  CHECK(a.wait() == 0);
  CHECK(b.wait() == 0);
  CHECK(state->turns.load() >= 600);
  CHECK(state->count == state->turns.load());
}

TEST_CASE("who has another page than the holder waits for no bell and gets the lock all the same") {
  const Folder folder;
  Party one(folder);
  REQUIRE(::unlink((folder / "page").c_str()) == 0);
  Party other(folder);
  REQUIRE(!one.acquire());
  CHECK(is_held(other));
  Fd page;
  REQUIRE(!file::open_file(folder.get(), "page", file::Creation::never, false, page));
  std::atomic<bool> obtained{false};
  std::thread waiter([&] {
    if (other.acquire()) return;
    obtained = true;
    other.release();
  });
  // It sleeps by the words of its own page, which `one` doesn't ring.
  const bool slept = eventually([&page] {
    std::uint32_t asleep = 0;
    return !file::read_all(page.get(), &asleep, sizeof asleep, 260) && asleep == 1;
  });
  one.release();
  waiter.join();
  CHECK(slept);
  CHECK(obtained.load());
}

TEST_CASE("every one of many who sleep on the lock gets it") {
  const Folder folder;
  Party mine(folder);
  REQUIRE(!mine.acquire());
  std::atomic<int> asking{0};
  std::atomic<int> obtained{0};
  std::vector<std::thread> waiters;
  for (int i = 0; i < 8; ++i) {
    waiters.emplace_back([&] {
      Party own(folder);
      asking.fetch_add(1);
      if (own.acquire()) return;
      obtained.fetch_add(1);
      own.release();
    });
  }
  const bool all_ask = eventually([&] { return asking.load() == 8; });
  mine.release();
  for (std::thread& waiter : waiters) waiter.join();
  CHECK(all_ask);
  CHECK(obtained.load() == 8);
}

TEST_CASE("FLK-13: an opener that fails leaves no descriptor behind") {
  const Folder folder;
  REQUIRE(::mkfifo((folder / "lock").c_str(), 0600) == 0);
  REQUIRE(::symlink("elsewhere", (folder / "page").c_str()) == 0);
  const std::vector<int> before = open_descriptors();
  {
    StoreLock lock;
    CHECK(lock.open(folder.get(), false));
    SharedPage page;
    CHECK(page.open(folder.get(), false));
    CHECK(!page.describes(Id128{}));
  }
  CHECK(open_descriptors() == before);
}

#endif
