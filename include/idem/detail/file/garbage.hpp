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

/// How much of a journal counts. Bytes.
struct Load {
  std::uint64_t end = 0;           ///< Of the journal.
  std::uint64_t snapshot_end = 0;  ///< What was left when it was rewritten the last time.
  std::uint64_t current = 0;       ///< In frames that nothing has superseded, expired ones too.
};

/// Some of the current frames. Bytes.
struct Sample {
  std::uint64_t seen = 0;
  std::uint64_t live = 0;  ///< Of these in frames that haven't expired.
};

/// Whether at least half of a journal is garbage: then no more is copied than is gained, and a journal is never much
/// longer than twice what counts in it. (Rosenblum and Ousterhout, The Design and Implementation of a Log-Structured
/// File System, 1992, section 3: what cleaning costs by the live share.) What is superseded is known; what has expired
/// only a sample tells, which may miss a few long frames. Where these are live, a journal is rewritten once for each
/// time it doubles; where they have expired, it may grow to twice what counts with them.
inline bool is_half_garbage(const Load& load, const Sample& sample) noexcept {
  const std::uint64_t half = (load.end - journal_header_size) / 2;
  if (load.current <= half) return true;
  if (load.end / 2 < load.snapshot_end) return false;
  const auto live = static_cast<double>(load.current) * static_cast<double>(sample.live);
  return live <= static_cast<double>(half) * static_cast<double>(sample.seen);
}

/// The same of a store's journal now. The records are chosen with the lock held and looked at without it, since that
/// may have to wait for the disk. May wait for the lock, and throw bad_alloc. REQUIRES: not entered.
inline Problem is_half_garbage(FileCore& core, bool& is) {
  constexpr std::size_t enough = 256;
  constexpr int tries = 4096;  // where most of the index is empty
  std::uint64_t offsets[enough];
  std::size_t chosen = 0;
  std::shared_ptr<const JournalFile> journal;
  Load load;
  TimePoint now;
  {
    if (Problem problem = core.enter()) return problem;
    const Leave leave{core};
    journal = core.journal;
    now = core.record_time();
    load = {core.state.end, journal->header.snapshot_end, core.state.current};
    const std::uint64_t slots = core.index.capacity();
    std::uint64_t random = load.end;
    for (int i = 0; i < tries && chosen < enough && slots != 0; ++i) {
      random = random * 6364136223846793005u + 1442695040888963407u;  // Knuth's MMIX
      const Place place = core.index.place_at((random >> 24) % slots);
      if (place) offsets[chosen++] = place.offset;
    }
  }
  Sample sample;
  for (std::size_t i = 0; i < chosen; ++i) {
    const ReaderGate::Reading reading(core.index.gate);
    if (core.journal != journal) return {};  // somebody has just compacted it
    Frame frame;
    // What can't be read counts for nothing; compaction says what is wrong.
    if (!frame_impl::plausible(journal->data(), load.end, offsets[i], 0, frame)) continue;
    sample.seen += frame.size;
    if (!has_expired(frame, now)) sample.live += frame.size;
  }
  is = is_half_garbage(load, sample);
  return {};
}

}  // namespace detail::file
IDEM_END_NAMESPACE
