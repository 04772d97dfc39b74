// CRC-32C against the vectors of RFC 3720, against its definition bit by bit, and its two forms against each other.
#include <doctest/doctest.h>

#include <idem/detail/crc32c.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace {

using idem::detail::crc32c;
namespace crc32c_impl = idem::detail::crc32c_impl;

std::uint32_t bit_by_bit(const std::uint8_t* bytes, std::size_t size) {
  std::uint32_t crc = 0xffffffffu;
  for (std::size_t i = 0; i < size; ++i) {
    crc ^= bytes[i];
    for (int bit = 0; bit < 8; ++bit) crc = (crc & 1u) != 0 ? (crc >> 1) ^ 0x82f63b78u : crc >> 1;
  }
  return ~crc;
}

std::vector<std::uint8_t> pattern(std::size_t size) {
  std::vector<std::uint8_t> bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::uint8_t>((i * 167 + 13) & 0xff);
  return bytes;
}

}  // namespace

TEST_CASE("SER-02: CRC-32C gives the values of RFC 3720") {
  CHECK(crc32c(0, "123456789", 9) == 0xe3069283u);
  CHECK(crc32c(0, nullptr, 0) == 0);
  // RFC 3720, B.4.
  std::uint8_t bytes[32] = {};
  CHECK(crc32c(0, bytes, 32) == 0x8a9136aau);
  for (std::uint8_t& byte : bytes) byte = 0xff;
  CHECK(crc32c(0, bytes, 32) == 0x62a8ab43u);
  for (std::uint8_t i = 0; i < 32; ++i) bytes[i] = i;
  CHECK(crc32c(0, bytes, 32) == 0x46dd794eu);
  for (std::uint8_t i = 0; i < 32; ++i) bytes[31 - i] = i;
  CHECK(crc32c(0, bytes, 32) == 0x113fdb5cu);
  std::uint8_t read_command[48] = {0x01, 0xc0};
  read_command[16] = 0x14;
  read_command[22] = 0x04;
  read_command[27] = 0x14;
  read_command[31] = 0x18;
  read_command[32] = 0x28;
  read_command[40] = 0x02;
  CHECK(crc32c(0, read_command, 48) == 0xd9963a56u);
}

TEST_CASE("SER-02: CRC-32C by tables and by the CPU's instruction are what the definition says, at every alignment") {
  if (!crc32c_impl::accelerated_available()) MESSAGE("no instruction for CRC-32C here: the tables alone");
  const std::vector<std::uint8_t> message = pattern(300);
  for (std::size_t offset = 0; offset < 16; ++offset) {
    for (std::size_t size = 0; size + offset <= 300; ++size) {
      const std::uint8_t* bytes = message.data() + offset;
      const std::uint32_t expected = bit_by_bit(bytes, size);
      REQUIRE_MESSAGE(crc32c(0, bytes, size) == expected, "length " << size << ", offset " << offset);
      REQUIRE_MESSAGE(~crc32c_impl::portable(0xffffffffu, bytes, size) == expected,
                      "tables, length " << size << ", offset " << offset);
      if (crc32c_impl::accelerated_available()) {
        REQUIRE_MESSAGE(~crc32c_impl::accelerated(0xffffffffu, bytes, size) == expected,
                        "instruction, length " << size << ", offset " << offset);
      }
    }
  }
}

TEST_CASE("SER-02: how a message is cut into pieces doesn't change its CRC-32C") {
  const std::vector<std::uint8_t> message = pattern(100);
  const std::uint32_t expected = crc32c(0, message.data(), message.size());
  for (std::size_t first = 0; first <= message.size(); ++first) {
    const std::uint32_t head = crc32c(0, message.data(), first);
    REQUIRE_MESSAGE(crc32c(head, message.data() + first, message.size() - first) == expected, "cut at " << first);
  }
}

TEST_CASE("SER-02: CRC-32C sees every change of one byte, every truncation and every extension by zeros") {
  std::vector<std::uint8_t> message = pattern(64);
  const std::uint32_t good = crc32c(0, message.data(), message.size());
  for (std::uint8_t& byte : message) {
    for (unsigned change = 1; change < 256; ++change) {
      byte = static_cast<std::uint8_t>(byte ^ change);
      REQUIRE(crc32c(0, message.data(), message.size()) != good);
      byte = static_cast<std::uint8_t>(byte ^ change);
    }
  }
  for (std::size_t size = 0; size < message.size(); ++size) CHECK(crc32c(0, message.data(), size) != good);
  for (int zeros = 0; zeros < 64; ++zeros) {
    message.push_back(0);
    CHECK(crc32c(0, message.data(), message.size()) != good);
  }
}
