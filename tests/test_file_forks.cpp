// A FileStore in functions that make processes, and in the processes that they make.
#include <doctest/doctest.h>

#if defined(__linux__)

#include "support/other_processes.hpp"

#include <array>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <spawn.h>
#include <sys/syscall.h>

extern "C" char** environ;

using namespace other_processes;

namespace {

struct Scene {
  Flag entered{0};
  Flag go{0};
  Flag effects{0};
  Flag armed{0};
  Flag verdicts[4] = {};
  Flag child{0};
  Flag wrong{0};
};

/// A pipe whose reader sees the end when the test lets go of it. Programs that read from it live for just that long.
class Leash {
 public:
  Leash() { REQUIRE(::pipe2(ends_, O_CLOEXEC) == 0); }
  ~Leash() {
    let_go();
    ::close(ends_[0]);
  }
  Leash(const Leash&) = delete;
  Leash& operator=(const Leash&) = delete;

  void let_go() {
    if (ends_[1] >= 0) ::close(ends_[1]);
    ends_[1] = -1;
  }
  int reader() const { return ends_[0]; }

  /// In a process that holds the reader's end only.
  void drop_writer() { let_go(); }
  void hold_on() const {
    char byte = 0;
    while (::read(ends_[0], &byte, 1) < 0 && errno == EINTR) {
    }
  }

 private:
  int ends_[2] = {-1, -1};
};

/// Orphans become this process's children, so that they can be waited for.
class Foster {
 public:
  Foster() { ::prctl(PR_SET_CHILD_SUBREAPER, 1); }
  ~Foster() {
    while (::waitpid(-1, nullptr, 0) > 0 || errno == EINTR) {
    }
    ::prctl(PR_SET_CHILD_SUBREAPER, 0);
  }
  Foster(const Foster&) = delete;
  Foster& operator=(const Foster&) = delete;
};

}  // namespace

TEST_CASE("FLK-03: a child that exits with all its static destructors leaves its parent's claim alone") {
  const Directory place;
  const Shared<Scene> scene;
  Child owner([&] {
    // Destroyed by exit in both processes.
    static std::optional<FileStore> store(std::in_place, place.path(), quick());
    static const auto guard = pay(
        *store,
        [&](int number) {
          ++scene->effects;
          std::fflush(stdout);  // or the child would print what its parent has yet to print
          Child child([]() -> int { std::exit(5); });
          if (child.wait() != 5 && !IDEM_TEST_SANITIZED) ++scene->wrong;
          if (found_by_others(place.path(), number) != Answer::running) ++scene->wrong;
          return number * 10;
        },
        Options{});
    scene->verdicts[0] = static_cast<int>(guard.try_call(1).verdict());
    return 0;
  });
  CHECK(owner.wait() == 0);
  CHECK(scene->wrong == 0);
  CHECK(scene->verdicts[0] == static_cast<int>(Verdict::executed));
  CHECK(found_by_others(place.path(), 1) == Answer::completed);
  CHECK(scene->effects == 1);
}

TEST_CASE("FLK-03: a child has nothing open of what its parent's store has, until it uses the store itself") {
  const Directory place;
  FileStore store(place.path(), quick());
  REQUIRE(store.open().answer == Answer::ok);
  REQUIRE(store.compact().answer == Answer::ok);
  const auto open_files = [&place] {
    int count = 0;
    for (int fd = 0; fd < 256; ++fd) {
      char target[512] = {};
      const std::string link = "/proc/self/fd/" + std::to_string(fd);
      if (::readlink(link.c_str(), target, sizeof target - 1) < 0) continue;
      if (std::string_view(target).substr(0, place.path().size()) == place.path()) ++count;
    }
    return count;
  };
  if (open_files() == 0) return;  // there is no /proc
  Child child([&] {
    const int inherited = open_files();
    const bool works = store.find(key_of_pay(store, 1)).answer == Answer::absent;
    return inherited != 0 ? inherited : works ? 100 : 101;
  });
  CHECK(child.wait() == 100);
}

TEST_CASE(
    "FLK-03, T-19: a child that comes back from the function too holds a dead handle: only its parent's run counts") {
  const Directory place;
  const Shared<Scene> scene;
  FileStore store(place.path(), quick());
  enum class Return { value, failure, exception };
  for (const Return how : {Return::value, Return::failure, Return::exception}) {
    const int number = static_cast<int>(how);
    const pid_t me = ::getpid();
    const auto guard = pay(
        store,
        [&](int) {
          const pid_t child = ::fork();
          if (child < 0) throw std::runtime_error("fork");
          if (child == 0) {
            if (how != Return::value) throw std::runtime_error("in the child");
            return 666;
          }
          int status = 0;
          ::waitpid(child, &status, 0);
          scene->child = status;
          const Reply found = store.find(key_of_pay(store, number));
          if (found.answer != Answer::running || found.record.abandoned || found.record.attempt != 1) ++scene->wrong;
          if (found_by_others(place.path(), number) != Answer::running) ++scene->wrong;
          return number + 1;
        },
        at_once({.on_failure = how == Return::failure ? idem::OnFailure::lock : idem::OnFailure::unlock}));
    const auto outcome = guard.try_call(number);
    if (::getpid() != me) {
      // The value is in hand, and that it isn't recorded is said.
      const Verdict expected = how == Return::value ? Verdict::stale : Verdict::failed;
      const bool told =
          outcome.verdict() == expected && (how != Return::value || (outcome.has_value() && outcome.value() == 666));
      // Asked again it sees its parent running.
      const bool later = guard.try_call(number).verdict() == Verdict::in_progress;
      ::_exit(told && later ? 0 : 1);
    }
    CHECK(scene->child == 0);
    CHECK(scene->wrong == 0);
    CHECK(outcome.verdict() == Verdict::executed);
    CHECK(guard.try_call(number).value() == number + 1);
  }
}

TEST_CASE("FLK-03: what a child tries with its parent's claim while the store is away doesn't catch up with it later") {
  for (const bool abandons : {false, true}) {
    const Directory place;
    const Shared<Scene> scene;
    FileStoreOptions hurried = quick();
    hurried.lock_timeout = 30ms;
    FileStore store(place.path(), hurried);
    const idem::Key key = idem::make_key("k");
    std::optional<idem::Claim> claim(idem::claim(store, key));
    REQUIRE(claim->acquired());
    Child blocker([&] {
      FileStore own(place.path(), quick(TrapClock{&scene->armed, [] { ::raise(SIGSTOP); }}));
      if (own.open().answer != Answer::ok) return 1;
      scene->armed = 1;
      return own.find(key).answer == Answer::running ? 0 : 1;
    });
    int status = 0;
    REQUIRE(::waitpid(blocker.pid(), &status, WUNTRACED) == blocker.pid());
    REQUIRE(WIFSTOPPED(status));
    Child child([&] {
      if (abandons) {
        claim.reset();
      } else if (claim->release()) {
        return 1;
      }
      if (idem::claim(store, key, {.wait_timeout = 0s}).status() != Answer::unavailable) return 2;
      blocker.kill(SIGCONT);
      if (!eventually([&] { return store.open().answer == Answer::ok; })) return 3;
      if (store.find(key).answer != Answer::running) return 4;
      return idem::claim(store, key, {.wait_timeout = 0s}).status() == Answer::running ? 0 : 5;
    });
    CHECK(child.wait() == 0);
    CHECK(blocker.wait() == 0);
    CHECK(store.find(key).answer == Answer::running);
    CHECK(claim->complete(1) == Verdict::executed);
  }
}

TEST_CASE("FLK-04, FLK-05, T-19: whatever a function starts and leaves behind, its owner's death is seen at once") {
  struct Way {
    std::string name;
    std::function<void(Leash&)> start;  // in the guarded function
  };
  // A program that reads the leash to its end.
  const auto as_cat = [](Leash& leash) {
    ::dup2(leash.reader(), 0);
    ::execlp("cat", "cat", static_cast<char*>(nullptr));
    ::_exit(127);
  };
  const Way ways[] = {
      {"fork",
       [](Leash& leash) {
         if (::fork() == 0) {
           leash.hold_on();
           ::_exit(0);
         }
       }},
      {"fork of a fork",
       [](Leash& leash) {
         if (::fork() == 0) {
           if (::fork() == 0) {
             leash.hold_on();
             ::_exit(0);
           }
           leash.hold_on();
           ::_exit(0);
         }
       }},
      {"fork and exec",
       [as_cat](Leash& leash) {
         if (::fork() == 0) as_cat(leash);
       }},
      {"vfork and exec",
       [](Leash& leash) {
         const int reader = leash.reader();
         const pid_t child = ::vfork();
         if (child == 0) {
           ::dup2(reader, 0);
           ::execlp("cat", "cat", static_cast<char*>(nullptr));
           ::_exit(127);
         }
       }},
      {"posix_spawn",
       [](Leash& leash) {
         posix_spawn_file_actions_t actions;
         ::posix_spawn_file_actions_init(&actions);
         ::posix_spawn_file_actions_adddup2(&actions, leash.reader(), 0);
         char name[] = "cat";
         char* const arguments[] = {name, nullptr};
         ::posix_spawnp(nullptr, "cat", &actions, nullptr, arguments, environ);
         ::posix_spawn_file_actions_destroy(&actions);
       }},
      {"popen",
       [](Leash& leash) {
         ::dup2(leash.reader(), 0);
         static_cast<void>(::popen("cat", "r"));
       }},
      {"system",
       [](Leash& leash) {
         ::dup2(leash.reader(), 0);  // a higher number may be one of the store's
         if (std::system("exec 9<&0; cat <&9 >/dev/null &") != 0) ::_exit(9);
       }},
  };
  for (const Way& way : ways) {
    INFO(way.name);
    const Directory place;
    const Shared<Scene> scene;
    const Foster foster;
    Leash leash;
    Child owner([&] {
      leash.drop_writer();
      // What is left behind ends with the leash even where the test goes wrong.
      FileStore store(place.path(), quick());
      const auto guard = pay(
          store,
          [&](int number) {
            ++scene->effects;
            way.start(leash);
            ++scene->entered;
            await(scene->go);
            return number;
          },
          Options{});
      return guard(1);
    });
    await(scene->entered);
    CHECK(found_by_others(place.path(), 1) == Answer::running);
    owner.kill(SIGKILL);
    CHECK(owner.wait() == -SIGKILL);
    // The killed owner's children are there, and are seen not to be it. A program that was started keeps what it got
    // for the moment until it is loaded.
    CHECK(eventually([&] { return found_by_others(place.path(), 1) == Answer::in_doubt; }));
    siginfo_t info = {};
    CHECK(::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0);
    CHECK(info.si_pid == 0);  // somebody lives, and nobody has ended
    leash.let_go();
  }
}

TEST_CASE(
    "FLK-04: a copy made by clone without the C library keeps its parent's claims alive, for as long as it lives") {
  // That is documented: nothing else could tell it from its parent.
  const Directory place;
  const Shared<Scene> scene;
  const Foster foster;
  Leash leash;
  Child owner([&] {
    leash.drop_writer();
    FileStore store(place.path(), quick());
    const auto guard = pay(
        store,
        [&](int number) {
          if (::syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr) == 0) {
            leash.hold_on();
            ::syscall(SYS_exit_group, 0);
          }
          ++scene->entered;
          await(scene->go);
          return number;
        },
        Options{});
    return guard(1);
  });
  await(scene->entered);
  owner.kill(SIGKILL);
  CHECK(owner.wait() == -SIGKILL);
  CHECK(found_by_others(place.path(), 1) == Answer::running);
  leash.let_go();
  CHECK(eventually([&] { return found_by_others(place.path(), 1) == Answer::in_doubt; }));
}

TEST_CASE("T-19, CXX-12: a child that uses the store for its own calls is an owner of its own, like its children") {
  const Directory place;
  const Shared<Scene> scene;
  const Foster foster;
  FileStore probe(place.path(), quick());
  REQUIRE(probe.open().answer == Answer::ok);
  const auto status = [&](int number) { return probe.find(key_of_pay(probe, number)).answer; };
  const auto stands = [&](int number) {
    ++scene->entered;
    await(scene->go);
    return number;
  };
  // Parent, child and grandchild stand in a call each, made through the one object that they inherited.
  const Shared<std::array<std::atomic<pid_t>, 3>> ids;
  Child parent([&] {
    FileStore store(place.path(), quick());
    const auto guard = pay(store, stands, at_once());
    return pay(
        store,
        [&](int number) {
          (*ids)[0] = ::getpid();
          if (::fork() == 0) {
            (*ids)[1] = ::getpid();
            if (guard.try_call(number).verdict() != Verdict::reentrant) ++scene->wrong;
            const auto child = pay(
                store,
                [&](int mine) {
                  if (::fork() == 0) {
                    (*ids)[2] = ::getpid();
                    guard(mine + 1);
                    ::_exit(0);
                  }
                  return stands(mine);
                },
                at_once());
            child(number + 1);
            ::_exit(0);
          }
          return stands(number);
        },
        at_once())(1);
  });
  await(scene->entered, 3);
  CHECK(status(1) == Answer::running);
  CHECK(status(2) == Answer::running);
  CHECK(status(3) == Answer::running);
  CHECK(probe.stats().processes == 4);
  // The one in the middle dies: neither its parent nor its child is taken for it, nor it for them.
  ::kill((*ids)[1], SIGKILL);
  CHECK(eventually([&] { return status(2) == Answer::in_doubt; }));
  CHECK(status(1) == Answer::running);
  CHECK(status(3) == Answer::running);
  parent.kill(SIGKILL);
  CHECK(parent.wait() == -SIGKILL);
  CHECK(status(1) == Answer::in_doubt);
  CHECK(status(3) == Answer::running);
  scene->go = 1;
  CHECK(eventually([&] { return status(3) == Answer::completed; }));
  CHECK(scene->wrong == 0);
}

TEST_CASE("CXX-12: a child of a program whose threads all use the store uses it too, and ends in any way") {
  const Directory place;
  const Shared<Scene> scene;
  auto store = std::make_unique<FileStore>(place.path(), quick());
  const auto guard = pay(
      *store, [&](int number) { return number; }, at_once());
  REQUIRE(guard(0) == 0);
  std::atomic<bool> over{false};
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 3; ++thread) {
    threads.emplace_back([&, thread] {
      for (int i = 1; !over; ++i) {
        const auto outcome = guard.try_call(1000000 * (thread + 1) + i);
        if (outcome.verdict() != Verdict::executed) ++wrong;
        if (thread == 0 && i % 50 == 0 && store->compact().answer != Answer::ok) ++wrong;
        if (thread == 1 && i % 20 == 0) store->stats();
      }
    });
  }
  for (int round = 1; round <= 25; ++round) {
    Child child([&] {
      if (guard.try_call(0).verdict() != Verdict::replayed) return 1;
      if (guard.try_call(round).verdict() != Verdict::executed) return 2;
      if (guard.try_call(round).verdict() != Verdict::replayed) return 3;
      if (round % 3 == 0 && store->compact().answer != Answer::ok) return 4;
      if (round % 3 == 1) store.reset();
      if (round % 5 == 0) ::raise(SIGKILL);
      return 0;
    });
    CHECK(child.wait() == (round % 5 == 0 ? -SIGKILL : 0));
    CHECK(guard.try_call(round).verdict() == Verdict::replayed);
  }
  over = true;
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
  // Nothing that a child kept by accident holds anybody up.
  CHECK(store->compact().answer == Answer::ok);
  CHECK(store->stats().processes == 1);
  CHECK(FileStore::verify(place.path()).good());
}

TEST_CASE("T-14: a process that forks while its call waits isn't one owner with its child") {
  const Directory place;
  const Shared<Scene> scene;
  Child holder([&] {
    FileStore store(place.path(), quick());
    pay(
        store,
        [&](int) -> int {
          scene->entered = 1;
          await(scene->go);
          throw std::runtime_error("nothing happened");
        },
        at_once())
        .try_call(1);
    return 0;
  });
  await(scene->entered);
  Child parent([&] {
    FileStore store(place.path(), quick());
    int self = 0;
    pid_t made = 0;
    const auto guard = pay(
        store,
        [&](int number) {
          ++scene->effects;
          scene->child = 1;
          // Long enough for the parent to come along.
          const auto until = std::chrono::steady_clock::now() + 300ms;
          while (scene->effects < 2 && std::chrono::steady_clock::now() < until) ::sched_yield();
          return number;
        },
        Options{.on_duplicate = idem::OnDuplicate::wait}, idem::observe([&](const idem::Event& event) {
          if (event.kind != idem::EventKind::waiting || made != 0) return;
          made = ::fork();
          if (made == 0) self = 1;
          ++scene->armed;
          // The child is the first to claim, and still runs when the parent does.
          if (self == 0) await(scene->child);
        }));
    const auto outcome = guard.try_call(1);
    scene->verdicts[self] = static_cast<int>(outcome.verdict());
    if (self == 1) ::_exit(outcome.has_value() && outcome.value() == 1 ? 0 : 1);
    int status = 0;
    ::waitpid(made, &status, 0);
    return outcome.has_value() && outcome.value() == 1 && status == 0 ? 0 : 1;
  });
  await(scene->armed, 2);
  scene->go = 1;
  CHECK(parent.wait() == 0);
  CHECK(holder.wait() == 0);
  CHECK(scene->effects == 1);
  const int executed = static_cast<int>(Verdict::executed);
  CHECK((scene->verdicts[0] == executed) != (scene->verdicts[1] == executed));
}

#endif
