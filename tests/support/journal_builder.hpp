// Makes journals in memory, frame by frame.
#pragma once

#include <idem/detail/file/frame.hpp>
#include <idem/detail/record_bytes.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace journal_support {

namespace file = idem::detail::file;
using Buffer = std::vector<std::uint8_t>;

inline file::Id128 id(std::uint8_t first) {
  file::Id128 made;
  for (std::uint8_t& byte : made.bytes) byte = first++;
  return made;
}

inline idem::Digest digest(std::uint8_t first) {
  idem::Digest made;
  for (std::uint8_t& byte : made.bytes) byte = first++;
  return made;
}

inline file::JournalHeader first_header() {
  file::JournalHeader made;
  made.store = id(0x10);
  made.journal = id(0x30);
  made.generation = 1;
  made.snapshot_end = file::journal_header_size;
  made.base_sequence = 0;
  made.created_at = 1'700'000'000'000'000;
  return made;
}

inline file::Frame head(file::FrameType type, std::uint64_t sequence, std::uint64_t durable_end) {
  file::Frame made;
  made.type = type;
  made.sequence = sequence;
  made.durable_end = durable_end;
  made.time = 1'700'000'000'123'456 + static_cast<std::int64_t>(sequence);
  return made;
}

/// A record in progress.
inline idem::detail::StoredRecord claim(std::uint8_t key) {
  idem::detail::StoredRecord stored;
  stored.record.attempt = 1;
  stored.record.owner = {{0x0123456789abcdef, 0xfedcba9876543210}, 1};
  stored.record.started_at = idem::TimePoint{std::chrono::microseconds{1'700'000'000'123'456}};
  stored.record.lease_until = (idem::TimePoint::max)();
  stored.record.expires_at = (idem::TimePoint::max)();
  stored.key = digest(key);
  stored.name = "billing.charge";
  stored.version = 1;
  return stored;
}

/// Its outcome. `payload` has to outlive what is returned.
inline idem::detail::StoredRecord outcome(std::uint8_t key, std::string_view payload) {
  idem::detail::StoredRecord stored = claim(key);
  stored.record.state = idem::State::completed;
  stored.record.finished_at = stored.record.started_at + std::chrono::microseconds{5};
  stored.record.expires_at = stored.record.finished_at + std::chrono::hours{24};
  stored.kind = idem::PayloadKind::value;
  stored.payload = reinterpret_cast<const std::uint8_t*>(payload.data());
  stored.payload_size = payload.size();
  return stored;
}

struct Journal {
  explicit Journal(const file::JournalHeader& with = first_header()) : header(with), seal(with), bytes(4096) {
    file::encode_header(bytes.data(), with);
  }

  std::size_t end() const { return bytes.size(); }
  std::size_t limit() const { return bytes.size(); }

  void append(const file::Frame& with, const void* content, std::size_t size) {
    idem::detail::Bytes out;
    file::begin_frame(out);
    out.append(content, size);
    file::finish_frame(out, 0, seal, end(), with);
    bytes.insert(bytes.end(), out.data(), out.data() + out.size());
  }

  void append(const file::Frame& with, const idem::detail::StoredRecord& stored) {
    idem::detail::Bytes content;
    if (!idem::detail::encode_record(content, stored)) bytes.clear();
    append(with, content.data(), content.size());
  }

  void append(const file::Frame& with, const idem::Digest& key) { append(with, key.bytes, sizeof key.bytes); }

  file::JournalHeader header;
  file::FrameSeal seal;
  Buffer bytes;
};

}  // namespace journal_support
