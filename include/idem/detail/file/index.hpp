// Where in the journal each key's last frame stands: 16 bytes for each, found by the key's digest.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/endian.hpp>
#include <idem/detail/file/reader_gate.hpp>
#include <idem/detail/sha256.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>  // nothrow: a full memory is an answer here
#include <utility>

IDEM_BEGIN_NAMESPACE
namespace detail::file {

/// What the index knows of a record without reading it. Zero is reserved.
enum class Held : std::uint8_t { running = 1, abandoned = 2, finished = 3 };

/// A frame's place. Offset zero: there is none.
struct Place {
  std::uint64_t offset = 0;
  Held held = Held::running;

  explicit operator bool() const noexcept { return offset != 0; }
};

/// One of the tables that an index consists of: open addressing with linear probing (Knuth, The Art of Computer
/// Programming 3, 6.4, algorithms L and R), of two words for each record: the first eight bytes of the key's digest,
/// and the place. Whether a place is that of the whole digest is seen in the journal, by the caller's `same(offset)`.
///
/// Thread safety: one thread at a time changes it. Others may `find` meanwhile, in the index's gate, by which memory is
/// only given up, and entries moved, while nobody is in there. They find what is there or, where it's just being put
/// in, what was there before.
class IndexTable {
 public:
  IndexTable() noexcept = default;
  IndexTable(const IndexTable&) = delete;
  IndexTable& operator=(const IndexTable&) = delete;
  ~IndexTable() { delete[] slots_; }

  std::size_t size() const noexcept { return size_; }

  template <class Same>
  Place find(std::uint64_t tag, Same same) const noexcept {
    if (capacity_ == 0) return {};
    for (std::size_t at = home(tag);; at = next(at)) {
      // In this order: who puts a new one in writes its place last.
      const std::uint64_t where = slots_[at].where.load(std::memory_order_acquire);
      if (where == 0) return {};
      if (slots_[at].tag.load(std::memory_order_relaxed) == tag && same(offset_of(where))) return place_of(where);
    }
  }

  /// Makes sure that the next `put` of a new key finds room. False where there is no memory.
  bool reserve(ReaderGate* gate = nullptr) noexcept {
    // At 3/4 a search that fails looks at 8.5 slots that lie beside each other. A record takes 43 bytes just after
    // growing, and 21 just before.
    if (size_ + 1 <= capacity_ - capacity_ / 4) return true;
    return grow(capacity_ == 0 ? 16 : capacity_ * 2, gate);
  }

  /// REQUIRES: reserve() said true since the last put of a new key. Gives the place that was there before.
  template <class Same>
  Place put(std::uint64_t tag, Place place, Same same) noexcept {
    std::size_t at = home(tag);
    for (; where(at) != 0; at = next(at)) {
      if (this->tag(at) != tag || !same(offset_of(where(at)))) continue;
      const Place before = place_of(where(at));
      slots_[at].where.store(pack(place), std::memory_order_release);
      return before;
    }
    set(at, tag, pack(place));
    ++size_;
    return {};
  }

  /// Gives the place that was there.
  template <class Same>
  Place remove(std::uint64_t tag, Same same, ReaderGate* gate = nullptr) noexcept {
    if (capacity_ == 0) return {};
    std::size_t at = home(tag);
    for (;; at = next(at)) {
      if (where(at) == 0) return {};
      if (this->tag(at) == tag && same(offset_of(where(at)))) break;
    }
    const Place removed = place_of(where(at));
    if (gate == nullptr) {
      fill_gap(at);
    } else {
      const ReaderGate::Closed closed(*gate);
      fill_gap(at);
    }
    --size_;
    return removed;
  }

  std::size_t capacity() const noexcept { return capacity_; }
  /// The place in a slot, if that isn't free. REQUIRES: slot < capacity().
  Place place_at(std::size_t slot) const noexcept { return place_of(where(slot)); }

  /// Calls `each(Place)` for all, in no order.
  template <class Each>
  void for_each(Each each) const {
    for (std::size_t at = 0; at < capacity_; ++at) {
      if (where(at) != 0) each(place_of(where(at)));
    }
  }

  void clear() noexcept {
    delete[] slots_;
    slots_ = nullptr;
    capacity_ = 0;
    size_ = 0;
  }

  /// REQUIRES: nobody reads either.
  void swap(IndexTable& other) noexcept {
    std::swap(slots_, other.slots_);
    std::swap(capacity_, other.capacity_);
    std::swap(size_, other.size_);
  }

 private:
  struct Slot {
    std::atomic<std::uint64_t> tag;
    std::atomic<std::uint64_t> where;  // the offset, below the two highest bits, which say what is held; zero: free
  };

  static std::uint64_t pack(Place place) noexcept {
    return place.offset | std::uint64_t{static_cast<std::uint8_t>(place.held)} << 62;
  }
  static std::uint64_t offset_of(std::uint64_t where) noexcept { return where & ((std::uint64_t{1} << 62) - 1); }
  static Place place_of(std::uint64_t where) noexcept { return {offset_of(where), static_cast<Held>(where >> 62)}; }

  std::size_t home(std::uint64_t tag) const noexcept {
    const std::uint64_t low = tag & (capacity_ - 1);
    return static_cast<std::size_t>(low);
  }
  std::size_t next(std::size_t at) const noexcept { return (at + 1) & (capacity_ - 1); }

  // For whoever changes the table, who sees all that was written to it.
  std::uint64_t tag(std::size_t at) const noexcept { return slots_[at].tag.load(std::memory_order_relaxed); }
  std::uint64_t where(std::size_t at) const noexcept { return slots_[at].where.load(std::memory_order_relaxed); }
  void set(std::size_t at, std::uint64_t tag, std::uint64_t where) noexcept {
    slots_[at].tag.store(tag, std::memory_order_relaxed);
    slots_[at].where.store(where, std::memory_order_release);
  }

  /// Whatever was pushed on past the gap moves back into it, so that a search never meets a gap too early.
  void fill_gap(std::size_t at) noexcept {
    for (std::size_t from = next(at); where(from) != 0; from = next(from)) {
      const std::size_t distance = (from - home(tag(from))) & (capacity_ - 1);
      if (distance < ((from - at) & (capacity_ - 1))) continue;
      set(at, tag(from), where(from));
      at = from;
    }
    set(at, 0, 0);
  }

  bool grow(std::size_t capacity, ReaderGate* gate) noexcept {
    IndexTable larger;
    larger.slots_ = new (std::nothrow) Slot[capacity]();
    if (larger.slots_ == nullptr) return false;
    larger.capacity_ = capacity;
    larger.size_ = size_;
    for (std::size_t from = 0; from < capacity_; ++from) {
      if (where(from) == 0) continue;
      std::size_t at = larger.home(tag(from));
      while (larger.where(at) != 0) at = larger.next(at);
      larger.set(at, tag(from), where(from));
    }
    if (gate == nullptr) {
      swap(larger);
    } else {
      const ReaderGate::Closed closed(*gate);
      swap(larger);
    }
    return true;
  }

  Slot* slots_ = nullptr;
  std::size_t capacity_ = 0;
  std::size_t size_ = 0;
};

/// The tables, chosen by another byte of the digest, so that only one of them at a time has to be moved when they grow.
struct FileIndex {
  static constexpr std::size_t table_count = 32;

  IndexTable tables[table_count];
  ReaderGate gate;  // held by who reads while others may change something

  static std::uint64_t tag_of(const std::uint8_t* digest) noexcept { return load_le64(digest); }
  IndexTable& table_of(const std::uint8_t* digest) noexcept { return tables[digest[8] % table_count]; }

  /// REQUIRES: nobody changes it meanwhile.
  std::size_t size() const noexcept {
    std::size_t sum = 0;
    for (const IndexTable& table : tables) sum += table.size();
    return sum;
  }

  /// Of all tables together. REQUIRES: nobody changes it meanwhile.
  std::uint64_t capacity() const noexcept {
    std::uint64_t sum = 0;
    for (const IndexTable& table : tables) sum += table.capacity();
    return sum;
  }

  /// The place in a slot of all tables together, if that isn't free. REQUIRES: slot < capacity().
  Place place_at(std::uint64_t slot) const noexcept {
    std::uint64_t before = 0;
    for (const IndexTable& table : tables) {
      const std::uint64_t here = slot - before;
      if (here < table.capacity()) return table.place_at(static_cast<std::size_t>(here));
      before += table.capacity();
    }
    return {};
  }
};

}  // namespace detail::file
IDEM_END_NAMESPACE
