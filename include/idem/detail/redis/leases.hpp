// The leases that a process holds: which of them are to be renewed when, and until when each is sure.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/redis/errands.hpp>
#include <idem/detail/redis/time_heap.hpp>
#include <idem/detail/sha256.hpp>
#include <idem/detail/watch_list.hpp>
#include <idem/protocol.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <unordered_map>
#include <vector>

IDEM_BEGIN_NAMESPACE
namespace detail::redis {

inline constexpr std::int64_t never = (std::numeric_limits<std::int64_t>::max)();

/// What is done with each lease, apart from threads, watches and the clock. Not thread-safe. All times are those of
/// boot_micros(), all spans microseconds.
///
/// A lease is renewed once a third of it has passed, and again and again from then on while no answer comes. All that
/// are due go together. It's lost at `sure_until`, or at once by an answer that says so; after that it's left alone.
class Leases {
 public:
  /// The same claim once more replaces its lease. False where there is no memory, and then it isn't held.
  bool add(const Digest& key, const Ownership& owner, std::int64_t length, std::int64_t sure_until,
           std::int64_t now) noexcept {
    remove(owner);
    Lease* lease = nullptr;
    IDEM_TRY {
      due_.reserve(held_.size() + 1);
      ends_.reserve(held_.size() + 1);
      lease = &held_.try_emplace(owner).first->second;
      ++lengths_[length];
    }
    IDEM_CATCH_ALL {
      held_.erase(owner);
      return false;
    }
    lease->key = key;
    lease->owner = owner;
    lease->length = length;
    if (sure_until == never) return true;
    schedule(*lease, sure_until, now);
    // A pause after renewals without an answer must not last longer than this lease can bear.
    not_before_ = (std::min)(not_before_, now + pause(now));
    return true;
  }

  /// False where it isn't held.
  bool remove(const Ownership& owner) noexcept {
    const auto at = held_.find(owner);
    if (at == held_.end()) return false;
    leave_alone(at->second);
    if (const auto alike = lengths_.find(at->second.length); --alike->second == 0) lengths_.erase(alike);
    held_.erase(at);
    return true;
  }

  /// Its owner is about to say how the run ended: that its record isn't a running one any more is no loss from now on.
  void settle(const Ownership& owner) noexcept {
    if (const auto at = held_.find(owner); at != held_.end()) at->second.settling = true;
  }

  std::size_t size() const noexcept { return held_.size(); }

  /// When the next renewal is to be sent.
  std::int64_t next_renewal() const noexcept {
    const Lease* const first = due_.first();
    return first == nullptr ? never : (std::max)(first->due.at, not_before_);
  }
  /// When the next lease is lost unless it's renewed before.
  std::int64_t next_end() const noexcept { return ends_.first() == nullptr ? never : ends_.first()->end.at; }

  /// How long a call of the engine may keep other leases waiting.
  std::int64_t patience() const noexcept { return lengths_.empty() ? never : lengths_.begin()->first / 2; }

  /// Moves all that are due into `batch`; as many as there is memory for. They aren't due again until `renewed`.
  /// Gives the time after which the batch is of no use to any of them.
  std::int64_t take_due(std::vector<Renewal>& batch, std::int64_t now) noexcept {
    batch.clear();
    IDEM_TRY {
      batch.reserve(due_.size());
    }
    IDEM_CATCH_ALL {}
    std::int64_t latest = now;
    while (due_.first() != nullptr && due_.first()->due.at <= now && batch.size() < batch.capacity()) {
      Lease& lease = *due_.first();
      due_.remove(lease);
      if (lease.end.at <= now) continue;
      Renewal& renewal = batch.emplace_back();
      renewal.key = lease.key;
      renewal.owner = lease.owner;
      renewal.lease = lease.length;
      latest = (std::max)(latest, lease.end.at);
    }
    // Those for which there was no memory are tried again soon.
    if (next_renewal() <= now) not_before_ = now + shortest_pause;
    return latest;
  }

  /// What came of a batch. Afterwards those are left in it of which the watches are to be told.
  void renewed(std::vector<Renewal>& batch, std::int64_t now) noexcept {
    bool failed = false;
    std::size_t kept = 0;
    for (const Renewal& renewal : batch) {
      const auto at = held_.find(renewal.owner);
      // Ended or lost meanwhile, or lost now: an answer that comes after the end counts for nothing.
      if (at == held_.end() || !at->second.end.queued() || at->second.end.at <= now) continue;
      Lease& lease = at->second;
      switch (renewal.result) {
        case Renewal::Result::renewed:
          schedule(lease, renewal.valid_until, now);
          batch[kept++] = renewal;
          break;
        case Renewal::Result::stale:
          if (lease.settling) {
            leave_alone(lease);
          } else {
            ends_.put(lease, (std::numeric_limits<std::int64_t>::min)());
          }
          break;
        case Renewal::Result::no_answer:
          due_.put(lease, lease.due.at);
          failed = true;
          break;
      }
    }
    batch.resize(kept);
    not_before_ = failed ? now + pause(now) : 0;
  }

  /// Takes one that is lost, so that its watch can be told; false where none is.
  bool take_lost(Ownership& owner, std::int64_t now) noexcept {
    Lease* const first = ends_.first();
    if (first == nullptr || first->end.at > now) return false;
    owner = first->owner;
    leave_alone(*first);
    return true;
  }

 private:
  struct Lease {
    Digest key = {};
    Ownership owner = {};
    std::int64_t length = 0;
    TimeSlot due = {};
    TimeSlot end = {};
    bool settling = false;
  };

  static constexpr std::int64_t shortest_pause = 20'000;
  static constexpr std::int64_t longest_pause = 1'000'000;

  /// Between renewals that aren't answered: shorter the nearer the end of any lease is.
  std::int64_t pause(std::int64_t now) const noexcept {
    const std::int64_t end = next_end();
    const std::int64_t left = end == never ? longest_pause * 4 : (std::max)(end, now) - now;
    return (std::min)((std::max)(left / 4, shortest_pause), longest_pause);
  }

  /// A third of the lease has passed by then, or half of what is left of it where that is less.
  void schedule(Lease& lease, std::int64_t sure_until, std::int64_t now) noexcept {
    ends_.put(lease, sure_until);
    due_.put(lease, now + (std::min)(lease.length / 3, (std::max)(sure_until - now, std::int64_t{0}) / 2));
  }

  void leave_alone(Lease& lease) noexcept {
    due_.remove(lease);
    ends_.remove(lease);
  }

  std::unordered_map<Ownership, Lease, OwnershipHash> held_;
  TimeHeap<Lease, &Lease::due> due_;
  TimeHeap<Lease, &Lease::end> ends_;
  std::map<std::int64_t, std::size_t> lengths_;  // how many leases are so long
  std::int64_t not_before_ = 0;                  // after renewals without an answer
};

}  // namespace detail::redis
IDEM_END_NAMESPACE
