// Digests as keys of a hash table.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/sha256.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

IDEM_BEGIN_NAMESPACE
namespace onceonly {
namespace impl {

/// Any of a digest's bits will do.
struct DigestHash {
  std::size_t operator()(const Digest& digest) const noexcept {
    std::size_t hash = 0;
    std::memcpy(&hash, digest.bytes, sizeof hash);
    return hash;
  }
};

inline std::string hex_of(const Digest& digest) {
  static constexpr char digits[] = "0123456789abcdef";
  std::string text;
  for (const std::uint8_t byte : digest.bytes) {
    text += digits[byte >> 4];
    text += digits[byte & 15];
  }
  return text;
}

}  // namespace impl
}  // namespace onceonly
IDEM_END_NAMESPACE
