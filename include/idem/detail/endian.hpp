// Integers from and to bytes in a stated order, the same on every machine. Compilers turn each function into one load
// or store (and a byte swap where the machine's order differs).
#pragma once

#include <idem/detail/config.hpp>

#include <bit>
#include <cstdint>
#include <cstring>

IDEM_BEGIN_NAMESPACE
namespace detail {

constexpr std::uint32_t swap_bytes(std::uint32_t value) noexcept {
  return (value << 24) | ((value & 0xff00u) << 8) | ((value >> 8) & 0xff00u) | (value >> 24);
}

constexpr std::uint64_t swap_bytes(std::uint64_t value) noexcept {
  return (std::uint64_t{swap_bytes(static_cast<std::uint32_t>(value & 0xffffffffu))} << 32) |
         swap_bytes(static_cast<std::uint32_t>(value >> 32));
}

/// Reads an unsigned integer stored at `from`, which needs no alignment, with its least significant byte first.
inline std::uint32_t load_le32(const void* from) noexcept {
  std::uint32_t value;
  std::memcpy(&value, from, sizeof value);
  if constexpr (std::endian::native == std::endian::big) value = swap_bytes(value);
  return value;
}

inline std::uint64_t load_le64(const void* from) noexcept {
  std::uint64_t value;
  std::memcpy(&value, from, sizeof value);
  if constexpr (std::endian::native == std::endian::big) value = swap_bytes(value);
  return value;
}

/// The same with the most significant byte first.
inline std::uint32_t load_be32(const void* from) noexcept {
  std::uint32_t value;
  std::memcpy(&value, from, sizeof value);
  if constexpr (std::endian::native == std::endian::little) value = swap_bytes(value);
  return value;
}

inline std::uint64_t load_be64(const void* from) noexcept {
  std::uint64_t value;
  std::memcpy(&value, from, sizeof value);
  if constexpr (std::endian::native == std::endian::little) value = swap_bytes(value);
  return value;
}

/// Writes `value` at `to`, which needs no alignment, with its least significant byte first.
inline void store_le32(void* to, std::uint32_t value) noexcept {
  if constexpr (std::endian::native == std::endian::big) value = swap_bytes(value);
  std::memcpy(to, &value, sizeof value);
}

inline void store_le64(void* to, std::uint64_t value) noexcept {
  if constexpr (std::endian::native == std::endian::big) value = swap_bytes(value);
  std::memcpy(to, &value, sizeof value);
}

/// The same with the most significant byte first.
inline void store_be32(void* to, std::uint32_t value) noexcept {
  if constexpr (std::endian::native == std::endian::little) value = swap_bytes(value);
  std::memcpy(to, &value, sizeof value);
}

inline void store_be64(void* to, std::uint64_t value) noexcept {
  if constexpr (std::endian::native == std::endian::little) value = swap_bytes(value);
  std::memcpy(to, &value, sizeof value);
}

}  // namespace detail
IDEM_END_NAMESPACE
