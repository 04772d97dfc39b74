// CXX-12: a memory store in a child process.
#include <doctest/doctest.h>

#if !defined(_WIN32)

#include "memory_support.hpp"

#include <idem/memory_store.hpp>

#include <atomic>
#include <optional>
#include <thread>
#include <vector>

#include <sys/wait.h>
#include <unistd.h>

using namespace memory_support;
using idem::Answer;
using idem::MemoryStore;
using idem::Reply;

TEST_CASE("CXX-12: a child process is told that the store is its parent's, and no lock is touched there") {
  std::optional<MemoryStore> store(std::in_place);
  const Reply running = claim(*store, key_of(1));
  put(*store, key_of(2), 2);
  // Others hold locks of the store at any moment, also when the process is copied.
  std::atomic<bool> over{false};
  std::vector<std::thread> busy;
  for (int thread = 0; thread < 3; ++thread) {
    busy.emplace_back([&store, &over, thread] {
      for (int i = 0; !over.load(); ++i) {
        const idem::Key key = key_of(1000 + thread * 100000 + i % 1000);
        const Reply reply = claim(*store, key);
        if (reply.answer == Answer::acquired) store->release(key, reply.record.owner);
      }
    });
  }
  for (int round = 0; round < 5; ++round) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      // A lock that is never opened would keep the child here: the alarm ends it then.
      ::alarm(20);
      int wrong = 0;
      for (int i = 0; i < 200; ++i) {
        const Reply reply = claim(*store, key_of(i));
        if (reply.answer != Answer::unavailable) wrong |= 1;
        if (reply.message.find("make one in the child") == std::string::npos) wrong |= 2;
      }
      if (store->complete(key_of(1), outcome(running, 1)).answer != Answer::unavailable) wrong |= 4;
      if (store->peek(key_of(2), nullptr).answer != Answer::absent) wrong |= 8;
      store->wait(key_of(1), running.record.owner.epoch, (idem::TimePoint::max)());
      if (store->clear() != 0 || store->stats().records != 0) wrong |= 16;
      store->purge({});
      store->for_each([&wrong](const idem::RecordView&) { wrong |= 32; });
      store.reset();
      MemoryStore own;
      if (put(own, key_of(1), 1).answer != Answer::ok) wrong |= 64;
      ::_exit(wrong);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
  }
  over = true;
  for (std::thread& thread : busy) thread.join();
  CHECK(store->complete(key_of(1), outcome(running, 1)).answer == Answer::ok);
}

#endif
