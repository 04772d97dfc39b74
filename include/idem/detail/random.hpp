// Random bytes of the operating system, and the tokens made of them by which a record knows its owner.
#pragma once

#include <idem/detail/cancellation.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/process.hpp>
#include <idem/detail/wipe.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>

#if !defined(_WIN32)
#include <cerrno>

#include <unistd.h>  // getentropy where <sys/random.h> lacks it
#if defined(__has_include)
#if __has_include(<sys/random.h>)
#include <sys/random.h>  // getrandom, getentropy
#endif
#endif
#else
// RtlGenRandom of <ntsecapi.h>, which needs <windows.h>.
extern "C" unsigned char __stdcall SystemFunction036(void* buffer, unsigned long size);
#if defined(_MSC_VER)
#pragma comment(lib, "advapi32")
#endif
#endif

IDEM_BEGIN_NAMESPACE
namespace detail {

/// Fills `size` bytes at `to` from the system's generator: getrandom(2), which waits early at boot until there is
/// entropy, or getentropy(3). False where that fails: the bytes are then not to be used, and there is deliberately no
/// weaker source to fall back on. Keeps errno. Safe from any thread.
inline bool random_bytes(void* to, std::size_t size) noexcept {
  auto* bytes = static_cast<unsigned char*>(to);
  const NoCancellation shield;  // getrandom is a cancellation point, and this is called where nothing may be thrown
#if defined(_WIN32)
  for (std::size_t done = 0; done < size;) {
    const std::size_t left = size - done;
    const unsigned long piece = left < 65536 ? static_cast<unsigned long>(left) : 65536ul;
    if (SystemFunction036(bytes + done, piece) == 0) return false;
    done += piece;
  }
  return true;
#else
  const int errno_before = errno;
  bool good = true;
  for (std::size_t done = 0; good && done < size;) {
    const std::size_t left = size - done;
#if defined(__linux__)
    const ssize_t got = ::getrandom(bytes + done, left, 0);
    if (got > 0) {
      done += static_cast<std::size_t>(got);
    } else if (got == 0 || errno != EINTR) {
      good = false;
    }
#else
    const std::size_t piece = left < 256 ? left : 256;  // the most that getentropy gives at once
    good = ::getentropy(bytes + done, piece) == 0;
    done += piece;
#endif
  }
  errno = errno_before;
  return good;
#endif
}

}  // namespace detail

/// 128 random bits that name one acquisition of one key. All zero is no token.
struct OwnerToken {
  std::uint64_t hi = 0;
  std::uint64_t lo = 0;

  friend constexpr bool operator==(const OwnerToken& a, const OwnerToken& b) noexcept {
    return a.hi == b.hi && a.lo == b.lo;
  }
  explicit constexpr operator bool() const noexcept { return (hi | lo) != 0; }
};

namespace detail {

// One per thread, so that a token costs a system call only now and then. Trivially destructible: threads that end, and
// destructors that run after this, may still ask for tokens.
struct TokenBuffer {
  std::uint64_t generation = 0;  // of the process that filled it
  std::size_t left = 0;          // bytes at the front of `bytes` that nobody has had yet
  unsigned char bytes[63 * sizeof(OwnerToken)] = {};
};

inline TokenBuffer& token_buffer() noexcept {
  static constinit thread_local TokenBuffer buffer;
  return buffer;
}

IDEM_COLD inline bool fill(TokenBuffer& buffer, std::uint64_t generation) noexcept {
  buffer.left = 0;
  if (!random_bytes(buffer.bytes, sizeof buffer.bytes)) return false;
  buffer.generation = generation;
  buffer.left = sizeof buffer.bytes;
  return true;
}

/// A new token, different from all others of all processes and machines; all zero where the system has no random bytes,
/// and then nothing may be claimed. The bits come from a buffer of this thread, of which a child process uses nothing
/// and in which no token stays that a record has. Copies of a whole running machine (a virtual machine resumed twice
/// from one image) share what is in the buffer. Safe from any thread; not async-signal-safe.
inline OwnerToken new_owner_token() noexcept {
  TokenBuffer& buffer = token_buffer();
  for (;;) {
    const std::uint64_t generation = process_generation();
    if (buffer.generation != generation || buffer.left < sizeof(OwnerToken)) [[unlikely]] {
      if (!fill(buffer, generation)) return {};
    }
    buffer.left -= sizeof(OwnerToken);
    OwnerToken token;
    std::memcpy(&token, buffer.bytes + buffer.left, sizeof token);
    wipe(buffer.bytes + buffer.left, sizeof token);
    // A signal handler that forked since makes this run in both processes; the child then takes bytes of its own.
    if (process_generation() == generation) [[likely]]
      return token;
  }
}

/// Gives back a token that no record has, so that one is used up by each acquisition and not by each duplicate.
/// `generation`: the process's when the token was made. Safe from any thread, also from another one.
inline void return_owner_token(const OwnerToken& token, std::uint64_t generation) noexcept {
  TokenBuffer& buffer = token_buffer();
  // A child of the process that made it is not the only one who knows it.
  if (buffer.generation != generation || process_generation() != generation) return;
  if (sizeof buffer.bytes - buffer.left < sizeof token) return;
  std::memcpy(buffer.bytes + buffer.left, &token, sizeof token);
  buffer.left += sizeof token;
}

/// A token that no other acquisition of this process has: 64 random bits of this thread and a count. For stores whose
/// records don't leave the process, where that is all that a token is for: it costs a tenth of 128 random bits. All
/// zero as above. Safe from any thread.
inline OwnerToken new_local_token() noexcept {
  struct Series {
    std::uint64_t generation = 0;
    OwnerToken last;
  };
  static constinit thread_local Series series;
  const std::uint64_t generation = process_generation();
  if (series.generation != generation) [[unlikely]] {
    const OwnerToken fresh = new_owner_token();
    if (!fresh) return {};
    series.last = {fresh.hi | 1, 0};
    series.generation = generation;
  }
  ++series.last.lo;
  return series.last;
}

}  // namespace detail
IDEM_END_NAMESPACE
