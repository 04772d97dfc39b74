// What a store is: the operations of the protocol, each atomic and as durable as the store promises.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/duration.hpp>
#include <idem/key.hpp>
#include <idem/payload.hpp>
#include <idem/protocol.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>

IDEM_BEGIN_NAMESPACE

/// What a store keeps of a result: the object itself, its bytes, or whichever the store behind it keeps (AnyStore).
enum class Keeps : std::uint8_t { objects = 1, bytes = 2, either = 3 };

/// Who proves that the owner of a running record is alive.
enum class Liveness : std::uint8_t {
  process = 1,  ///< It lives in this process: a running record's owner is always alive.
  kernel = 2,   ///< The operating system knows.
  lease = 3,    ///< Nobody: an owner renews its lease, and is in doubt when it ends.
};

enum class ClockOwner : std::uint8_t { process = 1, server = 2 };

struct StoreTraits {
  Keeps keeps = Keeps::bytes;
  Liveness liveness = Liveness::lease;
  bool survives_process = true;
  ClockOwner clock = ClockOwner::process;
  /// Whoever claims a key that was left in doubt is told so. False: it may be taken for a free one, and run again.
  bool detects_doubt = true;
};

/// Set by a store that renews leases, read by the owner's Context.
struct LeaseWatch {
  virtual ~LeaseWatch() = default;
  /// The lease can't be held any longer. From any thread.
  virtual void lost() noexcept = 0;
  /// The lease was prolonged up to this time of the record's clock. From any thread.
  virtual void renewed(TimePoint until) noexcept { static_cast<void>(until); }
  /// Up to this time of detail::boot_micros() the lease is surely held; from then on it's lost, whether `lost` has been
  /// called or not. A store whose thread may run late, since the process was stopped or the machine slept, says this
  /// when the key is acquired and each time the lease was prolonged. From any thread.
  virtual void sure_until(std::int64_t boot_micros) noexcept { static_cast<void>(boot_micros); }
};

/// The answer to an operation. The members of class type have no `= {}`: g++ would clear the whole object first, by an
/// instruction that takes longer than all the rest of a short operation.
struct Reply {
  Answer answer = Answer::unavailable;
  Record record;         ///< As it stands after the operation, where there is one.
  Payload payload = {};  ///< Of completed and failed records.
  /// Of acquired, where leases prove liveness: until when, by the store's `now()`, the key is surely the caller's,
  /// counted from before the request was sent.
  TimePoint valid_until = (TimePoint::max)();
  std::string message;  ///< Of unavailable and corrupt: what happened and what to do. Never holds an argument.
};

/// What `peek` saw. The record is valid for as long as the payload lives, and doesn't change.
struct Peeked {
  Answer answer = Answer::absent;  ///< completed, failed, conflict; absent says nothing.
  const Record* record = nullptr;
  Payload payload = {};
};

/// The outcome of a run, for complete and fail.
struct FinishRequest {
  Ownership owner = {};
  Duration ttl = forever;
  Source source = {};
};

/// What somebody found out about a record in doubt.
struct Resolution {
  State state = State::completed;  ///< completed, or failed for a failure that is to be kept.
  Duration ttl = forever;
  Source source = {};
  std::uint64_t expected_epoch = 0;  ///< Of the doubt that was looked into; zero stands for any.
};

/// One record as `for_each` shows it.
struct RecordView {
  std::string_view text;  ///< Key::text().
  Record record;
  Status status;
};

struct PurgeOptions {
  std::optional<Duration> in_doubt_older_than = {};  ///< Unset: records in doubt stay.
};

struct PurgeResult {
  std::size_t expired = 0;
  std::size_t in_doubt = 0;
  bool complete = true;  ///< False where the store couldn't be reached or written to before the end.
};

struct StoreStats {
  std::size_t records = 0;  ///< All that take up room, expired ones too.
  std::size_t running = 0;
  std::size_t in_doubt = 0;
  std::size_t completed = 0;
  std::size_t failed = 0;
  std::optional<TimePoint> oldest_in_doubt = {};  ///< When the oldest of them was first claimed.
  std::uint64_t bytes = 0;                        ///< On disk or on the server, where the store knows.
  std::size_t processes = 0;                      ///< Attached to the store, this one included; zero if unknown.
  bool available = true;                          ///< False where the store couldn't be read: the rest says nothing.
  bool poisoned = false;                          ///< Whether what was written is on disk isn't known (FileStore).
  bool damaged = false;                           ///< Records that had been on disk are missing (FileStore).
};

namespace detail {

/// Adds what a record means at this moment to what a store tells of all.
inline void count_status(StoreStats& stats, const Record& record, Status status) noexcept {
  stats.running += status == Status::running ? 1 : 0;
  stats.in_doubt += status == Status::in_doubt ? 1 : 0;
  stats.completed += status == Status::completed ? 1 : 0;
  stats.failed += status == Status::failed ? 1 : 0;
  if (status != Status::in_doubt) return;
  if (!stats.oldest_in_doubt || record.started_at < *stats.oldest_in_doubt) stats.oldest_in_doubt = record.started_at;
}

}  // namespace detail

/// A store promises, for every operation, from any number of threads:
///
///  1. It makes one transition of `idem::protocol` on the key's record atomic, with a clock read after any lock is
///  taken,
///     and durable before it answers. A stale owner changes nothing.
///  2. It throws nothing. What it can't do is answered `unavailable`, with a message that says what to do; a record
///     that it can't read is `corrupt` and stays as it is. Neither is ever answered `absent`. A claim that a service
///     turns down though it answers (no permission, a limit) is `refused`: nobody runs unguarded then.
///  3. claim: the reply's record is the caller's when it says `acquired`. With `watch`, a store that renews leases
///  calls
///     it when the lease is lost, until complete, fail, release or abandon of that owner has returned.
///  4. release and abandon that can't be carried out are remembered and carried out as soon as possible; until then the
///     store answers claims of that key on this object `in_doubt`.
///  5. wait: returns when the record may have changed from a running one with this epoch, or at the deadline, measured
///     by the store's `now()`, whichever is first; at once where it has changed already.
///  6. now: a clock that is never set back, for deadlines of waiting. Timestamps of records are the store's own affair.
///  7. Code of the user (observers, results' copies and destructors, for_each's function) runs without any lock held.
///  8. erase, clear and purge never remove a live running record. clear gives the number of records removed.
///  9. `Peeked peek(const Key&, const Digest* fingerprint)`, which a store may have or not, answers completed, failed
///  or
///     conflict for a finished record where it can do so much faster than claim could, by the same rules; anything else
///     is absent, which says nothing.
/// 10. `static OwnerToken new_owner()`, which a store may have or not, gives tokens that are enough to tell its owners
///     apart; otherwise they are 128 random bits.
/// 11. traits say what it keeps, who proves that an owner lives, whether records survive the process, and whose clock
///     judges; `S::keeps` is the same at compile time.
template <class S>
concept Store = requires(S& store, const S& fixed, const Key& key, const ClaimRequest& claim, const Ownership& owner,
                         LeaseWatch* watch, Duration span, const FinishRequest& finish, const Resolution& found,
                         std::string_view note, std::uint64_t epoch, TimePoint deadline,
                         void (*each)(const RecordView&), const PurgeOptions& purge) {
  { S::keeps } -> std::convertible_to<Keeps>;
  { fixed.traits() } -> std::same_as<StoreTraits>;
  { fixed.now() } -> std::same_as<TimePoint>;
  { store.claim(key, claim, watch) } -> std::same_as<Reply>;
  { store.renew(key, owner, span) } -> std::same_as<Reply>;
  { store.complete(key, finish) } -> std::same_as<Reply>;
  { store.fail(key, finish) } -> std::same_as<Reply>;
  { store.release(key, owner) } -> std::same_as<Reply>;
  { store.abandon(key, owner) } -> std::same_as<Reply>;
  { store.resolve(key, found, note) } -> std::same_as<Reply>;
  { store.find(key) } -> std::same_as<Reply>;
  { store.erase(key) } -> std::same_as<Reply>;
  { store.wait(key, epoch, deadline) } -> std::same_as<void>;
  { store.for_each(each) } -> std::same_as<void>;
  { store.purge(purge) } -> std::same_as<PurgeResult>;
  { store.clear() } -> std::same_as<std::size_t>;
  { store.stats() } -> std::same_as<StoreStats>;
};

namespace detail {

/// Says which operation a near miss lacks, one sentence each.
template <class S>
constexpr bool check_store() {
  using K = const Key&;
  static_assert(
      requires {
        { S::keeps } -> std::convertible_to<Keeps>;
      },
      "idem: this store lacks 'static constexpr idem::Keeps keeps'");
  static_assert(
      requires(const S& s) {
        { s.traits() } -> std::same_as<StoreTraits>;
      },
      "idem: this store lacks 'idem::StoreTraits traits() const'");
  static_assert(
      requires(const S& s) {
        { s.now() } -> std::same_as<TimePoint>;
      },
      "idem: this store lacks 'idem::TimePoint now() const'");
  static_assert(
      requires(S & s, K k, const ClaimRequest& r, LeaseWatch* w) {
        { s.claim(k, r, w) } -> std::same_as<Reply>;
      },
      "idem: this store lacks 'idem::Reply claim(const Key&, const ClaimRequest&, LeaseWatch*)'");
  static_assert(
      requires(S & s, K k, const Ownership& o, Duration d) {
        { s.renew(k, o, d) } -> std::same_as<Reply>;
      },
      "idem: this store lacks 'idem::Reply renew(const Key&, const Ownership&, Duration)'");
  static_assert(
      requires(S & s, K k, const FinishRequest& r) {
        { s.complete(k, r) } -> std::same_as<Reply>;
      },
      "idem: this store lacks 'idem::Reply complete(const Key&, const FinishRequest&)'");
  static_assert(
      requires(S & s, K k, const FinishRequest& r) {
        { s.fail(k, r) } -> std::same_as<Reply>;
      },
      "idem: this store lacks 'idem::Reply fail(const Key&, const FinishRequest&)'");
  static_assert(
      requires(S & s, K k, const Ownership& o) {
        { s.release(k, o) } -> std::same_as<Reply>;
      },
      "idem: this store lacks 'idem::Reply release(const Key&, const Ownership&)'");
  static_assert(
      requires(S & s, K k, const Ownership& o) {
        { s.abandon(k, o) } -> std::same_as<Reply>;
      },
      "idem: this store lacks 'idem::Reply abandon(const Key&, const Ownership&)'");
  static_assert(
      requires(S & s, K k, const Resolution& r) {
        { s.resolve(k, r, "") } -> std::same_as<Reply>;
      },
      "idem: this store lacks 'idem::Reply resolve(const Key&, const Resolution&, std::string_view note)'");
  static_assert(
      requires(S & s, K k) {
        { s.find(k) } -> std::same_as<Reply>;
      },
      "idem: this store lacks 'idem::Reply find(const Key&)'");
  static_assert(
      requires(S & s, K k) {
        { s.erase(k) } -> std::same_as<Reply>;
      },
      "idem: this store lacks 'idem::Reply erase(const Key&)'");
  static_assert(
      requires(S & s, K k, std::uint64_t e, TimePoint t) {
        { s.wait(k, e, t) } -> std::same_as<void>;
      },
      "idem: this store lacks 'void wait(const Key&, std::uint64_t epoch, TimePoint deadline)'");
  static_assert(
      requires(S & s, void (*f)(const RecordView&)) {
        { s.for_each(f) } -> std::same_as<void>;
      },
      "idem: this store lacks 'void for_each(function of const RecordView&)'");
  static_assert(
      requires(S & s, const PurgeOptions& o) {
        { s.purge(o) } -> std::same_as<PurgeResult>;
      },
      "idem: this store lacks 'idem::PurgeResult purge(const PurgeOptions&)'");
  static_assert(
      requires(S & s) {
        { s.clear() } -> std::same_as<std::size_t>;
      },
      "idem: this store lacks 'std::size_t clear()'");
  static_assert(
      requires(S & s) {
        { s.stats() } -> std::same_as<StoreStats>;
      },
      "idem: this store lacks 'idem::StoreStats stats()'");
  return Store<S>;
}

/// A store whose `static constexpr bool detects_doubt` is false can't always tell a key in doubt from a free one;
/// without that member a store can.
template <class S>
constexpr bool detects_doubt() noexcept {
  if constexpr (requires { S::detects_doubt; }) {
    return S::detects_doubt;
  } else {
    return true;
  }
}

/// Close enough to a store that it was meant to be one.
template <class S>
concept StoreLike = Store<S> || requires(S& store) {
  store.claim;
} || requires {
  &S::claim;
} || requires {
  S::keeps;
};

}  // namespace detail

IDEM_END_NAMESPACE
