// Behind a store that goes by leases: renews them, says when one is lost, and tells the store what it couldn't be told.
#pragma once

#include <idem/detail/background_thread.hpp>
#include <idem/detail/boot_clock.hpp>
#include <idem/detail/chrono.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/process.hpp>
#include <idem/detail/redis/debts.hpp>
#include <idem/detail/redis/errands.hpp>
#include <idem/detail/redis/leases.hpp>
#include <idem/detail/sha256.hpp>
#include <idem/detail/watch_list.hpp>
#include <idem/protocol.hpp>
#include <idem/store.hpp>

#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

IDEM_BEGIN_NAMESPACE
namespace detail::redis {

/// The clock of leases. It goes on while the machine sleeps and waiting for a time doesn't, so that whoever waits looks
/// at it every now and then.
struct BootClock {
  std::int64_t now() const noexcept { return boot_micros(); }
  std::int64_t longest_nap() const noexcept { return 1'000'000; }
  /// Whether a watch can judge by boot_micros() itself.
  bool is_boot() const noexcept { return true; }
};

/// One thread renews and pays; what it waits for is the store. Another one calls the watches of leases that are lost:
/// it waits for nobody, so that they are told in time whatever the store, the network or the name service does, and
/// that a stop callback of the user's that blocks keeps no lease from being renewed. Both start when they are needed
/// and end with this object.
///
/// All times are those of `Clock`, which is boot_micros() but for tests; all spans are microseconds. Thread safety: all
/// functions from any number of threads, but for the destructor. In a child of fork(3) it may be destroyed and nothing
/// else.
template <KeepingEngine Engine, class Clock = BootClock>
class LeaseKeeper {
 public:
  /// `timeout`: how long one call of the engine may take. REQUIRES: the engine outlives the keeper. May throw
  /// std::bad_alloc.
  LeaseKeeper(Engine& engine, std::int64_t timeout, Clock clock = {}) : core_(new Core(engine, timeout, clock)) {}
  LeaseKeeper(const LeaseKeeper&) = delete;
  LeaseKeeper& operator=(const LeaseKeeper&) = delete;
  /// What is owed is tried once more, for no longer than one timeout.
  ~LeaseKeeper() {
    // A child has no such threads, and whatever they held when it was made is held there for ever.
    if (generation_ == process_generation()) delete core_;
  }

  /// A key was acquired with a lease that is surely held until `sure_until`. `watch` may be nullptr. The same claim
  /// once more replaces what it had. False where there is no memory or no thread: nothing is kept then, and the claim
  /// has to be given up.
  bool add(const Digest& key, const Ownership& owner, std::int64_t lease, std::int64_t sure_until,
           LeaseWatch* watch) noexcept {
    return core_->add(key, owner, lease, sure_until, watch);
  }

  /// To be called before the store is told how the owner's run ended: a renewal that finds it told by then is no loss.
  void settle(const Ownership& owner) noexcept { core_->settle(owner); }

  /// The lease isn't renewed any more, and its watch isn't called any more. Waits for a call that is going on, unless
  /// it is this thread's own.
  void end(const Ownership& owner) noexcept { core_->end(owner); }

  /// Has it carried out in the background until the store answers. False where there is no memory for it: the owner's
  /// lease then ends by itself. Without a thread it's carried out when one can be had.
  bool owe(const Owed& owed) noexcept { return core_->owe(owed); }

  /// Something is owed for this key: what the store says of it isn't true yet.
  bool owes(const Digest& key) const noexcept { return core_->owes(key); }

  /// How much is owed.
  std::size_t debts() const noexcept { return core_->debts.unpaid(); }

 private:
  struct Sleeper {
    std::condition_variable wake;
    std::int64_t until = 0;  // zero: it's awake
    BackgroundThread thread;
  };

  struct Core {
    Core(Engine& with, std::int64_t longest, Clock by) : engine(with), timeout(longest), clock(by) {}
    Core(const Core&) = delete;
    Core& operator=(const Core&) = delete;
    ~Core() {
      {
        const std::lock_guard lock(mutex);
        stopping = true;
      }
      keeper.wake.notify_all();
      sentinel.wake.notify_all();
      keeper.thread.join();
      sentinel.thread.join();
    }

    bool add(const Digest& key, const Ownership& owner, std::int64_t lease, std::int64_t sure_until,
             LeaseWatch* watch) noexcept {
      if (watch != nullptr) {
        if (clock.is_boot()) watch->sure_until(sure_until);
        IDEM_TRY {
          watches.add(key, owner, watch);
        }
        IDEM_CATCH_ALL {
          return false;
        }
      }
      bool added = false;
      {
        const std::lock_guard lock(mutex);
        added = has_thread<&Core::keep>(keeper) && has_thread<&Core::guard>(sentinel) &&
                leases.add(key, owner, lease, sure_until, clock.now());
        if (added) {
          rouse(keeper, leases.next_renewal());
          rouse(sentinel, leases.next_end());
        }
      }
      if (!added) watches.end(owner);
      return added;
    }

    void settle(const Ownership& owner) noexcept {
      const std::lock_guard lock(mutex);
      leases.settle(owner);
    }

    void end(const Ownership& owner) noexcept {
      {
        const std::lock_guard lock(mutex);
        leases.remove(owner);
      }
      // The loss may have been noticed a moment ago.
      watches.end(owner);
    }

    bool owe(const Owed& owed) noexcept {
      const std::lock_guard lock(mutex);
      if (!debts.add(owed, clock.now())) return false;
      if (has_thread<&Core::keep>(keeper)) rouse(keeper, debts.next());
      return true;
    }

    bool owes(const Digest& key) noexcept {
      if (debts.none()) return false;
      const std::lock_guard lock(mutex);
      // A thread that couldn't be had then may be had now.
      if (has_thread<&Core::keep>(keeper)) rouse(keeper, debts.next());
      return debts.owes(key);
    }

    /// REQUIRES: the lock is held, as for all below.
    template <void (Core::*main)()>
    bool has_thread(Sleeper& sleeper) noexcept {
      return sleeper.thread.there() ||
             sleeper.thread.start([](void* core) { (static_cast<Core*>(core)->*main)(); }, this);
    }

    /// There is something to do at that time.
    static void rouse(Sleeper& sleeper, std::int64_t at) noexcept {
      if (at < sleeper.until) sleeper.wake.notify_all();
    }

    void sleep(std::unique_lock<std::mutex>& lock, Sleeper& sleeper, std::int64_t until) {
      const std::int64_t now = clock.now();
      if (until <= now || stopping) return;
      sleeper.until = until;
      if (until == never) {
        sleeper.wake.wait(lock);
      } else {
        sleeper.wake.wait_for(lock, std::chrono::microseconds((std::min)(until - now, clock.longest_nap())));
      }
      sleeper.until = 0;
    }

    /// The keeper's thread.
    void keep() {
      std::unique_lock lock(mutex);
      while (!stopping) {
        const std::int64_t now = clock.now();
        if (leases.next_renewal() <= now) {
          renew(lock, now);
        } else if (debts.next() <= now) {
          pay(lock, now + (std::min)(timeout, leases.patience() / 2));
        } else {
          sleep(lock, keeper, (std::min)(leases.next_renewal(), debts.next()));
        }
      }
      pay_last(lock);
    }

    void renew(std::unique_lock<std::mutex>& lock, std::int64_t now) {
      const std::int64_t useful = leases.take_due(batch, now);
      if (batch.empty()) return;
      const std::int64_t until = (std::min)(useful, now + (std::min)(timeout, leases.patience()));
      lock.unlock();
      engine.renew(batch.data(), batch.size(), until);
      lock.lock();
      leases.renewed(batch, clock.now());
      rouse(sentinel, leases.next_end());
      lock.unlock();
      for (const Renewal& renewal : batch) {
        if (clock.is_boot()) watches.sure_until(renewal.owner, renewal.valid_until);
        watches.renewed(renewal.owner, renewal.lease_until);
      }
      lock.lock();
    }

    void pay(std::unique_lock<std::mutex>& lock, std::int64_t until) {
      Debts::Debt& debt = *debts.first();
      const Owed owed = debt.owed;
      lock.unlock();
      const bool answered = engine.pay(owed, until);
      lock.lock();
      debts.tried(debt, answered, clock.now());
    }

    void pay_last(std::unique_lock<std::mutex>& lock) {
      const std::int64_t until = clock.now() + timeout;
      while (debts.first() != nullptr) {
        Debts::Debt& debt = *debts.first();
        const Owed owed = debt.owed;
        lock.unlock();
        if (clock.now() < until) engine.pay(owed, until);
        lock.lock();
        debts.drop(debt, clock.now());
      }
    }

    /// The thread that calls the watches.
    void guard() {
      std::unique_lock lock(mutex);
      while (!stopping) {
        Ownership owner;
        if (leases.take_lost(owner, clock.now())) {
          lock.unlock();
          watches.tell(owner);
          lock.lock();
        } else {
          sleep(lock, sentinel, leases.next_end());
        }
      }
    }

    Engine& engine;
    const std::int64_t timeout;
    Clock clock;
    WatchList watches;
    std::mutex mutex;
    Leases leases;
    Debts debts;
    bool stopping = false;
    std::vector<Renewal> batch;  // the keeper's own
    Sleeper keeper;
    Sleeper sentinel;
  };

  Core* const core_;
  const std::uint64_t generation_ = process_generation();
};

}  // namespace detail::redis
IDEM_END_NAMESPACE
