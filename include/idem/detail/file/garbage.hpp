// Whether a journal holds enough that is superseded or expired to be worth rewriting.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/file/core.hpp>
#include <idem/detail/file/frame.hpp>
#include <idem/detail/file/index.hpp>
#include <idem/detail/file/journal.hpp>
#include <idem/detail/file/reader_gate.hpp>
#include <idem/protocol.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>

IDEM_BEGIN_NAMESPACE
namespace detail::file {

/// Some of a journal's records.
struct Sample {
  std::size_t size = 0;
  std::uint64_t live_bytes = 0;  ///< Of the frames of those that haven't expired.
};

/// Whether at least half of a journal is garbage, as far as a sample of its `records` tells. Then no more is copied
/// than is gained, and a journal is never much longer than twice what counts in it. (Rosenblum and Ousterhout, The
/// Design and Implementation of a Log-Structured File System, 1992, section 3: what cleaning costs by the live share.)
inline bool is_half_garbage(std::uint64_t journal_end, std::uint64_t records, const Sample& sample) noexcept {
  if (records == 0 || sample.size == 0) return true;
  return sample.live_bytes / sample.size <= journal_end / 2 / records;
}

/// The same of a store's journal now. The records are chosen with the lock held and looked at without it, since that
/// may have to wait for the disk. May wait for the lock, and throw bad_alloc. REQUIRES: not entered.
inline Problem is_half_garbage(FileCore& core, bool& is) {
  constexpr std::size_t sample_size = 256;
  constexpr std::size_t at_a_time = 16;
  std::uint64_t offsets[sample_size];
  std::shared_ptr<const JournalFile> journal;
  std::uint64_t end = 0;
  std::uint64_t records = 0;
  TimePoint now;
  std::size_t chosen = 0;
  {
    if (Problem problem = core.enter()) return problem;
    const Leave leave{core};
    journal = core.journal;
    end = core.state.end;
    records = core.index.size();
    now = core.record_time();
    std::uint64_t random = end;
    for (std::size_t i = 0; i < sample_size; ++i) {
      random = random * 6364136223846793005u + 1442695040888963407u;  // Knuth's MMIX
      const Place place = core.index.tables[i % FileIndex::table_count].place_near(random >> 32);
      if (place) offsets[chosen++] = place.offset;
    }
  }
  Sample sample;
  for (std::size_t i = 0; i < chosen;) {
    const ReaderGate::Reading reading(core.index.gate);
    if (core.journal != journal) return {};  // somebody has just compacted it
    for (const std::size_t to = i + at_a_time < chosen ? i + at_a_time : chosen; i < to; ++i) {
      Frame frame;
      // What can't be read counts for nothing; compaction says what is wrong.
      if (!frame_impl::plausible(journal->data(), end, offsets[i], 0, frame)) continue;
      ++sample.size;
      if (!has_expired(frame, now)) sample.live_bytes += frame.size;
    }
  }
  is = is_half_garbage(end, records, sample);
  return {};
}

}  // namespace detail::file
IDEM_END_NAMESPACE
