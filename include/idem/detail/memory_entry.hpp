// One record of the memory store: its key, what is known, its payload and who waits for it.
#pragma once

#include <idem/detail/bytes.hpp>
#include <idem/detail/cancellation.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/memory_reclaim.hpp>
#include <idem/key.hpp>
#include <idem/payload.hpp>
#include <idem/protocol.hpp>

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <new>
#include <utility>

IDEM_BEGIN_NAMESPACE
namespace detail {

/// What keys of one domain in one shard refer to. It counts its entries under the shard's lock, so that an entry
/// doesn't have to count on the domain itself, which all threads that use a guard share. Readers without locks read the
/// prefix: it's freed as entries are, and on another cache line than what the lock protects.
struct DomainUse : Retirable {
  std::size_t entries = 0;
  DomainUse* next = nullptr;
  DomainUse* previous = nullptr;
  alignas(64) const Digest prefix;
  const DomainRef domain;

  explicit DomainUse(const DomainRef& of) noexcept : prefix(of->prefix()), domain(of) { discard = &DomainUse::free; }
  static void free(Retirable* retired) noexcept { delete static_cast<DomainUse*>(retired); }
};

struct MemoryEntry;

/// A thread that waits for a change of a running record. Lives on its stack, is linked in the entry under the shard's
/// lock, and takes itself out when the stack is unwound, by thread cancellation too.
class MemoryWaiter {
 public:
  explicit MemoryWaiter(MemoryEntry& entry) noexcept;
  MemoryWaiter(const MemoryWaiter&) = delete;
  MemoryWaiter& operator=(const MemoryWaiter&) = delete;
  ~MemoryWaiter() { unlink(); }

  bool woken() const noexcept { return link_ == nullptr; }
  /// Called under the lock until after the notification: this is gone once its thread gets the lock.
  void wake() noexcept {
    unlink();
    changed.notify_one();
  }

  std::condition_variable changed;

 private:
  void unlink() noexcept {
    if (link_ == nullptr) return;
    *link_ = next_;
    if (next_ != nullptr) next_->link_ = link_;
    link_ = nullptr;
  }

  MemoryWaiter* next_;
  MemoryWaiter** link_;  // what points to this; null once woken
};

/// A copy of what came with an outcome, made before the lock is taken, since making it runs code of the user and takes
/// memory. What fits is left where it is, to be copied into the entry under the lock.
class KeptSource {
 public:
  static constexpr std::size_t inline_size = 48;
  static constexpr std::size_t inline_alignment = 8;

  explicit KeptSource(const Source& source) : kind_(source.kind), type_(source.type) {
    if (type_ != nullptr) {
      size_ = type_->size;
      from_ = source.object;
    } else {
      size_ = source.size;
      from_ = source.data;
    }
    if (from_ == nullptr || (size_ == 0 && type_ == nullptr)) {
      type_ = nullptr;
      from_ = nullptr;
      size_ = 0;
      return;
    }
    if ((type_ == nullptr || (type_->trivial && type_->alignment <= inline_alignment)) && size_ <= inline_size) return;
    copy();
  }
  KeptSource(const KeptSource&) = delete;
  KeptSource& operator=(const KeptSource&) = delete;
  ~KeptSource() {
    if (block_ != nullptr) discard(type_, block_);
  }

  static void discard(const ObjectType* type, void* block) noexcept {
    const NoCancellation shield(type != nullptr && !type->trivial);
    if (type != nullptr) type->destroy(block);
    free_block(type, block);
  }

 private:
  friend struct MemoryEntry;

  static void free_block(const ObjectType* type, void* block) noexcept {
    if (type != nullptr && type->alignment > __STDCPP_DEFAULT_NEW_ALIGNMENT__) {
      ::operator delete (block, std::align_val_t{type->alignment});
    } else {
      ::operator delete(block);
    }
  }

  void copy() {
    const bool aligned = type_ != nullptr && type_->alignment > __STDCPP_DEFAULT_NEW_ALIGNMENT__;
    struct Memory {
      const ObjectType* type;
      void* block;
      ~Memory() {
        if (block != nullptr) free_block(type, block);
      }
    } memory{type_, aligned ? ::operator new (size_, std::align_val_t{type_->alignment}, std::nothrow)
                            : ::operator new(size_, std::nothrow)};
    if (memory.block == nullptr) return lose();
    // The effect has happened: nothing may come between it and its record, nor the end of an exception.
    const NoCancellation shield(type_ != nullptr && !type_->trivial);
    IDEM_TRY {
      if (type_ != nullptr && !type_->trivial) {
        type_->copy(memory.block, from_);
      } else {
        std::memcpy(memory.block, from_, size_);
      }
    }
    IDEM_CATCH_UNWIND
    IDEM_CATCH_ALL {
      return lose();
    }
    block_ = std::exchange(memory.block, nullptr);
  }
  void lose() noexcept {
    kind_ = PayloadKind::lost;
    type_ = nullptr;
    from_ = nullptr;
    size_ = 0;
  }

  PayloadKind kind_;
  const ObjectType* type_;
  const void* from_;
  std::size_t size_;
  void* block_ = nullptr;
};

/// A record with what its key has beyond the domain's prefix, in one piece of memory, which is kept small: a store of
/// many records is as fast as memory is. While it is in progress it changes under the shard's lock. Once
/// `published` it doesn't change any more, and readers without locks may use it until it is unlinked and they have
/// counted themselves out.
struct MemoryEntry : Retirable {
  MemoryWaiter* waiters = nullptr;
  DomainUse* domain = nullptr;       ///< Stays when the entry is unlinked.
  const ObjectType* type = nullptr;  ///< Of the object; null where that is bytes, or nothing.
  std::size_t object_size = 0;
  std::uint32_t rest_size = 0;  ///< Of the key, without the domain's prefix.
  PayloadKind kind = PayloadKind::nothing;
  enum class Place : std::uint8_t { none, room, block } place = Place::none;  ///< Of the object.
  std::atomic<bool> published{false};
  bool linked = true;
  Record record;
  union {
    alignas(KeptSource::inline_alignment) unsigned char room[KeptSource::inline_size];
    void* block;
  };

  MemoryEntry() noexcept {}

  /// Without its domain. Null where there is no memory, or the key is absurdly large.
  static MemoryEntry* make(const Bytes& key) noexcept {
    if (key.size() > (std::numeric_limits<std::uint32_t>::max)()) return nullptr;
    const std::size_t rest = key.size() - sizeof(Digest);
    void* memory = ::operator new(sizeof(MemoryEntry) + rest, std::nothrow);
    if (memory == nullptr) return nullptr;
    auto* entry = ::new (memory) MemoryEntry;
    entry->discard = &MemoryEntry::free;
    entry->rest_size = static_cast<std::uint32_t>(rest);
    std::memcpy(entry->rest(), key.data() + sizeof(Digest), rest);
    return entry;
  }

  std::uint8_t* rest() noexcept { return reinterpret_cast<std::uint8_t*>(this + 1); }
  const std::uint8_t* rest() const noexcept { return reinterpret_cast<const std::uint8_t*>(this + 1); }
  bool has_key(const Bytes& key) const noexcept {
    return rest_size + sizeof(Digest) == key.size() &&
           std::memcmp(rest(), key.data() + sizeof(Digest), rest_size) == 0 &&
           std::memcmp(domain->prefix.bytes, key.data(), sizeof(Digest)) == 0;
  }

  bool has_block() const noexcept { return place == Place::block; }
  const void* object() const noexcept { return place == Place::room ? room : place == Place::block ? block : nullptr; }

  /// Takes the payload over. Runs no code of the user.
  void keep(KeptSource& source) noexcept {
    kind = source.kind_;
    type = source.type_;
    object_size = source.size_;
    if (source.block_ != nullptr) {
      block = std::exchange(source.block_, nullptr);
      place = Place::block;
    } else if (source.from_ != nullptr) {
      std::memcpy(room, source.from_, source.size_);
      place = Place::room;
    }
  }

  /// What was kept. Valid for as long as the caller is a reader.
  Payload payload() const noexcept {
    return type != nullptr ? Payload(kind, type, object())
                           : Payload(kind, static_cast<const std::uint8_t*>(object()), object_size);
  }

  /// Every change of state, of hands, or of being there at all is told to those who wait. Under the lock.
  void wake_waiters() noexcept {
    while (waiters != nullptr) waiters->wake();
  }

  static void free(Retirable* retired) noexcept {
    auto* const entry = static_cast<MemoryEntry*>(retired);
    if (entry->has_block()) KeptSource::discard(entry->type, entry->block);
    entry->~MemoryEntry();
    ::operator delete(entry);
  }
};

inline MemoryWaiter::MemoryWaiter(MemoryEntry& entry) noexcept : next_(entry.waiters), link_(&entry.waiters) {
  if (next_ != nullptr) next_->link_ = &next_;
  entry.waiters = this;
}

}  // namespace detail
IDEM_END_NAMESPACE
