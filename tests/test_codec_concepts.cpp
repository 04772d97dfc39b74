// What can be a key or a result, and what can't, is known at compile time.
#include "codec_bytes.hpp"

#include <idem/codec.hpp>

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <deque>
#include <filesystem>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <variant>
#include <vector>

namespace codec_concepts {

using idem::KeyPart;
using idem::Storable;

template <class T>
constexpr bool both = KeyPart<T> && Storable<T>;
template <class T>
constexpr bool neither = !KeyPart<T> && !Storable<T>;
template <class T>
constexpr bool only_key = KeyPart<T> && !Storable<T>;
template <class T>
constexpr bool only_result = !KeyPart<T> && Storable<T>;

enum class Color { red };
enum Old { old_one };
struct Point {
  int x;
  double y;
};
struct WithPointer {
  int x;
  int* y;
};
struct WithReference {
  int x;
  const int& y;
};
struct WithView {
  std::string_view text;
};
struct WithWide {
  std::wstring text;
};
struct Function {
  int operator()(int) const;
};
struct TemplateFunction {
  template <class T>
  T operator()(T) const;
};
struct FunctionWithFields {
  int factor;
  int operator()(int) const;
};
union Union {
  int a;
  float b;
};
struct Deleter {
  void operator()(int*) const;
};
class Opaque {
 public:
  explicit Opaque(int);

 private:
  int value_;
};
struct Incomplete;
struct Abstract {
  virtual void f() = 0;
  virtual ~Abstract() = default;
};
struct UserClock {
  using rep = long;
  using period = std::milli;
  using duration = std::chrono::duration<rep, period>;
  using time_point = std::chrono::time_point<UserClock>;
  static constexpr bool is_steady = false;
  static time_point now();
};
// Like the JSON values of several libraries: a container of itself.
class Json {
 public:
  using value_type = Json;
  const Json* begin() const;
  const Json* end() const;
  std::size_t size() const;
  void clear();
  void push_back(const Json&);

 private:
  int value_ = 0;
};

struct KeyOnly {
  int value;
};
struct NoShape {
  int value;
};

}  // namespace codec_concepts

template <>
struct idem::codec<codec_concepts::KeyOnly> {
  static void encode(idem::Writer& out, const codec_concepts::KeyOnly& v) { out.write(v.value); }
};
template <>
struct idem::codec<codec_concepts::NoShape> {
  static void encode(idem::Writer& out, const codec_concepts::NoShape& v) { out.write(v.value); }
  static codec_concepts::NoShape decode(idem::Reader& in) { return {in.read<int>()}; }
};
// A class template of the program, and a type that idem would have known by itself.
namespace codec_concepts {
template <class T>
class Money {
 public:
  explicit Money(T amount) : amount_(amount) {}
  T amount() const { return amount_; }

 private:
  T amount_;
};
}  // namespace codec_concepts
template <class T>
struct idem::codec<codec_concepts::Money<T>> {
  static constexpr std::string_view shape = "money";
  static void encode(idem::Writer& out, const codec_concepts::Money<T>& v) { out.write(v.amount()); }
  static codec_concepts::Money<T> decode(idem::Reader& in) { return codec_concepts::Money<T>(in.read<T>()); }
};
template <>
struct idem::codec<std::vector<codec_concepts::Opaque>> {
  static void encode(idem::Writer& out, const std::vector<codec_concepts::Opaque>& v) { out.write(v.size()); }
};

namespace codec_concepts {

// Scalars and strings.
static_assert(both<int> && both<long long> && both<char> && both<char8_t> && both<wchar_t> && both<char32_t>);
static_assert(both<bool> && both<float> && both<double> && both<Color> && both<Old> && both<std::byte>);
static_assert(both<std::string> && both<std::u8string>);
static_assert(KeyPart<const int&> && KeyPart<std::string&&> && KeyPart<const char (&)[4]> && KeyPart<volatile int>);
static_assert(Storable<const int> && !Storable<int&> && !Storable<const int&> && !Storable<int&&>);
static_assert(only_key<std::string_view> && only_key<std::u8string_view> && only_key<const char*> &&
              only_key<const char8_t*>);
static_assert(neither<long double> && neither<std::wstring> && neither<std::u16string> && neither<std::u32string> &&
              neither<std::wstring_view>);
#ifdef __SIZEOF_INT128__
static_assert(both<idem::detail::Wide> && both<idem::detail::UnsignedWide>);
#endif

// Addresses, code and identity.
static_assert(neither<int*> && neither<const int*> && neither<char*> && neither<void*> && neither<const wchar_t*> &&
              neither<std::nullptr_t> && neither<int (*)(int)> && neither<int(int)> && neither<int Point::*> &&
              neither<void>);
static_assert(neither<std::reference_wrapper<int>> && neither<std::function<int()>> && neither<std::weak_ptr<int>> &&
              neither<std::thread::id> && neither<std::atomic<int>>);
static_assert(neither<Function> && neither<TemplateFunction> && both<FunctionWithFields>);
inline auto lambda = [] { return 1; };
inline auto generic_lambda = [](auto x) { return x; };
static_assert(neither<decltype(lambda)> && neither<decltype(generic_lambda)>);
static_assert(neither<WithPointer> && neither<WithReference> && neither<WithWide> && only_key<WithView>);
static_assert(neither<std::vector<int*>> && neither<std::optional<std::wstring>> && neither<std::tuple<int, int&>> &&
              neither<std::map<std::string, void*>> && neither<std::shared_ptr<Incomplete>> &&
              neither<std::unique_ptr<Abstract>>);
static_assert(neither<std::vector<int>::iterator> && neither<std::list<int>::iterator> &&
              neither<std::map<int, int>::const_iterator>);
static_assert(neither<Union> && neither<Opaque> && neither<Json> && neither<std::vector<Json>>);

// Containers.
static_assert(both<std::vector<int>> && both<std::vector<bool>> && both<std::deque<std::string>> &&
              both<std::list<Point>> && both<std::array<int, 3>> && both<std::array<int, 0>>);
static_assert(both<std::set<int>> && both<std::multiset<int>> && both<std::unordered_set<std::string>> &&
              both<std::unordered_multiset<int>> && both<std::map<int, Point>> && both<std::multimap<int, int>> &&
              both<std::unordered_map<std::string, std::vector<int>>> && both<std::unordered_multimap<int, int>>);
static_assert(only_key<std::span<const int>> && only_key<std::span<int, 3>> && neither<std::span<int*>>);
static_assert(both<std::pair<int, std::string>> && both<std::tuple<>> && both<std::tuple<int, Color, Point>>);
static_assert(both<std::optional<int>> && both<std::unique_ptr<int>> && both<std::shared_ptr<const Point>> &&
              both<std::variant<std::monostate, int>> && both<std::monostate>);
static_assert(only_key<std::unique_ptr<int, Deleter>> && neither<std::unique_ptr<int[]>>);
static_assert(KeyPart<int[3]> && KeyPart<int[2][3]> && KeyPart<char[5]> && neither<int[]>);
static_assert(both<Point> && both<std::vector<std::map<std::string, std::optional<Point>>>>);

// Time, paths, errors.
static_assert(both<std::chrono::seconds> && both<std::chrono::nanoseconds> &&
              both<std::chrono::duration<unsigned char, std::ratio<7, 3>>> &&
              both<std::chrono::system_clock::time_point> && both<std::chrono::sys_days>);
static_assert(only_result<std::chrono::duration<double>>);
static_assert(neither<std::chrono::steady_clock::time_point> && neither<UserClock::time_point> &&
              neither<std::chrono::duration<long double>> &&
              neither<std::chrono::time_point<std::chrono::steady_clock, std::chrono::seconds>>);
static_assert(both<std::filesystem::path> && both<std::error_code> && both<std::error_condition>);

// Codecs of the program.
static_assert(only_key<KeyOnly> && only_key<NoShape> && both<Money<int>> && both<std::optional<Money<long>>>);
static_assert(only_key<std::vector<KeyOnly>> && only_key<std::vector<Opaque>>);

template <class T>
std::string refusal(const T& value) {
  idem::detail::Bytes bytes;
  idem::Writer out(bytes, idem::Form::key);
  out.write(value);
  return out.ok() ? "" : out.error();
}

}  // namespace codec_concepts

using namespace codec_concepts;

TEST_CASE("KEY-06: what has no value of its own is refused when the program is compiled") {
  // The assertions above are the test; these show that a refusal has its reason.
  using idem::detail::key_refusal;
  using idem::detail::Refusal;
  using idem::detail::result_refusal;
  CHECK(key_refusal<int*> == Refusal::raw_pointer);
  CHECK(key_refusal<std::vector<WithPointer>> == Refusal::raw_pointer);
  CHECK(key_refusal<int (*)()> == Refusal::function);
  CHECK(key_refusal<decltype(lambda)> == Refusal::function_object);
  CHECK(key_refusal<decltype(generic_lambda)> == Refusal::function_object);
  CHECK(key_refusal<TemplateFunction> == Refusal::function_object);
  CHECK(key_refusal<std::function<void()>> == Refusal::function_object);
  CHECK(key_refusal<std::reference_wrapper<int>> == Refusal::reference_wrapper);
  CHECK(key_refusal<std::wstring> == Refusal::wide_string);
  CHECK(key_refusal<std::chrono::steady_clock::time_point> == Refusal::steady_clock);
  CHECK(key_refusal<UserClock::time_point> == Refusal::other_clock);
  CHECK(key_refusal<std::chrono::duration<double>> == Refusal::floating_duration);
  CHECK(key_refusal<WithReference> == Refusal::reference);
  CHECK(key_refusal<Union> == Refusal::union_type);
  CHECK(key_refusal<Opaque> == Refusal::no_codec);
  CHECK(key_refusal<long double> == Refusal::long_double);
  CHECK(result_refusal<std::optional<std::string_view>> == Refusal::view);
  CHECK(result_refusal<KeyOnly> == Refusal::no_decode);
  CHECK(result_refusal<NoShape> == Refusal::no_shape);
  CHECK(result_refusal<std::unique_ptr<int, Deleter>> == Refusal::custom_deleter);
}

TEST_CASE("KEY-03: what only a value can show is refused at run time, without the value in the reason") {
  CHECK(refusal(0.0 / std::strtod("0", nullptr)).find("NaN") != std::string::npos);
  CHECK(refusal(std::vector<float>{1, std::strtof("nan", nullptr)}).find("NaN") != std::string::npos);
  const char* none = nullptr;
  CHECK(refusal(none).find("null C string") != std::string::npos);
  CHECK(refusal(std::vector<const char*>{"a", none}).find("null C string") != std::string::npos);
  CHECK(refusal(1.0) == "");
}

TEST_CASE("SER-08: the first reason wins, and a limit is kept") {
  idem::detail::Bytes bytes("abc", 3);
  idem::Writer out(bytes, idem::Form::exact, 10);
  out.write(1);
  CHECK(out.ok());
  CHECK(bytes.size() == 12);
  out.write(std::string("longer than one byte"));
  CHECK_FALSE(out.ok());
  CHECK(out.too_large());
  CHECK(bytes.size() <= 13);
  out.refuse("something else");
  CHECK(std::string(out.error()).find("larger") != std::string::npos);
  out.write(true);
  CHECK(bytes.size() <= 13);
  idem::detail::Bytes others;
  idem::Writer refused(others, idem::Form::exact);
  refused.refuse("first");
  refused.refuse("second");
  CHECK(std::string(refused.error()) == "first");
  CHECK_FALSE(refused.too_large());
}
