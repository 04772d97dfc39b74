// A record as bytes, for stores that keep bytes. docs/record-format.md says what each byte is for.
#pragma once

#include <idem/detail/bytes.hpp>
#include <idem/detail/chrono.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/crc32c.hpp>
#include <idem/detail/endian.hpp>
#include <idem/detail/sha256.hpp>
#include <idem/payload.hpp>
#include <idem/protocol.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

IDEM_BEGIN_NAMESPACE
namespace detail {

/// A record with all that is stored beside it. Decoded, it refers to the bytes that it was decoded from.
struct StoredRecord {
  Record record = {};
  Digest key = {};                                ///< Key::digest(): whose record it is.
  std::string_view name = {};                     ///< Key::name().
  std::uint32_t version = 0;                      ///< Key::version().
  PayloadKind kind = PayloadKind::nothing;        ///< Of finished records.
  const std::uint8_t* payload = nullptr;
  std::size_t payload_size = 0;
};

inline constexpr std::uint8_t record_format = 1;

namespace record_bytes_impl {

// Where each field begins.
inline constexpr std::size_t at_format = 0;
inline constexpr std::size_t at_state = 1;
inline constexpr std::size_t at_flags = 2;
inline constexpr std::size_t at_kind = 3;
inline constexpr std::size_t at_attempt = 4;
inline constexpr std::size_t at_token_hi = 8;
inline constexpr std::size_t at_token_lo = 16;
inline constexpr std::size_t at_epoch = 24;
inline constexpr std::size_t at_started = 32;
inline constexpr std::size_t at_finished = 40;
inline constexpr std::size_t at_lease = 48;
inline constexpr std::size_t at_expires = 56;
inline constexpr std::size_t at_key = 64;
inline constexpr std::size_t at_version = 96;
inline constexpr std::size_t at_name_size = 100;
inline constexpr std::size_t at_payload_size = 104;
inline constexpr std::size_t head_size = 108;
inline constexpr std::size_t crc_size = 4;

inline constexpr std::uint8_t flag_abandoned = 1;
inline constexpr std::uint8_t flag_fingerprint = 2;

inline std::uint64_t micros(TimePoint time) noexcept {
  return static_cast<std::uint64_t>(std::int64_t{time.time_since_epoch().count()});
}

/// REQUIRES: it fits.
inline std::uint32_t narrow(std::uint64_t number) noexcept { return static_cast<std::uint32_t>(number); }

inline TimePoint time_at(const std::uint8_t* from) noexcept {
  return TimePoint{std::chrono::microseconds{static_cast<std::int64_t>(load_le64(from))}};
}

}  // namespace record_bytes_impl

/// How many bytes encode_record() appends.
inline std::size_t encoded_record_size(const StoredRecord& stored) noexcept {
  using namespace record_bytes_impl;
  const bool finished = stored.record.state != State::in_progress;
  return head_size + (stored.record.has_fingerprint ? sizeof(Digest) : 0) + stored.name.size() +
         (finished ? stored.payload_size : 0) + crc_size;
}

/// Appends the record to `out`. False, and nothing is appended, where the name or the payload is 1 GiB or longer. Only
/// an allocation throws; `out` is then as it was.
inline bool encode_record(Bytes& out, const StoredRecord& stored) {
  using namespace record_bytes_impl;
  constexpr std::size_t limit = std::size_t{1} << 30;  // so that no sum overflows where addresses have 32 bits
  const Record& record = stored.record;
  const bool finished = record.state != State::in_progress;
  const std::size_t payload_size = finished ? stored.payload_size : 0;
  if (stored.name.size() >= limit || payload_size >= limit) return false;

  const std::size_t size = encoded_record_size(stored);
  std::uint8_t* const begin = out.extend(size);
  begin[at_format] = record_format;
  begin[at_state] = static_cast<std::uint8_t>(record.state);
  begin[at_flags] = static_cast<std::uint8_t>((record.abandoned ? flag_abandoned : 0) |
                                              (record.has_fingerprint ? flag_fingerprint : 0));
  begin[at_kind] = finished ? static_cast<std::uint8_t>(stored.kind) : std::uint8_t{0};
  store_le32(begin + at_attempt, record.attempt);
  store_le64(begin + at_token_hi, record.owner.token.hi);
  store_le64(begin + at_token_lo, record.owner.token.lo);
  store_le64(begin + at_epoch, record.owner.epoch);
  store_le64(begin + at_started, micros(record.started_at));
  store_le64(begin + at_finished, micros(record.finished_at));
  store_le64(begin + at_lease, micros(record.lease_until));
  store_le64(begin + at_expires, micros(record.expires_at));
  std::memcpy(begin + at_key, stored.key.bytes, sizeof(Digest));
  store_le32(begin + at_version, stored.version);
  store_le32(begin + at_name_size, narrow(stored.name.size()));
  store_le32(begin + at_payload_size, narrow(payload_size));

  std::uint8_t* to = begin + head_size;
  if (record.has_fingerprint) {
    std::memcpy(to, record.fingerprint.bytes, sizeof(Digest));
    to += sizeof(Digest);
  }
  if (!stored.name.empty()) std::memcpy(to, stored.name.data(), stored.name.size());
  to += stored.name.size();
  if (payload_size != 0) std::memcpy(to, stored.payload, payload_size);
  to += payload_size;
  store_le32(to, crc32c(0, begin, static_cast<std::size_t>(to - begin)));
  return true;
}

/// What is wrong with a record's state, flags and payload kind, in any layout that has them; nullptr where nothing is.
inline const char* wrong_form(std::uint8_t state, std::uint8_t flags, std::uint8_t kind) noexcept {
  using namespace record_bytes_impl;
  if (state < static_cast<std::uint8_t>(State::in_progress) || state > static_cast<std::uint8_t>(State::failed))
    return "the record's state is unknown";
  if ((flags & ~(flag_abandoned | flag_fingerprint)) != 0) return "the record has unknown flags";
  const bool finished = state != static_cast<std::uint8_t>(State::in_progress);
  if (finished && (flags & flag_abandoned) != 0) return "the record is finished and abandoned";
  if (finished ? kind < static_cast<std::uint8_t>(PayloadKind::nothing) ||
                     kind > static_cast<std::uint8_t>(PayloadKind::failure)
               : kind != 0)
    return "the kind of the record's payload is unknown";
  return nullptr;
}

/// Reads a record that is the whole of `data`. False where it isn't one, with a sentence in `why` that stays valid;
/// `out` then holds nothing to be used. Trusts no byte and allocates nothing. Whether the record is the one that was
/// looked for, the caller sees by `out.key`.
inline bool decode_record(const std::uint8_t* data, std::size_t size, StoredRecord& out, const char*& why) noexcept {
  using namespace record_bytes_impl;
  const auto refuse = [&why](const char* reason) {
    why = reason;
    return false;
  };
  // A newer version may have its checksum elsewhere, so that its number is looked at first.
  if (size == 0) return refuse("the record is empty");
  if (data[at_format] > record_format) return refuse("the record was written by a newer version of idem");
  if (data[at_format] == 0) return refuse("the record has no format version");
  if (size < head_size + crc_size) return refuse("the record is cut short");
  const std::size_t body_size = size - crc_size;
  if (crc32c(0, data, body_size) != load_le32(data + body_size)) return refuse("the record's checksum is wrong");

  const std::uint8_t state = data[at_state];
  const std::uint8_t flags = data[at_flags];
  const std::uint8_t kind = data[at_kind];
  if (const char* const wrong = wrong_form(state, flags, kind); wrong != nullptr) return refuse(wrong);
  const bool finished = state != static_cast<std::uint8_t>(State::in_progress);

  // The lengths have to add up exactly; in 64 bits they can't overflow.
  const bool has_fingerprint = (flags & flag_fingerprint) != 0;
  const std::uint64_t name_size = load_le32(data + at_name_size);
  const std::uint64_t payload_size = load_le32(data + at_payload_size);
  const std::uint64_t wanted = head_size + (has_fingerprint ? sizeof(Digest) : 0) + name_size + payload_size;
  if (wanted != body_size) return refuse("the record's lengths don't add up");
  const bool has_content = finished && (kind == static_cast<std::uint8_t>(PayloadKind::value) ||
                                        kind == static_cast<std::uint8_t>(PayloadKind::failure));
  if (payload_size != 0 && !has_content) return refuse("the record has a payload where none belongs");

  out = StoredRecord{};
  Record& record = out.record;
  record.state = static_cast<State>(state);
  record.abandoned = (flags & flag_abandoned) != 0;
  record.attempt = load_le32(data + at_attempt);
  record.owner.token = {load_le64(data + at_token_hi), load_le64(data + at_token_lo)};
  record.owner.epoch = load_le64(data + at_epoch);
  if (record.owner.epoch == 0 || !record.owner.token || record.attempt == 0) return refuse("the record has no owner");
  record.started_at = time_at(data + at_started);
  record.finished_at = time_at(data + at_finished);
  record.lease_until = time_at(data + at_lease);
  record.expires_at = time_at(data + at_expires);
  std::memcpy(out.key.bytes, data + at_key, sizeof(Digest));
  out.version = load_le32(data + at_version);

  const std::uint8_t* from = data + head_size;
  record.has_fingerprint = has_fingerprint;
  if (has_fingerprint) {
    std::memcpy(record.fingerprint.bytes, from, sizeof(Digest));
    from += sizeof(Digest);
  }
  out.name = {reinterpret_cast<const char*>(from), static_cast<std::size_t>(name_size)};
  from += name_size;
  if (finished) out.kind = static_cast<PayloadKind>(kind);
  out.payload = from;
  out.payload_size = static_cast<std::size_t>(payload_size);
  return true;
}

/// What Key::text() of the record's key is.
inline std::string text_of(const StoredRecord& stored) {
  static constexpr char digits[] = "0123456789abcdef";
  std::string text(stored.name);
  text += '@';
  text += std::to_string(stored.version);
  text += ':';
  for (const std::uint8_t byte : stored.key.bytes) {
    text += digits[byte >> 4];
    text += digits[byte & 15];
  }
  return text;
}

}  // namespace detail
IDEM_END_NAMESPACE
