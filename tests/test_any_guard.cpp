// AnyGuard: any guard behind one type, for class members and interfaces.
#include <idem/idem.hpp>

#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace any_guard {

struct Order {
  int id = 0;
  std::string note = {};
};

/// A class with a guard among its members, whose type can't be written down.
class Shop {
 public:
  explicit Shop(idem::AnyStore store)
      : charge_(idem::idempotent<"shop.charge">([this](const Order& order) { return ++runs_, order.id * 10; },
                                                std::move(store),
                                                idem::key_by([](const Order& order) { return order.id; }))) {}
  Shop(const Shop&) = delete;
  Shop& operator=(const Shop&) = delete;
  int charge(const Order& order) const { return charge_(order); }
  const idem::AnyGuard<int(const Order&)>& guard() const { return charge_; }
  int runs() const { return runs_; }

 private:
  int runs_ = 0;
  idem::AnyGuard<int(const Order&)> charge_;
};

TEST_CASE("a class holds a guard as a member, over any store") {
  idem::MemoryStore store;
  const Shop shop(store);
  CHECK(shop.charge({1, "first"}) == 10);
  CHECK(shop.charge({1, "again"}) == 10);
  CHECK(shop.runs() == 1);
  CHECK(store.stats().completed == 1);
}

TEST_CASE("AnyGuard does all that a guard does") {
  int runs = 0;
  const auto guard =
      idem::idempotent<"any">([&](int a, const std::string& b) { return ++runs, b + std::to_string(a); });
  const idem::AnyGuard<std::string(int, const std::string&)> any = guard;
  CHECK(any(1, "x") == "x1");
  CHECK(any.try_call(1, "x").verdict() == idem::Verdict::replayed);
  CHECK(any.key(1, "x") == guard.key(1, "x"));
  CHECK(any.find(1, "x")->value() == "x1");
  CHECK(any.forget(1, "x"));
  CHECK_FALSE(any.find(1, "x").has_value());
  CHECK_FALSE(any.forget(1, "x"));
  CHECK(runs == 1);
}

TEST_CASE("copies of an AnyGuard share the guard; it can be assigned another") {
  int runs = 0;
  idem::AnyGuard<int(int)> any = idem::idempotent<"one">([&](int value) { return ++runs, value; });
  const idem::AnyGuard<int(int)> copy = any;  // NOLINT: that it's a copy is what is tested
  any(1);
  CHECK(copy.try_call(1).verdict() == idem::Verdict::replayed);
  any = idem::idempotent<"two">([&](int value) { return ++runs, -value; });
  CHECK(any(1) == -1);
  CHECK(copy(1) == 1);
  CHECK(runs == 2);
  const std::vector<idem::AnyGuard<int(int)>> both{any, copy};
  CHECK(both[0](1) == -1);
  CHECK(both[1](1) == 1);
  CHECK(runs == 2);
}

TEST_CASE("AnyGuard takes guards of generic callables, results of void, and arguments that can only be moved") {
  int runs = 0;
  const idem::AnyGuard<int(int)> generic = idem::idempotent<"generic">([&](auto value) { return ++runs, value; });
  CHECK(generic(1) == 1);
  CHECK(generic(1) == 1);
  CHECK(runs == 1);
  const idem::AnyGuard<void(int)> nothing = idem::idempotent<"nothing">([&](int) { ++runs; });
  nothing(1);
  nothing(1);
  CHECK(runs == 2);
  CHECK(nothing.try_call(1).has_value());
  const idem::AnyGuard<int(std::unique_ptr<int>)> moving =
      idem::idempotent<"moving">([&](std::unique_ptr<int> value) { return ++runs, *value; });
  CHECK(moving(std::make_unique<int>(5)) == 5);
  CHECK(moving(std::make_unique<int>(5)) == 5);
  CHECK(runs == 3);
  CHECK(moving.key(std::make_unique<int>(5)) != moving.key(std::make_unique<int>(6)));
}

TEST_CASE("AnyGuard is made of guards with its very result only") {
  using Guard = decltype(idem::idempotent<"convertible">([](int value) { return value; }));
  static_assert(std::is_convertible_v<Guard, idem::AnyGuard<int(int)>>);
  static_assert(std::is_convertible_v<Guard, idem::AnyGuard<int(short)>>);
  static_assert(!std::is_convertible_v<Guard, idem::AnyGuard<double(int)>>);
  static_assert(!std::is_convertible_v<Guard, idem::AnyGuard<int(std::string)>>);
  static_assert(!std::is_convertible_v<Guard, idem::AnyGuard<int()>>);
  static_assert(!std::is_convertible_v<int, idem::AnyGuard<int(int)>>);
  CHECK(true);
}

TEST_CASE("AnyGuard throws what the guard throws") {
  const idem::AnyGuard<int(int)> failing =
      idem::idempotent<"failing">([](int value) -> int { throw std::invalid_argument(std::to_string(value)); });
  CHECK_THROWS_AS(failing(1), std::invalid_argument);
  CHECK(failing.try_call(1).verdict() == idem::Verdict::failed);
}

}  // namespace any_guard
