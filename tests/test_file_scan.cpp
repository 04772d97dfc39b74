// What is made of the bytes behind the last good frame: what a crash may leave is cut off, what was lost is seen.
#include "golden/journal_cases.hpp"

#include <idem/detail/file/scan.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <string>
#include <vector>

namespace file_scan {

namespace file = idem::detail::file;
using file::Frame;
using file::FrameType;
using file::JournalHeader;
using file::Read;
using file::Tail;
using journal_support::Buffer;
using journal_support::Journal;

constexpr std::size_t sector = 512;

struct Reading {
  std::vector<Buffer> frames;          ///< The bytes of each good one.
  std::vector<std::uint64_t> damages;  ///< Where frames are missing.
  std::uint64_t end = 0;               ///< Where the next frame is to be written.
  std::uint64_t garbage_end = 0;
};

/// Reads a journal as a store does that opens it.
Reading read_all(const Buffer& bytes, const file::FrameSeal& seal, std::uint64_t known_durable_end) {
  Reading reading;
  std::uint64_t last = 0;
  for (std::uint64_t at = file::journal_header_size;;) {
    Frame frame;
    if (file::read_frame(bytes.data(), bytes.size(), at, last, seal, frame) == Read::frame) {
      reading.frames.emplace_back(bytes.data() + at, bytes.data() + at + frame.size);
      known_durable_end = (std::max)(known_durable_end, frame.durable_end);
      last = frame.sequence;
      at += frame.size;
      continue;
    }
    const Tail tail = file::judge_tail(bytes.data(), bytes.size(), at, last, known_durable_end, seal);
    REQUIRE(tail.garbage_end >= at);
    REQUIRE(tail.zero == (tail.garbage_end == at));
    if (tail.damaged) {
      reading.damages.push_back(at);
      REQUIRE((tail.resume > at || tail.resume == bytes.size()));
      if (tail.resume < bytes.size()) {
        at = tail.resume;
        continue;
      }
    }
    reading.end = at;
    reading.garbage_end = tail.garbage_end;
    return reading;
  }
}

/// So that a batch spreads over several sectors, with frames' heads across their borders.
std::string filler(std::size_t size) {
  std::string text;
  for (std::size_t i = 0; i < size; ++i) text += static_cast<char>('a' + i % 26);
  return text;
}

/// Five frames known to be on disk, the last one by the frames that follow it, and a batch of seven that isn't.
struct Batch {
  Journal journal;
  std::size_t durable = 0;
  std::size_t durable_frames = 5;
  std::vector<Buffer> frames;

  explicit Batch(const JournalHeader& header = journal_support::first_header()) : journal(header) {
    const std::string text = filler(700);
    std::uint64_t sequence = 0;
    for (std::uint8_t key = 0; key < 5; ++key) {
      add(journal_support::head(FrameType::record, ++sequence, journal.end()), journal_support::claim(key));
    }
    durable = journal.end();
    for (std::uint8_t i = 0; i < 7; ++i) {
      const Frame with = journal_support::head(FrameType::record, ++sequence, durable);
      const std::string_view payload = std::string_view(text).substr(0, i % 3 == 0 ? 600 : 90u * i);
      add(with, journal_support::outcome(i, payload));
    }
  }

 private:
  void add(const Frame& with, const idem::detail::StoredRecord& stored) {
    const std::size_t from = journal.bytes.size();
    journal.append(with, stored);
    frames.emplace_back(journal.bytes.begin() + static_cast<std::ptrdiff_t>(from), journal.bytes.end());
  }
};

bool is_prefix(const std::vector<Buffer>& part, const std::vector<Buffer>& whole) {
  return part.size() <= whole.size() && std::equal(part.begin(), part.end(), whole.begin());
}

TEST_CASE("FDU-04: zeros behind the last frame are no garbage") {
  Journal journal;
  journal.append(journal_support::head(FrameType::seal, 1, 4096), nullptr, 0);
  const std::size_t end = journal.end();
  for (const std::size_t room : {0u, 1u, 7u, 8u, 9u, 63u, 64u, 65u, 4096u, 1u << 20}) {
    journal.bytes.resize(end + room);
    const Tail tail = file::judge_tail(journal.bytes.data(), journal.limit(), end, 1, 4096, journal.seal);
    CHECK(tail.zero);
    CHECK_FALSE(tail.damaged);
    CHECK(tail.garbage_end == end);
  }
}

TEST_CASE("FDU-04: garbage ends with the last word that isn't zero, wherever it is") {
  const Journal journal;
  for (const std::size_t room : {8u, 64u, 72u, 200u, 203u}) {
    for (std::size_t at = 0; at < room; ++at) {
      Buffer bytes = journal.bytes;
      bytes.resize(4096 + room);
      bytes[4096 + at] = 0x80;
      const Tail tail = file::judge_tail(bytes.data(), bytes.size(), 4096, 0, 4096, journal.seal);
      CHECK_FALSE(tail.zero);
      CHECK_FALSE(tail.damaged);
      CHECK(tail.garbage_end == (std::min)(4096 + (at / 8 + 1) * 8, bytes.size()));
    }
  }
}

TEST_CASE("FDU-04: where the journal was on disk further than it reads, something is lost, zeros or not") {
  Journal journal;
  const std::size_t end = journal.end();
  Tail tail = file::judge_tail(journal.bytes.data(), journal.limit(), end, 0, end + 8, journal.seal);
  CHECK(tail.zero);
  CHECK(tail.damaged);
  CHECK(tail.resume == journal.limit());
  journal.bytes.resize(8192);
  tail = file::judge_tail(journal.bytes.data(), journal.limit(), end, 0, end + 8, journal.seal);
  CHECK(tail.zero);
  CHECK(tail.damaged);
  CHECK(tail.resume == 8192);
  tail = file::judge_tail(journal.bytes.data(), journal.limit(), end, 0, end, journal.seal);
  CHECK_FALSE(tail.damaged);
}

TEST_CASE("FDU-04: of an unsynced batch any sectors may be missing: what was on disk is read, the rest is cut off") {
  const Batch batch;
  JournalHeader old_header = journal_support::first_header();
  old_header.journal = journal_support::id(0xc0);
  const Batch old(old_header);
  const std::size_t size = (batch.journal.bytes.size() + 2 * sector) / sector * sector;
  Buffer whole = batch.journal.bytes;
  whole.resize(size);

  // What may be where a sector wasn't written: zeros, another journal's frames, anything.
  Buffer zeros = whole;
  std::fill(zeros.begin() + static_cast<std::ptrdiff_t>(batch.durable), zeros.end(), std::uint8_t{0});
  Buffer stale = old.journal.bytes;
  stale.resize(size);
  const Buffer junk(size, 0xdb);

  const std::size_t first = batch.durable / sector;
  const std::size_t count = size / sector - first;
  REQUIRE(count >= 6);
  REQUIRE(count <= 12);
  std::size_t torn = 0;
  for (const Buffer* const instead : std::initializer_list<const Buffer*>{&zeros, &stale, &junk}) {
    for (std::uint32_t subset = 0; subset < (1u << count); ++subset) {
      Buffer bytes = whole;
      for (std::size_t i = 0; i < count; ++i) {
        if ((subset >> i & 1) != 0) continue;
        // The sector with the durable end is written again with the same bytes before it.
        const std::size_t from = (std::max)((first + i) * sector, batch.durable);
        std::memcpy(bytes.data() + from, instead->data() + from, (first + i + 1) * sector - from);
      }
      const Reading reading = read_all(bytes, batch.journal.seal, 4096);
      REQUIRE(reading.damages.empty());
      REQUIRE(reading.frames.size() >= batch.durable_frames);
      REQUIRE(is_prefix(reading.frames, batch.frames));
      if (reading.frames.size() < batch.frames.size()) ++torn;
      // Once cut off, nothing of it comes back.
      std::fill(bytes.begin() + static_cast<std::ptrdiff_t>(reading.end),
                bytes.begin() + static_cast<std::ptrdiff_t>(reading.garbage_end), std::uint8_t{0});
      const Reading again = read_all(bytes, batch.journal.seal, 4096);
      REQUIRE(again.damages.empty());
      REQUIRE(again.frames == reading.frames);
      REQUIRE(again.end == reading.end);
      REQUIRE(again.garbage_end == again.end);
    }
  }
  CHECK(torn > 1000);
}

TEST_CASE("FDU-04: a good frame whose predecessor never arrived is cut off with it") {
  const Batch batch;
  Buffer bytes = batch.journal.bytes;
  std::fill_n(bytes.begin() + static_cast<std::ptrdiff_t>(batch.durable), batch.frames[5].size(), std::uint8_t{0});
  Frame frame;
  CHECK(file::read_frame(bytes.data(), bytes.size(), batch.durable, 5, batch.journal.seal, frame) == Read::nothing);
  const Reading reading = read_all(bytes, batch.journal.seal, 4096);
  CHECK(reading.damages.empty());
  CHECK(reading.frames.size() == 5);
  CHECK(reading.end == batch.durable);
  CHECK(reading.garbage_end == bytes.size());
}

TEST_CASE("FDU-15: a lost sector below the durable end is damage, and what follows is read") {
  const Batch batch;
  std::vector<std::uint64_t> begins;
  std::size_t at = 4096;
  for (const Buffer& frame : batch.frames) {
    begins.push_back(at);
    at += frame.size();
  }
  for (const std::uint8_t with : {std::uint8_t{0}, std::uint8_t{0xff}}) {
    for (std::size_t from = 4096; from < batch.durable; from += 64) {
      Buffer bytes = batch.journal.bytes;
      const std::size_t to = (std::min)(from + sector, batch.durable);
      std::fill(bytes.begin() + static_cast<std::ptrdiff_t>(from), bytes.begin() + static_cast<std::ptrdiff_t>(to),
                with);
      std::vector<Buffer> untouched;
      std::uint64_t lost_at = 0;
      for (std::size_t i = 0; i < begins.size(); ++i) {
        if (begins[i] < to && begins[i] + batch.frames[i].size() > from) {
          if (lost_at == 0) lost_at = begins[i];
        } else {
          untouched.push_back(batch.frames[i]);
        }
      }
      for (const std::uint64_t known : {std::uint64_t{4096}, std::uint64_t{batch.durable}}) {
        const Reading reading = read_all(bytes, batch.journal.seal, known);
        REQUIRE(reading.damages == std::vector<std::uint64_t>{lost_at});
        REQUIRE(reading.frames == untouched);
        REQUIRE(reading.end == batch.journal.end());
      }
    }
  }
}

TEST_CASE("FDU-15: the last frames on disk are missed where only header or page know of them") {
  Batch batch;
  Buffer bytes(batch.journal.bytes.begin(), batch.journal.bytes.begin() + static_cast<std::ptrdiff_t>(batch.durable));
  bytes[bytes.size() - 20] ^= 1;
  bytes.resize(bytes.size() + 100);
  Reading reading = read_all(bytes, batch.journal.seal, batch.durable);
  CHECK(reading.damages.size() == 1);
  CHECK(reading.frames.size() == 4);
  // Nobody knows: it might as well be the torn end of a write.
  reading = read_all(bytes, batch.journal.seal, 4096);
  CHECK(reading.damages.empty());
  CHECK(reading.frames.size() == 4);
}

TEST_CASE("SER-02 FDU-15: after any flipped bit a frame is missing, never changed, and damage below the durable end") {
  const Batch batch;
  Buffer bytes = batch.journal.bytes;
  bytes.resize(bytes.size() + 64);
  std::size_t wrong = 0;
  for (std::size_t bit = 4096 * 8; bit < batch.journal.bytes.size() * 8; ++bit) {
    const auto flip = static_cast<std::uint8_t>(1u << (bit % 8));
    bytes[bit / 8] ^= flip;
    const Reading reading = read_all(bytes, batch.journal.seal, 4096);
    const bool durable = bit / 8 < batch.durable;
    std::vector<Buffer> left = batch.frames;
    std::size_t begin = 4096;
    std::size_t hit = 0;
    while (begin + batch.frames[hit].size() <= bit / 8) begin += batch.frames[hit++].size();
    left.erase(left.begin() + static_cast<std::ptrdiff_t>(hit),
               durable ? left.begin() + static_cast<std::ptrdiff_t>(hit) + 1 : left.end());
    if (reading.frames != left || reading.damages.empty() == durable) ++wrong;
    bytes[bit / 8] ^= flip;
  }
  CHECK(wrong == 0);
}

TEST_CASE("SER-02 FDU-04: a journal cut short anywhere is a beginning of it, and damage below the durable end") {
  const Batch batch;
  std::size_t wrong = 0;
  for (std::size_t size = 4096; size < batch.journal.bytes.size(); ++size) {
    const Buffer bytes(batch.journal.bytes.begin(), batch.journal.bytes.begin() + static_cast<std::ptrdiff_t>(size));
    const Reading reading = read_all(bytes, batch.journal.seal, batch.durable);
    if (!is_prefix(reading.frames, batch.frames) || reading.damages.empty() != (size >= batch.durable)) ++wrong;
  }
  CHECK(wrong == 0);
}

/// The images of a good frame as it would be at each of the offsets from `from` on, one behind the other.
std::string images(const JournalHeader& header, std::size_t from, std::size_t count) {
  std::string text;
  for (std::size_t i = 0; i < count; ++i) {
    idem::detail::Bytes out;
    file::begin_frame(out);
    file::finish_frame(out, 0, file::FrameSeal(header), from + text.size(),
                       journal_support::head(FrameType::seal, 1000 + i, from));
    text.append(reinterpret_cast<const char*>(out.data()), out.size());
  }
  return text;
}

/// A torn frame whose payload holds frames made for their places by somebody who knows the ids in `known`.
Reading torn_with_images(const JournalHeader& known) {
  Journal journal;
  journal.append(journal_support::head(FrameType::record, 1, 4096), journal_support::claim(1));
  const std::size_t torn = journal.end();
  // The payload begins so that its frames lie at multiples of 8.
  idem::detail::StoredRecord stored = journal_support::outcome(1, {});
  const std::size_t before = torn + 56 + idem::detail::encoded_record_size(stored) - 4;
  const std::string shift((8 - before % 8) % 8, 'x');
  const std::string payload = shift + images(known, before + shift.size(), 20);
  journal.append(journal_support::head(FrameType::record, 2, 4096), journal_support::outcome(1, payload));
  journal.bytes[torn] ^= 1;
  journal.bytes.resize(journal.bytes.size() + 512);
  return read_all(journal.bytes, journal.seal, 4096);
}

TEST_CASE("FDU-04: frames within a payload are none, though they were made for their place") {
  // Who knows both ids can make frames: the test sees what it looks for.
  CHECK(torn_with_images(journal_support::first_header()).damages.size() == 1);

  JournalHeader guessed = journal_support::first_header();
  guessed.journal = {};
  CHECK(torn_with_images(guessed).damages.empty());
  CHECK(torn_with_images(guessed).frames.size() == 1);
  guessed = journal_support::first_header();
  guessed.store = {};
  CHECK(torn_with_images(guessed).damages.empty());
  CHECK(torn_with_images(JournalHeader{}).damages.empty());
}

TEST_CASE("FDU-04: a torn result that holds a whole copy of the journal is torn, and no damage") {
  Batch batch;
  const std::size_t torn = batch.journal.end();
  // A backup of a backup of the journal, each copied to a multiple of 8.
  std::string copy(batch.journal.bytes.begin(), batch.journal.bytes.end());
  copy += copy + copy;
  const idem::detail::StoredRecord empty = journal_support::outcome(9, {});
  const std::size_t before = 56 + idem::detail::encoded_record_size(empty) - 4;
  const std::string payload = std::string((8 - before % 8) % 8, 'x') + copy;
  batch.journal.append(journal_support::head(FrameType::record, 100, batch.durable),
                       journal_support::outcome(9, payload));
  batch.journal.bytes[torn + 40] ^= 1;
  const Reading reading = read_all(batch.journal.bytes, batch.journal.seal, 4096);
  CHECK(reading.damages.empty());
  CHECK(reading.frames == batch.frames);
  CHECK(reading.end == torn);
  CHECK(reading.garbage_end == batch.journal.bytes.size());
}

/// Garbage of `size` bytes in which each of `count` places promises a frame that reaches to the end.
Tail judge_hostile(std::size_t size, std::size_t count) {
  Journal journal;
  Buffer& bytes = journal.bytes;
  bytes.resize(4096 + size);
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t at = 4096 + 64 * (i + 1);
    REQUIRE(at + 64 <= bytes.size());
    std::memcpy(bytes.data() + at + 4, "idmF", 4);
    idem::detail::store_le32(bytes.data() + at + 8, idem::detail::record_bytes_impl::narrow(bytes.size() - at - 56));
    bytes[at + 12] = 1;
    bytes[at + 16] = 9;
  }
  bytes.back() = 1;
  return file::judge_tail(bytes.data(), bytes.size(), 4096, 8, 4096, journal.seal);
}

TEST_CASE("SER-10: garbage made to take the square of its length is given up, as damage") {
  // Each checksum takes nearly all of the garbage: four are taken, more aren't.
  CHECK_FALSE(judge_hostile(1 << 20, 4).damaged);
  Tail tail = judge_hostile(1 << 20, 5);
  CHECK(tail.damaged);
  CHECK(tail.resume == 4096 + (1 << 20));
  // Without the limit this would take more than an hour.
  tail = judge_hostile(std::size_t{32} << 20, (std::size_t{32} << 20) / 64 - 2);
  CHECK(tail.damaged);
  CHECK(tail.garbage_end == 4096 + (std::uint64_t{32} << 20));
}

TEST_CASE("FDU-15: frames after the damage that are no news are no place to go on") {
  // A frame with a sequence that was there already isn't from after the last good one.
  Journal journal;
  journal.append(journal_support::head(FrameType::record, 5, 4096), journal_support::claim(1));
  const std::size_t bad = journal.end();
  journal.append(journal_support::head(FrameType::record, 6, 4096), journal_support::claim(2));
  journal.append(journal_support::head(FrameType::record, 5, journal.end()), journal_support::claim(3));
  const std::size_t good = journal.end();
  journal.append(journal_support::head(FrameType::record, 7, journal.end()), journal_support::claim(4));
  journal.bytes[bad + 60] ^= 1;
  const Tail tail = file::judge_tail(journal.bytes.data(), journal.limit(), bad, 5, 4096, journal.seal);
  CHECK(tail.damaged);
  CHECK(tail.resume == good);
}

TEST_CASE("FDU-15: after damage the reading goes on with the first good frame, though only a later one tells") {
  Journal journal;
  journal.append(journal_support::head(FrameType::record, 1, 4096), journal_support::claim(1));
  const std::size_t first = journal.end();
  journal.append(journal_support::head(FrameType::record, 2, 4096), journal_support::claim(2));
  journal.append(journal_support::head(FrameType::record, 3, first), journal_support::claim(3));
  journal.bytes[4096 + 60] ^= 1;
  Tail tail = file::judge_tail(journal.bytes.data(), journal.limit(), 4096, 0, 4096, journal.seal);
  CHECK(tail.damaged);
  CHECK(tail.resume == first);
  // It may begin right behind eight bad bytes.
  Journal close;
  close.bytes.resize(4096 + 8, 1);
  close.append(journal_support::head(FrameType::record, 1, 4104), journal_support::claim(1));
  tail = file::judge_tail(close.bytes.data(), close.limit(), 4096, 0, 4096, close.seal);
  CHECK(tail.damaged);
  CHECK(tail.resume == 4104);
}

TEST_CASE("FDU-04: what a good frame holds isn't searched") {
  Journal journal;
  journal.append(journal_support::head(FrameType::record, 1, 4096), journal_support::claim(1));
  journal.bytes[4096] ^= 1;
  const std::size_t good = journal.end();
  const std::string content = images(journal.header, good + 56, 4);
  journal.append(journal_support::head(FrameType::record, 2, 4096), content.data(), content.size());
  CHECK_FALSE(file::judge_tail(journal.bytes.data(), journal.limit(), 4096, 0, 4096, journal.seal).damaged);
  journal.bytes[good] ^= 1;
  CHECK(file::judge_tail(journal.bytes.data(), journal.limit(), 4096, 0, 4096, journal.seal).damaged);
}

}  // namespace file_scan
