// Who wants to be told when a lease is lost, for stores that go by leases.
#pragma once

#include <idem/detail/cancellation.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/sha256.hpp>
#include <idem/protocol.hpp>
#include <idem/store.hpp>

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <thread>  // this_thread::get_id: who is calling a watch
#include <unordered_map>
#include <vector>

IDEM_BEGIN_NAMESPACE
namespace detail {

/// Tokens are random, so that any of their bits will do.
struct OwnershipHash {
  std::size_t operator()(const Ownership& owner) const noexcept {
    std::size_t hash = 0;
    const std::uint64_t mixed = owner.token.hi ^ owner.token.lo;
    std::memcpy(&hash, &mixed, sizeof hash);
    return hash;
  }
};

/// The watches of running claims. Each is told of a loss at most once; none is called with the lock held, by two
/// threads at once, or after `end` has returned. Thread safety: every member from any thread.
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
    const auto added = list_.try_emplace(owner, Watched{key, owner, watch});
    if (!added.second) added.first->second.watch = watch;
  }

  /// Waits for a call that is going on, unless it is this thread's own.
  void end(const Ownership& owner) {
    std::unique_lock lock(mutex_);
    const auto at = find_idle(lock, owner);
    if (at != list_.end()) list_.erase(at);
  }

  std::vector<Watched> snapshot() const {
    const std::lock_guard lock(mutex_);
    std::vector<Watched> all;
    all.reserve(list_.size());
    for (const auto& [owner, watched] : list_) all.push_back(watched);
    return all;
  }

  /// Calls the watch of that owner, where there is one that hasn't been called.
  void tell(const Ownership& owner) {
    std::unique_lock lock(mutex_);
    const auto at = find_idle(lock, owner);
    if (at == list_.end() || at->second.told) return;
    at->second.told = true;
    call(lock, at->second, [](LeaseWatch& watch) { watch.lost(); });
  }

  /// Tells the watch of that owner, where there is one, up to when its lease was prolonged.
  void renewed(const Ownership& owner, TimePoint until) {
    call_unless_busy(owner, [until](LeaseWatch& watch) { watch.renewed(until); });
  }
  /// And until when it's sure.
  void sure_until(const Ownership& owner, std::int64_t boot_micros) {
    call_unless_busy(owner, [boot_micros](LeaseWatch& watch) { watch.sure_until(boot_micros); });
  }

 private:
  using List = std::unordered_map<Ownership, Watched, OwnershipHash>;

  /// Once no other thread is calling it.
  List::iterator find_idle(std::unique_lock<std::mutex>& lock, const Ownership& owner) {
    for (;;) {
      const auto at = list_.find(owner);
      if (at == list_.end()) return at;
      const std::thread::id teller = at->second.teller;
      if (teller == std::thread::id{} || teller == std::this_thread::get_id()) return at;
      const NoCancellation shield;  // whoever ends a run can't be unwound
      idle_.wait(lock);
    }
  }

  /// Who is being told that the lease is lost needn't be told that it was prolonged.
  template <class Call>
  void call_unless_busy(const Ownership& owner, Call&& told) {
    std::unique_lock lock(mutex_);
    const auto at = list_.find(owner);
    if (at == list_.end() || at->second.told || at->second.teller != std::thread::id{}) return;
    call(lock, at->second, told);
  }

  /// Without the lock; `end` waits meanwhile. A watch may call what tells it something else.
  template <class Call>
  void call(std::unique_lock<std::mutex>& lock, Watched& watched, Call&& told) {
    const Ownership owner = watched.owner;
    LeaseWatch& watch = *watched.watch;
    const std::thread::id outer = watched.teller;
    watched.teller = std::this_thread::get_id();
    lock.unlock();
    told(watch);
    lock.lock();
    if (const auto at = list_.find(owner); at != list_.end()) at->second.teller = outer;
    idle_.notify_all();
  }

  mutable std::mutex mutex_;
  std::condition_variable idle_;
  List list_;
};

}  // namespace detail
IDEM_END_NAMESPACE
