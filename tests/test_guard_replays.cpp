// What duplicates get: copies of results, failures rebuilt from bytes, values in place of results.
#include <doctest/doctest.h>

#include "support/guard_support.hpp"
#include "support/hook_store.hpp"

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <typeinfo>
#include <utility>
#include <vector>

using namespace guard_support;
using namespace std::chrono_literals;
using idem::Effect;
using idem::EventKind;
using idem::OnFailure;
using idem::Verdict;

namespace guard_replays {

struct Declined : std::runtime_error {
  using std::runtime_error::runtime_error;
};
/// Has more to say than a message.
class LimitExceeded : public std::exception {
 public:
  LimitExceeded() = default;
  explicit LimitExceeded(int limit, std::string account) : limit_(limit), account_(std::move(account)) {}
  const char* what() const noexcept override { return "limit exceeded"; }
  int limit() const { return limit_; }
  const std::string& account() const { return account_; }

 private:
  int limit_ = 0;
  std::string account_ = {};
};

}  // namespace guard_replays

template <>
struct idem::codec<guard_replays::LimitExceeded> {
  static constexpr std::string_view shape = "LimitExceeded";
  static void encode(idem::Writer& writer, const guard_replays::LimitExceeded& error) {
    writer.write(error.limit());
    writer.write(error.account());
  }
  static guard_replays::LimitExceeded decode(idem::Reader& reader) {
    const int limit = reader.read<int>();
    return guard_replays::LimitExceeded(limit, reader.read<std::string>());
  }
};

namespace {

using guard_replays::Declined;
using guard_replays::LimitExceeded;

/// Keeps a failure, and shows what the second caller gets.
template <class K, class Throw, class Check, class... Extras>
void replay_failure(Throw&& fail, Check&& check, Extras... extras) {
  ManualClock clock;
  auto store = K::make(clock);
  int runs = 0;
  auto once = idem::idempotent<"failure">(
      function_of([&](int) -> int { ++runs; fail(); return 0; }), {.on_failure = OnFailure::lock},
                                          store, extras...);
  CHECK(once.try_call(1).verdict() == Verdict::failed);
  const auto second = once.try_call(1);
  CHECK(second.verdict() == Verdict::failure_replayed);
  CHECK(second.error().effect == Effect::ran);
  bool thrown = false;
  try {
    static_cast<void>(second.value());
  } catch (const std::exception& error) {
    thrown = true;
    check(error);
  }
  CHECK(thrown);
  CHECK(runs == 1);
}

template <class K, class E>
void replays_as_itself(const E& failure) {
  replay_failure<K>([&] { throw failure; },
                    [&](const std::exception& error) {
                      CHECK(typeid(error) == typeid(E));
                      CHECK(std::string(error.what()) == failure.what());
                    });
}

}  // namespace

TEST_CASE_TEMPLATE("SER-05: the standard exceptions are replayed as themselves, by exact type", K, Memory, Leases, AnyMemory,
                   AnyLeases) {
  replays_as_itself<K>(std::logic_error("a"));
  replays_as_itself<K>(std::invalid_argument("b"));
  replays_as_itself<K>(std::domain_error("c"));
  replays_as_itself<K>(std::length_error("d"));
  replays_as_itself<K>(std::out_of_range("e"));
  replays_as_itself<K>(std::runtime_error(""));
  replays_as_itself<K>(std::range_error("g"));
  replays_as_itself<K>(std::overflow_error("h"));
  replays_as_itself<K>(std::underflow_error("i"));
  replays_as_itself<K>(std::bad_alloc());
  replays_as_itself<K>(std::system_error(ENOENT, std::generic_category(), "open"));
  replays_as_itself<K>(std::system_error(ENOENT, std::system_category()));
  replay_failure<K>([] { throw std::system_error(EACCES, std::generic_category(), "open"); },
                    [](const std::exception& error) {
                      const auto* system = dynamic_cast<const std::system_error*>(&error);
                      REQUIRE(system != nullptr);
                      CHECK(system->code() == std::errc::permission_denied);
                    });
}

TEST_CASE_TEMPLATE("SER-05 T-63: any other type is replayed as ReplayedError with its message and its name", K, Leases,
                   AnyLeases) {
  replay_failure<K>([] { throw Declined("card declined"); },
                    [](const std::exception& error) {
                      const auto* replayed = dynamic_cast<const idem::ReplayedError*>(&error);
                      REQUIRE(replayed != nullptr);
                      CHECK(std::string(replayed->what()) == "card declined");
                      CHECK(replayed->type_name().find("Declined") != std::string::npos);
                      CHECK(replayed->effect() == Effect::ran);
                      CHECK(replayed->verdict() == Verdict::failure_replayed);
                      CHECK(replayed->key().valid());
                    });
}

TEST_CASE_TEMPLATE("replay_exceptions: the types that are named come back as themselves, with what they hold", K, Memory,
                   Leases, AnyLeases) {
  replay_failure<K>([] { throw Declined("card declined"); },
                    [](const std::exception& error) {
                      CHECK(typeid(error) == typeid(Declined));
                      CHECK(std::string(error.what()) == "card declined");
                    },
                    idem::replay_exceptions<LimitExceeded, Declined>);
  replay_failure<K>([] { throw LimitExceeded(500, "ACC-1"); },
                    [](const std::exception& error) {
                      const auto* limit = dynamic_cast<const LimitExceeded*>(&error);
                      REQUIRE(limit != nullptr);
                      CHECK(limit->limit() == 500);
                      CHECK(limit->account() == "ACC-1");
                    },
                    idem::replay_exceptions<LimitExceeded, Declined>);
}

TEST_CASE("replay_exceptions: a program that doesn't name the type gets its message, and never runs the call") {
  ManualClock clock;
  LeaseStore store = Leases::make(clock);
  int runs = 0;
  const auto function = [&](int) -> int { ++runs; throw LimitExceeded(5, "A"); };
  auto names = idem::idempotent<"named">(function, {.on_failure = OnFailure::lock}, store,
                                         idem::replay_exceptions<LimitExceeded>);
  auto ignorant = idem::idempotent<"named">(function, {.on_failure = OnFailure::lock}, store);
  CHECK_THROWS_AS(names(1), LimitExceeded);
  CHECK(throws_exactly<idem::ReplayedError>([&] { return ignorant(1); }));
  CHECK_THROWS_WITH(ignorant(1), "limit exceeded");
  CHECK(throws_exactly<LimitExceeded>([&] { return names(1); }));
  CHECK(runs == 1);
}

TEST_CASE("MEM-08: a store of objects hands out the exception itself, to many threads at once") {
  constexpr int callers = 8;
  ManualClock clock;
  auto store = Memory::make(clock);
  auto once = idem::idempotent<"shared failure">(function_of([](int) -> int { throw LimitExceeded(7, "shared"); }),
                                                 {.on_failure = OnFailure::lock}, store);
  CHECK_THROWS_AS(once(1), LimitExceeded);
  std::atomic<int> same{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < callers; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 50; ++round) {
        try {
          static_cast<void>(once(1));
        } catch (const LimitExceeded& error) {
          if (error.limit() == 7 && error.account() == "shared") same.fetch_add(1);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(same.load() == callers * 50);
}

TEST_CASE_TEMPLATE("MEM-06: a caller who changes a replayed value changes nobody else's", K, Memory, Leases) {
  ManualClock clock;
  auto store = K::make(clock);
  auto once = idem::idempotent<"copied">(function_of([](int) { return std::vector<int>{1, 2, 3}; }), store);
  std::vector<int> first = once(1);
  first.clear();
  std::vector<int> second = once(1);
  CHECK(second == std::vector<int>{1, 2, 3});
  second[0] = 99;
  auto outcome = once.try_call(1);
  outcome.value().push_back(4);
  CHECK(once(1) == std::vector<int>{1, 2, 3});
}

TEST_CASE_TEMPLATE("without_result: any result type, even one that moves only; duplicates are told that it was made", K,
                   Memory, Leases, AnyMemory, AnyLeases) {
  ManualClock clock;
  auto store = K::make(clock);
  int runs = 0;
  auto once = idem::idempotent<"moves only">(
      function_of([&](int number) { ++runs; return std::make_unique<int>(number); }), store,
                                             idem::without_result);
  const auto first = once(4);
  REQUIRE(first != nullptr);
  CHECK(*first == 4);
  const auto second = once.try_call(4);
  CHECK(second.verdict() == Verdict::duplicate);
  CHECK(second.error().effect == Effect::ran);
  CHECK_FALSE(second.has_value());
  CHECK(throws_exactly<idem::DuplicateExecutionError>([&] { return once(4); }));
  CHECK(runs == 1);

  int target = 0;
  auto reference = idem::idempotent<"reference">(
      function_of([&](int) -> int& { ++runs; return target; }), store, idem::without_result);
  CHECK(&reference(1) == &target);
  CHECK(reference.try_call(1).verdict() == Verdict::duplicate);
  REQUIRE(reference.find(1).has_value());
  CHECK(reference.find(1)->verdict() == Verdict::duplicate);
  CHECK(runs == 2);
}

TEST_CASE_TEMPLATE("on_duplicate_return: a value, f() or f(args…) in place of the stored result", K, Memory, Leases,
                   AnyLeases) {
  ManualClock clock;
  auto store = K::make(clock);
  int runs = 0;
  const auto function = [&](int number, const std::string&) { ++runs; return number; };
  auto value = idem::idempotent<"value">(function, store, idem::on_duplicate_return(-1));
  auto called = idem::idempotent<"called">(function, store, idem::on_duplicate_return([] { return -2; }));
  auto with_arguments = idem::idempotent<"with arguments">(
      function, store, idem::on_duplicate_return([](int number, const std::string& text) {
        return number * 100 + static_cast<int>(text.size());
      }));
  CHECK(value(1, "abc") == 1);
  const auto second = value.try_call(1, "abc");
  CHECK(second.verdict() == Verdict::replayed);
  CHECK(second.value() == -1);
  CHECK(called(1, "abc") == 1);
  CHECK(called(1, "abc") == -2);
  CHECK(with_arguments(1, "abc") == 1);
  CHECK(with_arguments(1, "abc") == 103);
  CHECK(runs == 3);
}

TEST_CASE_TEMPLATE("on_duplicate_return: goes with without_result, and a kept failure is still the failure", K, Memory,
                   Leases) {
  ManualClock clock;
  auto store = K::make(clock);
  auto moves_only = idem::idempotent<"moves only">(
      function_of([](int number) { return std::make_unique<int>(number); }), store,
                                                   idem::without_result,
                                                   idem::on_duplicate_return([] { return std::unique_ptr<int>(); }));
  CHECK(*moves_only(4) == 4);
  CHECK(moves_only(4) == nullptr);

  auto failing = idem::idempotent<"failing">(function_of([](int) -> int { throw std::domain_error("no"); }),
                                             {.on_failure = OnFailure::lock}, store, idem::on_duplicate_return(-1));
  CHECK_THROWS_AS(failing(1), std::domain_error);
  CHECK_THROWS_AS(failing(1), std::domain_error);

  auto throwing = idem::idempotent<"throwing substitute">(
      function_of([](int number) { return number; }), store,
      idem::on_duplicate_return([]() -> int { throw std::logic_error("none"); }));
  CHECK(throwing(1) == 1);
  CHECK(throwing.try_call(1).verdict() == Verdict::duplicate);
  CHECK_FALSE(throwing.try_call(1).has_value());
}
