// Keeps what readers look at in place, without a word that all of them write to.
#pragma once

#include <idem/detail/config.hpp>

#include <cstddef>
#include <cstdint>
#include <mutex>

IDEM_BEGIN_NAMESPACE
namespace detail::file {

/// A lock for many readers: each takes one of several mutexes, usually its thread's alone, so that readers on different
/// processors don't take a cache line from each other; who is about to move or free what they look at takes all.
/// (Brandenburg and Anderson call such a lock a big-reader lock.)
///
/// Thread safety: any thread. A thread that reads mustn't `close`, nor read once more.
class ReaderGate {
 public:
  ReaderGate() = default;
  ReaderGate(const ReaderGate&) = delete;
  ReaderGate& operator=(const ReaderGate&) = delete;

  /// A reader, for as long as it lives.
  class Reading {
   public:
    explicit Reading(ReaderGate& gate) : lock_(gate.mine()) {}

   private:
    std::lock_guard<std::mutex> lock_;
  };

  /// Nobody reads, for as long as it lives.
  class Closed {
   public:
    explicit Closed(ReaderGate& gate) noexcept : gate_(gate) {
      for (Place& place : gate_.places_) place.mutex.lock();
    }
    ~Closed() {
      for (Place& place : gate_.places_) place.mutex.unlock();
    }
    Closed(const Closed&) = delete;
    Closed& operator=(const Closed&) = delete;

   private:
    ReaderGate& gate_;
  };

 private:
  static constexpr unsigned bits = 4;

  struct alignas(64) Place {
    std::mutex mutex;
  };

  /// Threads have stacks of their own, far from each other. Two that meet all the same wait a moment, no more.
  std::mutex& mine() noexcept {
    const char here = 0;
    const std::uint64_t stack = reinterpret_cast<std::uintptr_t>(&here) >> 16;
    const std::uint64_t mixed = stack * 0x9e3779b97f4a7c15u >> (64 - bits);
    return places_[static_cast<std::size_t>(mixed)].mutex;
  }

  Place places_[std::size_t{1} << bits];
};

}  // namespace detail::file
IDEM_END_NAMESPACE
