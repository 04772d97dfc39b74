// In which of a cluster's slots a key is.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/redis/call.hpp>
#include <idem/detail/sha256.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

IDEM_BEGIN_NAMESPACE
namespace detail::redis {

inline constexpr std::size_t cluster_slots = 16384;

namespace crc16_impl {

// The polynomial is 0x1021, the first value zero, nothing is reflected (XMODEM).
constexpr std::array<std::uint16_t, 256> make_table() noexcept {
  std::array<std::uint16_t, 256> table{};
  for (unsigned byte = 0; byte < 256; ++byte) {
    unsigned crc = byte << 8;
    for (int bit = 0; bit < 8; ++bit) crc = (crc & 0x8000) != 0 ? crc << 1 ^ 0x1021 : crc << 1;
    table[byte] = static_cast<std::uint16_t>(crc);
  }
  return table;
}

inline constexpr std::array<std::uint16_t, 256> table = make_table();

}  // namespace crc16_impl

/// Goes on from `crc`, which is 0 at the beginning.
constexpr std::uint16_t crc16(std::string_view bytes, std::uint16_t crc = 0) noexcept {
  for (const char byte : bytes) {
    const unsigned at = (unsigned{crc} >> 8 ^ static_cast<unsigned char>(byte)) & 0xff;
    crc = static_cast<std::uint16_t>((unsigned{crc} << 8 ^ crc16_impl::table[at]) & 0xffff);
  }
  return crc;
}

/// What stands between the first { and the next }, where that is something; else the whole key.
constexpr std::string_view hashed_part(std::string_view key) noexcept {
  const std::size_t open = key.find('{');
  if (open == std::string_view::npos) return key;
  const std::size_t close = key.find('}', open + 1);
  return close == std::string_view::npos || close == open + 1 ? key : key.substr(open + 1, close - open - 1);
}

constexpr std::uint16_t slot_of_key(std::string_view key) noexcept {
  return static_cast<std::uint16_t>(crc16(hashed_part(key)) % cluster_slots);
}

/// The slots of the keys of one prefix. Thread safety: every member from any thread.
class KeySlots {
 public:
  explicit KeySlots(std::string_view prefix) noexcept {
    // The digits of a digest are no braces, so that only the prefix can name a part of it.
    const std::string_view part = hashed_part(prefix);
    all_in_one_ = part.size() != prefix.size();
    crc_ = crc16(part);
  }

  std::uint16_t of(const Digest& key) const noexcept {
    if (all_in_one_) return static_cast<std::uint16_t>(crc_ % cluster_slots);
    char digits[digest_digits];
    write_digest(key, digits);
    return static_cast<std::uint16_t>(crc16({digits, sizeof digits}, crc_) % cluster_slots);
  }

 private:
  bool all_in_one_;
  std::uint16_t crc_;
};

}  // namespace detail::redis
IDEM_END_NAMESPACE
