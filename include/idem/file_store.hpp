// FileStore: records in a directory, shared by all processes of one machine.
//
// What it doesn't promise: nothing about a directory on a network file system, which is warned about; nothing once the
// directory was deleted or replaced by an older copy; and no disk keeps what it only says it has written.
#pragma once

#include <idem/clock.hpp>
#include <idem/detail/array.hpp>
#include <idem/detail/chrono.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/file/core.hpp>
#include <idem/detail/file/engine.hpp>
#include <idem/detail/file/verify.hpp>
#include <idem/detail/file/waiting.hpp>
#include <idem/detail/random.hpp>
#include <idem/detail/record_bytes.hpp>
#include <idem/duration.hpp>
#include <idem/event.hpp>
#include <idem/key.hpp>
#include <idem/payload.hpp>
#include <idem/protocol.hpp>
#include <idem/store.hpp>

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

IDEM_BEGIN_NAMESPACE

/// What an answer survives.
enum class Durability : std::uint8_t {
  power = 1,  ///< Loss of power: a claim is on disk before the function starts, an outcome before anybody hears of it.
  process = 2,  ///< The end of the process, kill -9 included; after a loss of power the last seconds may be missing.
};

/// What becomes of a directory that may lose records: tmpfs, /tmp, network file systems, FUSE, overlays.
enum class UnsafeDirectory : std::uint8_t {
  warn = 1,    ///< An event `store_warning`.
  refuse = 2,  ///< Every operation is answered `unavailable`.
};

struct FileStoreOptions {
  /// `process` answers some hundred times sooner, and a machine that crashes may run again what was about to be
  /// recorded.
  Durability durability = Durability::power;
  /// How long an operation waits for another process that is stopped inside the store's lock. Then it is unavailable.
  Duration lock_timeout = std::chrono::seconds(10);
  UnsafeDirectory unsafe_directory = UnsafeDirectory::warn;
  /// Users of the directory's group may share it: files have mode 0660, the directory 2770, instead of 0600 and 0700.
  /// Whoever may write there may forge any record, and who may only open the file `lock` may hold the lock for ever.
  bool shared_group = false;
  /// From which size on, in bytes, the journal is rewritten without what is superseded or expired, whenever that is
  /// half of it. The thread that ends a call at that moment does it; others go on.
  std::size_t compact_at = std::size_t{16} << 20;
  /// By default the wall clock, kept from going backwards. Called with a lock held, so that it must not use the store.
  Clock clock = {};
  /// Told what was done to records by hand (resolved, forgotten), and what is wrong with the directory.
  EventHandler on_event = {};
};

/// What `FileStore::verify` found.
using FileReport = detail::file::FileReport;

/// Records in one append-only journal, shared by all processes and threads that name the same directory. A killed owner
/// is in doubt at once; a slow or stopped one lives for as long as it takes. docs/format.md describes the files.
///
/// Nothing is opened before the first operation, and an operation that can't open the directory is answered
/// `unavailable` with the reason, so that service resumes by itself.
///
/// Thread safety: everything but moving and destruction may be done from many threads at once. Movable until first
/// used. A child process may use its parent's object: it gets an owner file of its own, and claims that it inherited
/// are dead handles, which change nothing. Not for signal handlers.
class FileStore {
 public:
  static constexpr Keeps keeps = Keeps::bytes;

  /// Throws std::invalid_argument where an option can't be meant, and std::bad_alloc. The directory is made, with
  /// everything above it, by the first operation; a relative path is meant from the working directory of this moment.
  explicit FileStore(std::string directory, FileStoreOptions options = {}) {
    if (directory.empty()) detail::raise(std::invalid_argument("idem: FileStore needs the name of a directory"));
    if (!options.lock_timeout.is_positive()) {
      detail::raise(std::invalid_argument("idem: FileStoreOptions::lock_timeout has to be more than zero"));
    }
    detail::file::FileSettings settings;
    settings.path = detail::file::absolute_path(std::move(directory));
    settings.clock = options.clock;
    // Ten years are as good as forever, and no deadline overflows.
    constexpr std::int64_t longest = std::int64_t{10} * 365 * 24 * 3600 * 1'000'000;
    const std::int64_t micros = options.lock_timeout.nanoseconds() / 1000 + 1;
    settings.lock_timeout = micros < longest ? micros : longest;
    settings.compact_at = options.compact_at;
    settings.power = options.durability == Durability::power;
    settings.group = options.shared_group;
    settings.refuse_unsafe = options.unsafe_directory == UnsafeDirectory::refuse;
    engine_ = new detail::file::Engine(settings, std::move(options.on_event));
  }

  FileStore(FileStore&& other) noexcept : engine_(other.engine_) { other.engine_ = nullptr; }
  FileStore& operator=(FileStore&& other) noexcept {
    if (this == &other) return *this;
    delete engine_;
    engine_ = other.engine_;
    other.engine_ = nullptr;
    return *this;
  }
  ~FileStore() { delete engine_; }

  StoreTraits traits() const noexcept {
    return {.keeps = keeps, .liveness = Liveness::kernel, .survives_process = true, .clock = ClockOwner::process};
  }
  TimePoint now() const noexcept { return engine_ != nullptr ? engine_->current().core.clock.now() : TimePoint{}; }

  /// Answers `completed`, `failed` or `conflict`, as a claim would, where there is a finished record that can be told
  /// of without the lock; `absent` says nothing. The payload is a copy.
  Peeked peek(const Key& key, const Digest* fingerprint) noexcept {
    return engine_ != nullptr ? engine_->peek(key, fingerprint) : Peeked{};
  }

  Reply claim(const Key& key, const ClaimRequest& wanted, LeaseWatch* = nullptr) {
    ClaimRequest request = wanted;
    request.lease = forever;  // the kernel proves that the owner lives
    Reply reply;
    if (glance(key, reply,
               [&](const Record& record, TimePoint now) { return protocol::claim(&record, request, now, false, 0); })) {
      return reply;
    }
    return change(key, About{.claims = true}, [&](const Moment& at) {
      return protocol::claim(at.record, request, at.now, at.owner_gone, at.next_sequence);
    });
  }

  /// There is no lease to prolong: only says whether the owner still holds the key.
  Reply renew(const Key& key, const Ownership& owner, Duration) {
    return change(key, About{.owned = true}, [&](const Moment& at) {
      protocol::Transition held = protocol::renew(at.record, owner, forever, at.now, at.owner_gone);
      held.change = protocol::Change::none;
      return held;
    });
  }

  /// Where the disk is so full that the result finds no room, the record is completed all the same, and the reply's
  /// payload is of the kind `lost`. After `unavailable` it isn't known whether the outcome will be found.
  Reply complete(const Key& key, const FinishRequest& request) { return finish(key, request, State::completed); }
  /// The same for a failure that is kept.
  Reply fail(const Key& key, const FinishRequest& request) { return finish(key, request, State::failed); }

  Reply release(const Key& key, const Ownership& owner) {
    return change(key, About{.owned = true, .releases = true, .owes = &owner},
                  [&](const Moment& at) { return protocol::release(at.record, owner, at.now); });
  }

  Reply abandon(const Key& key, const Ownership& owner) {
    return change(key, About{.owned = true, .owes = &owner},
                  [&](const Moment& at) { return protocol::abandon(at.record, owner, at.now); });
  }

  Reply resolve(const Key& key, const Resolution& found, std::string_view note) {
    const OwnerToken resolver = detail::new_owner_token();
    Reply reply = change(key, About{.source = &found.source}, [&](const Moment& at) {
      return protocol::resolve(at.record, found.expected_epoch, resolver, found.state, at.now, found.ttl, at.owner_gone,
                               at.next_sequence);
    });
    if (reply.answer == Answer::ok) tell(EventKind::resolved, key, reply.record, note);
    return reply;
  }

  Reply find(const Key& key) {
    Reply reply;
    if (glance(key, reply, [&](const Record& record, TimePoint now) { return protocol::find(&record, now, false); })) {
      return reply;
    }
    return change(key, About{}, [&](const Moment& at) { return protocol::find(at.record, at.now, at.owner_gone); });
  }

  Reply erase(const Key& key) {
    Reply reply = change(key, About{.erases = true},
                         [](const Moment& at) { return protocol::erase(at.record, at.now, at.owner_gone); });
    if (reply.answer == Answer::ok) tell(EventKind::forgotten, key, reply.record, {});
    return reply;
  }

  /// May be ended by cancelling the thread.
  void wait(const Key& key, std::uint64_t epoch, TimePoint deadline) {
    if (engine_ != nullptr && key.valid()) {
      detail::file::Waiting(engine_->current(), key.digest()).until(epoch, deadline);
    }
  }

  /// Calls `each(const RecordView&)` for every record that hasn't expired and can be read, without a lock: it may use
  /// the store. Records made or erased meanwhile may be shown or not. Throws what `each` throws, and std::bad_alloc.
  template <class Each>
  void for_each(Each&& each) {
    struct Seen {
      std::size_t text_end;
      Record record;
      Status status;
    };
    detail::Array<Seen> batch;
    std::string texts;
    visit(
        [&](const Found& found, TimePoint now, bool owner_gone) {
          const Status status = protocol::status(found.record(), now, owner_gone);
          if (status == Status::absent) return false;
          texts += detail::text_of(found.stored);
          batch.push({texts.size(), found.stored.record, status});
          return false;
        },
        [](const Found&) {},
        [&] {
          std::size_t begin = 0;
          for (const Seen& seen : batch) {
            each(RecordView{std::string_view(texts).substr(begin, seen.text_end - begin), seen.record, seen.status});
            begin = seen.text_end;
          }
          batch.clear();
          texts.clear();
        });
  }

  PurgeResult purge(const PurgeOptions& options) {
    PurgeResult result;
    const Duration* age = options.in_doubt_older_than ? &*options.in_doubt_older_than : nullptr;
    result.complete =
        visit([&](const Found& found, TimePoint now,
                  bool owner_gone) { return protocol::purgeable(found.stored.record, now, owner_gone, age); },
              [&](const Found& found) {
                ++(found.stored.record.state == State::in_progress ? result.in_doubt : result.expired);
              },
              [] {});
    if (engine_ != nullptr) engine_->tidy_up();
    return result;
  }

  /// Where not everything could be read or removed there is an event `store_warning`.
  std::size_t clear() {
    std::size_t removed = 0;
    bool counts = false;
    const bool complete = visit(
        [&](const Found& found, TimePoint now, bool owner_gone) {
          const protocol::Transition change = protocol::erase(found.record(), now, owner_gone);
          counts = change.answer == Answer::ok;
          return change.change == protocol::Change::erase;
        },
        [&](const Found&) { removed += counts ? 1 : 0; }, [] {});
    if (engine_ == nullptr) return removed;
    if (!complete) engine_->warn("clear() couldn't remove every record: see stats()");
    engine_->tidy_up();
    return removed;
  }

  StoreStats stats() {
    StoreStats stats;
    stats.available = visit(
        [&](const Found& found, TimePoint now, bool owner_gone) {
          ++stats.records;
          detail::count_status(stats, found.stored.record, protocol::status(found.record(), now, owner_gone));
          return false;
        },
        [](const Found&) {}, [] {});
    const Reply told = with_core([&](detail::file::FileCore& core) {
      stats.bytes = core.state.end;
      stats.poisoned = core.page.poisoned();
      stats.damaged = static_cast<bool>(core.state.damage);
      detail::file::OwnerSweep swept = {};
      static_cast<void>(detail::file::sweep_owners(core.directory.get(), swept));
      stats.processes = swept.alive;
    });
    if (told.answer != Answer::ok) stats.available = false;
    return stats;
  }

  // What only a store of files has.

  /// Opens the directory now rather than with the first operation: ok, unavailable with the reason, or corrupt where it
  /// is damaged.
  [[nodiscard]] Reply open() {
    bool damaged = false;
    Reply reply = with_core([&](detail::file::FileCore& core) { damaged = static_cast<bool>(core.state.damage); });
    if (damaged) {
      reply.answer = Answer::corrupt;
      reply.message = "the journal is damaged; see verify(), then restore a backup or call repair()";
    }
    return reply;
  }

  /// Rewrites the journal without what is superseded or expired; done by itself from time to time.
  Reply compact() { return compaction(detail::file::Purpose::shrink); }

  /// After a failed fdatasync nobody knows what is on disk, and every operation is refused. Once the disk is well
  /// again, this writes all that can be read into a new journal, and service resumes for every process.
  Reply recover() { return compaction(detail::file::Purpose::recover); }

  /// After damage (part of what had been on disk can't be read) claims of unknown keys are refused, since theirs may be
  /// among the lost records. This accepts the loss: what can be read goes into a new journal, and everything else may
  /// run again. Compare `verify` with the outside world first. After a failed fdatasync it does what `recover` does,
  /// also where something can't be read any more.
  Reply repair() { return compaction(detail::file::Purpose::repair); }

  /// Lets the store use the newest format that this version of idem knows, once no older version uses the directory any
  /// more: those that do are refused from then on. There is one format so far: nothing is done.
  Reply upgrade() {
    bool newest = false;
    Reply reply = with_core([&newest](detail::file::FileCore& core) {
      newest = core.journal->header.format == detail::file::journal_format;
    });
    return reply.answer == Answer::ok && !newest ? compaction(detail::file::Purpose::upgrade) : std::move(reply);
  }

  /// Reads a store's journal without changing anything and says what is in it and what is wrong with it. For a store
  /// that is in use the last frames may be missing.
  static FileReport verify(const std::string& directory) { return detail::file::verify_directory(directory); }

 private:
  using About = detail::file::About;
  using Moment = detail::file::Moment;
  using Found = detail::file::Found;

  Reply finish(const Key& key, const FinishRequest& request, State state) {
    return change(key, About{.owned = true, .source = &request.source}, [&](const Moment& at) {
      return protocol::finish(at.record, request.owner, state, at.now, request.ttl);
    });
  }

  template <class Decide>
  Reply change(const Key& key, const About& about, Decide decide) {
    return engine_ != nullptr ? engine_->change(key, about, decide) : moved_from();
  }

  template <class Decide>
  bool glance(const Key& key, Reply& reply, Decide decide) {
    return engine_ != nullptr && engine_->glance(key, reply, decide);
  }

  template <class Act>
  Reply with_core(Act act) {
    return engine_ != nullptr ? engine_->with_core(act) : moved_from();
  }

  template <class Decide, class Erased, class After>
  bool visit(Decide decide, Erased erased, After after) {
    return engine_ != nullptr && engine_->visit(decide, erased, after);
  }

  Reply compaction(detail::file::Purpose purpose) {
    return engine_ != nullptr ? engine_->compaction(purpose) : moved_from();
  }

  static Reply moved_from() {
    Reply reply;
    reply.answer = Answer::unavailable;
    reply.message = "this FileStore was moved from";
    return reply;
  }

  void tell(EventKind kind, const Key& key, const Record& record, std::string_view message) const {
    engine_->on_event(Event{kind, key, record.owner.epoch, record.attempt, message});
  }

  detail::file::Engine* engine_ = nullptr;  // rather than std::unique_ptr, which takes the compiler longer
};

static_assert(Store<FileStore>);

IDEM_END_NAMESPACE
