// CXX-11: a program and two shared objects, each with an idem of its own, exclude each other on one directory. What
// excludes them is the store, not a variable of one of them. The second one is of the next version: it writes what the
// others read until it's told to upgrade, and then they are refused.
//
//   shared_objects FIRST.so SECOND.so
#include "support/directory.hpp"

#include <idem/file_store.hpp>
#include <idem/idem.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

using idem::Verdict;
using Function = int (*)(int);

[[noreturn]] void fail(const char* what, int line) {
  std::fprintf(stderr, "line %d: %s\n", line, what);
  std::exit(1);
}
#define EXPECT(condition) \
  if (!(condition)) fail(#condition, __LINE__)

/// One of the three.
struct User {
  void* library = nullptr;
  void* store = nullptr;
  void (*close)(void*) = nullptr;
  int (*upgrade)(void*) = nullptr;
  std::function<Verdict(int, Function, int*)> call;
};

User load(const char* name, const std::string& path) {
  User user;
  user.library = ::dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (user.library == nullptr) fail(::dlerror(), __LINE__);
  const auto open = reinterpret_cast<void* (*)(const char*)>(::dlsym(user.library, "idem_open"));
  const auto call = reinterpret_cast<int (*)(void*, int, Function, int*)>(::dlsym(user.library, "idem_call"));
  user.close = reinterpret_cast<void (*)(void*)>(::dlsym(user.library, "idem_close"));
  user.upgrade = reinterpret_cast<int (*)(void*)>(::dlsym(user.library, "idem_upgrade"));
  EXPECT(open != nullptr && call != nullptr && user.close != nullptr && user.upgrade != nullptr);
  user.store = open(path.c_str());
  user.call = [call, store = user.store](int key, Function function, int* result) {
    return static_cast<Verdict>(call(store, key, function, result));
  };
  return user;
}

constexpr int keys = 200;
std::array<std::atomic<int>, keys> effects;

int count_effect(int key) {
  ++effects[static_cast<std::size_t>(key)];
  return key * 10;
}

int count_once(int key) { return key; }

// What a running function of one of them sees through the others.
std::vector<User>* all = nullptr;
std::size_t inner = 0;
int look_around(int key) {
  int result = 0;
  for (std::size_t other = 0; other < all->size(); ++other) {
    // Each has its own idea of this thread's stack: its own call it knows, those of the others are just running.
    const Verdict verdict = (*all)[other].call(key, count_effect, &result);
    EXPECT(verdict == (other == inner ? Verdict::reentrant : Verdict::in_progress));
  }
  const pid_t child = ::fork();
  EXPECT(child >= 0);
  if (child == 0) {
    // Every one of them dropped what it had open.
    for (User& user : *all) {
      if (user.call(key, count_effect, &result) == Verdict::executed) ::_exit(1);
      if (user.call(keys - 1, count_effect, &result) != Verdict::replayed) ::_exit(2);
    }
    ::_exit(0);
  }
  int status = 0;
  EXPECT(::waitpid(child, &status, 0) == child && status == 0);
  return key;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 3) return 2;
  const support::Directory place;
  const std::string path = place / "store";
  idem::FileStore store(path, {.durability = idem::Durability::process});
  {
    std::vector<User> users;
    users.push_back(load(arguments[1], path));
    users.push_back(load(arguments[2], path));
    User mine;
    mine.call = [&](int key, Function function, int* result) {
      const auto guard =
          idem::idempotent<"shared">([function](int argument) { return function(argument); },
                                     {.wait_timeout = std::chrono::seconds(0)}, store);
      const auto outcome = guard.try_call(key);
      if (outcome.has_value()) *result = outcome.value();
      return outcome.verdict();
    };
    users.push_back(mine);

    std::vector<std::thread> threads;
    std::atomic<int> wrong{0};
    for (std::size_t i = 0; i < 6; ++i) {
      threads.emplace_back([&, i] {
        for (int key = 1; key < keys; ++key) {
          int result = key * 10;
          const Verdict verdict = users[i % users.size()].call(key, count_effect, &result);
          if (verdict != Verdict::executed && verdict != Verdict::replayed && verdict != Verdict::in_progress) ++wrong;
          if (result != key * 10) ++wrong;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT(wrong == 0);
    for (std::size_t key = 1; key < keys; ++key) EXPECT(effects[key] == 1);
    EXPECT(store.stats().processes == 3);

    all = &users;
    for (inner = 0; inner < users.size(); ++inner) {
      int result = 0;
      EXPECT(users[inner].call(1000 + static_cast<int>(inner), look_around, &result) == Verdict::executed);
    }

    // One that is unloaded takes its handlers along.
    users[0].close(users[0].store);
    users[0].call = {};
    EXPECT(::dlclose(users[0].library) == 0);
    for (int i = 0; i < 3; ++i) {
      const pid_t child = ::fork();
      if (child == 0) {
        int result = 0;
        ::_exit(users[1].call(5, count_effect, &result) == Verdict::replayed && result == 50 ? 0 : 1);
      }
      int status = 0;
      EXPECT(::waitpid(child, &status, 0) == child && status == 0);
    }
    int result = 0;
    EXPECT(users[1].call(6, count_effect, &result) == Verdict::replayed && result == 60);
    EXPECT(store.stats().processes == 2);

    // It knows a newer format and has kept to this one's; even what is written anew is.
    EXPECT(store.upgrade().answer == idem::Answer::ok);
    EXPECT(store.compact().answer == idem::Answer::ok);
    EXPECT(users[1].call(2001, count_once, &result) == Verdict::executed);
    EXPECT(users[2].call(2001, count_once, &result) == Verdict::replayed);
    EXPECT(users[1].upgrade(users[1].store) == 1);
    // From now on the older version is told so, about known and unknown calls alike, and leaves everything as it is.
    EXPECT(users[2].call(2001, count_once, &result) == Verdict::unavailable);
    EXPECT(users[2].call(2002, count_once, &result) == Verdict::unavailable);
    EXPECT(store.open().message.find("newer version") != std::string::npos);
    EXPECT(store.repair().answer == idem::Answer::unavailable);
    idem::FileStore late(path);
    EXPECT(late.open().message.find("newer version") != std::string::npos);
    EXPECT(!idem::FileStore::verify(path).good());
    EXPECT(users[1].call(2001, count_once, &result) == Verdict::replayed && result == 2001);
    EXPECT(users[1].call(2002, count_once, &result) == Verdict::executed);
    EXPECT(users[1].call(6, count_effect, &result) == Verdict::replayed && result == 60);
    EXPECT(users[1].upgrade(users[1].store) == 1);
    users[1].close(users[1].store);
  }
  std::puts("ok");
  return 0;
}
