// A record as the value of one key of a Redis server. docs/redis-format.md says what each byte is for.
#pragma once

#include <idem/detail/bytes.hpp>
#include <idem/detail/chrono.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/crc32c.hpp>
#include <idem/detail/endian.hpp>
#include <idem/detail/record_bytes.hpp>
#include <idem/detail/sha256.hpp>
#include <idem/payload.hpp>
#include <idem/protocol.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

IDEM_BEGIN_NAMESPACE
namespace detail::redis {

// Where each field begins. The scripts know these places by number.
namespace value_at {
inline constexpr std::size_t format = 3;
inline constexpr std::size_t state = 4;
inline constexpr std::size_t flags = 5;
inline constexpr std::size_t kind = 6;
inline constexpr std::size_t waits = 7;
inline constexpr std::size_t attempt = 8;
inline constexpr std::size_t token = 12;
inline constexpr std::size_t epoch = 28;
inline constexpr std::size_t started = 36;
inline constexpr std::size_t finished = 44;
inline constexpr std::size_t lease = 52;
inline constexpr std::size_t expires = 60;
inline constexpr std::size_t fingerprint = 68;
inline constexpr std::size_t version = 100;
inline constexpr std::size_t name_size = 104;
inline constexpr std::size_t payload_size = 108;
inline constexpr std::size_t checksum = 112;
}  // namespace value_at
inline constexpr std::size_t value_head = 116;
inline constexpr std::size_t first_part = 28;  ///< Up to the token: what a claim brings along.

inline constexpr std::uint8_t value_format = 1;
using record_bytes_impl::flag_abandoned;
using record_bytes_impl::flag_fingerprint;

inline void store_token(std::uint8_t* to, const OwnerToken& token) noexcept {
  store_le64(to, token.hi);
  store_le64(to + 8, token.lo);
}

/// Token and epoch as the scripts compare them.
struct OwnerBytes {
  std::uint8_t bytes[24];

  explicit OwnerBytes(const Ownership& owner) noexcept {
    store_token(bytes, owner.token);
    store_le64(bytes + 16, owner.epoch);
  }
  std::string_view all() const noexcept { return {reinterpret_cast<const char*>(bytes), sizeof bytes}; }
  std::string_view token() const noexcept { return {reinterpret_cast<const char*>(bytes), 16}; }
};

/// Of what a finished record says, for which key, and who said it: so that no outcome is replayed that wasn't committed
/// for the key. CRC-32C; it finds accidents, it keeps nobody out.
inline std::uint32_t outcome_checksum(const Digest& key, const OwnerToken& owner, State state, PayloadKind kind,
                                      const std::uint8_t* payload, std::size_t size) noexcept {
  std::uint8_t about[18];
  store_token(about, owner);
  about[16] = static_cast<std::uint8_t>(state);
  about[17] = static_cast<std::uint8_t>(kind);
  const std::uint32_t begun = crc32c(crc32c(0, key.bytes, sizeof key.bytes), about, sizeof about);
  return size == 0 ? begun : crc32c(begun, payload, size);
}

/// Reads the head of a record. False where it can't be one, with a sentence in `why` that stays valid. Trusts no byte.
inline bool decode_head(const std::uint8_t* data, std::size_t size, StoredRecord& out, const char*& why) noexcept {
  const auto refuse = [&why](const char* reason) {
    why = reason;
    return false;
  };
  if (size < 4 || std::memcmp(data, "IDR", 3) != 0) return refuse("the value isn't a record of idem");
  if (data[value_at::format] != value_format) return refuse("the record was written by a newer version of idem");
  if (size < value_head) return refuse("the record is cut short");
  const std::uint8_t state = data[value_at::state];
  const std::uint8_t flags = data[value_at::flags];
  const std::uint8_t kind = data[value_at::kind];
  if (const char* const wrong = wrong_form(state, flags, kind); wrong != nullptr) return refuse(wrong);
  const bool finished = state != static_cast<std::uint8_t>(State::in_progress);

  out = StoredRecord{};
  Record& record = out.record;
  const auto time = [data](std::size_t at) {
    return TimePoint{std::chrono::microseconds{static_cast<std::int64_t>(load_le64(data + at))}};
  };
  record.state = static_cast<State>(state);
  record.abandoned = (flags & flag_abandoned) != 0;
  record.has_fingerprint = (flags & flag_fingerprint) != 0;
  record.attempt = load_le32(data + value_at::attempt);
  record.owner.token = {load_le64(data + value_at::token), load_le64(data + value_at::token + 8)};
  record.owner.epoch = load_le64(data + value_at::epoch);
  if (record.owner.epoch == 0 || !record.owner.token || record.attempt == 0) return refuse("the record has no owner");
  record.started_at = time(value_at::started);
  record.finished_at = time(value_at::finished);
  record.lease_until = time(value_at::lease);
  record.expires_at = time(value_at::expires);
  if (record.has_fingerprint) std::memcpy(record.fingerprint.bytes, data + value_at::fingerprint, sizeof(Digest));
  out.version = load_le32(data + value_at::version);
  if (finished) out.kind = static_cast<PayloadKind>(kind);
  return true;
}

/// Reads a record that is the whole of `data` and belongs to `key`; `out` then refers to `data`. False as above.
inline bool decode_value(const std::uint8_t* data, std::size_t size, const Digest& key, StoredRecord& out,
                         const char*& why) noexcept {
  if (!decode_head(data, size, out, why)) return false;
  const std::uint64_t name_size = load_le32(data + value_at::name_size);
  const std::uint64_t payload_size = load_le32(data + value_at::payload_size);
  if (value_head + name_size + payload_size != size) {
    why = "the record's lengths don't add up";
    return false;
  }
  const bool has_content = out.kind == PayloadKind::value || out.kind == PayloadKind::failure;
  if (payload_size != 0 && (out.record.state == State::in_progress || !has_content)) {
    why = "the record has a payload where none belongs";
    return false;
  }
  out.key = key;
  out.name = {reinterpret_cast<const char*>(data) + value_head, static_cast<std::size_t>(name_size)};
  out.payload = data + value_head + name_size;
  out.payload_size = static_cast<std::size_t>(payload_size);
  if (out.record.state != State::in_progress &&
      load_le32(data + value_at::checksum) != outcome_checksum(key, out.record.owner.token, out.record.state, out.kind,
                                                               out.payload, out.payload_size)) {
    why = "the record's checksum is wrong, or it belongs to another key";
    return false;
  }
  return true;
}

}  // namespace detail::redis
IDEM_END_NAMESPACE
