// Which instructions for SHA-256 and CRC-32C this machine has, asked once.
#pragma once

#include <idem/detail/config.hpp>

#include <cstdint>

#if defined(__GNUC__) && defined(__AARCH64EL__) && defined(__linux__)
#include <sys/auxv.h>  // getauxval
#endif

IDEM_BEGIN_NAMESPACE
namespace detail {

enum CpuFeature : std::uint32_t {
  cpu_asked = 1,   // set in every answer, so that zero means "not asked yet"
  cpu_sha256 = 2,  // x86: SHA extensions with SSE4.1 and SSSE3; AArch64: SHA2
  cpu_crc32c = 4   // x86: SSE4.2; AArch64: CRC32
};

#if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))

struct CpuidLeaf {
  std::uint32_t a, b, c, d;
};

// <cpuid.h> would put some eighty macros into the user's program.
inline CpuidLeaf cpuid(std::uint32_t leaf) noexcept {
  CpuidLeaf result;
  __asm__ __volatile__("cpuid"
                       : "=a"(result.a), "=b"(result.b), "=c"(result.c), "=d"(result.d)
                       : "a"(leaf), "c"(std::uint32_t{0}));
  return result;
}

// Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2A, CPUID. None of these instructions uses more
// than the SSE registers, which every operating system that runs C++20 programs saves.
IDEM_COLD inline std::uint32_t ask_cpu() noexcept {
  std::uint32_t found = cpu_asked;
  const std::uint32_t highest = cpuid(0).a;
  if (highest < 1) return found;
  const std::uint32_t leaf1_c = cpuid(1).c;
  const bool ssse3 = ((leaf1_c >> 9) & 1u) != 0;
  const bool sse41 = ((leaf1_c >> 19) & 1u) != 0;
  const bool sse42 = ((leaf1_c >> 20) & 1u) != 0;
  if (sse42) found |= cpu_crc32c;
  if (highest >= 7 && ssse3 && sse41 && ((cpuid(7).b >> 29) & 1u) != 0) found |= cpu_sha256;
  return found;
}

#elif defined(__GNUC__) && defined(__AARCH64EL__) && defined(__linux__)

// getauxval(3); the bits are those of the kernel's Documentation/arch/arm64/elf_hwcaps.rst.
IDEM_COLD inline std::uint32_t ask_cpu() noexcept {
  const unsigned long capabilities = ::getauxval(AT_HWCAP);
  std::uint32_t found = cpu_asked;
  if ((capabilities & (1ul << 6)) != 0) found |= cpu_sha256;
  if ((capabilities & (1ul << 7)) != 0) found |= cpu_crc32c;
  return found;
}

#else

constexpr std::uint32_t ask_cpu() noexcept { return cpu_asked; }

#endif

#if defined(__GNUC__)

inline constinit std::uint32_t cpu_answer = 0;

/// The CpuFeature bits of this machine. Safe from any thread and at any time, also before main: threads that meet in
/// the first call get the same answer.
inline std::uint32_t cpu_features() noexcept {
  // The compilers' own atomics: <atomic> would double the compile time of the headers for keys.
  std::uint32_t answer = __atomic_load_n(&cpu_answer, __ATOMIC_RELAXED);
  if (answer == 0) [[unlikely]] {
    answer = ask_cpu();
    __atomic_store_n(&cpu_answer, answer, __ATOMIC_RELAXED);
  }
  return answer;
}

#else

constexpr std::uint32_t cpu_features() noexcept { return ask_cpu(); }

#endif

}  // namespace detail
IDEM_END_NAMESPACE
