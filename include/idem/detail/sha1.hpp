// SHA-1, by which Redis names scripts. Nothing of idem's own relies on it.
#pragma once

#include <idem/detail/config.hpp>

#include <cstddef>
#include <cstdint>
#include <string_view>

IDEM_BEGIN_NAMESPACE
namespace detail {

/// Writes the 40 lower-case hex digits of the text's SHA-1 (FIPS 180-4, section 6.1) to `hex`.
inline void sha1_hex(std::string_view text, char (&hex)[40]) noexcept {
  const auto rotate = [](std::uint32_t word, unsigned by) { return (word << by) | (word >> (32 - by)); };
  std::uint32_t state[5] = {0x67452301u, 0xefcdab89u, 0x98badcfeu, 0x10325476u, 0xc3d2e1f0u};
  const std::uint64_t bits = std::uint64_t{text.size()} * 8;
  // A one bit, zeros, and the length in bits fill the last block or two.
  const std::size_t padded = (text.size() + 8) / 64 * 64 + 64;
  const auto byte_at = [&](std::size_t at) -> std::uint32_t {
    if (at < text.size()) return static_cast<std::uint8_t>(text[at]);
    if (at == text.size()) return 0x80;
    return at >= padded - 8 ? static_cast<std::uint8_t>(bits >> (8 * (padded - 1 - at))) : std::uint32_t{0};
  };
  for (std::size_t block = 0; block < padded; block += 64) {
    std::uint32_t w[80];
    for (std::size_t i = 0; i < 16; ++i) {
      const std::size_t at = block + 4 * i;
      w[i] = byte_at(at) << 24 | byte_at(at + 1) << 16 | byte_at(at + 2) << 8 | byte_at(at + 3);
    }
    for (std::size_t i = 16; i < 80; ++i) w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    std::uint32_t a = state[0];
    std::uint32_t b = state[1];
    std::uint32_t c = state[2];
    std::uint32_t d = state[3];
    std::uint32_t e = state[4];
    for (std::size_t i = 0; i < 80; ++i) {
      std::uint32_t mixed = 0;
      if (i < 20) {
        mixed = ((b & c) | (~b & d)) + 0x5a827999u;
      } else if (i < 40) {
        mixed = (b ^ c ^ d) + 0x6ed9eba1u;
      } else if (i < 60) {
        mixed = ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdcu;
      } else {
        mixed = (b ^ c ^ d) + 0xca62c1d6u;
      }
      const std::uint32_t next = rotate(a, 5) + mixed + e + w[i];
      e = d;
      d = c;
      c = rotate(b, 30);
      b = a;
      a = next;
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
    state[4] += e;
  }
  static constexpr char digits[] = "0123456789abcdef";
  for (std::size_t i = 0; i < 40; ++i) hex[i] = digits[state[i / 8] >> (28 - 4 * (i % 8)) & 15];
}

}  // namespace detail
IDEM_END_NAMESPACE
