// What a RemoteStore knows, and how it learns the rest: the answers of the service as records of the protocol.
#pragma once

#include <idem/detail/boot_clock.hpp>
#include <idem/detail/bytes.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/process.hpp>
#include <idem/detail/record_bytes.hpp>
#include <idem/detail/sha256.hpp>
#include <idem/detail/store_clock.hpp>
#include <idem/detail/watch_list.hpp>
#include <idem/key.hpp>
#include <idem/onceonly/check_lock_result.hpp>
#include <idem/onceonly/impl/base64.hpp>
#include <idem/onceonly/impl/keepers.hpp>
#include <idem/onceonly/impl/lease_api.hpp>
#include <idem/onceonly/impl/lease_table.hpp>
#include <idem/onceonly/impl/store_parts.hpp>
#include <idem/onceonly/remote_options.hpp>
#include <idem/payload.hpp>
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
#include <utility>
#include <vector>

IDEM_BEGIN_NAMESPACE
namespace onceonly {
namespace impl {

/// How long a lease has to be asked for so that it lasts at least this long: whole seconds. Not less than three, so
/// that a key that was leased before is older than one that wasn't by more than the second that dates are written to.
inline std::int64_t lease_seconds(Duration span) noexcept {
  constexpr std::int64_t longest = std::int64_t{365} * 24 * 3600;
  return (std::max)(std::int64_t{3}, (std::min)(seconds_of(span), longest));
}

/// Shared by all copies of a store. Its threads renew leases and do what is owed.
class RemoteCore {
 public:
  RemoteCore(LeaseApi service, RemoteStoreOptions with)
      : api(std::move(service)), options(std::move(with)), clock(options.clock), stopped_(&api.session().closed()) {}
  RemoteCore(const RemoteCore&) = delete;
  RemoteCore& operator=(const RemoteCore&) = delete;
  ~RemoteCore() {
    if (inherited()) {
      // A child of fork has no such thread, which may be waiting all the same.
      static_cast<void>(waiting_.release());
      keepers_.abandon();
      return;
    }
    stopped_.request();
    keepers_.end();
  }

  const LeaseApi api;
  const RemoteStoreOptions options;
  const idem::detail::StoreClock clock;
  LeaseTable table;
  idem::detail::WatchList watches;

  LeaseTable::Locked lock(const Key& key) { return table.lock(key.digest(), options.prefix + key.text()); }

  /// The lease may still be held: by this store, as far as it knows.
  static bool held(const LeaseEntry& entry) noexcept {
    return entry.known && idem::detail::boot_micros() < entry.sure_until;
  }

  /// Notes a lease that was granted or prolonged, asked for at `asked` of boot_micros().
  void note_lease(LeaseEntry& entry, std::int64_t seconds, std::int64_t asked) {
    entry.sure_until = asked + seconds * 1'000'000;
    entry.renew_at = asked + seconds * 1'000'000 / 3;
    const std::int64_t left = entry.sure_until - idem::detail::boot_micros();
    entry.record.lease_until = later(clock.now(), std::chrono::microseconds((std::max)(left, std::int64_t{0})));
  }
  /// From now on the key is in doubt here; elsewhere once its lease has ended, which is made soon.
  void leave_in_doubt(LeaseEntry& entry) {
    entry.record.abandoned = true;
    entry.watched = false;
    const std::int64_t seconds = lease_seconds(options.doubt_lease);
    const std::int64_t asked = idem::detail::boot_micros();
    if (entry.sure_until - asked <= seconds * 1'000'000) return;
    const Meaning meaning = api.extend(entry.text, entry.lease_id, seconds).meaning;
    if (meaning == Meaning::done) note_lease(entry, seconds, asked);
    // The service may have the outcome by a request whose answer was lost: it's asked again.
    if (meaning == Meaning::not_held) entry.sure_until = 0;
  }

  /// A number that grows with every lease of a key, whatever became of its records, by the service's own clock and
  /// count. There's room between two leases for owners that this store makes out of one.
  static std::uint64_t epoch_of(TimePoint first_seen, std::int64_t version) noexcept {
    const std::int64_t micros = (std::max)(std::int64_t{0}, std::int64_t{first_seen.time_since_epoch().count()});
    const std::int64_t most = std::int64_t{1} << 40;
    return static_cast<std::uint64_t>(micros) +
           (static_cast<std::uint64_t>((std::max)(std::int64_t{1}, (std::min)(version, most))) << 10);
  }
  /// What stands for `first_seen` where the service doesn't tell it: its time as far as its `Date` says, to the second,
  /// and within that this machine's, whose clock may be wrong.
  TimePoint about_now(const std::optional<TimePoint>& date) const noexcept {
    const TimePoint here = clock.now();
    if (!date.has_value()) return here;
    return (std::min)((std::max)(here, *date), later(*date, std::chrono::microseconds(999'999)));
  }
  /// Of a record whose owner is elsewhere: always the same for one lease, and nobody's.
  static Ownership stranger(const Digest& key, std::uint64_t epoch) noexcept {
    Digest mixed = key;
    for (std::size_t i = 0; i < 8; ++i) mixed.bytes[i] ^= static_cast<std::uint8_t>(epoch >> (8 * i));
    const Digest token = idem::detail::sha256(mixed.bytes, sizeof mixed.bytes);
    return {OwnerToken{idem::detail::load_le64(token.bytes) | 1, idem::detail::load_le64(token.bytes + 8)}, epoch};
  }

  std::int64_t version_in(const Json& body) const {
    const std::int64_t version = integer_of(body, "version").value_or(0);
    return (std::max)(std::int64_t{0}, (std::min)(version, std::int64_t{1} << 40));
  }
  std::optional<TimePoint> first_seen_in(const Json& body) const {
    const std::optional<std::string> text = text_of(body, "first_seen_at");
    return text.has_value() ? time_in(*text) : std::nullopt;
  }
  /// The record of a run elsewhere.
  Record foreign(const LeaseEntry& entry, const Json& body, std::int64_t version) const {
    Record record;
    record.started_at = first_seen_in(body).value_or(TimePoint());
    record.attempt =
        static_cast<std::uint32_t>((std::min)((std::max)(version, std::int64_t{1}), std::int64_t{1} << 31));
    record.owner = stranger(entry.digest, epoch_of(record.started_at, version));
    if (const std::optional<std::int64_t> left = integer_of(body, "ttl_left"); left.has_value()) {
      const std::int64_t seconds = (std::max)(std::int64_t{0}, (std::min)(*left, std::int64_t{1} << 31));
      record.lease_until = later(clock.now(), std::chrono::seconds(seconds));
    }
    return record;
  }

  /// What the service has of a key that this store holds no lease of. `told` may be an answer that is at hand.
  Reply seen(LeaseEntry& entry, Told told) {
    Reply reply;
    switch (told.meaning) {
      case Meaning::absent:
        entry.known = false;
        reply.answer = Answer::absent;
        return reply;
      case Meaning::running:
      case Meaning::acquired: {
        // A lease of this store's that the service counts a little longer than it was asked for.
        const std::int64_t version = version_in(told.body);
        const bool mine = entry.known && version != 0 && version == entry.version;
        reply.answer = mine ? Answer::in_doubt : Answer::running;
        reply.record = mine ? entry.record : foreign(entry, told.body, version);
        if (mine) reply.record.abandoned = true;
        return reply;
      }
      case Meaning::lapsed:
        reply.answer = Answer::in_doubt;
        reply.record = entry.known ? entry.record : foreign(entry, told.body, version_in(told.body));
        reply.record.abandoned = true;
        return reply;
      case Meaning::completed:
      case Meaning::failed:
        return finished(entry);
      case Meaning::down:
        return reply_of(Answer::unavailable, std::move(told.message));
      default:
        // An answer all the same: not a reason to run without protection.
        return reply_of(Answer::refused, std::move(told.message));
    }
  }

  /// The finished record, out of the result object.
  Reply finished(LeaseEntry& entry) {
    entry.known = false;
    const Told told = api.result(entry.text);
    if (told.meaning != Meaning::completed && told.meaning != Meaning::failed) {
      if (told.meaning == Meaning::down) return reply_of(Answer::unavailable, told.message);
      return reply_of(Answer::refused, told.message.empty() ? "the service doesn't give the result" : told.message);
    }
    const std::optional<Json> result = object_of(told.body, "result");
    const std::optional<Json> kept = result.has_value() ? object_of(*result, "idem") : std::nullopt;
    const std::optional<std::string> text = kept.has_value() ? text_of(*kept, "record") : std::nullopt;
    if (!text.has_value()) {
      if (told.meaning == Meaning::failed) {
        // Reported by `fail`, which has no room for a record.
        Reply reply;
        reply.answer = Answer::failed;
        reply.record = foreign(entry, told.body, version_in(told.body));
        reply.record.state = State::failed;
        reply.payload = Payload(PayloadKind::lost, static_cast<const std::uint8_t*>(nullptr), std::size_t{0});
        return reply;
      }
      return reply_of(Answer::corrupt, "the service's result isn't one of idem's");
    }
    std::vector<std::uint8_t> bytes;
    idem::detail::StoredRecord stored;
    const char* why = "the service's record isn't base64";
    if (!unbase64(*text, bytes) || !idem::detail::decode_record(bytes.data(), bytes.size(), stored, why))
      return reply_of(Answer::corrupt, why);
    if (!(stored.key == entry.digest)) return reply_of(Answer::corrupt, "the record belongs to another key");
    if (stored.record.state == State::in_progress) return reply_of(Answer::corrupt, "the record isn't finished");
    Reply reply;
    reply.answer = stored.record.state == State::completed ? Answer::completed : Answer::failed;
    reply.record = stored.record;
    reply.payload = Payload(stored.kind, stored.payload, stored.payload_size).detach();
    return reply;
  }

  /// Has the keepers look after an entry from now on. False where there are none: nothing would renew the lease.
  bool keep() {
    IDEM_TRY {
      keepers_.look();
    }
    IDEM_CATCH_UNWIND
    IDEM_CATCH_ALL {
      return false;
    }
    return true;
  }

  /// Wakes those who wait for a key: something has changed.
  void changed() {
    if (inherited()) return;
    {
      const std::lock_guard lock(waiting_->mutex);
      ++waiting_->changes;
    }
    waiting_->changed.notify_all();
  }
  std::uint64_t changes() {
    const std::lock_guard lock(waiting_->mutex);
    return waiting_->changes;
  }
  /// Until something has changed here since `before`, or the pause is over, or the client is closed.
  void wait_for_change(std::uint64_t before, std::chrono::nanoseconds pause) {
    std::unique_lock lock(waiting_->mutex);
    waiting_->changed.wait_for(lock, pause, [&] { return waiting_->changes != before || stopped_.requested(); });
  }
  bool closed() const noexcept { return stopped_.requested(); }
  /// By a child of fork, in which nobody knows who holds the mutexes.
  bool inherited() const noexcept { return idem::detail::process_generation() != generation_; }

 private:
  static constexpr std::int64_t longest_sleep = 60'000'000;
  static constexpr std::int64_t soon = 50'000;
  static constexpr std::size_t keepers_at_most = 8;
  static constexpr std::int64_t a_second = 1'000'000;
  static constexpr std::int64_t a_day = 24 * 3600 * a_second;

  struct Job {
    std::shared_ptr<LeaseEntry> entry = {};
    std::int64_t ends = 0;  // when the lease does, as it was found
  };
  friend class Keepers<RemoteCore, Job>;

  /// When a keeper has something to do for an entry.
  std::int64_t due_at(Job& job, std::int64_t now) {
    const LeaseTable::Locked entry = table.try_lock(job.entry);
    // Whoever has it may be waiting for an answer, and others' leases don't.
    if (!entry) return now + soon;
    job.ends = entry->sure_until;
    return entry->known && (entry->release_owed || entry->watched) ? entry->renew_at : now + longest_sleep;
  }

  /// Those whose lease ends first at the end.
  std::int64_t find_due(std::vector<Job>& due) {
    const std::int64_t now = idem::detail::boot_micros();
    std::int64_t next = now + longest_sleep;
    IDEM_TRY {
      std::vector<std::shared_ptr<LeaseEntry>> all = table.all();
      due.reserve(all.size());
      for (std::shared_ptr<LeaseEntry>& entry : all) {
        if (entry->in_hand.load()) continue;
        Job job{std::move(entry)};
        const std::int64_t at = due_at(job, now);
        if (at > now) {
          next = (std::min)(next, at);
        } else {
          job.entry->in_hand = true;
          due.push_back(std::move(job));
        }
      }
      std::sort(due.begin(), due.end(), [](const Job& a, const Job& b) { return a.ends > b.ends; });
      table.sweep(now - a_day);
    }
    IDEM_CATCH_ALL {
      next = (std::min)(next, now + a_second);  // out of memory
    }
    return next;
  }

  std::int64_t look_after(Job& job) {
    Ownership lost;
    std::int64_t next = 0;
    IDEM_TRY {
      next = done_for(job.entry, lost);
    }
    IDEM_CATCH_ALL {
      next = put_off(job.entry);
    }
    job.entry->in_hand = false;
    // Who changed it meanwhile told keepers that passed it over.
    next = (std::min)(next, due_at(job, idem::detail::boot_micros()));
    if (!lost.token) return next;
    IDEM_TRY {
      // Before the owner's own code runs, which takes as long as it likes: others may have the key by now.
      keepers_.look();
      watches.tell(lost);
      changed();
    }
    IDEM_CATCH_ALL {}
    return next;
  }

  /// Out of memory: soon again.
  std::int64_t put_off(const std::shared_ptr<LeaseEntry>& shared) {
    const std::int64_t later = idem::detail::boot_micros() + a_second;
    const LeaseTable::Locked entry = table.try_lock(shared);
    if (entry) entry->renew_at = (std::max)(entry->renew_at, later);
    return later;
  }

  /// Does what is due for one entry; gives when something will be next, and whose lease was lost. Watches are told
  /// without the entry's lock, so that an owner who finishes meanwhile waits for the watch alone.
  std::int64_t done_for(const std::shared_ptr<LeaseEntry>& shared, Ownership& lost) {
    const std::int64_t now = idem::detail::boot_micros();
    Ownership owner;
    std::int64_t next = now + longest_sleep;
    TimePoint until;
    std::int64_t sure = 0;  // until when the lease was prolonged, if it was
    {
      const LeaseTable::Locked entry = table.try_lock(shared);
      if (!entry) return now + soon;
      if (!entry->known) return next;
      owner = entry->record.owner;
      if (entry->release_owed) {
        if (now < entry->renew_at) return entry->renew_at;
        const Meaning meaning = api.cancel(entry->text, entry->lease_id, "released", patience(*entry, now)).meaning;
        const bool gone = meaning == Meaning::done || meaning == Meaning::not_held;
        if (gone || now >= entry->sure_until) {
          // Given back, now or by an answer that was lost; or ended by itself: then the service calls it a doubt, and
          // so it has to be.
          entry->release_owed = false;
          if (gone) entry->known = false;
          return next;
        }
        entry->renew_at = now + a_second;
        return entry->renew_at;
      }
      if (!entry->watched) return next;
      if (now < entry->renew_at) return entry->renew_at;
      const std::int64_t seconds = lease_seconds(entry->lease);
      const Meaning meaning = api.extend(entry->text, entry->lease_id, seconds, patience(*entry, now)).meaning;
      if (meaning == Meaning::done) {
        note_lease(*entry, seconds, now);
        until = entry->record.lease_until;
        sure = entry->sure_until;
        next = entry->renew_at;
      } else if (meaning == Meaning::not_held || idem::detail::boot_micros() >= entry->sure_until) {
        entry->watched = false;
        entry->record.abandoned = true;
        entry->sure_until = 0;
        lost = owner;
      } else {
        // A tenth of what is left, so that several more tries come before the end.
        entry->renew_at = now + (std::max)((entry->sure_until - now) / 10, std::int64_t{50'000});
        next = entry->renew_at;
      }
    }
    if (sure != 0) {
      watches.renewed(owner, until);
      watches.sure_until(owner, sure);
    }
    return next;
  }

  /// Of the keepers' requests: they try again by themselves, and look after others meanwhile. Not more than half of
  /// what is left, so that there is time for another try.
  Patience patience(const LeaseEntry& entry, std::int64_t now) const noexcept {
    const std::int64_t left = (std::max)((entry.sure_until - now) / 2, std::int64_t{100'000});
    return {&stopped_, true, std::chrono::microseconds(left)};
  }

  struct Waiting {
    std::mutex mutex = {};
    std::condition_variable changed = {};
    std::uint64_t changes = 0;
  };

  Cancellation stopped_;
  std::unique_ptr<Waiting> waiting_ = std::make_unique<Waiting>();
  Keepers<RemoteCore, Job> keepers_{*this, keepers_at_most};
  std::uint64_t generation_ = idem::detail::process_generation();
};

}  // namespace impl
}  // namespace onceonly
IDEM_END_NAMESPACE
