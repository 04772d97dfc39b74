// The exact bytes of every kind, by docs/encoding.md. A change here is a second payment: old keys are no longer found.
#include "codec_bytes.hpp"

#include <idem/codec.hpp>

#include <doctest/doctest.h>

#include <array>
#include <bit>
#include <cfloat>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <limits>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <variant>
#include <vector>

namespace codec_golden {

using codec_test::exact_hex;
using codec_test::hex;
using codec_test::key_hex;
using namespace std::chrono_literals;

enum class Color : std::int8_t { red = 1, none = -1 };
struct Point {
  std::int32_t x;
  double y;
};
struct Label {
  char text[4];
  Point at;
};
class Money {
 public:
  explicit Money(long cents) : cents_(cents) {}
  long cents() const { return cents_; }

 private:
  long cents_;
};

template <class T>
bool same(const T& value, std::string_view bytes) {
  const bool equal = key_hex(value) == bytes && exact_hex(value) == bytes;
  CHECK(key_hex(value) == bytes);
  CHECK(exact_hex(value) == bytes);
  return equal;
}

}  // namespace codec_golden

template <>
struct idem::codec<codec_golden::Money> {
  static constexpr std::string_view shape = "money";
  static void encode(idem::Writer& out, const codec_golden::Money& money) { out.write(money.cents()); }
  static codec_golden::Money decode(idem::Reader& in) { return codec_golden::Money(in.read<long>()); }
};

using namespace codec_golden;

TEST_CASE("KEY-08: integers of all widths have one form by value") {
  same(0, "030000000000000000");
  same(1, "030100000000000000");
  same(std::int8_t{1}, "030100000000000000");
  same(1L, "030100000000000000");
  same(1ull, "030100000000000000");
  same('\x01', "030100000000000000");
  same(char8_t{1}, "030100000000000000");
  same(char16_t{1}, "030100000000000000");
  same(char32_t{1}, "030100000000000000");
  same(wchar_t{1}, "030100000000000000");
  same(0x0123456789abcdef, "03efcdab8967452301");
  same((std::numeric_limits<std::uint64_t>::max)(), "03ffffffffffffffff");
  same((std::numeric_limits<std::int64_t>::max)(), "03ffffffffffffff7f");
  same(-1, "040000000000000000");
  same(std::int8_t{-1}, "040000000000000000");
  same(-2LL, "040100000000000000");
  same((std::numeric_limits<std::int64_t>::min)(), "04ffffffffffffff7f");
  // Whether char is signed is the platform's business.
  same(static_cast<char>(0xe9), "03e900000000000000");
  same(static_cast<unsigned char>(0xe9), "03e900000000000000");
  same(static_cast<signed char>(-23), "041600000000000000");
}

#ifdef __SIZEOF_INT128__
TEST_CASE("KEY-08: wider integers take the wide form only where they need it") {
  using idem::detail::UnsignedWide;
  using idem::detail::Wide;
  same(Wide{1}, "030100000000000000");
  same(Wide{-1}, "040000000000000000");
  same(Wide{1} << 64, "05" "0000000000000000" "0100000000000000");
  same(-(Wide{1} << 64) - 1, "06" "0000000000000000" "0100000000000000");
  same(-(Wide{1} << 64), "04" "ffffffffffffffff");
  same(~UnsignedWide{0}, "05" "ffffffffffffffff" "ffffffffffffffff");
}
#endif

TEST_CASE("KEY-08: bool, floating point and enumerations are kinds of their own") {
  same(false, "0200");
  same(true, "0201");
  same(1.0, "07000000000000f03f");
  same(1.0f, "07000000000000f03f");
  same(0.1f, "07000000a09999b93f");
  same(-2.5, "0700000000000004c0");
  same(std::numeric_limits<double>::infinity(), "07000000000000f07f");
  same(std::numeric_limits<double>::denorm_min(), "070100000000000000");
  same(std::numeric_limits<float>::denorm_min(), "07000000000000a036");
  same(Color::red, "08030100000000000000");
  same(Color::none, "08040000000000000000");
  same(std::byte{7}, "08030700000000000000");
  CHECK(key_hex(-0.0) == "070000000000000000");
  CHECK(exact_hex(-0.0) == "070000000000000080");
  CHECK(exact_hex(-0.0f) == "070000000000000080");
  CHECK(exact_hex(std::numeric_limits<double>::quiet_NaN()) == "07000000000000f87f");
  CHECK(exact_hex(std::numeric_limits<float>::quiet_NaN()) == "07000000000000f87f");
  if constexpr (FLT_EVAL_METHOD != 2) {  // not in the registers of the x87, which make such a NaN quiet
    CHECK(exact_hex(std::bit_cast<float>(0xff800001u)) == "07000000200000f0ff");
    CHECK(codec_test::comes_back(std::bit_cast<float>(0xff800001u)));
    CHECK(exact_hex(std::bit_cast<double>(std::uint64_t{0xfff0000000000001u})) == "07010000000000f0ff");
  }
}

TEST_CASE("KEY-08: strings are their bytes") {
  same(std::string(), "0900");
  same(std::string("abc"), "0903616263");
  same(std::u8string(u8"é"), "0902c3a9");
  same(std::string("a\0b", 3), "0903610062");
  same(std::string_view("abc"), "0903616263");
  const char* const text = "abc";
  same(text, "0903616263");
  const std::string long_text(200, 'x');
  CHECK(key_hex(long_text).substr(0, 8) == "09c80178");
  CHECK(key_hex(long_text).size() == 2 * 203);
  // A member keeps all its bytes, a literal among a key's parts loses its final zero.
  same(Label{"ab", {1, 0.0}}, "0b02" "090461620000" "0b02" "030100000000000000" "070000000000000000");
  idem::detail::Bytes bytes;
  idem::Writer out(bytes, idem::Form::key);
  idem::detail::write_part(out, "abc");
  CHECK(hex(bytes) == "0903616263");
  bytes.clear();
  const char full[3] = {'a', 'b', 'c'};
  idem::detail::write_part(out, full);
  CHECK(hex(bytes) == "0903616263");
}

TEST_CASE("KEY-08: sequences of every build are alike") {
  const char* const one_two = "0a02" "030100000000000000" "030200000000000000";
  same(std::vector<int>{1, 2}, one_two);
  same(std::list<long>{1, 2}, one_two);
  same(std::deque<short>{1, 2}, one_two);
  same(std::array<int, 2>{1, 2}, one_two);
  same(std::pair<int, unsigned>{1, 2u}, one_two);
  same(std::tuple<int, long long>{1, 2}, one_two);
  const int array[2] = {1, 2};
  same(array, one_two);
  same(std::span<const int>(array), one_two);
  same(std::tuple<>(), "0a00");
  same(std::vector<bool>{true, false}, "0a02" "0201" "0200");
  same(std::vector<std::vector<int>>{{}, {1}}, "0a02" "0a00" "0a01" "030100000000000000");
  // Many bytes are packed in a result; in a key an element is what it is anywhere else.
  CHECK(key_hex(std::vector<std::uint8_t>{1, 2}) == one_two);
  CHECK(exact_hex(std::vector<std::uint8_t>{1, 2}) == "16020102");
  CHECK(exact_hex(std::list<std::uint8_t>{1, 2}) == "16020102");
  CHECK(exact_hex(std::array<signed char, 2>{1, -1}) == "160201ff");
}

TEST_CASE("KEY-04: sets and maps are sorted by their bytes") {
  const char* const numbers = "0c03" "030100000000000000" "030200000000000000" "040000000000000000";
  same(std::set<int>{-1, 1, 2}, numbers);
  same(std::set<int, std::greater<int>>{-1, 1, 2}, numbers);
  same(std::unordered_set<int>{2, -1, 1}, numbers);
  same(std::unordered_set<int>{-1, 2, 1}, numbers);
  same(std::multiset<int>{-1, 1, 2}, numbers);
  const char* const words = "0d02" "090162" "0201" "09026161" "0200";
  same(std::map<std::string, bool>{{"aa", false}, {"b", true}}, words);
  same(std::unordered_map<std::string, bool>{{"aa", false}, {"b", true}}, words);
  same(std::unordered_map<std::string, bool>{{"b", true}, {"aa", false}}, words);
  same(std::unordered_multimap<int, bool>{{1, true}, {1, false}},
       "0d02" "030100000000000000" "0200" "030100000000000000" "0201");
  same(std::map<int, int>{}, "0d00");
}

TEST_CASE("KEY-08: absent, present, alternatives and nothing") {
  same(std::optional<int>(), "0e");
  same(std::optional<int>(1), "0f030100000000000000");
  same(std::unique_ptr<int>(), "0e");
  same(std::make_unique<int>(1), "0f030100000000000000");
  same(std::make_shared<const int>(1), "0f030100000000000000");
  same(std::optional<std::optional<int>>(std::optional<int>()), "0f0e");
  same(std::variant<int, std::string>("a"), "1001" "090161");
  same(std::variant<std::monostate, int>(), "1000" "01");
  same(std::monostate(), "01");
}

TEST_CASE("KEY-08: durations in a key are reduced fractions of seconds") {
  const char* const one_second = "11" "030100000000000000" "0100000000000000";
  CHECK(key_hex(1s) == one_second);
  CHECK(key_hex(1000ms) == one_second);
  CHECK(key_hex(1000000000ns) == one_second);
  CHECK(key_hex(1min) == key_hex(60000ms));
  CHECK(key_hex(1min) == "11" "033c00000000000000" "0100000000000000");
  CHECK(key_hex(1500ms) == "11" "030300000000000000" "0200000000000000");
  CHECK(key_hex(-1500ms) == "11" "040200000000000000" "0200000000000000");
  CHECK(key_hex(0h) == "11" "030000000000000000" "0100000000000000");
  CHECK(key_hex(std::chrono::duration<std::int8_t, std::ratio<2, 3>>(std::int8_t{-128})) ==
        "11" "04ff00000000000000" "0300000000000000");
  // More seconds than 64 bits hold.
  using Ages = std::chrono::duration<std::int64_t, std::ratio<(std::int64_t{1} << 62)>>;
  CHECK(key_hex(Ages(4)) == "11" "05" "0000000000000000" "0100000000000000" "0100000000000000");
  CHECK(key_hex(Ages(-4)) == "11" "04" "ffffffffffffffff" "0100000000000000");
  CHECK(key_hex(Ages((std::numeric_limits<std::int64_t>::min)())) ==
        "11" "06" "ffffffffffffffff" "ffffffffffffff1f" "0100000000000000");
  CHECK(exact_hex(1500ms) == "17" "03dc05000000000000");
  CHECK(exact_hex(std::chrono::duration<double>(0.5)) == "17" "07000000000000e03f");
  const std::chrono::sys_time<std::chrono::milliseconds> time(1500ms);
  CHECK(key_hex(time) == "12" "11" "030300000000000000" "0200000000000000");
  CHECK(key_hex(std::chrono::system_clock::time_point(1500ms)) == key_hex(time));
  CHECK(exact_hex(time) == "12" "17" "03dc05000000000000");
}

TEST_CASE("KEY-08: paths, errors, structs and codecs of the program") {
  same(std::filesystem::path("a/b"), "1303612f62");
  CHECK(key_hex(std::filesystem::path("//a///b/")) == "13052f612f622f");
  CHECK(exact_hex(std::filesystem::path("a//b")) == "1304612f2f62");
  same(std::error_code(2, std::generic_category()), "14" "090767656e65726963" "030200000000000000");
  same(std::error_code(-1, std::system_category()), "14" "090673797374656d" "040000000000000000");
  same(Point{1, 1.0}, "0b02" "030100000000000000" "07000000000000f03f");
  same(Money(5), "15" "09000000" "030500000000000000");
  same(std::vector<Money>{Money(5)}, "0a01" "15" "09000000" "030500000000000000");
}
