// check_lock_with: a guard whose calls are told apart by the OnceOnly service's check-lock, as its SDKs' decorator
// does.
#pragma once

#include <idem/detail/boot_clock.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/process.hpp>
#include <idem/detail/random.hpp>
#include <idem/detail/sha256.hpp>
#include <idem/detail/store_clock.hpp>
#include <idem/duration.hpp>
#include <idem/key.hpp>
#include <idem/onceonly/calls.hpp>
#include <idem/onceonly/impl/check_lock_api.hpp>
#include <idem/onceonly/impl/digest_hash.hpp>
#include <idem/onceonly/impl/lease_api.hpp>
#include <idem/onceonly/impl/store_parts.hpp>
#include <idem/onceonly/json.hpp>
#include <idem/protocol.hpp>
#include <idem/store.hpp>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

IDEM_BEGIN_NAMESPACE
namespace onceonly {

struct CheckLockWithOptions {
  std::string key_prefix = "func";  ///< The service sees `prefix:` and 64 hexadecimal digits.
  std::string key_version = "v1";   ///< Part of these digits.
  std::optional<Json> metadata = {};
};

/// The store that `check_lock_with` makes. A claim is a check-lock for the guard's `ttl`: first one wins, on all
/// machines. From then on the service calls the key a duplicate, whatever becomes of the run; no result is kept.
///
/// What the service can't be told, this object remembers, for as long as the lock lasts: who is running the call here,
/// that a run failed without an effect (the next call here runs: the lock is still this object's), and that one is in
/// doubt. A duplicate that may be this object's own lock, since an answer was lost, is in doubt: whether it was asked
/// for again by the client or by a later call.
///
/// A handle: copies share what they remember. Thread safety: every member from any thread.
class CheckLockStore : public impl::Unlisted {
 public:
  // Nothing is kept: so that a result needs no codec.
  static constexpr Keeps keeps = Keeps::objects;

  CheckLockStore(const ClientCalls& client, CheckLockWithOptions options)
      : shared_(std::make_shared<Shared>(session_of(client), std::move(options))) {}

  StoreTraits traits() const noexcept {
    return {.keeps = keeps, .liveness = Liveness::process, .survives_process = true, .clock = ClockOwner::server};
  }
  TimePoint now() const noexcept { return shared_->clock.now(); }

  Reply claim(const Key& key, const ClaimRequest& request, LeaseWatch*) {
    if (!request.owner) return impl::reply_of(Answer::unavailable, "there is no owner");
    return guarded(key, [&](std::unique_lock<std::mutex>& lock, const Digest& digest) {
      drop_expired();
      Local& local = shared_->locals[digest];
      // The key is this object's already, or nobody knows yet.
      const bool ask = !local.record.has_value() && !local.is_ours();
      const protocol::Transition claimed =
          protocol::claim(local.record.has_value() ? &*local.record : nullptr, request, now(), false, next_epoch());
      if (claimed.answer != Answer::acquired || claimed.change == protocol::Change::none)
        return impl::reply_of(claimed.answer, claimed.next);
      local.record = claimed.next;
      if (!ask) return ended_at_once(digest, request, impl::reply_of(Answer::acquired, claimed.next));
      return asked(lock, digest, key, request, claimed.next);
    });
  }

  Reply renew(const Key& key, const Ownership& owner, Duration lease) {
    return change(key, [&](const Record* record) { return protocol::renew(record, owner, lease, now(), false); });
  }
  Reply complete(const Key& key, const FinishRequest& request) { return finish(key, request, State::completed); }
  Reply fail(const Key& key, const FinishRequest& request) { return finish(key, request, State::failed); }
  Reply release(const Key& key, const Ownership& owner) {
    return change(key, [&](const Record* record) { return protocol::release(record, owner, now()); });
  }
  Reply abandon(const Key& key, const Ownership& owner) {
    return change(key, [&](const Record* record) { return protocol::abandon(record, owner, now()); });
  }
  Reply resolve(const Key& key, const Resolution& found, std::string_view) {
    const OwnerToken resolver = idem::detail::new_owner_token();
    return change(key, [&](const Record* record) {
      return protocol::resolve(record, found.expected_epoch, resolver, found.state, now(), found.ttl, false, 1);
    });
  }

  /// What this object remembers; the service can't be asked without locking.
  Reply find(const Key& key) {
    return change(key, [&](const Record* record) { return protocol::find(record, now(), false); });
  }
  /// Forgets a doubt here: the next call here runs. Others are refused by the lock until it ends.
  Reply erase(const Key& key) {
    return change(key, [&](const Record* record) { return protocol::erase(record, now(), false); });
  }

  void wait(const Key& key, std::uint64_t epoch, TimePoint deadline) {
    if (inherited()) return;
    std::unique_lock lock(shared_->mutex);
    for (;;) {
      const auto found = shared_->locals.find(key.digest());
      if (found == shared_->locals.end() || !found->second.record.has_value()) return;
      const Record& record = *found->second.record;
      if (record.owner.epoch != epoch || record.abandoned) return;
      const TimePoint moment = now();
      if (deadline <= moment) return;
      shared_->changed.wait_for(lock, (std::min)(deadline, moment + std::chrono::hours(1)) - moment);
    }
  }

 private:
  /// Times are those of boot_micros(), which goes on while the machine sleeps.
  struct Local {
    std::optional<Record> record = {};  ///< In progress.
    bool ours = false;                  ///< The lock is, surely until:
    std::int64_t until = 0;             ///< Counted from before it was asked for.
    std::int64_t maybe_until = 0;       ///< Until then a lock may be ours, since an answer was lost.

    bool is_ours() const noexcept { return ours && idem::detail::boot_micros() < until; }
    bool may_be_ours() const noexcept { return idem::detail::boot_micros() < maybe_until; }
    bool says_nothing() const noexcept {
      const bool running = record.has_value() && !record->abandoned;
      return !running && !is_ours() && !may_be_ours();
    }
  };
  struct Shared {
    Shared(std::shared_ptr<impl::Session> with, CheckLockWithOptions how)
        : session(std::move(with)), options(std::move(how)) {}
    std::shared_ptr<impl::Session> session;
    CheckLockWithOptions options;
    idem::detail::StoreClock clock{Clock()};
    std::mutex mutex;
    std::condition_variable changed;
    std::unordered_map<Digest, Local, impl::DigestHash> locals;
    std::uint64_t last_epoch = 0;
    std::uint64_t generation = idem::detail::process_generation();
    std::int64_t next_sweep = 0;
  };

  /// By a child of fork, in which nobody knows who holds the mutex.
  bool inherited() const noexcept { return idem::detail::process_generation() != shared_->generation; }

  template <class Act>
  Reply guarded(const Key& key, Act act) {
    return impl::operate(key, inherited(), "out of memory, or metadata that isn't UTF-8", [&] {
      std::unique_lock lock(shared_->mutex);
      return act(lock, key.digest());
    });
  }

  /// Above the clock, so that another process that gets the lock later has a greater one.
  std::uint64_t next_epoch() noexcept {
    const auto micros =
        static_cast<std::uint64_t>((std::max)(std::int64_t{1}, std::int64_t{now().time_since_epoch().count()}));
    shared_->last_epoch = (std::max)(shared_->last_epoch + 1, micros);
    return shared_->last_epoch;
  }

  /// What was remembered of locks that have ended says nothing any more. Looked at once a minute.
  void drop_expired() {
    const std::int64_t moment = idem::detail::boot_micros();
    if (moment < shared_->next_sweep) return;
    shared_->next_sweep = moment + 60'000'000;
    for (auto at = shared_->locals.begin(); at != shared_->locals.end();) {
      at = at->second.says_nothing() ? shared_->locals.erase(at) : std::next(at);
    }
  }

  std::string name_of(const Key& key) const {
    const std::string whole = shared_->options.key_version + '\n' + key.text();
    return shared_->options.key_prefix + ":" + impl::hex_of(idem::detail::sha256(whole.data(), whole.size()));
  }

  /// When a lock of this length has ended that was asked for at `asked`.
  static std::int64_t end_of(std::int64_t asked, std::int64_t seconds) noexcept {
    constexpr std::int64_t century = std::int64_t{100} * 366 * 24 * 3600;
    return asked + (std::max)(std::int64_t{0}, (std::min)(seconds, century)) * 1'000'000;
  }

  /// Asks the service, while others here see the call running.
  Reply asked(std::unique_lock<std::mutex>& lock, const Digest& digest, const Key& key, const ClaimRequest& request,
              const Record& record) {
    // Whatever happens, the call isn't running any more unless it's said here.
    struct Forget {
      Shared& shared;
      std::unique_lock<std::mutex>& lock;
      const Digest& digest;
      bool keep = false;
      ~Forget() {
        if (!lock.owns_lock()) lock.lock();
        const auto found = shared.locals.find(digest);
        if (!keep && found != shared.locals.end()) {
          found->second.record.reset();
          if (found->second.says_nothing()) shared.locals.erase(found);
        }
        shared.changed.notify_all();
      }
    } forget{*shared_, lock, digest};
    lock.unlock();
    const std::int64_t since = idem::detail::boot_micros();
    const impl::LockTold told = impl::lock_at(*shared_->session, name_of(key), request.ttl, shared_->options.metadata);
    lock.lock();
    Local& local = shared_->locals[digest];
    const std::int64_t seconds = impl::seconds_of(request.ttl);
    local.ours = false;
    if (told.maybe_own) {
      if (!local.may_be_ours()) local.until = end_of(since, seconds);
      local.maybe_until = end_of(idem::detail::boot_micros(), seconds);
    }
    switch (told.kind) {
      case impl::LockTold::Kind::locked:
        local.ours = true;
        local.until = end_of(since, (std::min)(seconds, told.result.ttl));
        local.maybe_until = 0;
        forget.keep = true;
        return ended_at_once(digest, request, impl::reply_of(Answer::acquired, record));
      case impl::LockTold::Kind::duplicate: {
        if (local.may_be_ours()) {
          local.record->abandoned = true;
          forget.keep = true;
          return impl::reply_of(Answer::in_doubt, *local.record);
        }
        Record other = record;
        other.owner = {};
        other.started_at = other.finished_at =
            impl::time_in(told.result.first_seen_at.value_or("")).value_or(TimePoint());
        other.state = State::completed;
        Reply reply = impl::reply_of(Answer::completed, other);
        reply.payload = Payload(PayloadKind::nothing, nullptr, nullptr);
        return reply;
      }
      case impl::LockTold::Kind::down:
        return impl::reply_of(Answer::unavailable, told.message);
      default:
        // An answer all the same: not a reason to run without protection.
        return impl::reply_of(Answer::refused, told.message);
    }
  }

  /// Of check_lock by hand, where the lock is all that there is.
  Reply ended_at_once(const Digest& digest, const ClaimRequest& request, Reply reply) {
    if (!request.complete_at_once) return reply;
    protocol::finish_at(reply.record, State::completed, now(), request.ttl);
    shared_->locals.erase(digest);
    return reply;
  }

  template <class Decide>
  Reply change(const Key& key, Decide decide) {
    return guarded(key, [&](std::unique_lock<std::mutex>&, const Digest& digest) {
      const auto found = shared_->locals.find(digest);
      const bool there = found != shared_->locals.end() && found->second.record.has_value();
      const protocol::Transition changed = decide(there ? &*found->second.record : nullptr);
      if (changed.change == protocol::Change::write) {
        if (changed.next.state == State::in_progress) {
          found->second.record = changed.next;
        } else {
          shared_->locals.erase(found);
        }
      } else if (changed.change == protocol::Change::erase) {
        Local& local = found->second;
        local.record.reset();
        // Who forgets a doubt says that nobody has run.
        local.ours = local.ours || local.may_be_ours();
        local.maybe_until = 0;
      }
      shared_->changed.notify_all();
      return impl::reply_of(changed.answer, changed.next);
    });
  }

  Reply finish(const Key& key, const FinishRequest& request, State state) {
    return change(
        key, [&](const Record* record) { return protocol::finish(record, request.owner, state, now(), request.ttl); });
  }

  std::shared_ptr<Shared> shared_;
};

static_assert(Store<CheckLockStore>);

/// An extra of `idem::idempotent`: the guard's calls are told apart by check-lock.
///
///     auto notify_once = idem::idempotent<"notify">(notify, {.ttl = 24h}, onceonly::check_lock_with(client));
///
/// Where the service can't be reached the call fails closed, whatever the client's `fail_open` says, unless the guard
/// has `on_store_error = run_unguarded`: then it runs as Verdict::unguarded, with an event.
inline CheckLockStore check_lock_with(const ClientCalls& client, CheckLockWithOptions options = {}) {
  return CheckLockStore(client, std::move(options));
}

}  // namespace onceonly
IDEM_END_NAMESPACE
