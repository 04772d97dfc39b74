// The bytes of a journal's header and frames: exact ones, and hostile ones.
#include "golden/journal_cases.hpp"

#include <idem/detail/file/frame.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace file_frame {

namespace file = idem::detail::file;
using file::Frame;
using file::FrameSeal;
using file::FrameType;
using file::JournalHeader;
using file::Read;
using idem::detail::Bytes;
using journal_support::Buffer;
using journal_support::Journal;

// Pinned: numbers that are on disk.
static_assert(static_cast<int>(FrameType::record) == 1);
static_assert(static_cast<int>(FrameType::erase) == 2);
static_assert(static_cast<int>(FrameType::seal) == 3);
static_assert(file::journal_header_size == 4096);
static_assert(file::journal_format == 1);
static_assert(file::frame_head_size == 56);
static_assert(file::frame_size(0) == 56);
static_assert(file::frame_size(1) == 64);
static_assert(file::frame_size(8) == 64);
static_assert(file::frame_size(9) == 72);

Buffer header_bytes(const JournalHeader& header = journal_support::first_header()) {
  Buffer bytes(file::journal_header_size);
  file::encode_header(bytes.data(), header);
  return bytes;
}

/// Decodes from memory of exactly this size, so that the sanitizers see each byte read past its end.
std::string refusal(const Buffer& bytes, JournalHeader* to = nullptr) {
  const auto exact = std::make_unique<std::uint8_t[]>(bytes.size());
  if (!bytes.empty()) std::memcpy(exact.get(), bytes.data(), bytes.size());
  JournalHeader out;
  const char* why = nullptr;
  if (file::decode_header(exact.get(), bytes.size(), out, why)) {
    if (to != nullptr) *to = out;
    return "(accepted)";
  }
  REQUIRE(why != nullptr);
  return why;
}

using Changes = std::initializer_list<std::pair<std::size_t, std::uint8_t>>;

/// A header with something changed and the checksum made right again.
std::string refusal_of_forged(Changes changes) {
  Buffer bytes = header_bytes();
  for (const auto& [at, value] : changes) bytes.at(at) = value;
  idem::detail::store_le32(bytes.data() + 4092, idem::detail::crc32c(0, bytes.data(), 4092));
  return refusal(bytes);
}

Read read(const Buffer& journal, std::uint64_t offset, std::uint64_t last, const FrameSeal& seal, Frame& out) {
  return file::read_frame(journal.data(), journal.size(), offset, last, seal, out);
}

/// A journal with one frame, something in it changed, and the checksum made right again.
Read read_forged(Changes changes, std::size_t content_size = 16) {
  Journal journal;
  const Buffer content(content_size, 0x5a);
  journal.append(journal_support::head(FrameType::record, 7, 4096), content.data(), content.size());
  std::uint8_t* const frame = journal.bytes.data() + 4096;
  for (const auto& [at, value] : changes) frame[at] = value;
  const std::size_t size = journal.bytes.size() - 4096;
  std::uint32_t crc = idem::detail::crc32c(journal.seal.start(4096), frame + 4, size - 4);
  const std::size_t last = (std::min)(content.size(), std::size_t{4});
  crc = idem::detail::crc32c(crc, content.data() + content.size() - last, last);
  idem::detail::store_le32(frame, crc);
  Frame out;
  return read(journal.bytes, 4096, 6, journal.seal, out);
}

// The files were compared with the output of a program of another language that follows docs/format.md.
TEST_CASE("T-41: a journal has these bytes, on every machine") {
  for (const golden_journal::Case& made : golden_journal::all_cases()) {
    INFO(made.name);
    const std::string kept = golden_journal::kept_text(made.name);
    REQUIRE(!kept.empty());
    CHECK(golden_journal::as_text(made.bytes) == kept);
  }
}

TEST_CASE("T-41: a header is read back, field by field") {
  JournalHeader header = journal_support::first_header();
  header.generation = 0xf1f2f3f4f5f6f7f8;
  header.snapshot_end = 0x0102030405060708;
  header.base_sequence = 0xfffffffffffffffe;
  header.created_at = 0xa1a2a3a4a5a6a7a8;
  JournalHeader out;
  REQUIRE(refusal(header_bytes(header), &out) == "(accepted)");
  CHECK(out.store == header.store);
  CHECK(out.journal == header.journal);
  CHECK(out.generation == header.generation);
  CHECK(out.snapshot_end == header.snapshot_end);
  CHECK(out.base_sequence == header.base_sequence);
  CHECK(out.created_at == header.created_at);
  Buffer longer = header_bytes();
  longer.resize(5000, 0xff);
  CHECK(refusal(longer) == "(accepted)");
}

TEST_CASE("SER-02 FDU-15: every flipped bit and every truncation of a header is refused") {
  Buffer bytes = header_bytes();
  std::size_t accepted = 0;
  for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    const auto flip = static_cast<std::uint8_t>(1u << (bit % 8));
    bytes[bit / 8] ^= flip;
    JournalHeader out;
    const char* why = nullptr;
    if (file::decode_header(bytes.data(), bytes.size(), out, why)) ++accepted;
    bytes[bit / 8] ^= flip;
  }
  CHECK(accepted == 0);
  for (std::size_t size = 0; size < bytes.size(); size = size < 100 || size > 4000 ? size + 1 : size + 97) {
    CHECK(refusal(Buffer(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size))) ==
          "the journal is cut short");
  }
  CHECK(refusal(bytes) == "(accepted)");
}

TEST_CASE("SER-06: a header of a newer format or with impossible fields is refused, however right its checksum") {
  CHECK(refusal_of_forged({}) == "(accepted)");
  CHECK(refusal_of_forged({{8, 2}}) == "the journal was written by a newer version of idem");
  CHECK(refusal_of_forged({{11, 0x80}}) == "the journal was written by a newer version of idem");
  CHECK(refusal_of_forged({{8, 0}}) == "the journal has no format version");
  CHECK(refusal_of_forged({{12, 1}}) == "the journal's header has unknown fields");
  CHECK(refusal_of_forged({{80, 1}}) == "the journal's header has unknown fields");
  CHECK(refusal_of_forged({{4091, 1}}) == "the journal's header has unknown fields");
  CHECK(refusal_of_forged({{57, 0}}) == "the journal's header has an impossible end of the snapshot");
  CHECK(refusal_of_forged({{56, 4}}) == "the journal's header has an impossible end of the snapshot");
  const std::string nameless = "the journal's header names no store, no journal or no generation";
  CHECK(refusal_of_forged({{48, 0}}) == nameless);
  JournalHeader header = journal_support::first_header();
  header.store = {};
  CHECK(refusal(header_bytes(header)) == nameless);
  header = journal_support::first_header();
  header.journal = {};
  CHECK(refusal(header_bytes(header)) == nameless);
  // A newer header may be shorter, and its checksum elsewhere: its number says so all the same.
  Buffer newer = header_bytes();
  newer[8] = 2;
  newer.resize(16);
  CHECK(refusal(newer) == "the journal was written by a newer version of idem");
  CHECK(refusal(Buffer(4096)) == "the journal has no header");
  CHECK(refusal(Buffer(4096, 'x')) == "the file is not a journal of idem");
}

TEST_CASE("T-41: a frame is read back, field by field, whatever the length of its content") {
  Journal journal;
  std::vector<Frame> written;
  const Buffer content(64, 0xa5);
  for (std::uint32_t size = 0; size <= 40; ++size) {
    Frame with = journal_support::head(static_cast<FrameType>(1 + size % 3), size + 1, journal.end());
    with.time = size % 2 == 0 ? std::numeric_limits<std::int64_t>::min() : -1;
    with.owner = journal_support::id(static_cast<std::uint8_t>(size));
    journal.append(with, content.data(), size);
    CHECK(journal.end() % 8 == 0);
    with.content_size = size;
    written.push_back(with);
  }
  std::size_t at = 4096;
  std::uint64_t last = 0;
  for (const Frame& expected : written) {
    Frame frame;
    REQUIRE(read(journal.bytes, at, last, journal.seal, frame) == Read::frame);
    CHECK(frame.type == expected.type);
    CHECK(frame.sequence == expected.sequence);
    CHECK(frame.durable_end == expected.durable_end);
    CHECK(frame.time == expected.time);
    CHECK(frame.owner == expected.owner);
    REQUIRE(frame.content_size == expected.content_size);
    CHECK(frame.content == journal.bytes.data() + at + 56);
    CHECK(std::memcmp(frame.content, content.data(), frame.content_size) == 0);
    CHECK(frame.size == file::frame_size(frame.content_size));
    at += frame.size;
    last = frame.sequence;
  }
  CHECK(at == journal.end());
  Frame frame;
  CHECK(read(journal.bytes, at, last, journal.seal, frame) == Read::nothing);
}

TEST_CASE("T-41: frames are made behind what a buffer holds, in memory that was used before") {
  const FrameSeal seal(journal_support::first_header());
  Bytes used;
  for (int i = 0; i < 300; ++i) used.push(0xff);
  used.truncate(3);
  file::begin_frame(used);
  used.append("0123456789", 10);
  file::finish_frame(used, 3, seal, 8192, journal_support::head(FrameType::erase, 1, 0));
  Bytes fresh;
  file::begin_frame(fresh);
  fresh.append("0123456789", 10);
  file::finish_frame(fresh, 0, seal, 8192, journal_support::head(FrameType::erase, 1, 0));
  REQUIRE(used.size() == fresh.size() + 3);
  CHECK(used.data()[2] == 0xff);
  CHECK(std::memcmp(used.data() + 3, fresh.data(), fresh.size()) == 0);
}

TEST_CASE("SER-02 FDU-15: every flipped bit of every frame is seen") {
  for (const Journal& original : {golden_journal::created(), golden_journal::compacted()}) {
    Journal journal = original;
    std::uint64_t last = 0;
    std::size_t frames = 0;
    std::size_t accepted = 0;
    Frame frame;
    for (std::size_t at = 4096; read(journal.bytes, at, last, journal.seal, frame) == Read::frame;) {
      for (std::size_t bit = 0; bit < std::size_t{frame.size} * 8; ++bit) {
        std::uint8_t& byte = journal.bytes[at + bit / 8];
        const std::uint8_t right = byte;
        byte = static_cast<std::uint8_t>(right ^ (1u << (bit % 8)));
        Frame out;
        if (read(journal.bytes, at, last, journal.seal, out) != Read::bad) ++accepted;
        byte = right;
      }
      ++frames;
      at += frame.size;
      last = frame.sequence;
    }
    CHECK(frames >= 4);
    CHECK(accepted == 0);
  }
}

TEST_CASE("SER-02 FDU-04: a frame that is cut off is none, and nothing is read past the limit") {
  const Journal journal = golden_journal::created();
  Frame whole;
  REQUIRE(read(journal.bytes, 4096, 0, journal.seal, whole) == Read::frame);
  for (std::size_t size = 4096; size < 4096 + whole.size; ++size) {
    const auto exact = std::make_unique<std::uint8_t[]>(size);
    std::memcpy(exact.get(), journal.bytes.data(), size);
    Frame out;
    const Read result = file::read_frame(exact.get(), size, 4096, 0, journal.seal, out);
    CHECK(result == (size == 4096 ? Read::nothing : Read::bad));
  }
}

TEST_CASE("T-41: zeros are no frame, and no place for one isn't either") {
  Journal journal;
  journal.bytes.resize(4096 + 128);
  Frame out;
  for (std::size_t at = 4096; at < 4096 + 128; at += 8) {
    CHECK(read(journal.bytes, at, 0, journal.seal, out) == Read::nothing);
  }
  CHECK(read(journal.bytes, 4096 + 128, 0, journal.seal, out) == Read::nothing);
  CHECK(read(journal.bytes, 1u << 20, 0, journal.seal, out) == Read::nothing);
  CHECK(read(journal.bytes, (std::numeric_limits<std::uint64_t>::max)() - 7, 0, journal.seal, out) == Read::nothing);
  journal.bytes.back() = 1;
  CHECK(read(journal.bytes, 4096 + 64, 0, journal.seal, out) == Read::nothing);
  CHECK(read(journal.bytes, 4096 + 72, 0, journal.seal, out) == Read::bad);
  CHECK(read(journal.bytes, 4096 + 120, 0, journal.seal, out) == Read::bad);
}

TEST_CASE("FSE-11: a frame counts in its own store, its own journal and its own place, and after lower sequences") {
  const Journal journal = golden_journal::created();
  Frame frame;
  REQUIRE(read(journal.bytes, 4096, 0, journal.seal, frame) == Read::frame);
  CHECK(read(journal.bytes, 4096, 1, journal.seal, frame) == Read::bad);

  JournalHeader other = journal_support::first_header();
  other.store.bytes[15] ^= 1;
  CHECK(read(journal.bytes, 4096, 0, FrameSeal(other), frame) == Read::bad);
  other = journal_support::first_header();
  other.journal.bytes[0] ^= 1;
  CHECK(read(journal.bytes, 4096, 0, FrameSeal(other), frame) == Read::bad);
  // The ids' borders count: bytes can't move from one to the other.
  other = journal_support::first_header();
  std::swap(other.store, other.journal);
  CHECK(read(journal.bytes, 4096, 0, FrameSeal(other), frame) == Read::bad);

  Buffer moved = journal.bytes;
  moved.insert(moved.begin() + 4096, 8, std::uint8_t{0});
  CHECK(read(moved, 4104, 0, journal.seal, frame) == Read::bad);
  // Nor does the place show in the low 32 bits alone.
  CHECK(journal.seal.start(4096) != journal.seal.start(4096 + (std::uint64_t{1} << 32)));
  // Frames begin at multiples of 8.
  Bytes odd;
  odd.append(journal.bytes.data(), 4100);
  file::begin_frame(odd);
  file::finish_frame(odd, 4100, journal.seal, 4100, journal_support::head(FrameType::seal, 1, 0));
  CHECK(file::read_frame(odd.data(), odd.size(), 4100, 0, journal.seal, frame) == Read::bad);
}

TEST_CASE("SER-06 SER-10: a frame with what this version doesn't know is refused, however right its checksum") {
  CHECK(read_forged({}) == Read::frame);
  for (const std::uint8_t type : Buffer{0, 4, 0x80, 0xff}) CHECK(read_forged({{12, type}}) == Read::bad);
  for (const std::size_t zero : {std::size_t{13}, std::size_t{14}, std::size_t{15}}) {
    CHECK(read_forged({{zero, 1}}) == Read::bad);
  }
  CHECK(read_forged({{4, 'x'}}) == Read::bad);
  CHECK(read_forged({{16, 6}}) == Read::bad);  // a sequence that was there
  CHECK(read_forged({{24, 8}}) == Read::bad);  // durable past its own beginning
  CHECK(read_forged({{24, 0}}) == Read::frame);
  CHECK(read_forged({{8, 17}}) == Read::bad);  // a byte longer than the file
  CHECK(read_forged({{8, 8}}) == Read::bad);   // shorter, so that the checksum covers less
  CHECK(read_forged({{8, 0xff}, {9, 0xff}, {10, 0xff}, {11, 0xff}}) == Read::bad);
  CHECK(read_forged({{8, 0xc8}, {9, 0xff}, {10, 0xff}, {11, 0xff}}) == Read::bad);  // 2^32 with the head
  CHECK(read_forged({{8, 0}, {9, 0xff}, {10, 0xff}, {11, 0xff}}) == Read::bad);
  CHECK(read_forged({{11, 0x80}}) == Read::bad);
}

TEST_CASE("SER-10: a frame's size never wraps, in however large a journal") {
  Journal journal;
  journal.append(journal_support::head(FrameType::record, 1, 0), nullptr, 0);
  std::uint8_t* const content_size = journal.bytes.data() + 4096 + 8;
  const std::uint64_t limit = std::uint64_t{1} << 40;
  Frame frame;
  idem::detail::store_le32(content_size, 0xffffff00u);
  REQUIRE(file::frame_impl::plausible(journal.bytes.data(), limit, 4096, 0, frame));
  CHECK(frame.size == 0xffffff38u);
  for (const std::uint32_t more : {0xffffff01u, 0xffffffc8u, 0xffffffffu}) {
    idem::detail::store_le32(content_size, more);
    CHECK_FALSE(file::frame_impl::plausible(journal.bytes.data(), limit, 4096, 0, frame));
  }
}

TEST_CASE("T-41: a frame never says that the journal was on disk past the frame's own beginning") {
  Journal journal;
  journal.append(journal_support::head(FrameType::seal, 1, 5000), nullptr, 0);
  Frame frame;
  REQUIRE(read(journal.bytes, 4096, 0, journal.seal, frame) == Read::frame);
  CHECK(frame.durable_end == 4096);
  file::move_frame(journal.bytes.data() + 4096, journal.seal, 4096, (std::numeric_limits<std::uint64_t>::max)());
  REQUIRE(read(journal.bytes, 4096, 0, journal.seal, frame) == Read::frame);
  CHECK(frame.durable_end == 4096);
}

TEST_CASE("T-41: a frame that is moved keeps everything but its place and its durable end") {
  const Journal journal = golden_journal::created();
  JournalHeader next = journal_support::first_header();
  next.journal = journal_support::id(0x99);
  const FrameSeal seal(next);
  std::uint64_t last = 0;
  Frame frame;
  for (std::size_t at = 4096; read(journal.bytes, at, last, journal.seal, frame) == Read::frame;) {
    const std::size_t to = 8192 + at;
    Buffer copy(to);
    copy.insert(copy.end(), frame.content - 56, frame.content - 56 + frame.size);
    file::move_frame(copy.data() + to, seal, to, 4104);
    Frame moved;
    REQUIRE(read(copy, to, last, seal, moved) == Read::frame);
    CHECK(read(copy, to, last, journal.seal, moved) == Read::bad);
    REQUIRE(read(copy, to, last, seal, moved) == Read::frame);
    CHECK(moved.durable_end == 4104);
    CHECK(moved.type == frame.type);
    CHECK(moved.sequence == frame.sequence);
    CHECK(moved.time == frame.time);
    CHECK(moved.owner == frame.owner);
    REQUIRE(moved.content_size == frame.content_size);
    CHECK(moved.size == frame.size);
    CHECK(std::memcmp(moved.content, frame.content, frame.content_size) == 0);
    at += frame.size;
    last = frame.sequence;
  }
  CHECK(last == 0x123456789abcdef0);
}

TEST_CASE("FSE-11: a frame tells whose key it is about") {
  Journal journal;
  journal.append(journal_support::head(FrameType::record, 1, 0), journal_support::claim(0x21));
  const std::size_t second = journal.end();
  journal.append(journal_support::head(FrameType::erase, 2, 0), journal_support::digest(0x22));
  Frame frame;
  REQUIRE(read(journal.bytes, 4096, 0, journal.seal, frame) == Read::frame);
  REQUIRE(file::digest_of(frame) != nullptr);
  CHECK(std::memcmp(file::digest_of(frame), journal_support::digest(0x21).bytes, 32) == 0);
  frame.content_size = 96;
  CHECK(file::digest_of(frame) != nullptr);
  frame.content_size = 95;
  CHECK(file::digest_of(frame) == nullptr);
  REQUIRE(read(journal.bytes, second, 1, journal.seal, frame) == Read::frame);
  REQUIRE(file::digest_of(frame) != nullptr);
  CHECK(std::memcmp(file::digest_of(frame), journal_support::digest(0x22).bytes, 32) == 0);
  frame.content_size = 31;
  CHECK(file::digest_of(frame) == nullptr);
  frame.type = FrameType::seal;
  frame.content_size = 200;
  CHECK(file::digest_of(frame) == nullptr);
}

}  // namespace file_frame
