// A journal as a file: opened, created, and read from its beginning into an index.
#pragma once

#include <idem/detail/bytes.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/endian.hpp>
#include <idem/detail/file/fork_guard.hpp>
#include <idem/detail/file/frame.hpp>
#include <idem/detail/file/id.hpp>
#include <idem/detail/file/index.hpp>
#include <idem/detail/file/mapping.hpp>
#include <idem/detail/file/os.hpp>
#include <idem/detail/file/scan.hpp>
#include <idem/detail/random.hpp>
#include <idem/detail/record_bytes.hpp>
#include <idem/detail/sha256.hpp>
#include <idem/protocol.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

IDEM_BEGIN_NAMESPACE
namespace detail::file {

inline constexpr const char* journal_name = "journal";
inline constexpr const char* next_journal_name = "journal.next";
inline constexpr const char* old_journal_name = "journal.old";

/// Where a record frame's content has the fields that the index is made of (docs/record-format.md).
inline constexpr std::size_t digest_in_frame = frame_head_size + record_bytes_impl::at_key;

/// Whether the record at `offset` is that of the digest looked for. The index asks where 64 bits of the digest agree. A
/// frame that can't be read any more counts as the one: a record that can't be read is never taken for an absent one.
struct SameDigest {
  const std::uint8_t* journal;
  const std::uint8_t* digest;
  const FrameSeal* seal;
  std::uint64_t end;  // of what was read of the journal

  bool operator()(std::uint64_t offset) const noexcept {
    // All that is looked at next, at once.
    for (std::size_t ahead = 0; ahead < 256; ahead += 64) __builtin_prefetch(journal + offset + ahead);
    if (std::memcmp(journal + offset + digest_in_frame, digest, sizeof(Digest)) == 0) return true;
    Frame frame;
    return read_frame(journal, end, offset, 0, *seal, frame) != Read::frame;
  }
};

/// What the index keeps of a record frame.
inline Held held_by(const Frame& frame) noexcept {
  // Whether it can be read at all is found out when it is read.
  if (frame.content[record_bytes_impl::at_format] != record_format) return Held::running;
  if (frame.content[record_bytes_impl::at_state] != static_cast<std::uint8_t>(State::in_progress)) {
    return Held::finished;
  }
  const bool abandoned = (frame.content[record_bytes_impl::at_flags] & record_bytes_impl::flag_abandoned) != 0;
  return abandoned ? Held::abandoned : Held::running;
}

/// Whether a record frame holds an outcome whose time is over.
inline bool has_expired(const Frame& frame, TimePoint now) noexcept {
  using namespace record_bytes_impl;
  if (frame.content_size < head_size || held_by(frame) != Held::finished) return false;
  Record record;
  record.state = State::completed;
  record.expires_at = time_at(frame.content + at_expires);
  return protocol::expired(record, now);
}

/// How much room an outcome is sure to find. It holds a failure or a small result; where the disk is full, a larger one
/// is recorded as completed without its result.
inline constexpr std::uint64_t outcome_room = 1024;

/// One file, from the moment that it was opened: compaction replaces it by another one.
/// Thread safety: none; but `fd` may be synced by anybody who keeps the object alive.
struct JournalFile {
  ForkClosed fd;  // a child would keep the blocks of a journal that was replaced
  FileStatus identity = {};
  JournalHeader header = {};
  FrameSeal seal;
  Mapping map;
  /// Bytes that somebody else may have failed to sync: written again before they are synced through `fd`.
  std::uint64_t unproven = 0;
  std::uint64_t unproven_end = 0;

  const std::uint8_t* data() const noexcept { return map.data(); }
};

/// What the shared page says of a journal; zeros where it says nothing.
struct PageHints {
  std::uint64_t durable_end = 0;
  std::uint64_t sequence = 0;  ///< Of the last frame.
};

/// Up to where a journal is known to have been on disk.
inline std::uint64_t promised_end(const JournalHeader& header, std::uint64_t durable_end_on_page) noexcept {
  return durable_end_on_page > header.snapshot_end ? durable_end_on_page : header.snapshot_end;
}

/// A bad frame below the durable end: bytes that had been on disk are gone.
struct Damage {
  std::uint64_t offset = 0;
  std::uint64_t resume = 0;  ///< Where what can be read goes on.

  explicit operator bool() const noexcept { return offset != 0; }
};

/// How far a journal was read, and what is in it.
struct JournalState {
  std::uint64_t end = journal_header_size;
  std::uint64_t allocated = 0;  ///< The file's size as last seen.
  std::uint64_t last_sequence = 0;
  std::int64_t time = 0;    ///< The latest in any frame.
  std::size_t running = 0;  ///< Records in progress that nobody abandoned.
  std::uint64_t current = 0;  ///< Bytes of the frames that are their keys' last.
  Damage damage = {};       ///< The last one, where there is any.
  bool tail_checked = false;
};

inline std::uint64_t mapping_size(std::uint64_t file_size) noexcept {
  // More than there is, so that a file that grows needn't be mapped anew each time. Addresses cost nothing where they
  // have 64 bits.
  constexpr std::uint64_t ahead = sizeof(void*) >= 8 ? std::uint64_t{1} << 32 : std::uint64_t{1} << 24;
  return file_size + (file_size / 2 > ahead ? file_size / 2 : ahead);
}

inline Problem map_journal(Mapping& map, int fd, std::uint64_t size, bool writable) noexcept {
  if (!map.map(fd, mapping_size(size), writable)) return {};
  Problem problem = map.map(fd, size, writable);  // the limit on addresses (RLIMIT_AS) may allow just that
  problem.file = journal_name;
  return problem;
}

/// Opens what `name` stands for and reads its header. `writable`: frames may be put into the mapping.
inline Problem open_journal(int directory, const char* name, bool group, unsigned max_links, JournalFile& out,
                            std::uint64_t& size, bool writable = false) noexcept {
  Fd opened;
  if (Problem problem = open_file(directory, name, Creation::never, group, opened, nullptr, max_links)) return problem;
  if (Problem problem = out.fd.set(std::move(opened))) return problem;
  if (Problem problem = status_of(out.fd.get(), out.identity)) return problem;
  size = out.identity.size;
  if (size < journal_header_size) return {"the journal is shorter than its header; it was cut by somebody else"};
  if (Problem problem = map_journal(out.map, out.fd.get(), size, writable)) return problem;
  const char* why = nullptr;
  if (!decode_header(out.data(), journal_header_size, out.header, why)) return {why};
  out.seal = FrameSeal(out.header);
  return {};
}

/// Writes a header into a new file `journal.next`.
inline Problem begin_journal(int directory, bool group, const JournalHeader& header, JournalFile& out) noexcept {
  Fd made;
  if (Problem problem = open_file(directory, next_journal_name, Creation::exclusive, group, made)) return problem;
  if (Problem problem = out.fd.set(std::move(made))) return problem;
  std::uint8_t bytes[journal_header_size];
  encode_header(bytes, header);
  if (Problem problem = write_all(out.fd.get(), bytes, sizeof bytes, 0)) return problem;
  out.header = header;
  out.seal = FrameSeal(header);
  return {};
}

/// What is wanted of a frame whose place is known, read from its head.
struct FrameFields {
  std::uint64_t sequence;
  std::uint32_t content_size;
  Id128 owner;
};

inline FrameFields fields_of(const std::uint8_t* frame) noexcept {
  FrameFields fields;
  fields.sequence = load_le64(frame + frame_impl::at_sequence);
  fields.content_size = load_le32(frame + frame_impl::at_content_size);
  std::memcpy(fields.owner.bytes, frame + frame_impl::at_owner, sizeof fields.owner.bytes);
  return fields;
}

/// How many bytes a frame takes that was found to be one: none past `end` of what was read, whatever it says by now.
inline std::uint64_t size_at(const JournalFile& file, std::uint64_t offset, std::uint64_t end) noexcept {
  const std::uint64_t size = frame_impl::unchecked_frame_size(fields_of(file.data() + offset).content_size);
  return size < end - offset ? size : end - offset;
}

/// At which size a journal that has `end` bytes now is looked at again, to see whether to rewrite it.
inline std::uint64_t next_look(std::uint64_t least, std::uint64_t end) noexcept {
  const std::uint64_t step = end / 8 > 4096 ? end / 8 : 4096;
  return end + step > least ? end + step : least;
}

/// Puts one frame's meaning into the index and moves the state behind it. False where there is no memory for it.
inline bool apply_frame(FileIndex& index, JournalState& state, const JournalFile& file, std::uint64_t offset,
                        const Frame& frame) noexcept {
  const std::uint8_t* const digest = digest_of(frame);
  if (digest != nullptr) {
    IndexTable& table = index.table_of(digest);
    const std::uint64_t tag = FileIndex::tag_of(digest);
    const SameDigest same{file.data(), digest, &file.seal, state.end};
    Place before;
    if (frame.type == FrameType::record) {
      if (!table.reserve(&index.gate)) return false;
      const Held held = held_by(frame);
      before = table.put(tag, Place{offset, held}, same);
      if (held == Held::running) ++state.running;
      state.current += frame.size;
    } else {
      before = table.remove(tag, same, &index.gate);
    }
    if (before && before.held == Held::running) --state.running;
    if (before) {
      const std::uint64_t size = size_at(file, before.offset, state.end);
      state.current -= size < state.current ? size : state.current;
    }
  }
  state.end = offset + frame.size;
  state.last_sequence = frame.sequence;
  if (frame.time > state.time) state.time = frame.time;
  return true;
}

/// Reads frames from `state.end` on for as long as they are good; `stop` says what ended it.
inline Problem read_frames(FileIndex& index, JournalState& state, const JournalFile& file, Read& stop) noexcept {
  for (;;) {
    Frame frame;
    stop = read_frame(file.data(), state.allocated, state.end, state.last_sequence, file.seal, frame);
    if (stop != Read::frame) return {};
    if (!apply_frame(index, state, file, state.end, frame)) return {"there is no memory for the index"};
  }
}

/// Whoever was killed in an fdatasync that failed told nobody, and the kernel tells each file that is open once: an
/// fdatasync of a file opened since would say that bytes are on disk which aren't (Rebello et al., Can Applications
/// Recover from fsync Failures?, ATC 2020). Written anew, they have to be. REQUIRES: nobody changes these bytes.
inline Problem write_again(int fd, std::uint64_t from, std::uint64_t to) noexcept {
  std::uint8_t bytes[8192];
  while (from < to) {
    const std::uint64_t left = to - from;
    const std::size_t size = left < sizeof bytes ? static_cast<std::size_t>(left) : sizeof bytes;
    if (Problem problem = read_all(fd, bytes, size, from)) return problem;
    if (Problem problem = write_all(fd, bytes, size, from)) return problem;
    from += size;
  }
  return {};
}

/// Judges what follows the last good frame. Where `damage` comes back set something that had been on disk is missing:
/// reading goes on at its `resume`, if that lies before the end of what is allocated.
/// REQUIRES: read_frames() has stopped there.
inline Tail judge_end(const JournalFile& file, const JournalState& state, const PageHints& page,
                      Damage& damage) noexcept {
  std::uint64_t known = promised_end(file.header, page.durable_end);
  // Frames that the page knows of and that aren't there were lost: whatever else looks like an end, this isn't one.
  if (page.sequence > state.last_sequence && known <= state.end) known = state.end + 8;
  const Tail tail = judge_tail(file.data(), state.allocated, state.end, state.last_sequence, known, file.seal);
  if (tail.damaged) {
    const std::uint64_t behind = tail.garbage_end > known ? tail.garbage_end : known;
    damage = {state.end, tail.resume < state.allocated ? tail.resume : (behind + 7) / 8 * 8};
  }
  return tail;
}

/// A name for a store, a journal: empty where the system has no random bytes.
inline Id128 new_id() noexcept {
  Id128 id;
  if (!random_bytes(id.bytes, sizeof id.bytes)) return {};
  return id;
}

/// A frame around a record.
inline bool put_record_frame(Bytes& out, const StoredRecord& stored) {
  const std::size_t begin = out.size();
  begin_frame(out);
  if (encode_record(out, stored)) return true;
  out.truncate(begin);
  return false;
}

}  // namespace detail::file
IDEM_END_NAMESPACE
