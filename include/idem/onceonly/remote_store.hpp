// RemoteStore: records at the OnceOnly service, by its leases.
#pragma once

#include <idem/detail/boot_clock.hpp>
#include <idem/detail/bytes.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/random.hpp>
#include <idem/detail/record_bytes.hpp>
#include <idem/duration.hpp>
#include <idem/event.hpp>
#include <idem/key.hpp>
#include <idem/onceonly/calls.hpp>
#include <idem/onceonly/impl/remote_claims.hpp>
#include <idem/onceonly/impl/remote_core.hpp>
#include <idem/onceonly/impl/store_parts.hpp>
#include <idem/onceonly/remote_options.hpp>
#include <idem/options.hpp>
#include <idem/payload.hpp>
#include <idem/protocol.hpp>
#include <idem/store.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

IDEM_BEGIN_NAMESPACE
namespace onceonly {

/// Records at the OnceOnly service: machines that share an account share them. A claim is a lease, renewed at a third
/// of it; idem's record is kept in the result object. docs/onceonly.md says how each operation is mapped, and what the
/// service's API can't express: finished records are forgotten by the service when it likes, not by `ttl` or `erase`,
/// and can't be listed; arguments of a call that is running elsewhere aren't compared; "in doubt at once" is at once
/// for this process and within `doubt_lease` elsewhere.
///
/// A lease that is granted where an earlier one ended without an outcome is a key in doubt. It's recognised by the
/// answer's version or first_seen_at. Where neither is told, RemoteStore gives the key to nobody;
/// UndetectingRemoteStore runs it, which a guard has to be told is meant: allow_undetected_reruns.
///
/// A handle: copies share what they know. A client that is closed makes every operation unavailable.
/// Thread safety: every member from any thread. Operations of one key wait for each other.
template <bool Detects>
class BasicRemoteStore : public impl::Unlisted {
 public:
  static constexpr Keeps keeps = Keeps::bytes;
  static constexpr bool detects_doubt = Detects;

  /// Throws std::invalid_argument where an option makes no sense.
  explicit BasicRemoteStore(const ClientCalls& client, RemoteStoreOptions options = {}) {
    idem::detail::check_span(options.doubt_lease, false, "RemoteStoreOptions::doubt_lease");
    idem::detail::check_span(options.poll_min, false, "RemoteStoreOptions::poll_min");
    idem::detail::check_span(options.poll_max, false, "RemoteStoreOptions::poll_max");
    core_ = std::make_shared<impl::RemoteCore>(impl::LeaseApi(session_of(client)), std::move(options));
  }

  StoreTraits traits() const noexcept {
    return {.keeps = keeps,
            .liveness = Liveness::lease,
            .survives_process = true,
            .clock = ClockOwner::server,
            .detects_doubt = Detects};
  }
  TimePoint now() const noexcept { return core_->clock.now(); }

  Reply claim(const Key& key, const ClaimRequest& request, LeaseWatch* watch) {
    if (!request.owner) return impl::reply_of(Answer::unavailable, "there is no owner");
    std::int64_t sure = 0;
    Reply reply = locked(key, [&](impl::LeaseEntry& entry) {
      Reply claimed = claims().claim(entry, key, request);
      if (claimed.answer != Answer::acquired || claimed.record.state != State::in_progress) return claimed;
      entry.lease = request.lease;
      if (request.complete_at_once)
        return completed_at_once(entry, key, FinishRequest{claimed.record.owner, request.ttl, {}});
      if (watch != nullptr) {
        core_->watches.add(entry.digest, claimed.record.owner, watch);
        entry.watched = true;
        if (!core_->keep()) return given_up(entry);
      }
      sure = entry.sure_until;
      const std::int64_t left = sure - idem::detail::boot_micros();
      claimed.valid_until = later(now(), std::chrono::microseconds((std::max)(left, std::int64_t{0})));
      return claimed;
    });
    if (watch != nullptr && sure != 0) core_->watches.sure_until(reply.record.owner, sure);
    return reply;
  }

  Reply renew(const Key& key, const Ownership& owner, Duration lease) {
    bool lost = false;
    Reply reply = locked(key, [&](impl::LeaseEntry& entry) {
      const bool gone = !impl::RemoteCore::held(entry);
      const protocol::Transition renewed =
          protocol::renew(entry.known ? &entry.record : nullptr, owner, lease, now(), gone);
      if (renewed.answer != Answer::ok) return impl::reply_of(renewed.answer, renewed.next);
      const std::int64_t seconds = impl::lease_seconds(lease);
      const std::int64_t asked = idem::detail::boot_micros();
      impl::Told told = core_->api.extend(entry.text, entry.lease_id, seconds);
      if (told.meaning == impl::Meaning::done) {
        core_->note_lease(entry, seconds, asked);
        return impl::reply_of(Answer::ok, entry.record);
      }
      if (told.meaning != impl::Meaning::not_held) return impl::reply_of(Answer::unavailable, told.message);
      lost = true;
      entry.record.abandoned = true;
      entry.watched = false;
      entry.sure_until = 0;
      return impl::reply_of(Answer::stale, entry.record);
    });
    if (reply.answer == Answer::ok) core_->watches.renewed(owner, reply.record.lease_until);
    if (lost) core_->watches.tell(owner);
    return reply;
  }

  Reply complete(const Key& key, const FinishRequest& request) { return finish(key, request, State::completed); }
  Reply fail(const Key& key, const FinishRequest& request) { return finish(key, request, State::failed); }

  Reply release(const Key& key, const Ownership& owner) {
    Reply reply = locked(key, [&](impl::LeaseEntry& entry) {
      if (!entry.known) return unowned(entry);
      const protocol::Transition released = protocol::release(&entry.record, owner, now());
      if (released.answer != Answer::ok) return impl::reply_of(released.answer, released.next);
      if (released.change != protocol::Change::erase) {
        // It was in doubt before, and is again.
        core_->leave_in_doubt(entry);
        return impl::reply_of(Answer::ok, entry.record);
      }
      return given_back(entry);
    });
    ended(owner);
    return reply;
  }

  Reply abandon(const Key& key, const Ownership& owner) {
    Reply reply = locked(key, [&](impl::LeaseEntry& entry) {
      if (!entry.known) return unowned(entry);
      const protocol::Transition abandoned = protocol::abandon(&entry.record, owner, now());
      if (abandoned.change == protocol::Change::write) core_->leave_in_doubt(entry);
      return impl::reply_of(abandoned.answer, abandoned.answer == Answer::ok ? entry.record : abandoned.next);
    });
    ended(owner);
    return reply;
  }

  Reply resolve(const Key& key, const Resolution& found, std::string_view note) {
    Reply reply = locked(key, [&](impl::LeaseEntry& entry) {
      Reply doubt = claims().lease_doubt(entry, key);
      const Record* record = doubt.answer == Answer::absent ? nullptr : &doubt.record;
      if (answers_nothing(doubt.answer)) return doubt;
      const protocol::Transition resolved = protocol::resolve(
          record, found.expected_epoch, idem::detail::new_owner_token(), found.state, (TimePoint::min)(), found.ttl,
          doubt.answer == Answer::in_doubt, doubt.record.owner.epoch + 1);
      if (resolved.answer != Answer::ok) return impl::reply_of(resolved.answer, doubt.record);
      // Whose doubt it was stays so where that can't be recorded.
      const Ownership former = std::exchange(entry.record.owner, resolved.next.owner);
      Reply done = finished(entry, key, FinishRequest{entry.record.owner, found.ttl, found.source}, found.state);
      if (done.answer != Answer::ok && entry.known) entry.record.owner = former;
      return done;
    });
    core_->changed();
    if (reply.answer == Answer::ok) tell(EventKind::resolved, key, reply.record, note);
    return reply;
  }

  Reply find(const Key& key) {
    return locked(key, [&](impl::LeaseEntry& entry) { return found(entry); });
  }

  /// A key in doubt is freed; one that is finished can't be, since the service's API has no call for it: unavailable.
  Reply erase(const Key& key) {
    Reply reply = locked(key, [&](impl::LeaseEntry& entry) {
      Reply doubt = claims().lease_doubt(entry, key);
      if (doubt.answer == Answer::running) return impl::reply_of(Answer::refused, doubt.record);
      if (doubt.answer == Answer::completed || doubt.answer == Answer::failed)
        return impl::reply_of(Answer::unavailable, "the OnceOnly API can't forget a finished key");
      if (doubt.answer != Answer::in_doubt) return doubt;
      const impl::Told told = core_->api.cancel(entry.text, entry.lease_id, "forgotten");
      if (told.meaning == impl::Meaning::done && core_->api.status(entry.text).meaning == impl::Meaning::absent) {
        entry.known = false;
        return impl::reply_of(Answer::ok, doubt.record);
      }
      return impl::reply_of(Answer::unavailable, "the OnceOnly service keeps the key in doubt: " + told.message);
    });
    core_->changed();
    if (reply.answer == Answer::ok) tell(EventKind::forgotten, key, reply.record, {});
    return reply;
  }

  /// Looks again and again: the service wakes nobody.
  void wait(const Key& key, std::uint64_t epoch, TimePoint deadline) {
    std::chrono::nanoseconds pause(core_->options.poll_min.nanoseconds());
    const std::chrono::nanoseconds most(core_->options.poll_max.nanoseconds());
    while (!core_->inherited()) {
      const std::uint64_t before = core_->changes();
      const Reply seen = find(key);
      if (seen.answer != Answer::running || seen.record.owner.epoch != epoch || core_->closed()) return;
      const TimePoint moment = now();
      if (deadline <= moment) return;
      std::chrono::nanoseconds time = pause;
      if (deadline - moment < std::chrono::hours(1))
        time = (std::min)(time, std::chrono::nanoseconds(deadline - moment));
      if (core_->clock.injected()) time = (std::min)(time, std::chrono::nanoseconds(std::chrono::milliseconds(10)));
      core_->wait_for_change(before, time);
      pause = (std::min)(pause * 2, most);
    }
  }

 private:
  impl::RemoteClaims claims() const noexcept { return {*core_, Detects}; }

  static bool answers_nothing(Answer answer) noexcept {
    return answer == Answer::unavailable || answer == Answer::refused || answer == Answer::corrupt;
  }

  template <class Act>
  Reply locked(const Key& key, Act act) {
    return impl::operate(key, core_->inherited(), "out of memory, or a name that isn't UTF-8", [&] {
      const impl::LeaseTable::Locked entry = core_->lock(key);
      return act(*entry);
    });
  }

  Reply found(impl::LeaseEntry& entry) {
    if (!impl::RemoteCore::held(entry) && !entry.release_owed) {
      return core_->seen(entry, core_->api.status(entry.text));
    }
    return impl::reply_of(entry.record.abandoned ? Answer::in_doubt : Answer::running, entry.record);
  }

  /// Of release and abandon by whom this store doesn't know: fine where nobody has the key.
  Reply unowned(impl::LeaseEntry& entry) {
    Reply seen = core_->seen(entry, core_->api.status(entry.text));
    if (seen.answer == Answer::absent) seen.answer = Answer::ok;
    if (seen.answer != Answer::ok && !answers_nothing(seen.answer)) seen.answer = Answer::stale;
    return seen;
  }

  /// Cancels the lease of a run without an effect, or owes that.
  Reply given_back(impl::LeaseEntry& entry) {
    entry.watched = false;
    const impl::Told told = core_->api.cancel(entry.text, entry.lease_id, "released");
    if (told.meaning == impl::Meaning::done) {
      entry.known = false;
      return impl::reply_of(Answer::ok, entry.record);
    }
    if (told.meaning == impl::Meaning::not_held) {
      entry.known = false;
      return unowned(entry);
    }
    entry.record.abandoned = true;
    entry.release_owed = true;
    entry.renew_at = idem::detail::boot_micros();
    core_->keep();
    return impl::reply_of(Answer::unavailable, told.message);
  }

  /// Nothing would renew the lease.
  Reply given_up(impl::LeaseEntry& entry) {
    core_->watches.end(entry.record.owner);
    given_back(entry);
    return impl::reply_of(Answer::unavailable, "there is no thread to be had that renews the lease");
  }

  void ended(const Ownership& owner) {
    if (core_->inherited()) return;
    core_->watches.end(owner);
    core_->changed();
  }

  Reply completed_at_once(impl::LeaseEntry& entry, const Key& key, const FinishRequest& request) {
    Reply reply = finished(entry, key, request, State::completed);
    if (reply.answer == Answer::ok) {
      reply.answer = Answer::acquired;
    } else if (entry.known) {
      core_->leave_in_doubt(entry);
    }
    return reply;
  }

  Reply finish(const Key& key, const FinishRequest& request, State state) {
    Reply reply = locked(key, [&](impl::LeaseEntry& entry) {
      if (entry.known && !entry.release_owed) {
        const protocol::Ruling ruling = protocol::judge_finish(&entry.record, request.owner, state);
        if (ruling.answer != Answer::ok) return impl::reply_of(ruling.answer, entry.record);
        return finished(entry, key, request, state);
      }
      return told_before(entry, request.owner, state);
    });
    ended(request.owner);
    return reply;
  }

  /// Without a lease nothing can be recorded; but it may have been, and the answer lost.
  Reply told_before(impl::LeaseEntry& entry, const Ownership& owner, State state) {
    Reply seen = core_->seen(entry, core_->api.status(entry.text));
    if (answers_nothing(seen.answer)) return seen;
    const Record* record = seen.answer == Answer::absent ? nullptr : &seen.record;
    const bool done = protocol::judge_finish(record, owner, state).answer == Answer::ok && record->state == state;
    return impl::reply_of(done ? Answer::ok : Answer::stale, seen.record);
  }

  /// Records an outcome with the lease that the entry has. REQUIRES: the entry is known, and the owner's.
  Reply finished(impl::LeaseEntry& entry, const Key& key, const FinishRequest& request, State state) {
    idem::detail::StoredRecord stored;
    stored.record = entry.record;
    // The service's clock began it, and this one ends it.
    protocol::finish_at(stored.record, state, (std::max)(now(), entry.record.started_at), request.ttl);
    stored.key = entry.digest;
    stored.name = key.name();
    stored.version = key.version();
    stored.kind = request.source.kind;
    stored.payload = request.source.data;
    stored.payload_size = request.source.size;
    const bool has_payload = stored.kind == PayloadKind::value || stored.kind == PayloadKind::failure;
    if (!has_payload) stored.payload_size = 0;

    impl::Told told = state == State::failed && !has_payload
                          ? core_->api.fail(entry.text, entry.lease_id, "idem_failed")
                          : sent(entry, stored);
    bool lost = false;
    if (told.meaning == impl::Meaning::too_large && has_payload) {
      lost = true;
      stored.kind = PayloadKind::lost;
      stored.payload_size = 0;
      told = sent(entry, stored);
    }
    switch (told.meaning) {
      case impl::Meaning::done: {
        entry.known = false;
        Reply reply = impl::reply_of(Answer::ok, stored.record);
        if (lost) reply.payload = Payload(PayloadKind::lost, static_cast<const std::uint8_t*>(nullptr), std::size_t{0});
        return reply;
      }
      case impl::Meaning::not_held:
        entry.known = false;
        return told_before(entry, request.owner, state);
      default:
        return impl::reply_of(Answer::unavailable, told.message);
    }
  }

  impl::Told sent(const impl::LeaseEntry& entry, const idem::detail::StoredRecord& stored) const {
    idem::detail::Bytes bytes;
    if (!idem::detail::encode_record(bytes, stored))
      return {impl::Meaning::too_large, Json(), "the record is too large", {}};
    Json result = Json::object();
    result["idem"] = Json{{"format", 1}, {"record", impl::base64(bytes.data(), bytes.size())}};
    const Digest digest = idem::detail::sha256(bytes.data(), bytes.size());
    return core_->api.complete(entry.text, entry.lease_id, std::move(result),
                               "sha256:" + impl::base64(digest.bytes, sizeof digest.bytes));
  }

  void tell(EventKind kind, const Key& key, const Record& record, std::string_view message) const {
    core_->options.on_event(Event{kind, key, record.owner.epoch, record.attempt, message});
  }

  std::shared_ptr<impl::RemoteCore> core_;
};

using RemoteStore = BasicRemoteStore<true>;
/// Where the service's answers don't tell whether an earlier run ended without an outcome, the call runs again.
using UndetectingRemoteStore = BasicRemoteStore<false>;

static_assert(Store<RemoteStore>);

}  // namespace onceonly
IDEM_END_NAMESPACE
