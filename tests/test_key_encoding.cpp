// Two calls have one key exactly when their arguments are equal.
#include "codec_bytes.hpp"

#include <idem/codec.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <cstdint>
#include <list>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <variant>
#include <vector>

namespace key_encoding {

using codec_test::comes_back;
using codec_test::decoded;
using codec_test::encoded;
using codec_test::hex;
using codec_test::key_hex;
using codec_test::Random;
using idem::Form;
using idem::detail::Bytes;

// The parts of a call, one behind the other, as in a key.
template <class... Part>
std::string parts(const Part&... part) {
  Bytes bytes;
  idem::Writer out(bytes, Form::key);
  (idem::detail::write_part(out, part), ...);
  return out.ok() ? hex(bytes) : out.error();
}

bool all_distinct(const std::vector<std::string>& keys) {
  return std::set<std::string>(keys.begin(), keys.end()).size() == keys.size();
}

struct Leaf {
  std::optional<std::int32_t> number;
  std::string text;
  auto operator<=>(const Leaf&) const = default;
};
struct Branch {
  bool flag;
  std::vector<Leaf> leaves;
  std::map<std::string, std::int8_t> names;
  std::variant<std::int64_t, std::string, Leaf> choice;
  std::pair<char, double> pair;
  auto operator<=>(const Branch&) const = default;
};

// Small values, so that equal ones and near misses are frequent.
std::string random_text(Random& random) {
  std::string text;
  for (std::uint64_t i = random.below(3); i > 0; --i) text += static_cast<char>("ab\0\x09"[random.below(4)]);
  return text;
}

Leaf random_leaf(Random& random) {
  Leaf leaf;
  if (random.below(2) == 0) leaf.number = static_cast<std::int32_t>(random.below(3)) - 1;
  leaf.text = random_text(random);
  return leaf;
}

Branch random_branch(Random& random) {
  Branch branch{};
  branch.flag = random.below(2) == 0;
  for (std::uint64_t i = random.below(3); i > 0; --i) branch.leaves.push_back(random_leaf(random));
  for (std::uint64_t i = random.below(3); i > 0; --i) {
    branch.names[random_text(random)] = static_cast<std::int8_t>(random.below(2));
  }
  switch (random.below(3)) {
    case 0:
      branch.choice = static_cast<std::int64_t>(random.below(2));
      break;
    case 1:
      branch.choice = random_text(random);
      break;
    default:
      branch.choice = random_leaf(random);
  }
  branch.pair = {"ab"[random.below(2)], static_cast<double>(random.below(2))};
  return branch;
}

}  // namespace key_encoding

using namespace key_encoding;
using namespace std::chrono_literals;

TEST_CASE("KEY-01: how arguments are cut into strings never makes two calls one") {
  CHECK(all_distinct({parts("ab", "c"), parts("a", "bc"), parts("abc"), parts("", "abc"), parts("abc", ""), parts(),
                      parts(""), parts("", "")}));
}

TEST_CASE("T-52: separators inside values are values") {
  const std::string nul("a\0b", 3);
  CHECK(all_distinct({parts("a:b", "c"), parts("a", "b:c"), parts("a/b"), parts("a_b"), parts("a:b"), parts("../a"),
                      parts(nul), parts("a"), parts("a b"), parts(std::string(300, 'x')),
                      parts(std::string(301, 'x'))}));
}

TEST_CASE("KEY-02: one is one in every integer, and differs from what merely looks like it") {
  const std::string one = parts(1);
  CHECK(parts(1L) == one);
  CHECK(parts(1u) == one);
  CHECK(parts(std::uint8_t{1}) == one);
  CHECK(parts('\x01') == one);
  CHECK(all_distinct({one, parts(true), parts("1"), parts('1'), parts(1.0), parts(std::optional<int>(1)),
                      parts(std::variant<int>(1)), parts(std::tuple<int>(1)), parts(std::set<int>{1}),
                      parts(std::map<int, int>{{1, 1}}), parts(1s), parts(-1),
                      parts(std::vector<std::set<int>>{{1}})}));
  CHECK(parts(std::tuple<int>(1)) == parts(std::vector<int>{1}));
  CHECK(parts(1.0f) == parts(1.0));
}

TEST_CASE("KEY-03: both zeros are one, NaN is refused, infinities and denormals are themselves") {
  const double zero = 0.0;
  CHECK(parts(-zero) == parts(zero));
  CHECK(parts(std::vector<float>{-0.0f}) == parts(std::vector<float>{0.0f}));
  CHECK(parts(std::strtod("nan", nullptr)).find("NaN") != std::string::npos);
  CHECK(parts(std::strtod("-nan", nullptr)).find("NaN") != std::string::npos);
  CHECK(all_distinct({parts(zero), parts(std::strtod("inf", nullptr)), parts(std::strtod("-inf", nullptr)),
                      parts(5e-324), parts(-5e-324), parts(0.1), parts(0.1f)}));
}

TEST_CASE("KEY-04: sets and maps are equal in whatever order they were built") {
  Random random(4);
  for (int round = 0; round < 50; ++round) {
    std::vector<std::string> words;
    for (int i = 0; i < 20; ++i) words.push_back(std::to_string(random()));
    std::unordered_set<std::string> forwards;
    std::unordered_set<std::string> backwards(1000);
    std::unordered_map<std::string, int> map;
    std::unordered_map<std::string, int> reserved(500);
    for (std::size_t i = 0; i < words.size(); ++i) {
      forwards.insert(words[i]);
      backwards.insert(words[words.size() - 1 - i]);
      map[words[i]] = 1;
      reserved[words[words.size() - 1 - i]] = 1;
    }
    CHECK(parts(forwards) == parts(backwards));
    CHECK(parts(forwards) == parts(std::set<std::string>(words.begin(), words.end())));
    CHECK(parts(map) == parts(reserved));
    backwards.erase(words[3]);
    CHECK(parts(forwards) != parts(backwards));
  }
}

TEST_CASE("KEY-15: a literal, a view, a pointer and a string with the same bytes are one part") {
  const std::string text = "abc";
  const char* const pointer = text.c_str();
  const char array[] = "abc";
  CHECK(parts("abc") == parts(text));
  CHECK(parts(std::string_view(text)) == parts(text));
  CHECK(parts(pointer) == parts(text));
  CHECK(parts(array) == parts(text));
  CHECK(parts(u8"abc") == parts(text));
  CHECK(parts(std::u8string(u8"abc")) == parts(text));
  const int& reference = 5;
  CHECK(parts(reference) == parts(5));
  // The bytes are the identity: an embedded zero counts, and so does the form of a letter.
  CHECK(parts("a\0") != parts("a"));
  CHECK(parts("\xc3\xa9") != parts("e\xcc\x81"));
}

TEST_CASE("KEY-19: random values that differ have different keys, and come back") {
  Random random(19);
  std::map<Branch, std::string> by_value;
  std::map<std::string, Branch> by_key;
  bool injective = true;
  bool round_trips = true;
  int repeats = 0;
  for (int round = 0; round < 20000; ++round) {
    const Branch branch = random_branch(random);
    const std::string key = key_hex(branch);
    const auto [value_at, new_value] = by_value.emplace(branch, key);
    const auto [key_at, new_key] = by_key.emplace(key, branch);
    injective = injective && new_value == new_key && value_at->second == key && key_at->second == branch;
    if (!new_value) ++repeats;
    const std::optional<Branch> back = decoded<Branch>(encoded(branch, Form::exact));
    round_trips = round_trips && back.has_value() && *back == branch;
  }
  CHECK(injective);
  CHECK(round_trips);
  CHECK(repeats > 100);
}

TEST_CASE("KEY-19: no encoding is the beginning of another") {
  Random random(20);
  std::set<std::string> keys;
  for (int round = 0; round < 3000; ++round) {
    keys.insert(key_hex(random_branch(random)));
    keys.insert(key_hex(random_leaf(random)));
    keys.insert(key_hex(random_text(random)));
    keys.insert(key_hex(static_cast<int>(random.below(9)) - 4));
  }
  bool prefix_free = true;
  const std::string* last = nullptr;
  for (const std::string& key : keys) {
    // In order, what begins with another text comes right behind texts that begin with it too.
    if (last != nullptr) prefix_free = prefix_free && key.compare(0, last->size(), *last) != 0;
    last = &key;
  }
  CHECK(prefix_free);
}
