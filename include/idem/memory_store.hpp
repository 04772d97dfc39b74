// MemoryStore: records in this process's memory, shared by its threads.
#pragma once

#include <idem/clock.hpp>
#include <idem/detail/cancellation.hpp>
#include <idem/detail/chrono.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/memory_core.hpp>
#include <idem/detail/memory_entry.hpp>
#include <idem/detail/memory_reclaim.hpp>
#include <idem/detail/memory_scene.hpp>
#include <idem/detail/memory_table.hpp>
#include <idem/detail/process.hpp>
#include <idem/detail/random.hpp>
#include <idem/duration.hpp>
#include <idem/event.hpp>
#include <idem/key.hpp>
#include <idem/payload.hpp>
#include <idem/protocol.hpp>
#include <idem/store.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

IDEM_BEGIN_NAMESPACE

struct MemoryStoreOptions {
  /// The most records that the store holds, at roughly 250 bytes each. Once it is full of records that haven't expired,
  /// claims of new keys are refused: forgetting one would mean running its function again. Not zero.
  std::size_t max_entries = 1'000'000;
  /// By default the wall clock at the time when the store is made, moved on by the monotonic clock: setting the wall
  /// clock changes nothing. Called with a lock held, so that it must not use the store.
  Clock clock = {};
  /// Told what was done to records by hand: resolved and forgotten.
  EventHandler on_event = {};
};

/// Records in memory: the fastest store, for duplicates that meet in one process. Keeps any copyable result as the
/// object that it is. What isn't finished when the process ends is forgotten with it.
///
/// Thread safety: everything but moving and destruction may be done from many threads at once. A finished record is
/// read without a lock. Movable until first used. Payloads must not outlive the store.
/// A child process can't use its parent's store, since the locks may be held by threads that it doesn't have: it is
/// answered `unavailable`.
class MemoryStore {
 public:
  static constexpr Keeps keeps = Keeps::objects;

  MemoryStore() : MemoryStore(MemoryStoreOptions{}) {}
  /// Throws std::invalid_argument where max_entries is zero.
  explicit MemoryStore(MemoryStoreOptions options) {
    if (options.max_entries == 0) {
      detail::raise(std::invalid_argument("idem: MemoryStoreOptions::max_entries is 0, which holds no record at all"));
    }
    core_ = std::make_unique<detail::MemoryCore>(options.max_entries, std::move(options.clock),
                                                 std::move(options.on_event));
  }

  MemoryStore(MemoryStore&&) noexcept = default;
  MemoryStore& operator=(MemoryStore&&) noexcept = default;
  ~MemoryStore() {
    // Another thread of the parent may have been changing lists when the child was made: the child leaves them alone.
    if (core_ != nullptr && core_->inherited()) static_cast<void>(core_.release());
  }

  StoreTraits traits() const noexcept {
    return {.keeps = keeps, .liveness = Liveness::process, .survives_process = false, .clock = ClockOwner::process};
  }
  /// A new owner's token, for ClaimRequest.
  static OwnerToken new_owner() noexcept { return detail::new_local_token(); }
  TimePoint now() const noexcept { return core_ != nullptr ? core_->clock.now() : TimePoint{}; }

  /// Answers `completed`, `failed` or `conflict`, as a claim would, where there is a finished record, without taking a
  /// lock; `absent` says nothing: it may be running, or missed since it's just being moved. The payload holds memory
  /// back and should be dropped soon.
  Peeked peek(const Key& key, const Digest* fingerprint) noexcept {
    Peeked reply;
    if (core_ == nullptr || !key.valid() || core_->inherited()) return reply;
    const std::uint64_t hash = core_->hash_of(key);
    detail::Reading reading(core_->readers);
    const detail::MemoryEntry* entry = core_->shard_of(hash).find(detail::slot_hash(hash), key.bytes()).entry;
    if (entry == nullptr || !entry->published.load(std::memory_order_acquire)) return reply;
    if (core_->clock.reached(entry->record.expires_at)) return reply;
    reply.answer = protocol::replay(entry->record, fingerprint);
    reply.record = &entry->record;
    if (reply.answer != Answer::conflict) reply.payload = entry->payload();
    // The hold keeps the record, too.
    reply.payload.hold(&reading.keep(), &detail::leave_memory);
    return reply;
  }

  Reply claim(const Key& key, const ClaimRequest& request, LeaseWatch* = nullptr) {
    Reply reply;
    for (;;) {
      bool full = false;
      locked(reply, key, [&](Scene& at) { full = !at.claim(reply, key, request); });
      if (!full) return reply;
      if (!core_->make_room(core_->hash_of(key))) {
        say_full(reply);
        return reply;
      }
      reply.message.clear();
    }
  }

  Reply renew(const Key& key, const Ownership& owner, Duration) {
    return locked(key, [&](Scene& at, Reply& answer) {
      at.tell(answer, protocol::renew(at.record(), owner, forever, at.now, false));
    });
  }

  /// Where the result can't be copied the record is completed all the same, and the reply's payload is of the kind
  /// `lost`. The reply has no object: the caller has it.
  Reply complete(const Key& key, const FinishRequest& request) { return finish(key, request, State::completed); }
  /// The same for a failure that is kept.
  Reply fail(const Key& key, const FinishRequest& request) { return finish(key, request, State::failed); }

  Reply release(const Key& key, const Ownership& owner) {
    return locked(key,
                  [&](Scene& at, Reply& answer) { at.tell(answer, protocol::release(at.record(), owner, at.now)); });
  }
  Reply abandon(const Key& key, const Ownership& owner) {
    return locked(key,
                  [&](Scene& at, Reply& answer) { at.tell(answer, protocol::abandon(at.record(), owner, at.now)); });
  }

  Reply resolve(const Key& key, const Resolution& found, std::string_view note) {
    const OwnerToken resolver = new_owner();
    detail::KeptSource source(found.source);
    Reply reply = locked(key, [&](Scene& at, Reply& answer) {
      const protocol::Transition change = protocol::resolve(at.record(), found.expected_epoch, resolver, found.state,
                                                            at.now, found.ttl, false, at.shard.last_epoch + 1);
      at.resolve(answer, change, source);
      if (change.change == protocol::Change::write) at.shard.last_epoch = change.next.owner.epoch;
      if (change.answer == Answer::unavailable) {
        detail::answer_unavailable(answer, "there is no token or no state to resolve the record with");
      }
    });
    if (reply.answer == Answer::ok) tell(EventKind::resolved, key, reply.record, note);
    return reply;
  }

  Reply find(const Key& key) {
    return locked(key, [&](Scene& at, Reply& answer) { at.tell(answer, protocol::find(at.record(), at.now, false)); });
  }

  Reply erase(const Key& key) {
    Reply reply =
        locked(key, [&](Scene& at, Reply& answer) { at.tell(answer, protocol::erase(at.record(), at.now, false)); });
    if (reply.answer == Answer::ok) tell(EventKind::forgotten, key, reply.record, {});
    return reply;
  }

  /// Returns at once where the key isn't running under this epoch. With a clock of the user's, which can't wake
  /// anybody, it is asked once a millisecond.
  void wait(const Key& key, std::uint64_t epoch, TimePoint deadline) {
    if (refusal(key) != nullptr) return;
    const std::uint64_t hash = core_->hash_of(key);
    detail::MemoryShard& shard = core_->shard_of(hash);
    std::unique_lock lock(shard.mutex);
    detail::MemoryEntry* const entry = shard.find(detail::slot_hash(hash), key.bytes()).entry;
    if (entry == nullptr || entry->record.state != State::in_progress || entry->record.abandoned ||
        entry->record.owner.epoch != epoch) {
      return;
    }
    detail::MemoryWaiter waiter(*entry);
    // From here on the entry may be gone whenever the lock was open: it then has woken the waiter before.
    while (!waiter.woken()) {
      if (deadline == (TimePoint::max)()) {
        waiter.changed.wait(lock);
        continue;
      }
      const TimePoint time = core_->clock.now();
      if (deadline <= time) return;
      std::chrono::microseconds span = std::chrono::hours(1);
      if (core_->clock.injected()) {
        span = std::chrono::milliseconds(1);
      } else if (deadline < time + span) {
        span = deadline - time;
      }
      waiter.changed.wait_for(lock, span);
    }
  }

  /// Calls `each(const RecordView&)` for every record that hasn't expired, without a lock: it may use the store.
  /// Records made or erased meanwhile may be shown or not. Throws what `each` throws, and std::bad_alloc.
  template <class Each>
  void for_each(Each&& each) {
    if (!usable()) return;
    for (detail::MemoryShard& shard : core_->shards) {
      // Keeps the table and all its entries, though others may replace them meanwhile.
      detail::Reading reading(core_->readers);
      detail::MemoryTable* const table = shard.table.load(std::memory_order_seq_cst);
      if (table == nullptr) continue;
      struct Seen {
        const detail::MemoryEntry* entry = nullptr;
        detail::DomainRef domain = {};
        Record record = {};
        Status status = Status::absent;
      };
      Seen batch[16];
      for (std::size_t next = 0; next < table->capacity();) {
        std::size_t size = 0;
        {
          std::lock_guard lock(shard.mutex);
          const TimePoint time = core_->clock.now();
          for (; next < table->capacity() && size < sizeof batch / sizeof batch[0]; ++next) {
            const detail::MemoryEntry* entry = table->slots()[next].entry.load(std::memory_order_seq_cst);
            if (!detail::holds_entry(entry) || !entry->linked) continue;
            const Status status = protocol::status(&entry->record, time, false);
            if (status == Status::absent) continue;
            batch[size++] = Seen{entry, entry->domain->domain, entry->record, status};
          }
        }
        for (std::size_t i = 0; i < size; ++i) {
          Key key;
          detail::KeyBuilder builder(key, batch[i].domain);
          builder.writer().put_raw(batch[i].entry->rest(), batch[i].entry->rest_size);
          const std::string text = key.text();
          each(RecordView{text, batch[i].record, batch[i].status});
        }
      }
    }
  }

  /// Removes expired records, which otherwise happens little by little, and those in doubt where asked for.
  PurgeResult purge(const PurgeOptions& options) {
    PurgeResult result;
    const Duration* age = options.in_doubt_older_than ? &*options.in_doubt_older_than : nullptr;
    each_shard([&](detail::MemoryShard& shard, TimePoint time) {
      shard.visit([&](const detail::MemoryShard::Found& found) {
        if (!protocol::purgeable(found.entry->record, time, false, age)) return;
        ++(found.entry->record.state == State::in_progress ? result.in_doubt : result.expired);
        shard.unlink(found);
      });
    });
    return result;
  }

  /// Forgets everything that isn't running. Records that had expired aren't counted, as erase doesn't count them.
  std::size_t clear() {
    std::size_t removed = 0;
    each_shard([&](detail::MemoryShard& shard, TimePoint time) {
      shard.visit([&](const detail::MemoryShard::Found& found) {
        const protocol::Transition change = protocol::erase(&found.entry->record, time, false);
        if (change.answer == Answer::ok) ++removed;
        if (change.change == protocol::Change::erase) shard.unlink(found);
      });
    });
    return removed;
  }

  StoreStats stats() {
    StoreStats stats;
    each_shard([&](detail::MemoryShard& shard, TimePoint time) {
      stats.records += shard.entries;
      shard.visit([&](const detail::MemoryShard::Found& found) {
        const Record& record = found.entry->record;
        detail::count_status(stats, record, protocol::status(&record, time, false));
      });
    });
    return stats;
  }

 private:
  IDEM_COLD void say_full(Reply& reply) const {
    reply.answer = Answer::unavailable;
    IDEM_TRY {
      reply.message = "the store holds max_entries = " + std::to_string(core_->max_entries) +
                      " records; raise it, shorten ttl, or forget or purge some";
    }
    IDEM_CATCH_UNWIND
    IDEM_CATCH_ALL {}
  }

  using Scene = detail::MemoryScene;

  bool usable() const noexcept { return core_ != nullptr && !core_->inherited(); }
  /// Why nothing can be done, or null.
  const char* refusal(const Key& key) const noexcept {
    if (core_ == nullptr) return "this MemoryStore was moved from";
    if (core_->inherited()) {
      return "this MemoryStore belongs to the process that made it; make one in the child";
    }
    if (!core_->usable()) return "the system had no random bytes when this MemoryStore was made";
    return key.valid() ? nullptr : "the key is empty";
  }

  template <class Act>
  Reply locked(const Key& key, Act&& act) {
    Reply reply;
    locked(reply, key, [&](Scene& at) { act(at, reply); });
    return reply;
  }
  template <class Act>
  void locked(Reply& reply, const Key& key, Act&& act) {
    if (const char* why = refusal(key)) {
      detail::answer_unavailable(reply, why);
      return;
    }
    const std::uint64_t hash = core_->hash_of(key);
    detail::MemoryShard& shard = core_->shard_of(hash);
    detail::RetiredList free;
    {
      std::lock_guard lock(shard.mutex);
      Scene scene{*core_, shard, detail::slot_hash(hash), core_->clock.now(), {}};
      scene.found = shard.find(scene.hash, key.bytes());
      act(scene);
      core_->settle(shard);
      shard.reclaimer.collect(core_->readers, free);
    }
  }

  template <class Act>
  void each_shard(Act&& act) {
    if (!usable()) return;
    for (detail::MemoryShard& shard : core_->shards) {
      detail::RetiredList free;
      std::lock_guard lock(shard.mutex);
      act(shard, core_->clock.now());
      core_->settle(shard);
      shard.reclaimer.collect_now(core_->readers, free);
    }
  }

  Reply finish(const Key& key, const FinishRequest& request, State state) {
    detail::KeptSource source(request.source);
    return locked(key, [&](Scene& at, Reply& answer) { at.finish(answer, request, state, source); });
  }

  void tell(EventKind kind, const Key& key, const Record& record, std::string_view message) const {
    if (core_->on_event) core_->on_event(Event{kind, key, record.owner.epoch, record.attempt, message});
  }

  std::unique_ptr<detail::MemoryCore> core_;
};

namespace detail {
// Its locks, clock and memory are no cancellation points. The user's clock, and copies and destructors of the user's
// results, may have some, and are shielded where they are called.
template <>
inline constexpr bool shields_itself<MemoryStore> = true;
}  // namespace detail

IDEM_END_NAMESPACE
