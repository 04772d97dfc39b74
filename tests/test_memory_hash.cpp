// KEY-18: nobody can choose keys that meet in the memory store's tables.
#include <doctest/doctest.h>

#include "memory_support.hpp"

#include <idem/detail/memory_hash.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <vector>

namespace {

// Counts how many of 65536 keys fall on each of 65536 places taken from the hash's low and high bits. For a random
// function the fullest has about 8; a place with 20 has a probability of 65536 * e^-1 / 20!, below 10^-13.
template <class MakeKey>
void check_spread(MakeKey make, std::size_t keys = 65536) {
  constexpr std::size_t places = 65536;
  const idem::detail::KeyedHash hash;
  std::vector<int> low(places);
  std::vector<int> high(places);
  std::vector<int> mixed(places);
  for (std::size_t i = 0; i < keys; ++i) {
    const std::vector<std::uint8_t> key = make(i);
    const std::uint64_t value = hash(key.data(), key.size());
    ++low[value & 0xffff];
    ++high[value >> 48];
    ++mixed[(value >> 58) << 10 | (value & 0x3ff)];
  }
  CHECK(*std::max_element(low.begin(), low.end()) < 20);
  CHECK(*std::max_element(high.begin(), high.end()) < 20);
  CHECK(*std::max_element(mixed.begin(), mixed.end()) < 20);
}

void put_number(std::vector<std::uint8_t>& key, std::size_t at, std::uint64_t number) {
  for (std::size_t i = 0; i < 8; ++i) key[at + i] = static_cast<std::uint8_t>(number >> (8 * i));
}

}  // namespace

TEST_CASE("KEY-18: keys that differ only in some bits, wherever these stand, spread over the table") {
  // One after the other, with the same low bits, with the same high bits, in both words of a block, and in a tail.
  for (const std::size_t size : std::initializer_list<std::size_t>{40, 50, 64, 75, 200}) {
    for (const unsigned shift : {0u, 16u, 32u, 48u}) {
      for (const std::size_t at : {std::size_t{32}, size - 8}) {
        CAPTURE(size);
        CAPTURE(shift);
        CAPTURE(at);
        check_spread([&](std::size_t i) {
          std::vector<std::uint8_t> key(size);
          put_number(key, at, std::uint64_t{i} << shift);
          return key;
        });
      }
    }
  }
  // Equal words in both halves of a block, which a plain exclusive or would cancel.
  check_spread([](std::size_t i) {
    std::vector<std::uint8_t> key(64);
    put_number(key, 32, i * 0x9e3779b97f4a7c15u);
    put_number(key, 40, i * 0x9e3779b97f4a7c15u);
    return key;
  });
  // Keys that differ only in length.
  check_spread([](std::size_t i) { return std::vector<std::uint8_t>(32 + i); }, 4096);
}

TEST_CASE("KEY-18: every store hashes by a secret of its own, so that crafted keys are of no use to it") {
  const idem::detail::KeyedHash one;
  const idem::detail::KeyedHash two;
  int same = 0;
  for (int i = 0; i < 64; ++i) {
    const idem::Key key = memory_support::key_of(i);
    if (one(key.bytes().data(), key.bytes().size()) == two(key.bytes().data(), key.bytes().size())) ++same;
    CHECK(one(key.bytes().data(), key.bytes().size()) == one(key.bytes().data(), key.bytes().size()));
  }
  CHECK(same == 0);
}

TEST_CASE("KEY-18: multiplying without 128-bit integers gives the same") {
  // Products known by hand: (2^64 - 1)^2 = 2^128 - 2^65 + 1, and 2^32 * 2^32 = 2^64.
  CHECK(idem::detail::multiply_fold(~std::uint64_t{0}, ~std::uint64_t{0}) == (1u ^ (~std::uint64_t{0} - 1)));
  CHECK(idem::detail::multiply_fold(std::uint64_t{1} << 32, std::uint64_t{1} << 32) == 1);
  CHECK(idem::detail::multiply_fold(3, 5) == 15);
}
