// The commands of a connection whose replies haven't come yet, in their order.
#pragma once

#include <idem/detail/config.hpp>

#include <cstddef>

IDEM_BEGIN_NAMESPACE
namespace detail::redis {

class Request;

/// Whom a reply is for. Null: nobody wants it any more, or it is that of a WAIT.
struct Slot {
  Request* request = nullptr;
  bool is_wait = false;
};

/// A ring of slots, each with a number that it keeps; numbers may wrap around. Between `first` and `next` are those
/// whose replies have come but that still wait for a WAIT; between `next` and `end` those that owe one. Not safe for
/// use by several threads at once.
class Outstanding {
 public:
  Outstanding() noexcept = default;
  Outstanding(const Outstanding&) = delete;
  Outstanding& operator=(const Outstanding&) = delete;
  ~Outstanding() { delete[] slots_; }

  std::size_t first() const noexcept { return first_; }
  std::size_t next() const noexcept { return next_; }
  std::size_t end() const noexcept { return end_; }
  bool owes() const noexcept { return next_ != end_; }

  /// REQUIRES: first() <= number < end().
  Slot& operator[](std::size_t number) noexcept { return slots_[number & (capacity_ - 1)]; }

  /// Makes room for that many more. Only an allocation can throw; all stays as it was.
  void reserve(std::size_t more) {
    const std::size_t used = end_ - first_;
    if (more <= capacity_ - used) return;
    std::size_t capacity = capacity_ == 0 ? 64 : capacity_ * 2;
    while (capacity - used < more) capacity *= 2;
    Slot* const slots = new Slot[capacity];
    for (std::size_t i = first_; i != end_; ++i) slots[i & (capacity - 1)] = (*this)[i];
    delete[] slots_;
    slots_ = slots;
    capacity_ = capacity;
  }

  /// REQUIRES: there is room. Returns its number.
  std::size_t push(const Slot& slot) noexcept {
    if (slot.is_wait) ++waits_;
    slots_[end_ & (capacity_ - 1)] = slot;
    return end_++;
  }

  /// The next reply has come. Forgets those that wait for nothing any more.
  void advance() noexcept {
    const bool was_wait = (*this)[next_++].is_wait;
    if (was_wait) --waits_;
    // With a WAIT all before it are answered, though the next one may be on its way already.
    if (was_wait || waits_ == 0) first_ = next_;
  }
  void clear() noexcept {
    first_ = next_ = end_;
    waits_ = 0;
  }

 private:
  Slot* slots_ = nullptr;
  std::size_t capacity_ = 0;  // zero or a power of two
  std::size_t first_ = 0;
  std::size_t next_ = 0;
  std::size_t end_ = 0;
  std::size_t waits_ = 0;  // WAITs that owe a reply
};

}  // namespace detail::redis
IDEM_END_NAMESPACE
