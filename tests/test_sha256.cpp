// SHA-256 against the published vectors, against values of another implementation, and its two forms against each
// other.
#include <doctest/doctest.h>

#include <idem/detail/sha256.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#if defined(__unix__)
#include <sys/mman.h>
#endif

namespace {

using idem::Digest;
using idem::detail::Sha256;
using idem::detail::sha256;
namespace sha256_impl = idem::detail::sha256_impl;

std::string hex(const Digest& digest) {
  std::string text;
  for (const std::uint8_t byte : digest.bytes) {
    text += "0123456789abcdef"[byte >> 4];
    text += "0123456789abcdef"[byte & 15];
  }
  return text;
}

std::string hex(const std::string& message) { return hex(sha256(message.data(), message.size())); }

std::vector<std::uint8_t> pattern(std::size_t size) {
  std::vector<std::uint8_t> bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::uint8_t>((i * 7 + 3) & 0xff);
  return bytes;
}

using Compress = void (*)(std::uint32_t*, const std::uint8_t*, std::size_t);

// Pads as FIPS 180-4, 5.1.1 says, without the code under test, and starts at an address `offset` past an aligned one.
Digest by(Compress compress, const std::uint8_t* message, std::size_t size, std::size_t offset) {
  std::vector<std::uint8_t> padded(offset);
  padded.insert(padded.end(), message, message + size);
  padded.push_back(0x80);
  while ((padded.size() - offset) % 64 != 56) padded.push_back(0);
  for (int shift = 56; shift >= 0; shift -= 8) {
    padded.push_back(static_cast<std::uint8_t>(((std::uint64_t{size} * 8) >> shift) & 0xff));
  }
  std::uint32_t state[8] = {0x6a09e667u, 0xbb67ae85u, 0x3c6ef372u, 0xa54ff53au,
                            0x510e527fu, 0x9b05688cu, 0x1f83d9abu, 0x5be0cd19u};
  compress(state, padded.data() + offset, (padded.size() - offset) / 64);
  Digest digest;
  for (std::size_t i = 0; i < 32; ++i) {
    digest.bytes[i] = static_cast<std::uint8_t>((state[i / 4] >> (24 - i % 4 * 8)) & 0xff);
  }
  return digest;
}

}  // namespace

TEST_CASE("KEY-12: SHA-256 gives the digests that NIST published") {
  // FIPS 180-4 examples (csrc.nist.gov, "Example Values", SHA256.pdf) and the million-a message of FIPS 180-2, B.3.
  CHECK(hex("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(hex("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CHECK(hex("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrst"
            "nopqrstu") == "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
  CHECK(hex(std::string(1000000, 'a')) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST_CASE("KEY-12: SHA-256 of no bytes needs no address") {
  CHECK(hex(sha256(nullptr, 0)) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  Sha256 hash;
  hash.update(nullptr, 0);
  CHECK(hex(hash.finish()) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

TEST_CASE("KEY-12: SHA-256 of every length up to 300 bytes is what another implementation computes") {
  // The digest of all 301 digests, from Python: m = bytes((i*7+3) & 255 for i in range(301));
  // hashlib.sha256(b''.join(hashlib.sha256(m[:n]).digest() for n in range(301))).hexdigest()
  const std::vector<std::uint8_t> message = pattern(301);
  Sha256 all;
  for (std::size_t size = 0; size <= 300; ++size) {
    const Digest digest = sha256(message.data(), size);
    all.update(digest.bytes, sizeof digest.bytes);
  }
  CHECK(hex(all.finish()) == "7d917fbd2cf49ddff9ad0a8706bba32d204e92e71d2e369c5a03d6af29278c9f");
}

TEST_CASE("KEY-12: SHA-256 in plain C++ and by the CPU's instructions agree at every length and alignment") {
  if (!sha256_impl::accelerated_available()) MESSAGE("no instructions for SHA-256 here: plain C++ against the library");
  const Compress second = sha256_impl::accelerated_available() ? &sha256_impl::accelerated : &sha256_impl::compress;
  const std::vector<std::uint8_t> message = pattern(300);
  for (std::size_t size = 0; size <= 300; ++size) {
    const Digest expected = sha256(message.data(), size);
    const Digest plain = by(&sha256_impl::portable, message.data(), size, size % 16);
    const Digest fast = by(second, message.data(), size, (size + 5) % 16);
    REQUIRE_MESSAGE(plain == expected, "portable, length " << size);
    REQUIRE_MESSAGE(fast == expected, "accelerated, length " << size);
  }
}

TEST_CASE("KEY-12: where a message lies in memory doesn't change its SHA-256") {
  const std::vector<std::uint8_t> message = pattern(200);
  const Digest expected = sha256(message.data(), message.size());
  for (std::size_t offset = 0; offset < 64; ++offset) {
    std::vector<std::uint8_t> moved(offset);
    moved.insert(moved.end(), message.begin(), message.end());
    CHECK(sha256(moved.data() + offset, message.size()) == expected);
    Sha256 hash;
    hash.update(moved.data() + offset, message.size());
    CHECK(hash.finish() == expected);
  }
}

TEST_CASE("KEY-12: how a message is cut into pieces doesn't change its SHA-256") {
  const std::vector<std::uint8_t> message = pattern(260);
  const Digest expected = sha256(message.data(), message.size());
  for (std::size_t first = 0; first <= message.size(); ++first) {
    Sha256 two;
    two.update(message.data(), first);
    two.update(message.data() + first, message.size() - first);
    REQUIRE_MESSAGE(two.finish() == expected, "cut at " << first);
    for (std::size_t second = first; second <= message.size(); ++second) {
      Sha256 three;
      three.update(message.data(), first);
      three.update(message.data() + first, second - first);
      three.update(message.data() + second, message.size() - second);
      REQUIRE_MESSAGE(three.finish() == expected, "cut at " << first << " and " << second);
    }
  }
  Sha256 bytes;
  for (const std::uint8_t byte : message) bytes.update(&byte, 1);
  CHECK(bytes.finish() == expected);
}

TEST_CASE("KEY-12: a copy of a SHA-256 in progress goes on by itself, and finish starts anew") {
  const std::vector<std::uint8_t> message = pattern(150);
  Sha256 original;
  original.update(message.data(), 100);
  Sha256 copy = original;
  copy.update(message.data(), 7);
  original.update(message.data() + 100, 50);
  CHECK(original.finish() == sha256(message.data(), 150));
  std::vector<std::uint8_t> other(message.begin(), message.begin() + 100);
  other.insert(other.end(), message.begin(), message.begin() + 7);
  CHECK(copy.finish() == sha256(other.data(), other.size()));
  copy.update("abc", 3);
  CHECK(copy.finish() == sha256("abc", 3));
}

TEST_CASE("KEY-12: digests that differ in any one byte are not equal") {
  const Digest digest = sha256("abc", 3);
  for (std::size_t i = 0; i < sizeof digest.bytes; ++i) {
    Digest other = digest;
    other.bytes[i] = static_cast<std::uint8_t>(other.bytes[i] ^ 1u);
    CHECK(other != digest);
  }
}

TEST_CASE("KEY-12: SHA-256 of messages beyond 2^32 bits and 2^32 bytes is right (soak)" * doctest::skip()) {
  // Zeros; the digests are from Python's hashlib.
  struct {
    std::uint64_t size;
    const char* digest;
  } const known[] = {
      {(std::uint64_t{1} << 29) + 1, "7c40fe5ce847740d0f0d0cdde3949d6585804cdec3ae61a15b923165699c8137"},
      {(std::uint64_t{1} << 32) + 5, "709fc0b74f7c916cedccb212d681c035f36ffbb31ebfe806eb40c31592744eb5"},
  };
  const std::vector<std::uint8_t> zeros(1 << 20);
  for (const auto& [size, digest] : known) {
    Sha256 pieces;
    for (std::uint64_t left = size; left != 0;) {
      const std::size_t piece = left < zeros.size() ? static_cast<std::uint32_t>(left) : zeros.size();
      pieces.update(zeros.data(), piece);
      left -= piece;
    }
    CHECK(hex(pieces.finish()) == digest);
#if defined(__unix__)
    if constexpr (sizeof(std::size_t) > 4) {
      // Memory that is only read stays the kernel's one page of zeros.
      void* memory = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      REQUIRE(memory != MAP_FAILED);
      CHECK(hex(sha256(memory, size)) == digest);
      ::munmap(memory, size);
    }
#endif
  }
}
