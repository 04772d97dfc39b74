// What is to be done when: things in the order of their times, each of which may change or go at any moment.
#pragma once

#include <idem/detail/config.hpp>

#include <cstddef>
#include <cstdint>
#include <vector>

IDEM_BEGIN_NAMESPACE
namespace detail::redis {

/// A thing's place in a TimeHeap.
struct TimeSlot {
  static constexpr std::size_t none = static_cast<std::size_t>(-1);

  std::int64_t at = 0;
  std::size_t place = none;

  bool queued() const noexcept { return place != none; }
};

/// A binary heap of pointers to things that know their places in it by `Slot`. Not thread-safe.
template <class T, TimeSlot T::*Slot>
class TimeHeap {
 public:
  /// Room for so many, so that no later call throws. May throw std::bad_alloc.
  void reserve(std::size_t count) {
    if (count > heap_.capacity()) heap_.reserve(count + count / 2);
  }

  std::size_t size() const noexcept { return heap_.size(); }
  /// The earliest, or null.
  T* first() const noexcept { return heap_.empty() ? nullptr : heap_.front(); }

  /// Where it was queued, its time changes. REQUIRES: there is room.
  void put(T& thing, std::int64_t at) noexcept {
    TimeSlot& slot = thing.*Slot;
    slot.at = at;
    if (!slot.queued()) {
      slot.place = heap_.size();
      heap_.push_back(&thing);
    }
    down(up(slot.place));
  }

  /// Does nothing where it isn't queued.
  void remove(T& thing) noexcept {
    const std::size_t place = (thing.*Slot).place;
    if (place == TimeSlot::none) return;
    T* const last = heap_.back();
    heap_.pop_back();
    (thing.*Slot).place = TimeSlot::none;
    if (last == &thing) return;
    set(place, last);
    down(up(place));
  }

 private:
  std::int64_t at(std::size_t place) const noexcept { return (heap_[place]->*Slot).at; }
  void set(std::size_t place, T* thing) noexcept {
    heap_[place] = thing;
    (thing->*Slot).place = place;
  }
  void swap(std::size_t a, std::size_t b) noexcept {
    T* const thing = heap_[a];
    set(a, heap_[b]);
    set(b, thing);
  }

  /// Gives the place at which it ended.
  std::size_t up(std::size_t place) noexcept {
    while (place > 0) {
      const std::size_t parent = (place - 1) / 2;
      if (at(parent) <= at(place)) break;
      swap(place, parent);
      place = parent;
    }
    return place;
  }
  void down(std::size_t place) noexcept {
    for (;;) {
      std::size_t least = place;
      for (std::size_t child = 2 * place + 1; child <= 2 * place + 2 && child < heap_.size(); ++child) {
        if (at(child) < at(least)) least = child;
      }
      if (least == place) return;
      swap(place, least);
      place = least;
    }
  }

  std::vector<T*> heap_;
};

}  // namespace detail::redis
IDEM_END_NAMESPACE
