// Numbers as the encoding sees them.
#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

#include <idem/codec/kinds.hpp>
#include <idem/detail/config.hpp>

IDEM_BEGIN_NAMESPACE
namespace detail {

// The value of a character doesn't depend on whether its type is signed on the platform at hand.
template <class T>
constexpr auto number_of(T value) noexcept {
  if constexpr (std::is_same_v<T, char> || is_other_char<T>) {
    return static_cast<std::make_unsigned_t<T>>(value);
  } else {
    return value;
  }
}

// A NaN keeps its payload and its quiet bit, which a conversion by the processor may change.
inline std::uint64_t double_bits(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffu) <= 0x7f800000u) return std::bit_cast<std::uint64_t>(static_cast<double>(value));
  return (static_cast<std::uint64_t>(bits & 0x80000000u) << 32) | 0x7ff0000000000000u |
         (static_cast<std::uint64_t>(bits & 0x007fffffu) << 29);
}
inline std::uint64_t double_bits(double value) noexcept { return std::bit_cast<std::uint64_t>(value); }

}  // namespace detail
IDEM_END_NAMESPACE
