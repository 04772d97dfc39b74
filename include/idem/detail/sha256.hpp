// SHA-256 (FIPS 180-4) and HMAC-SHA-256 (RFC 2104, FIPS 198-1), with the instructions of x86 and AArch64 where the
// machine has them.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/cpu.hpp>
#include <idem/detail/endian.hpp>
#include <idem/detail/wipe.hpp>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

IDEM_BEGIN_NAMESPACE

/// A SHA-256 or HMAC-SHA-256 value. Comparing takes a time that depends on the values: digests of idem are no secrets.
struct Digest {
  std::uint8_t bytes[32] = {};

  friend bool operator==(const Digest& a, const Digest& b) noexcept {
    return std::memcmp(a.bytes, b.bytes, sizeof a.bytes) == 0;
  }
};

namespace detail {
namespace sha256_impl {

inline constexpr std::size_t block_size = 64;

// FIPS 180-4, 5.3.3: the first 32 bits of the fractions of the square roots of the first 8 primes.
inline constexpr std::uint32_t initial[8] = {0x6a09e667u, 0xbb67ae85u, 0x3c6ef372u, 0xa54ff53au,
                                             0x510e527fu, 0x9b05688cu, 0x1f83d9abu, 0x5be0cd19u};

// FIPS 180-4, 4.2.2: the same of the cube roots of the first 64 primes. Aligned for whole vectors.
alignas(16) inline constexpr std::uint32_t constants[64] = {
    0x428a2f98u, 0x71374491u, 0xb5c0fbcfu, 0xe9b5dba5u, 0x3956c25bu, 0x59f111f1u, 0x923f82a4u, 0xab1c5ed5u,
    0xd807aa98u, 0x12835b01u, 0x243185beu, 0x550c7dc3u, 0x72be5d74u, 0x80deb1feu, 0x9bdc06a7u, 0xc19bf174u,
    0xe49b69c1u, 0xefbe4786u, 0x0fc19dc6u, 0x240ca1ccu, 0x2de92c6fu, 0x4a7484aau, 0x5cb0a9dcu, 0x76f988dau,
    0x983e5152u, 0xa831c66du, 0xb00327c8u, 0xbf597fc7u, 0xc6e00bf3u, 0xd5a79147u, 0x06ca6351u, 0x14292967u,
    0x27b70a85u, 0x2e1b2138u, 0x4d2c6dfcu, 0x53380d13u, 0x650a7354u, 0x766a0abbu, 0x81c2c92eu, 0x92722c85u,
    0xa2bfe8a1u, 0xa81a664bu, 0xc24b8b70u, 0xc76c51a3u, 0xd192e819u, 0xd6990624u, 0xf40e3585u, 0x106aa070u,
    0x19a4c116u, 0x1e376c08u, 0x2748774cu, 0x34b0bcb5u, 0x391c0cb3u, 0x4ed8aa4au, 0x5b9cca4fu, 0x682e6ff3u,
    0x748f82eeu, 0x78a5636fu, 0x84c87814u, 0x8cc70208u, 0x90befffau, 0xa4506cebu, 0xbef9a3f7u, 0xc67178f2u
};

IDEM_ALWAYS_INLINE void round(std::uint32_t a, std::uint32_t b, std::uint32_t c, std::uint32_t& d, std::uint32_t e,
                              std::uint32_t f, std::uint32_t g, std::uint32_t& h, std::uint32_t addend) noexcept {
  const std::uint32_t sum1 = std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25);
  const std::uint32_t choice = g ^ (e & (f ^ g));
  const std::uint32_t sum0 = std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22);
  const std::uint32_t majority = (a & b) | (c & (a | b));
  const std::uint32_t t = h + sum1 + choice + addend;
  d += t;
  h = t + sum0 + majority;
}

/// Takes `count` blocks of 64 bytes into the eight words of `state`, in plain C++ (FIPS 180-4, 6.2.2).
inline void portable(std::uint32_t* state, const std::uint8_t* blocks, std::size_t count) noexcept {
  std::uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
  std::uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
  for (; count != 0; --count, blocks += block_size) {
    std::uint32_t w[64];
    for (std::size_t i = 0; i < 16; ++i) w[i] = load_be32(blocks + 4 * i);
    for (std::size_t i = 16; i < 64; ++i) {
      const std::uint32_t sigma0 = std::rotr(w[i - 15], 7) ^ std::rotr(w[i - 15], 18) ^ (w[i - 15] >> 3);
      const std::uint32_t sigma1 = std::rotr(w[i - 2], 17) ^ std::rotr(w[i - 2], 19) ^ (w[i - 2] >> 10);
      w[i] = w[i - 16] + sigma0 + w[i - 7] + sigma1;
    }
    for (std::size_t i = 0; i < 64; i += 8) {
      round(a, b, c, d, e, f, g, h, constants[i] + w[i]);
      round(h, a, b, c, d, e, f, g, constants[i + 1] + w[i + 1]);
      round(g, h, a, b, c, d, e, f, constants[i + 2] + w[i + 2]);
      round(f, g, h, a, b, c, d, e, constants[i + 3] + w[i + 3]);
      round(e, f, g, h, a, b, c, d, constants[i + 4] + w[i + 4]);
      round(d, e, f, g, h, a, b, c, constants[i + 5] + w[i + 5]);
      round(c, d, e, f, g, h, a, b, constants[i + 6] + w[i + 6]);
      round(b, c, d, e, f, g, h, a, constants[i + 7] + w[i + 7]);
    }
    a = state[0] += a;
    b = state[1] += b;
    c = state[2] += c;
    d = state[3] += d;
    e = state[4] += e;
    f = state[5] += f;
    g = state[6] += g;
    h = state[7] += h;
  }
}

/// Whether this machine has instructions for SHA-256 that accelerated() knows.
inline bool accelerated_available() noexcept { return (cpu_features() & cpu_sha256) != 0; }

#if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))

// The compilers' own vectors and builtins: <immintrin.h> would cost more compile time than the rest of a key header.
using Words = std::uint32_t __attribute__((vector_size(16)));
using SignedWords = int __attribute__((vector_size(16)));
using Octets = char __attribute__((vector_size(16)));

/// The elements of `x` (0 to 3) and `y` (4 to 7) with these numbers.
template <int a, int b, int c, int d>
__attribute__((always_inline, target("sha,sse4.1,ssse3"))) inline Words pick(Words x, Words y) noexcept {
#if defined(__clang__)
  return __builtin_shufflevector(x, y, a, b, c, d);
#else
  return __builtin_shuffle(x, y, SignedWords{a, b, c, d});
#endif
}

__attribute__((always_inline, target("sha,sse4.1,ssse3"))) inline Words load_message(
    const std::uint8_t* from) noexcept {
  Octets octets;
  std::memcpy(&octets, from, sizeof octets);
  const Octets big_endian_words = {3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12};
  return reinterpret_cast<Words>(__builtin_ia32_pshufb128(octets, big_endian_words));
}

/// Four rounds. `abef` and `cdgh` hold the working variables in the order that the instruction wants.
__attribute__((always_inline, target("sha,sse4.1,ssse3"))) inline void four_rounds(Words& abef, Words& cdgh, Words w,
                                                                                   std::size_t first) noexcept {
  Words k;
  std::memcpy(&k, constants + first, sizeof k);
  const Words wk = w + k;
  cdgh = reinterpret_cast<Words>(__builtin_ia32_sha256rnds2(reinterpret_cast<SignedWords>(cdgh),
                                                            reinterpret_cast<SignedWords>(abef),
                                                            reinterpret_cast<SignedWords>(wk)));
  abef = reinterpret_cast<Words>(__builtin_ia32_sha256rnds2(reinterpret_cast<SignedWords>(abef),
                                                            reinterpret_cast<SignedWords>(cdgh),
                                                            reinterpret_cast<SignedWords>(pick<2, 3, 2, 3>(wk, wk))));
}

/// The four words of the message schedule that follow w0, w1, w2, w3.
__attribute__((always_inline, target("sha,sse4.1,ssse3"))) inline Words schedule(Words w0, Words w1, Words w2,
                                                                                 Words w3) noexcept {
  const Words with_sigma0 = reinterpret_cast<Words>(
      __builtin_ia32_sha256msg1(reinterpret_cast<SignedWords>(w0), reinterpret_cast<SignedWords>(w1)));
  const Words without_sigma1 = with_sigma0 + pick<1, 2, 3, 4>(w2, w3);
  return reinterpret_cast<Words>(
      __builtin_ia32_sha256msg2(reinterpret_cast<SignedWords>(without_sigma1), reinterpret_cast<SignedWords>(w3)));
}

/// What portable() does, by the SHA extensions (Intel 64 and IA-32 Architectures Software Developer's Manual, volume
/// 2B, SHA256RNDS2, SHA256MSG1, SHA256MSG2). REQUIRES: accelerated_available().
__attribute__((target("sha,sse4.1,ssse3"))) inline void accelerated(std::uint32_t* state, const std::uint8_t* blocks,
                                                                    std::size_t count) noexcept {
  Words abcd, efgh;
  std::memcpy(&abcd, state, sizeof abcd);
  std::memcpy(&efgh, state + 4, sizeof efgh);
  Words abef = pick<5, 4, 1, 0>(abcd, efgh);
  Words cdgh = pick<7, 6, 3, 2>(abcd, efgh);
  for (; count != 0; --count, blocks += block_size) {
    const Words abef_before = abef;
    const Words cdgh_before = cdgh;
    Words w0 = load_message(blocks);
    four_rounds(abef, cdgh, w0, 0);
    Words w1 = load_message(blocks + 16);
    four_rounds(abef, cdgh, w1, 4);
    Words w2 = load_message(blocks + 32);
    four_rounds(abef, cdgh, w2, 8);
    Words w3 = load_message(blocks + 48);
    four_rounds(abef, cdgh, w3, 12);
    for (std::size_t i = 16; i < 64; i += 16) {
      w0 = schedule(w0, w1, w2, w3);
      four_rounds(abef, cdgh, w0, i);
      w1 = schedule(w1, w2, w3, w0);
      four_rounds(abef, cdgh, w1, i + 4);
      w2 = schedule(w2, w3, w0, w1);
      four_rounds(abef, cdgh, w2, i + 8);
      w3 = schedule(w3, w0, w1, w2);
      four_rounds(abef, cdgh, w3, i + 12);
    }
    abef += abef_before;
    cdgh += cdgh_before;
  }
  abcd = pick<3, 2, 7, 6>(abef, cdgh);
  efgh = pick<1, 0, 5, 4>(abef, cdgh);
  std::memcpy(state, &abcd, sizeof abcd);
  std::memcpy(state + 4, &efgh, sizeof efgh);
}

#elif defined(__GNUC__) && defined(__AARCH64EL__) && defined(__linux__)

// Assembler, because g++ and clang have no builtins in common here and <arm_neon.h> is heavy.
using Words = std::uint32_t __attribute__((vector_size(16)));

IDEM_ALWAYS_INLINE Words load_message(const std::uint8_t* from) noexcept {
  Words words;
  std::memcpy(&words, from, sizeof words);
  __asm__("rev32 %0.16b, %0.16b" : "+w"(words));
  return words;
}

/// Four rounds.
IDEM_ALWAYS_INLINE void four_rounds(Words& abcd, Words& efgh, Words w, std::size_t first) noexcept {
  Words k;
  std::memcpy(&k, constants + first, sizeof k);
  const Words wk = w + k;
  const Words abcd_before = abcd;
  __asm__(".arch_extension sha2\n\tsha256h %q0, %q1, %2.4s" : "+w"(abcd) : "w"(efgh), "w"(wk));
  __asm__(".arch_extension sha2\n\tsha256h2 %q0, %q1, %2.4s" : "+w"(efgh) : "w"(abcd_before), "w"(wk));
}

/// The four words of the message schedule that follow w0, w1, w2, w3.
IDEM_ALWAYS_INLINE Words schedule(Words w0, Words w1, Words w2, Words w3) noexcept {
  __asm__(".arch_extension sha2\n\tsha256su0 %0.4s, %1.4s" : "+w"(w0) : "w"(w1));
  __asm__(".arch_extension sha2\n\tsha256su1 %0.4s, %1.4s, %2.4s" : "+w"(w0) : "w"(w2), "w"(w3));
  return w0;
}

/// What portable() does, by the SHA2 instructions (Arm Architecture Reference Manual for A-profile, C7.2, SHA256H,
/// SHA256H2, SHA256SU0, SHA256SU1). REQUIRES: accelerated_available().
inline void accelerated(std::uint32_t* state, const std::uint8_t* blocks, std::size_t count) noexcept {
  Words abcd, efgh;
  std::memcpy(&abcd, state, sizeof abcd);
  std::memcpy(&efgh, state + 4, sizeof efgh);
  for (; count != 0; --count, blocks += block_size) {
    const Words abcd_before = abcd;
    const Words efgh_before = efgh;
    Words w0 = load_message(blocks);
    four_rounds(abcd, efgh, w0, 0);
    Words w1 = load_message(blocks + 16);
    four_rounds(abcd, efgh, w1, 4);
    Words w2 = load_message(blocks + 32);
    four_rounds(abcd, efgh, w2, 8);
    Words w3 = load_message(blocks + 48);
    four_rounds(abcd, efgh, w3, 12);
    for (std::size_t i = 16; i < 64; i += 16) {
      w0 = schedule(w0, w1, w2, w3);
      four_rounds(abcd, efgh, w0, i);
      w1 = schedule(w1, w2, w3, w0);
      four_rounds(abcd, efgh, w1, i + 4);
      w2 = schedule(w2, w3, w0, w1);
      four_rounds(abcd, efgh, w2, i + 8);
      w3 = schedule(w3, w0, w1, w2);
      four_rounds(abcd, efgh, w3, i + 12);
    }
    abcd += abcd_before;
    efgh += efgh_before;
  }
  std::memcpy(state, &abcd, sizeof abcd);
  std::memcpy(state + 4, &efgh, sizeof efgh);
}

#else

inline void accelerated(std::uint32_t* state, const std::uint8_t* blocks, std::size_t count) noexcept {
  portable(state, blocks, count);
}

#endif

inline void compress(std::uint32_t* state, const std::uint8_t* blocks, std::size_t count) noexcept {
  if (accelerated_available()) {
    accelerated(state, blocks, count);
  } else {
    portable(state, blocks, count);
  }
}

/// Room for the last bytes of a message and their padding. The caller owns it, so that it can be wiped.
struct Tail {
  std::uint8_t bytes[2 * block_size];
};

/// Ends a message of which `state` has taken `taken` bytes, a multiple of 64, and of which `size` bytes at `data` are
/// left.
inline Digest finish(std::uint32_t* state, std::uint64_t taken, const void* data, std::size_t size,
                     Tail& tail) noexcept {
  const auto* bytes = static_cast<const std::uint8_t*>(data);
  const std::uint64_t bits = (taken + size) * 8;
  if (size >= block_size) {
    const std::size_t whole = size / block_size;
    compress(state, bytes, whole);
    bytes += whole * block_size;
    size -= whole * block_size;
  }
  if (size != 0) std::memcpy(tail.bytes, bytes, size);
  tail.bytes[size] = 0x80;
  // The length takes the last 8 bytes of the last block and the bit after the message one byte.
  const std::size_t end = size < block_size - 8 ? block_size : 2 * block_size;
  std::memset(tail.bytes + size + 1, 0, end - 8 - size - 1);
  store_be64(tail.bytes + end - 8, bits);
  compress(state, tail.bytes, end / block_size);
  Digest digest;
  for (std::size_t i = 0; i < 8; ++i) store_be32(digest.bytes + 4 * i, state[i]);
  return digest;
}

}  // namespace sha256_impl

/// SHA-256 of a message that comes in pieces. A copy goes on from where the original was. One object is for one thread
/// at a time. The message may have up to 2^61 - 1 bytes.
class Sha256 {
 public:
  Sha256() noexcept { std::memcpy(state_, sha256_impl::initial, sizeof state_); }

  /// Takes `size` bytes at `data`, which may be null where `size` is zero.
  void update(const void* data, std::size_t size) noexcept {
    if (size == 0) return;
    const auto* bytes = static_cast<const std::uint8_t*>(data);
    const std::size_t held = static_cast<std::uint32_t>(size_ % sha256_impl::block_size);
    size_ += size;
    if (held != 0) {
      const std::size_t missing = sha256_impl::block_size - held;
      if (size < missing) {
        std::memcpy(buffer_ + held, bytes, size);
        return;
      }
      std::memcpy(buffer_ + held, bytes, missing);
      sha256_impl::compress(state_, buffer_, 1);
      bytes += missing;
      size -= missing;
    }
    if (const std::size_t whole = size / sha256_impl::block_size; whole != 0) {
      sha256_impl::compress(state_, bytes, whole);
      bytes += whole * sha256_impl::block_size;
      size -= whole * sha256_impl::block_size;
    }
    if (size != 0) std::memcpy(buffer_, bytes, size);
  }

  /// The digest of everything taken so far. Afterwards the object is as new.
  Digest finish() noexcept {
    sha256_impl::Tail tail;
    const std::size_t held = static_cast<std::uint32_t>(size_ % sha256_impl::block_size);
    const Digest digest = sha256_impl::finish(state_, size_ - held, buffer_, held, tail);
    *this = Sha256();
    return digest;
  }

 private:
  std::uint32_t state_[8];
  std::uint64_t size_ = 0;
  std::uint8_t buffer_[sha256_impl::block_size] = {};
};

/// SHA-256 of `size` bytes at `data`, which may be null where `size` is zero. Copies nothing but the last, partial
/// block.
inline Digest sha256(const void* data, std::size_t size) noexcept {
  std::uint32_t state[8];
  std::memcpy(state, sha256_impl::initial, sizeof state);
  sha256_impl::Tail tail;
  return sha256_impl::finish(state, 0, data, size, tail);
}

/// HMAC-SHA-256 under one secret of any length. The secret's two blocks are hashed once, here; the object keeps only
/// the states after them and erases those in its destructor, best effort. Safe to use from many threads.
class HmacSha256 {
 public:
  HmacSha256(const void* secret, std::size_t size) noexcept {
    std::uint8_t key[sha256_impl::block_size] = {};
    if (size > sizeof key) {
      sha256_impl::Tail tail;
      std::memcpy(inner_, sha256_impl::initial, sizeof inner_);
      const Digest digest = sha256_impl::finish(inner_, 0, secret, size, tail);
      std::memcpy(key, digest.bytes, sizeof digest.bytes);
      wipe(&tail, sizeof tail);
    } else if (size != 0) {
      std::memcpy(key, secret, size);
    }
    for (std::uint8_t& byte : key) byte = static_cast<std::uint8_t>(byte ^ 0x36u);
    std::memcpy(inner_, sha256_impl::initial, sizeof inner_);
    sha256_impl::compress(inner_, key, 1);
    for (std::uint8_t& byte : key) byte = static_cast<std::uint8_t>(byte ^ 0x36u ^ 0x5cu);
    std::memcpy(outer_, sha256_impl::initial, sizeof outer_);
    sha256_impl::compress(outer_, key, 1);
    wipe(key, sizeof key);
  }

  HmacSha256(const HmacSha256&) noexcept = default;
  HmacSha256& operator=(const HmacSha256&) noexcept = default;

  ~HmacSha256() {
    wipe(inner_, sizeof inner_);
    wipe(outer_, sizeof outer_);
  }

  /// The HMAC of `size` bytes at `data`, which may be null where `size` is zero.
  Digest mac(const void* data, std::size_t size) const noexcept {
    std::uint32_t state[8];
    sha256_impl::Tail tail;
    std::memcpy(state, inner_, sizeof state);
    const Digest inner = sha256_impl::finish(state, sha256_impl::block_size, data, size, tail);
    std::memcpy(state, outer_, sizeof state);
    return sha256_impl::finish(state, sha256_impl::block_size, inner.bytes, sizeof inner.bytes, tail);
  }

 private:
  std::uint32_t inner_[8];
  std::uint32_t outer_[8];
};

}  // namespace detail
IDEM_END_NAMESPACE
