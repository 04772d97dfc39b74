// An expected, of the standard library or of another, is a result like any other: an error is no missing value.
#include "codec_bytes.hpp"

#include <idem/codec.hpp>

#include <doctest/doctest.h>

#include <optional>
#include <string>
#include <utility>
#include <variant>

namespace codec_expected {

// std::expected came with C++23; this has the members that it and its forerunners share.
template <class E>
struct Unexpected {
  explicit Unexpected(E error) : error_(std::move(error)) {}
  E error_;
};

template <class T, class E>
class Expected {
 public:
  using value_type = T;
  using error_type = E;
  using unexpected_type = Unexpected<E>;
  Expected(std::in_place_t, T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Expected(Unexpected<E> error) : state_(std::in_place_index<1>, std::move(error.error_)) {}
  bool has_value() const { return state_.index() == 0; }
  const T& operator*() const { return *std::get_if<0>(&state_); }
  const E& error() const { return *std::get_if<1>(&state_); }

 private:
  std::variant<T, E> state_;
};

template <class E>
class Expected<void, E> {
 public:
  using value_type = void;
  using error_type = E;
  using unexpected_type = Unexpected<E>;
  Expected() = default;
  Expected(Unexpected<E> error) : state_(std::move(error.error_)) {}
  bool has_value() const { return !state_.has_value(); }
  void operator*() const {}
  const E& error() const { return *state_; }

 private:
  std::optional<E> state_;
};

using Number = Expected<int, std::string>;
using Done = Expected<void, int>;

}  // namespace codec_expected

using namespace codec_expected;

TEST_CASE("T-55: a value and an error of an expected both come back") {
  static_assert(idem::KeyPart<Number> && idem::Storable<Number> && idem::Storable<Done>);
  static_assert(!idem::KeyPart<Expected<int, int*>> && !idem::Storable<Expected<void, const char*>>);
  CHECK(codec_test::exact_hex(Number(std::in_place, 0)) == "1000" "030000000000000000");
  CHECK(codec_test::exact_hex(Number(Unexpected<std::string>(""))) == "1001" "0900");
  CHECK(codec_test::exact_hex(Done()) == "1000" "01");
  CHECK(codec_test::comes_back(Number(std::in_place, 0)));
  CHECK(codec_test::comes_back(Number(Unexpected<std::string>(""))));
  CHECK(codec_test::comes_back(Done()));
  CHECK(codec_test::comes_back(Done(Unexpected<int>(5))));
  CHECK(idem::codec<Number>::shape == "<i32!s>");
  CHECK(idem::codec<Done>::shape == "<n!i32>");
}

TEST_CASE("T-55: values that look like nothing are values") {
  CHECK(codec_test::comes_back(0));
  CHECK(codec_test::comes_back(false));
  CHECK(codec_test::comes_back(std::string()));
  CHECK(codec_test::comes_back(std::optional<int>()));
  CHECK(codec_test::comes_back(std::optional<std::optional<int>>(std::optional<int>())));
  CHECK(codec_test::comes_back(std::variant<std::monostate, int>()));
}
