// T-55: every kind of result is replayed as it was, by stores of objects and by stores of bytes.
#include <idem/idem.hpp>
#include <idem/testing/lease_store.hpp>

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace callables_results {

inline int runs = 0;

struct Receipt {
  int id = 0;
  std::string text = {};
  std::vector<double> lines = {};
  friend bool operator==(const Receipt&, const Receipt&) = default;
};
enum class Status : std::uint8_t { none, paid, refused };

/// A function's error by value, as libraries before std::expected have it.
class Result {
 public:
  static Result good(int value) { return Result(value, {}); }
  static Result bad(std::string why) { return Result(0, std::move(why)); }
  Result() = default;
  friend bool operator==(const Result&, const Result&) = default;
  friend auto idem_fields(auto& self) { return std::tie(self.value_, self.why_); }

 private:
  Result(int value, std::string why) : value_(value), why_(std::move(why)) {}
  int value_ = 0;
  std::string why_ = {};
};

/// Can be copied, but not assigned, compared or made of nothing.
class Ticket {
 public:
  explicit Ticket(int number) : number_(number) {}
  Ticket(const Ticket&) = default;
  Ticket& operator=(const Ticket&) = delete;
  int number() const { return number_; }

 private:
  const int number_;
};

template <class Store, class R>
bool comes_back(const R& value) {
  Store store;
  const auto guard = idem::idempotent<"result">(
      [&](int) {
        ++runs;
        return value;
      },
      store);
  runs = 0;
  const idem::Outcome<R> first = guard.try_call(1);
  const idem::Outcome<R> second = guard.try_call(1);
  const std::optional<idem::Outcome<R>> found = guard.find(1);
  static_assert(std::is_same_v<decltype(guard(1)), R>);
  return runs == 1 && first.verdict() == idem::Verdict::executed && first.value() == value &&
         second.verdict() == idem::Verdict::replayed && second.value() == value && guard(1) == value &&
         found.has_value() && found->value() == value && found->verdict() == idem::Verdict::replayed;
}

using idem::MemoryStore;
using idem::testing::LeaseStore;

TEST_CASE_TEMPLATE("T-55: false, zero, empty and absent results are results", Store, MemoryStore, LeaseStore) {
  CHECK(comes_back<Store>(false));
  CHECK(comes_back<Store>(0));
  CHECK(comes_back<Store>(0.0));
  CHECK(comes_back<Store>('\0'));
  CHECK(comes_back<Store>(std::string{}));
  CHECK(comes_back<Store>(std::vector<int>{}));
  CHECK(comes_back<Store>(std::optional<int>{}));
  CHECK(comes_back<Store>(std::optional<std::optional<int>>{std::optional<int>{}}));
  CHECK(comes_back<Store>(std::tuple<>{}));
  CHECK(comes_back<Store>(std::variant<std::monostate, int>{}));
  CHECK(comes_back<Store>(std::shared_ptr<int>{}));
  CHECK(comes_back<Store>(Status::none));
  CHECK(comes_back<Store>(Receipt{}));
}

TEST_CASE_TEMPLATE("results of every kind come back", Store, MemoryStore, LeaseStore) {
  CHECK(comes_back<Store>(true));
  CHECK(comes_back<Store>((std::numeric_limits<std::int64_t>::min)()));
  CHECK(comes_back<Store>((std::numeric_limits<std::uint64_t>::max)()));
  CHECK(comes_back<Store>(-1.5F));
  CHECK(comes_back<Store>(std::numeric_limits<double>::infinity()));
  CHECK(comes_back<Store>(std::string("with a \0 inside", 15)));
  CHECK(comes_back<Store>(std::optional<std::string>{"text"}));
  CHECK(comes_back<Store>(std::pair<int, std::string>{1, "one"}));
  CHECK(comes_back<Store>(std::array<int, 3>{1, 2, 3}));
  CHECK(comes_back<Store>(std::map<std::string, std::vector<int>>{{"a", {1}}, {"b", {}}}));
  CHECK(comes_back<Store>(std::variant<int, std::string>{"text"}));
  CHECK(comes_back<Store>(Status::refused));
  CHECK(comes_back<Store>(Receipt{7, "paid", {1.5, -2.0}}));
}

TEST_CASE_TEMPLATE("a large result comes back whole", Store, MemoryStore, LeaseStore) {
  CHECK(comes_back<Store>(std::string(900'000, 'x')));
  std::vector<Receipt> many;
  for (int i = 0; i < 2000; ++i) many.push_back({i, "receipt", {i * 0.5}});
  CHECK(comes_back<Store>(many));
}

TEST_CASE_TEMPLATE("a function that fails by value has its error replayed as the value that it is", Store, MemoryStore,
                   LeaseStore) {
  CHECK(comes_back<Store>(Result::good(5)));
  CHECK(comes_back<Store>(Result::bad("declined")));
  CHECK(comes_back<Store>(std::variant<Receipt, std::string>{"declined"}));
}

TEST_CASE_TEMPLATE("a function without a result runs once all the same", Store, MemoryStore, LeaseStore) {
  Store store;
  const auto guard = idem::idempotent<"void">([](int) { ++runs; }, store);
  static_assert(std::is_void_v<decltype(guard(1))>);
  runs = 0;
  guard(1);
  guard(1);
  CHECK(runs == 1);
  const idem::Outcome<void> again = guard.try_call(1);
  CHECK(again.verdict() == idem::Verdict::replayed);
  CHECK(again.has_value());
  again.value();
  REQUIRE(guard.find(1).has_value());
  CHECK(guard.find(1)->has_value());
}

TEST_CASE_TEMPLATE("NaN and the sign of zero survive as results", Store, MemoryStore, LeaseStore) {
  Store store;
  const auto nan = idem::idempotent<"nan">([](int) { return std::numeric_limits<double>::quiet_NaN(); }, store);
  nan(1);
  CHECK(std::isnan(nan(1)));
  const auto zero = idem::idempotent<"zero">([](int) { return -0.0; }, store);
  zero(1);
  CHECK(std::signbit(zero(1)));
}

TEST_CASE("MEM-06: changing a replayed value changes nothing that is stored") {
  const auto guard = idem::idempotent<"MEM-06">([](int) { return std::vector<int>{1, 2, 3}; });
  guard(1).push_back(4);
  auto replayed = guard(1);
  replayed.clear();
  auto outcome = guard.try_call(1);
  outcome.value().push_back(5);
  CHECK(guard(1) == std::vector<int>{1, 2, 3});
}

TEST_CASE("a result in memory needs only to be copyable") {
  const auto guard = idem::idempotent<"ticket">([](int number) {
    ++runs;
    return Ticket(number);
  });
  runs = 0;
  CHECK(guard(5).number() == 5);
  CHECK(guard(5).number() == 5);
  CHECK(guard.try_call(5).value().number() == 5);
  CHECK(runs == 1);
}

TEST_CASE_TEMPLATE(
    "without_result takes any result: one that can only be moved, one that can't be, a reference, a pointer", Store,
    MemoryStore, LeaseStore) {
  Store store;
  runs = 0;
  const auto moved = idem::idempotent<"unique">([](int value) { return ++runs, std::make_unique<int>(value); }, store,
                                                idem::without_result);
  CHECK(*moved(5) == 5);
  CHECK(moved.try_call(5).verdict() == idem::Verdict::duplicate);
  CHECK_THROWS_AS(moved(5), idem::DuplicateExecutionError);
  CHECK(runs == 1);

  static int target = 7;
  const auto reference = idem::idempotent<"reference">([](int) -> int& { return target; }, store, idem::without_result);
  static_assert(std::is_same_v<decltype(reference(1)), int&>);
  CHECK(&reference(1) == &target);
  CHECK(reference.try_call(1).verdict() == idem::Verdict::duplicate);

  const auto pointer = idem::idempotent<"pointer">([](int) { return &target; }, store, idem::without_result);
  CHECK(pointer(1) == &target);
  CHECK(pointer.try_call(1).verdict() == idem::Verdict::duplicate);
  const auto nothing = idem::idempotent<"nothing">([](int) {}, store, idem::without_result);
  nothing(1);
  CHECK_THROWS_AS(nothing(1), idem::DuplicateExecutionError);
}

TEST_CASE("a result that can only be moved is stored as bytes and comes back as another object") {
  LeaseStore store;
  const auto guard = idem::idempotent<"unique">([](int value) { return std::make_unique<int>(value); }, store);
  const auto first = guard(5);
  const auto second = guard(5);
  CHECK(*first == 5);
  CHECK(*second == 5);
  CHECK(first != second);
}

TEST_CASE("on_duplicate_return gives duplicates a value, or what a function gives") {
  const auto value = idem::idempotent<"value">([](int) { return 5; }, idem::on_duplicate_return(-1));
  CHECK(value(1) == 5);
  CHECK(value(1) == -1);
  const auto function =
      idem::idempotent<"function">([](int) { return std::make_unique<int>(5); }, idem::without_result,
                                   idem::on_duplicate_return([](int n) { return std::make_unique<int>(-n); }));
  CHECK(*function(3) == 5);
  CHECK(*function(3) == -3);
  const auto nothing = idem::idempotent<"nothing">([](int) { return std::string("sent"); },
                                                   idem::on_duplicate_return([] { return "sent before"; }));
  CHECK(nothing(1) == "sent");
  CHECK(nothing(1) == "sent before");
}

}  // namespace callables_results
