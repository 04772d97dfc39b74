// What tests of a store that several processes use share.
#pragma once

#include "directory.hpp"
#include "process_support.hpp"

#include <idem/file_store.hpp>
#include <idem/idem.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include <dirent.h>
#include <sys/prctl.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define IDEM_TEST_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define IDEM_TEST_SANITIZED 1
#endif
#endif
#if !defined(IDEM_TEST_SANITIZED)
#define IDEM_TEST_SANITIZED 0
#endif

namespace other_processes {

using namespace std::chrono_literals;
using idem::Answer;
using idem::Durability;
using idem::FileStore;
using idem::FileStoreOptions;
using idem::Options;
using idem::Reply;
using idem::Verdict;
using process_support::Child;
using process_support::eventually;
using process_support::Shared;
using support::Directory;

/// For what isn't about the disk.
inline FileStoreOptions quick(idem::Clock clock = {}) {
  return {.durability = Durability::process, .clock = std::move(clock)};
}

/// Those who don't wait for a running call.
inline Options at_once(Options options = {}) {
  options.wait_timeout = 0s;
  return options;
}

using Flag = std::atomic<int>;

/// Waits until somebody has set it; ends a process that waits in vain.
inline void await(const Flag& flag, int least = 1) {
  if (!eventually([&] { return flag.load() >= least; })) ::_exit(99);
}

/// A guard of f(int), by the name that all tests here use.
template <class Function, class... E>
auto pay(FileStore& store, Function function, Options options, E&&... extras) {
  return idem::idempotent<"pay">(std::move(function), std::move(options), store, std::forward<E>(extras)...);
}

inline idem::Key key_of_pay(FileStore& store, int number) {
  return pay(store, [](int) { return 0; }, Options{}).key(number);
}

/// What a process that knows nothing so far finds.
inline Answer found_by_others(const std::string& path, int number) {
  Shared<std::atomic<int>> answer;
  Child other([&] {
    FileStore store(path, quick());
    *answer = static_cast<int>(store.find(key_of_pay(store, number)).answer);
    return 0;
  });
  return other.wait() == 0 ? static_cast<Answer>(answer->load()) : Answer::unavailable;
}

/// How many files of a directory have names that begin so.
inline std::size_t files(const std::string& path, const std::string& prefix) {
  std::size_t count = 0;
  DIR* const directory = ::opendir(path.c_str());
  REQUIRE(directory != nullptr);
  while (const dirent* const entry = ::readdir(directory)) {
    if (std::string(entry->d_name).compare(0, prefix.size(), prefix) == 0) ++count;
  }
  ::closedir(directory);
  return count;
}

/// A clock that stops or ends its process, or does something else, when the store asks it under its lock; armed by the
/// test.
struct TrapClock {
  Flag* armed;
  void (*spring)();

  idem::TimePoint now() const {
    if (armed->exchange(0) != 0) spring();
    return std::chrono::time_point_cast<std::chrono::microseconds>(std::chrono::system_clock::now());
  }
};

}  // namespace other_processes
