// Erasing of secrets.
#pragma once

#include <idem/detail/config.hpp>

#include <cstddef>
#include <cstring>

IDEM_BEGIN_NAMESPACE
namespace detail {

/// Writes zeros over `size` bytes at `memory`, also where the compiler sees that nobody reads them again. Best effort:
/// copies that the compiler made in registers or elsewhere on the stack are not reached.
inline void wipe(void* memory, std::size_t size) noexcept {
#if defined(__GNUC__) || defined(__clang__)
  if (size != 0) std::memset(memory, 0, size);
  // The memory is an input of this statement, so the zeros have to be in it.
  __asm__ __volatile__("" : : "r"(memory) : "memory");
#else
  volatile unsigned char* bytes = static_cast<volatile unsigned char*>(memory);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = 0;
#endif
}

}  // namespace detail
IDEM_END_NAMESPACE
