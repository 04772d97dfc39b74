// A guard is a handle; what it refers to lives as long as it is needed. Stores are borrowed, owned or shared.
#include <idem/idem.hpp>

#include <doctest/doctest.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace callables_handles {

inline int runs = 0;
int charge(int cents) {
  return ++runs, cents;
}

// CXX-10: usable before main, and from another object's initialisation in this file.
const auto static_guard = idem::idempotent<charge>();
const int before_main = static_guard(100);

auto made_in_scope() {
  std::string captured = "outlives its scope";
  idem::MemoryStore store;
  return idem::idempotent<"scope">([captured](int value) { return ++runs, captured + std::to_string(value); },
                                   std::move(store));
}

TEST_CASE("a guard with static storage works before main and afterwards") {
  CHECK(before_main == 100);
  CHECK(static_guard.try_call(100).verdict() == idem::Verdict::replayed);
}

TEST_CASE("a guard outlives the scope in which it was made, with callable and store") {
  const auto guard = made_in_scope();
  runs = 0;
  CHECK(guard(1) == "outlives its scope1");
  CHECK(guard(1) == "outlives its scope1");
  CHECK(runs == 1);
}

TEST_CASE("copies share callable, options and store, and outlive what they were copied from") {
  runs = 0;
  auto original = std::make_unique<decltype(made_in_scope())>(made_in_scope());
  const auto copy = *original;
  auto assigned = made_in_scope();
  CHECK((*original)(1) == "outlives its scope1");
  assigned = copy;
  CHECK(copy.try_call(1).verdict() == idem::Verdict::replayed);
  original.reset();
  CHECK(copy.try_call(1).verdict() == idem::Verdict::replayed);
  CHECK(assigned.try_call(1).verdict() == idem::Verdict::replayed);
  const auto moved = std::move(assigned);
  CHECK(moved.try_call(1).verdict() == idem::Verdict::replayed);
  CHECK(runs == 1);
}

TEST_CASE("a guard needs no more than const, and can be held in containers and std::function") {
  runs = 0;
  const auto guard = idem::idempotent<"held">([](int value) { return ++runs, value; });
  std::vector<std::remove_const_t<decltype(guard)>> guards{guard, guard};
  guards.push_back(guard);
  CHECK(guards[2](1) == 1);
  std::map<std::string, std::function<int(int)>> table{{"held", guard}};
  CHECK(table.at("held")(1) == 1);
  CHECK(runs == 1);
  int seen = 0;
  std::thread other([guard, &seen] { seen = guard(1); });
  other.join();
  CHECK(seen == 1);
  CHECK(runs == 1);
}

TEST_CASE("two guards without a store don't share records, even under one name") {
  runs = 0;
  const auto a = idem::idempotent<"own">([](int value) { return ++runs, value; });
  const auto b = idem::idempotent<"own">([](int value) { return ++runs, value; });
  a(1), b(1);
  CHECK(runs == 2);
  CHECK(a.key(1) == b.key(1));
}

TEST_CASE("an lvalue store is borrowed: its records are the store's, whoever asks") {
  runs = 0;
  idem::MemoryStore store;
  {
    const auto guard = idem::idempotent<"shared name">([](int value) { return ++runs, value; }, store);
    guard(1);
  }
  const auto later = idem::idempotent<"shared name">([](int value) { return ++runs, value; }, store);
  CHECK(later.try_call(1).verdict() == idem::Verdict::replayed);
  CHECK(runs == 1);
  CHECK(store.stats().completed == 1);
}

TEST_CASE("an rvalue store is owned, a shared_ptr shared, an AnyStore either") {
  runs = 0;
  const auto f = [](int value) { return ++runs, value; };
  const auto owned = idem::idempotent<"store">(f, idem::MemoryStore{{.max_entries = 10}});
  owned(1), owned(1);
  CHECK(runs == 1);

  auto shared = std::make_shared<idem::MemoryStore>();
  const auto sharing = idem::idempotent<"store">(f, shared);
  sharing(1), sharing(1);
  CHECK(runs == 2);
  CHECK(shared.use_count() == 2);
  CHECK(shared->stats().completed == 1);
  const std::weak_ptr<idem::MemoryStore> watched = shared;
  shared.reset();
  CHECK_FALSE(watched.expired());
  CHECK(sharing.try_call(1).verdict() == idem::Verdict::replayed);

  idem::MemoryStore behind;
  idem::AnyStore any = behind;
  const auto through_any = idem::idempotent<"store">(f, any);
  idem::AnyStore copy = any;
  const auto through_copy = idem::idempotent<"store">(f, std::move(copy));
  const auto direct = idem::idempotent<"store">(f, behind);
  through_any(1), through_copy(1), direct(1);
  CHECK(runs == 3);
  CHECK(behind.stats().completed == 1);
  const auto owning_any = idem::idempotent<"store">(f, idem::AnyStore(idem::MemoryStore{}));
  owning_any(1), owning_any(1);
  CHECK(runs == 4);
}

TEST_CASE("guards of different functions share one store without meeting") {
  runs = 0;
  idem::MemoryStore store;
  const auto charge_once = idem::idempotent<"charge">([](int id) { return ++runs, id; }, store);
  const auto refund_once = idem::idempotent<"refund">([](int id) { return ++runs, std::to_string(id); }, store);
  CHECK(charge_once(1) == 1);
  CHECK(refund_once(1) == "1");
  CHECK(charge_once(1) == 1);
  CHECK(refund_once(1) == "1");
  CHECK(runs == 2);
  CHECK(store.stats().records == 2);
}

TEST_CASE("T-46: guarded calls nest, in one store and in one thread") {
  idem::MemoryStore store;
  runs = 0;
  const auto inner = idem::idempotent<"inner">([](int id) { return ++runs, id * 10; }, store);
  const auto outer =
      idem::idempotent<"outer">([&](int id) { return ++runs, inner(id) + inner(id + 1) + inner(id); }, store);
  CHECK(outer(1) == 40);
  CHECK(outer(1) == 40);
  CHECK(runs == 3);
  CHECK(inner(2) == 20);
  CHECK(runs == 3);
}

TEST_CASE("find looks without running, forget lets the next call run") {
  runs = 0;
  const auto guard = idem::idempotent<"find">([](int id) { return ++runs, id * 10; });
  CHECK_FALSE(guard.find(1).has_value());
  CHECK_FALSE(guard.forget(1));
  CHECK(runs == 0);
  guard(1);
  const auto found = guard.find(1);
  REQUIRE(found.has_value());
  CHECK(found->verdict() == idem::Verdict::replayed);
  CHECK(found->value() == 10);
  CHECK(found->key() == guard.key(1));
  CHECK(found->attempt() == 1);
  CHECK(guard.forget(1));
  CHECK_FALSE(guard.forget(1));
  CHECK_FALSE(guard.find(1).has_value());
  guard(1);
  CHECK(runs == 2);
}

TEST_CASE("find and forget of a running call: it's seen running, and stays") {
  idem::MemoryStore store;
  bool forgotten = true;
  std::optional<idem::Outcome<int>> seen;
  std::function<void()> look;
  const auto guard = idem::idempotent<"running">([&](int id) { return look(), id; }, store);
  look = [&] {
    seen = guard.find(1);
    forgotten = guard.forget(1);
  };
  CHECK(guard(1) == 1);
  REQUIRE(seen.has_value());
  CHECK(seen->verdict() == idem::Verdict::in_progress);
  CHECK(seen->error().effect == idem::Effect::unknown);
  CHECK_FALSE(seen->has_value());
  CHECK_FALSE(forgotten);
  CHECK(guard.try_call(1).verdict() == idem::Verdict::replayed);
}

}  // namespace callables_handles
