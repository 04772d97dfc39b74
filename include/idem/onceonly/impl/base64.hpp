// Bytes as text (RFC 4648).
#pragma once

#include <idem/detail/config.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

IDEM_BEGIN_NAMESPACE
namespace onceonly {
namespace impl {

inline std::string base64(const std::uint8_t* data, std::size_t size) {
  static constexpr char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  text.reserve((size + 2) / 3 * 4);
  for (std::size_t i = 0; i < size; i += 3) {
    const std::uint32_t second = i + 1 < size ? data[i + 1] : 0u;
    const std::uint32_t third = i + 2 < size ? data[i + 2] : 0u;
    const std::uint32_t bits = (std::uint32_t{data[i]} << 16) | (second << 8) | third;
    text += digits[bits >> 18];
    text += digits[(bits >> 12) & 63];
    text += i + 1 < size ? digits[(bits >> 6) & 63] : '=';
    text += i + 2 < size ? digits[bits & 63] : '=';
  }
  return text;
}

/// False where the text isn't base64 as `base64` writes it.
inline bool unbase64(std::string_view text, std::vector<std::uint8_t>& out) {
  out.clear();
  if (text.size() % 4 != 0) return false;
  out.reserve(text.size() / 4 * 3);
  const auto value = [](char c) -> int {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
  };
  for (std::size_t i = 0; i < text.size(); i += 4) {
    const bool last = i + 4 == text.size();
    const int padding = !last || text[i + 3] != '=' ? 0 : text[i + 2] == '=' ? 2 : 1;
    std::uint32_t bits = 0;
    for (std::size_t j = 0; j < 4; ++j) {
      const int six = j >= 4 - static_cast<std::size_t>(padding) ? 0 : value(text[i + j]);
      if (six < 0) return false;
      bits = (bits << 6) | static_cast<std::uint32_t>(six);
    }
    out.push_back(static_cast<std::uint8_t>((bits >> 16) & 255));
    if (padding < 2) out.push_back(static_cast<std::uint8_t>((bits >> 8) & 255));
    if (padding < 1) out.push_back(static_cast<std::uint8_t>(bits & 255));
  }
  return true;
}

}  // namespace impl
}  // namespace onceonly
IDEM_END_NAMESPACE
