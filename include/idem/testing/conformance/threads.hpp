// Conformance: races and waiting.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/testing/conformance/trial.hpp>

#include <array>
#include <atomic>
#include <barrier>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

IDEM_BEGIN_NAMESPACE
namespace testing {

namespace conformance_impl {

/// Runs `each(thread)` on so many threads.
template <class Each>
void on_threads(std::size_t threads, Each each) {
  std::vector<std::thread> all;
  all.reserve(threads);
  for (std::size_t i = 0; i < threads; ++i) all.emplace_back([&each, i] { each(i); });
  for (std::thread& thread : all) thread.join();
}

/// One thread that waits for a key, and whether it still does.
template <class S>
class Waiter {
 public:
  Waiter(Trial<S>& trial, S& store, const Key& key, std::uint64_t epoch, TimePoint deadline)
      : trial_(trial), thread_([this, &store, key, epoch, deadline] {
          {
            const std::lock_guard lock(mutex_);
            begun_ = true;
            changed_.notify_all();
          }
          store.wait(key, epoch, deadline);
          const std::lock_guard lock(mutex_);
          done_ = true;
          changed_.notify_all();
        }) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return begun_; });
  }
  ~Waiter() {
    // A store that doesn't wake it is to fail, and not to hang.
    if (!returned_within(std::chrono::milliseconds(0))) trial_.clock.advance(std::chrono::hours(2));
    thread_.join();
  }

  bool returned_within(std::chrono::milliseconds limit) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, limit, [this] { return done_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool begun_ = false;
  bool done_ = false;
  Trial<S>& trial_;
  std::thread thread_;
};

inline constexpr std::chrono::milliseconds patience = std::chrono::seconds(30);

}  // namespace conformance_impl

template <class S>
void add_thread_cases(ConformanceCases<S>& cases) {
  using T = Trial<S>;

  cases.push_back({"CORE-02 T-24 T-79", "of many claims at once exactly one acquires the key", needs_nothing,
                   [](T& t) {
    const std::size_t threads = t.options.threads;
    std::atomic<int> winners{0};
    std::atomic<std::uint64_t> winner_epoch{0};
    std::barrier start(static_cast<std::ptrdiff_t>(threads));
    conformance_impl::on_threads(threads, [&](std::size_t thread) {
      S& store = thread % 2 == 0 ? t.store : t.other();
      for (std::size_t round = 0; round < t.options.rounds; ++round) {
        const Key key = t.key(static_cast<int>(round));
        const std::string text = "round " + std::to_string(round);
        start.arrive_and_wait();
        const Reply reply = store.claim(key, t.request(), nullptr);
        if (reply.answer == Answer::acquired) {
          winners.fetch_add(1);
          winner_epoch.store(reply.record.owner.epoch);
          const Answer done =
              store.complete(key, FinishRequest{reply.record.owner, std::chrono::hours(24), t.source(text)}).answer;
          t.check(done, Answer::ok, "the winner's completion");
        } else if (reply.answer == Answer::completed) {
          t.check(t.holds(reply.payload, text), "a loser that is late is told what the winner gave (T-22)");
        } else {
          t.check(reply.answer, Answer::running, "a loser");
        }
        start.arrive_and_wait();
        if (thread == 0) {
          t.check(winners.exchange(0) == 1, "exactly one winner");
          t.check(store.find(key).record.owner.epoch == winner_epoch.load(), "the record is the winner's");
        }
        start.arrive_and_wait();
      }
    });
  }});

  cases.push_back({"T-02 T-11 T-17 SIM-01", "however threads claim, release, complete and erase, a key has one owner",
                   needs_nothing, [](T& t) {
    constexpr std::uint32_t keys = 3;
    std::array<std::atomic<int>, keys> owners = {};
    std::array<std::atomic<std::uint64_t>, keys> epochs = {};
    conformance_impl::on_threads(t.options.threads, [&](std::size_t thread) {
      S& store = thread % 2 == 0 ? t.store : t.other();
      std::uint64_t random = thread * 0x9e3779b97f4a7c15u + 1;
      for (std::size_t step = 0; step < t.options.rounds * 4; ++step) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        const auto index = static_cast<std::uint32_t>(random >> 33) % keys;
        const Key key = t.key(static_cast<int>(index));
        if ((random >> 60) == 0) {
          const Answer erased = store.erase(key).answer;
          t.check(erased == Answer::ok || erased == Answer::absent || erased == Answer::refused, "erasing in a race");
        }
        const Reply reply = store.claim(key, t.request(), nullptr);
        if (reply.answer != Answer::acquired) {
          t.check(reply.answer == Answer::running || reply.answer == Answer::completed, "losing a race");
          continue;
        }
        t.check(owners[index].fetch_add(1) == 0, "a key has one owner at a time");
        t.check(epochs[index].exchange(reply.record.owner.epoch) < reply.record.owner.epoch, "epochs grow");
        t.check(owners[index].fetch_sub(1) == 1, "a key has one owner at a time");
        const std::string text = "result";
        const Answer ended =
            (random >> 40) % 2 == 0
                ? store.release(key, reply.record.owner).answer
                : store.complete(key, FinishRequest{reply.record.owner, std::chrono::hours(24), t.source(text)}).answer;
        t.check(ended, Answer::ok, "an owner's own operation");
      }
    });
  }});

  cases.push_back({"T-20 MEM-10", "waiting ends at the deadline, and a waiter that gives up changes nothing",
                   needs_clock, [](T& t) {
    const Key key = t.key(1);
    const Ownership owner = t.acquire(key);
    const Record before = t.store.find(key).record;
    t.store.wait(key, owner.epoch, t.store.now());
    t.store.wait(key, owner.epoch, t.store.now() - std::chrono::seconds(1));
    {
      conformance_impl::Waiter<S> waiter(t, t.other(), key, owner.epoch, t.store.now() + std::chrono::seconds(5));
      t.clock.advance(std::chrono::seconds(5));
      t.check(waiter.returned_within(conformance_impl::patience), "a waiter returns when its deadline has come");
      t.store.release(key, owner);
    }
    const Ownership again = t.acquire(key);
    const Record untouched = t.store.find(key).record;
    t.store.wait(key, again.epoch, t.store.now());
    t.check(t.same(untouched, t.store.find(key).record), "a waiter that gives up changes nothing");
    t.check(before.owner == owner, "nor did the first one");
    t.check(t.claim(key).answer, Answer::running, "after a waiter gave up");
  }});

  cases.push_back({"STORE-5", "waiting for what isn't running returns at once", needs_nothing, [](T& t) {
    constexpr TimePoint never = (TimePoint::max)();
    t.store.wait(t.key(1), 1, never);
    const Ownership owner = t.acquire(t.key(2));
    t.store.wait(t.key(2), owner.epoch + 1, never);
    t.complete(t.key(2), owner, "x");
    t.store.wait(t.key(2), owner.epoch, never);
    const Ownership left = t.put_in_doubt(t.key(3));
    t.store.wait(t.key(3), left.epoch, never);
    const Ownership failing = t.acquire(t.key(4));
    t.fail(t.key(4), failing, "x");
    t.store.wait(t.key(4), failing.epoch, never);
  }});

  cases.push_back({"MEM-02 T-23", "waiters are woken by whatever ends the run that they wait for, and by nothing less",
                   own_clock, [](T& t) {
    enum Ending { completes, fails, releases, abandons, endings };
    for (int ending = completes; ending < endings; ++ending) {
      const Key key = t.key(ending);
      const Key other = t.key(100 + ending);
      const Ownership owner = t.acquire(key);
      const Ownership unrelated = t.acquire(other);
      // Later than the patience of this test, so that only a wake-up comes in time.
      const TimePoint deadline = t.store.now() + 2 * conformance_impl::patience;
      conformance_impl::Waiter<S> here(t, t.store, key, owner.epoch, deadline);
      conformance_impl::Waiter<S> there(t, t.other(), key, owner.epoch, deadline);
      conformance_impl::Waiter<S> elsewhere(t, t.store, other, unrelated.epoch, deadline);
      t.check(!here.returned_within(std::chrono::milliseconds(1)), "a waiter waits while the run lasts");
      switch (ending) {
        case completes: t.complete(key, owner, "x"); break;
        case fails: t.fail(key, owner, "x"); break;
        case releases: t.store.release(key, owner); break;
        default: t.store.abandon(key, owner); break;
      }
      t.check(here.returned_within(conformance_impl::patience), "a waiter is woken");
      t.check(there.returned_within(conformance_impl::patience), "every waiter is woken");
      t.check(!elsewhere.returned_within(std::chrono::milliseconds(1)), "waiters of other keys aren't");
      t.store.release(other, unrelated);
      t.check(elsewhere.returned_within(conformance_impl::patience), "they are woken by their own key");
    }
  }});

  cases.push_back({"MEM-05 T-21 T-22", "a waiter that wakes asks again, and is told what holds by then", needs_clock,
                   [](T& t) {
    const Key key = t.key(1);
    const Ownership owner = t.acquire(key);
    {
      conformance_impl::Waiter<S> waiter(t, t.other(), key, owner.epoch, t.store.now() + std::chrono::hours(1));
      t.complete(key, owner, "value", std::chrono::seconds(1));
      t.check(waiter.returned_within(conformance_impl::patience), "a waiter is woken");
    }
    t.check_completed(key, "value", "after waiting");
    t.clock.advance(std::chrono::seconds(1));
    t.check(t.claim(key).answer, Answer::acquired, "when the outcome has expired meanwhile");
  }});

  cases.push_back({"RFT-11 STORE-5", "waiting ends with the lease that is waited for", needs_clock | needs_leases,
                   [](T& t) {
    const Key key = t.key(1);
    const Ownership owner = t.acquire(key);
    conformance_impl::Waiter<S> waiter(t, t.store, key, owner.epoch, t.store.now() + std::chrono::hours(1));
    t.clock.advance(std::chrono::seconds(30));
    t.check(waiter.returned_within(conformance_impl::patience), "a waiter returns when the lease has ended");
    t.check(t.claim(key).answer, Answer::in_doubt, "after waiting for a lease that ended");
  }});
}

}  // namespace testing
IDEM_END_NAMESPACE
