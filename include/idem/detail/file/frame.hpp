// The bytes of a journal: its header and its frames. docs/format.md says what each byte is for.
#pragma once

#include <idem/detail/bytes.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/crc32c.hpp>
#include <idem/detail/endian.hpp>
#include <idem/detail/file/id.hpp>
#include <idem/detail/record_bytes.hpp>
#include <idem/detail/sha256.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

IDEM_BEGIN_NAMESPACE
namespace detail::file {

inline constexpr std::size_t journal_header_size = 4096;
/// The newest format that this version of idem knows. A test makes a neighbouring version by raising it.
#if defined(IDEM_TEST_JOURNAL_FORMAT)
inline constexpr std::uint32_t journal_format = IDEM_TEST_JOURNAL_FORMAT;
#else
inline constexpr std::uint32_t journal_format = 1;
#endif
/// The one before, which a new store has until somebody asks for the newest: an older program may share it.
inline constexpr std::uint32_t first_journal_format = journal_format > 1 ? journal_format - 1 : journal_format;
inline constexpr std::size_t frame_head_size = 56;
/// So that the whole frame's size has 32 bits too. Far more than the largest record.
inline constexpr std::uint32_t max_content_size = 0xffffff00u;

/// What stands at the beginning of a journal and never changes there.
struct JournalHeader {
  std::uint32_t format = first_journal_format;
  Id128 store = {};                 ///< Of the directory; the same in each journal of it. Not zero.
  Id128 journal = {};               ///< Of this file. Not zero.
  std::uint64_t generation = 0;     ///< 1, and one more with each compaction.
  std::uint64_t snapshot_end = 0;   ///< Everything below was on disk before the journal got its name; 4096 at creation.
  std::uint64_t base_sequence = 0;  ///< The highest sequence contained in the snapshot or superseded by it.
  std::uint64_t created_at = 0;     ///< Microseconds since 1970-01-01 00:00 UTC.
};

enum class FrameType : std::uint8_t {
  record = 1,  ///< The key's record from now on, in the form of record_bytes.hpp.
  erase = 2,   ///< The digest of a key whose record is gone.
  seal = 3,    ///< A compaction's copy ends here. No content.
};

/// A frame as it was read; `content` refers to the journal's bytes.
struct Frame {
  FrameType type = FrameType::record;
  std::uint64_t sequence = 0;     ///< Rises strictly from frame to frame, over compactions too.
  std::uint64_t durable_end = 0;  ///< An offset in the same journal: all before it was on disk when this was written.
  std::int64_t time = 0;          ///< Microseconds: the highest that the store's clock was seen at.
  Id128 owner = {};               ///< Name of the owner file; zero if there is none.
  const std::uint8_t* content = nullptr;
  std::uint32_t content_size = 0;
  std::uint32_t size = 0;  ///< Of the whole frame, a multiple of 8.
};

namespace frame_impl {

// Where each field of the header begins.
inline constexpr std::size_t header_magic = 0;
inline constexpr std::size_t header_format = 8;
inline constexpr std::size_t header_zero = 12;
inline constexpr std::size_t header_store = 16;
inline constexpr std::size_t header_journal = 32;
inline constexpr std::size_t header_generation = 48;
inline constexpr std::size_t header_snapshot_end = 56;
inline constexpr std::size_t header_base_sequence = 64;
inline constexpr std::size_t header_created_at = 72;
inline constexpr std::size_t header_rest = 80;
inline constexpr std::size_t header_crc = journal_header_size - 4;

inline constexpr char magic[9] = "idem-jnl";

// Where each field of a frame begins.
inline constexpr std::size_t at_crc = 0;
inline constexpr std::size_t at_marker = 4;
inline constexpr std::size_t at_content_size = 8;
inline constexpr std::size_t at_type = 12;
inline constexpr std::size_t at_zero = 13;
inline constexpr std::size_t at_sequence = 16;
inline constexpr std::size_t at_durable_end = 24;
inline constexpr std::size_t at_time = 32;
inline constexpr std::size_t at_owner = 40;

/// "idmF". A search looks for it, and no frame begins with eight bytes of zero, whatever its checksum is.
inline constexpr std::uint32_t marker = 0x466d6469u;

inline bool all_zero(const std::uint8_t* bytes, std::uint64_t size) noexcept {
  for (; size >= 8; size -= 8, bytes += 8) {
    if (load_le64(bytes) != 0) return false;
  }
  for (; size != 0; --size, ++bytes) {
    if (*bytes != 0) return false;
  }
  return true;
}

}  // namespace frame_impl

/// Writes the 4096 bytes of a header.
inline void encode_header(std::uint8_t* to, const JournalHeader& header) noexcept {
  using namespace frame_impl;
  std::memset(to, 0, journal_header_size);
  std::memcpy(to + header_magic, magic, 8);
  store_le32(to + header_format, header.format);
  std::memcpy(to + header_store, header.store.bytes, sizeof header.store.bytes);
  std::memcpy(to + header_journal, header.journal.bytes, sizeof header.journal.bytes);
  store_le64(to + header_generation, header.generation);
  store_le64(to + header_snapshot_end, header.snapshot_end);
  store_le64(to + header_base_sequence, header.base_sequence);
  store_le64(to + header_created_at, header.created_at);
  store_le32(to + header_crc, crc32c(0, to, header_crc));
}

/// Reads a header from the first bytes of a journal. False where it isn't one of a known format, with a sentence in
/// `why` that stays valid; `out` is then as it was.
inline bool decode_header(const std::uint8_t* data, std::size_t size, JournalHeader& out, const char*& why) noexcept {
  using namespace frame_impl;
  const auto refuse = [&why](const char* reason) {
    why = reason;
    return false;
  };
  if (size < header_store) return refuse("the journal is cut short");
  if (std::memcmp(data + header_magic, magic, 8) != 0) {
    return refuse(all_zero(data, size < journal_header_size ? size : journal_header_size)
                      ? "the journal has no header"
                      : "the file is not a journal of idem");
  }
  // A newer format may have its checksum elsewhere, so that its number is looked at first.
  const std::uint32_t format = load_le32(data + header_format);
  if (format > journal_format) return refuse("the journal was written by a newer version of idem");
  if (format == 0) return refuse("the journal has no format version");
  if (size < journal_header_size) return refuse("the journal is cut short");
  if (crc32c(0, data, header_crc) != load_le32(data + header_crc)) {
    return refuse("the checksum of the journal's header is wrong");
  }
  if (!all_zero(data + header_zero, header_store - header_zero) ||
      !all_zero(data + header_rest, header_crc - header_rest)) {
    return refuse("the journal's header has unknown fields");
  }
  JournalHeader header;
  header.format = format;
  std::memcpy(header.store.bytes, data + header_store, sizeof header.store.bytes);
  std::memcpy(header.journal.bytes, data + header_journal, sizeof header.journal.bytes);
  header.generation = load_le64(data + header_generation);
  header.snapshot_end = load_le64(data + header_snapshot_end);
  header.base_sequence = load_le64(data + header_base_sequence);
  header.created_at = load_le64(data + header_created_at);
  if (header.store.empty() || header.journal.empty() || header.generation == 0) {
    return refuse("the journal's header names no store, no journal or no generation");
  }
  if (header.snapshot_end < journal_header_size || header.snapshot_end % 8 != 0) {
    return refuse("the journal's header has an impossible end of the snapshot");
  }
  out = header;
  return true;
}

/// What ties frames to one place in one journal. A frame's checksum begins with the ids of store and journal and with
/// the frame's offset, so that bytes of another store, of an older journal or of another place are no frame here.
class FrameSeal {
 public:
  FrameSeal() noexcept = default;
  explicit FrameSeal(const JournalHeader& header) noexcept
      : ids_(crc32c(crc32c(0, header.store.bytes, sizeof header.store.bytes), header.journal.bytes,
                    sizeof header.journal.bytes)) {}

  /// The checksum so far, of a frame at `offset`.
  std::uint32_t start(std::uint64_t offset) const noexcept {
    std::uint8_t bytes[8];
    store_le64(bytes, offset);
    return crc32c(ids_, bytes, sizeof bytes);
  }

 private:
  std::uint32_t ids_ = 0;
};

/// How many bytes a frame with this much content takes. REQUIRES: content_size <= max_content_size.
inline constexpr std::size_t frame_size(std::size_t content_size) noexcept {
  return (frame_head_size + content_size + 7) / 8 * 8;
}

namespace frame_impl {

/// A record ends with a CRC of its own, and a CRC over bytes and their CRC is the same whatever the bytes are: they are
/// divisible by the polynomial. So the content's last four bytes are taken a second time, without which any record
/// would do in place of another one of the same length.
inline std::uint32_t checksum(const std::uint8_t* frame, std::size_t size, std::uint32_t content_size,
                              const FrameSeal& seal, std::uint64_t offset) noexcept {
  const std::uint32_t crc = crc32c(seal.start(offset), frame + at_marker, size - at_marker);
  const std::size_t again = content_size < 4 ? content_size : 4;
  return crc32c(crc, frame + frame_head_size + content_size - again, again);
}

inline void seal_at(std::uint8_t* frame, std::uint32_t content_size, const FrameSeal& seal, std::uint64_t offset,
                    std::uint64_t durable_end) noexcept {
  // Whoever hands in more than can be true must not thereby make a frame that nobody accepts.
  store_le64(frame + at_durable_end, durable_end < offset ? durable_end : offset);
  store_le32(frame + at_crc, checksum(frame, frame_size(content_size), content_size, seal, offset));
}

/// frame_size() of a length that nobody has checked: in 64 bits it doesn't overflow.
inline constexpr std::uint64_t unchecked_frame_size(std::uint32_t content_size) noexcept {
  return (std::uint64_t{frame_head_size} + content_size + 7) / 8 * 8;
}

/// What read_frame() does but for the checksum: whether a whole frame can be at `offset`, and what its head says.
inline bool plausible(const std::uint8_t* journal, std::uint64_t limit, std::uint64_t offset,
                      std::uint64_t last_sequence, Frame& out) noexcept {
  if (offset % 8 != 0 || offset > limit || limit - offset < frame_head_size) return false;
  const std::uint8_t* const head = journal + offset;
  if (load_le32(head + at_marker) != marker) return false;
  // Read once: another process may write to the memory that is looked at.
  const std::uint32_t content_size = load_le32(head + at_content_size);
  if (content_size > max_content_size || content_size > limit - offset - frame_head_size) return false;
  const std::uint64_t size = unchecked_frame_size(content_size);
  if (size > limit - offset) return false;
  const std::uint8_t type = head[at_type];
  if (type < static_cast<std::uint8_t>(FrameType::record) || type > static_cast<std::uint8_t>(FrameType::seal)) {
    return false;
  }
  if (head[at_zero] != 0 || head[at_zero + 1] != 0 || head[at_zero + 2] != 0) return false;
  const std::uint64_t sequence = load_le64(head + at_sequence);
  const std::uint64_t durable_end = load_le64(head + at_durable_end);
  if (sequence <= last_sequence || durable_end > offset) return false;
  out.type = static_cast<FrameType>(type);
  out.sequence = sequence;
  out.durable_end = durable_end;
  out.time = static_cast<std::int64_t>(load_le64(head + at_time));
  std::memcpy(out.owner.bytes, head + at_owner, sizeof out.owner.bytes);
  out.content = head + frame_head_size;
  out.content_size = content_size;
  out.size = static_cast<std::uint32_t>(size);
  return true;
}

/// Whether the checksum of what plausible() found is right.
inline bool sealed(const Frame& frame, const FrameSeal& seal, std::uint64_t offset) noexcept {
  const std::uint8_t* const head = frame.content - frame_head_size;
  return checksum(head, frame.size, frame.content_size, seal, offset) == load_le32(head + at_crc);
}

}  // namespace frame_impl

/// Appends room for a frame's head. The content is appended to `out` next, then finish_frame() is called. Only an
/// allocation throws; `out` is then as it was.
inline void begin_frame(Bytes& out) {
  std::memset(out.extend(frame_head_size), 0, frame_head_size);
}

/// Makes a frame for the place `offset` of everything in `out` from `begin` on, where begin_frame() was called, and
/// pads it. Of `head` the fields from `type` to `owner` count; a durable_end past `offset` is taken for `offset`. Only
/// an allocation throws; `out` is then as it was. REQUIRES: offset is a multiple of 8, the content is no longer than
/// max_content_size.
inline void finish_frame(Bytes& out, std::size_t begin, const FrameSeal& seal, std::uint64_t offset,
                         const Frame& head) {
  using namespace frame_impl;
  const std::size_t content_size = out.size() - begin - frame_head_size;
  const std::size_t size = frame_size(content_size);
  const std::size_t padding = size - frame_head_size - content_size;
  if (padding != 0) std::memset(out.extend(padding), 0, padding);
  std::uint8_t* const frame = out.data() + begin;
  store_le32(frame + at_marker, marker);
  store_le32(frame + at_content_size, record_bytes_impl::narrow(content_size));
  frame[at_type] = static_cast<std::uint8_t>(head.type);
  store_le64(frame + at_sequence, head.sequence);
  store_le64(frame + at_time, static_cast<std::uint64_t>(head.time));
  std::memcpy(frame + at_owner, head.owner.bytes, sizeof head.owner.bytes);
  seal_at(frame, record_bytes_impl::narrow(content_size), seal, offset, head.durable_end);
}

enum class Read : std::uint8_t {
  frame = 1,
  nothing = 2,  ///< Zeros where a frame's head would be, or up to the limit. What follows them may still be no zeros.
  bad = 3,
};

/// Reads the frame at `offset` of a journal whose first `limit` bytes are at `journal`. Trusts no byte, and reads none
/// past the limit. A frame has a sequence above `last_sequence`. `out` counts only where a frame was found.
inline Read read_frame(const std::uint8_t* journal, std::uint64_t limit, std::uint64_t offset,
                       std::uint64_t last_sequence, const FrameSeal& seal, Frame& out) noexcept {
  using namespace frame_impl;
  if (offset >= limit) return Read::nothing;
  if (plausible(journal, limit, offset, last_sequence, out)) {
    return sealed(out, seal, offset) ? Read::frame : Read::bad;
  }
  const std::uint64_t room = limit - offset;
  return all_zero(journal + offset, room < frame_head_size ? room : frame_head_size) ? Read::nothing : Read::bad;
}

/// Seals a frame's copy for another place, usually in another journal; all but durable_end and the checksum stays.
/// REQUIRES: read_frame() has found it to be a frame; offset is a multiple of 8.
inline void move_frame(std::uint8_t* frame, const FrameSeal& to, std::uint64_t offset,
                       std::uint64_t durable_end) noexcept {
  frame_impl::seal_at(frame, load_le32(frame + frame_impl::at_content_size), to, offset, durable_end);
}

/// Writes a frame into a mapped journal. Its marker comes first: a process that is killed before the end leaves
/// something that isn't zeros where the next frame goes, so that whoever looks there next sees that there is something
/// to clear away. REQUIRES: finish_frame() made it; `to` is a multiple of 8.
inline void put_frame(std::uint8_t* to, const std::uint8_t* frame, std::size_t size) noexcept {
  std::uint64_t first = 0;
  std::memcpy(&first, frame, sizeof first);
  // The bytes came into being in the kernel; an atomic word is nothing but its value.
  reinterpret_cast<std::atomic<std::uint64_t>*>(to)->store(first, std::memory_order_relaxed);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  std::memcpy(to + sizeof first, frame + sizeof first, size - sizeof first);
}

/// The 32 bytes of the digest of the key that a frame is about. Null for a seal, and where the content is too short for
/// its type. Says nothing about whether the rest of the content is good.
inline const std::uint8_t* digest_of(const Frame& frame) noexcept {
  switch (frame.type) {
    case FrameType::record:
      if (frame.content_size < record_bytes_impl::at_key + sizeof(Digest)) return nullptr;
      return frame.content + record_bytes_impl::at_key;
    case FrameType::erase:
      return frame.content_size < sizeof(Digest) ? nullptr : frame.content;
    case FrameType::seal:
      break;
  }
  return nullptr;
}

}  // namespace detail::file
IDEM_END_NAMESPACE
