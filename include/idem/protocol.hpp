// The rules of the protocol: what each operation does to a key's record, and nothing else.
//
// Every function here is pure: it takes the record as it stands (or nullptr: there is none), the request and what the
// store knows about the moment, and says what to answer and what to write. A store adds only atomicity and durability:
// it calls these functions with its lock held and a clock read after taking it, or mirrors them in a script.
//
// States of a record, and what leads from one to the next:
//
//   (absent) --claim--> in progress, live --complete/fail--> completed/failed --expiry--> (absent)
//       ^                 |        |
//       +----release------+        +--abandon, owner gone, lease ended, release of a takeover--> in progress, in doubt
//                                       |            |          |
//                                       |            |          +--complete/fail by the same owner, resolve--> finished
//                                       |            +--claim that takes over--> in progress, live (epoch + 1)
//                                       +--erase, purge--> (absent)
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/random.hpp>
#include <idem/detail/sha256.hpp>
#include <idem/duration.hpp>

#include <cstdint>
#include <limits>

IDEM_BEGIN_NAMESPACE

/// Zero is reserved: no valid record has it.
enum class State : std::uint8_t { in_progress = 1, completed = 2, failed = 3 };

/// Who holds a record: a random token, new at every acquisition, and the epoch, which is the fencing token.
struct Ownership {
  OwnerToken token;
  std::uint64_t epoch = 0;  ///< Never zero in a record.

  friend bool operator==(const Ownership&, const Ownership&) noexcept = default;
};

/// What a store remembers about a key, without the key's name and the payload.
struct Record {
  State state = State::in_progress;
  bool abandoned = false;        ///< Its owner lives, but doesn't know the outcome or couldn't record it.
  bool has_fingerprint = false;  ///< `fingerprint` holds something to compare.
  std::uint32_t attempt = 0;     ///< Acquisitions since the key was last absent, released or expired.
  Ownership owner;
  TimePoint started_at;                        ///< First acquisition since then.
  TimePoint finished_at;                       ///< Of completed and failed records.
  TimePoint lease_until = (TimePoint::max)();  ///< Of stores that prove liveness by leases; else never.
  TimePoint expires_at = (TimePoint::max)();   ///< Of completed and failed records: finished_at + ttl.
  Digest fingerprint;                          ///< Of the arguments that aren't in the key.
};

/// What a record means at a moment.
enum class Status : std::uint8_t { absent = 1, running = 2, in_doubt = 3, completed = 4, failed = 5 };

enum class Answer : std::uint8_t {
  acquired = 1,      ///< The caller owns the key and has to finish, release or abandon it.
  running = 2,       ///< Somebody else owns it and lives.
  in_doubt = 3,      ///< Its owner is gone, gave up, or let its lease end; the effect is unknown.
  completed = 4,     ///< Finished; the reply carries the payload.
  failed = 5,        ///< Failed and kept; the reply carries the payload.
  conflict = 6,      ///< The key was used with other arguments.
  absent = 7,        ///< There is no record.
  ok = 8,            ///< Done, or done already by the same owner.
  stale = 9,         ///< The caller doesn't own the record any more; nothing was changed.
  refused = 10,      ///< A live owner is running; nothing was changed.
  unavailable = 11,  ///< The store can't answer; nothing is known to have changed.
  corrupt = 12,      ///< The record can't be read; nothing was changed.
};

/// What a claim asks for.
struct ClaimRequest {
  OwnerToken owner;                     ///< New and random; a retry of the same claim uses the same one.
  Duration lease = forever;             ///< Of stores that prove liveness by leases.
  const Digest* fingerprint = nullptr;  ///< Compared with the record's, and kept in a new record.
  bool take_over = false;               ///< A record in doubt changes hands.
  std::uint64_t epoch_above = 0;        ///< The epoch of a new acquisition is higher than this, too.
  bool complete_at_once = false;        ///< The new record is completed in the same transition, without payload.
  Duration ttl = forever;               ///< Of such a completed record; otherwise a hint of what complete will say.
};

namespace protocol {

enum class Change : std::uint8_t { none = 0, write = 1, erase = 2 };

/// What to answer, and whether the record changes. How it changes is said by another function, which works in place:
/// for stores to which copying a record matters.
struct Ruling {
  Answer answer = Answer::unavailable;
  Change change = Change::none;
};
struct ClaimRuling : Ruling {
  bool anew = false;        ///< Nothing is kept of the record that there was, if there was one.
  std::uint64_t epoch = 0;  ///< Of the new owner, where the record changes.
};

/// What to answer, and what becomes of the record. `next` is the record after the transition, where there is one; the
/// payload stays with it unless the operation brings another.
struct Transition {
  Answer answer = Answer::unavailable;
  Change change = Change::none;
  Record next;
};

/// Only finished records expire.
constexpr bool expired(const Record& record, TimePoint now) noexcept {
  return record.state != State::in_progress && record.expires_at <= now;
}

/// The owner let its lease end. Stores that prove liveness otherwise keep `lease_until` at never.
constexpr bool lease_ended(const Record& record, TimePoint now) noexcept {
  return record.lease_until <= now;
}

/// Whether the answer depends on the owner being alive, so that a store with a costly proof asks only then.
constexpr bool asks_for_owner(const Record* record) noexcept {
  return record != nullptr && record->state == State::in_progress && !record->abandoned;
}

/// `owner_gone`: the store has proof that the record's owner can't be running any more, or its lease ended.
constexpr Status status(const Record* record, TimePoint now, bool owner_gone) noexcept {
  if (record == nullptr || expired(*record, now)) return Status::absent;
  switch (record->state) {
    case State::completed:
      return Status::completed;
    case State::failed:
      return Status::failed;
    case State::in_progress:
      break;
  }
  return record->abandoned || owner_gone ? Status::in_doubt : Status::running;
}

/// The epoch of a new acquisition: above the previous one and at least `floor`, a number of the store that only grows.
/// Zero, which is never valid, where the numbers are used up.
constexpr std::uint64_t next_epoch(std::uint64_t previous, std::uint64_t floor) noexcept {
  if (previous == (std::numeric_limits<std::uint64_t>::max)()) return 0;
  return previous + 1 > floor ? previous + 1 : floor;
}

namespace detail {

constexpr Transition unchanged(Answer answer, const Record* record) noexcept {
  Transition same;
  same.answer = answer;
  if (record != nullptr) same.next = *record;
  return same;
}

constexpr bool holds(const Record* record, const Ownership& owner) noexcept {
  return record != nullptr && owner.epoch != 0 && owner.token && record->owner == owner;
}

constexpr bool conflicts(const Record& record, const Digest* fingerprint) noexcept {
  return fingerprint != nullptr && record.has_fingerprint && !(record.fingerprint == *fingerprint);
}

}  // namespace detail

/// Makes a record in progress a finished one. REQUIRES: `judge_finish` says that it changes.
constexpr void finish_at(Record& record, State state, TimePoint now, Duration ttl) noexcept {
  record.state = state;
  record.abandoned = false;
  record.finished_at = now;
  record.expires_at = later(now, ttl);
  record.lease_until = (TimePoint::max)();
}

/// Makes a record the claimer's. `next` is the record as it stands, or a new one where `judge_claim` says `anew`;
/// `lease` stands for the request's. REQUIRES: the ruling says that the record changes.
constexpr void acquire(Record& next, const ClaimRuling& ruling, const ClaimRequest& request, Duration lease,
                       TimePoint now) noexcept {
  // Taking over keeps what is known of the key: when it was first claimed, how often, and with which arguments.
  if (ruling.anew) next.started_at = now;
  next.state = State::in_progress;
  next.abandoned = false;
  if (next.attempt != (std::numeric_limits<std::uint32_t>::max)()) ++next.attempt;
  next.owner.token = request.owner;
  next.owner.epoch = ruling.epoch;
  next.lease_until = later(now, lease);
  if (request.fingerprint != nullptr && !next.has_fingerprint) {
    next.fingerprint = *request.fingerprint;
    next.has_fingerprint = true;
  }
  if (request.complete_at_once) finish_at(next, State::completed, now, request.ttl);
}

/// What a claim of a finished record that hasn't expired is answered. Changes nothing, so that a store that can read a
/// record without a lock may answer by this alone. REQUIRES: the record is completed or failed.
constexpr Answer replay(const Record& record, const Digest* fingerprint) noexcept {
  if (detail::conflicts(record, fingerprint)) return Answer::conflict;
  return record.state == State::completed ? Answer::completed : Answer::failed;
}

/// What `claim` answers, without what it does.
constexpr ClaimRuling judge_claim(const Record* record, const ClaimRequest& request, TimePoint now, bool owner_gone,
                                  std::uint64_t floor) noexcept {
  const auto answer = [](Answer is) noexcept { return ClaimRuling{{is, Change::none}, false, 0}; };
  const Status found = status(record, now, owner_gone);
  if (!request.owner) return answer(Answer::unavailable);
  if (found != Status::absent) {
    // The same claim once more, since its answer was lost: it gives the same answer, whatever became of the lease.
    if (record->owner.token == request.owner) {
      if (record->state == State::in_progress && !record->abandoned) return answer(Answer::acquired);
      if (request.complete_at_once && record->state == State::completed) return answer(Answer::acquired);
    }
    if (record->state != State::in_progress) return answer(replay(*record, request.fingerprint));
    if (detail::conflicts(*record, request.fingerprint)) return answer(Answer::conflict);
    if (found == Status::running) return answer(Answer::running);
    if (!request.take_over) return answer(Answer::in_doubt);
  }

  const std::uint64_t previous = record == nullptr ? 0 : record->owner.epoch;
  const std::uint64_t epoch = next_epoch(previous > request.epoch_above ? previous : request.epoch_above, floor);
  if (epoch == 0) return answer(Answer::unavailable);
  return {{Answer::acquired, Change::write}, found == Status::absent, epoch};
}

/// Says what there is, and changes nothing.
constexpr Transition find(const Record* record, TimePoint now, bool owner_gone) noexcept {
  constexpr Answer answers[] = {Answer::absent,   Answer::absent,    Answer::running,
                                Answer::in_doubt, Answer::completed, Answer::failed};
  const Status found = status(record, now, owner_gone);
  return detail::unchanged(answers[static_cast<std::uint8_t>(found)], found == Status::absent ? nullptr : record);
}

/// Asks for the key. `floor`: see next_epoch.
constexpr Transition claim(const Record* record, const ClaimRequest& request, TimePoint now, bool owner_gone,
                           std::uint64_t floor) noexcept {
  const ClaimRuling ruling = judge_claim(record, request, now, owner_gone, floor);
  Transition asked = detail::unchanged(ruling.answer, ruling.anew ? nullptr : record);
  asked.change = ruling.change;
  if (ruling.change == Change::write) acquire(asked.next, ruling, request, request.lease, now);
  return asked;
}

/// Prolongs the owner's lease. Once it has ended it can't be renewed: others may have been told so already.
constexpr Transition renew(const Record* record, const Ownership& owner, Duration lease, TimePoint now,
                           bool owner_gone) noexcept {
  if (!detail::holds(record, owner) || status(record, now, owner_gone) != Status::running)
    return detail::unchanged(Answer::stale, record);
  Record next = *record;
  next.lease_until = later(now, lease);
  return {Answer::ok, Change::write, next};
}

/// What `finish` answers, without what it does.
constexpr Ruling judge_finish(const Record* record, const Ownership& owner, State state) noexcept {
  if (!detail::holds(record, owner)) return {Answer::stale, Change::none};
  if (record->state == state) return {Answer::ok, Change::none};
  if (record->state != State::in_progress) return {Answer::stale, Change::none};
  return {Answer::ok, Change::write};
}

/// Records an outcome. `state` is completed, or failed for a failure that is kept. An owner whose lease ended, or that
/// abandoned the record, still may, as long as nobody took over: that resolves the doubt. Told twice, it answers twice
/// the same.
constexpr Transition finish(const Record* record, const Ownership& owner, State state, TimePoint now,
                            Duration ttl) noexcept {
  const Ruling ruling = judge_finish(record, owner, state);
  Transition finished = detail::unchanged(ruling.answer, record);
  finished.change = ruling.change;
  if (ruling.change == Change::write) finish_at(finished.next, state, now, ttl);
  return finished;
}

/// Gives the key back, since the function didn't run or had no effect. That says nothing of an earlier owner's run: a
/// record that was taken over is in doubt again, as it was before.
constexpr Transition release(const Record* record, const Ownership& owner, TimePoint now) noexcept {
  if (record == nullptr || expired(*record, now)) return detail::unchanged(Answer::ok, nullptr);
  if (!detail::holds(record, owner) || record->state != State::in_progress)
    return detail::unchanged(Answer::stale, record);
  if (record->attempt <= 1) return {Answer::ok, Change::erase, *record};
  if (record->abandoned) return detail::unchanged(Answer::ok, record);
  Record next = *record;
  next.abandoned = true;
  return {Answer::ok, Change::write, next};
}

/// Puts the key in doubt at once: its owner lives, but doesn't know the outcome or can't record it.
constexpr Transition abandon(const Record* record, const Ownership& owner, TimePoint now) noexcept {
  if (record == nullptr || expired(*record, now)) return detail::unchanged(Answer::ok, nullptr);
  if (!detail::holds(record, owner) || record->state != State::in_progress)
    return detail::unchanged(Answer::stale, record);
  if (record->abandoned) return detail::unchanged(Answer::ok, record);
  Record next = *record;
  next.abandoned = true;
  return {Answer::ok, Change::write, next};
}

/// Ends a doubt by what somebody found out. The resolver becomes the record's owner, so that the late result of the one
/// who left it in doubt is told that it is stale. `expected_epoch`: of the record whose doubt was looked into; zero
/// stands for any.
constexpr Transition resolve(const Record* record, std::uint64_t expected_epoch, OwnerToken resolver, State state,
                             TimePoint now, Duration ttl, bool owner_gone, std::uint64_t floor) noexcept {
  const Status found = status(record, now, owner_gone);
  if (found == Status::absent) return detail::unchanged(Answer::absent, nullptr);
  if (found == Status::running) return detail::unchanged(Answer::refused, record);
  if (found != Status::in_doubt || (expected_epoch != 0 && expected_epoch != record->owner.epoch))
    return detail::unchanged(Answer::stale, record);
  const std::uint64_t epoch = next_epoch(record->owner.epoch, floor);
  if (epoch == 0 || !resolver || state == State::in_progress) return detail::unchanged(Answer::unavailable, record);
  Record next = *record;
  next.owner = {resolver, epoch};
  finish_at(next, state, now, ttl);
  return {Answer::ok, Change::write, next};
}

/// Forgets the key. A live owner's record stays.
constexpr Transition erase(const Record* record, TimePoint now, bool owner_gone) noexcept {
  const Status found = status(record, now, owner_gone);
  if (found == Status::running) return detail::unchanged(Answer::refused, record);
  if (record == nullptr) return detail::unchanged(Answer::absent, nullptr);
  return {found == Status::absent ? Answer::absent : Answer::ok, Change::erase, *record};
}

/// Whether purge removes the record: expired ones always, those in doubt only where `in_doubt_older_than` isn't nullptr
/// and that much time has passed since they were first claimed; a negative span removes none.
constexpr bool purgeable(const Record& record, TimePoint now, bool owner_gone,
                         const Duration* in_doubt_older_than) noexcept {
  const Status found = status(&record, now, owner_gone);
  if (found == Status::absent) return true;
  // A span that can't be meant is no choice to lose the only trace of a run.
  return found == Status::in_doubt && in_doubt_older_than != nullptr && !in_doubt_older_than->overflowed() &&
         in_doubt_older_than->nanoseconds() >= 0 && later(record.started_at, *in_doubt_older_than) <= now;
}

}  // namespace protocol

IDEM_END_NAMESPACE
