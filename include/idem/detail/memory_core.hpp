// What a memory store consists of: shards, the counts of readers, a clock, and the bound on the number of records.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/memory_hash.hpp>
#include <idem/detail/memory_reclaim.hpp>
#include <idem/detail/memory_table.hpp>
#include <idem/detail/process.hpp>
#include <idem/detail/store_clock.hpp>
#include <idem/event.hpp>
#include <idem/key.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <utility>

IDEM_BEGIN_NAMESPACE
namespace detail {

class MemoryCore {
 public:
  // make_room locks them all, which ThreadSanitizer follows up to 64 locks.
  static constexpr unsigned shard_bits = 5;
  static constexpr std::size_t shard_count = std::size_t{1} << shard_bits;

  MemoryCore(std::size_t most, Clock injected, EventHandler handler)
      : clock(std::move(injected)),
        on_event(std::move(handler)),
        max_entries(most),
        generation(ask_generation()),
        chunk_(most / (4 * shard_count) < 1    ? 1
               : most / (4 * shard_count) > 64 ? 64
                                               : most / (4 * shard_count)),
        unreserved_(most) {}

  std::uint64_t hash_of(const Key& key) const noexcept { return hash_(key.bytes().data(), key.bytes().size()); }
  /// By other bits than those by which a table's slot is found.
  MemoryShard& shard_of(std::uint64_t hash) noexcept { return shards[hash >> (64 - shard_bits)]; }

  /// Takes the right to one more entry. Shards reserve some at a time, so that claims don't all write to one number.
  /// Under the shard's lock.
  bool admit(MemoryShard& shard) noexcept {
    if (shard.allowance == 0) {
      std::size_t left = unreserved_.load(std::memory_order_relaxed);
      std::size_t some = 0;
      do {
        some = left < chunk_ ? left : chunk_;
        if (some == 0) return false;
      } while (!unreserved_.compare_exchange_weak(left, left - some, std::memory_order_relaxed));
      shard.allowance = some;
    }
    --shard.allowance;
    return true;
  }
  /// After entries were unlinked. Under the shard's lock.
  void settle(MemoryShard& shard) noexcept {
    if (shard.allowance > 2 * chunk_) give_back(shard, shard.allowance - chunk_);
  }

  /// For a claim that found no room: looks through the shards, beginning with its own, until one had something to spare
  /// or something expired. False where there is none, at a moment at which all of them were looked at.
  bool make_room(std::uint64_t hash) noexcept { return find_room(hash) || gather_room(); }

  /// Whether it has random bytes to hash by; without them nothing may be stored.
  bool usable() const noexcept { return hash_.seeded(); }

  const StoreClock clock;
  const EventHandler on_event;
  const std::size_t max_entries;
  /// This process is a child of the one that made the store, and inherited locks that nobody will ever open. Asked of
  /// who made it: where a shared library has a copy of its own of the generation's variable, that counts otherwise.
  bool inherited() const noexcept { return ask_generation() != generation; }

  std::uint64_t (*const ask_generation)() noexcept = &process_generation;
  const std::uint64_t generation;
  Readers readers;
  MemoryShard shards[shard_count];

 private:
  /// Takes one lock at a time: what moves meanwhile from a shard ahead to one behind is missed.
  bool find_room(std::uint64_t hash) noexcept {
    const std::uint64_t own = hash >> (64 - shard_bits);
    for (std::size_t i = 0; i < shard_count; ++i) {
      MemoryShard& shard = shards[(own + i) % shard_count];
      RetiredList free;
      std::lock_guard lock(shard.mutex);
      shard.sweep_all(clock.now());
      if (shard.allowance == 0) continue;
      give_back(shard, shard.allowance);
      shard.reclaimer.collect(readers, free);
      return true;
    }
    return false;
  }
  /// Takes all locks, in order, so that nothing moves. Nobody who holds one of them waits for another.
  bool gather_room() noexcept {
    for (MemoryShard& shard : shards) shard.mutex.lock();
    for (MemoryShard& shard : shards) {
      if (shard.allowance != 0) give_back(shard, shard.allowance);
    }
    const bool room = unreserved_.load(std::memory_order_relaxed) != 0;
    for (MemoryShard& shard : shards) shard.mutex.unlock();
    return room;
  }
  void give_back(MemoryShard& shard, std::size_t count) noexcept {
    shard.allowance -= count;
    unreserved_.fetch_add(count, std::memory_order_relaxed);
  }

  const KeyedHash hash_;
  const std::size_t chunk_;
  std::atomic<std::size_t> unreserved_;
};

}  // namespace detail
IDEM_END_NAMESPACE
