// Journals whose bytes may never change: what one version wrote, every later one has to read.
//
// A journal is kept as text: a line for every 32 bytes that aren't all zero, their offset in hexadecimal before them,
// and "size" with the number of all bytes in the last line.
#pragma once

#include "../support/journal_builder.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

namespace golden_journal {

using journal_support::Buffer;
namespace file = journal_support::file;

struct Case {
  std::string name;
  Buffer bytes;
};

/// A claim by an owner with a file, its outcome, one more claim, an abandoned one without an owner file, an erasure.
inline journal_support::Journal created() {
  using namespace journal_support;
  Journal journal;
  file::Frame with = head(file::FrameType::record, 1, 4096);
  with.owner = id(0x50);
  journal.append(with, claim(0));
  const std::size_t claimed = journal.end();
  with = head(file::FrameType::record, 2, claimed);
  journal.append(with, outcome(0, "\x01\x02\x03"));
  with = head(file::FrameType::record, 3, claimed);
  with.owner = id(0x50);
  journal.append(with, claim(0x80));
  idem::detail::StoredRecord abandoned = claim(0x81);
  abandoned.record.abandoned = true;
  abandoned.name = "";
  journal.append(head(file::FrameType::record, 4, journal.end()), abandoned);
  with = head(file::FrameType::erase, 0x123456789abcdef0, journal.end());
  with.time = -1;
  journal.append(with, digest(0x80));
  journal.bytes.resize(8192);
  return journal;
}

/// What a compaction made of it: the first key's outcome and the abandoned record, the end of the copy, one more claim.
inline journal_support::Journal compacted() {
  using namespace journal_support;
  const Journal before = created();
  file::JournalHeader next = first_header();
  next.journal = id(0x70);
  next.generation = 2;
  next.base_sequence = 0x123456789abcdef0;
  next.created_at += 1'000'000;

  std::vector<Buffer> kept;
  std::size_t size = file::journal_header_size;
  file::Frame frame;
  std::uint64_t last = 0;
  for (std::size_t at = 4096;
       file::read_frame(before.bytes.data(), before.limit(), at, last, before.seal, frame) == file::Read::frame;
       at += frame.size, last = frame.sequence) {
    if (frame.sequence != 2 && frame.sequence != 4) continue;
    kept.emplace_back(before.bytes.data() + at, before.bytes.data() + at + frame.size);
    size += frame.size;
  }
  next.snapshot_end = size + file::frame_size(0);

  Journal journal(next);
  for (Buffer& copy : kept) {
    file::move_frame(copy.data(), journal.seal, journal.end(), 4096);
    journal.bytes.insert(journal.bytes.end(), copy.begin(), copy.end());
  }
  journal.append(head(file::FrameType::seal, next.base_sequence + 1, 4096), nullptr, 0);
  file::Frame with = head(file::FrameType::record, next.base_sequence + 2, next.snapshot_end);
  with.owner = id(0x51);
  journal.append(with, claim(0x90));
  return journal;
}

inline std::vector<Case> all_cases() {
  return {{"journal_created", created().bytes}, {"journal_compacted", compacted().bytes}};
}

inline std::string file_of(const std::string& name) {
  const std::string here = __FILE__;
  const std::size_t slash = here.find_last_of("/\\");
  return (slash == std::string::npos ? std::string() : here.substr(0, slash + 1)) + name + ".txt";
}

inline std::string as_text(const Buffer& bytes) {
  static constexpr char digits[] = "0123456789abcdef";
  std::string text;
  for (std::size_t at = 0; at < bytes.size(); at += 32) {
    const std::size_t end = (std::min)(at + 32, bytes.size());
    bool zero = true;
    std::string line;
    for (std::size_t shift = 32; shift != 0;) {
      shift -= 4;
      line += digits[(at >> shift) & 15];
    }
    line += ' ';
    for (std::size_t i = at; i < end; ++i) {
      zero = zero && bytes[i] == 0;
      line += digits[bytes[i] >> 4];
      line += digits[bytes[i] & 15];
    }
    if (!zero) text += line + '\n';
  }
  return text + "size " + std::to_string(bytes.size()) + '\n';
}

inline std::string kept_text(const std::string& name) {
  std::ifstream in(file_of(name));
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

}  // namespace golden_journal
