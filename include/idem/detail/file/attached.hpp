// What one process has of a store: its core, what it still owes, and who of it waits.
#pragma once

#include <idem/detail/array.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/file/core.hpp>
#include <idem/detail/file/id.hpp>
#include <idem/detail/file/owner_file.hpp>
#include <idem/detail/file/retrier.hpp>
#include <idem/detail/sha256.hpp>
#include <idem/protocol.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <utility>

IDEM_BEGIN_NAMESPACE
namespace detail::file {

/// A release or abandon that couldn't be written, or isn't known to be on disk.
struct Owed {
  Digest key;
  Ownership owner;
  bool release = false;  // else abandon
};

/// Thread safety: any thread.
class OwedList {
 public:
  bool any() const noexcept { return count_.load(std::memory_order_acquire) != 0; }

  /// Where there is no memory for it nothing is noted: the key then stays running until this process ends.
  void add(const Owed& owed) {
    IDEM_TRY {
      const std::lock_guard guard(mutex_);
      for (Owed& known : list_) {
        if (!(known.owner == owed.owner && known.key == owed.key)) continue;
        // What was said last counts: a run that is abandoned after its release failed may have had an effect.
        known.release = owed.release;
        return;
      }
      list_.push(owed);
      count_.store(list_.size(), std::memory_order_release);
    }
    IDEM_CATCH_UNWIND
    IDEM_CATCH_ALL {}
  }

  bool holds(const Digest& key) const noexcept {
    if (!any()) return false;
    const std::lock_guard guard(mutex_);
    for (const Owed& owed : list_) {
      if (owed.key == key) return true;
    }
    return false;
  }

  /// Forgets what `pay` says true to.
  template <class Pay>
  void pay(Pay pay) {
    if (!any()) return;
    const std::lock_guard guard(mutex_);
    for (std::size_t at = 0; at < list_.size();) {
      if (pay(list_[at])) {
        list_.remove(at);
      } else {
        ++at;
      }
    }
    count_.store(list_.size(), std::memory_order_release);
  }

 private:
  mutable std::mutex mutex_;
  Array<Owed> list_;
  std::atomic<std::size_t> count_{0};
};

/// Who waits in this process. One of them at a time watches the others' owners, so that a thousand waiters cost as much
/// as one. Thread safety: any thread.
class Waiters {
 public:
  struct Waiter {
    Digest key;
    Id128 owner;
    Waiter* next = nullptr;
  };

  /// `waiter` stays where it is until `leave`.
  void enter(Waiter& waiter) noexcept {
    const std::lock_guard guard(mutex_);
    waiter.next = first_;
    first_ = &waiter;
  }

  void leave(Waiter& waiter, SharedPage& page) noexcept {
    const std::lock_guard guard(mutex_);
    Waiter** at = &first_;
    while (*at != &waiter) at = &(*at)->next;
    *at = waiter.next;
    if (watcher_ != &waiter) return;
    watcher_ = nullptr;
    // Somebody else has to watch from now on; whoever wakes up without reason looks around and goes on sleeping.
    if (first_ != nullptr) page.wake(first_->key);
  }

  /// Whose record a waiter waits for, as far as it knows.
  void owned_by(Waiter& waiter, const Id128& owner) noexcept {
    const std::lock_guard guard(mutex_);
    waiter.owner = owner;
  }

  /// Whether this one watches the owners of all. It then calls `watch` every few milliseconds.
  bool watches(const Waiter& waiter) noexcept {
    const std::lock_guard guard(mutex_);
    if (watcher_ == nullptr) watcher_ = &waiter;
    return watcher_ == &waiter;
  }

  /// Wakes those whose owner is gone.
  void watch(int directory, SharedPage& page) noexcept {
    const std::lock_guard guard(mutex_);
    Id128 known = {};
    Alive alive = Alive::unknown;
    for (const Waiter* waiter = first_; waiter != nullptr; waiter = waiter->next) {
      // Most wait for the same owner.
      if (known.empty() || !(waiter->owner == known)) {
        Problem ignored;
        known = waiter->owner;
        alive = probe_owner(directory, known, ignored);
      }
      if (alive == Alive::no) page.wake(waiter->key);
    }
  }

 private:
  std::mutex mutex_;
  Waiter* first_ = nullptr;
  const Waiter* watcher_ = nullptr;
};

/// A child process gets one of its own; its parent's stays where it is, since other threads of the parent may have been
/// holding its locks.
struct Attached {
  explicit Attached(const FileSettings& settings, Attached* of_parent) : core(settings), parent(of_parent) {}

  FileCore core;
  OwedList owed;
  Waiters waiters;
  Attached* const parent;
  Retrier retrier;  // the last member: its thread uses the others

  /// Whether the owner is a forebear of this process: a claim of its is a dead handle here.
  bool inherited(const Id128& owner) const noexcept {
    for (const Attached* at = parent; at != nullptr; at = at->parent) {
      if (at->core.owner.id() == owner) return true;
    }
    return false;
  }
};

/// Does what is owed. REQUIRES: entered.
inline void pay_owed(Attached& here) {
  if (!here.owed.any() || here.core.page.poisoned()) return;
  FileCore& core = here.core;
  here.owed.pay([&here, &core](const Owed& owed) {
    Found found;
    const char* why = nullptr;
    if (core.look(owed.key, found, why) == Look::corrupt) return false;
    // A forebear's claim is a dead handle here, whatever was tried with it while the store couldn't be reached.
    if (found.record() != nullptr && here.inherited(found.owner)) return true;
    const TimePoint now = core.record_time();
    const protocol::Transition next = owed.release ? protocol::release(found.record(), owed.owner, now)
                                                   : protocol::abandon(found.record(), owed.owner, now);
    if (next.change == protocol::Change::none) return true;
    bool written = false;
    if (next.change == protocol::Change::erase) {
      written = !core.append_erase(owed.key, now);
    } else {
      found.stored.record = next.next;
      written = !core.append_record(found.stored, found.owner, now, false);
    }
    if (written) core.page.wake(owed.key);
    return written;
  });
}

/// Sees to it that what is owed is done as soon as the store lets it be done, also where this process does nothing
/// else.
inline void pay_in_background(Attached& here) {
  here.retrier.start(&here, [](void* subject) {
    Attached& at = *static_cast<Attached*>(subject);
    std::uint64_t sequence = 0;
    IDEM_TRY {
      // Not for as long as an operation may wait: the object's end waits for this.
      constexpr std::int64_t timeout = 100'000;
      if (at.core.enter(timeout)) return false;
      const Leave leave{at.core};
      pay_owed(at);
      sequence = at.core.state.last_sequence;
    }
    IDEM_CATCH_UNWIND
    IDEM_CATCH_ALL {
      return false;
    }
    return !at.owed.any() && !at.core.sync(sequence);
  });
}

}  // namespace detail::file
IDEM_END_NAMESPACE
