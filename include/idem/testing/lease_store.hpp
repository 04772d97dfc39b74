// LeaseStore: the smallest whole store, as an example of one and for tests of leases and of results kept as bytes.
#pragma once

#include <idem/clock.hpp>
#include <idem/detail/bytes.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/random.hpp>
#include <idem/detail/record_bytes.hpp>
#include <idem/detail/store_clock.hpp>
#include <idem/detail/watch_list.hpp>
#include <idem/duration.hpp>
#include <idem/event.hpp>
#include <idem/key.hpp>
#include <idem/payload.hpp>
#include <idem/protocol.hpp>
#include <idem/store.hpp>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

IDEM_BEGIN_NAMESPACE
namespace testing {

struct LeaseStoreOptions {
  Clock clock = {};            ///< By default the wall clock when the store was made, moved on by the monotonic one.
  EventHandler on_event = {};  ///< Told what was done by hand: resolved and forgotten.
};

/// Records as bytes in a map under one lock, whose owners prove that they live by leases. Nothing renews a lease by
/// itself: `renew_all()` is what a store's own thread would do every third of a lease.
///
/// A handle: copies refer to the same records, as two processes do to one server. Whoever writes a store can begin with
/// this one: each operation reads the record, asks `idem::protocol` what becomes of it, and writes that.
///
/// Thread safety: every member from any thread, each copy too.
class LeaseStore {
 public:
  static constexpr Keeps keeps = Keeps::bytes;

  explicit LeaseStore(LeaseStoreOptions options = {}) : shared_(std::make_shared<Shared>(std::move(options))) {}

  StoreTraits traits() const noexcept {
    return {.keeps = keeps, .liveness = Liveness::lease, .survives_process = false, .clock = ClockOwner::process};
  }
  TimePoint now() const noexcept { return shared_->clock.now(); }

  Reply claim(const Key& key, const ClaimRequest& request, LeaseWatch* watch) {
    Ownership watched;
    Reply reply = change(key, nullptr, [&](const Moment& at) {
      const protocol::Transition claimed =
          protocol::claim(at.record, request, at.now, at.owner_gone, shared_->last_epoch + 1);
      // What can fail comes before what can't be undone.
      if (claimed.answer == Answer::acquired && watch != nullptr) {
        shared_->watches.add(key.digest(), claimed.next.owner, watch);
        watched = claimed.next.owner;
      }
      return claimed;
    });
    if (reply.answer == Answer::acquired) {
      reply.valid_until = reply.record.lease_until;
    } else {
      shared_->watches.end(watched);
    }
    tell_lost();
    return reply;
  }

  Reply renew(const Key& key, const Ownership& owner, Duration lease) {
    Reply reply = change(key, nullptr, [&](const Moment& at) {
      return protocol::renew(at.record, owner, lease, at.now, at.owner_gone);
    });
    if (reply.answer == Answer::ok) shared_->watches.renewed(owner, reply.record.lease_until);
    tell_lost();
    return reply;
  }

  Reply complete(const Key& key, const FinishRequest& request) { return finish(key, request, State::completed); }
  Reply fail(const Key& key, const FinishRequest& request) { return finish(key, request, State::failed); }

  Reply release(const Key& key, const Ownership& owner) {
    Reply reply = change(key, nullptr, [&](const Moment& at) { return protocol::release(at.record, owner, at.now); });
    shared_->watches.end(owner);
    return reply;
  }

  Reply abandon(const Key& key, const Ownership& owner) {
    Reply reply = change(key, nullptr, [&](const Moment& at) { return protocol::abandon(at.record, owner, at.now); });
    shared_->watches.end(owner);
    return reply;
  }

  Reply resolve(const Key& key, const Resolution& found, std::string_view note) {
    const OwnerToken resolver = idem::detail::new_owner_token();
    Reply reply = change(key, &found.source, [&](const Moment& at) {
      return protocol::resolve(at.record, found.expected_epoch, resolver, found.state, at.now, found.ttl, at.owner_gone,
                               shared_->last_epoch + 1);
    });
    tell_lost();
    if (reply.answer == Answer::ok) tell(EventKind::resolved, key, reply.record, note);
    return reply;
  }

  Reply find(const Key& key) {
    return change(key, nullptr, [](const Moment& at) { return protocol::find(at.record, at.now, at.owner_gone); });
  }

  Reply erase(const Key& key) {
    Reply reply =
        change(key, nullptr, [](const Moment& at) { return protocol::erase(at.record, at.now, at.owner_gone); });
    tell_lost();
    if (reply.answer == Answer::ok) tell(EventKind::forgotten, key, reply.record, {});
    return reply;
  }

  void wait(const Key& key, std::uint64_t epoch, TimePoint deadline) {
    const Digest digest = key.digest();
    std::unique_lock lock(shared_->mutex);
    for (;;) {
      const auto found = shared_->records.find(digest);
      idem::detail::StoredRecord stored;
      if (found == shared_->records.end() || !decode(found->second, stored)) return;
      const TimePoint now = shared_->clock.now();
      if (stored.record.owner.epoch != epoch || status_of(stored.record, now) != Status::running) return;
      if (deadline <= now) return;
      // A clock of the user's wakes nobody, so that it's asked again and again.
      std::chrono::microseconds pause = std::chrono::milliseconds(1);
      if (!shared_->clock.injected()) {
        const TimePoint end = (std::min)(deadline, stored.record.lease_until);
        pause = (std::min)(end, now + std::chrono::hours(1)) - now;
      }
      shared_->changed.wait_for(lock, pause);
    }
  }

  /// Calls `each(const RecordView&)` for every record that hasn't expired and can be read, without a lock.
  template <class Each>
  void for_each(Each&& each) {
    std::vector<idem::detail::Bytes> all;
    TimePoint now;
    {
      const std::lock_guard lock(shared_->mutex);
      now = shared_->clock.now();
      all.reserve(shared_->records.size());
      for (const auto& [digest, bytes] : shared_->records) all.push_back(bytes);
    }
    for (const idem::detail::Bytes& bytes : all) {
      idem::detail::StoredRecord stored;
      if (!decode(bytes, stored)) continue;
      const Status status = status_of(stored.record, now);
      if (status == Status::absent) continue;
      const std::string text = idem::detail::text_of(stored);
      each(RecordView{text, stored.record, status});
    }
  }

  PurgeResult purge(const PurgeOptions& options) {
    PurgeResult result;
    const Duration* age = options.in_doubt_older_than ? &*options.in_doubt_older_than : nullptr;
    remove_if([&](const Record& record, TimePoint now) {
      if (!protocol::purgeable(record, now, protocol::lease_ended(record, now), age)) return false;
      ++(record.state == State::in_progress ? result.in_doubt : result.expired);
      return true;
    });
    return result;
  }

  std::size_t clear() {
    std::size_t removed = 0;
    remove_if([&](const Record& record, TimePoint now) {
      const protocol::Transition change = protocol::erase(&record, now, protocol::lease_ended(record, now));
      if (change.answer == Answer::ok) ++removed;
      return change.change == protocol::Change::erase;
    });
    return removed;
  }

  StoreStats stats() {
    StoreStats stats;
    const std::lock_guard lock(shared_->mutex);
    const TimePoint now = shared_->clock.now();
    for (const auto& [digest, bytes] : shared_->records) {
      ++stats.records;
      idem::detail::StoredRecord stored;
      if (!decode(bytes, stored)) continue;
      idem::detail::count_status(stats, stored.record, status_of(stored.record, now));
    }
    return stats;
  }

  /// Renews the lease of every watched claim, as a store's own thread would; tells those whose lease is lost. Gives how
  /// many were renewed.
  std::size_t renew_all(Duration lease) {
    std::size_t renewed = 0;
    for (const idem::detail::WatchList::Watched& watched : shared_->watches.snapshot()) {
      if (watched.told) continue;
      const Reply reply = change(watched.key, nullptr, nullptr, [&](const Moment& at) {
        return protocol::renew(at.record, watched.owner, lease, at.now, at.owner_gone);
      });
      if (reply.answer != Answer::ok) continue;
      shared_->watches.renewed(watched.owner, reply.record.lease_until);
      ++renewed;
    }
    tell_lost();
    return renewed;
  }

  /// Changes a byte in the key's record, so that it can't be read. False where there is none.
  bool damage(const Key& key) {
    const std::lock_guard lock(shared_->mutex);
    const auto found = shared_->records.find(key.digest());
    if (found == shared_->records.end()) return false;
    found->second.data()[found->second.size() / 2] ^= 1;
    shared_->changed.notify_all();
    return true;
  }

 private:
  struct Before {
    bool operator()(const Digest& a, const Digest& b) const noexcept {
      return std::memcmp(a.bytes, b.bytes, sizeof a.bytes) < 0;
    }
  };

  struct Shared {
    explicit Shared(LeaseStoreOptions options) : clock(options.clock), on_event(std::move(options.on_event)) {}

    std::mutex mutex;
    std::condition_variable changed;
    std::map<Digest, idem::detail::Bytes, Before> records;
    std::uint64_t last_epoch = 0;
    idem::detail::StoreClock clock;
    EventHandler on_event;
    idem::detail::WatchList watches;
  };

  /// What the rules are told.
  struct Moment {
    const Record* record;
    TimePoint now;
    bool owner_gone;
  };

  static bool decode(const idem::detail::Bytes& bytes, idem::detail::StoredRecord& stored) noexcept {
    const char* why = nullptr;
    return idem::detail::decode_record(bytes.data(), bytes.size(), stored, why);
  }

  static Status status_of(const Record& record, TimePoint now) noexcept {
    return protocol::status(&record, now, protocol::lease_ended(record, now));
  }

  static Reply refusal(Answer answer, const char* why) {
    Reply reply;
    reply.answer = answer;
    IDEM_TRY {
      reply.message = why;
    }
    IDEM_CATCH_UNWIND
    IDEM_CATCH_ALL {}
    return reply;
  }

  /// One operation: reads the record, has `decide` say what becomes of it, writes that. `source` is what a finished
  /// record carries.
  template <class Decide>
  Reply change(const Key& key, const Source* source, Decide decide) {
    if (!key.valid()) return refusal(Answer::unavailable, "the key is empty");
    return change(key.digest(), &key, source, decide);
  }

  /// The same of a record that is there, whose key nobody has: `key` may be nullptr.
  template <class Decide>
  Reply change(const Digest& digest, const Key* key, const Source* source, Decide decide) {
    IDEM_TRY {
      const std::lock_guard lock(shared_->mutex);
      const auto found = shared_->records.find(digest);
      idem::detail::StoredRecord stored;
      const bool exists = found != shared_->records.end();
      if (exists) {
        const char* why = nullptr;
        if (!idem::detail::decode_record(found->second.data(), found->second.size(), stored, why))
          return refusal(Answer::corrupt, why);
        if (!(stored.key == digest)) return refusal(Answer::corrupt, "the record belongs to another key");
      }
      // The clock is read with the lock held: a time from before may lie behind what others did meanwhile.
      const TimePoint now = shared_->clock.now();
      const Record before = stored.record;
      const protocol::Transition transition =
          decide(Moment{exists ? &before : nullptr, now, exists && protocol::lease_ended(before, now)});

      Reply reply;
      reply.answer = transition.answer;
      reply.record = transition.next;
      if (transition.answer == Answer::unavailable)
        return refusal(Answer::unavailable, "there is no owner or no outcome, or the epochs are used up");
      if (transition.change == protocol::Change::none) {
        const bool shown = reply.answer == Answer::completed || reply.answer == Answer::failed;
        if (shown) reply.payload = Payload(stored.kind, stored.payload, stored.payload_size).detach();
        return reply;
      }
      if (transition.change == protocol::Change::erase) {
        shared_->records.erase(found);
      } else {
        stored.record = transition.next;
        stored.key = digest;
        if (key != nullptr) {
          stored.name = key->name();
          stored.version = key->version();
        }
        if (source != nullptr) {
          stored.kind = source->kind;
          stored.payload = source->data;
          stored.payload_size = source->size;
        }
        idem::detail::Bytes bytes;
        if (!idem::detail::encode_record(bytes, stored)) {
          stored.kind = PayloadKind::lost;
          stored.payload_size = 0;
          reply.payload = Payload(PayloadKind::lost, stored.payload, std::size_t{0});
          if (!idem::detail::encode_record(bytes, stored)) return refusal(Answer::unavailable, "the name is too long");
        }
        shared_->records[digest] = std::move(bytes);
        shared_->last_epoch = (std::max)(shared_->last_epoch, transition.next.owner.epoch);
      }
      shared_->changed.notify_all();
      return reply;
    }
    IDEM_CATCH_UNWIND
    IDEM_CATCH_ALL {
      return refusal(Answer::unavailable, "out of memory");
    }
  }

  Reply finish(const Key& key, const FinishRequest& request, State state) {
    Reply reply = change(key, &request.source, [&](const Moment& at) {
      return protocol::finish(at.record, request.owner, state, at.now, request.ttl);
    });
    shared_->watches.end(request.owner);
    return reply;
  }

  template <class Condition>
  void remove_if(Condition condition) {
    {
      const std::lock_guard lock(shared_->mutex);
      const TimePoint now = shared_->clock.now();
      for (auto at = shared_->records.begin(); at != shared_->records.end();) {
        idem::detail::StoredRecord stored;
        // What can't be read stays: nobody knows what it says.
        const bool removed = decode(at->second, stored) && condition(stored.record, now);
        at = removed ? shared_->records.erase(at) : std::next(at);
      }
      shared_->changed.notify_all();
    }
    tell_lost();
  }

  /// Tells each owner that has lost its record or its lease.
  void tell_lost() {
    IDEM_TRY {
      for (const idem::detail::WatchList::Watched& watched : shared_->watches.snapshot()) {
        if (!watched.told && lost(watched)) shared_->watches.tell(watched.owner);
      }
    }
    IDEM_CATCH_UNWIND
    IDEM_CATCH_ALL {}  // out of memory: they are told the next time
  }

  bool lost(const idem::detail::WatchList::Watched& watched) const {
    const std::lock_guard lock(shared_->mutex);
    const auto found = shared_->records.find(watched.key);
    idem::detail::StoredRecord stored;
    if (found == shared_->records.end() || !decode(found->second, stored)) return true;
    return !(stored.record.owner == watched.owner) || stored.record.state != State::in_progress ||
           protocol::lease_ended(stored.record, shared_->clock.now());
  }

  void tell(EventKind kind, const Key& key, const Record& record, std::string_view message) const {
    shared_->on_event(Event{kind, key, record.owner.epoch, record.attempt, message});
  }

  std::shared_ptr<Shared> shared_;
};

static_assert(Store<LeaseStore>);

}  // namespace testing
IDEM_END_NAMESPACE
