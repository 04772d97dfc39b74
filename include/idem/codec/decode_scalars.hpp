// Bytes to numbers and strings. Values outside the range of their type are refused.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include <idem/codec/numbers.hpp>
#include <idem/codec/reader.hpp>
#include <idem/codec/tags.hpp>
#include <idem/detail/config.hpp>

IDEM_BEGIN_NAMESPACE
namespace detail {

template <class T>
inline T integer_out_of_range(Reader& in) noexcept {
  in.fail("an integer outside the range of its type");
  return T{};
}

template <class T>
inline T decode_integer(Reader& in) noexcept {
  const Tag tag = in.take_tag();
  constexpr bool is_signed = static_cast<T>(-1) < static_cast<T>(0);
  if (tag == Tag::non_negative || tag == Tag::negative) {
    const std::uint64_t bits = in.take_u64();
    const bool negative = tag == Tag::negative;
    if constexpr (sizeof(T) > 8) {
      if (negative && !is_signed) return integer_out_of_range<T>(in);
      return negative ? static_cast<T>(~static_cast<T>(bits)) : static_cast<T>(bits);
    } else {
      // All ones of T, without the sign.
      constexpr std::uint64_t max = (~std::uint64_t{0} >> (64 - sizeof(T) * 8)) >> (is_signed ? 1 : 0);
      if (bits > max || (negative && !is_signed)) return integer_out_of_range<T>(in);
      return static_cast<T>(negative ? ~bits : bits);
    }
  }
  if constexpr (sizeof(T) > 8) {
    if (tag == Tag::non_negative_wide || tag == Tag::negative_wide) {
      const std::uint64_t low = in.take_u64();
      const std::uint64_t high = in.take_u64();
      const bool negative = tag == Tag::negative_wide;
      // High bits of zero have a shorter form.
      if (high == 0 || (negative && !is_signed) || (is_signed && (high >> 63) != 0)) return integer_out_of_range<T>(in);
      const T magnitude = static_cast<T>((static_cast<T>(high) << 64) | static_cast<T>(low));
      return negative ? static_cast<T>(~magnitude) : magnitude;
    }
  }
  in.fail("a value of another kind");
  return T{};
}

template <class T>
inline T decode_floating(Reader& in) noexcept {
  if (!in.expect(Tag::floating)) return T{};
  const std::uint64_t bits = in.take_u64();
  if constexpr (sizeof(T) == 8) {
    return std::bit_cast<double>(bits);
  } else {
    const auto sign = static_cast<std::uint32_t>((bits >> 32) & 0x80000000u);
    if ((bits & 0x7fffffffffffffffu) > 0x7ff0000000000000u) {
      const std::uint64_t payload = bits & 0x000fffffffffffffu;
      if ((payload & 0x1fffffffu) != 0) in.fail("a number that no float is");
      // A zero payload would be infinity.
      const auto short_payload = static_cast<std::uint32_t>(payload >> 29);
      return std::bit_cast<float>(sign | 0x7f800000u | (short_payload == 0 ? 0x400000u : short_payload));
    }
    const auto value = std::bit_cast<double>(bits);
    const bool infinite = (bits & 0x7fffffffffffffffu) == 0x7ff0000000000000u;
    constexpr double largest = 3.4028234663852886e38;  // the conversion of what is larger isn't defined
    if (!infinite && (value > largest || value < -largest)) {
      in.fail("a number that no float is");
      return 0;
    }
    const auto narrow = static_cast<float>(value);
    if (double_bits(narrow) != bits) in.fail("a number that no float is");
    return narrow;
  }
}

template <class T>
inline T decode_string(Reader& in, Tag tag) {
  if (!in.expect(tag)) return T{};
  const std::size_t size = in.take_count();
  const std::uint8_t* const data = in.take_raw(size);
  if (data == nullptr) return T{};
  using Character = typename T::value_type;
  T text(size, Character{});
  if (size != 0) std::memcpy(text.data(), data, size);
  return text;
}

}  // namespace detail
IDEM_END_NAMESPACE
