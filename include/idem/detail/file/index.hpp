// Where in the journal each key's last frame stands: 16 bytes for each, found by the key's digest.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/endian.hpp>
#include <idem/detail/sha256.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <mutex>
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
/// Thread safety: `mutex` is the caller's to hold, for reading too.
class IndexTable {
 public:
  IndexTable() noexcept = default;
  IndexTable(const IndexTable&) = delete;
  IndexTable& operator=(const IndexTable&) = delete;
  ~IndexTable() { delete[] slots_; }

  std::mutex mutex;

  std::size_t size() const noexcept { return size_; }

  template <class Same>
  Place find(std::uint64_t tag, Same same) const noexcept {
    if (capacity_ == 0) return {};
    for (std::size_t at = home(tag); slots_[at].where != 0; at = next(at)) {
      if (slots_[at].tag == tag && same(offset_of(slots_[at].where))) return place_of(slots_[at].where);
    }
    return {};
  }

  /// Makes sure that the next `put` of a new key finds room. False where there is no memory.
  bool reserve() noexcept {
    // At 3/4 a search that fails looks at 8.5 slots that lie beside each other. A record takes 43 bytes just after
    // growing, and 21 just before.
    if (size_ + 1 <= capacity_ - capacity_ / 4) return true;
    return grow(capacity_ == 0 ? 16 : capacity_ * 2);
  }

  /// REQUIRES: reserve() said true since the last put of a new key. Gives the place that was there before.
  template <class Same>
  Place put(std::uint64_t tag, Place place, Same same) noexcept {
    std::size_t at = home(tag);
    for (; slots_[at].where != 0; at = next(at)) {
      if (slots_[at].tag != tag || !same(offset_of(slots_[at].where))) continue;
      const Place before = place_of(slots_[at].where);
      slots_[at].where = pack(place);
      return before;
    }
    slots_[at] = {tag, pack(place)};
    ++size_;
    return {};
  }

  /// Gives the place that was there.
  template <class Same>
  Place remove(std::uint64_t tag, Same same) noexcept {
    if (capacity_ == 0) return {};
    std::size_t at = home(tag);
    for (;; at = next(at)) {
      if (slots_[at].where == 0) return {};
      if (slots_[at].tag == tag && same(offset_of(slots_[at].where))) break;
    }
    const Place removed = place_of(slots_[at].where);
    // Whatever was pushed on past the gap moves back into it, so that a search never meets a gap too early.
    for (std::size_t from = next(at); slots_[from].where != 0; from = next(from)) {
      const std::size_t distance = (from - home(slots_[from].tag)) & (capacity_ - 1);
      if (distance < ((from - at) & (capacity_ - 1))) continue;
      slots_[at] = slots_[from];
      at = from;
    }
    slots_[at] = {};
    --size_;
    return removed;
  }

  /// Calls `each(Place)` for all, in no order.
  template <class Each>
  void for_each(Each each) const {
    for (std::size_t at = 0; at < capacity_; ++at) {
      if (slots_[at].where != 0) each(place_of(slots_[at].where));
    }
  }

  void clear() noexcept {
    delete[] slots_;
    slots_ = nullptr;
    capacity_ = 0;
    size_ = 0;
  }

  /// All but the locks.
  void swap(IndexTable& other) noexcept {
    std::swap(slots_, other.slots_);
    std::swap(capacity_, other.capacity_);
    std::swap(size_, other.size_);
  }

 private:
  struct Slot {
    std::uint64_t tag;
    std::uint64_t where;  // the offset, below the two highest bits, which say what is held; zero: free
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

  bool grow(std::size_t capacity) noexcept {
    Slot* slots = new (std::nothrow) Slot[capacity]();
    if (slots == nullptr) return false;
    std::swap(slots, slots_);
    std::swap(capacity, capacity_);
    for (std::size_t from = 0; from < capacity; ++from) {
      if (slots[from].where == 0) continue;
      std::size_t at = home(slots[from].tag);
      while (slots_[at].where != 0) at = next(at);
      slots_[at] = slots[from];
    }
    delete[] slots;
    return true;
  }

  Slot* slots_ = nullptr;
  std::size_t capacity_ = 0;
  std::size_t size_ = 0;
};

/// The tables, chosen by another byte of the digest, so that readers of different keys seldom meet and only one table
/// at a time has to be moved when they grow.
struct FileIndex {
  static constexpr std::size_t table_count = 32;

  IndexTable tables[table_count];

  static std::uint64_t tag_of(const std::uint8_t* digest) noexcept { return load_le64(digest); }
  IndexTable& table_of(const std::uint8_t* digest) noexcept { return tables[digest[8] % table_count]; }

  /// REQUIRES: nobody changes it meanwhile.
  std::size_t size() const noexcept {
    std::size_t sum = 0;
    for (const IndexTable& table : tables) sum += table.size();
    return sum;
  }
};

}  // namespace detail::file
IDEM_END_NAMESPACE
