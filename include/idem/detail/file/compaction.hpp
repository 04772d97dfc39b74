// Writes what counts of a journal into a new one and puts that in its place, while others go on.
#pragma once

#include <idem/detail/array.hpp>
#include <idem/detail/bytes.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/endian.hpp>
#include <idem/detail/file/core.hpp>
#include <idem/detail/file/fork_guard.hpp>
#include <idem/detail/file/frame.hpp>
#include <idem/detail/file/index.hpp>
#include <idem/detail/file/journal.hpp>
#include <idem/detail/file/mapping.hpp>
#include <idem/detail/file/os.hpp>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include <fcntl.h>   // linkat
#include <stdio.h>   // renameat
#include <unistd.h>  // unlinkat

IDEM_BEGIN_NAMESPACE
namespace detail::file {

enum class Purpose : std::uint8_t {
  shrink = 1,   ///< Only expired and superseded frames are left out; anything amiss ends it.
  recover = 2,  ///< After a failed fdatasync: the new journal is one that is known to be on disk.
  repair = 3,   ///< Damage is accepted: what can't be read is left behind. Where it is poisoned as well, recovers.
  upgrade = 4,  ///< As `shrink`, into the newest format.
};

/// One compaction. The old journal stays under a name of its own until the new one is on disk, so that a crash at any
/// point leaves one of them whole: settle_old_journal() finds out which.
/// Thread safety: one thread; of several compactions of a directory one runs, the others do nothing.
class Compaction {
 public:
  Compaction(FileCore& core, Purpose purpose) noexcept : core_(core), purpose_(purpose) {}
  ~Compaction() {
    if (begun_ && !renamed_ && is_named(next_journal_name, next_->fd.get()))
      ::unlinkat(core_.directory.get(), next_journal_name, 0);
    // As long as the lock is ours nobody else keeps a journal under that name.
    if (kept_ && !renamed_ && is_named(compacting_name, compactor_.get()) && is_named(journal_name, source_->fd.get()))
      ::unlinkat(core_.directory.get(), old_journal_name, 0);
    stand_down();
  }
  Compaction(const Compaction&) = delete;
  Compaction& operator=(const Compaction&) = delete;

  std::size_t left_behind() const noexcept { return left_behind_; }

  /// May throw bad_alloc; the journal is then as it was.
  Problem run() {
    if (Problem problem = become_compactor()) return problem;
    if (compactor_.get() < 0) {
      if (purpose_ == Purpose::shrink) return {};
      return {"another process is compacting the journal; try again in a moment"};
    }
    if (Problem problem = look_around()) return problem;
    if (source_ == nullptr) return {};
    if (Problem problem = list_snapshot()) return problem;
    if (Problem problem = copy_snapshot()) return problem;
    if (Problem problem = follow()) return problem;
    if (Problem problem = keep_old_journal()) return problem;
    if (Problem problem = switch_over()) return problem;
    return settle();
  }

 private:
  Problem become_compactor() {
    if (!core_.opened.load(std::memory_order_acquire)) {
      if (Problem problem = core_.enter()) return problem;
      core_.leave();
    }
    Fd lock;
    if (Problem problem =
            open_file(core_.directory.get(), compacting_name, Creation::if_missing, core_.settings.group, lock)) {
      return problem;
    }
    Problem problem;
    const Locked locked = try_lock(lock.get(), true, problem);
    if (locked == Locked::failed) return problem;
    return locked == Locked::obtained ? compactor_.set(std::move(lock)) : Problem{};
  }

  /// Lets others compact. Closing alone wouldn't, where a child was made while the descriptor was on its way into
  /// `compactor_`.
  void stand_down() noexcept {
    if (compactor_.get() >= 0) unlock(compactor_.get());
    compactor_.close();
  }

  /// Takes note of what there is to copy.
  Problem look_around() {
    if (Problem problem = core_.enter()) return problem;
    const Leave leave{core_};
    const bool poisoned = core_.page.poisoned();
    // A journal may be damaged as well, or hold what can't be read any more, which recover() refuses: then repair() has
    // to get through.
    cures_ = poisoned && (purpose_ == Purpose::recover || purpose_ == Purpose::repair);
    if (poisoned && !cures_) return FileCore::poisoned();
    FileStatus old;
    if (!poisoned && !status_of(core_.directory.get(), old_journal_name, old)) {
      // Of a compactor that died. Settling asks for the lock that this one holds.
      stand_down();
      if (Problem problem = core_.settle_old_journal()) return problem;
      if (status_of(core_.directory.get(), old_journal_name, old)) {
        return {"a compaction that was cut off has been ended first; try again"};
      }
      // It is kept beside a journal that is damaged, and goes when that is repaired.
      if (!core_.state.damage) return {"a compaction that was cut off has yet to be ended; try again in a moment"};
      if (purpose_ != Purpose::repair) return damaged();
      if (Problem problem = become_compactor()) return problem;
      if (compactor_.get() < 0) return {"another process is compacting the journal; try again in a moment"};
      replaces_old_ = true;
    }
    if (purpose_ != Purpose::repair && core_.state.damage) return damaged();
    source_ = core_.journal;
    cut_ = core_.state.end;
    base_sequence_ = core_.state.last_sequence;
    now_ = core_.record_time();
    // What has expired by this clock is gone: it must not be waited for again by one that was set back.
    core_.page.time_seen(std::int64_t{now_.time_since_epoch().count()});
    // The mapping of the store may be replaced meanwhile; this one is the compaction's own.
    return map_.map(source_->fd.get(), cut_, false);
  }

  /// Some tables at a time, so that others get in between. What they supersede or erase meanwhile is missing here, and
  /// follows with all else that was appended.
  Problem list_snapshot() {
    constexpr std::size_t at_a_time = 256;  // or one table, of which there are not many
    for (std::size_t number = 0; number < FileIndex::table_count;) {
      if (Problem problem = core_.enter()) return problem;
      const Leave leave{core_};
      if (Problem problem = replaced(*source_)) return problem;
      const std::size_t enough = offsets_.size() + at_a_time;
      for (; number < FileIndex::table_count && offsets_.size() < enough; ++number) {
        core_.index.tables[number].for_each([this](Place place) {
          if (place.offset < cut_) offsets_.push(place.offset);
        });
      }
    }
    return {};
  }

  Problem copy_snapshot() {
    sort_offsets();
    JournalHeader header = source_->header;
    header.journal = new_id();
    if (header.journal.empty()) return {"the system has no random bytes"};
    if (purpose_ == Purpose::upgrade) header.format = journal_format;
    header.generation += 1;
    header.base_sequence = base_sequence_;
    header.created_at = static_cast<std::uint64_t>(std::int64_t{now_.time_since_epoch().count()});
    ::unlinkat(core_.directory.get(), next_journal_name, 0);  // of a compactor that died
    next_ = std::make_shared<JournalFile>();
    if (Problem problem = begin_journal(core_.directory.get(), core_.settings.group, header, *next_)) return problem;
    begun_ = true;
    next_end_ = journal_header_size;
    for (const std::uint64_t offset : offsets_) {
      Frame frame;
      if (read_frame(map_.data(), cut_, offset, 0, source_->seal, frame) != Read::frame) {
        if (purpose_ != Purpose::repair) return {"a record in the journal can't be read any more; see verify()"};
        ++left_behind_;
        continue;
      }
      if (has_expired(frame, now_)) continue;
      if (Problem problem = copy(frame)) return problem;
    }
    offsets_ = {};
    return flush();
  }

  /// Copies what was appended meanwhile, until little is left for the time under the lock.
  Problem follow() {
    copied_ = cut_;
    for (int round = 0; round < 8; ++round) {
      std::uint64_t end = 0;
      {
        if (Problem problem = core_.enter()) return problem;
        const Leave leave{core_};
        if (Problem problem = replaced(*source_)) return problem;
        end = core_.state.end;
      }
      const std::uint64_t more = end - copied_;
      if (Problem problem = copy_tail(end)) return problem;
      if (more < small_tail) break;
    }
    next_->header.snapshot_end = next_end_;
    std::uint8_t header[journal_header_size];
    encode_header(header, next_->header);
    if (Problem problem = write_all(next_->fd.get(), header, sizeof header, 0)) return problem;
    if (Problem problem = make_room(next_end_ + small_tail)) return problem;
    if (Problem problem = sync_data(next_->fd.get())) return problem;
    if (Problem problem = map_journal(next_->map, next_->fd.get(), allocated_, !core_.settings.power)) return problem;
    return read_back();
  }

  /// Reads the new journal into the new index, which also shows that it holds what was written.
  Problem read_back() {
    next_state_.allocated = allocated_;
    Read stop = Read::nothing;
    if (Problem problem = read_frames(index_, next_state_, *next_, stop)) return problem;
    if (next_state_.end != next_end_)
      return {"the new journal doesn't hold what was written to it; look after the disk"};
    return {};
  }

  Problem switch_over() {
    if (Problem problem = core_.enter()) return problem;
    const Leave leave{core_};
    if (Problem problem = replaced(*source_)) return problem;
    if (!cures_ && core_.page.poisoned()) return FileCore::poisoned();
    const std::uint64_t sequence = core_.next_sequence();
    if (Problem problem = copy_tail(core_.state.end)) return problem;

    begin_frame(buffer_);
    Frame seal;
    seal.type = FrameType::seal;
    seal.sequence = sequence;
    seal.time = core_.page.time();
    seal.durable_end = next_->header.snapshot_end;
    finish_frame(buffer_, 0, next_->seal, next_end_, seal);
    if (Problem problem = flush()) return problem;
    const std::uint64_t room = (std::uint64_t{next_state_.running} + 1) * outcome_room;
    if (Problem problem = make_room(next_end_ + room)) return problem;
    if (allocated_ > next_->map.size()) {
      if (Problem problem = map_journal(next_->map, next_->fd.get(), allocated_, !core_.settings.power)) return problem;
    }
    if (Problem problem = read_back()) return problem;
    if (Problem problem = status_of(next_->fd.get(), next_->identity)) return problem;

    // Without the old journal the new one has to be on disk before it gets its name, though the lock is held meanwhile.
    if (!kept_) {
      if (Problem problem = sync_data(next_->fd.get())) return problem;
    }
    if (!owns_names()) return {"somebody else has touched the files of a compaction; try again"};
    const int directory = core_.directory.get();
    if (::renameat(directory, next_journal_name, directory, journal_name) != 0) {
      return {"cannot give the new journal its name", errno};
    }
    renamed_ = true;
    core_.page.start_generation(next_->header.generation, next_->header.snapshot_end, false);
    next_state_.tail_checked = true;
    core_.indexed.store(0, std::memory_order_release);
    const std::uint64_t end = next_state_.end > core_.state.end ? next_state_.end : core_.state.end;
    core_.readable_end.store(end, std::memory_order_release);
    core_.replace_journal(next_, &index_);
    core_.state = next_state_;
    core_.publish();
    return {};
  }

  /// Gives the old journal a second name, by which it is there until the new one is on disk. Without the lock: only a
  /// compactor gives another file the name `journal`. That the second name is on disk before the first one changes its
  /// meaning has to be made sure of, since a directory's entries may get there in any order.
  Problem keep_old_journal() {
    // After a failed fdatasync nobody knows what of the old one is on disk, and nobody but this thread gets anything
    // done.
    if (cures_ || replaces_old_) return {};
    const int directory = core_.directory.get();
    if (::linkat(directory, journal_name, directory, old_journal_name, 0) == 0) {
      kept_ = true;
      return sync_directory(directory);
    }
    // So it does on a file system without hard links.
    if (errno == EPERM || errno == EOPNOTSUPP) return {};
    return {"cannot keep the old journal during a compaction", errno};
  }

  /// Makes the new journal durable, and only then lets the old one go.
  Problem settle() {
    if (Problem problem = core_.sync_everything(cures_)) return problem;
    if (Problem problem = core_.enter()) return problem;
    const Leave leave{core_};
    if (Problem problem = replaced(*next_)) return problem;
    if (::unlinkat(core_.directory.get(), old_journal_name, 0) != 0 && errno != ENOENT) {
      return {"cannot remove the journal from before a compaction", errno};
    }
    return cures_ ? core_.cure() : Problem{};
  }

  /// What is wrong where another journal than this one is the store's by now. REQUIRES: entered.
  Problem replaced(const JournalFile& expected) const noexcept {
    if (core_.journal->identity.inode == expected.identity.inode) return {};
    return {"the journal was replaced meanwhile"};
  }

  static Problem damaged() noexcept {
    return {"the journal is damaged; look at verify(), restore a backup or call repair()"};
  }

  bool is_named(const char* name, int fd) const noexcept {
    FileStatus named;
    FileStatus held;
    return !status_of(core_.directory.get(), name, named) && !status_of(fd, held) && named.inode == held.inode &&
           named.device == held.device;
  }

  /// Where the file of the compactor's lock was removed there may be another compactor.
  bool owns_names() const noexcept {
    return is_named(next_journal_name, next_->fd.get()) && is_named(compacting_name, compactor_.get());
  }

  /// By their digits from the lowest on (Knuth, The Art of Computer Programming 3, 5.2.5, algorithm R).
  void sort_offsets() {
    Array<std::uint64_t> other(offsets_);
    std::uint64_t* from = offsets_.data();
    std::uint64_t* to = other.data();
    const std::size_t size = offsets_.size();
    for (unsigned shift = 3; shift < 64 && (cut_ >> shift) != 0; shift += 8) {
      const auto digit = [shift](std::uint64_t offset) {
        const std::uint64_t low = offset >> shift & 255;
        return static_cast<std::size_t>(low);
      };
      std::size_t begins[257] = {};
      for (std::size_t i = 0; i < size; ++i) ++begins[digit(from[i]) + 1];
      for (std::size_t i = 1; i < 256; ++i) begins[i] += begins[i - 1];
      for (std::size_t i = 0; i < size; ++i) to[begins[digit(from[i])]++] = from[i];
      std::swap(from, to);
    }
    if (from != offsets_.data()) offsets_ = std::move(other);
  }

  static constexpr std::uint64_t small_tail = std::uint64_t{1} << 16;
  static constexpr std::size_t batch = std::size_t{1} << 20;

  Problem copy(const Frame& frame) {
    const std::size_t begin = buffer_.size();
    buffer_.append(frame.content - frame_head_size, frame.size);
    // Nothing of the new journal was on disk yet when this frame gets there.
    move_frame(buffer_.data() + begin, next_->seal, next_end_ + begin, journal_header_size);
    return buffer_.size() < batch ? Problem{} : flush();
  }

  /// Copies every frame up to `end`, superseded ones too: they are few.
  Problem copy_tail(std::uint64_t end) {
    if (end <= copied_) return {};
    if (end > map_.size()) {
      if (Problem problem = map_.map(source_->fd.get(), end, false)) return problem;
    }
    while (copied_ < end) {
      Frame frame;
      if (read_frame(map_.data(), end, copied_, 0, source_->seal, frame) != Read::frame) {
        return {"the journal can't be read any more; see verify()"};
      }
      if (Problem problem = copy(frame)) return problem;
      copied_ += frame.size;
    }
    return flush();
  }

  Problem flush() {
    if (buffer_.empty()) return {};
    if (next_end_ + buffer_.size() > allocated_) {
      if (Problem problem = make_room(next_end_ + buffer_.size())) return problem;
    }
    if (Problem problem = write_all(next_->fd.get(), buffer_.data(), buffer_.size(), next_end_)) return problem;
    next_end_ += buffer_.size();
    buffer_.clear();
    return {};
  }

  Problem make_room(std::uint64_t needed) {
    const std::uint64_t from = allocated_ == 0 ? journal_header_size : allocated_;
    if (needed <= from) return {};
    const std::uint64_t size = (needed + (std::uint64_t{1} << 20) + 4095) / 4096 * 4096;
    // What is written next needs no zeros first; what lies behind the end does, for the frames to come.
    if (Problem problem = allocate(next_->fd.get(), from, size, core_.settings.power)) return problem;
    allocated_ = size;
    return {};
  }

  FileCore& core_;
  const Purpose purpose_;
  bool cures_ = false;    // the new journal ends what a failed fdatasync began
  ForkClosed compactor_;  // its lock is held for the whole compaction, and by no child
  std::shared_ptr<JournalFile> source_;
  Mapping map_;
  Array<std::uint64_t> offsets_;
  TimePoint now_;
  std::uint64_t base_sequence_ = 0;
  std::uint64_t cut_ = 0;     // of the old journal: what is live below is the snapshot
  std::uint64_t copied_ = 0;  // of the old journal: everything up to here is in the new one
  std::shared_ptr<JournalFile> next_;
  Bytes buffer_;
  FileIndex index_;
  JournalState next_state_;
  std::uint64_t next_end_ = 0;
  std::uint64_t allocated_ = 0;
  std::size_t left_behind_ = 0;
  bool begun_ = false;
  bool kept_ = false;          // the old journal has its second name
  bool replaces_old_ = false;  // there is one already, of a compaction before
  bool renamed_ = false;
};

}  // namespace detail::file
IDEM_END_NAMESPACE
