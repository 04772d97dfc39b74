// HIR-07, CXX-12: a run that a child process inherited, on stores that can't tell by themselves whose it is.
#include <doctest/doctest.h>

#if !defined(_WIN32)

#include "support/hook_store.hpp"
#include "support/process_support.hpp"

#include <idem/any_store.hpp>
#include <idem/claim.hpp>
#include <idem/idempotent.hpp>
#include <idem/make_key.hpp>
#include <idem/testing/lease_store.hpp>

#include <atomic>
#include <chrono>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include <unistd.h>

using guard_support::HookStore;
using guard_support::Op;
using idem::Answer;
using idem::Verdict;
using idem::testing::LeaseStore;
using process_support::Child;
using process_support::Shared;

namespace {

/// A store of bytes that counts what any process asks it to change.
struct CountedStore {
  LeaseStore records;
  Shared<std::atomic<int>> asked;
  HookStore<LeaseStore> store{records, [this](Op op, const idem::Key&) {
                                if (op != Op::find) asked->fetch_add(1);
                                return std::optional<idem::Reply>();
                              }};
};

const idem::Key& key() {
  static const idem::Key made = idem::make_key("fork", 1);
  return made;
}

}  // namespace

TEST_CASE("HIR-07 CXX-12: a claim that a child inherited is a dead handle there, however it ends") {
  CountedStore counted;
  idem::Claim claim = idem::claim(counted.store, key());
  REQUIRE(claim.acquired());
  const int asked = counted.asked->load();
  const auto in_child = [&](auto&& end) {
    Child child([&] { return end() ? 0 : 1; });
    CHECK(child.wait() == 0);
    CHECK(counted.asked->load() == asked);
  };
  in_child([&] { return claim.complete(1) == Verdict::stale && claim.complete(1) == Verdict::stale; });
#if IDEM_EXCEPTIONS
  in_child([&] { return claim.fail(std::runtime_error("no")) == Verdict::stale; });
#endif
  in_child([&] { return !claim.release(); });
  in_child([&] {
    const idem::Claim dropped = std::move(claim);
    return dropped.acquired();
  });
  // A child of the child no less.
  in_child([&] {
    Child grandchild([&] { return claim.complete(1) == Verdict::stale ? 0 : 1; });
    return grandchild.wait() == 0;
  });
  CHECK(counted.store.find(key()).answer == Answer::running);
  CHECK(claim.complete(1) == Verdict::executed);
}

TEST_CASE("HIR-07: a guarded function that forks is recorded by the process that was called, and by no other") {
  CountedStore counted;
  int to_child = 0;
  const auto once = idem::idempotent<"forks">(
      [&](int number) {
        const pid_t child = ::fork();
        if (child != 0) to_child = child;
        return child == 0 ? -1 : number;
      },
      {}, counted.store);
  const pid_t parent = ::getpid();
  const auto outcome = once.try_call(7);
  if (::getpid() != parent) ::_exit(outcome.verdict() == Verdict::stale && outcome.value() == -1 ? 0 : 1);
  int status = 0;
  REQUIRE(::waitpid(to_child, &status, 0) == to_child);
  CHECK(status == 0);
  CHECK(outcome.verdict() == Verdict::executed);
  CHECK(counted.asked->load() == 2);
  CHECK(once.try_call(7).value() == 7);
}

TEST_CASE("CXX-12: a child may claim by itself, and what it claims is its own") {
  CountedStore counted;
  idem::Claim claim = idem::claim(counted.store, key());
  Child child([&] {
    const idem::Key other = idem::make_key("fork", 2);
    idem::Claim own = idem::claim(counted.store, other);
    if (!own.acquired() || own.complete(2) != Verdict::executed) return 1;
    return counted.store.find(other).answer == Answer::completed ? 0 : 2;
  });
  CHECK(child.wait() == 0);
  CHECK(claim.complete(1) == Verdict::executed);
}

#endif
