// Claims by hand among threads.
#include <idem/idem.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace claim_threads {

using namespace std::chrono_literals;

TEST_CASE("a claim waits for a running one and gets its result") {
  idem::MemoryStore store;
  const idem::Key key = idem::make_key("webhook", 1);
  idem::Claim running = idem::claim(store, key);
  REQUIRE(running.acquired());
  std::string seen;
  idem::Answer status{};
  std::thread waiter([&] {
    const idem::Claim claim = idem::claim(store, key, {.wait_timeout = idem::forever});
    status = claim.status();
    seen = claim.result<std::string>().value();
  });
  // Whether the waiter is there already or comes afterwards, it gets the same.
  CHECK(running.complete(std::string("done")) == idem::Verdict::executed);
  waiter.join();
  CHECK(status == idem::Answer::completed);
  CHECK(seen == "done");
}

TEST_CASE("a claim that waits acquires the key when it's released, and is told of the doubt when it's dropped") {
  for (const bool released : {true, false}) {
    idem::MemoryStore store;
    const idem::Key key = idem::make_key("webhook", 1);
    std::vector<idem::Claim> running;
    running.push_back(idem::claim(store, key));
    idem::Answer status{};
    std::thread waiter([&] {
      idem::Claim claim = idem::claim(store, key, {.wait_timeout = idem::forever});
      status = claim.status();
      claim.release();
    });
    if (released) CHECK(running[0].release());
    running.clear();
    waiter.join();
    CHECK(status == (released ? idem::Answer::acquired : idem::Answer::in_doubt));
  }
}

TEST_CASE("CORE-02: of many threads that claim a key one has it") {
  for (int round = 0; round < 200; ++round) {
    idem::MemoryStore store;
    const idem::Key key = idem::make_key("webhook", round);
    std::atomic<bool> go{false};
    std::atomic<int> acquired{0};
    std::atomic<int> completed{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        while (!go.load()) std::this_thread::yield();
        idem::Claim claim = idem::claim(store, key, {.wait_timeout = idem::forever});
        if (claim.acquired()) {
          ++acquired;
          claim.complete(7);
        } else if (claim.status() == idem::Answer::completed && claim.result<int>().value() == 7) {
          ++completed;
        }
      });
    }
    go = true;
    for (std::thread& thread : threads) thread.join();
    CHECK(acquired == 1);
    CHECK(completed == 3);
  }
}

TEST_CASE("a claim may end in another thread than it began in") {
  idem::MemoryStore store;
  const idem::Key key = idem::make_key("webhook", 1);
  idem::Claim claim = idem::claim(store, key);
  std::thread other([moved = std::move(claim)]() mutable { moved.complete(1); });
  other.join();
  CHECK(idem::claim(store, key).result<int>().value() == 1);
}

}  // namespace claim_threads
