// Everything that can be called can be guarded, under a given name or under its own.
// Compiled by itself: a function's own name begins with the namespaces that stand here.
#include <idem/idem.hpp>

#include <doctest/doctest.h>

#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

namespace callables_forms {

inline int runs = 0;

int charge(int cents) {
  ++runs;
  return cents + runs * 1000;
}
int charge_noexcept(int cents) noexcept {
  ++runs;
  return cents;
}
int overloaded(int value) {
  ++runs;
  return value;
}
int overloaded(const std::string& value) {
  ++runs;
  return static_cast<int>(value.size());
}
int nothing() {
  ++runs;
  return 7;
}
int with_default(int cents, int fee = 5) {
  ++runs;
  return cents + fee;
}

class Account {
 public:
  explicit Account(int id) : id_(id) {}
  int deposit(int cents) {
    ++runs;
    return balance_ += cents;
  }
  int balance(int added) const {
    ++runs;
    return balance_ + added;
  }
  int close() noexcept {
    ++runs;
    return balance_;
  }
  int only_lvalue(int cents) & { return cents + ++runs; }
  static int open(int id) {
    ++runs;
    return id;
  }
  int id() const { return id_; }

 private:
  int id_;
  int balance_ = 0;
};

struct Terminal {
  int number = 0;
  int print(int page) const {
    ++runs;
    return number * 100 + page;
  }
};

struct Adder {
  int added;
  int operator()(int value) const {
    ++runs;
    return value + added;
  }
};
struct Noexcept {
  int operator()(int value) const noexcept {
    ++runs;
    return value;
  }
};
struct Overloaded {
  int operator()(int value) const {
    ++runs;
    return value;
  }
  std::string operator()(const std::string& value) const {
    ++runs;
    return value + "!";
  }
};

/// Calls twice with the same arguments; the function runs once, and both calls give the same.
template <class Guard, class... A>
bool runs_once(const Guard& guard, A&&... arguments) {
  runs = 0;
  const auto first = guard(arguments...);
  const auto second = guard(arguments...);
  const auto third = guard.try_call(arguments...);
  return runs == 1 && first == second && third.verdict() == idem::Verdict::replayed && third.value() == first;
}

TEST_CASE("a free function is guarded under its own name and under a given one") {
  CHECK(runs_once(idem::idempotent<charge>(), 100));
  CHECK(runs_once(idem::idempotent<&charge>(), 100));
  CHECK(runs_once(idem::idempotent<"charge">(charge), 100));
  CHECK(runs_once(idem::idempotent<"charge">(&charge), 100));
  int (&reference)(int) = charge;
  CHECK(runs_once(idem::idempotent<"charge">(reference), 100));
  int (*const pointer)(int) = charge;
  CHECK(runs_once(idem::idempotent<"charge">(pointer), 100));
  CHECK(runs_once(idem::idempotent<nothing>()));
  CHECK(runs_once(idem::idempotent<"nothing">(nothing)));
}

TEST_CASE("a function's own name is its qualified name, with & or without") {
  CHECK(idem::idempotent<charge>().key(1).name() == "callables_forms::charge");
  CHECK(idem::idempotent<&charge>().key(1) == idem::idempotent<charge>().key(1));
  CHECK(idem::idempotent<charge_noexcept>().key(1).name() == "callables_forms::charge_noexcept");
  CHECK(idem::idempotent<&Account::deposit>(idem::key_from<1>).key(Account{1}, 2).name() ==
        "callables_forms::Account::deposit");
  CHECK(idem::idempotent<static_cast<int (*)(int)>(overloaded)>().key(1).name() == "callables_forms::overloaded");
}

TEST_CASE("noexcept functions and function objects are guarded") {
  CHECK(runs_once(idem::idempotent<charge_noexcept>(), 100));
  CHECK(runs_once(idem::idempotent<"charge">(charge_noexcept), 100));
  CHECK(runs_once(idem::idempotent<"charge">(Noexcept{}), 100));
  CHECK(runs_once(idem::idempotent<"charge">([](int cents) noexcept { return cents + ++runs; }), 100));
  Account account{1};
  CHECK(runs_once(idem::idempotent<&Account::close>(idem::any_object), account));
}

TEST_CASE("a cast picks one overload, under its own name and under a given one") {
  const auto number = idem::idempotent<static_cast<int (*)(int)>(overloaded)>();
  const auto text = idem::idempotent<static_cast<int (*)(const std::string&)>(overloaded)>();
  CHECK(runs_once(number, 3));
  CHECK(runs_once(text, "three"));
  CHECK(text("three") == 5);
  CHECK(runs_once(idem::idempotent<"overloaded">(static_cast<int (*)(int)>(overloaded)), 3));
}

TEST_CASE("lambdas are guarded: with captures, mutable, with several statements, at once") {
  int captured = 5;
  CHECK(runs_once(idem::idempotent<"lambda">([&captured](int value) { return ++runs, captured += value; }), 1));
  CHECK(captured == 6);
  auto counting = idem::idempotent<"counting">([count = 0](int value) mutable {
    ++runs;
    return value + ++count;
  });
  CHECK(runs_once(counting, 10));
  CHECK(counting(10) == 11);
  CHECK(counting(20) == 22);  // the same lambda, with what it counted
  const auto capturing_nothing = [](const std::string& name) { return ++runs, name + "!"; };
  CHECK(runs_once(idem::idempotent<"named">(capturing_nothing), "x"));
  auto left = capturing_nothing;
  CHECK(runs_once(idem::idempotent<"named">(left), "x"));
  CHECK(runs_once(idem::idempotent<"named">(std::move(left)), "x"));
}

TEST_CASE("generic lambdas take what they are given, by any number of types") {
  const auto twice = idem::idempotent<"twice">([](const auto& value) {
    ++runs;
    return value + value;
  });
  CHECK(runs_once(twice, 21));
  CHECK(twice(21) == 42);
  CHECK(runs_once(twice, std::string{"ab"}));
  CHECK(twice(std::string{"ab"}) == "abab");
  const auto sum = idem::idempotent<"sum">([](auto... values) {
    ++runs;
    return (0 + ... + values);
  });
  CHECK(runs_once(sum, 1, 2, 3));
  CHECK(runs_once(sum));
  CHECK(sum(1, 2, 3) == 6);
  static_assert(std::is_same_v<decltype(twice(1)), int>);
  static_assert(std::is_same_v<decltype(twice(std::string{})), std::string>);
}

TEST_CASE("a callable that takes whatever it's given isn't given a Context") {
  const auto count =
      idem::idempotent<"count">([](const auto&... values) { return static_cast<int>(sizeof...(values)); });
  CHECK(count(1, 2) == 2);
  CHECK(count() == 0);
}

TEST_CASE("a generic lambda gets its Context behind or before the arguments") {
  const auto last = idem::idempotent<"last">([](const auto& value, idem::Context& run) {
    ++runs;
    return run.key().text() + std::to_string(value);
  });
  CHECK(runs_once(last, 1));
  CHECK(last(1) == last.key(1).text() + "1");
  const auto first = idem::idempotent<"first">([](idem::Context& run, const auto& value) {
    ++runs;
    return run.key().text() + std::to_string(value);
  });
  CHECK(runs_once(first, 1));
  CHECK(first(1) == first.key(1).text() + "1");
}

TEST_CASE("function objects are guarded, also with several call operators") {
  CHECK(runs_once(idem::idempotent<"adder">(Adder{5}), 1));
  const Adder adder{6};
  CHECK(runs_once(idem::idempotent<"adder">(adder), 1));
  const auto overloads = idem::idempotent<"overloads">(Overloaded{});
  CHECK(runs_once(overloads, 1));
  CHECK(runs_once(overloads, std::string{"a"}));
  CHECK(overloads(std::string{"a"}) == "a!");
}

TEST_CASE("std::function, std::bind_front and std::reference_wrapper are guarded") {
  const std::function<int(int)> function = charge;
  CHECK(runs_once(idem::idempotent<"function">(function), 100));
  CHECK(runs_once(idem::idempotent<"bound">(std::bind_front([](int a, int b) { return ++runs, a + b; }, 1)), 2));
  Adder adder{7};
  const auto referring = idem::idempotent<"reference">(std::ref(adder));
  CHECK(runs_once(referring, 1));
  adder.added = 8;
  CHECK(referring(2) == 10);
}

TEST_CASE("a callable that can only be moved is guarded") {
  auto held = std::make_unique<int>(30);
  auto guard = idem::idempotent<"moved">([held = std::move(held)](int value) {
    ++runs;
    return value + *held;
  });
  CHECK(runs_once(guard, 1));
  const auto copy = guard;  // a handle, which shares the callable
  CHECK(copy(2) == 32);
}

TEST_CASE("member functions are guarded: any object, const or not, through key_by, key_from and any_object") {
  Account account{1};
  Account other{2};
  CHECK(runs_once(idem::idempotent<&Account::deposit>(idem::any_object), account, 100));
  CHECK(account.balance(0) == 100);

  const auto any = idem::idempotent<&Account::balance>(idem::any_object);
  CHECK(any.key(account, 5) == any.key(other, 5));
  const Account fixed{3};
  CHECK(runs_once(any, fixed, 5));

  const auto by_id = idem::idempotent<"deposit">(
      &Account::deposit, idem::key_by([](const Account& a, int cents) { return std::pair(a.id(), cents); }));
  CHECK(by_id.key(account, 5) != by_id.key(other, 5));
  CHECK(runs_once(by_id, account, 5));
  CHECK(runs_once(by_id, other, 5));

  const auto from_cents = idem::idempotent<&Account::deposit>(idem::key_from<1>);
  CHECK(from_cents.key(account, 5) == from_cents.key(other, 5));

  const auto from_both = idem::idempotent<&Terminal::print>(idem::key_from<0, 1>);
  CHECK(from_both.key(Terminal{1}, 5) != from_both.key(Terminal{2}, 5));
  CHECK(runs_once(from_both, Terminal{1}, 5));

  CHECK(runs_once(idem::idempotent<&Account::only_lvalue>(idem::any_object), account, 5));
  CHECK(runs_once(idem::idempotent<&Account::open>(), 5));  // static: no object, so that nothing has to be said
}

TEST_CASE("a default argument is unknown to a guard of the function; a lambda around it has it") {
  const auto guard = idem::idempotent<with_default>();
  CHECK(runs_once(guard, 1, 5));
  static_assert(!std::is_invocable_v<decltype(guard), int>);
  CHECK(runs_once(idem::idempotent<"with default">([](int cents) { return with_default(cents); }), 1));
}

TEST_CASE("a guard of a guard runs once") {
  const auto inner = idem::idempotent<"inner">([](int value) { return value + ++runs; });
  CHECK(runs_once(idem::idempotent<"outer">(inner), 1));
}

}  // namespace callables_forms
