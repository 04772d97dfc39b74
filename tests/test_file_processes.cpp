// A FileStore between processes that are slow, stopped, killed, or end in the middle.
#include <doctest/doctest.h>

#if defined(__linux__)

#include "support/other_processes.hpp"

#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <optional>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

using namespace other_processes;

namespace {

struct Scene {
  Flag entered{0};  // functions that have begun
  Flag go{0};       // they may go on
  Flag effects{0};
  Flag armed{0};
  Flag verdict{0};
  Flag inside{0};
  Flag most_inside{0};
};

/// A function that stands in the middle until the test lets it go.
auto slow(Scene& scene) {
  return [&scene](int number) {
    ++scene.entered;
    await(scene.go);
    ++scene.effects;
    return number * 10;
  };
}

auto fast(Scene& scene) {
  return [&scene](int number) {
    ++scene.effects;
    return number * 10;
  };
}

/// The time, for a clock that is asked under the lock; two who hold it at once would be seen here.
idem::TimePoint time_inside(Scene& scene) {
  if (++scene.inside > 1) scene.most_inside = 2;
  std::this_thread::yield();
  --scene.inside;
  return std::chrono::time_point_cast<std::chrono::microseconds>(std::chrono::system_clock::now());
}

[[gnu::noinline]] int throws() {
  throw std::runtime_error("no");
}

std::uint64_t inode_of(const std::string& path) {
  struct stat status = {};
  return ::stat(path.c_str(), &status) == 0 ? status.st_ino : 0;
}

}  // namespace

TEST_CASE("FLK-01, T-33: what a killed owner was doing is in doubt at once, for everybody, and never simply run again") {
  for (const Durability durability : {Durability::power, Durability::process}) {
    const Directory place;
    const Shared<Scene> scene;
    const FileStoreOptions options{.durability = durability};
    FileStore store(place.path(), options);
    const auto guard = pay(store, fast(*scene), at_once());
    REQUIRE(guard(1) == 10);
    Child owner([&] {
      FileStore own(place.path(), options);
      return pay(own, slow(*scene), Options{})(2);
    });
    await(scene->entered);
    CHECK(guard.try_call(2).verdict() == Verdict::in_progress);
    CHECK(found_by_others(place.path(), 2) == Answer::running);
    owner.kill(SIGKILL);
    CHECK(owner.wait() == -SIGKILL);
    CHECK(guard.try_call(2).verdict() == Verdict::in_doubt);
    CHECK(found_by_others(place.path(), 2) == Answer::in_doubt);
    CHECK(scene->effects == 1);
    // What was finished stays so, and what hadn't begun begins.
    CHECK(guard.try_call(1).verdict() == Verdict::replayed);
    CHECK(guard.try_call(3).verdict() == Verdict::executed);
    CHECK(scene->effects == 2);
    CHECK(store.stats().in_doubt == 1);
    CHECK(FileStore::verify(place.path()).good());
  }
}

TEST_CASE("FLK-01: a killed owner's key changes hands with a higher token, by rerun and by recover_with") {
  const Directory place;
  const Shared<Scene> scene;
  FileStore store(place.path(), quick());
  std::vector<std::uint64_t> tokens;
  std::vector<std::uint32_t> attempts;
  const auto note = [&](int number, idem::Context& run) {
    tokens.push_back(run.fencing_token());
    attempts.push_back(run.attempt());
    return number;
  };
  const auto leave_in_doubt = [&](int number) {
    const int before = scene->entered;
    Child owner([&] {
      FileStore own(place.path(), quick());
      return pay(own, slow(*scene), Options{})(number);
    });
    await(scene->entered, before + 1);
    owner.kill(SIGKILL);
    owner.wait();
    return store.find(key_of_pay(store, number)).record.owner.epoch;
  };

  const std::uint64_t first = leave_in_doubt(1);
  CHECK(pay(store, note, at_once({.on_in_doubt = idem::OnInDoubt::rerun})).try_call(1).verdict() == Verdict::executed);
  REQUIRE(tokens.size() == 1);
  CHECK(tokens[0] > first);
  CHECK(attempts[0] == 2);

  leave_in_doubt(2);
  const auto happened = pay(store, note, at_once(), idem::recover_with([](int) { return std::optional<int>(77); }));
  const auto recovered = happened.try_call(2);
  CHECK(recovered.verdict() == Verdict::recovered);
  CHECK(recovered.value() == 77);
  CHECK(happened.try_call(2).verdict() == Verdict::replayed);
  CHECK(tokens.size() == 1);

  const std::uint64_t third = leave_in_doubt(3);
  const auto didnt = pay(store, note, at_once(), idem::recover_with([](int) { return std::optional<int>(); }));
  CHECK(didnt.try_call(3).verdict() == Verdict::executed);
  REQUIRE(tokens.size() == 2);
  CHECK(tokens[1] > third);

  // A recovery that is killed leaves the doubt as it was, also for the next one.
  leave_in_doubt(4);
  Child recovery([&] {
    FileStore own(place.path(), quick());
    const auto asks = pay(own, slow(*scene), Options{}, idem::recover_with([&](int) -> std::optional<int> {
      ++scene->inside;
      for (;;) ::pause();
    }));
    return asks(4);
  });
  await(scene->inside);
  CHECK(happened.try_call(4).verdict() == Verdict::in_progress);
  recovery.kill(SIGKILL);
  recovery.wait();
  CHECK(happened.try_call(4).verdict() == Verdict::recovered);
  CHECK(scene->effects == 0);
}

TEST_CASE("FLK-02: a stopped owner has its key for as long as it is stopped, and then completes") {
  const Directory place;
  const Shared<Scene> scene;
  FileStore store(place.path(), quick());
  const auto guard = pay(store, fast(*scene), {.on_in_doubt = idem::OnInDoubt::rerun, .wait_timeout = 50ms});
  Child owner([&] {
    FileStore own(place.path(), quick());
    const auto outcome = pay(own, slow(*scene), Options{}).try_call(1);
    scene->verdict = static_cast<int>(outcome.verdict());
    return 0;
  });
  await(scene->entered);
  owner.stop();
  for (int i = 0; i < 10; ++i) {
    REQUIRE(guard.try_call(1).verdict() == Verdict::in_progress);
    REQUIRE(store.purge({.in_doubt_older_than = 1us}).in_doubt == 0);
    REQUIRE_FALSE(guard.forget(1));
    FileStore late(place.path(), quick());
    REQUIRE(late.find(key_of_pay(late, 1)).answer == Answer::running);
  }
  scene->go = 1;
  owner.kill(SIGCONT);
  CHECK(owner.wait() == 0);
  CHECK(scene->verdict == static_cast<int>(Verdict::executed));
  CHECK(guard.try_call(1).verdict() == Verdict::replayed);
  CHECK(scene->effects == 1);
}

TEST_CASE("FLK-02: while somebody is stopped inside the store's lock, others say whom they wait for and then go on") {
  const Directory place;
  const Shared<Scene> scene;
  FileStoreOptions hurried = quick();
  hurried.lock_timeout = 60ms;
  FileStore store(place.path(), hurried);
  const auto guard = pay(store, fast(*scene), at_once());
  REQUIRE(guard(1) == 10);
  Child owner([&] {
    FileStore own(place.path(), quick(TrapClock{&scene->armed, [] { ::raise(SIGSTOP); }}));
    if (own.open().answer != Answer::ok) return 1;
    scene->armed = 1;
    return pay(own, fast(*scene), Options{})(2) == 20 ? 0 : 1;
  });
  int status = 0;
  REQUIRE(::waitpid(owner.pid(), &status, WUNTRACED) == owner.pid());
  REQUIRE(WIFSTOPPED(status));

  const auto unavailable = guard.try_call(2);
  CHECK(unavailable.verdict() == Verdict::unavailable);
  CHECK(unavailable.error().effect == idem::Effect::not_run);
  CHECK(unavailable.error().message.find("lock_timeout") != std::string::npos);
  CHECK(unavailable.error().message.find("process " + std::to_string(owner.pid())) != std::string::npos);
  // What needs no lock is answered all the same.
  CHECK(guard.try_call(1).verdict() == Verdict::replayed);
  // Many threads of one process wait for it in turn, but none of them for ever.
  std::atomic<int> refused{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] { refused += guard.try_call(10 + i).verdict() == Verdict::unavailable ? 1 : 0; });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(refused == 4);
  CHECK(scene->effects == 1);

  owner.kill(SIGCONT);
  CHECK(owner.wait() == 0);
  CHECK(guard.try_call(2).verdict() == Verdict::replayed);
  CHECK(guard.try_call(10).verdict() == Verdict::executed);
  CHECK(scene->effects == 3);
}

TEST_CASE("FLK-01: who is killed inside the store's lock gives it up, and has claimed nothing") {
  const Directory place;
  const Shared<Scene> scene;
  FileStore store(place.path(), quick());
  const auto guard = pay(store, fast(*scene), at_once());
  REQUIRE(guard(1) == 10);
  Child owner([&] {
    FileStore own(place.path(), quick(TrapClock{&scene->armed, [] { ::raise(SIGKILL); }}));
    if (own.open().answer != Answer::ok) return 1;
    scene->armed = 1;
    return pay(own, fast(*scene), Options{})(2);
  });
  CHECK(owner.wait() == -SIGKILL);
  CHECK(guard.try_call(2).verdict() == Verdict::executed);
  CHECK(scene->effects == 2);
}

TEST_CASE("FLK-09: several stores on one directory in one process, each with many threads, run each call once") {
  const Directory place;
  constexpr int keys = 60;
  std::vector<std::unique_ptr<FileStore>> stores;
  for (int i = 0; i < 3; ++i) stores.push_back(std::make_unique<FileStore>(place.path(), quick()));
  std::vector<std::atomic<int>> effects(keys);
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 9; ++i) {
    threads.emplace_back([&, i] {
      const auto guard = pay(*stores[static_cast<std::size_t>(i % 3)],
                             [&](int number) { return ++effects[static_cast<std::size_t>(number)] + number; }, Options{});
      for (int number = 0; number < keys; ++number) {
        const auto outcome = guard.try_call((number + i * 7) % keys);
        if (!outcome.has_value() || outcome.value() != (number + i * 7) % keys + 1) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
  for (const auto& count : effects) CHECK(count == 1);
  CHECK(stores[0]->stats().processes == 3);  // one for each object
}

TEST_CASE("FLK-14: a call that waits for itself is told so, by whichever store object; another thread's is told to wait") {
  const Directory place;
  FileStore store(place.path(), quick());
  FileStore second(place.path(), quick());
  Verdict same_thread{}, other_object{}, other_thread{};
  const auto inner = pay(second, [](int number) { return number; }, {.wait_timeout = 20s});
  const auto outer = pay(
      store,
      [&](int number) {
        const auto again = pay(store, [](int n) { return n; }, {.wait_timeout = 20s});
        same_thread = again.try_call(number).verdict();
        other_object = inner.try_call(number).verdict();
        std::thread([&] { other_thread = pay(second, [](int n) { return n; }, at_once()).try_call(number).verdict(); })
            .join();
        return number;
      },
      Options{});
  CHECK(outer.try_call(5).verdict() == Verdict::executed);
  CHECK(same_thread == Verdict::reentrant);
  CHECK(other_object == Verdict::reentrant);
  CHECK(other_thread == Verdict::in_progress);
}

TEST_CASE("FLK-10: however a directory is reached, it is the same store") {
  const Directory place;
  const Shared<Scene> scene;
  // The working directory belongs to all threads, so that a process of its own walks about.
  Child walker([&] {
    const std::string base = place.path();
    if (::mkdir((base + "/a").c_str(), 0700) != 0 || ::mkdir((base + "/b").c_str(), 0700) != 0) return 1;
    if (::symlink("a/store", (base + "/link").c_str()) != 0 || ::chdir((base + "/a").c_str()) != 0) return 2;
    FileStore relative("store", quick());
    FileStore unused("store", quick());
    const auto first = pay(relative, fast(*scene), at_once());
    if (first(1) != 10) return 3;
    if (::chdir((base + "/b").c_str()) != 0) return 4;
    // Neither a store that is opened only now nor a child that opens it once more looks elsewhere.
    if (pay(unused, fast(*scene), at_once()).try_call(1).verdict() != Verdict::replayed) return 5;
    Child daemon([&] {
      if (::chdir("/") != 0) return 1;
      return first.try_call(1).verdict() == Verdict::replayed && first.try_call(2).verdict() == Verdict::executed ? 0 : 2;
    });
    if (daemon.wait() != 0) return 6;
    for (const std::string& way : {base + "/link", std::string("../a/store"), base + "/b/../a//store/"}) {
      FileStore other(way, quick());
      if (pay(other, fast(*scene), at_once()).try_call(2).verdict() != Verdict::replayed) return 7;
    }
    // Its name may even be taken away.
    if (::rename((base + "/a").c_str(), (base + "/c").c_str()) != 0) return 8;
    if (first.try_call(3).verdict() != Verdict::executed) return 9;
    FileStore moved(base + "/c/store", quick());
    return pay(moved, fast(*scene), at_once()).try_call(3).verdict() == Verdict::replayed ? 0 : 10;
  });
  CHECK(walker.wait() == 0);
  CHECK(scene->effects == 3);
  struct stat status = {};
  CHECK(::stat((place / "b/store").c_str(), &status) != 0);
}

TEST_CASE("T-78: a process with the number and the host name of a dead one isn't taken for it") {
  const Directory place;
  const Shared<Scene> scene;
  // In a pid namespace of its own each child is number 1, as in a container.
  const auto as_number_one = [&](auto run) {
    return [&, run] {
      if (::unshare(CLONE_NEWPID) != 0) return 200;
      Child one([&] { return ::getpid() == 1 ? run() : 201; });
      const int result = one.wait();
      return result < 0 ? 100 - result : result;
    };
  };
  Child first(as_number_one([&] {
    FileStore store(place.path(), quick());
    return pay(store, [](int) -> int { ::_exit(7); }, Options{})(1);
  }));
  const int ended = first.wait();
  if (ended == 200) {
    MESSAGE("needs the right to make pid namespaces");
    return;
  }
  CHECK(ended == 7);
  Child second(as_number_one([&] {
    FileStore store(place.path(), quick());
    if (pay(store, fast(*scene), at_once()).try_call(1).verdict() != Verdict::in_doubt) return 1;
    return pay(store, slow(*scene), Options{})(2) == 20 ? 0 : 2;
  }));
  await(scene->entered);
  // Another number 1 lives at the same time.
  Child third(as_number_one([&] {
    FileStore store(place.path(), quick());
    return pay(store, fast(*scene), at_once()).try_call(2).verdict() == Verdict::in_progress ? 0 : 1;
  }));
  CHECK(third.wait() == 0);
  scene->go = 1;
  CHECK(second.wait() == 0);
  CHECK(scene->effects == 1);
}

TEST_CASE("T-82, T-18: while owners come and go, and the files of the dead are swept, no living one is taken for dead") {
  const Directory place;
  constexpr int processes = 4;
  struct Board {
    std::atomic<int> holds[processes];
    std::atomic<int> begun;
    std::atomic<int> seen_running;
    std::atomic<int> wrong;
  };
  const Shared<Board> board;
  REQUIRE(FileStore(place.path(), quick()).open().answer == Answer::ok);
  const std::uint64_t lock = inode_of(place / "lock");
  REQUIRE(lock != 0);
  std::vector<std::unique_ptr<Child>> children;
  for (int me = 0; me < processes; ++me) {
    children.push_back(std::make_unique<Child>([&, me] {
      ++board->begun;
      await(board->begun, processes);
      for (int round = 1; round <= 40; ++round) {
        // Each object is an owner of its own, and each opening sweeps.
        FileStore store(place.path(), quick());
        const auto guard = pay(
            store,
            [&](int number) {
              board->holds[me] = round;
              for (int look = 0; look < 4 * processes; ++look) {
                ::sched_yield();
                const int other = look % processes;
                const int held = board->holds[other];
                if (other == me || held == 0) continue;
                const Answer answer = store.find(key_of_pay(store, other * 1000 + held)).answer;
                // Only while it still holds it says the answer something.
                if (board->holds[other] != held) continue;
                if (answer == Answer::running) ++board->seen_running;
                if (answer == Answer::in_doubt || answer == Answer::absent) ++board->wrong;
              }
              board->holds[me] = 0;
              return number;
            },
            Options{});
        if (guard.try_call(me * 1000 + round).verdict() != Verdict::executed) ++board->wrong;
      }
      return 0;
    }));
  }
  // And some die, so that there is something to sweep.
  for (int i = 0; i < 10; ++i) {
    Child dies([&] {
      FileStore store(place.path(), quick());
      return pay(store, [](int) -> int { ::_exit(1); }, Options{})(100000 + i);
    });
    CHECK(dies.wait() == 1);
  }
  for (auto& child : children) CHECK(child->wait() == 0);
  CHECK(board->wrong == 0);
  CHECK(board->seen_running > 0);
  CHECK(inode_of(place / "lock") == lock);
  // The last one sweeps what the others left.
  FileStore last(place.path(), quick());
  CHECK(last.stats().processes == 1);
  CHECK(files(place.path(), "owner.") == 1);
  CHECK(last.stats().in_doubt == 10);
}

TEST_CASE("T-18: where somebody takes the lock's file away, all find the same new one") {
  const Directory place;
  const Shared<Scene> scene;
  const auto watching = [&] { return time_inside(*scene); };
  FileStore before(place.path(), quick(idem::Clock(watching)));
  REQUIRE(before.open().answer == Answer::ok);
  for (int way = 0; way < 2; ++way) {
    if (way == 0) {
      REQUIRE(::unlink((place / "lock").c_str()) == 0);
    } else {
      REQUIRE(::rename((place / "lock").c_str(), (place / "lock.bak").c_str()) == 0);
    }
    FileStore after(place.path(), quick(idem::Clock(watching)));
    REQUIRE(after.open().answer == Answer::ok);
    REQUIRE(before.open().answer == Answer::ok);
    std::atomic<int> acquired{0};
    const auto claim_all = [&](FileStore& store) {
      for (int i = 0; i < 300; ++i) {
        acquired += idem::claim(store, idem::make_key("k", way, i), {.wait_timeout = 0s}).acquired() ? 1 : 0;
      }
    };
    std::thread one([&] { claim_all(before); });
    claim_all(after);
    one.join();
    CHECK(acquired == 300);
    CHECK(scene->most_inside == 0);
  }
}

namespace {

/// Two processes that lock a store's directory again and again, while a third one, which holds the lock each time, takes
/// the lock's file away.
void take_the_lock_away(int rounds) {
  const support::Directory place;  // on a disk: where a directory's times tell of a change, a look at them has to do
  const Shared<Scene> scene;
  std::vector<std::unique_ptr<Child>> children;
  for (int worker = 0; worker < 2; ++worker) {
    children.push_back(std::make_unique<Child>([&] {
      FileStore store(place.path(), quick(idem::Clock([&] { return time_inside(*scene); })));
      while (scene->go == 0) {
        const Reply reply = store.find(idem::make_key("nobody's"));
        // Replaced again and again, which says so, or looked at.
        if (reply.answer == Answer::absent) ++scene->entered;
        if (reply.answer != Answer::absent && reply.answer != Answer::unavailable) return 1;
      }
      return 0;
    }));
  }
  const std::string path = place / "lock";
  for (int round = 0; round < rounds; ++round) {
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    REQUIRE(fd >= 0);
    REQUIRE(::flock(fd, LOCK_EX) == 0);
    struct stat opened = {}, named = {};
    REQUIRE(::fstat(fd, &opened) == 0);
    if (::stat(path.c_str(), &named) == 0 && named.st_ino == opened.st_ino) {
      time_inside(*scene);
      REQUIRE(::unlink(path.c_str()) == 0);
    }
    ::close(fd);
  }
  const int before = scene->entered;
  CHECK(eventually([&] { return scene->entered > before + 100; }));  // both go on
  scene->go = 1;
  for (const auto& child : children) CHECK(child->wait() == 0);
  CHECK(scene->most_inside == 0);
}

}  // namespace

TEST_CASE("FLK-06: while the lock's file is taken away again and again, never two hold the lock") {
  take_the_lock_away(3000);
}

TEST_CASE("FLK-06: never in 100,000 rounds, either" * doctest::skip()) {
  take_the_lock_away(100'000);
}

// What ends the process in the middle of the function. The store is static where ending a process destroys statics.

TEST_CASE("CXX-02, CXX-03, CXX-04: however a process ends in the middle of the function, the call is in doubt next time") {
  struct Ending {
    std::string name;
    int (*end)(int);
    int result;  // of the process
  };
  const Ending endings[] = {
      {"exit", [](int) -> int { std::exit(3); }, 3},
      {"quick_exit", [](int) -> int { std::quick_exit(3); }, 3},
      {"_exit", [](int) -> int { ::_exit(3); }, 3},
      {"abort", [](int) -> int { std::abort(); }, -SIGABRT},
      {"terminate", [](int) -> int { std::terminate(); }, -SIGABRT},
      {"SIGTERM", [](int) -> int { return ::raise(SIGTERM); }, -SIGTERM},
      {"throw in a noexcept function", [](int) noexcept -> int { return throws(); }, -SIGABRT},
      {"an exception that a thread doesn't catch",
       [](int) -> int {
         std::thread([] { throw std::runtime_error("no"); }).join();
         return 0;
       },
       -SIGABRT},
  };
  for (const Ending& ending : endings) {
    INFO(ending.name);
    const Directory place;
    const Shared<Scene> scene;
    std::fflush(stdout);  // or the child would print what its parent has yet to print
    Child owner([&] {
      static std::optional<FileStore> store(std::in_place, place.path(), quick());
      std::set_terminate([] { std::abort(); });
      ::signal(SIGABRT, SIG_DFL);
      ::signal(SIGTERM, SIG_DFL);
      return pay(*store,
                 [&](int number) {
                   ++scene->effects;
                   return ending.end(number);
                 },
                 Options{})(1);
    });
    const int result = owner.wait();
    if (!IDEM_TEST_SANITIZED) CHECK(result == ending.result);
    CHECK(scene->effects == 1);
    CHECK(found_by_others(place.path(), 1) == Answer::in_doubt);
    FileStore store(place.path(), quick());
    CHECK(pay(store, fast(*scene), at_once()).try_call(1).verdict() == Verdict::in_doubt);
    CHECK(scene->effects == 1);
  }
}

TEST_CASE("CXX-02: a failure that nobody catches is recorded before it ends the program") {
  for (const idem::OnFailure on_failure : {idem::OnFailure::in_doubt, idem::OnFailure::lock}) {
    const Directory place;
    const Shared<Scene> scene;
    Child owner([&]() noexcept {
      ::signal(SIGABRT, SIG_DFL);
      std::set_terminate([] { std::abort(); });
      FileStore store(place.path(), quick());
      return pay(store, [](int) { return throws(); }, {.on_failure = on_failure})(1);
    });
    CHECK(owner.wait() == -SIGABRT);
    CHECK(found_by_others(place.path(), 1) ==
          (on_failure == idem::OnFailure::lock ? Answer::failed : Answer::in_doubt));
  }
}

#if !IDEM_TEST_SANITIZED
TEST_CASE("CXX-04: a call that longjmp leaves is running as long as its process lives, and in doubt afterwards") {
  const Directory place;
  const Shared<Scene> scene;
  Child owner([&] {
    static std::jmp_buf back;
    FileStore store(place.path(), quick());
    const auto guard = pay(store, [](int) -> int { std::longjmp(back, 1); }, Options{});
    if (setjmp(back) == 0) return guard(1);
    ++scene->entered;
    await(scene->go);
    ::_exit(0);
  });
  await(scene->entered);
  CHECK(found_by_others(place.path(), 1) == Answer::running);
  scene->go = 1;
  CHECK(owner.wait() == 0);
  CHECK(found_by_others(place.path(), 1) == Answer::in_doubt);
}
#endif

#endif
