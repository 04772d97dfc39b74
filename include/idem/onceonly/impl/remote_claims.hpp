// How a RemoteStore's keys change hands: claims, and the lease that each needs.
#pragma once

#include <idem/detail/boot_clock.hpp>
#include <idem/detail/config.hpp>
#include <idem/duration.hpp>
#include <idem/key.hpp>
#include <idem/onceonly/impl/lease_api.hpp>
#include <idem/onceonly/impl/lease_table.hpp>
#include <idem/onceonly/impl/remote_core.hpp>
#include <idem/onceonly/impl/store_parts.hpp>
#include <idem/protocol.hpp>
#include <idem/store.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

IDEM_BEGIN_NAMESPACE
namespace onceonly {
namespace impl {

/// `detects`: where an answer doesn't tell whether a key was leased before, the key isn't given to anybody.
class RemoteClaims {
 public:
  RemoteClaims(RemoteCore& core, bool detects) noexcept : core_(core), detects_(detects) {}

  /// REQUIRES: the entry is locked, and the key's. Afterwards, where the answer is acquired, the entry's record is the
  /// caller's.
  Reply claim(LeaseEntry& entry, const Key& key, const ClaimRequest& request) {
    if (entry.release_owed && RemoteCore::held(entry)) return reply_of(Answer::in_doubt, entry.record);
    entry.release_owed = false;
    if (RemoteCore::held(entry)) {
      std::optional<Reply> reply = claim_held(entry, request);
      if (reply.has_value()) return std::move(*reply);
    }
    const std::int64_t seconds = lease_seconds(request.lease);
    const std::int64_t asked = idem::detail::boot_micros();
    Told told = core_.api.lease(entry.text, seconds, metadata(key));
    if (told.meaning == Meaning::absent)
      return reply_of(Answer::refused, "the OnceOnly service neither leases the key nor knows it");
    if (told.meaning != Meaning::acquired) return judged(core_.seen(entry, std::move(told)), request);
    return granted(entry, std::move(told), request, seconds, asked);
  }

  /// Gets a lease of a key in doubt, so that its doubt can be ended: the reply says in_doubt, and the entry holds the
  /// lease. Any other answer is what the key is instead. REQUIRES: the entry is locked.
  Reply lease_doubt(LeaseEntry& entry, const Key& key) {
    if (RemoteCore::held(entry))
      return reply_of(entry.record.abandoned ? Answer::in_doubt : Answer::running, entry.record);
    Reply seen = core_.seen(entry, core_.api.status(entry.text));
    if (seen.answer != Answer::in_doubt) return seen;
    ClaimRequest looking;
    looking.owner = seen.record.owner.token;
    looking.owner.hi ^= 2;  // nobody's, and not the record's
    looking.lease = core_.options.doubt_lease;
    Reply reply = claim(entry, key, looking);
    if (reply.answer != Answer::acquired) return reply;
    // The service has forgotten it in this moment.
    core_.api.cancel(entry.text, entry.lease_id, "nothing to resolve");
    entry.known = false;
    reply.answer = Answer::absent;
    return reply;
  }

 private:
  static Json metadata(const Key& key) {
    Json object = Json::object();
    object["idem"] = Json{{"name", std::string(key.name())}, {"version", key.version()}};
    return object;
  }

  /// What the service has of a key, by the rules. What it still has is replayed, even past the ttl that idem's record
  /// says: it can't be leased anew.
  static Reply judged(Reply&& seen, const ClaimRequest& request) {
    if (seen.answer != Answer::completed && seen.answer != Answer::failed && seen.answer != Answer::running &&
        seen.answer != Answer::in_doubt)
      return std::move(seen);
    ClaimRequest asking = request;
    asking.take_over = false;  // there is no lease to take it over with
    const bool gone = seen.answer == Answer::in_doubt;
    seen.answer = protocol::judge_claim(&seen.record, asking, (TimePoint::min)(), gone, 1).answer;
    return std::move(seen);
  }

  /// With the lease that this store holds. Nothing where it turns out to be lost.
  std::optional<Reply> claim_held(LeaseEntry& entry, const ClaimRequest& request) {
    const TimePoint now = core_.clock.now();
    const protocol::Transition claimed =
        protocol::claim(&entry.record, request, now, false, entry.record.owner.epoch + 1);
    if (claimed.change == protocol::Change::none || claimed.answer != Answer::acquired)
      return reply_of(claimed.answer, entry.record);
    // The service learns of the new owner as of a longer lease.
    const std::int64_t seconds = lease_seconds(request.lease);
    const std::int64_t asked = idem::detail::boot_micros();
    Told told = core_.api.extend(entry.text, entry.lease_id, seconds);
    if (told.meaning == Meaning::not_held) {
      entry.sure_until = 0;
      return std::nullopt;
    }
    if (told.meaning != Meaning::done)
      return reply_of(told.meaning == Meaning::down ? Answer::unavailable : Answer::refused, told.message);
    entry.record = claimed.next;
    core_.note_lease(entry, seconds, asked);
    return reply_of(Answer::acquired, entry.record);
  }

  /// The service has granted a lease: of a key that it didn't know, or of one whose earlier lease ended without an
  /// outcome.
  Reply granted(LeaseEntry& entry, Told told, const ClaimRequest& request, std::int64_t seconds, std::int64_t asked) {
    const std::string lease_id = text_of(told.body, "lease_id").value_or("");
    std::int64_t version = core_.version_in(told.body);
    std::optional<TimePoint> first = core_.first_seen_in(told.body);
    if (version == 0 && !first.has_value()) {
      const Told status = core_.api.status(entry.text);
      if (status.meaning == Meaning::running) {
        version = core_.version_in(status.body);
        first = core_.first_seen_in(status.body);
        told.date = status.date;
      }
    }
    const bool tells = version != 0 || (first.has_value() && told.date.has_value());
    if (!tells && detects_) {
      // The lease is left to end: giving it back would make a key free that may be in doubt.
      entry.known = false;
      return reply_of(Answer::refused,
                      "the OnceOnly service doesn't tell (by version or first_seen_at) whether an earlier run ended "
                      "without an outcome; UndetectingRemoteStore goes on without that");
    }
    const bool fresh = !tells || (version != 0 ? version == 1 : *told.date - *first < std::chrono::seconds(2));

    const std::uint64_t floor = RemoteCore::epoch_of(first.value_or(core_.about_now(told.date)), version);
    protocol::Transition claimed;
    if (fresh) {
      claimed = protocol::claim(nullptr, request, core_.clock.now(), false, floor);
      if (first.has_value()) claimed.next.started_at = *first;
    } else {
      // Whose doubt it is this store knows where nobody else has had a lease since.
      const bool mine = entry.known && (version == 0 || version == entry.version + 1);
      Record former = mine ? entry.record : core_.foreign(entry, told.body, version - 1);
      former.abandoned = true;
      claimed = protocol::claim(&former, request, core_.clock.now(), true, floor);
      if (claimed.answer != Answer::acquired) claimed.next = former;
    }
    entry.known = true;
    entry.record = claimed.next;
    entry.lease_id = lease_id;
    entry.version = version;
    entry.watched = false;
    core_.note_lease(entry, seconds, asked);
    if (claimed.answer != Answer::acquired) core_.leave_in_doubt(entry);
    return reply_of(claimed.answer, entry.record);
  }

  RemoteCore& core_;
  bool detects_;
};

}  // namespace impl
}  // namespace onceonly
IDEM_END_NAMESPACE
