// Types and functions whose names and shapes are part of golden keys: renaming one here makes a test turn red.
#pragma once

#include <idem/codec.hpp>
#include <idem/context.hpp>

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <variant>
#include <vector>

namespace golden {

enum class Color : std::uint8_t { red = 1, green = 2, blue = 200 };
enum class Level : std::int64_t { low = -5'000'000'000, none = 0, high = 5'000'000'000 };
enum Plain : int { plain_zero, plain_one };

struct Empty {};
struct Point {
  std::int32_t x = 0;
  std::int32_t y = 0;
};
struct Padded {
  std::int8_t small = 0;
  double large = 0;
  bool flag = false;
};
struct Name {
  char text[8] = {};
  std::uint16_t codes[3] = {};
};
struct Order {
  std::int64_t id = 0;
  std::string customer = {};
  std::vector<Point> stops = {};
  std::optional<double> discount = {};
  Color color = Color::red;
};
struct Nested {
  Order order = {};
  Empty nothing = {};
  std::array<Point, 2> corners = {};
};
struct Tree {
  int value = 0;
  std::vector<Tree> children = {};
};

/// Taken apart by idem_fields.
class Money {
 public:
  Money(std::int64_t cents, std::string currency) : cents_(cents), currency_(std::move(currency)) {}
  friend auto idem_fields(auto& self) { return std::tie(self.cents_, self.currency_); }

 private:
  std::int64_t cents_;
  std::string currency_;
};

/// Has a codec of its own.
class Card {
 public:
  explicit Card(std::string digits) : digits_(std::move(digits)) {}
  const std::string& digits() const { return digits_; }

 private:
  std::string digits_;
};

// Free functions, named by themselves.
inline int nothing() {
  return 0;
}
inline int charge(int cents) {
  return cents;
}
inline int charge_noexcept(int cents) noexcept {
  return cents;
}
inline int overloaded(std::int32_t value) {
  return value;
}
inline int overloaded(std::int64_t value) {
  return static_cast<int>(value);
}
inline int overloaded(std::uint32_t value) {
  return static_cast<int>(value);
}
inline int overloaded(double value) {
  return static_cast<int>(value);
}
inline int overloaded(const std::string& value) {
  return static_cast<int>(value.size());
}
inline int overloaded(Color value) {
  return static_cast<int>(value);
}
inline int overloaded(const Point& value) {
  return value.x;
}
inline int overloaded(std::int32_t a, std::int32_t b) {
  return a + b;
}
inline int paint(Color color, Level level) {
  return static_cast<int>(color) + static_cast<int>(level);
}
inline int ship(const Order& order, std::string_view note) {
  return static_cast<int>(order.id) + static_cast<int>(note.size());
}
inline int with_context(idem::Context&, int cents) {
  return cents;
}
inline int pays(const Money& money, const Card& card) {
  static_cast<void>(money);
  return static_cast<int>(card.digits().size());
}
inline int many(std::optional<int> a, std::variant<int, std::string> b, std::vector<std::string> c,
                std::tuple<int, bool> d) {
  return a.value_or(0) + static_cast<int>(b.index() + c.size()) + std::get<0>(d);
}
inline int ignores_pointer(int id, const Point* where) {
  return id + (where != nullptr ? where->x : 0);
}
inline int changes(int id, std::string& out) {
  out = "changed";
  return id;
}

namespace inner {
inline int charge(int cents) {
  return cents;
}
enum class Color : std::uint8_t { red = 1 };
inline int paint(Color color) {
  return static_cast<int>(color);
}
}  // namespace inner

class Account {
 public:
  explicit Account(int id) : id_(id) {}
  int deposit(int cents) { return balance_ += cents; }
  int balance(int at) const { return balance_ + at; }
  int close() noexcept { return balance_; }
  static int open(int id) { return id; }
  int id() const { return id_; }

 private:
  int id_;
  int balance_ = 0;
};

/// An object that can be part of the key.
struct Terminal {
  int number = 0;
  std::string shop = {};
  int print(int page) const { return number + page; }
};

}  // namespace golden

template <>
struct idem::codec<golden::Card> {
  static constexpr std::string_view shape = "card 1";
  static void encode(Writer& writer, const golden::Card& card) { writer.write(card.digits()); }
  static golden::Card decode(Reader& reader) { return golden::Card{reader.read<std::string>()}; }
};
