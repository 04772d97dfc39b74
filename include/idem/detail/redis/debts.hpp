// What a store has still to be told of claims that are over, for as long as it can't be reached.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/redis/digest_hash.hpp>
#include <idem/detail/redis/errands.hpp>
#include <idem/detail/redis/time_heap.hpp>
#include <idem/detail/sha256.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <unordered_map>

IDEM_BEGIN_NAMESPACE
namespace detail::redis {

/// What is owed and when it's tried again, apart from threads and the clock. Times are those of boot_micros().
///
/// Thread safety: none, but for `none()`.
class Debts {
 public:
  struct Debt {
    Owed owed = {};
    std::int64_t pause = shortest_pause;
    bool paid = false;  ///< It's only said once more.
    TimeSlot due = {};
  };

  /// False where there is no memory, and then nothing is owed.
  bool add(const Owed& owed, std::int64_t now) noexcept {
    IDEM_TRY {
      due_.reserve(all_.size() + 1);
      Debt& debt = all_.emplace(owed.key, Debt{owed})->second;
      due_.put(debt, now);
    }
    IDEM_CATCH_ALL {
      return false;
    }
    unpaid_.fetch_add(1);
    return true;
  }

  /// From any thread. Whoever has added one is sure to see it.
  bool none() const noexcept { return unpaid_.load() == 0; }
  std::size_t unpaid() const noexcept { return unpaid_.load(); }

  bool owes(const Digest& key) const noexcept {
    const auto [first, last] = all_.equal_range(key);
    return std::any_of(first, last, [](const auto& entry) { return !entry.second.paid; });
  }

  /// When the next one is to be tried.
  std::int64_t next() const noexcept {
    if (due_.first() == nullptr) return (std::numeric_limits<std::int64_t>::max)();
    return (std::max)(due_.first()->due.at, not_before_);
  }
  /// The one that is to be tried first, or null. It stays where it is until `tried`.
  Debt* first() const noexcept { return due_.first(); }

  /// Whether the store answered. What can't be told by a claim's epoch, since its answer was lost, is told twice: the
  /// claim itself may still be on its way.
  void tried(Debt& debt, bool answered, std::int64_t now) noexcept {
    if (!answered) {
      due_.put(debt, now + debt.pause);
      debt.pause = (std::min)(debt.pause * 2, longest_pause);
      // Many that fail fast are no reason to be busy.
      not_before_ = now + shortest_pause;
      return;
    }
    if (!debt.paid) unpaid_.fetch_sub(1);
    if (!debt.paid && debt.owed.owner.epoch == 0) {
      debt.paid = true;
      debt.pause = shortest_pause;
      due_.put(debt, now + repeated_after);
      return;
    }
    due_.remove(debt);
    const auto [first, last] = all_.equal_range(debt.owed.key);
    all_.erase(std::find_if(first, last, [&](const auto& entry) { return &entry.second == &debt; }));
  }

  /// Gives it up, paid or not.
  void drop(Debt& debt, std::int64_t now) noexcept {
    if (!debt.paid) unpaid_.fetch_sub(1);
    debt.paid = true;
    tried(debt, true, now);
  }

 private:
  static constexpr std::int64_t shortest_pause = 20'000;
  static constexpr std::int64_t longest_pause = 1'000'000;
  static constexpr std::int64_t repeated_after = 1'000'000;

  std::unordered_multimap<Digest, Debt, DigestHash> all_;
  TimeHeap<Debt, &Debt::due> due_;
  std::int64_t not_before_ = 0;  // after one that wasn't answered
  std::atomic<std::size_t> unpaid_{0};
};

}  // namespace detail::redis
IDEM_END_NAMESPACE
