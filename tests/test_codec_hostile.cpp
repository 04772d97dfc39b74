// Bytes that nobody vouches for: read to the end or refused, never past their end, never as something they are not.
#include "codec_bytes.hpp"

#include <idem/codec.hpp>

#include <doctest/doctest.h>

#include <array>
#include <cfloat>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

namespace codec_hostile {

using codec_test::comes_back;
using codec_test::decoded;
using codec_test::encoded;
using codec_test::hex;
using codec_test::Random;
using idem::Form;
using idem::detail::Bytes;

// A signalling NaN becomes quiet where functions return floating point in the registers of the x87.
using Weight = std::conditional_t<FLT_EVAL_METHOD == 2, std::int32_t, float>;

struct Item {
  std::int32_t id;
  Weight weight;
  char code[3];
};
struct Order {
  std::string name;
  std::vector<Item> items;
  std::map<std::string, std::optional<int>> notes;
  std::variant<std::monostate, bool, std::pair<int, std::string>> extra;
  std::vector<std::uint8_t> blob;
};
struct Tree {
  int value;
  std::vector<Tree> children;
};
class Token {
 public:
  explicit Token(std::uint16_t a, std::string b) : a_(a), b_(std::move(b)) {}
  std::uint16_t a() const { return a_; }
  const std::string& b() const { return b_; }

 private:
  std::uint16_t a_;
  std::string b_;
};

Order example() {
  return {"order",
          {{1, static_cast<Weight>(2.5), "ab"}, {-2, static_cast<Weight>(-1.25), "cd"}},
          {{"a", 1}, {"b", std::nullopt}, {"cc", -3}},
          std::make_pair(4, "x"),
          {1, 2, 3}};
}

Bytes unhex(std::string_view text) {
  Bytes bytes;
  const auto digit = [](char c) { return static_cast<unsigned>(c <= '9' ? c - '0' : c - 'a' + 10); };
  for (std::size_t i = 0; i + 1 < text.size(); i += 2) {
    bytes.push(static_cast<std::uint8_t>(digit(text[i]) * 16 + digit(text[i + 1])));
  }
  return bytes;
}

template <class T>
bool reads(std::string_view text) {
  const Bytes bytes = unhex(text);
  return decoded<T>(bytes).has_value();
}

// A heap block of just the size, so that AddressSanitizer sees a read past its end.
template <class T>
std::optional<T> decoded_tight(const std::uint8_t* data, std::size_t size) {
  const std::unique_ptr<std::uint8_t[]> copy(new std::uint8_t[size]);
  if (size != 0) std::memcpy(copy.get(), data, size);
  return decoded<T>(copy.get(), size);
}

// Whatever is accepted has to write exactly the bytes it was read from.
template <class T>
bool refused_or_itself(const Bytes& bytes) {
  const std::optional<T> value = decoded_tight<T>(bytes.data(), bytes.size());
  return !value.has_value() || encoded(*value, Form::exact) == bytes;
}

template <class T>
void survives(const T& value) {
  const Bytes good = encoded(value, Form::exact);
  REQUIRE(decoded<T>(good).has_value());
  bool truncations = true;
  for (std::size_t size = 0; size < good.size(); ++size) {
    truncations = truncations && !decoded_tight<T>(good.data(), size).has_value();
  }
  CHECK(truncations);
  bool extensions = true;
  for (unsigned last = 0; last < 256; ++last) {
    Bytes longer = good;
    longer.push(static_cast<std::uint8_t>(last));
    extensions = extensions && !decoded<T>(longer).has_value();
  }
  CHECK(extensions);
  bool changes = true;
  for (std::size_t at = 0; at < good.size(); ++at) {
    for (unsigned change = 1; change < 256; ++change) {
      Bytes other = good;
      other.data()[at] = static_cast<std::uint8_t>(other.data()[at] ^ change);
      const bool fine = refused_or_itself<T>(other);
      if (!fine) MESSAGE(hex(good), " ", hex(other));
      changes = changes && fine;
    }
  }
  CHECK(changes);
}

}  // namespace codec_hostile

template <>
struct idem::codec<codec_hostile::Token> {
  static constexpr std::string_view shape = "token";
  static void encode(idem::Writer& out, const codec_hostile::Token& token) {
    out.write(token.a());
    out.write(token.b());
  }
  static codec_hostile::Token decode(idem::Reader& in) {
    const auto a = in.read<std::uint16_t>();
    return codec_hostile::Token(a, in.read<std::string>());
  }
};

using namespace codec_hostile;
using namespace std::chrono_literals;

TEST_CASE("SER-02: every truncation, extension and change of a byte is refused or is another value's own encoding") {
  survives(std::int8_t{-5});
  survives(std::uint64_t{5});
  survives('c');
  survives(true);
  survives(1.5);
  survives(1.5f);
  survives((std::numeric_limits<float>::max)());
  if constexpr (std::is_same_v<Weight, float>) survives((std::numeric_limits<float>::quiet_NaN)());
  survives(std::string("text"));
  survives(std::vector<int>{1, 2});
  survives(std::array<std::int16_t, 2>{3, 4});
  survives(std::vector<bool>{true, false});
  survives(std::list<char>{'a', 'b'});
  survives(std::set<std::int16_t>{1, 2, 3});
  survives(std::multiset<std::int8_t>{1, 1, 3});
  survives(std::map<std::int8_t, bool>{{1, true}, {2, false}});
  survives(std::multimap<std::int8_t, bool>{{1, true}, {1, false}});
  survives(std::unordered_map<std::string, std::int8_t>{{"a", std::int8_t{1}}, {"b", std::int8_t{2}}});
  survives(std::optional<std::string>("x"));
  survives(std::variant<int, std::string, bool>(true));
  survives(std::tuple<int, std::string>(1, "x"));
  survives(std::make_shared<std::string>("x"));
  survives(std::monostate());
  survives(1500ms);
  survives(std::chrono::sys_time<std::chrono::seconds>(5s));
  survives(std::filesystem::path("/a//b"));
  survives(std::error_code(5, std::generic_category()));
  survives(std::error_condition(5, std::generic_category()));
  survives(Token(7, "seven"));
  survives(std::vector<Token>{Token(7, "seven"), Token(8, "")});
  survives(Tree{1, {{2, {}}, {3, {{4, {}}}}}});
  survives(example());
#ifdef __SIZEOF_INT128__
  survives(idem::detail::Wide{1} << 70);
  survives(~(idem::detail::Wide{1} << 70));
  survives(idem::detail::UnsignedWide{1} << 127);
#endif
}

TEST_CASE("SER-10: a value that has a shorter form is refused") {
  CHECK(reads<std::string>("090161"));
  CHECK_FALSE(reads<std::string>("09810061"));                                  // length with a needless byte
  CHECK_FALSE(reads<std::string>("09ffffffffffffffffff02"));                    // length of more than 64 bits
  CHECK_FALSE(reads<std::string>("0981808080808080808002" "61"));               // 1, were the 65th bit dropped
  CHECK_FALSE(reads<std::string>("09ffffffffffffffffffffffffffffff01"));        // no end
  CHECK_FALSE(reads<bool>("0202"));
  CHECK_FALSE(reads<std::set<int>>("0c02030100000000000000030100000000000000"));  // twice the same
  CHECK_FALSE(reads<std::set<int>>("0c02030200000000000000030100000000000000"));  // out of order
  CHECK(reads<std::multiset<int>>("0c02030100000000000000030100000000000000"));
  CHECK_FALSE(reads<std::multiset<int>>("0c02030200000000000000030100000000000000"));
  CHECK_FALSE(reads<std::map<bool, bool>>("0d02020102000200" "0200"));
  CHECK_FALSE(reads<std::map<bool, bool>>("0d0202000200" "02000201"));
  CHECK(reads<std::multimap<bool, bool>>("0d0202000200" "02000201"));
#ifdef __SIZEOF_INT128__
  CHECK_FALSE(reads<idem::detail::Wide>("05" "0100000000000000" "0000000000000000"));
#endif
}

TEST_CASE("SER-10: an integer outside the range of its type is refused") {
  CHECK(reads<std::uint8_t>("03ff00000000000000"));
  CHECK_FALSE(reads<std::uint8_t>("030001000000000000"));
  CHECK_FALSE(reads<std::uint8_t>("040000000000000000"));
  CHECK(reads<std::int8_t>("047f00000000000000"));
  CHECK_FALSE(reads<std::int8_t>("048000000000000000"));
  CHECK_FALSE(reads<std::int8_t>("038000000000000000"));
  CHECK(reads<char>("03ff00000000000000"));
  CHECK_FALSE(reads<char>("040000000000000000"));
  CHECK_FALSE(reads<std::int64_t>("030000000000000080"));
  CHECK_FALSE(reads<std::int64_t>("040000000000000080"));
  CHECK(reads<std::uint64_t>("030000000000000080"));
  CHECK_FALSE(reads<float>("079a9999999999b93f"));  // 0.1, which no float is
  CHECK_FALSE(reads<float>("07000000000000f07e"));  // larger than any float
  CHECK(reads<float>("07000000000000f07f"));        // infinity
  CHECK(reads<double>("079a9999999999b93f"));
}

TEST_CASE("SER-10: an enumeration takes any value of its underlying type") {
  enum class Small : std::uint8_t { one = 1 };
  CHECK(reads<Small>("08030900000000000000"));
  CHECK_FALSE(reads<Small>("08030001000000000000"));
}

TEST_CASE("SER-10: lengths beyond the bytes are refused before anything is allocated") {
  CHECK_FALSE(reads<std::string>("09ffffffffffffffff7f"));
  CHECK_FALSE(reads<std::vector<int>>("0affffffffffffffff7f"));
  CHECK_FALSE(reads<std::vector<std::uint8_t>>("16ffffffff0f"));
  CHECK_FALSE(reads<std::vector<std::monostate>>("0affffffff0f01"));
  CHECK_FALSE(reads<std::unordered_map<int, int>>("0dffffffff0f"));
  CHECK_FALSE(reads<Token>("15ffffffff"));
  CHECK_FALSE(reads<std::filesystem::path>("13ffffffffffffffffff01"));
}

TEST_CASE("SER-10: nesting is bounded, in what is written and in what is read") {
  Tree tree{0, {}};
  for (int i = 0; i < 62; ++i) tree = Tree{i, {tree}};
  CHECK(comes_back(tree));
  for (int i = 0; i < 200; ++i) tree = Tree{i, {tree}};
  Bytes bytes;
  idem::Writer out(bytes, Form::exact);
  out.write(tree);
  CHECK_FALSE(out.ok());
  CHECK(std::string(out.error()).find("nested") != std::string::npos);
  std::string deep;
  for (int i = 0; i < 100000; ++i) deep += "0b02" "030100000000000000" "0a01";
  CHECK_FALSE(reads<Tree>(deep));
}

TEST_CASE("SER-10: a codec of the program sees its own bytes only, and has to take them all") {
  CHECK(reads<Token>("15" "0c000000" "030700000000000000" "090161"));
  CHECK_FALSE(reads<Token>("15" "0b000000" "030700000000000000" "090161"));
  CHECK_FALSE(reads<Token>("15" "0d000000" "030700000000000000" "090161" "00"));
  CHECK_FALSE(reads<std::pair<Token, bool>>("0a02" "15" "0a000000" "030700000000000000" "0901" "610201"));
}

TEST_CASE("SER-04: nothing in the bytes chooses a type") {
  // A value of each kind, read as every other one.
  const std::vector<Bytes> kinds = {
      encoded(std::monostate(), Form::exact),      encoded(true, Form::exact),
      encoded(1, Form::exact),                     encoded(-1, Form::exact),
      encoded(1.5, Form::exact),                   encoded(std::string("a"), Form::exact),
      encoded(std::vector<int>{1}, Form::exact),   encoded(Tree{1, {}}, Form::exact),
      encoded(std::set<int>{1}, Form::exact),      encoded(std::map<int, int>{{1, 1}}, Form::exact),
      encoded(std::optional<int>(), Form::exact),  encoded(std::optional<int>(1), Form::exact),
      encoded(std::variant<int>(1), Form::exact),  encoded(1s, Form::key),
      encoded(1s, Form::exact),                    encoded(std::filesystem::path("a"), Form::exact),
      encoded(Token(1, ""), Form::exact),          encoded(std::vector<std::uint8_t>{1}, Form::exact)};
  const auto readers = [&](const Bytes& b) {
    return int{decoded<std::monostate>(b).has_value()} + int{decoded<bool>(b).has_value()} +
           int{decoded<int>(b).has_value()} + int{decoded<double>(b).has_value()} +
           int{decoded<std::string>(b).has_value()} + int{decoded<std::vector<int>>(b).has_value()} +
           int{decoded<Tree>(b).has_value()} + int{decoded<std::set<int>>(b).has_value()} +
           int{decoded<std::map<int, int>>(b).has_value()} + int{decoded<std::optional<int>>(b).has_value()} +
           int{decoded<std::variant<int>>(b).has_value()} + int{decoded<std::chrono::seconds>(b).has_value()} +
           int{decoded<std::filesystem::path>(b).has_value()} + int{decoded<Token>(b).has_value()} +
           int{decoded<std::vector<std::uint8_t>>(b).has_value()};
  };
  for (std::size_t i = 0; i < kinds.size(); ++i) {
    CAPTURE(i);
    CHECK(readers(kinds[i]) == (i == 13 ? 0 : 1));  // the key form of a duration is no result
  }
}

TEST_CASE("SER-01: random bytes, and good ones spoiled in several places, are refused or are themselves") {
  Random random(20240611);
  const Bytes good = encoded(example(), Form::exact);
  bool fine = true;
  int accepted = 0;
  for (int round = 0; round < 60000; ++round) {
    Bytes bytes = good;
    const std::uint64_t changes = 1 + random.below(4);
    for (std::uint64_t i = 0; i < changes; ++i) {
      const std::uint64_t at = random.below(bytes.size());
      switch (random.below(4)) {
        case 0:
          bytes.data()[at] = static_cast<std::uint8_t>(random());
          break;
        case 1:
          bytes.data()[at] = static_cast<std::uint8_t>(random.below(24));
          break;
        case 2:
          bytes.data()[at] = static_cast<std::uint8_t>(bytes.data()[at] ^ (1u << random.below(8)));
          break;
        default:
          bytes.truncate(static_cast<std::uint32_t>(1 + random.below(bytes.size())));
      }
    }
    fine = fine && refused_or_itself<Order>(bytes);
    if (decoded<Order>(bytes).has_value()) ++accepted;
  }
  CHECK(fine);
  CHECK(accepted > 0);
  for (int round = 0; round < 60000; ++round) {
    Bytes bytes;
    const std::uint64_t size = random.below(40);
    for (std::uint64_t i = 0; i < size; ++i) {
      bytes.push(static_cast<std::uint8_t>(random.below(2) == 0 ? random.below(24) : random()));
    }
    fine = fine && refused_or_itself<Tree>(bytes) && refused_or_itself<std::vector<Tree>>(bytes) &&
           refused_or_itself<std::variant<int, std::string, Item>>(bytes);
  }
  CHECK(fine);
}
