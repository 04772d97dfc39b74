// Who wants to be told when a lease is lost, for stores that go by leases.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/sha256.hpp>
#include <idem/protocol.hpp>
#include <idem/store.hpp>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <thread>  // this_thread::get_id: who is calling a watch
#include <vector>

IDEM_BEGIN_NAMESPACE
namespace testing {

/// The watches of running claims. Each is called at most once, without a lock, and never after `end` has returned.
/// Thread safety: every member from any thread.
class WatchList {
 public:
  struct Watched {
    Digest key = {};
    Ownership owner = {};
    LeaseWatch* watch = nullptr;
    bool told = false;
    std::thread::id teller = {};  ///< Who is calling it right now.
  };

  /// The same claim once more replaces its watch. May throw std::bad_alloc.
  void add(const Digest& key, const Ownership& owner, LeaseWatch* watch) {
    const std::lock_guard lock(mutex_);
    if (const auto at = find(owner); at != list_.end()) {
      at->watch = watch;
    } else {
      list_.push_back(Watched{key, owner, watch});
    }
  }

  /// Waits for a call that is going on, unless it is this thread's own.
  void end(const Ownership& owner) {
    std::unique_lock lock(mutex_);
    for (;;) {
      const auto at = find(owner);
      if (at == list_.end()) return;
      if (at->teller == std::thread::id{} || at->teller == std::this_thread::get_id()) {
        list_.erase(at);
        return;
      }
      told_.wait(lock);
    }
  }

  std::vector<Watched> snapshot() const {
    const std::lock_guard lock(mutex_);
    return list_;
  }

  /// Calls the watch of that owner, where there is one that hasn't been called.
  void tell(const Ownership& owner) {
    std::unique_lock lock(mutex_);
    auto at = find(owner);
    if (at == list_.end() || at->told) return;
    at->told = true;
    call(lock, at, [](LeaseWatch& watch) { watch.lost(); });
  }

  /// Tells the watch of that owner, where there is one, up to when its lease was prolonged.
  void renewed(const Ownership& owner, TimePoint until) {
    std::unique_lock lock(mutex_);
    const auto at = find(owner);
    if (at != list_.end() && at->teller == std::thread::id{}) {
      call(lock, at, [until](LeaseWatch& watch) { watch.renewed(until); });
    }
  }

 private:
  /// Without the lock; `end` waits meanwhile.
  template <class Call>
  void call(std::unique_lock<std::mutex>& lock, std::vector<Watched>::iterator at, Call&& told) {
    const Ownership owner = at->owner;
    LeaseWatch& watch = *at->watch;
    at->teller = std::this_thread::get_id();
    lock.unlock();
    told(watch);
    lock.lock();
    if (at = find(owner); at != list_.end()) at->teller = {};
    told_.notify_all();
  }

  std::vector<Watched>::iterator find(const Ownership& owner) {
    return std::find_if(list_.begin(), list_.end(), [&](const Watched& watched) { return watched.owner == owner; });
  }

  mutable std::mutex mutex_;
  std::condition_variable told_;
  std::vector<Watched> list_;
};

}  // namespace testing
IDEM_END_NAMESPACE
