// How a FileCore gets in, appends and syncs.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/file/core_declaration.hpp>
#include <idem/detail/file/core_opening.hpp>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include <unistd.h>  // unlinkat

IDEM_BEGIN_NAMESPACE
namespace detail::file {

inline Problem FileCore::enter_with_turn(std::int64_t timeout) {
  if (!opened.load(std::memory_order_acquire)) {
    if (Problem problem = open_files(timeout)) return problem;
    opened.store(true, std::memory_order_release);
  }
  // Each round but the last finds that somebody replaced the journal, which takes them longer than reading it takes us
  // (or the lock's file, which nobody should).
  for (int round = 0; round < 64; ++round) {
    bool replaced = false;
    bool current = false;
    {
      if (Problem problem = lock.acquire(page, timeout)) return problem;
      LockHeld locked{*this};
      const bool same_names = names_.unchanged(directory.get());
      if (same_names || lock.is_current(directory.get())) {
        if (Problem problem = check_journal(same_names, current)) return problem;
        if (current) {
          if (Problem problem = catch_up()) return problem;
          in_order_ = true;
          locked.stays = true;
          return {};
        }
      } else {
        replaced = true;
      }
    }
    if (replaced) {
      if (Problem problem = lock.open(directory.get(), settings.group)) return problem;
      continue;
    }
    // Without the lock: reading a million records takes a while.
    if (Problem failed = load_journal()) return failed;
  }
  return {"the journal was replaced again and again"};
}

/// Makes sure that the page belongs to this journal. `same_file`: its name has stood for the same file ever since the
/// last time. REQUIRES: the store lock held, a journal loaded.
inline Problem FileCore::prepare_page(bool same_file) {
  const JournalHeader& header = journal->header;
  // A system that doesn't tell one boot from another can't say whether the page is from before a crash.
  const bool unknown_boot = boot_id().empty() && !page_seen_;
  page_is_new_ = unknown_boot || !page.describes(header.store, same_file);
  if (page_is_new_) {
    // Asked before: who dies while the page is made anew leaves none that knows nothing of it.
    FileStatus marker;
    const Problem absent = status_of(directory.get(), poisoned_name, marker);
    if (absent && absent.error != ENOENT) return absent;
    page.rebuild(header.store, !absent || page.poisoned());
  }
  page_seen_ = true;
  if (page.durable_end(header.generation) == 0) {
    page.start_generation(header.generation, header.snapshot_end, false);
  }
  return {};
}

/// Whether the journal that is loaded still is the directory's. `same_names`: it is if it was the last time. REQUIRES:
/// the store lock held.
inline Problem FileCore::check_journal(bool same_names, bool& current) {
  FileStatus now;
  const bool known = same_names && journal != nullptr;
  // The file's size is asked for where the frames come near to where it was the last time. Now and then all the same,
  // since somebody who cuts a journal that is in use wants to be told.
  current = known && ++unasked_ % 64 != 0 && !journal->map.damaged() &&
            page.durable_end(journal->header.generation) != 0;
  if (current) return prepare_page(true);
  if (const Problem problem =
          known ? status_of(journal->fd.get(), now) : status_of(directory.get(), journal_name, now)) {
    if (problem.error != ENOENT) return problem;
    return {"the journal is gone; restore it, or make the store anew in an empty directory"};
  }
  // The clock by which names are known to be unchanged may have been set back; these two tell of a new journal, too.
  if (known && (now.links == 0 || page.durable_end(journal->header.generation) == 0)) {
    if (const Problem problem = status_of(directory.get(), journal_name, now)) return problem;
  }
  current = journal != nullptr && now.inode == journal->identity.inode && now.device == journal->identity.device;
  if (!current) return {};
  if (Problem problem = has_size(now.size)) return problem;
  if (Problem problem = prepare_page(known)) return problem;
  if (!same_names) names_.confirm();
  return {};
}

/// Takes note of the journal's size and maps all of it. REQUIRES: the store lock held, a journal loaded.
inline Problem FileCore::has_size(std::uint64_t size) {
  if (size < state.allocated) return {"the journal was cut by somebody else; restore it from a backup"};
  const std::uint64_t before = state.allocated;
  state.allocated = size;
  if (size <= journal->map.size() && !journal->map.damaged()) return {};
  const Problem unmapped = remap();
  // Whoever comes next doesn't ask again, and reads up to here.
  if (unmapped) state.allocated = before;
  return unmapped;
}

inline Problem FileCore::load_journal() {
  auto file = std::make_shared<JournalFile>();
  FileIndex fresh;
  JournalState next;
  if (Problem problem = open_journal(directory.get(), journal_name, settings.group, 2, *file, next.allocated,
                                     !settings.power)) {
    return problem;
  }
  Read stop = Read::nothing;
  if (Problem problem = read_frames(fresh, next, *file, stop)) return problem;
  // Until the lock is held again nobody may take this index for current.
  indexed.store(0, std::memory_order_release);
  replace_journal(std::move(file), &fresh);
  readable_end.store(next.end, std::memory_order_release);
  state = next;
  return {};
}

/// A longer mapping of the same file, or one without pages of zeros that stand in for what couldn't be read.
inline Problem FileCore::remap() {
  Mapping fresh;
  if (Problem problem = map_journal(fresh, journal->fd.get(), state.allocated, !settings.power)) return problem;
  const ReaderGate::Closed closed(index.gate);
  std::swap(journal->map, fresh);
  return {};
}

inline Problem FileCore::catch_up() {
  for (;;) {
    Read stop = Read::nothing;
    if (Problem problem = read_frames(index, state, *journal, stop)) return problem;
    // A page of zeros stands where the disk gave nothing: that says nothing about the journal.
    if (journal->map.damaged()) return {"cannot be read", EIO, journal_name};
    // What others appended may begin, or go on, where the file ended the last time.
    if (stop != Read::nothing || state.allocated - state.end < frame_head_size) {
      FileStatus now;
      if (Problem problem = status_of(journal->fd.get(), now)) return problem;
      const std::uint64_t before = state.allocated;
      if (Problem problem = has_size(now.size)) return problem;
      if (state.allocated != before) continue;
    }
    const PageHints hints{page.durable_end(journal->header.generation), page.sequence()};
    const bool missing = hints.sequence > state.last_sequence;
    // A process that died left at most the beginning of its frame where the next one goes. After a crash of the machine
    // anything may stand anywhere, so that the first look goes up to the end.
    if (stop == Read::nothing && state.tail_checked && !missing) break;
    Damage damage;
    const Tail tail = judge_end(*journal, state, hints, damage);
    if (journal->map.damaged()) return {"cannot be read", EIO, journal_name};
    if (tail.damaged) {
      warning_.store("the journal is damaged: see verify(), then restore a backup or call repair()",
                     std::memory_order_release);
      state.damage = damage;
      state.end = damage.resume;
      if (tail.resume < state.allocated) continue;
      // Lost frames may have had these numbers.
      if (missing) state.last_sequence = hints.sequence;
    } else if (!tail.zero) {
      if (Problem problem = zero(state.end, tail.garbage_end)) return problem;
    }
    if (!state.tail_checked && !page_is_new_ && hints.durable_end != 0) {
      // Not now, with the lock held: the next one who syncs does it first.
      const std::lock_guard guard(sync_mutex_);
      journal->unproven = state.damage.resume > hints.durable_end ? state.damage.resume : hints.durable_end;
      journal->unproven_end = state.end;
    }
    state.tail_checked = true;
    break;
  }
  publish();
  return {};
}

inline Problem FileCore::zero(std::uint64_t from, std::uint64_t to) const noexcept {
  static constexpr std::uint8_t zeros[4096] = {};
  while (from < to) {
    const std::uint64_t left = to - from;
    const std::size_t piece = left < sizeof zeros ? static_cast<std::size_t>(left) : sizeof zeros;
    if (Problem problem = write_all(journal->fd.get(), zeros, piece, from)) return problem;
    from += piece;
  }
  return {};
}

inline Problem FileCore::grow(std::uint64_t needed) {
  FileStatus now;
  if (Problem problem = status_of(journal->fd.get(), now)) return problem;
  if (Problem problem = has_size(now.size)) return problem;
  if (needed <= state.allocated) return {};
  constexpr std::uint64_t least = std::uint64_t{1} << 20;
  constexpr std::uint64_t most = std::uint64_t{1} << 23;
  std::uint64_t more = state.allocated / 4;
  if (more < least) more = least;
  if (more > most) more = most;
  const auto whole_pages = [](std::uint64_t size) { return (size + 4095) / 4096 * 4096; };
  std::uint64_t size = whole_pages(needed + more);
  Problem problem = allocate(journal->fd.get(), state.allocated, size, settings.power);
  if (problem) {
    size = whole_pages(needed);
    if (Problem still = allocate(journal->fd.get(), state.allocated, size, settings.power)) return still;
  }
  // Nothing is written that isn't mapped: the next look at the file's size finds what is new.
  return has_size(size);
}

/// Writes what is in `buffer`. With power loss in mind by a system call: only what was written so is on disk after an
/// fdatasync on every system (POSIX). Else through memory, which a process that is killed leaves to the others just the
/// same, for a fifth of the time; there is no limit on the size of files there, since the file doesn't grow.
inline Problem FileCore::write_frame(std::uint64_t offset) noexcept {
  if (settings.power) return write_all(journal->fd.get(), buffer.data(), buffer.size(), offset);
  put_frame(journal->map.data() + offset, buffer.data(), buffer.size());
  // A page that the disk doesn't take, or that somebody cut off, was replaced by one that nobody else sees.
  if (journal->map.damaged()) return {"cannot be written", EIO, journal_name};
  return {};
}

inline Problem FileCore::append(FrameType type, std::uint64_t sequence, const Id128& owner_id, TimePoint now,
                                const std::uint8_t* digest, bool claim) {
  in_order_ = false;
  // Nobody would read a frame with a lower one. Only a forged frame can have used them up.
  if (sequence == 0) return {"the journal's sequence numbers are used up"};
  const std::uint64_t offset = state.end;
  Frame head;
  head.type = type;
  head.sequence = sequence;
  head.durable_end = page.durable_end(journal->header.generation);
  head.time = std::int64_t{now.time_since_epoch().count()};
  head.owner = owner_id;
  finish_frame(buffer, 0, journal->seal, offset, head);
  head.content_size = load_le32(buffer.data() + frame_impl::at_content_size);
  const std::uint64_t size = frame_size(head.content_size);
  head.size = static_cast<std::uint32_t>(size);
  head.content = buffer.data() + frame_head_size;

  // Whatever can fail comes before the write.
  bool ends_run = false;
  {
    IndexTable& table = index.table_of(digest);
    if (!table.reserve(&index.gate)) return {"there is no memory for the index"};
    const Place before = table.find(FileIndex::tag_of(digest), same_as(digest));
    ends_run = !claim && before && before.held == Held::running;
  }
  // What every other run in progress is sure to find is left alone. An outcome may take its own share.
  std::uint64_t others = state.running;
  if (claim) ++others;
  if (ends_run) others = size <= outcome_room ? 0 : others - 1;
  const std::uint64_t reserved = others * outcome_room;
  if (claim && settings.power) {
    // Room that others allocated is none where this process isn't allowed to write there (RLIMIT_FSIZE).
    if (Problem problem = check_file_size(offset + head.size + reserved)) return problem;
  }
  if (offset + head.size + reserved > state.allocated) {
    if (Problem problem = grow(offset + head.size + reserved)) return problem;
  }
  if (Problem problem = write_frame(offset)) {
    // What stands there now would be read by the next one, whole or not.
    static_cast<void>(zero(offset, offset + head.size));
    return problem;
  }
  static_cast<void>(apply_frame(index, state, *journal, offset, head));
  publish();
  in_order_ = true;
  return {};
}

inline bool FileCore::marked_poisoned() const noexcept {
  if (page.poisoned()) return true;
  FileStatus marker;
  const Problem absent = status_of(directory.get(), poisoned_name, marker);
  return absent.error != ENOENT;
}

inline void FileCore::poison() noexcept {
  page.poison(true);
  Fd marker;  // the page is a hint: it may be rebuilt before somebody has looked after the disk
  static_cast<void>(open_file(directory.get(), poisoned_name, Creation::if_missing, settings.group, marker));
}

inline Problem FileCore::cure() {
  if (::unlinkat(directory.get(), poisoned_name, 0) != 0 && errno != ENOENT) {
    return {"cannot remove the mark of a failed fdatasync", errno};
  }
  page.poison(false);
  return {};
}

inline void FileCore::sync_if_due() {
  if (settings.power || indexed.load(std::memory_order_acquire) == 0) return;
  const std::uint64_t end = readable_end.load(std::memory_order_acquire);
  std::uint64_t due = sync_at.load(std::memory_order_relaxed);
  if (end < due || !sync_at.compare_exchange_strong(due, end + unsynced)) return;
  static_cast<void>(sync_everything());
}

/// REQUIRES: one thread at a time.
inline Problem FileCore::sync_now(const Appended& target) {
  const std::uint64_t generation_of_journal = target.journal->header.generation;
  if (target.journal->unproven < target.journal->unproven_end) {
    JournalFile& file = *target.journal;
    if (Problem unwritten = write_again(file.fd.get(), file.unproven, file.unproven_end)) return unwritten;
    file.unproven = file.unproven_end;
  }
  Problem problem = sync_data(target.journal->fd.get());
  // A journal that came by a rename is only there after a crash if the directory is on disk, too.
  if (!problem && !page.directory_synced(generation_of_journal)) {
    problem = sync_directory(directory.get());
    if (!problem) page.directory_is_synced(generation_of_journal);
  }
  if (problem) {
    // It comes too late to matter where all of it is on disk in another journal by now.
    if (page.durable_end(generation_of_journal) == 0 && page.durable_sequence() >= target.sequence) return {};
    poison();
    return problem;
  }
  page.durable_end(generation_of_journal, target.end);
  page.durable(target.sequence);
  return {};
}

}  // namespace detail::file
IDEM_END_NAMESPACE
