// One store object's view of its directory: files, index, and the way in and out of the store's lock. core.hpp defines
// what is only declared here.
#pragma once

#include <idem/clock.hpp>
#include <idem/detail/bytes.hpp>
#include <idem/detail/chrono.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/file/fork_guard.hpp>
#include <idem/detail/file/frame.hpp>
#include <idem/detail/file/futex.hpp>
#include <idem/detail/file/id.hpp>
#include <idem/detail/file/index.hpp>
#include <idem/detail/file/journal.hpp>
#include <idem/detail/file/names.hpp>
#include <idem/detail/file/os.hpp>
#include <idem/detail/file/owner_file.hpp>
#include <idem/detail/file/page.hpp>
#include <idem/detail/file/scan.hpp>
#include <idem/detail/file/store_lock.hpp>
#include <idem/detail/file/sync_group.hpp>
#include <idem/detail/file/turn.hpp>
#include <idem/detail/process.hpp>
#include <idem/detail/record_bytes.hpp>
#include <idem/detail/sha256.hpp>
#include <idem/detail/store_clock.hpp>
#include <idem/protocol.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include <time.h>  // clock_gettime

IDEM_BEGIN_NAMESPACE
namespace detail::file {

inline constexpr const char* poisoned_name = "poisoned";
inline constexpr const char* compacting_name = "compacting";

struct FileSettings {
  std::string path;
  Clock clock;
  std::int64_t lock_timeout = 10'000'000;  // microseconds
  std::uint64_t compact_at = 0;            // bytes
  bool power = true;                       // survive power loss, not only the process
  bool group = false;
  bool refuse_unsafe = false;
};

/// A record in the journal as it was found. Refers to mapped bytes: valid while the caller holds what kept them.
struct Found {
  StoredRecord stored = {};
  Place place = {};
  std::uint64_t sequence = 0;
  Id128 owner = {};  ///< The owner file of who claimed it.

  const Record* record() const noexcept { return place ? &stored.record : nullptr; }
};

enum class Look : std::uint8_t { absent = 1, found = 2, corrupt = 3 };

/// Everything but the operations. Opened by the first operation, and again by the next one where that failed.
///
/// Thread safety: `enter` gives one thread at a time, of all processes, the right to what says REQUIRES: entered.
/// Lock order: turn, store lock, the index's gate, sync mutex.
class FileCore {
 public:
  explicit FileCore(FileSettings wanted)
      : settings(std::move(wanted)), clock(settings.clock), compact_at(settings.compact_at) {}

  ~FileCore() {
    // A child that inherited this only closes: owner file and lock were dropped by the fork handlers already.
    if (directory.get() >= 0) owner.remove(directory.get());
  }
  FileCore(const FileCore&) = delete;
  FileCore& operator=(const FileCore&) = delete;

  const FileSettings settings;
  const StoreClock clock;  // of deadlines; records have the wall clock's time
  const std::uint64_t generation = process_generation();

  Turn turn;
  ForkClosed directory;
  StoreLock lock;
  SharedPage page;
  OwnerFile owner;
  FileIndex index;
  std::shared_ptr<JournalFile> journal;  // REQUIRES: entered, or the index's gate for what it maps
  JournalState state;                    // REQUIRES: entered
  Bytes buffer;                          // REQUIRES: entered; frames are put together here
  std::atomic<bool> opened{false};
  std::atomic<std::uint64_t> sync_at{
      0};  // where nobody waits for the disk: the size at which it is synced all the same
  std::atomic<std::uint64_t> compact_at;       // the size at which somebody looks whether to compact
  std::atomic<std::uint64_t> indexed{0};       // the sequence number up to which the index is complete
  std::atomic<std::uint64_t> readable_end{0};  // of the journal that is mapped; every indexed frame ends before it

  bool inherited() const noexcept { return generation != process_generation(); }

  /// The time for records: the wall clock's, but never before what any record has seen, so that setting the clock back
  /// makes nothing live longer and no expired record valid again.
  TimePoint record_time() const noexcept {
    std::int64_t now = 0;
    if (settings.clock) {
      now = std::int64_t{settings.clock.now().time_since_epoch().count()};
    } else {
      const auto wall = std::chrono::system_clock::now().time_since_epoch();
      now = std::chrono::duration_cast<std::chrono::microseconds>(wall).count();
    }
    const std::int64_t seen = page.time();
    return TimePoint{std::chrono::microseconds{now > seen ? now : seen}};
  }

  /// False where a finished record surely hasn't expired. By the clock as of its last tick, where there is one: that is
  /// read in a fraction of the time, and at most 10 ms behind.
  bool may_have_expired(const Record& record) const noexcept {
#if defined(__linux__)
    if (!settings.clock) {
      timespec tick = {};
      ::clock_gettime(CLOCK_REALTIME_COARSE, &tick);
      const std::int64_t now = std::int64_t{tick.tv_sec} * 1'000'000 + tick.tv_nsec / 1000;
      const std::int64_t seen = page.time();
      const std::chrono::microseconds latest((now > seen ? now : seen) + 50'000);
      if (record.expires_at > TimePoint{latest}) return false;
    }
#endif
    return protocol::expired(record, record_time());
  }

  /// Takes the lock and brings the index up to date. After success `leave` is called exactly once.
  Problem enter() { return enter(settings.lock_timeout); }
  /// The same, waiting for at most so many microseconds at a time.
  Problem enter(std::int64_t timeout) {
    if (!turn.take(timeout)) {
      return {"another thread of this process held the store for longer than lock_timeout; was it stopped?"};
    }
    // Given back also where memory runs out.
    Entered entered{*this};
    // The lock was never given up since another thread of this process left everything in order.
    const Problem problem = passed_on_ != 0 ? Problem{} : enter_with_turn(timeout);
    entered.stays = !problem;
    return problem;
  }

  /// Gives the lock back: to the next thread of this process, if one is about to come, which finds everything as this
  /// one leaves it; but not for so long that other processes are kept out.
  void leave() noexcept {
    passed_on_ = may_pass_on() ? passed_on_ + 1 : 0;
    if (passed_on_ == 0) lock.release(page);
    const bool keeps = passed_on_ != 0;
    turn.give_back();
    // Whoever was about to come may just have given up.
    if (!keeps || !turn.take_unwanted()) return;
    if (passed_on_ != 0) lock.release(page);
    passed_on_ = 0;
    turn.give_back();
  }

  // What follows up to `sync`: REQUIRES: entered.

  /// Finds and checks a key's record. `why` is set where it is corrupt.
  Look look(const Digest& digest, Found& found, const char*& why) noexcept {
    return read(place_of(digest), digest, found, why);
  }

  /// REQUIRES: entered, or the index's gate held.
  Place place_of(const Digest& digest) noexcept {
    return index.table_of(digest.bytes).find(FileIndex::tag_of(digest.bytes), same_as(digest.bytes));
  }

  /// For looking up a digest. REQUIRES: entered, or the index's gate held.
  SameDigest same_as(const std::uint8_t* digest) const noexcept {
    return {journal->data(), digest, &journal->seal, readable_end.load(std::memory_order_acquire)};
  }

  /// REQUIRES: entered, or the index's gate held.
  Look read(Place place, const Digest& digest, Found& found, const char*& why) const noexcept {
    if (!place) return Look::absent;
    const std::uint8_t* const frame = journal->data() + place.offset;
    const FrameFields fields = fields_of(frame);
    // The bytes were good when they were indexed; they are looked at as if they had changed since.
    if (fields.content_size > readable_end.load(std::memory_order_acquire) - place.offset - frame_head_size) {
      why = "the record's length is wrong";
      return Look::corrupt;
    }
    Frame whole;
    // A record's own checksum doesn't cover who claimed it, on which everything depends while it's in progress.
    if (place.held != Held::finished && read_frame(journal->data(), readable_end.load(std::memory_order_acquire),
                                                   place.offset, 0, journal->seal, whole) != Read::frame) {
      why = "the record's frame can't be read any more";
      return Look::corrupt;
    }
    found.sequence = fields.sequence;
    found.owner = fields.owner;
    if (!decode_record(frame + frame_head_size, fields.content_size, found.stored, why)) return Look::corrupt;
    if (!(found.stored.key == digest)) {
      why = "the record belongs to another key";
      return Look::corrupt;
    }
    found.place = place;
    return Look::found;
  }

  /// Whether the owner of a running record can't be running any more. `unknown` where that can't be found out.
  Alive owner_alive(const Id128& id, Problem& problem) noexcept {
    if (owner.held() && id == owner.id()) return Alive::yes;
    // Many records of one owner are looked at in one go by purge and for_each. Death is final; life isn't.
    if (id == dead_) return Alive::no;
    const Alive alive = probe_owner(directory.get(), id, problem);
    if (alive == Alive::no) dead_ = id;
    return alive;
  }

  std::uint64_t next_sequence() const noexcept { return state.last_sequence + 1; }

  /// Appends a record, which becomes the key's. `now`: the record_time() by which that was decided. `claim`: room for
  /// its outcome is made sure of, too.
  Problem append_record(const StoredRecord& stored, const Id128& owner_id, TimePoint now, bool claim) {
    buffer.clear();
    if (!put_record_frame(buffer, stored)) return {"the name or the result is too long for a record"};
    return append(FrameType::record, next_sequence(), owner_id, now, stored.key.bytes, claim);
  }

  Problem append_erase(const Digest& digest, TimePoint now) {
    buffer.clear();
    begin_frame(buffer);
    buffer.append(digest.bytes, sizeof digest.bytes);
    return append(FrameType::erase, next_sequence(), Id128{}, now, digest.bytes, false);
  }

  /// Waits until everything up to this frame is as durable as was asked for. Without the lock: the threads that wait
  /// share one fdatasync(2), as in Gray and Reuter, Transaction Processing, 9.4.7 (group commit).
  Problem sync(std::uint64_t sequence) {
    if (!settings.power || page.durable_sequence() >= sequence) return {};
    turn.leave();
    std::unique_lock guard(sync_mutex_);
    if (!syncing_ || sequence > synced_next_) group_.join();
    for (;;) {
      if (page.durable_sequence() >= sequence) return {};
      if (page.poisoned()) return poisoned();
      if (syncing_) {
        await_sync(guard, sequence <= synced_next_);
      } else {
        const std::int64_t more = group_.is_full() ? 0 : group_.wait(monotonic_micros());
        if (more == 0) break;
        await_sync(guard, true, more);
      }
      if (page.durable_sequence() >= sequence) return {};
      guard.lock();
    }
    if (Problem problem = lead(guard)) return problem;
    return page.durable_sequence() >= sequence ? Problem{} : Problem{"the journal was replaced while it was synced"};
  }

  static Problem poisoned() noexcept {
    return {"an earlier fdatasync failed, so that what is on disk isn't known; look after the disk and call recover()"};
  }

  /// Puts everything that is in the journal on disk. `cures`: also while what is on disk isn't known, since the journal
  /// is a new one.
  Problem sync_everything(bool cures = false) {
    std::unique_lock guard(sync_mutex_);
    while (syncing_) {
      await_sync(guard, true);
      guard.lock();
    }
    if (appended_.journal == nullptr) return {};
    if (!cures && page.poisoned()) return poisoned();
    return lead(guard);
  }

  static constexpr std::uint64_t unsynced = std::uint64_t{8} << 20;
  /// Also where an answer needn't survive a loss of power the durable end moves on, so that damage far back isn't taken
  /// for a torn tail.
  void sync_if_due();

  /// Readers have to find the new journal under the same index: none is let in meanwhile. REQUIRES: entered.
  void replace_journal(std::shared_ptr<JournalFile> next, FileIndex* next_index) noexcept {
    compact_at.store(next_look(settings.compact_at, next->header.snapshot_end), std::memory_order_relaxed);
    const ReaderGate::Closed closed(index.gate);
    journal.swap(next);
    if (next_index != nullptr) {
      for (std::size_t i = 0; i < FileIndex::table_count; ++i) index.tables[i].swap(next_index->tables[i]);
    }
  }

  /// Tells everybody how far the journal and this index go. REQUIRES: entered.
  void publish() {
    {
      const std::lock_guard guard(sync_mutex_);
      if (appended_.journal != journal) appended_.journal = journal;
      appended_.end = state.end;
      appended_.sequence = state.last_sequence;
    }
    readable_end.store(state.end, std::memory_order_release);
    page.time_seen(state.time);
    if (page.sequence() != state.last_sequence) page.publish(state.last_sequence);
    indexed.store(state.last_sequence, std::memory_order_release);
  }

  /// What opening found to be unsafe, once. Any thread.
  const char* take_warning() noexcept { return warning_.exchange(nullptr, std::memory_order_acq_rel); }

  /// Ends a compaction that was cut off: whichever journal is whole becomes, or stays, the journal. Nothing is done
  /// where a compactor is alive; and after a failed fdatasync no journal is taken for one that is on disk. REQUIRES:
  /// the store lock held.
  Problem settle_old_journal();

  /// Whether an fdatasync failed since the last recovery, in this boot of the machine or before.
  bool marked_poisoned() const noexcept;
  /// Says to every process that what is on disk isn't known. Any thread.
  void poison() noexcept;
  /// REQUIRES: entered.
  Problem cure();

 private:
  struct Entered {
    FileCore& core;
    bool stays = false;
    ~Entered() {
      if (!stays) core.turn.give_back();
    }
  };
  struct LockHeld {
    FileCore& core;
    bool stays = false;
    ~LockHeld() {
      if (!stays) core.lock.release(core.page);
    }
  };

  struct Appended {
    std::shared_ptr<JournalFile> journal;
    std::uint64_t end = 0;
    std::uint64_t sequence = 0;
  };

  bool may_pass_on() const noexcept {
    return in_order_ && turn.wanted() && passed_on_ < (page.lock_bell().has_sleepers() ? 4 : 32) &&
           !journal->map.damaged();
  }

  Problem enter_with_turn(std::int64_t timeout);
  Problem catch_up();
  Problem open_files(std::int64_t timeout);
  Problem prepare();
  Problem prepare_page(bool same_file);
  Problem create_journal();
  Problem check_journal(bool same_names, bool& current);
  Problem has_size(std::uint64_t size);
  Problem load_journal();
  Problem zero(std::uint64_t from, std::uint64_t to) const noexcept;
  Problem grow(std::uint64_t needed);
  Problem write_frame(std::uint64_t offset) noexcept;
  Problem append(FrameType type, std::uint64_t sequence, const Id128& owner_id, TimePoint now,
                 const std::uint8_t* digest, bool claim);
  Problem sync_now(const Appended& target);

  /// One thread at a time: the kernel tells each open file of a failure once, and two who ask at once would be told
  /// different things.
  Problem lead(std::unique_lock<std::mutex>& guard) {
    syncing_ = true;
    group_.begin(monotonic_micros());
    const Appended target = appended_;
    synced_next_ = target.sequence;
    const Bell served = sync_bells_[syncs_ % 2].bell();
    guard.unlock();
    const Problem problem = sync_now(target);
    guard.lock();
    syncing_ = false;
    group_.end(monotonic_micros());
    const Bell waiting = sync_bells_[++syncs_ % 2].bell();
    guard.unlock();
    // First of all somebody who goes on with what was appended meanwhile, so that the disk needn't wait. The others are
    // woken by the end of that, which may have come by now if this thread was slow.
    if (problem) {
      waiting.ring(all_sleepers);
    } else {
      waiting.ring_for_one();
    }
    served.ring(all_sleepers);
    return problem;
  }

  static constexpr std::int64_t longest_nap = 2000;  // microseconds

  /// Sleeps until the fdatasync that runs or is about to, or the next one, has ended, or for `micros`, or for no
  /// reason; then without `guard`, for which those who were woken together would queue up again. Who is woken to lead
  /// may find that another process did, and leaves the others to wake up by themselves.
  void await_sync(std::unique_lock<std::mutex>& guard, bool this_one, std::int64_t micros = longest_nap) {
    const Bell bell = sync_bells_[(syncs_ + (this_one ? 0 : 1)) % 2].bell();
    const std::uint32_t ticket = bell.ticket();
    guard.unlock();
    bell.sleep(ticket, micros < longest_nap ? micros : longest_nap);
  }

  Problem remap();

  struct SyncBell {
    std::atomic<std::uint32_t> count{0};
    std::atomic<std::uint32_t> asleep{0};
    Bell bell() noexcept { return Bell(count, asleep, FutexScope::own_process); }
  };

  std::mutex sync_mutex_;
  bool syncing_ = false;
  std::uint64_t syncs_ = 0;        // how many have ended
  std::uint64_t synced_next_ = 0;  // the sequence up to which the one that runs serves
  SyncBell sync_bells_[2];         // of those whom a sync serves, in turns
  SyncGroup group_;
  Appended appended_;
  std::atomic<const char*> warning_{nullptr};
  bool page_seen_ = false;
  bool page_is_new_ = false;  // made by the last look at it, so that it says nothing about who synced what
  DirectoryNames names_;      // REQUIRES: entered
  unsigned unasked_ = 0;      // REQUIRES: entered; how often the journal's size was taken for granted
  int passed_on_ = 0;         // REQUIRES: the turn; how many threads have had the lock since it was taken, but one
  bool in_order_ = false;     // REQUIRES: entered; whether everything that was begun since was done

  Id128 dead_ = {};  // the owner that was last found dead; nobody has the name of zeros
};

/// Gives the lock back at the end of a scope.
struct Leave {
  FileCore& core;
  ~Leave() { core.leave(); }
};

}  // namespace detail::file
IDEM_END_NAMESPACE
