// One shard of the memory store: a hash table that is changed under a lock and read without one.
#pragma once

#include <idem/detail/bytes.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/memory_entry.hpp>
#include <idem/detail/memory_reclaim.hpp>
#include <idem/duration.hpp>
#include <idem/key.hpp>
#include <idem/protocol.hpp>

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <mutex>
#include <new>

IDEM_BEGIN_NAMESPACE
namespace detail {

/// Hash and entry are separate words: a reader may see an older hash beside a newer entry. It decides nothing by the
/// hash but whether to look at the entry's key, and may miss an entry at worst.
struct MemorySlot {
  std::atomic<std::uint32_t> hash{0};
  std::atomic<MemoryEntry*> entry{nullptr};
};

/// A slot whose entry was unlinked, inside a run of used ones.
inline MemoryEntry* memory_tombstone() noexcept {
  return reinterpret_cast<MemoryEntry*>(std::uintptr_t{1});
}
inline bool holds_entry(const MemoryEntry* entry) noexcept {
  return entry != nullptr && entry != memory_tombstone();
}

/// Slots, a power of two of them, probed one after the other. Never all in use, so that each search ends.
///
/// Behind the slots stands a byte for each of them, whose bits say which entries are searched for from there: the upper
/// bits of their hashes choose the bit. It answers nearly every search for a key that isn't there, and is small enough
/// to stay in the processor's cache where the slots don't: the first call with a key needs no slot before it writes
/// one. A reader without the lock that sees an older byte misses the entry.
struct MemoryTable : Retirable {
  static constexpr std::size_t smallest = 8;

  using Homes = std::atomic<std::uint8_t>;

  std::size_t mask = 0;

  /// Null where there is no memory.
  static MemoryTable* make(std::size_t capacity) noexcept {
    if (capacity > (std::numeric_limits<std::size_t>::max)() / sizeof(MemorySlot) / 4) return nullptr;
    void* memory = ::operator new(header_size() + capacity * (sizeof(MemorySlot) + sizeof(Homes)), std::nothrow);
    if (memory == nullptr) return nullptr;
    auto* table = ::new (memory) MemoryTable;
    table->discard = &MemoryTable::free;
    table->mask = capacity - 1;
    for (std::size_t i = 0; i < capacity; ++i) ::new (static_cast<void*>(table->slots() + i)) MemorySlot;
    for (std::size_t i = 0; i < capacity; ++i) ::new (static_cast<void*>(table->homes() + i)) Homes{0};
    return table;
  }

  MemorySlot* slots() noexcept {
    return reinterpret_cast<MemorySlot*>(reinterpret_cast<unsigned char*>(this) + header_size());
  }
  std::size_t capacity() const noexcept { return mask + 1; }

  /// Where the search for a hash begins.
  std::size_t home(std::uint32_t hash) const noexcept { return hash & mask; }
  /// False where no entry has this hash. True says nothing.
  bool may_hold(std::uint32_t hash) noexcept {
    return (homes()[home(hash)].load(std::memory_order_relaxed) & home_bit(hash)) != 0;
  }
  /// Under the lock, before the entry is put into its slot.
  void add_home(std::uint32_t hash) noexcept {
    Homes& bits = homes()[home(hash)];
    bits.store(static_cast<std::uint8_t>(bits.load(std::memory_order_relaxed) | home_bit(hash)),
               std::memory_order_relaxed);
  }
  /// Under the lock, after an entry with this hash was taken out of its slot.
  void count_homes_again(std::uint32_t hash) noexcept {
    unsigned bits = 0;
    for (std::size_t i = home(hash);; i = (i + 1) & mask) {
      const MemoryEntry* const entry = slots()[i].entry.load(std::memory_order_relaxed);
      if (entry == nullptr) break;
      const std::uint32_t other = slots()[i].hash.load(std::memory_order_relaxed);
      if (holds_entry(entry) && home(other) == home(hash)) bits |= home_bit(other);
    }
    homes()[home(hash)].store(static_cast<std::uint8_t>(bits), std::memory_order_relaxed);
  }

  static void free(Retirable* table) noexcept { ::operator delete(static_cast<MemoryTable*>(table)); }

 private:
  Homes* homes() noexcept { return reinterpret_cast<Homes*>(slots() + capacity()); }
  static unsigned home_bit(std::uint32_t hash) noexcept { return 1u << (hash >> 29); }

  // A multiple of a slot's size, so that no slot lies across two cache lines where memory is aligned to 16.
  static constexpr std::size_t header_size() noexcept {
    return (sizeof(Retirable) + sizeof(std::size_t) + sizeof(MemorySlot) - 1) / sizeof(MemorySlot) * sizeof(MemorySlot);
  }
};

/// Thread safety: everything but `read` under `mutex`.
struct alignas(64) MemoryShard {
  /// Alone on its cache line, which writers then leave in the readers' caches.
  std::atomic<MemoryTable*> table{nullptr};

  alignas(64) std::mutex mutex;
  std::size_t entries = 0;
  std::size_t tombstones = 0;
  /// The highest epoch given out here. A key always comes to the same shard, so that its epochs grow although nothing
  /// is left of it once it is erased.
  std::uint64_t last_epoch = 0;
  /// Entries that may be made before more must be asked for.
  std::size_t allowance = 0;
  /// No record here expires before this.
  TimePoint next_expiry = (TimePoint::max)();
  Reclaimer reclaimer;

  MemoryShard() noexcept = default;
  MemoryShard(const MemoryShard&) = delete;
  MemoryShard& operator=(const MemoryShard&) = delete;
  /// Takes no lock: nobody else may be there, and in a child process the lock may be held by a thread that isn't.
  ~MemoryShard() {
    MemoryTable* const last = table.load(std::memory_order_relaxed);
    if (last != nullptr) {
      for (std::size_t i = 0; i < last->capacity(); ++i) {
        MemoryEntry* const entry = last->slots()[i].entry.load(std::memory_order_relaxed);
        if (holds_entry(entry)) MemoryEntry::free(entry);
      }
      MemoryTable::free(last);
    }
    while (domains_ != nullptr) {
      DomainUse* const use = domains_;
      domains_ = use->next;
      delete use;
    }
  }

  struct Found {
    MemorySlot* slot = nullptr;
    MemoryEntry* entry = nullptr;
  };

  /// The entry of a key, for a caller that is a reader or holds the lock. Without the lock an entry may be missed.
  Found find(std::uint32_t hash, const Bytes& key) const noexcept {
    MemoryTable* const current = table.load(std::memory_order_seq_cst);
    if (current == nullptr) return {};
    MemorySlot* const slots = current->slots();
    std::size_t i = current->home(hash);
    if (!current->may_hold(hash)) {
      // A claim may follow, and put an entry here.
      prefetch(slots + i);
      return {};
    }
    for (;; i = (i + 1) & current->mask) {
      // See memory_reclaim.hpp for the order of these loads among readers and writers.
      MemoryEntry* const entry = slots[i].entry.load(std::memory_order_seq_cst);
      if (entry == nullptr) return {};
      if (slots[i].hash.load(std::memory_order_relaxed) != hash || entry == memory_tombstone()) continue;
      if (entry->has_key(key)) return {slots + i, entry};
    }
  }

  /// Makes sure that one more entry has a place. False where there is no memory; nothing has changed then.
  bool make_place() noexcept {
    MemoryTable* const old = table.load(std::memory_order_relaxed);
    if (old != nullptr && (entries + tombstones + 1) * 4 <= old->capacity() * 3) return true;
    const std::size_t wanted = std::bit_ceil((entries + 1) * 2);
    MemoryTable* const made = MemoryTable::make(wanted < MemoryTable::smallest ? MemoryTable::smallest : wanted);
    if (made == nullptr) return false;
    if (old != nullptr) {
      for (std::size_t i = 0; i < old->capacity(); ++i) {
        MemoryEntry* const entry = old->slots()[i].entry.load(std::memory_order_relaxed);
        if (!holds_entry(entry)) continue;
        place(*made, old->slots()[i].hash.load(std::memory_order_relaxed), entry);
      }
    }
    tombstones = 0;
    // Readers of the old table may go on using it.
    table.store(made, std::memory_order_seq_cst);
    if (old != nullptr) reclaimer.retire(old, true);
    begin_pass();
    return true;
  }

  /// REQUIRES: the key has no entry, and make_place() said true.
  void link(std::uint32_t hash, MemoryEntry* entry) noexcept {
    if (place(*table.load(std::memory_order_relaxed), hash, entry)) --tombstones;
    ++entries;
  }

  /// Puts an entry in the place of another one of the same key.
  void replace(const Found& found, MemoryEntry* entry) noexcept {
    found.slot->entry.store(entry, std::memory_order_seq_cst);
    retire(found.entry);
  }

  /// Takes an entry out of the table and retires it.
  void unlink(const Found& found) noexcept {
    MemoryTable& current = *table.load(std::memory_order_relaxed);
    MemorySlot* const slots = current.slots();
    const std::uint32_t hash = found.slot->hash.load(std::memory_order_relaxed);
    std::size_t i = static_cast<std::size_t>(found.slot - slots);
    if (slots[(i + 1) & current.mask].entry.load(std::memory_order_relaxed) != nullptr) {
      found.slot->entry.store(memory_tombstone(), std::memory_order_seq_cst);
      ++tombstones;
    } else {
      found.slot->entry.store(nullptr, std::memory_order_seq_cst);
      // At the end of a run of used slots tombstones serve nobody any more.
      for (i = (i - 1) & current.mask; slots[i].entry.load(std::memory_order_relaxed) == memory_tombstone();
           i = (i - 1) & current.mask) {
        slots[i].entry.store(nullptr, std::memory_order_relaxed);
        --tombstones;
      }
    }
    current.count_homes_again(hash);
    --entries;
    ++allowance;
    retire(found.entry);
  }

  /// Lets an entry be read without the lock from now on.
  void publish(MemoryEntry& entry) noexcept {
    if (entry.record.expires_at < next_expiry) next_expiry = entry.record.expires_at;
    if (entry.record.expires_at < pass_expiry_) pass_expiry_ = entry.record.expires_at;
    entry.published.store(true, std::memory_order_release);
  }

  /// Calls `each(found)` for every entry; it may unlink that one.
  template <class Each>
  void visit(Each&& each) {
    MemoryTable* const current = table.load(std::memory_order_relaxed);
    if (current == nullptr) return;
    for (std::size_t i = 0; i < current->capacity(); ++i) {
      MemorySlot* const slot = current->slots() + i;
      MemoryEntry* const entry = slot->entry.load(std::memory_order_relaxed);
      if (holds_entry(entry)) each(Found{slot, entry});
    }
  }

  /// Looks at the next few slots and unlinks what has expired; costs nothing as long as nothing can have. A new record
  /// for every four slots keeps up with any stream of records, since a table has less than four slots to a record.
  /// Whether it looked.
  bool sweep_some(TimePoint now) noexcept {
    if (now < next_expiry) return false;
    sweep(4, now);
    return true;
  }
  void sweep_all(TimePoint now) noexcept {
    if (now < next_expiry) return;
    begin_pass();
    if (MemoryTable* const current = table.load(std::memory_order_relaxed)) sweep(current->capacity(), now);
  }

  /// Refers an entry to its key's domain. False where there is no memory.
  bool use_domain(MemoryEntry& entry, const DomainRef& domain) noexcept {
    // A few are looked at. Where there are many, one more for the same domain does no harm.
    DomainUse* use = domains_;
    for (int i = 0; use != nullptr && use->domain.operator->() != domain.operator->(); ++i) {
      use = i < 3 ? use->next : nullptr;
    }
    if (use == nullptr) {
      use = ::new (std::nothrow) DomainUse(domain);
      if (use == nullptr) return false;
      to_front(*use);
    } else if (use != domains_) {
      take_out(*use);
      to_front(*use);
    }
    ++use->entries;
    entry.domain = use;
    return true;
  }
  /// Takes back a use_domain() of which no reader can have heard.
  void undo_domain(MemoryEntry& entry) noexcept {
    if (--entry.domain->entries != 0) return;
    take_out(*entry.domain);
    DomainUse::free(entry.domain);
  }
  void disuse_domain(MemoryEntry& entry) noexcept {
    if (--entry.domain->entries != 0) return;
    take_out(*entry.domain);
    reclaimer.retire(entry.domain, false);
  }

 private:
  // Whether a tombstone gave its place.
  static bool place(MemoryTable& where, std::uint32_t hash, MemoryEntry* entry) noexcept {
    MemorySlot* const slots = where.slots();
    where.add_home(hash);
    std::size_t i = where.home(hash);
    while (holds_entry(slots[i].entry.load(std::memory_order_relaxed))) i = (i + 1) & where.mask;
    const bool tombstone = slots[i].entry.load(std::memory_order_relaxed) != nullptr;
    slots[i].hash.store(hash, std::memory_order_relaxed);
    slots[i].entry.store(entry, std::memory_order_release);
    return tombstone;
  }

  void retire(MemoryEntry* entry) noexcept {
    entry->wake_waiters();
    entry->linked = false;
    disuse_domain(*entry);
    // What has a block of its own may be large, or be waited for by its owner.
    reclaimer.retire(entry, entry->has_block());
  }

  void begin_pass() noexcept {
    cursor_ = 0;
    pass_expiry_ = (TimePoint::max)();
  }

  void sweep(std::size_t slots, TimePoint now) noexcept {
    MemoryTable* const current = table.load(std::memory_order_relaxed);
    if (current == nullptr) return;
    for (; slots != 0; --slots) {
      MemorySlot* const slot = current->slots() + cursor_;
      MemoryEntry* const entry = slot->entry.load(std::memory_order_relaxed);
      if (holds_entry(entry) && entry->record.state != State::in_progress) {
        if (protocol::expired(entry->record, now)) {
          unlink({slot, entry});
        } else if (entry->record.expires_at < pass_expiry_) {
          pass_expiry_ = entry->record.expires_at;
        }
      }
      if (++cursor_ == current->capacity()) {
        // Every slot has been looked at since the pass began, and publish() has told of what came meanwhile.
        next_expiry = pass_expiry_;
        begin_pass();
      }
    }
  }

  void to_front(DomainUse& use) noexcept {
    use.previous = nullptr;
    use.next = domains_;
    if (domains_ != nullptr) domains_->previous = &use;
    domains_ = &use;
  }
  void take_out(DomainUse& use) noexcept {
    if (use.next != nullptr) use.next->previous = use.previous;
    (use.previous != nullptr ? use.previous->next : domains_) = use.next;
  }

  DomainUse* domains_ = nullptr;
  std::size_t cursor_ = 0;                      // where the next look for expired records begins
  TimePoint pass_expiry_ = (TimePoint::max)();  // what next_expiry will be when the cursor has gone round
};

}  // namespace detail
IDEM_END_NAMESPACE
