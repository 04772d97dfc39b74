// One operation of a FileStore from its beginning to its answer; which rule decides, the caller says.
#pragma once

#include <idem/detail/array.hpp>
#include <idem/detail/bytes.hpp>
#include <idem/detail/cancellation.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/file/answers.hpp>
#include <idem/detail/file/attached.hpp>
#include <idem/detail/file/compaction.hpp>
#include <idem/detail/file/core.hpp>
#include <idem/detail/file/garbage.hpp>
#include <idem/detail/file/os.hpp>
#include <idem/detail/file/owner_file.hpp>
#include <idem/detail/record_bytes.hpp>
#include <idem/detail/sha256.hpp>
#include <idem/event.hpp>
#include <idem/key.hpp>
#include <idem/payload.hpp>
#include <idem/protocol.hpp>
#include <idem/store.hpp>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

IDEM_BEGIN_NAMESPACE
namespace detail::file {

/// What the rules are told.
struct Moment {
  const Record* record;
  TimePoint now;
  bool owner_gone;
  std::uint64_t next_sequence;
};

/// What has to be known of an operation besides its rule.
struct About {
  bool claims = false;
  bool owned = false;  ///< Only the record's owner may do it.
  bool erases = false;
  bool releases = false;            ///< Of what is owed.
  const Ownership* owes = nullptr;  ///< Remembered where it can't be done.
  const Source* source = nullptr;   ///< What a finished record carries.
};

/// Thread safety: all from any thread, but construction and destruction.
class Engine {
 public:
  Engine(const FileSettings& settings, EventHandler handler)
      : on_event(std::move(handler)), attached_(new Attached(settings, nullptr)) {}
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;
  ~Engine() {
    Attached* const at = attached_.load(std::memory_order_acquire);
    // A child closes nothing of its parent's but what the fork handlers closed: the locks may be held.
    if (!at->core.inherited()) delete at;
  }

  const EventHandler on_event;

  /// This process's part. A child makes one of its own; has it no memory for that, the program ends.
  Attached& current() const noexcept {
    Attached* known = attached_.load(std::memory_order_acquire);
    if (!known->core.inherited()) [[likely]]
      return *known;
    auto* mine = new Attached(known->core.settings, known);
    if (attached_.compare_exchange_strong(known, mine, std::memory_order_acq_rel)) return *mine;
    delete mine;
    return *known;
  }

  /// Answers by a finished record without the lock and without a system call, where the index is current and the record
  /// is on disk. False says nothing. `decide(const Record&, TimePoint)` gives a transition.
  template <class Decide>
  bool glance(const Key& key, Reply& reply, Decide decide) {
    return read_finished(key, [&](FileCore& core, const Found& found) {
      const protocol::Transition seen = decide(found.stored.record, core.record_time());
      if (seen.change != protocol::Change::none) return false;
      fill(reply, seen, found);
      return seen.answer == Answer::completed || seen.answer == Answer::failed || seen.answer == Answer::conflict;
    });
  }

  /// The same as a copy of what is stored, with less ado.
  Peeked peek(const Key& key, const Digest* fingerprint) noexcept {
    Peeked reply;
    read_finished(key, [&](FileCore& core, const Found& found) {
      if (core.may_have_expired(found.stored.record)) return false;
      const StoredRecord& stored = found.stored;
      const Answer answer = protocol::replay(stored.record, fingerprint);
      const std::size_t size = answer == Answer::conflict ? 0 : stored.payload_size;
      // The record, and the payload behind it. Nothing is held back: who decodes it may take as long as they like.
      auto* const memory = static_cast<std::uint8_t*>(::operator new(sizeof(Record) + size));
      auto* const record = ::new (static_cast<void*>(memory)) Record(stored.record);
      if (size != 0) std::memcpy(memory + sizeof(Record), stored.payload, size);
      reply.payload = answer == Answer::conflict ? Payload() : Payload(stored.kind, memory + sizeof(Record), size);
      reply.payload.hold(memory, [](void* held, const Payload&) noexcept { ::operator delete(held); });
      reply.record = record;
      reply.answer = answer;
      return true;
    });
    return reply;
  }

  /// One transition: made under the lock, durable before it is answered. `decide(const Moment&)` gives it.
  template <class Decide>
  Reply change(const Key& key, const About& about, Decide decide) {
    Reply reply;
    if (!key.valid()) {
      refuse(reply, Answer::unavailable, "the key is empty");
      return reply;
    }
    const NoCancellation shield;
    Attached& here = current();
    Done done;
    const Digest digest = key.digest();
    Problem problem = entered(here, [&] { return transact(here, key, digest, about, decide, reply, done); });
    if (!problem && done.sequence != 0) problem = here.core.sync(done.sequence);
    if (done.wakes) here.core.page.wake(digest);
    if (problem) {
      // Given up before the function started: the claim is taken back as soon as the store can.
      if (done.claimed.token) here.owed.add({digest, done.claimed, true});
      if (about.owes != nullptr) here.owed.add({digest, *about.owes, about.releases});
      if (here.owed.any()) pay_in_background(here);
      refuse(reply, problem, here.core);
    }
    announce(here);
    if (done.appended) maintain(about.claims);
    return reply;
  }

  /// Shows every record to `decide(Found&, TimePoint, bool owner_gone)`, in batches; true erases it, and
  /// `erased(Found&)` is told. `after()` is called between batches, without the lock. False where not everything could
  /// be read, or erased durably.
  template <class Decide, class Erased, class After>
  bool visit(Decide decide, Erased erased, After after) {
    Attached& here = current();
    Array<Digest> keys;
    for (std::size_t number = 0; number < FileIndex::table_count; ++number) {
      keys.clear();
      if (!list(number, keys)) return false;
      for (std::size_t from = 0; from < keys.size(); from += batch) {
        const std::size_t to = from + batch < keys.size() ? from + batch : keys.size();
        if (!visit_batch(here, keys.data() + from, to - from, decide, erased)) return false;
        after();
      }
    }
    return true;
  }

  /// Calls `act(FileCore&)` with the lock held: ok, or unavailable with the reason.
  template <class Act>
  Reply with_core(Act act) {
    Reply reply;
    Attached& here = current();
    {
      const NoCancellation shield;
      const Problem problem = entered(here, [&] {
        act(here.core);
        return Problem{};
      });
      reply.answer = Answer::ok;
      if (problem) refuse(reply, problem, here.core);
    }
    announce(here);
    return reply;
  }

  Reply compaction(Purpose purpose) {
    Reply reply;
    const NoCancellation shield;
    Attached& here = current();
    const Problem problem = attempt([&] {
      Compaction compaction(here.core, purpose);
      if (Problem failed = compaction.run()) return failed;
      reply.answer = Answer::ok;
      if (compaction.left_behind() != 0) {
        reply.message = std::to_string(compaction.left_behind()) + " records couldn't be read and were left behind";
      }
      return Problem{};
    });
    if (problem) refuse(reply, problem, here.core);
    return reply;
  }

  /// Tells the user of something that no answer says. `what` is a literal.
  void warn(const char* what) const {
    if (!on_event) return;
    IDEM_TRY {
      const std::string text = describe({what}, current().core.settings.path);
      on_event(Event{EventKind::store_warning, Key{}, 0, 0, text});
    }
    IDEM_CATCH_UNWIND
    IDEM_CATCH_ALL {}
  }

  /// What has to be done from time to time, by whoever comes by. A claim, behind which a function waits to be started,
  /// does it only where nothing else comes by for long.
  void maintain(bool claims) {
    const NoCancellation shield;
    FileCore& core = current().core;
    if (!claims) core.sync_if_due();
    compact_if_due(core, claims ? 4 : 1);
  }
  /// The same after records were removed, whose frames may be long and what removes them is short.
  void tidy_up() {
    FileCore& core = current().core;
    core.compact_at.store(core.settings.compact_at, std::memory_order_relaxed);
    maintain(false);
  }

 private:
  static_assert(std::is_trivially_destructible_v<Record>);

  /// Calls `use(FileCore&, const Found&)` with a finished record that is the key's last one and is as durable as was
  /// asked for. False where there is none, where that isn't known without the lock, and where `use` says so.
  template <class Use>
  bool read_finished(const Key& key, Use use) const {
    if (!key.valid()) return false;
    Attached& here = current();
    FileCore& core = here.core;
    if (!core.opened.load(std::memory_order_acquire) || here.owed.any()) return false;
    const std::uint64_t indexed = core.indexed.load(std::memory_order_acquire);
    if (indexed == 0 || core.page.sequence() != indexed) return false;
    const Digest digest = key.digest();
    Found found;
    IDEM_TRY {
      const ReaderGate::Reading reading(core.index.gate);
      const Place place = core.place_of(digest);
      if (!place || place.held != Held::finished) return false;
      const char* why = nullptr;
      if (core.read(place, digest, found, why) != Look::found) return false;
      if (core.settings.power && core.page.durable_sequence() < found.sequence) return false;
      return use(core, found);
    }
    IDEM_CATCH_UNWIND
    IDEM_CATCH_ALL {
      return false;
    }
  }

  static constexpr std::size_t batch = 128;
  static constexpr std::size_t short_name = 512;
  static_assert(frame_size(record_bytes_impl::head_size + sizeof(Digest) + short_name + 4) <= outcome_room);

  void compact_if_due(FileCore& core, std::uint64_t patience) {
    if (core.indexed.load(std::memory_order_acquire) == 0) return;
    const std::uint64_t end = core.readable_end.load(std::memory_order_acquire);
    std::uint64_t due = core.compact_at.load(std::memory_order_relaxed);
    // One thread looks. Should compaction fail, as on a full disk, somebody tries again when there is a half more.
    std::uint64_t mine = end + end / 2;
    if (end / patience < due || !core.compact_at.compare_exchange_strong(due, mine)) return;
    bool pays = false;
    if (attempt([&] { return is_half_garbage(core, pays); })) return;
    if (pays && compaction(Purpose::shrink).answer != Answer::ok) return;
    const std::uint64_t left = core.readable_end.load(std::memory_order_acquire);
    if (pays) core.sync_at.store(left + FileCore::unsynced);
    // Unless another journal has come meanwhile, and with it its time.
    core.compact_at.compare_exchange_strong(mine, next_look(core.settings.compact_at, left));
  }

  /// The same with the lock held, once what is owed was done.
  template <class Act>
  static Problem entered(Attached& here, Act act) {
    return attempt([&] {
      if (Problem problem = here.core.enter()) return problem;
      const Leave leave{here.core};
      pay_owed(here);
      return act();
    });
  }

  /// What an operation left to be done once the lock is given back.
  struct Done {
    std::uint64_t sequence = 0;  // has to be durable before the answer
    bool wakes = false;
    bool appended = false;
    Ownership claimed = {};
  };

  void announce(Attached& here) const {
    const char* const warning = here.core.take_warning();
    if (warning != nullptr) warn(warning);
  }

  template <class Decide>
  Problem transact(Attached& here, const Key& key, const Digest& digest, const About& about, Decide& decide,
                   Reply& reply, Done& done) {
    FileCore& core = here.core;
    Found found;
    const char* why = nullptr;
    if (core.look(digest, found, why) == Look::corrupt) {
      refuse(reply, Answer::corrupt, why);
      return {};
    }
    const Record* const record = found.record();
    if (record == nullptr && core.state.damage) {
      refuse_damaged(reply, core);
      return {};
    }
    if (about.claims && here.owed.holds(digest)) {
      reply.answer = Answer::in_doubt;
      if (record != nullptr) reply.record = *record;
      return {};
    }
    if (about.owned && record != nullptr && here.inherited(found.owner)) {
      reply.answer = Answer::stale;
      reply.record = *record;
      return {};
    }
    bool owner_gone = false;
    if (protocol::asks_for_owner(record)) {
      Problem problem;
      const Alive alive = core.owner_alive(found.owner, problem);
      if (alive == Alive::unknown) return problem ? problem : Problem{"whether the owner lives can't be found out"};
      owner_gone = alive == Alive::no;
    }
    const TimePoint now = core.record_time();
    // Whoever is told that a record has expired mustn't find it again when the clock is set back.
    if (record != nullptr && protocol::expired(*record, now)) core.page.time_seen(now.time_since_epoch().count());
    const protocol::Transition next = decide(Moment{record, now, owner_gone, core.next_sequence()});
    if (next.answer == Answer::unavailable) {
      refuse(reply, Answer::unavailable, "there is no owner or no outcome, or the epochs are used up");
      return {};
    }
    if (next.change == protocol::Change::none) {
      fill(reply, next, found);
      if (about.claims && next.answer == Answer::acquired && here.inherited(found.owner)) {
        reply.answer = Answer::running;  // a copy of the claim of the process that this one was forked from
        return {};
      }
      const bool tells = next.answer == Answer::completed || next.answer == Answer::failed ||
                         next.answer == Answer::conflict || next.answer == Answer::ok ||
                         next.answer == Answer::acquired;
      if (tells && record != nullptr) done.sequence = found.sequence;
      return {};
    }
    if (core.state.damage && !about.erases && found.place.offset < core.state.damage.offset) {
      refuse_damaged(reply, core);
      return {};
    }
    if (core.page.poisoned()) return FileCore::poisoned();
    if (Problem problem = write(core, key, digest, about, next, now, found, reply, done)) return problem;
    reply.answer = next.answer;
    reply.record = next.next;
    done.sequence = core.state.last_sequence;
    done.wakes = record != nullptr;
    done.appended = true;
    return {};
  }

  static Problem write(FileCore& core, const Key& key, const Digest& digest, const About& about,
                       const protocol::Transition& next, TimePoint now, Found& found, Reply& reply, Done& done) {
    if (next.change == protocol::Change::erase) return core.append_erase(digest, now);
    StoredRecord stored = found.stored;
    stored.record = next.next;
    stored.key = digest;
    stored.name = key.name();
    stored.version = key.version();
    if (about.source != nullptr) {
      stored.kind = about.source->kind;
      stored.payload = about.source->data;
      stored.payload_size = about.source->size;
    } else if (next.next.state != State::in_progress) {
      stored.kind = PayloadKind::nothing;  // completed by the claim itself
      stored.payload_size = 0;
    }
    if (!about.claims) {
      Problem problem = core.append_record(stored, found.owner, now, false);
      const bool loses = stored.payload_size != 0;
      if (!problem || !is_full(problem) || (!loses && stored.name.size() <= short_name)) return problem;
      // What became of it finds room, which was reserved with the claim, without its result and with the beginning of
      // its name, by which nobody looks for it.
      if (loses) stored.kind = PayloadKind::lost;
      stored.payload_size = 0;
      stored.name = stored.name.substr(0, short_name);
      if (Problem still = core.append_record(stored, found.owner, now, false)) return still;
      if (loses) reply.payload = Payload(PayloadKind::lost, stored.payload, std::size_t{0});
      return {};
    }
    if (!core.owner.held()) return {"the owner file of this process is gone"};
    done.claimed = next.next.owner;
    return core.append_record(stored, core.owner.id(), now, true);
  }

  bool list(std::size_t number, Array<Digest>& keys) {
    return with_core([&](FileCore& core) {
             IndexTable& table = core.index.tables[number];
             table.for_each([&](Place place) {
               Digest digest;
               std::memcpy(digest.bytes, core.journal->data() + place.offset + digest_in_frame, sizeof digest.bytes);
               keys.push(digest);
             });
           }).answer == Answer::ok;
  }

  /// Leaves the keys of what was erased at the beginning of `keys`.
  template <class Decide, class Erased>
  bool visit_batch(Attached& here, Digest* keys, std::size_t size, Decide& decide, Erased& erased) {
    std::size_t gone = 0;
    std::uint64_t sequence = 0;
    bool complete = true;
    const Reply reply = with_core([&](FileCore& core) {
      for (std::size_t i = 0; i < size; ++i) {
        Found found;
        const char* why = nullptr;
        // What can't be read stays: nobody knows what it says.
        if (core.look(keys[i], found, why) != Look::found) continue;
        bool owner_gone = false;
        if (protocol::asks_for_owner(found.record())) {
          Problem ignored;
          owner_gone = core.owner_alive(found.owner, ignored) == Alive::no;
        }
        const TimePoint now = core.record_time();
        if (!decide(found, now, owner_gone)) continue;
        if (core.page.poisoned() || core.append_erase(keys[i], now)) {
          complete = false;
          continue;
        }
        sequence = core.state.last_sequence;
        keys[gone++] = keys[i];
        erased(found);
      }
    });
    const bool durable = sequence == 0 || !here.core.sync(sequence);
    for (std::size_t i = 0; i < gone; ++i) here.core.page.wake(keys[i]);
    return reply.answer == Answer::ok && complete && durable;
  }

  mutable std::atomic<Attached*> attached_;
};

}  // namespace detail::file
IDEM_END_NAMESPACE
