// The numbers of the canonical encoding. docs/encoding.md describes the bytes; tests/test_codec_golden.cpp pins them.
#pragma once

#include <cstddef>
#include <cstdint>

#include <idem/detail/config.hpp>

IDEM_BEGIN_NAMESPACE

/// What an encoding is for. The numbers are fixed; zero is reserved.
enum class Form : std::uint8_t {
  key = 1,    ///< Part of a key: equal values have equal bytes, so -0.0 is 0.0, NaN is refused, 1000 ms are 1 s.
  exact = 2,  ///< A result: decodes to the value that was encoded, bit for bit.
};

namespace detail {

/// The first byte of every encoded value. The numbers are fixed for ever; zero is reserved.
enum class Tag : std::uint8_t {
  unit = 1,
  boolean = 2,
  non_negative = 3,
  negative = 4,
  non_negative_wide = 5,
  negative_wide = 6,
  floating = 7,
  enumeration = 8,
  string = 9,
  sequence = 10,
  record = 11,
  set = 12,
  map = 13,
  absent = 14,
  present = 15,
  variant = 16,
  duration = 17,
  time_point = 18,
  path = 19,
  error_code = 20,
  custom = 21,
  octets = 22,  // exact form only
  ticks = 23,   // exact form only
};

/// How deep values may be nested, when written and when read. It bounds the stack that hostile bytes can use.
inline constexpr unsigned max_depth = 128;

}  // namespace detail
IDEM_END_NAMESPACE
