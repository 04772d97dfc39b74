// HMAC-SHA-256 against the vectors of RFC 4231 and values of another implementation.
#include <doctest/doctest.h>

#include <idem/detail/sha256.hpp>

#include <cstddef>
#include <cstdint>
#include <new>
#include <string>

namespace {

using idem::Digest;
using idem::detail::HmacSha256;

std::string hmac(const std::string& secret, const std::string& message) {
  std::string text;
  const Digest digest = HmacSha256(secret.data(), secret.size()).mac(message.data(), message.size());
  for (const std::uint8_t byte : digest.bytes) {
    text += "0123456789abcdef"[byte >> 4];
    text += "0123456789abcdef"[byte & 15];
  }
  return text;
}

}  // namespace

TEST_CASE("KEY-12: HMAC-SHA-256 gives the values of RFC 4231") {
  std::string counting;
  for (char byte = 1; byte <= 25; ++byte) counting += byte;
  CHECK(hmac(std::string(20, '\x0b'), "Hi There") ==
        "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
  CHECK(hmac("Jefe", "what do ya want for nothing?") ==
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  CHECK(hmac(std::string(20, '\xaa'), std::string(50, '\xdd')) ==
        "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe");
  CHECK(hmac(counting, std::string(50, '\xcd')) == "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b");
  // Test case 5 publishes the first 128 bits only.
  CHECK(hmac(std::string(20, '\x0c'), "Test With Truncation").substr(0, 32) == "a3b6167473100ee06e0c796c2955552b");
  CHECK(hmac(std::string(131, '\xaa'), "Test Using Larger Than Block-Size Key - Hash Key First") ==
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
  CHECK(hmac(std::string(131, '\xaa'),
             "This is a test using a larger than block-size key and a larger than block-size data. The key needs to be "
             "hashed before being used by the HMAC algorithm.") ==
        "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2");
}

TEST_CASE("KEY-12: HMAC secrets of one block are taken as they are, longer ones are hashed, empty ones are allowed") {
  // From Python: hmac.new(secret, message, hashlib.sha256).hexdigest()
  CHECK(hmac(std::string(64, 'k'), "m") == "3b7a8d453e76edb519238a515105a57508d0f169f480ebeee120a9e7803289fa");
  CHECK(hmac(std::string(65, 'k'), "m") == "c2d7d4c2256ddb097409ec0c67e1d58fa1a007fc6932cac0d892a525d08af7cc");
  CHECK(hmac("", "") == "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
  const Digest digest = HmacSha256(nullptr, 0).mac(nullptr, 0);
  CHECK(digest == HmacSha256("", 0).mac("", 0));
}

TEST_CASE("KEY-12: one HMAC object makes any number of values, and so does its copy") {
  const HmacSha256 original("secret", 6);
  const HmacSha256 copy = original;
  const Digest first = original.mac("a", 1);
  const Digest second = original.mac("b", 1);
  CHECK(first != second);
  CHECK(original.mac("a", 1) == first);
  CHECK(copy.mac("b", 1) == second);
}

TEST_CASE("SEC-06: an HMAC object leaves nothing of its secret where it was") {
  alignas(HmacSha256) unsigned char memory[sizeof(HmacSha256)];
  HmacSha256* hmac = ::new (static_cast<void*>(memory)) HmacSha256("secret", 6);
  const volatile unsigned char* bytes = memory;
  std::size_t used = 0;
  for (std::size_t i = 0; i < sizeof memory; ++i) used += bytes[i] != 0;
  CHECK(used > sizeof memory / 2);
  hmac->~HmacSha256();
  std::size_t left = 0;
  for (std::size_t i = 0; i < sizeof memory; ++i) left += bytes[i] != 0;
  CHECK(left == 0);
}
