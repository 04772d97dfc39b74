// What one process has of a RedisStore: the connections and the threads behind them. A child of fork makes its own.
#pragma once

#include <idem/clock.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/process.hpp>
#include <idem/detail/redis/admission.hpp>
#include <idem/detail/redis/lease_keeper.hpp>
#include <idem/detail/redis/link_settings.hpp>
#include <idem/detail/redis/listener.hpp>
#include <idem/detail/redis/nodes.hpp>
#include <idem/detail/redis/errand_runner.hpp>
#include <idem/detail/redis/runner.hpp>
#include <idem/event.hpp>

#include <atomic>
#include <cstdint>
#include <string>
#include <utility>

IDEM_BEGIN_NAMESPACE
namespace detail::redis {

/// Times are microseconds.
struct StoreSettings {
  LinkSettings link = {};
  Places places = {};
  AdmissionTerms admission = {};
  std::string prefix = {};
  std::int64_t timeout = 5'000'000;
  Clock clock = {};
};

/// One process's part. Ends with the store: what is owed then gets a last try.
class Session {
 public:
  explicit Session(const StoreSettings& settings)
      : generation(process_generation()),
        runner(settings.link, settings.places, settings.admission, settings.prefix, settings.clock),
        errands(runner),
        keeper(errands, settings.timeout, errands.clock()),
        listener(errands, runner.nodes().listening(), settings.prefix) {}
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  bool inherited() const noexcept { return process_generation() != generation; }

  const std::uint64_t generation;
  Runner runner;
  ErrandRunner errands;
  LeaseKeeper<ErrandRunner, LeaseClock> keeper;
  Listener<ErrandRunner> listener;
};

/// Thread safety: all from any thread, but construction and destruction.
class Sessions {
 public:
  Sessions(StoreSettings given, EventHandler handler)
      : settings(told_the_time(std::move(given))), on_event(std::move(handler)), current_(new Session(settings)) {}
  Sessions(const Sessions&) = delete;
  Sessions& operator=(const Sessions&) = delete;
  ~Sessions() {
    Session* const at = current_.load(std::memory_order_acquire);
    // A child leaves its parent's as it is: locks may be held that nobody here will give back.
    if (!at->inherited()) delete at;
  }

  /// What makes the store's time of boot_micros(): by the server's clock as of the first connect, so that it isn't set
  /// back; before that by this machine's.
  std::int64_t clock_offset() const noexcept { return clock_.offset(); }

 private:
  ServerClock clock_;

 public:
  const StoreSettings settings;
  const EventHandler on_event;

  /// This process's. A child makes one of its own; has it no memory for that, the program ends.
  Session& current() const noexcept {
    Session* known = current_.load(std::memory_order_acquire);
    if (!known->inherited()) [[likely]]
      return *known;
    auto* mine = new Session(settings);
    if (current_.compare_exchange_strong(known, mine, std::memory_order_acq_rel)) return *mine;
    delete mine;
    return *known;
  }

 private:
  StoreSettings told_the_time(StoreSettings given) noexcept {
    given.admission.clock = &clock_;
    return given;
  }

  mutable std::atomic<Session*> current_;
};

}  // namespace detail::redis
IDEM_END_NAMESPACE
