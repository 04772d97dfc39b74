#include <doctest/doctest.h>

#include <idem/detail/array.hpp>

#include <cstddef>
#include <cstdint>
#include <utility>

namespace {

using Numbers = idem::detail::Array<std::uint64_t>;

Numbers counted(std::uint64_t size) {
  Numbers numbers;
  for (std::uint64_t i = 0; i < size; ++i) numbers.push(i);
  return numbers;
}

bool counts(const Numbers& numbers, std::uint64_t size) {
  std::uint64_t expected = 0;
  for (const std::uint64_t number : numbers) {
    if (number != expected++) return false;
  }
  return expected == size && numbers.size() == size && numbers.empty() == (size == 0);
}

}  // namespace

TEST_CASE("MEM: an array keeps its elements in their order while it grows, is copied and moves") {
  for (const std::uint64_t size : {0U, 1U, 15U, 16U, 17U, 1000U}) {
    CAPTURE(size);
    Numbers numbers = counted(size);
    CHECK(counts(numbers, size));
    Numbers copy = numbers;
    const Numbers moved = std::move(numbers);
    CHECK(counts(moved, size));
    CHECK(counts(numbers, 0));
    numbers.push(0);
    CHECK(counts(numbers, 1));
    numbers = std::move(copy);
    CHECK(counts(numbers, size));
    const Numbers& itself = numbers;
    numbers = itself;
    CHECK(counts(numbers, size));
    numbers.clear();
    CHECK(counts(numbers, 0));
  }
}

TEST_CASE("MEM: an element of an array can be appended to it at the moment when it has to grow") {
  Numbers numbers = counted(16);
  numbers.push(numbers[3]);
  CHECK(numbers.size() == 17);
  CHECK(numbers[16] == 3);
}

TEST_CASE("MEM: the last element of an array takes the place of one that is removed") {
  Numbers numbers = counted(4);
  numbers.remove(1);
  CHECK(numbers.size() == 3);
  CHECK(numbers[0] == 0);
  CHECK(numbers[1] == 3);
  CHECK(numbers[2] == 2);
  numbers.remove(2);
  CHECK(numbers.size() == 2);
  CHECK(numbers[1] == 3);
}
