// The hash by which the memory store finds a key: fast, different in every store, never persisted.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/random.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>

IDEM_BEGIN_NAMESPACE
namespace detail {

/// Both halves of the product of two 64-bit numbers, combined by exclusive or: each bit of the result depends on nearly
/// all bits of both.
IDEM_ALWAYS_INLINE std::uint64_t multiply_fold(std::uint64_t a, std::uint64_t b) noexcept {
#if defined(__SIZEOF_INT128__)
  __extension__ using Both = unsigned __int128;
  const Both product = Both{a} * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
#else
  const std::uint64_t a_low = a & 0xffffffffu;
  const std::uint64_t a_high = a >> 32;
  const std::uint64_t b_low = b & 0xffffffffu;
  const std::uint64_t b_high = b >> 32;
  const std::uint64_t low = a_low * b_low;
  const std::uint64_t middle = a_high * b_low + (low >> 32);
  const std::uint64_t carry = a_low * b_high + (middle & 0xffffffffu);
  const std::uint64_t product_low = (carry << 32) | (low & 0xffffffffu);
  const std::uint64_t product_high = a_high * b_high + (middle >> 32) + (carry >> 32);
  return product_low ^ product_high;
#endif
}

/// The part of a hash that finds a slot and is kept in it.
inline std::uint32_t slot_hash(std::uint64_t hash) noexcept {
  return static_cast<std::uint32_t>(hash);
}

/// A hash of a key's canonical bytes under secret random numbers, so that nobody who chooses keys can choose which of
/// them meet (hash flooding). The numbers are new for each object, and a hash is never told to anybody.
///
/// Of the 32 bytes that all keys begin with, which are a digest and nobody's free choice, half is read. Thread safety:
/// immutable.
class KeyedHash {
 public:
  KeyedHash() noexcept : seeded_(random_bytes(secret_, sizeof secret_)) {
    if (seeded_) return;
    for (std::size_t i = 0; i < 4; ++i) secret_[i] = 0x9e3779b97f4a7c15u * (i + 1);
  }
  /// The system had random bytes for it. Without them its numbers are known to everybody.
  bool seeded() const noexcept { return seeded_; }

  /// REQUIRES: size >= 32.
  std::uint64_t operator()(const std::uint8_t* data, std::size_t size) const noexcept {
    const std::uint8_t* const last = data + size - 16;
    const std::uint64_t domain = multiply_fold(load(data) ^ secret_[1], load(data + 8) ^ secret_[2]);
    std::uint64_t hash = secret_[0] ^ size;
    for (const std::uint8_t* at = data + 32; at < last; at += 16) {
      hash = multiply_fold(load(at) ^ hash, load(at + 8) ^ secret_[3]);
    }
    // The last 16 bytes, some of them for the second time; that the size is in the hash keeps this unambiguous.
    hash = multiply_fold(load(last) ^ hash, load(last + 8) ^ secret_[1]);
    return multiply_fold(hash ^ domain, secret_[2] | 1);
  }

 private:
  static std::uint64_t load(const std::uint8_t* from) noexcept {
    std::uint64_t value;
    std::memcpy(&value, from, sizeof value);
    return value;
  }

  std::uint64_t secret_[4];
  bool seeded_;
};

}  // namespace detail
IDEM_END_NAMESPACE
