// Reads a store's journal without changing it, and says what is in it.
#pragma once

#include <idem/detail/array.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/file/boot_id.hpp>
#include <idem/detail/file/frame.hpp>
#include <idem/detail/file/id.hpp>
#include <idem/detail/file/index.hpp>
#include <idem/detail/file/journal.hpp>
#include <idem/detail/file/os.hpp>
#include <idem/detail/file/page.hpp>
#include <idem/detail/file/scan.hpp>
#include <idem/detail/record_bytes.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

#include <fcntl.h>   // open
#include <unistd.h>  // read

IDEM_BEGIN_NAMESPACE
namespace detail::file {

/// Bytes of a journal that can't be read though they had been on disk.
struct DamagedRange {
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
};

struct FileReport {
  std::string path;         ///< Of the journal.
  bool readable = false;    ///< The journal could be opened and has a header.
  std::string message;      ///< Why it isn't, or what is wrong, with file and offset; empty where all is well.
  std::uint64_t bytes = 0;  ///< In use; the file is longer.
  std::uint64_t frames = 0;
  std::size_t records = 0;       ///< Keys that have one, expired ones too.
  std::uint64_t torn_bytes = 0;  ///< Behind the last frame; nobody was told of them. Cleared at the next operation.
  Array<DamagedRange> damaged;   ///< In the file's order; has size(), empty(), [] and what a range-based for takes.

  bool good() const noexcept { return readable && damaged.empty(); }
};

/// The page as it was at one moment. To be taken before the journal is opened: what is appended later isn't missing.
class PageCopy {
 public:
  explicit PageCopy(int directory) noexcept {
    Fd file;
    good_ = !open_file(directory, page_name, Creation::never, true, file) && !status_of(file.get(), status_) &&
            !read_all(file.get(), bytes_, sizeof bytes_, 0);
  }

  PageHints about(const JournalHeader& header) const noexcept {
    using namespace page_impl;
    PageHints hints;
    if (!good_ || word(at_magic) != magic || !same(at_store, header.store)) return hints;
    if (word(at_durable_end) >> 48 == (header.generation & 0xffff)) {
      hints.durable_end = word(at_durable_end) & ((std::uint64_t{1} << 48) - 1);
    }
    // Of an earlier boot of the machine it may name frames that nobody was told of; and in a copy of the directory,
    // too.
    const Id128 boot = boot_id();
    const bool current =
        !boot.empty() && same(at_boot, boot) && word(at_device) == status_.device && word(at_inode) == status_.inode;
    if (current) hints.sequence = word(at_sequence);
    return hints;
  }

 private:
  std::uint64_t word(std::size_t offset) const noexcept {
    std::uint64_t value = 0;
    std::memcpy(&value, bytes_ + offset, sizeof value);  // in the machine's own order
    return value;
  }
  bool same(std::size_t offset, const Id128& id) const noexcept {
    return std::memcmp(bytes_ + offset, id.bytes, sizeof id.bytes) == 0;
  }

  FileStatus status_ = {};
  bool good_ = false;
  std::uint8_t bytes_[page_impl::at_directory] = {};
};

inline FileReport verify_directory(const std::string& path) {
  FileReport report;
  report.path = path + "/" + journal_name;
  const auto refuse = [&](const Problem& problem) {
    report.message = describe(problem, path);
    return std::move(report);
  };
  const Fd directory = open_at(AT_FDCWD, path.c_str(), O_RDONLY | O_DIRECTORY);
  if (!directory) return refuse({"cannot be opened", errno});
  const PageCopy copy(directory.get());
  JournalFile file;
  JournalState state;
  if (Problem problem = open_journal(directory.get(), journal_name, true, 2, file, state.allocated)) {
    return refuse(problem);
  }
  report.readable = true;

  FileIndex index;
  const PageHints page = copy.about(file.header);
  for (;;) {
    Frame frame;
    if (read_frame(file.data(), state.allocated, state.end, state.last_sequence, file.seal, frame) == Read::frame) {
      ++report.frames;
      if (!apply_frame(index, state, file, state.end, frame)) {
        return refuse({"there is no memory for the index"});
      }
      continue;
    }
    Damage damage;
    const Tail tail = judge_end(file, state, page, damage);
    if (!tail.damaged) {
      report.torn_bytes = tail.garbage_end - state.end;
      break;
    }
    const std::uint64_t size = damage.resume - damage.offset;
    report.damaged.push({damage.offset, size});
    report.message = report.path + ": what had been on disk can't be read any more, " + std::to_string(size) +
                     " bytes at offset " + std::to_string(damage.offset);
    if (tail.resume >= state.allocated) break;
    state.end = damage.resume;
  }
  report.bytes = state.end;
  report.records = index.size();
  return report;
}

}  // namespace detail::file
IDEM_END_NAMESPACE
