// What to make of the bytes behind a journal's last good frame: the torn end of a write that a crash cut off, or
// damage.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/endian.hpp>
#include <idem/detail/file/frame.hpp>

#include <cstddef>
#include <cstdint>

IDEM_BEGIN_NAMESPACE
namespace detail::file {

struct Tail {
  bool zero = true;               ///< Nothing but zeros up to the limit.
  bool damaged = false;           ///< Something that was on disk is lost. Possible with `zero` too.
  std::uint64_t resume = 0;       ///< Where damaged: offset of the next good frame, the limit if there is none.
  std::uint64_t garbage_end = 0;  ///< End of the last 8 bytes that hold more than zeros; `offset` if there are none.
};

namespace scan_impl {

/// Checksums are taken of at most this many times as many bytes as there are behind the last good frame. The frames
/// that idem wrote don't overlap, torn or not, and come to one time at most; each payload that holds a copy of a
/// journal adds no more than one. What needs more was made to take time.
inline constexpr std::uint64_t effort = 4;

/// See Tail::garbage_end.
inline std::uint64_t end_of_garbage(const std::uint8_t* journal, std::uint64_t limit, std::uint64_t offset) noexcept {
  const std::uint8_t* const from = journal + offset;
  std::uint64_t size = limit - offset;
  const std::uint64_t odd = size % 8;
  if (!frame_impl::all_zero(from + (size - odd), odd)) return limit;
  size -= odd;
  // From the end, since there the preallocated zeros are.
  for (; size >= 64; size -= 64) {
    std::uint64_t any = 0;
    for (std::size_t i = 8; i <= 64; i += 8) any |= load_le64(from + (size - i));
    if (any != 0) break;
  }
  while (size != 0 && load_le64(from + (size - 8)) == 0) size -= 8;
  return offset + size;
}

}  // namespace scan_impl

/// Judges what begins at `offset`, where the good frames end, the last of which had `last_sequence`. Any good frame
/// further on tells up to where the journal was on disk when it was written; the highest of these ends and
/// `known_durable_end` decide. Past `offset`, something that was on disk is missing: damage. Else no frame from
/// `offset` on was promised to anybody, good ones included: all of it is a torn tail, and has to be
/// zeroed up to garbage_end before anything is appended.
///
/// `known_durable_end` is the highest durable end that the caller knows of this journal: of its header, its frames up
/// to here, its page. Bytes made so that the search would take more than linear time count as damage.
///
/// REQUIRES: offset is a multiple of 8, and read_frame() finds no frame there.
inline Tail judge_tail(const std::uint8_t* journal, std::uint64_t limit, std::uint64_t offset,
                       std::uint64_t last_sequence, std::uint64_t known_durable_end, const FrameSeal& seal) noexcept {
  Tail tail;
  tail.damaged = known_durable_end > offset;
  tail.resume = limit;
  tail.garbage_end = offset;
  if (offset >= limit) return tail;
  tail.garbage_end = scan_impl::end_of_garbage(journal, limit, offset);
  tail.zero = tail.garbage_end == offset;

  std::uint64_t budget = scan_impl::effort * (limit - offset);
  bool found = false;
  // Once there is damage and a place to go on, the rest has nothing to add.
  for (std::uint64_t at = offset + 8; at < tail.garbage_end && !(found && tail.damaged);) {
    Frame frame;
    if (!frame_impl::plausible(journal, limit, at, last_sequence, frame)) {
      at += 8;
      continue;
    }
    if (frame.size > budget) {
      tail.damaged = true;
      break;
    }
    budget -= frame.size;
    if (!frame_impl::sealed(frame, seal, at)) {
      at += 8;
      continue;
    }
    if (!found) tail.resume = at;
    found = true;
    if (frame.durable_end > offset) tail.damaged = true;
    at += frame.size;
  }
  return tail;
}

}  // namespace detail::file
IDEM_END_NAMESPACE
