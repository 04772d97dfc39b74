// The keys of guards: what makes two calls one, and what keeps them apart.
#include <idem/idem.hpp>
#include <idem/testing/lease_store.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

namespace key_guard {

inline int runs = 0;

int charge(int cents) {
  return ++runs, cents;
}
int refund(int cents) {
  return ++runs, cents;
}
int same(std::int32_t value) {
  return ++runs, value;
}
int same(std::int64_t value) {
  return ++runs, static_cast<int>(value);
}
int same(double value) {
  return ++runs, static_cast<int>(value);
}
int same(const std::string& value) {
  return ++runs, static_cast<int>(value.size());
}
enum class Color : std::uint8_t { red = 1 };
int same(Color) {
  return ++runs, 1;
}
namespace inner {
int charge(int cents) {
  return ++runs, cents;
}
enum class Color : std::uint8_t { red = 1 };
int paint(Color) {
  return 1;
}
}  // namespace inner
namespace other {
int paint(Color) {
  return 1;
}
}  // namespace other
template <class T>
T identity(T value) {
  return ++runs, value;
}

/// The number of different keys.
template <class... K>
std::size_t different(const K&... keys) {
  std::set<std::string> texts;
  const auto bytes_of = [](const idem::Key& key) {
    const idem::Digest digest = key.digest();
    return std::string(reinterpret_cast<const char*>(digest.bytes), sizeof digest.bytes);
  };
  (texts.insert(bytes_of(keys)), ...);
  return texts.size();
}

TEST_CASE("KEY-07 T-51: guards with different names never meet, whatever their arguments") {
  idem::MemoryStore store;
  runs = 0;
  const auto a = idem::idempotent<charge>(store);
  const auto b = idem::idempotent<refund>(store);
  const auto c = idem::idempotent<inner::charge>(store);
  const auto d = idem::idempotent<"charge">(charge, store);
  const auto e = idem::idempotent<"refund">(charge, store);
  a(1), b(1), c(1), d(1), e(1);
  CHECK(runs == 5);
  CHECK(different(a.key(1), b.key(1), c.key(1), d.key(1), e.key(1)) == 5);
}

TEST_CASE("KEY-07: overloads of one name have keys of their own, also where their arguments are equal") {
  idem::MemoryStore store;
  runs = 0;
  const auto narrow = idem::idempotent<static_cast<int (*)(std::int32_t)>(same)>(store);
  const auto wide = idem::idempotent<static_cast<int (*)(std::int64_t)>(same)>(store);
  const auto real = idem::idempotent<static_cast<int (*)(double)>(same)>(store);
  const auto text = idem::idempotent<static_cast<int (*)(const std::string&)>(same)>(store);
  const auto color = idem::idempotent<static_cast<int (*)(Color)>(same)>(store);
  narrow(1), wide(1), real(1), text("1"), color(Color::red);
  CHECK(runs == 5);
  CHECK(different(narrow.key(1), wide.key(1), real.key(1), text.key("1"), color.key(Color::red)) == 5);
  CHECK(narrow.key(1).name() == wide.key(1).name());
}

TEST_CASE("KEY-07: parameter types of one name in two namespaces are told apart") {
  // Two functions can't have one name; the same parameter in another place is seen in the shapes.
  CHECK(idem::detail::parameter_shapes<inner::paint>() != idem::detail::parameter_shapes<other::paint>());
}

TEST_CASE("KEY-07: instances of a template and lambdas on one line are told apart by the names they are given") {
  idem::MemoryStore store;
  runs = 0;
  const auto ints = idem::idempotent<"identity.int">(identity<int>, store);
  const auto longs = idem::idempotent<"identity.int64">(identity<std::int64_t>, store);
  ints(1), longs(1);
  CHECK(runs == 2);
  // clang-format off
  const auto one = [](int v) { return ++runs, v; }; const auto two = [](int v) { return ++runs, v; };
  // clang-format on
  const auto f = idem::idempotent<"f">(one, store);
  const auto g = idem::idempotent<"g">(two, store);
  f(1), g(1);
  CHECK(runs == 4);
}

#if IDEM_RTTI
struct WithTemplate {
  template <int N>
  int member(int value) const {
    return value + N;
  }
  template <class T>
  static int fixed(int value) {
    return value;
  }
  int plain(int value) const { return value; }
};

TEST_CASE("KEY-07: an instance of a member template is refused where the compiler hides its arguments") {
  // g++ and clang both spell these without <1> and <2>, so that their keys would meet.
  CHECK_THROWS_AS(idem::idempotent<&WithTemplate::member<1>>(idem::any_object), std::invalid_argument);
  CHECK_THROWS_AS(idem::idempotent<&WithTemplate::member<2>>(idem::any_object), std::invalid_argument);
  CHECK_NOTHROW(idem::idempotent<&WithTemplate::plain>(idem::any_object));
  CHECK_NOTHROW(idem::idempotent<"named">(&WithTemplate::member<1>, idem::any_object));
#if defined(__clang__)  // elsewhere these don't compile
  CHECK_THROWS_AS(idem::idempotent<identity<int>>(), std::invalid_argument);
  CHECK_THROWS_AS(idem::idempotent<&WithTemplate::fixed<int>>(), std::invalid_argument);
#endif
}

TEST_CASE("a mangled name says whether it's a template's instance") {
  using idem::detail::is_template_instance;
  CHECK(is_template_instance("3TagIXadL_Z5fixedILi1EEiiEEE"));
  CHECK(is_template_instance("3TagIXadL_ZN5Plain1nILi3EEEiiEEE"));
  CHECK(is_template_instance("3TagIXadL_ZN3BoxIiE4openEiEEE"));
  CHECK(is_template_instance("3TagIXadL_ZNK5Plain1nILi3EEEiiEEE"));
  CHECK_FALSE(is_template_instance("3TagIXadL_ZN5Plain1mEiEEE"));
  CHECK_FALSE(is_template_instance("3TagIXadL_Z5plainiEEE"));
  CHECK_FALSE(is_template_instance("3TagIXadL_Z5plain3BoxIiEEEE"));  // a parameter of a template's type
  CHECK_FALSE(is_template_instance("3TagIXadL_ZN1a5plainESt6vectorIiSaIiEEEEE"));
  CHECK_FALSE(is_template_instance("3TagIXadL_Z5plainRKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEEEEE"));
  CHECK_FALSE(is_template_instance(""));
  CHECK_FALSE(is_template_instance("XadL_Z"));
  CHECK_FALSE(is_template_instance("XadL_Z99x"));
}
#endif

TEST_CASE("two guards of one function over one store are one") {
  idem::MemoryStore store;
  runs = 0;
  idem::idempotent<charge>(store)(1);
  idem::idempotent<charge>(store)(1);
  idem::idempotent<charge>({.ttl = idem::forever}, store)(1);
  CHECK(runs == 1);
}

TEST_CASE("KEY-14: scope and version are part of the key, and don't run into the name") {
  idem::MemoryStore store;
  runs = 0;
  const auto plain = idem::idempotent<"charge">(charge, store);
  const auto a = idem::idempotent<"charge">(charge, {.scope = "a"}, store);
  const auto b = idem::idempotent<"charge">(charge, {.scope = "b"}, store);
  const auto second = idem::idempotent<"charge">(charge, {.version = 2}, store);
  const auto both = idem::idempotent<"charge">(charge, {.version = 2, .scope = "a"}, store);
  plain(1), a(1), b(1), second(1), both(1);
  plain(1), a(1), b(1), second(1), both(1);
  CHECK(runs == 5);
  const auto bc = idem::idempotent<"a">(charge, {.scope = "bc"}, store);
  const auto c = idem::idempotent<"ab">(charge, {.scope = "c"}, store);
  const auto none = idem::idempotent<"abc">(charge, store);
  CHECK(different(bc.key(1), c.key(1), none.key(1)) == 3);
}

TEST_CASE("KEY-02: a generic callable's arguments enter the key by kind and value") {
  const auto guard = idem::idempotent<"any">([](const auto&) { return ++runs; });
  const auto variant = std::variant<int, std::string>{1};
  CHECK(different(guard.key(1), guard.key(true), guard.key(1.0), guard.key("1"), guard.key(Color::red),
                  guard.key(std::optional<int>{1}), guard.key(std::vector<int>{1}), guard.key(std::set<int>{1}),
                  guard.key(variant)) == 9);
  CHECK(guard.key(1) == guard.key(1L));
  CHECK(guard.key(1) == guard.key(std::uint8_t{1}));
  CHECK(guard.key(1.5) == guard.key(1.5F));
  CHECK(guard.key("x") == guard.key(std::string{"x"}));
  CHECK(guard.key("x") == guard.key(std::string_view{"x"}));
  CHECK(guard.key(std::vector<int>{1}) == guard.key(std::tuple<int>{1}));
}

TEST_CASE("KEY-15: references, const and conversions make no difference, the parameter's type does") {
  const auto of_int = idem::idempotent<"n">([](int value) { return value; });
  const auto of_reference = idem::idempotent<"n">([](const int& value) { return value; });
  const auto of_const = idem::idempotent<"n">([](const int value) { return value; });
  const auto of_rvalue = idem::idempotent<"n">([](int&& value) { return value; });
  const auto of_long = idem::idempotent<"n">([](std::int64_t value) { return value; });
  const auto of_double = idem::idempotent<"n">([](double value) { return value; });
  const auto of_bool = idem::idempotent<"n">([](bool value) { return value; });
  CHECK(of_int.key(1) == of_reference.key(1));
  CHECK(of_int.key(1) == of_const.key(1));
  CHECK(of_int.key(1) == of_rvalue.key(1));
  CHECK(of_int.key(1) == of_long.key(1));
  CHECK(of_int.key(1) != of_double.key(1));
  CHECK(of_int.key(1) != of_bool.key(1));
  CHECK(of_double.key(1) == of_double.key(1.0));
  CHECK(of_double.key(0.0) == of_double.key(-0.0));

  const auto of_string = idem::idempotent<"s">([](std::string value) { return value; });
  const auto of_view = idem::idempotent<"s">([](std::string_view value) { return value.size(); });
  const auto of_pointer = idem::idempotent<"s">([](const char* value) { return std::string(value); });
  CHECK(of_string.key("x") == of_view.key("x"));
  CHECK(of_string.key("x") == of_pointer.key("x"));
}

TEST_CASE("KEY-16: another parameter type makes new keys under a derived name, another argument under any") {
  const auto one = idem::idempotent<"n">([](int a) { return a; });
  const auto two = idem::idempotent<"n">([](int a, int b) { return a + b; });
  CHECK(one.key(1) != two.key(1, 0));
  // A record whose result is of another type now is never decoded as something else, and never runs again.
  idem::MemoryStore store;
  idem::testing::LeaseStore bytes;
  runs = 0;
  const auto check = [](auto& kept) {
    idem::idempotent<"result">([](int) { return ++runs, 5; }, kept)(1);
    const auto changed = idem::idempotent<"result">([](int) { return ++runs, std::string("5"); }, kept);
    const auto outcome = changed.try_call(1);
    CHECK(outcome.verdict() == idem::Verdict::corrupt);
    CHECK(outcome.error().effect == idem::Effect::ran);
    CHECK_THROWS_AS(changed(1), idem::CorruptRecordError);
  };
  check(store);
  check(bytes);
  CHECK(runs == 2);
}

TEST_CASE("T-52: separators, paths, NUL and lengths don't collapse") {
  const auto two = idem::idempotent<"t">([](const std::string& a, const std::string& b) { return a + b; });
  CHECK(two.key("a:b", "c") != two.key("a", "b:c"));
  CHECK(two.key("a", "b") != two.key("b", "a"));
  CHECK(two.key("", "ab") != two.key("ab", ""));
  CHECK(two.key("../x", "") != two.key("x", ""));
  CHECK(two.key(std::string("a\0b", 3), "") != two.key("a", ""));
  CHECK(two.key(std::string(300, 'x'), "") != two.key(std::string(299, 'x'), "x"));
  CHECK(two.key("A", "") != two.key("a", ""));
  // KEY-17: bytes are identity, not what they look like.
  CHECK(two.key("gr\xc3\xbc\xc3\x9f", "") != two.key("gru\xcc\x88\xc3\x9f", ""));
}

TEST_CASE("KEY-13: a secret changes key, digest and derived keys; another secret gives others") {
  const auto plain = idem::idempotent<charge>();
  const auto keyed = idem::idempotent<charge>(idem::keyed_with("0123456789abcdef"));
  const auto again = idem::idempotent<charge>(idem::keyed_with("0123456789abcdef"));
  const auto other = idem::idempotent<charge>(idem::keyed_with("fedcba9876543210"));
  CHECK(different(plain.key(1), keyed.key(1), other.key(1)) == 3);
  CHECK(keyed.key(1) == again.key(1));
  CHECK(keyed.key(1).digest() == again.key(1).digest());
  CHECK(keyed.key(1) != plain.key(1));
  CHECK(keyed.key(1).derived("x") == again.key(1).derived("x"));
  CHECK(keyed.key(1).derived("x") != plain.key(1).derived("x"));
  CHECK(keyed.key(1).derived("x") != other.key(1).derived("x"));
}

TEST_CASE("a key's text is its name, its version and its digest, and holds no argument") {
  const auto guard = idem::idempotent<"card">([](const std::string&) { return 1; }, {.version = 7, .scope = "tenant"});
  const std::string secret = "4242424242424242";
  const idem::Key key = guard.key(secret);
  const std::string text = key.text();
  REQUIRE(text.size() == 7 + 64);
  CHECK(text.substr(0, 7) == "card@7:");
  CHECK(text.find_first_not_of("0123456789abcdef", 7) == std::string::npos);
  CHECK(text.find(secret) == std::string::npos);
  CHECK(key.name() == "card");
  CHECK(key.version() == 7);
  CHECK(guard.key(secret).text() == text);
  CHECK(guard.key("4242424242424243").text() != text);
  idem::Key none;
  CHECK_FALSE(none.valid());
  CHECK(none.text() == "(no key)");
  CHECK(none.derived("x").empty());
}

bool uuid_shaped(const std::string& text) {
  if (text.size() != 36) return false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool dash = i == 8 || i == 13 || i == 18 || i == 23;
    if (dash ? text[i] != '-' : std::string_view("0123456789abcdef").find(text[i]) == std::string_view::npos)
      return false;
  }
  return text[14] == '8' && std::string_view("89ab").find(text[19]) != std::string_view::npos;
}

TEST_CASE("a derived key is shaped like a UUID, stable over attempts, and another for each label and call") {
  std::vector<std::string> seen;
  int attempts = 0;
  const auto guard = idem::idempotent<"derived">([&](int id, idem::Context& run) {
    seen.push_back(run.derived_key("gateway"));
    if (++attempts == 1) throw std::runtime_error("down");
    return id;
  });
  CHECK_THROWS_AS(guard(1), std::runtime_error);
  CHECK(guard(1) == 1);
  REQUIRE(seen.size() == 2);
  CHECK(seen[0] == seen[1]);
  CHECK(seen[0] == guard.key(1).derived("gateway"));
  const idem::Key key = guard.key(1);
  std::set<std::string> all;
  for (const char* label : {"gateway", "mail", "", "Gateway", "gateway "}) {
    CHECK(uuid_shaped(key.derived(label)));
    CHECK(all.insert(key.derived(label)).second);
  }
  CHECK(all.insert(guard.key(2).derived("gateway")).second);
}

TEST_CASE("KEY-03: NaN has no key: nothing runs, nothing is stored") {
  idem::MemoryStore store;
  runs = 0;
  const auto guard = idem::idempotent<"nan">([](double value) { return ++runs, value; }, store);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto outcome = guard.try_call(nan);
  CHECK(outcome.verdict() == idem::Verdict::invalid_key);
  CHECK(outcome.error().effect == idem::Effect::not_run);
  CHECK_THROWS_AS(guard(nan), idem::SerializationError);
  CHECK_THROWS_AS(guard.key(nan), idem::SerializationError);
  CHECK_THROWS_AS(guard.find(nan), idem::SerializationError);
  CHECK_THROWS_AS(guard.forget(nan), idem::SerializationError);
  CHECK(runs == 0);
  CHECK(store.stats().records == 0);
}

template <class F>
idem::Verdict verdict_with(F by) {
  return idem::idempotent<"empty">([](int value) { return ++runs, value; }, idem::key_by(by)).try_call(1).verdict();
}

TEST_CASE("CORE-15: key_by that gives an empty string, nothing or an empty container is refused") {
  runs = 0;
  using idem::Verdict;
  CHECK(verdict_with([](int) { return std::string{}; }) == Verdict::invalid_key);
  CHECK(verdict_with([](int) { return std::string_view{}; }) == Verdict::invalid_key);
  CHECK(verdict_with([](int) { return ""; }) == Verdict::invalid_key);
  CHECK(verdict_with([](int) { return static_cast<const char*>(nullptr); }) == Verdict::invalid_key);
  CHECK(verdict_with([](int) { return std::optional<int>{}; }) == Verdict::invalid_key);
  CHECK(verdict_with([](int) { return std::unique_ptr<int>{}; }) == Verdict::invalid_key);
  CHECK(verdict_with([](int) { return std::vector<int>{}; }) == Verdict::invalid_key);
  CHECK(runs == 0);
  CHECK(verdict_with([](int) { return std::string{" "}; }) == Verdict::executed);
  CHECK(verdict_with([](int) { return "x"; }) == Verdict::executed);
  CHECK(verdict_with([](int) { return 0; }) == Verdict::executed);
  CHECK(verdict_with([](int) { return false; }) == Verdict::executed);
  CHECK(verdict_with([](int) { return std::optional<int>{0}; }) == Verdict::executed);
  CHECK(runs == 5);
}

TEST_CASE("key_by that throws means no key, and nothing runs") {
  runs = 0;
  CHECK(verdict_with([](int value) -> int { throw value; }) == idem::Verdict::invalid_key);
  CHECK(runs == 0);
}

TEST_CASE("an empty argument of the call itself is a key like any other") {
  const auto guard = idem::idempotent<"empty">([](const std::string& text) { return text.size(); });
  CHECK(guard.try_call("").verdict() == idem::Verdict::executed);
  CHECK(guard.try_call("").verdict() == idem::Verdict::replayed);
}

TEST_CASE("key_by and key_from say all that enters the key, key_by of the chosen value alone") {
  const auto f = [](int id, const std::string& name, double) { return ++runs, name + std::to_string(id); };
  const auto by = idem::idempotent<"f">(f, idem::key_by([](int id, const auto&...) { return id; }));
  const auto from = idem::idempotent<"f">(f, idem::key_from<0>);
  const auto whole = idem::idempotent<"f">(f);
  CHECK(by.key(1, "a", 1) == by.key(1, "b", 2));
  CHECK(by.key(1, "a", 1) != by.key(2, "a", 1));
  CHECK(by.key(1, "a", 1) == from.key(1, "b", 3));
  CHECK(whole.key(1, "a", 1) != whole.key(1, "b", 1));
  CHECK(whole.key(1, "a", 1) != from.key(1, "a", 1));
  runs = 0;
  CHECK(by(1, "a", 1) == "a1");
  CHECK(by(1, "b", 2) == "a1");
  CHECK(runs == 1);
  const auto two = idem::idempotent<"f">(f, idem::key_from<0, 2>);
  CHECK(two.key(1, "a", 1) == two.key(1, "b", 1));
  CHECK(two.key(1, "a", 1) != two.key(1, "a", 2));
  // NaN that doesn't enter the key does no harm.
  CHECK(by.try_call(5, "nan", std::numeric_limits<double>::quiet_NaN()).verdict() == idem::Verdict::executed);
}

TEST_CASE("the key that a guard tells is the one in its outcome, its errors and the Context") {
  std::string inside;
  const auto guard = idem::idempotent<"where">(
      [&](int id, idem::Context& run) {
        inside = run.key().text();
        if (id == 2) throw std::runtime_error("no");
        return id;
      },
      {.on_duplicate = idem::OnDuplicate::raise});
  const std::string text = guard.key(1).text();
  CHECK(guard.try_call(1).key().text() == text);
  CHECK(inside == text);
  CHECK(guard.find(1)->key().text() == text);
  try {
    guard(1);
    CHECK(false);
  } catch (const idem::DuplicateExecutionError& error) {
    CHECK(error.key().text() == text);
    CHECK(error.key() == guard.key(1));
  }
}

}  // namespace key_guard
