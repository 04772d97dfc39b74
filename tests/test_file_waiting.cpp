// Waiting for a run of another process, and answering a finished call without asking the system.
#include <doctest/doctest.h>

#if defined(__linux__)

#include "support/other_processes.hpp"

#include <idem/testing/manual_clock.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/syscall.h>

using namespace other_processes;

namespace {

struct Scene {
  Flag entered{0};
  Flag waiting{0};
  Flag go{0};
  Flag effects{0};
  Flag woken{0};
  Flag step{0};
  Flag done{0};
};

/// Counts those who have begun to wait.
auto counts_waiting(Scene& scene) {
  return idem::observe([&scene](const idem::Event& event) {
    if (event.kind == idem::EventKind::waiting) ++scene.waiting;
  });
}

constexpr auto never = [](int) -> int { throw std::logic_error("must not run"); };

std::int64_t cpu_micros() {
  rusage usage = {};
  ::getrusage(RUSAGE_SELF, &usage);
  return (std::int64_t{usage.ru_utime.tv_sec} + usage.ru_stime.tv_sec) * 1'000'000 + usage.ru_utime.tv_usec +
         usage.ru_stime.tv_usec;
}

/// Waits that nothing but a change of the record ends.
constexpr idem::TimePoint for_ever = (idem::TimePoint::max)();

}  // namespace

TEST_CASE("waiters of other processes get the outcome of the run that they waited for") {
  const Directory place;
  const Shared<Scene> scene;
  Child owner([&] {
    FileStore store(place.path(), FileStoreOptions{});
    return pay(store,
               [&](int number) {
                 ++scene->effects;
                 ++scene->entered;
                 await(scene->go);
                 return number * 10;
               },
               Options{})(1) == 10
               ? 0
               : 1;
  });
  await(scene->entered);
  std::vector<std::unique_ptr<Child>> waiters;
  for (int i = 0; i < 4; ++i) {
    waiters.push_back(std::make_unique<Child>([&] {
      FileStore store(place.path(), FileStoreOptions{});
      const auto guard = pay(store, never, {.on_duplicate = idem::OnDuplicate::wait}, counts_waiting(*scene));
      const auto outcome = guard.try_call(1);
      return outcome.verdict() == Verdict::replayed && outcome.value() == 10 ? 0 : 1;
    }));
  }
  await(scene->waiting, 4);
  scene->go = 1;
  for (auto& waiter : waiters) CHECK(waiter->wait() == 0);
  CHECK(owner.wait() == 0);
  CHECK(scene->effects == 1);
}

TEST_CASE("a wait ends with completion, failure, release, abandonment, resolution and the owner's death, and not before") {
  enum class End { complete, fail, release, abandon, killed };
  for (const End end : {End::complete, End::fail, End::release, End::abandon, End::killed}) {
    INFO(static_cast<int>(end));
    const Directory place;
    const Shared<Scene> scene;
    const idem::Key key = idem::make_key("k");
    Child owner([&] {
      FileStore store(place.path(), quick());
      std::optional<idem::Claim> claim(idem::claim(store, key));
      ++scene->entered;
      await(scene->go);
      switch (end) {
        case End::complete:
          claim->complete(1);
          break;
        case End::fail:
          claim->fail(std::runtime_error("no"));
          break;
        case End::release:
          claim->release();
          break;
        case End::abandon:
          claim.reset();
          break;
        case End::killed:
          ::raise(SIGKILL);
      }
      // What ends the wait is what was said, not the end of the process.
      await(scene->done);
      return 0;
    });
    await(scene->entered);
    Child waiter([&] {
      FileStore store(place.path(), quick());
      const Reply found = store.find(key);
      ++scene->waiting;
      store.wait(key, found.record.owner.epoch, for_ever);
      ++scene->woken;
      return static_cast<int>(store.find(key).answer);
    });
    await(scene->waiting);
    ::usleep(20000);
    CHECK(scene->woken == 0);
    scene->go = 1;
    const int answer = waiter.wait();
    constexpr Answer expected[] = {Answer::completed, Answer::failed, Answer::absent, Answer::in_doubt,
                                   Answer::in_doubt};
    CHECK(answer == static_cast<int>(expected[static_cast<int>(end)]));
    scene->done = 1;
    CHECK(owner.wait() == (end == End::killed ? -SIGKILL : 0));
  }
}

TEST_CASE("a wait for an epoch that has passed, or for a key that nobody runs, doesn't begin") {
  const Directory place;
  FileStore store(place.path(), quick());
  const idem::Key key = idem::make_key("k");
  store.wait(key, 1, for_ever);
  idem::Claim claim = idem::claim(store, key);
  const std::uint64_t epoch = store.find(key).record.owner.epoch;
  store.wait(key, epoch + 1, for_ever);
  store.wait(key, epoch, store.now());
  REQUIRE(claim.complete() == Verdict::executed);
  store.wait(key, epoch, for_ever);
  REQUIRE(store.erase(key).answer == Answer::ok);
  store.wait(key, epoch, for_ever);
}

TEST_CASE("a wait ends also where whoever should have rung died between writing the outcome and waking") {
  const Directory place;
  const Shared<Scene> scene;
  const idem::Key key = idem::make_key("k");
  FileStore store(place.path(), quick());
  std::optional<idem::Claim> claim(idem::claim(store, key));
  const std::uint64_t epoch = store.find(key).record.owner.epoch;
  for (const bool published : {true, false}) {
    scene->waiting = 0;
    if (!published) {
      claim.reset();
      REQUIRE(store.erase(key).answer == Answer::ok);
      claim.emplace(idem::claim(store, key));
    }
    const std::uint64_t now = published ? epoch : store.find(key).record.owner.epoch;
    Child waiter([&] {
      FileStore own(place.path(), quick());
      own.find(key);
      ++scene->waiting;
      own.wait(key, now, for_ever);
      return static_cast<int>(own.find(key).answer);
    });
    await(scene->waiting);
    Child waker([&] {
      namespace file = idem::detail::file;
      file::FileSettings settings;
      settings.path = place.path();
      settings.power = false;
      file::FileCore core(settings);
      if (core.enter()) return 1;
      const std::uint64_t before = core.state.last_sequence;
      file::Found found;
      const char* why = nullptr;
      if (core.look(key.digest(), found, why) != file::Look::found) return 2;
      found.stored.record.state = idem::State::completed;
      found.stored.record.finished_at = found.stored.record.started_at;
      if (core.append_record(found.stored, found.owner, core.record_time(), false)) return 3;
      // As if it had died even before it said how far the journal goes: others find that out by themselves.
      if (!published) core.page.publish(before);
      ::raise(SIGKILL);
      return 4;
    });
    CHECK(waker.wait() == -SIGKILL);
    if (!published) CHECK(store.open().answer == Answer::ok);
    CHECK(waiter.wait() == static_cast<int>(Answer::completed));
  }
}

TEST_CASE("two hundred waiters in one process all wake up, and cost next to nothing while they wait") {
  const Directory place;
  const Shared<Scene> scene;
  FileStore store(place.path(), quick());
  Child owner([&] {
    FileStore own(place.path(), quick());
    return pay(own,
               [&](int number) {
                 ++scene->entered;
                 await(scene->go);
                 return number;
               },
               Options{})(1);
  });
  await(scene->entered);
  constexpr int many = 200;
  std::atomic<int> replayed{0};
  const auto guard = pay(store, never, {.on_duplicate = idem::OnDuplicate::wait}, counts_waiting(*scene));
  std::vector<std::thread> threads;
  for (int i = 0; i < many; ++i) {
    threads.emplace_back([&] { replayed += guard.try_call(1).verdict() == Verdict::replayed ? 1 : 0; });
  }
  await(scene->waiting, many);
  ::usleep(50000);
  const std::int64_t before = cpu_micros();
  ::usleep(300000);
  const std::int64_t used = cpu_micros() - before;
  CHECK(used < (IDEM_TEST_SANITIZED ? 900000 : 100000));
  CHECK(replayed == 0);
  scene->go = 1;
  for (std::thread& thread : threads) thread.join();
  CHECK(replayed == many);
  CHECK(owner.wait() == 1);
}

TEST_CASE("where the one waiter that looks after the owners leaves, another one does it") {
  const Directory place;
  const Shared<Scene> scene;
  FileStore store(place.path(), quick());
  Child owner([&] {
    FileStore own(place.path(), quick());
    idem::Claim first = idem::claim(own, idem::make_key("k", 1));
    idem::Claim second = idem::claim(own, idem::make_key("k", 2));
    ++scene->entered;
    await(scene->go);
    return 0;
  });
  await(scene->entered);
  const std::uint64_t first = store.find(idem::make_key("k", 1)).record.owner.epoch;
  const std::uint64_t second = store.find(idem::make_key("k", 2)).record.owner.epoch;
  std::vector<std::thread> threads;
  std::atomic<int> woken{0};
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] { store.wait(idem::make_key("k", 1), first, store.now() + 30ms); });
    threads.emplace_back([&] {
      store.wait(idem::make_key("k", 2), second, for_ever);
      ++woken;
    });
  }
  for (std::size_t i = 0; i < threads.size(); i += 2) threads[i].join();
  CHECK(woken == 0);
  owner.kill(SIGKILL);
  owner.wait();
  for (std::size_t i = 1; i < threads.size(); i += 2) threads[i].join();
  CHECK(woken == 3);
}

TEST_CASE("waiting ends at its deadline, by the store's own clock") {
  const Directory place;
  const Shared<Scene> scene;
  Child owner([&] {
    FileStore own(place.path(), quick());
    idem::Claim claim = idem::claim(own, key_of_pay(own, 1));
    ++scene->entered;
    await(scene->go);
    return 0;
  });
  await(scene->entered);
  FileStore store(place.path(), quick());
  const auto outcome = pay(store, never, {.wait_timeout = 30ms}).try_call(1);
  CHECK(outcome.verdict() == Verdict::in_progress);
  CHECK(outcome.waited() >= 30ms);
  // A clock that stands still never gets there, however much time passes; and it arrives as soon as it's moved.
  const idem::testing::ManualClock clock;
  FileStore timeless(place.path(), quick(clock));
  const auto guard = pay(timeless, never, {.wait_timeout = 1h}, counts_waiting(*scene));
  std::atomic<bool> over{false};
  std::thread waiter([&] {
    CHECK(guard.try_call(1).verdict() == Verdict::in_progress);
    over = true;
  });
  await(scene->waiting);
  ::usleep(30000);
  CHECK_FALSE(over);
  idem::testing::ManualClock(clock).advance(1h);
  waiter.join();
  scene->go = 1;
  CHECK(owner.wait() == 0);
}

TEST_CASE("CXX-05: a thread that is cancelled while it waits goes, and nothing is held or changed by it") {
  const Directory place;
  const Shared<Scene> scene;
  FileStore store(place.path(), quick());
  Child owner([&] {
    FileStore own(place.path(), quick());
    return pay(own,
               [&](int number) {
                 ++scene->entered;
                 await(scene->go);
                 return number;
               },
               Options{})(1);
  });
  await(scene->entered);
  const auto guard = pay(store, never, {.on_duplicate = idem::OnDuplicate::wait}, counts_waiting(*scene));
  using Waits = decltype(guard);
  std::array<pthread_t, 8> threads{};
  for (pthread_t& thread : threads) {
    const auto run = [](void* argument) -> void* {
      static_cast<Waits*>(argument)->try_call(1);
      return nullptr;
    };
    REQUIRE(::pthread_create(&thread, nullptr, run, const_cast<void*>(static_cast<const void*>(&guard))) == 0);
  }
  await(scene->waiting, static_cast<int>(threads.size()));
  for (const pthread_t thread : threads) {
    void* result = nullptr;
    CHECK(::pthread_cancel(thread) == 0);
    CHECK(::pthread_join(thread, &result) == 0);
    CHECK(result == PTHREAD_CANCELED);
  }
  CHECK(pay(store, [](int number) { return number; }, Options{})(2) == 2);
  scene->go = 1;
  CHECK(guard(1) == 1);
  CHECK(owner.wait() == 1);
}

#if defined(__x86_64__) && !IDEM_TEST_SANITIZED

namespace {

/// From now on any system call but write and exit_group ends this process by SIGSYS. Proves more than counting.
bool allow_nothing() {
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 1, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
  };
  sock_fprog program = {static_cast<unsigned short>(sizeof code / sizeof code[0]), code};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

}  // namespace

TEST_CASE("a duplicate of a finished call makes no system call, and yet sees at once what other processes do to it") {
  for (const Durability durability : {Durability::power, Durability::process}) {
    const Directory place;
    const Shared<Scene> scene;
    const FileStoreOptions options{.durability = durability};
    Child duplicate([&] {
      FileStore store(place.path(), options);
      const auto text = idem::idempotent<"text">([](int number) { return std::to_string(number); }, store);
      const auto guard = pay(store, [](int number) { return number; }, at_once());
      const auto fails = idem::idempotent<"fails">([](int) -> int { throw std::runtime_error("no"); },
                                                   Options{.on_failure = idem::OnFailure::lock}, store);
      for (int round = 0; round < 3; ++round) {
        for (int number = 0; number < 10; ++number) {
          text.try_call(number), guard.try_call(number), fails.try_call(number);
        }
      }
      if (!allow_nothing()) return 1;
      for (int i = 0; i < 1000; ++i) {
        if (guard(i % 10) != i % 10) return 2;
        if (text(i % 10) != std::to_string(i % 10)) return 3;
        if (guard.try_call(i % 10).verdict() != Verdict::replayed) return 4;
        if (guard.find(i % 10)->verdict() != Verdict::replayed) return 5;
        if (fails.try_call(i % 10).verdict() != Verdict::failure_replayed) return 6;
      }
      ++scene->step;
      // Another process forgets a call. The next duplicate needs the store's lock, so that the filter kills this one.
      while (scene->go == 0) {
      }
      guard.try_call(1);
      return 7;
    });
    const auto ended = [&] {
      siginfo_t info = {};
      return ::waitid(P_PID, static_cast<id_t>(duplicate.pid()), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
             info.si_pid != 0;
    };
    CHECK(eventually([&] { return scene->step == 1 || ended(); }));
    CHECK(scene->step == 1);  // else a system call ended it
    FileStore store(place.path(), options);
    CHECK(pay(store, never, at_once()).forget(1));
    scene->go = 1;
    CHECK(duplicate.wait() == -SIGSYS);
  }
}
#endif

TEST_CASE("a duplicate sees at once what another process forgot, erased, ran again or resolved") {
  const Directory place;
  const Shared<Scene> scene;
  Child other([&] {
    FileStore store(place.path(), quick());
    const auto guard = pay(store, [](int number) { return number + 100; }, at_once());
    const auto done = [&] { scene->done = scene->step.load(); };
    await(scene->step, 1);
    if (!guard.forget(1)) return 1;
    done();
    await(scene->step, 2);
    if (guard.try_call(1).verdict() != Verdict::executed) return 2;
    done();
    await(scene->step, 3);
    if (store.clear() != 2) return 3;
    done();
    await(scene->step, 4);
    { const idem::Claim doubt = idem::claim(store, guard.key(3)); }
    done();
    await(scene->step, 5);
    if (idem::resolve(store, guard.key(3), 1h, "looked", 333) != Answer::ok) return 5;
    done();
    await(scene->step, 6);
    if (store.compact().answer != Answer::ok) return 6;
    done();
    await(scene->step, 7);
    if (!guard.forget(3)) return 7;
    done();
    return 0;
  });
  FileStore store(place.path(), quick());
  const auto guard = pay(store, [&](int number) { return ++scene->effects, number; }, at_once());
  const auto let = [&](int step) {
    scene->step = step;
    await(scene->done, step);
  };
  REQUIRE(guard(1) == 1);
  REQUIRE(guard(2) == 2);
  REQUIRE(guard.try_call(1).verdict() == Verdict::replayed);
  let(1);
  CHECK_FALSE(guard.find(1).has_value());
  CHECK(guard.try_call(2).verdict() == Verdict::replayed);
  let(2);
  CHECK(guard(1) == 101);
  let(3);
  CHECK_FALSE(guard.find(1).has_value());
  CHECK_FALSE(guard.find(2).has_value());
  CHECK(guard.try_call(2).verdict() == Verdict::executed);
  let(4);
  CHECK(guard.try_call(3).verdict() == Verdict::in_doubt);
  let(5);
  CHECK(guard(3) == 333);
  let(6);
  CHECK(guard(3) == 333);
  CHECK(guard.try_call(2).verdict() == Verdict::replayed);
  let(7);
  CHECK(guard.try_call(3).verdict() == Verdict::executed);
  CHECK(other.wait() == 0);
  CHECK(scene->effects == 4);
}

#endif
