// How the memory store frees what readers without locks may still be looking at.
//
// A reader counts itself in before it loads the first pointer and out after the last use. A writer first unlinks an
// object, so that no pointer in the store leads to it any more, and frees it once it has seen every count at zero at
// least once since.
//
// Why that suffices. Four operations are sequentially consistent, so that all threads agree on one order of them:
// the reader's counting in (R1), its load of a pointer (R2), the writer's store that unlinks (W1) and its look at the
// count (W2). Each side goes in program order: R1 before R2, W1 before W2. Say that W2 found zero.
//  - Where R1 comes after W2 in that order, R2 comes after W1 and loads what W1 stored, or something newer: the reader
//    never gets to the object.
//  - Where R1 comes before W2, the zero means that W2 saw this reader's counting out, or a later change of the count.
//    All changes are read-modify-writes and counting out is a release, so that whatever the reader did with the object
//    has happened before W2, and before the freeing.
// A reader that got to the object on a path of several pointers (a table, then a slot; an entry, then its domain, which
// is unlinked after the last of its entries) counted itself in before the first; whatever is unlinked while it is on
// its way was unlinked after R1 of that reader, who is thus waited for. It makes no difference that the counts reach
// zero at different moments.
#pragma once

#include <idem/detail/cancellation.hpp>
#include <idem/detail/config.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>

IDEM_BEGIN_NAMESPACE
namespace detail {

/// Which count a thread uses. Threads that share one are right, only slower.
inline unsigned reader_stripe() noexcept {
  static constinit std::atomic<unsigned> threads{0};
  static constinit thread_local unsigned stripe = 0;
  if (stripe == 0) [[unlikely]]
    stripe = threads.fetch_add(1, std::memory_order_relaxed) | 0x80000000u;
  return stripe;
}

/// Counts readers, on separate cache lines, so that readers on different processors don't disturb each other. Belongs
/// to one store rather than to the program, since two shared libraries may share a store but not their inline
/// variables.
class Readers {
 public:
  static constexpr unsigned stripes = 32;
  using Mask = std::uint32_t;
  using Count = std::atomic<std::uint32_t>;

  /// Counts the caller in. What is returned is for `leave`, from any thread.
  Count& enter() noexcept {
    Count& count = stripes_[reader_stripe() % stripes].readers;
    count.fetch_add(1, std::memory_order_seq_cst);
    return count;
  }
  static void leave(Count& count) noexcept { count.fetch_sub(1, std::memory_order_release); }

  /// Those of `mask` that haven't been seen at zero this time either.
  Mask still_reading(Mask mask) const noexcept {
    Mask left = mask;
    for (unsigned i = 0; i < stripes; ++i) {
      const Mask bit = Mask{1} << i;
      if ((left & bit) != 0 && stripes_[i].readers.load(std::memory_order_seq_cst) == 0) left &= ~bit;
    }
    return left;
  }

 private:
  struct alignas(64) Stripe {
    Count readers{0};
  };
  Stripe stripes_[stripes];
};

/// A reader for as long as this lives. Readers may nest.
class Reading {
 public:
  explicit Reading(Readers& readers) noexcept : count_(&readers.enter()) {}
  Reading(const Reading&) = delete;
  Reading& operator=(const Reading&) = delete;
  ~Reading() {
    if (count_ != nullptr) Readers::leave(*count_);
  }
  /// Leaves it to the caller to count out.
  Readers::Count& keep() noexcept {
    Readers::Count& count = *count_;
    count_ = nullptr;
    return count;
  }

 private:
  Readers::Count* count_;
};

/// What has been unlinked: the base of everything that readers may be looking at.
struct Retirable {
  Retirable* next_retired = nullptr;
  void (*discard)(Retirable*) noexcept = nullptr;
};

/// Retired objects, of which the list is the owner. Freeing runs code of the user, so that it must not happen under a
/// lock: a list for what is to be freed is declared before the lock is taken.
class RetiredList {
 public:
  RetiredList() noexcept = default;
  RetiredList(const RetiredList&) = delete;
  RetiredList& operator=(const RetiredList&) = delete;
  ~RetiredList() { free_all(); }

  void add(Retirable* object) noexcept {
    object->next_retired = first_;
    if (first_ == nullptr) last_ = object;
    first_ = object;
    ++size_;
  }
  /// Moves everything from `other` to this.
  void take(RetiredList& other) noexcept {
    if (other.first_ == nullptr) return;
    other.last_->next_retired = first_;
    if (first_ == nullptr) last_ = other.last_;
    first_ = other.first_;
    size_ += other.size_;
    other.first_ = nullptr;
    other.size_ = 0;
  }
  void free_all() noexcept {
    if (first_ == nullptr) return;
    const NoCancellation shield;  // the user's destructors may have cancellation points
    while (first_ != nullptr) {
      Retirable* const object = first_;
      first_ = object->next_retired;
      object->discard(object);
    }
    size_ = 0;
  }
  bool empty() const noexcept { return first_ == nullptr; }
  std::size_t size() const noexcept { return size_; }

 private:
  Retirable* first_ = nullptr;
  Retirable* last_ = nullptr;
  std::size_t size_ = 0;
};

/// What one shard has unlinked and not yet freed. Used under the shard's lock.
class Reclaimer {
 public:
  /// A look at all counts is worth its price for so many objects.
  static constexpr std::size_t batch = 32;

  void retire(Retirable* object, bool urgent) noexcept {
    fresh_.add(object);
    if (urgent) urgent_ = true;
  }

  /// Moves to `free` what nobody can be looking at. Does so only now and then unless something urgent waits.
  void collect(const Readers& readers, RetiredList& free) noexcept {
    if (fresh_.size() < batch && !urgent_) return;
    // Two rounds: what is waiting may become free and make room for what is fresh.
    for (int round = 0; round < 2; ++round) {
      if (waiting_.empty()) {
        if (fresh_.empty()) break;
        waiting_.take(fresh_);
        not_seen_at_zero_ = ~Readers::Mask{0};
      }
      not_seen_at_zero_ = readers.still_reading(not_seen_at_zero_);
      if (not_seen_at_zero_ != 0) return;
      free.take(waiting_);
    }
    urgent_ = false;
  }

  /// The same, now.
  void collect_now(const Readers& readers, RetiredList& free) noexcept {
    urgent_ = true;
    collect(readers, free);
  }

 private:
  RetiredList fresh_;    // unlinked since `waiting_` began to wait
  RetiredList waiting_;  // free once every count has been seen at zero
  Readers::Mask not_seen_at_zero_ = 0;
  bool urgent_ = false;
};

}  // namespace detail
IDEM_END_NAMESPACE
