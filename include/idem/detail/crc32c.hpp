// CRC-32C, the checksum of stored frames: polynomial 0x1EDC6F41 of Castagnoli, in the reflected form and with the
// conventions of RFC 3720 (iSCSI), section 12.1 and appendix B.4. Uses the instructions of x86 (SSE4.2) and AArch64
// where the machine has them.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/cpu.hpp>
#include <idem/detail/endian.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>

IDEM_BEGIN_NAMESPACE
namespace detail {
namespace crc32c_impl {

struct Tables {
  // by[k][b] is what byte b contributes when k more bytes follow it in the same step.
  std::uint32_t by[8][256] = {};

  constexpr Tables() noexcept {
    for (std::uint32_t b = 0; b < 256; ++b) {
      std::uint32_t crc = b;
      for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1u) != 0 ? 0x82f63b78u : 0u);
      by[0][b] = crc;
    }
    for (std::size_t k = 1; k < 8; ++k) {
      for (std::size_t b = 0; b < 256; ++b) by[k][b] = (by[k - 1][b] >> 8) ^ by[0][by[k - 1][b] & 0xffu];
    }
  }
};

inline constexpr Tables tables;

/// Takes `size` bytes into the register `crc`, eight at a time by tables. The register is the complement of the CRC.
inline std::uint32_t portable(std::uint32_t crc, const std::uint8_t* bytes, std::size_t size) noexcept {
  for (; size >= 8; size -= 8, bytes += 8) {
    const std::uint32_t low = load_le32(bytes) ^ crc;
    const std::uint32_t high = load_le32(bytes + 4);
    crc = tables.by[7][low & 0xffu] ^ tables.by[6][(low >> 8) & 0xffu] ^ tables.by[5][(low >> 16) & 0xffu] ^
          tables.by[4][low >> 24] ^ tables.by[3][high & 0xffu] ^ tables.by[2][(high >> 8) & 0xffu] ^
          tables.by[1][(high >> 16) & 0xffu] ^ tables.by[0][high >> 24];
  }
  for (; size != 0; --size, ++bytes) crc = (crc >> 8) ^ tables.by[0][(crc ^ *bytes) & 0xffu];
  return crc;
}

/// Whether this machine has an instruction for CRC-32C that accelerated() knows.
inline bool accelerated_available() noexcept { return (cpu_features() & cpu_crc32c) != 0; }

#if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))

/// What portable() does, by the instruction CRC32. REQUIRES: accelerated_available().
__attribute__((target("sse4.2"))) inline std::uint32_t accelerated(std::uint32_t crc, const std::uint8_t* bytes,
                                                                   std::size_t size) noexcept {
#if defined(__x86_64__)
  // The instruction keeps the upper half zero, so that the register can stay 64 bits wide in the loop.
  std::uint64_t wide = crc;
  for (; size >= 8; size -= 8, bytes += 8) wide = __builtin_ia32_crc32di(wide, load_le64(bytes));
  crc = static_cast<std::uint32_t>(wide);
#endif
  for (; size >= 4; size -= 4, bytes += 4) crc = __builtin_ia32_crc32si(crc, load_le32(bytes));
  for (; size != 0; --size, ++bytes) crc = __builtin_ia32_crc32qi(crc, *bytes);
  return crc;
}

#elif defined(__GNUC__) && defined(__AARCH64EL__) && defined(__linux__)

/// What portable() does, by the instructions CRC32CX and CRC32CB. REQUIRES: accelerated_available().
inline std::uint32_t accelerated(std::uint32_t crc, const std::uint8_t* bytes, std::size_t size) noexcept {
  for (; size >= 8; size -= 8, bytes += 8) {
    __asm__(".arch_extension crc\n\tcrc32cx %w0, %w0, %x1" : "+r"(crc) : "r"(load_le64(bytes)));
  }
  for (; size != 0; --size, ++bytes) {
    __asm__(".arch_extension crc\n\tcrc32cb %w0, %w0, %w1" : "+r"(crc) : "r"(std::uint32_t{*bytes}));
  }
  return crc;
}

#else

inline std::uint32_t accelerated(std::uint32_t crc, const std::uint8_t* bytes, std::size_t size) noexcept {
  return portable(crc, bytes, size);
}

#endif

}  // namespace crc32c_impl

/// The CRC-32C of a message. `crc` is 0 for its first piece and the result so far for each further one: crc32c(0,
/// "123456789", 9) is 0xE3069283, and so is crc32c(crc32c(0, "1234", 4), "56789", 5). `data` may be null where `size`
/// is zero. Safe from any thread.
inline std::uint32_t crc32c(std::uint32_t crc, const void* data, std::size_t size) noexcept {
  const auto* bytes = static_cast<const std::uint8_t*>(data);
  return ~(crc32c_impl::accelerated_available() ? crc32c_impl::accelerated(~crc, bytes, size)
                                                : crc32c_impl::portable(~crc, bytes, size));
}

}  // namespace detail
IDEM_END_NAMESPACE
