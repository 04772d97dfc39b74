// How a duplicate waits for a run of another thread or process.
#pragma once

#include <idem/detail/cancellation.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/file/attached.hpp>
#include <idem/detail/file/core.hpp>
#include <idem/detail/file/id.hpp>
#include <idem/detail/file/index.hpp>
#include <idem/detail/file/journal.hpp>
#include <idem/detail/file/owner_file.hpp>
#include <idem/detail/sha256.hpp>
#include <idem/duration.hpp>

#include <atomic>
#include <cstdint>
#include <mutex>

#include <pthread.h>  // pthread_testcancel

IDEM_BEGIN_NAMESPACE
namespace detail::file {

/// One thread's waiting for one key. The page's bell wakes it where whoever changes the record lives to ring it; that
/// an owner died nobody rings, so that one waiter of each process looks after the owners of all, every four
/// milliseconds.
class Waiting {
 public:
  Waiting(Attached& here, const Digest& key) noexcept : here_(here), waiter_{key, {}, nullptr} {}
  ~Waiting() {
    if (entered_) here_.waiters.leave(waiter_, here_.core.page);
  }
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;

  /// Returns once the record may have changed from a running one with this epoch, at the deadline by the store's clock,
  /// or where the store can't be read. A cancellation point.
  void until(std::uint64_t epoch, TimePoint deadline) {
    FileCore& core = here_.core;
    if (!core.opened.load(std::memory_order_acquire) && !refresh()) return;
    for (;;) {
      // The ticket comes before the look: whatever happens after the look makes it another one.
      const std::uint32_t ticket = core.page.ticket(waiter_.key);
      if (!runs(epoch)) return;
      const TimePoint now = core.clock.now();
      if (deadline <= now) return;
      if (!entered_) here_.waiters.enter(waiter_);
      entered_ = true;
      const bool watches = here_.waiters.watches(waiter_);
      std::int64_t pause = core.clock.injected() ? injected_pause : watches ? watch_pause : longest_pause;
      if (deadline != (TimePoint::max)() && std::int64_t{(deadline - now).count()} < pause) {
        pause = std::int64_t{(deadline - now).count()};
      }
      core.page.sleep(waiter_.key, ticket, pause);
      if (watches) here_.waiters.watch(core.directory.get(), core.page);
      ::pthread_testcancel();
    }
  }

 private:
  // Microseconds. A clock of the user's wakes nobody, so that it is asked again and again; a bell that was never rung,
  // since whoever was about to died, delays a waiter by the longest pause.
  static constexpr std::int64_t injected_pause = 1000;
  static constexpr std::int64_t watch_pause = 4000;
  static constexpr std::int64_t longest_pause = 100'000;

  bool refresh() {
    const NoCancellation shield;
    if (here_.core.enter()) return false;
    here_.core.leave();
    return true;
  }

  /// Whether the key's record still is the running one of this epoch; notes whose it is.
  bool runs(std::uint64_t epoch) {
    const NoCancellation shield;
    FileCore& core = here_.core;
    // Zero on both sides says no more than that nobody knows anything: no journal may have been loaded yet.
    const std::uint64_t indexed = core.indexed.load(std::memory_order_acquire);
    if ((indexed == 0 || core.page.sequence() != indexed) && !refresh()) return false;
    Found found;
    {
      const ReaderGate::Reading reading(core.index.gate);
      const Place place = core.place_of(waiter_.key);
      if (!place || place.held != Held::running) return false;
      const char* why = nullptr;
      if (core.read(place, waiter_.key, found, why) != Look::found) return false;
    }
    if (found.stored.record.owner.epoch != epoch) return false;
    here_.waiters.owned_by(waiter_, found.owner);
    if (core.owner.held() && found.owner == core.owner.id()) return true;
    Problem ignored;
    return probe_owner(core.directory.get(), found.owner, ignored) != Alive::no;
  }

  Attached& here_;
  Waiters::Waiter waiter_;
  bool entered_ = false;
};

}  // namespace detail::file
IDEM_END_NAMESPACE
