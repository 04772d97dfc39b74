// Reads a store's journal without changing it, and says what is in it.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/endian.hpp>
#include <idem/detail/file/frame.hpp>
#include <idem/detail/file/index.hpp>
#include <idem/detail/file/journal.hpp>
#include <idem/detail/file/os.hpp>
#include <idem/detail/file/page.hpp>
#include <idem/detail/file/scan.hpp>
#include <idem/detail/record_bytes.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

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
  std::vector<DamagedRange> damaged;

  bool good() const noexcept { return readable && damaged.empty(); }
};

/// What the page says of the journal's durable end; zero where there is no page that knows it.
inline std::uint64_t durable_end_on_page(int directory, const JournalHeader& header) noexcept {
  Fd file;
  if (open_file(directory, page_name, Creation::never, true, file)) return 0;
  std::uint64_t words[2] = {};
  Id128 store;
  if (read_all(file.get(), &words[0], sizeof words[0], page_impl::at_magic)) return 0;
  if (read_all(file.get(), &store, sizeof store, page_impl::at_store)) return 0;
  if (read_all(file.get(), &words[1], sizeof words[1], page_impl::at_durable_end)) return 0;
  if (words[0] != page_impl::magic || !(store == header.store)) return 0;
  return words[1] >> 48 == (header.generation & 0xffff) ? words[1] & ((std::uint64_t{1} << 48) - 1) : 0;
}

inline FileReport verify_directory(const std::string& path) {
  FileReport report;
  report.path = path + "/" + journal_name;
  const auto refuse = [&](const Problem& problem) {
    report.message = describe(problem, path);
    return std::move(report);
  };
  const Fd directory = open_at(AT_FDCWD, path.c_str(), O_RDONLY | O_DIRECTORY);
  if (!directory) return refuse({"cannot be opened", errno});
  JournalFile file;
  JournalState state;
  if (Problem problem = open_journal(directory.get(), journal_name, true, 2, file, state.allocated)) {
    return refuse(problem);
  }
  report.readable = true;

  const auto index = std::make_unique<FileIndex>();
  const std::uint64_t page_end = durable_end_on_page(directory.get(), file.header);
  const std::uint64_t known = page_end > file.header.snapshot_end ? page_end : file.header.snapshot_end;
  for (;;) {
    Frame frame;
    if (read_frame(file.data(), state.allocated, state.end, state.last_sequence, file.seal, frame) == Read::frame) {
      ++report.frames;
      if (!apply_frame(*index, state, file, state.end, frame)) {
        return refuse({"there is no memory for the index"});
      }
      continue;
    }
    const Tail tail = judge_tail(file.data(), state.allocated, state.end, state.last_sequence, known, file.seal);
    if (!tail.damaged) {
      report.torn_bytes = tail.garbage_end - state.end;
      break;
    }
    const bool goes_on = tail.resume < state.allocated;
    const std::uint64_t end = goes_on ? tail.resume : tail.garbage_end > known ? tail.garbage_end : known;
    report.damaged.push_back({state.end, end - state.end});
    report.message = report.path + ": what had been on disk can't be read any more, " +
                     std::to_string(report.damaged.back().size) + " bytes at offset " +
                     std::to_string(report.damaged.back().offset);
    if (!goes_on) break;
    state.end = tail.resume;
  }
  report.bytes = state.end;
  report.records = index->size();
  return report;
}

}  // namespace detail::file
IDEM_END_NAMESPACE
