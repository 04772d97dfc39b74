// How a FileCore opens its directory, and what it does there before anything else.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/file/core_declaration.hpp>
#include <idem/detail/file/os.hpp>
#include <idem/detail/file/owner_file.hpp>

#include <cerrno>
#include <cstdint>
#include <utility>

#include <stdio.h>   // renameat
#include <unistd.h>  // unlinkat

IDEM_BEGIN_NAMESPACE
namespace detail::file {

inline Problem FileCore::open_files(std::int64_t timeout) {
  const char* warning = nullptr;
  names_ = {};
  Fd opened_directory;
  if (Problem problem = open_directory(settings.path, settings.group, opened_directory, warning)) return problem;
  if (Problem problem = directory.set(std::move(opened_directory))) return problem;
  if (warning != nullptr) {
    if (settings.refuse_unsafe) return {warning};
    warning_.store(warning, std::memory_order_release);
  }
  if (Problem problem = lock.open(directory.get(), settings.group)) return problem;
  if (Problem problem = page.open(directory.get(), settings.group)) return problem;
  if (Problem problem = lock.acquire(page, timeout)) return problem;
  const LockHeld locked{*this};
  Problem problem = {"was replaced while the store was opened", 0, lock_name};
  if (lock.is_current(directory.get())) problem = prepare();
  return problem;
}

/// What is done once, with the lock held.
inline Problem FileCore::prepare() {
  FileStatus found;
  const Problem missing = status_of(directory.get(), journal_name, found);
  if (missing) {
    if (missing.error != ENOENT) return missing;
    FileStatus old;
    if (status_of(directory.get(), old_journal_name, old).error != ENOENT) {
      return {"the journal is gone, but journal.old is there; restore a backup, or rename that to journal"};
    }
    if (page.sequence() != 0) {
      return {"the journal is gone, though there was one; restore it, or remove `page` too to begin with no records"};
    }
    if (Problem problem = create_journal()) return problem;
  } else if (Problem problem = settle_old_journal()) {
    return problem;
  }
  OwnerSweep swept;
  if (Problem problem = sweep_owners(directory.get(), swept)) return problem;
  if (owner.held()) return {};
  return owner.create(directory.get(), settings.group);
}

inline Problem FileCore::create_journal() {
  ::unlinkat(directory.get(), next_journal_name, 0);  // of a process that died while doing this
  JournalHeader header;
  header.store = new_id();
  header.journal = new_id();
  header.generation = 1;
  header.snapshot_end = journal_header_size;
  header.created_at = static_cast<std::uint64_t>(std::int64_t{record_time().time_since_epoch().count()});
  if (header.store.empty() || header.journal.empty()) return {"the system has no random bytes"};
  JournalFile file;
  if (Problem problem = begin_journal(directory.get(), settings.group, header, file)) return problem;
  if (Problem problem = allocate(file.fd.get(), journal_header_size, std::uint64_t{1} << 20, settings.power)) {
    ::unlinkat(directory.get(), next_journal_name, 0);
    return problem;
  }
  if (Problem problem = sync_data(file.fd.get())) return problem;
  if (::renameat(directory.get(), next_journal_name, directory.get(), journal_name) != 0) {
    return {"cannot give the journal its name", errno};
  }
  const Problem problem = sync_directory(directory.get());
  // Another attempt would believe a second fsync, though it proves nothing. Nobody has put anything into it yet.
  if (problem) ::unlinkat(directory.get(), journal_name, 0);
  return problem;
}

inline Problem FileCore::settle_old_journal() {
  in_order_ = false;  // the name `journal` may stand for another file afterwards
  FileStatus old;
  if (const Problem problem = status_of(directory.get(), old_journal_name, old)) {
    return problem.error == ENOENT ? Problem{} : problem;
  }
  // The compactor holds this lock until the old journal is gone.
  Fd compacting;
  if (Problem problem = open_file(directory.get(), compacting_name, Creation::if_missing, settings.group, compacting)) {
    return problem;
  }
  Problem problem;
  switch (try_lock(compacting.get(), true, problem)) {
    case Locked::held:
      return {};
    case Locked::failed:
      return problem;
    case Locked::obtained:
      break;
  }
  JournalFile file;
  std::uint64_t size = 0;
  bool whole = false;
  const Problem unreadable = open_journal(directory.get(), journal_name, settings.group, 2, file, size);
  if (!unreadable && file.identity.inode != old.inode) {
    // It counts once everything up to its seal is there: all that the old one had.
    std::uint64_t end = journal_header_size;
    std::uint64_t last = 0;
    for (Frame frame; read_frame(file.data(), size, end, last, file.seal, frame) == Read::frame;) {
      whole = whole || frame.type == FrameType::seal;
      end += frame.size;
      last = frame.sequence;
    }
    if (whole) {
      // Another fdatasync may succeed without having written what the failed one didn't: recover() writes it anew.
      if (marked_poisoned()) return {};
      // Nor does the first one of this file, where a compactor was killed in one that failed.
      if (file.map.damaged()) return {"cannot be read", EIO, journal_name};
      if (Problem failed = write_again(file.fd.get(), file.header.snapshot_end, end)) return failed;
      if (Problem failed = sync_data(file.fd.get())) {
        poison();
        return failed;
      }
    } else {
      if (file.map.damaged()) return {"cannot be read", EIO, journal_name};
      // Where it had been on disk it isn't a copy that was cut off: others may have been told what it holds. What is
      // missing is damage, which whoever reads it next reports.
      const std::uint64_t page_end =
          page.describes(file.header.store) ? page.durable_end(file.header.generation) : std::uint64_t{0};
      const std::uint64_t known = promised_end(file.header, page_end);
      const bool damaged = judge_tail(file.data(), size, end, last, known, file.seal).damaged;
      if (file.map.damaged()) return {"cannot be read", EIO, journal_name};
      if (damaged) return {};
      if (::renameat(directory.get(), old_journal_name, directory.get(), journal_name) != 0) {
        return {"cannot go back to the journal from before a compaction that was cut off", errno};
      }
    }
  } else if (unreadable) {
    return unreadable;
  }
  if (Problem failed = sync_directory(directory.get())) {
    poison();
    return failed;
  }
  if ((whole || file.identity.inode == old.inode) && ::unlinkat(directory.get(), old_journal_name, 0) != 0) {
    return {"cannot remove the journal from before a compaction", errno};
  }
  return {};
}

}  // namespace detail::file
IDEM_END_NAMESPACE
