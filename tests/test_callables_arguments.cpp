// How arguments reach the function: a guard has the function's own parameter list.
#include <idem/idem.hpp>

#include <doctest/doctest.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace callables_arguments {

struct Point {
  int x = 0;
  int y = 0;
};
struct Order {
  int id = 0;
  std::vector<Point> stops = {};
};

/// Says what was done to it.
struct Tracked {
  int id = 0;
  int copies = 0;
  int moves = 0;
  explicit Tracked(int number) : id(number) {}
  Tracked(const Tracked& other) : id(other.id), copies(other.copies + 1), moves(other.moves) {}
  Tracked(Tracked&& other) noexcept : id(other.id), copies(other.copies), moves(other.moves + 1) {}
  friend auto idem_fields(const Tracked& self) { return std::tie(self.id); }
};

inline int runs = 0;

int sum(Point p) {
  return ++runs, p.x + p.y;
}
int of_long(long value) {
  return ++runs, static_cast<int>(value);
}
int of_double(double value) {
  return ++runs, static_cast<int>(value * 2);
}
int total(const std::vector<int>& values, std::optional<int> extra) {
  ++runs;
  int all = extra.value_or(0);
  for (const int value : values) all += value;
  return all;
}
int shipped(const Order& order, std::string_view note) {
  return ++runs, order.id + static_cast<int>(order.stops.size() + note.size());
}
void change(int& value, int id) {
  ++runs;
  value += id;
}

TEST_CASE("braces and conversions at the call behave as with the function itself") {
  runs = 0;
  CHECK(idem::idempotent<sum>()({1, 2}) == 3);
  CHECK(idem::idempotent<"sum">(sum)({.x = 1, .y = 2}) == 3);
  CHECK(idem::idempotent<of_long>()(1) == 1);
  CHECK(idem::idempotent<of_double>()(1) == 2);
  CHECK(idem::idempotent<total>()({1, 2, 3}, {}) == 6);
  CHECK(idem::idempotent<total>()({1, 2, 3}, 4) == 10);
  CHECK(idem::idempotent<shipped>()({7, {{1, 2}, {3, 4}}}, "xy") == 11);
  CHECK(idem::idempotent<"lambda">([](Point p, std::map<std::string, int> m) { return p.x + m.at("a"); })(
            {1, 2}, {{"a", 5}}) == 6);
  CHECK(runs == 7);

  const auto guard = idem::idempotent<total>();
  CHECK(guard.try_call({1, 2}, {}).value() == 3);
  CHECK(guard.find({1, 2}, {}).has_value());
  CHECK(guard.key({1, 2}, {}) == guard.key(std::vector<int>{1, 2}, std::nullopt));
  CHECK(guard.forget({1, 2}, {}));
  CHECK_FALSE(guard.find({1, 2}, {}).has_value());
}

TEST_CASE("a wrong call doesn't compile, as with the function itself") {
  using OfLong = decltype(idem::idempotent<of_long>());
  static_assert(std::is_invocable_r_v<int, OfLong, short>);
  static_assert(!std::is_invocable_v<OfLong, std::string>);
  static_assert(!std::is_invocable_v<OfLong>);
  static_assert(!std::is_invocable_v<OfLong, int, int>);
  CHECK(true);
}

TEST_CASE("KEY-15: converted arguments are one call when the parameter's value is the same") {
  const auto of_int = idem::idempotent<"int">([](int value) { return ++runs, value; });
  runs = 0;
  CHECK(of_int(1) == 1);
  CHECK(of_int(static_cast<int>(1L)) == 1);
  CHECK(of_int('\x01') == 1);
  CHECK(of_int(true) == 1);
  CHECK(runs == 1);
  CHECK(of_int.key(1) == of_int.key(static_cast<short>(1)));
  const auto text = idem::idempotent<"text">([](const std::string& value) { return ++runs, value; });
  const char array[] = "abc";
  const char* const pointer = array;
  CHECK(text.key("abc") == text.key(std::string{"abc"}));
  CHECK(text.key(array) == text.key(pointer));
  CHECK(text.key(array) == text.key("abc"));
}

TEST_CASE("an argument by value is moved on, never copied; one by reference is the caller's own object") {
  int copies = -1;
  int moves = -1;
  const auto by_value = idem::idempotent<"value">([&](Tracked tracked) {
    copies = tracked.copies;
    moves = tracked.moves;
    return tracked.id;
  });
  by_value(Tracked{1});
  CHECK(copies == 0);
  const Tracked kept{2};
  by_value(kept);
  CHECK(copies == 1);  // what the call itself asks for
  static_cast<void>(moves);

  const void* address = nullptr;
  const auto by_reference = idem::idempotent<"reference">([&](const Tracked& tracked) {
    address = &tracked;
    return tracked.copies + tracked.moves;
  });
  CHECK(by_reference(kept) == 0);
  CHECK(address == &kept);

  const auto by_rvalue = idem::idempotent<"rvalue">([&](Tracked&& tracked) {
    address = &tracked;
    return tracked.copies + tracked.moves;
  });
  Tracked given{3};
  CHECK(by_rvalue(std::move(given)) == 0);
  CHECK(address == &given);
}

TEST_CASE("arguments that can only be moved reach the function, and enter the key by their value") {
  const auto guard = idem::idempotent<"moved">([](std::unique_ptr<int> value, std::vector<std::unique_ptr<int>> more) {
    ++runs;
    return *value + static_cast<int>(more.size());
  });
  runs = 0;
  CHECK(guard(std::make_unique<int>(5), {}) == 5);
  CHECK(guard(std::make_unique<int>(5), {}) == 5);
  CHECK(runs == 1);
  CHECK(guard(std::make_unique<int>(6), {}) == 6);
  CHECK(runs == 2);
  auto value = std::make_unique<int>(5);
  CHECK(guard.find(value, {}).has_value());
  CHECK(value != nullptr);

  const auto forwarded = idem::idempotent<"forwarded">([](auto pointer) { return ++runs, *pointer; });
  CHECK(forwarded(std::make_unique<int>(9)) == 9);
  CHECK(forwarded(std::make_unique<int>(9)) == 9);
  CHECK(runs == 3);
}

TEST_CASE("a duplicate leaves an argument that it would have moved from as it is") {
  const auto taking = idem::idempotent<"taking">([](std::string&& text) {
    const std::string taken = std::move(text);
    return taken.size();
  });
  std::string first(100, 'x');
  CHECK(taking(std::move(first)) == 100);
  std::string second(100, 'x');
  CHECK(taking(std::move(second)) == 100);
  CHECK(second.size() == 100);  // NOLINT: that it wasn't moved from is what is tested
}

TEST_CASE("a mutable reference is handed on where key_from or key_by leaves it out of the key") {
  int balance = 100;
  const auto guard = idem::idempotent<change>(idem::key_from<1>);
  runs = 0;
  guard(balance, 7);
  CHECK(balance == 107);
  guard(balance, 7);
  CHECK(balance == 107);
  CHECK(runs == 1);
  guard(balance, 8);
  CHECK(balance == 115);

  const auto by = idem::idempotent<"by">(
      [](std::string& out, int id) {
        out = "ran";
        return id;
      },
      idem::key_by([](const std::string&, int id) { return id; }));
  std::string out;
  CHECK(by(out, 1) == 1);
  CHECK(out == "ran");
}

TEST_CASE("T-45: the key is made once, before the function changes its argument") {
  const auto guard = idem::idempotent<"T-45">([](std::vector<int> values) {
    ++runs;
    values.push_back(99);
    return values.size();
  });
  runs = 0;
  CHECK(guard({1, 2}) == 3);
  CHECK(guard({1, 2}) == 3);
  CHECK(runs == 1);
  CHECK(guard({1, 2, 99}) == 4);
  CHECK(runs == 2);

  // The same through a reference to the caller's object, of which key_by looks at a part.
  Order order{5, {}};
  const auto by = idem::idempotent<"T-45 by">(
      [](Order& changed) {
        ++runs;
        changed.id = 6;
        return changed.id;
      },
      idem::key_by([](const Order& seen) { return seen.id; }));
  CHECK(by(order) == 6);
  CHECK(order.id == 6);
  order.id = 5;
  const auto again = by.try_call(order);
  CHECK(again.verdict() == idem::Verdict::replayed);
  CHECK(order.id == 5);
  order.id = 6;
  CHECK(by.try_call(order).verdict() == idem::Verdict::executed);
}

TEST_CASE("many arguments, and none") {
  const auto none = idem::idempotent<"none">([] { return ++runs; });
  runs = 0;
  CHECK(none() == 1);
  CHECK(none() == 1);
  const auto many = idem::idempotent<"many">([](int a, bool b, double c, std::string d, Point e, std::vector<int> f,
                                                char g, std::int64_t h, std::optional<int> i, std::pair<int, int> j) {
    ++runs;
    return std::to_string(a + b + static_cast<int>(c) + e.x + static_cast<int>(f.size()) + g + static_cast<int>(h) +
                          i.value_or(0) + j.first) +
           d;
  });
  CHECK(many(1, true, 1.0, "x", {1, 1}, {1}, '\x01', 1, 1, {1, 1}) == "9x");
  CHECK(many(1, true, 1.0, "x", {1, 1}, {1}, '\x01', 1, 1, {1, 1}) == "9x");
  CHECK(runs == 2);
  CHECK(many(1, true, 1.0, "x", {1, 1}, {1}, '\x01', 1, 1, {1, 2}) == "9x");
  CHECK(runs == 3);
}

TEST_CASE("the Context stands first, in the middle or last, and is no argument and not in the key") {
  runs = 0;
  const auto note = [](const idem::Context& run, int a, int b) {
    ++runs;
    return run.key().text() + ' ' + std::to_string(a) + ' ' + std::to_string(b);
  };
  const auto first = idem::idempotent<"context">([&](idem::Context& run, int a, int b) { return note(run, a, b); });
  const auto middle = idem::idempotent<"context">([&](int a, idem::Context& run, int b) { return note(run, a, b); });
  const auto last = idem::idempotent<"context">([&](int a, int b, idem::Context& run) { return note(run, a, b); });
  const auto fixed =
      idem::idempotent<"context">([&](int a, int b, const idem::Context& run) { return note(run, a, b); });
  const std::string expected = first.key(1, 2).text() + " 1 2";
  CHECK(first(1, 2) == expected);
  CHECK(middle(1, 2) == expected);
  CHECK(last(1, 2) == expected);
  CHECK(fixed(1, 2) == expected);
  CHECK(runs == 4);
  CHECK(first(1, 2) == expected);
  CHECK(runs == 4);
  const auto only = idem::idempotent<"only">([](idem::Context& run) { return run.attempt(); });
  CHECK(only() == 1);
  // Positions count arguments, so that the Context has none.
  const auto positions =
      idem::idempotent<"context">([&](int a, idem::Context& run, int b) { return note(run, a, b); }, idem::key_from<1>);
  CHECK(positions.key(1, 2) == positions.key(3, 2));
  CHECK(positions.key(1, 2) != positions.key(1, 3));
}

struct Gateway {
  int number = 0;
  std::string pay(idem::Context& run, int cents) {
    ++runs;
    return run.derived_key("gateway") + std::to_string(cents + number);
  }
};

TEST_CASE("a member function has its Context, too") {
  Gateway gateway{5};
  runs = 0;
  const auto pay = idem::idempotent<&Gateway::pay>(idem::any_object);
  const std::string paid = pay(gateway, 10);
  CHECK(paid == pay.key(gateway, 10).derived("gateway") + "15");
  CHECK(pay(gateway, 10) == paid);
  CHECK(runs == 1);
}

}  // namespace callables_arguments
