// Context: what a guarded function may ask about the run it is in.
#pragma once

#include <idem/detail/boot_clock.hpp>
#include <idem/detail/config.hpp>
#include <idem/duration.hpp>
#include <idem/key.hpp>
#include <idem/protocol.hpp>
#include <idem/store.hpp>

#include <atomic>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <version>

#if defined(__cpp_lib_jthread)
#include <stop_token>
#endif

IDEM_BEGIN_NAMESPACE

namespace detail {

/// What a run knows about its lease. Written by the store that renews it, read by the function.
///
/// The stop source is made by who first asks for a token, since most functions never do; it's kept behind a pointer so
/// that this type is the same where the standard library has no stop tokens.
class LeaseState final : public LeaseWatch {
 public:
  LeaseState() noexcept = default;
  LeaseState(const LeaseState&) = delete;
  LeaseState& operator=(const LeaseState&) = delete;
  ~LeaseState() override {
    if (void* source = stop_source_.load(std::memory_order_acquire); source != nullptr) delete_source_.load()(source);
  }

  void lost() noexcept override {
    lost_.store(true);
    if (void* source = stop_source_.load(); source != nullptr) request_stop_.load()(source);
  }
  void renewed(TimePoint until) noexcept override { until_.store(until.time_since_epoch().count()); }
  void sure_until(std::int64_t boot_micros) noexcept override { sure_until_.store(boot_micros); }
  /// Judged by the clock itself where the store has said until when the lease is sure: the store's thread may not have
  /// run since. What was lost once stays so. Who goes by no such time pays for no clock.
  bool is_lost() const noexcept {
    if (lost_.load()) return true;
    const std::int64_t until = sure_until_.load();
    if (until == always || boot_micros() < until) return false;
    lost_.store(true);
    return true;
  }
  TimePoint until() const noexcept { return TimePoint(TimePoint::duration(until_.load())); }

#if defined(__cpp_lib_jthread)
  std::stop_token token() {
    void* found = stop_source_.load();
    if (found == nullptr) {
      auto* made = new std::stop_source;
      delete_source_ = [](void* source) noexcept { delete static_cast<std::stop_source*>(source); };
      request_stop_ = [](void* source) noexcept { static_cast<std::stop_source*>(source)->request_stop(); };
      if (stop_source_.compare_exchange_strong(found, made)) {
        found = made;
      } else {
        delete made;
      }
    }
    auto* source = static_cast<std::stop_source*>(found);
    // The lease may have been lost between the first look and the exchange.
    if (is_lost()) source->request_stop();
    return source->get_token();
  }
#endif

 private:
  static constexpr std::int64_t always = (std::numeric_limits<std::int64_t>::max)();

  mutable std::atomic<bool> lost_{false};
  std::atomic<std::int64_t> sure_until_{always};
  std::atomic<TimePoint::rep> until_{(TimePoint::min)().time_since_epoch().count()};
  std::atomic<void*> stop_source_{nullptr};
  // Every asker writes the same values before its exchange, and `lost` reads them only after seeing a source.
  std::atomic<void (*)(void*) noexcept> request_stop_{nullptr};
  std::atomic<void (*)(void*) noexcept> delete_source_{nullptr};
};

struct ContextAccess;

}  // namespace detail

/// Handed to a callable that has an `idem::Context&` among its parameters. Valid while the callable runs.
/// Thread safety: all members may be called from any thread while the callable runs.
class Context {
 public:
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  const Key& key() const noexcept { return key_; }

  /// A stable name for an effect of this call, shaped like a UUID, to hand to a downstream service as its idempotency
  /// key: the same for every attempt at this key, another for every label.
  std::string derived_key(std::string_view label) const { return key_.derived(label); }

  /// Grows with every acquisition of the key. A downstream that refuses smaller ones than it has seen shuts out a run
  /// that was taken for dead.
  std::uint64_t fencing_token() const noexcept { return epoch_; }

  /// 1 for the first run, more after an earlier one was left in doubt.
  std::uint32_t attempt() const noexcept { return attempt_; }

  /// End of the lease, where the store goes by leases; it's prolonged while the store renews it.
  std::optional<TimePoint> deadline() const noexcept {
    if (lease_until_ == (TimePoint::max)()) return std::nullopt;
    const TimePoint renewed = lease_.until();
    return renewed > lease_until_ ? renewed : lease_until_;
  }

  /// The lease can't be held any longer: others will be told that this run is in doubt. No new effect should be begun.
  bool lease_lost() const noexcept { return lease_.is_lost(); }

#if defined(__cpp_lib_jthread)
  /// Stop is requested when the lease is lost.
  std::stop_token stop_token() const {
    return lease_.token();
  }
#endif

 private:
  friend struct detail::ContextAccess;

  Context(const Key& key, const Record& record, std::uint32_t attempt, detail::LeaseState& lease) noexcept
      : key_(key), lease_(lease), epoch_(record.owner.epoch), attempt_(attempt), lease_until_(record.lease_until) {}

  const Key& key_;
  detail::LeaseState& lease_;
  std::uint64_t epoch_;
  std::uint32_t attempt_;
  TimePoint lease_until_;
};

namespace detail {

struct ContextAccess {
  /// `attempt` stands for the record's, for a call with two keys.
  static Context make(const Key& key, const Record& record, std::uint32_t attempt, LeaseState& lease) noexcept {
    return Context(key, record, attempt, lease);
  }
};

}  // namespace detail

IDEM_END_NAMESPACE
