// Shapes: what is stored says what it is, and a result whose type grew at its end can still be read.
#include "codec_bytes.hpp"

#include <idem/codec.hpp>

#include <doctest/doctest.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

namespace codec_shape {

class Stamp {
 public:
  explicit Stamp(int number) : number_(number) {}
  int number() const { return number_; }

 private:
  int number_;
};

}  // namespace codec_shape

template <>
struct idem::codec<codec_shape::Stamp> {
  static constexpr std::string_view shape = "stamp";
  static void encode(idem::Writer& out, const codec_shape::Stamp& stamp) { out.write(stamp.number()); }
  static codec_shape::Stamp decode(idem::Reader& in) { return codec_shape::Stamp(in.read<int>()); }
};

namespace codec_shape {

struct Stamped1 {
  Stamp first;
};
struct Stamped2 {
  Stamp first;
  Stamp last;
};
struct Stamped3 {
  Stamp first;
  Stamp last = Stamp(9);
};

using codec_test::encoded;
using idem::codec;
using idem::detail::parameter_shape;
using idem::detail::shape_fingerprint;

enum class Color : std::uint8_t { red };
namespace inner {
enum class Color : std::uint8_t { red };
struct Point {
  int x;
  double y;
};
}  // namespace inner
struct Point {
  int x;
  double y;
};
struct Tree {
  int value;
  std::vector<Tree> children;
};
class Opaque {
  int value_ = 0;

 public:
  int value() const { return value_; }
};
template <class T>
class Template {
  T value_{};

 public:
  T value() const { return value_; }
};

// One type as it was, and as it is after fields were added.
struct Receipt1 {
  int id;
};
struct Receipt2 {
  int id;
  std::string text = "none";
};
struct Receipt3 {
  int id;
  std::string text = "none";
  std::vector<int> lines = {7};
};
struct Receipt3WithArray {
  int id;
  std::string text = "none";
  std::vector<int> lines = {7};
  int codes[2] = {8, 9};
};
struct Other {
  double id;
  std::string text;
};
class Fields1 {
 public:
  int a = 1;
  friend auto idem_fields(Fields1& self) { return std::tie(self.a); }
};
class Fields2 {
 public:
  int a = 1;
  int b = 2;
  friend auto idem_fields(Fields2& self) { return std::tie(self.a, self.b); }
};

// Reads as New what was stored as Old.
template <class New, class Old>
std::optional<New> evolved(const Old& old) {
  const idem::detail::Bytes bytes = encoded(old, idem::Form::exact);
  idem::Reader in(bytes.data(), bytes.size());
  std::optional<New> slot;
  if (!idem::detail::decode_result<New>(in, shape_fingerprint<Old>(), slot)) return std::nullopt;
  return slot;
}

}  // namespace codec_shape

using namespace codec_shape;

TEST_CASE("KEY-16: shapes are the same on every platform") {
  CHECK(codec<std::int32_t>::shape == "i32");
  CHECK(codec<std::uint64_t>::shape == "u64");
  CHECK(codec<std::int64_t>::shape == "i64");
  CHECK(codec<std::int8_t>::shape == "i8");
  CHECK(codec<char>::shape == "c");
  CHECK(codec<char8_t>::shape == "c8");
  CHECK(codec<wchar_t>::shape == "w");
  CHECK(codec<bool>::shape == "b");
  CHECK(codec<float>::shape == "f32");
  CHECK(codec<double>::shape == "f64");
  CHECK(codec<std::string>::shape == "s");
  CHECK(codec<Color>::shape == "e(u8)");
  CHECK(codec<std::vector<std::int32_t>>::shape == "[i32]");
  CHECK(codec<std::array<bool, 3>>::shape == "[b*3]");
  CHECK(codec<std::set<std::string>>::shape == "#[s]");
  CHECK(codec<std::map<std::string, bool>>::shape == "#[s:b]");
  CHECK(codec<std::optional<std::string>>::shape == "?s");
  CHECK(codec<std::unique_ptr<std::string>>::shape == "*s");
  CHECK(codec<std::variant<std::monostate, std::int32_t, std::string>>::shape == "<n|i32|s>");
  CHECK(codec<std::tuple<>>::shape == "()");
  CHECK(codec<std::pair<std::int32_t, bool>>::shape == "(i32,b)");
  CHECK(codec<Point>::shape == "{i32,f64}");
  CHECK(codec<Tree>::shape == "{i32,[^1]}");
  CHECK(codec<std::chrono::milliseconds>::shape == "d(1/1000,i64)");
  CHECK(codec<std::filesystem::path>::shape == "p");
  CHECK(codec<std::error_code>::shape == "ec");
}

TEST_CASE("KEY-07: two types of the same width have two shapes") {
  CHECK(codec<long>::shape != codec<long long>::shape);
  CHECK(codec<int>::shape != codec<long>::shape);
  CHECK(codec<unsigned long>::shape != codec<unsigned long long>::shape);
  CHECK(codec<signed char>::shape != codec<char>::shape);
}

TEST_CASE("KEY-07: parameters of overloads are told apart by the names of their types") {
  CHECK(parameter_shape<int> == "i32");
  CHECK(parameter_shape<const Point&> == "{i32,f64}:codec_shape::Point");
  CHECK(parameter_shape<inner::Point> == "{i32,f64}:codec_shape::inner::Point");
  CHECK(parameter_shape<Color> == "e(u8):codec_shape::Color");
  CHECK(parameter_shape<inner::Color> == "e(u8):codec_shape::inner::Color");
  CHECK(parameter_shape<std::vector<Color>> == "[e(u8):codec_shape::Color]");
  CHECK(parameter_shape<Opaque> == "?:codec_shape::Opaque");
  CHECK(parameter_shape<Opaque*> == "&?:codec_shape::Opaque");
  CHECK(parameter_shape<const int*> == "&const i32");
  CHECK(parameter_shape<std::vector<long double*>> == "[&long double]");
  CHECK(parameter_shape<Template<int>> == "?:codec_shape::Template");
  CHECK(parameter_shape<std::chrono::system_clock::time_point> == "t");
  CHECK(parameter_shape<std::monostate> == "n");
}

TEST_CASE("KEY-16: fingerprints of shapes never change") {
  CHECK(shape_fingerprint<std::int32_t>() == 0x2a8405a9be791e57u);
  CHECK(shape_fingerprint<Point>() == 0x11c634204be46278u);
  CHECK(shape_fingerprint<std::tuple<std::int32_t, double>>() != shape_fingerprint<Point>());
}

TEST_CASE("KEY-16: a result whose type grew at the end has defaults for what was added") {
  const auto from_first = evolved<Receipt3>(Receipt1{5});
  REQUIRE(from_first.has_value());
  CHECK(from_first->id == 5);
  CHECK(from_first->text == "none");
  CHECK(from_first->lines == std::vector<int>{7});
  const auto from_second = evolved<Receipt3>(Receipt2{6, "six"});
  REQUIRE(from_second.has_value());
  CHECK(from_second->id == 6);
  CHECK(from_second->text == "six");
  CHECK(from_second->lines == std::vector<int>{7});
  const auto to_array = evolved<Receipt3WithArray>(Receipt2{6, "six"});
  REQUIRE(to_array.has_value());
  CHECK(to_array->text == "six");
  CHECK(to_array->lines == std::vector<int>{7});
  CHECK(to_array->codes[0] == 8);
  CHECK(to_array->codes[1] == 9);
  const auto fields = evolved<Fields2>(Fields1{});
  REQUIRE(fields.has_value());
  CHECK(fields->b == 2);
}

TEST_CASE("KEY-16: a result of any other shape is refused, never read as something else") {
  CHECK_FALSE(evolved<Receipt1>(Receipt2{1, "a"}).has_value());
  CHECK_FALSE(evolved<Receipt2>(Other{1, "a"}).has_value());
  CHECK_FALSE(evolved<long long>(1).has_value());
  CHECK_FALSE(evolved<std::int64_t>(std::int32_t{1}).has_value());
  CHECK_FALSE(evolved<std::pair<int, std::string>>(Receipt2{1, "a"}).has_value());
  CHECK_FALSE(evolved<std::vector<Receipt2>>(std::vector<Receipt1>{{1}}).has_value());
  CHECK_FALSE(evolved<std::optional<int>>(std::unique_ptr<int>()).has_value());
  // The shape of two fields over the bytes of one.
  const idem::detail::Bytes bytes = encoded(Receipt1{1}, idem::Form::exact);
  idem::Reader in(bytes.data(), bytes.size());
  std::optional<Receipt2> slot;
  CHECK_FALSE(idem::detail::decode_result<Receipt2>(in, shape_fingerprint<Receipt2>(), slot));
}

TEST_CASE("KEY-16: what was added without a default is not made up") {
  const auto grown = evolved<Stamped2>(Stamped1{Stamp(4)});
  CHECK_FALSE(grown.has_value());
  const auto same = evolved<Stamped2>(Stamped2{Stamp(4), Stamp(5)});
  REQUIRE(same.has_value());
  CHECK(same->last.number() == 5);
  const auto with_default = evolved<Stamped3>(Stamped1{Stamp(4)});
  REQUIRE(with_default.has_value());
  CHECK(with_default->first.number() == 4);
  CHECK(with_default->last.number() == 9);
}
