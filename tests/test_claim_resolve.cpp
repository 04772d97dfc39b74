// resolve: somebody found out what became of a call in doubt.
#include <idem/idem.hpp>
#include <idem/testing/lease_store.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <stdexcept>
#include <string>
#include <utility>

namespace claim_resolve {

using namespace std::chrono_literals;
using idem::Answer;
using idem::Verdict;

template <class Store>
void leave_in_doubt(Store& store, const idem::Key& key) {
  static_cast<void>(idem::claim(store, key));
}

TEST_CASE_TEMPLATE("T-80: resolve ends the doubt: the next caller gets what was found out", Store, idem::MemoryStore,
                   idem::testing::LeaseStore) {
  Store store;
  int runs = 0;
  const auto guard =
      idem::idempotent<"charge">([&](int id) { return ++runs, std::to_string(id); }, {.wait_timeout = 0s}, store);
  const idem::Key key = guard.key(1);
  leave_in_doubt(store, key);
  CHECK(guard.try_call(1).verdict() == Verdict::in_doubt);
  CHECK(idem::resolve(store, key, 24h, "seen at the gateway", std::string("charged")) == Answer::ok);
  const auto outcome = guard.try_call(1);
  CHECK(outcome.verdict() == Verdict::replayed);
  CHECK(outcome.value() == "charged");
  CHECK(runs == 0);
  CHECK(store.stats().in_doubt == 0);
}

TEST_CASE_TEMPLATE("resolve without a value: it happened, and nothing came of it", Store, idem::MemoryStore,
                   idem::testing::LeaseStore) {
  Store store;
  const idem::Key key = idem::make_key("webhook", 1);
  leave_in_doubt(store, key);
  CHECK(idem::resolve(store, key, idem::forever, "looked into") == Answer::ok);
  CHECK(idem::claim(store, key).template result<void>().verdict() == Verdict::replayed);
}

TEST_CASE_TEMPLATE("resolve changes nothing but what is in doubt", Store, idem::MemoryStore,
                   idem::testing::LeaseStore) {
  Store store;
  const idem::Key key = idem::make_key("webhook", 1);
  CHECK(idem::resolve(store, key, 24h, "never seen", 1) == Answer::absent);
  idem::Claim running = idem::claim(store, key);
  CHECK(idem::resolve(store, key, 24h, "too early", 1) == Answer::refused);
  CHECK(running.complete(5) == Verdict::executed);
  CHECK(idem::resolve(store, key, 24h, "too late", 1) == Answer::stale);
  CHECK(idem::claim(store, key).template result<int>().value() == 5);
}

TEST_CASE("resolve of a claim that lives on makes it stale") {
  idem::MemoryStore store;
  const idem::Key key = idem::make_key("webhook", 1);
  idem::Claim claim = idem::claim(store, key);
  claim = idem::claim(store, idem::make_key("webhook", 2));
  CHECK(idem::resolve(store, key, 24h, "found", 1) == Answer::ok);
  CHECK(idem::resolve(store, key, 24h, "found once more", 2) == Answer::stale);
  CHECK(idem::claim(store, key).result<int>().value() == 1);
}

TEST_CASE("forget frees a call in doubt, as the explicit choice that it is") {
  int runs = 0;
  idem::MemoryStore store;
  const auto guard = idem::idempotent<"charge">([&](int id) { return ++runs, id; }, store);
  leave_in_doubt(store, guard.key(1));
  CHECK_THROWS_AS(guard(1), idem::InDoubtError);
  CHECK(runs == 0);
  CHECK(guard.forget(1));
  CHECK(guard(1) == 1);
  CHECK(runs == 1);
}

TEST_CASE("resolve refuses a ttl that makes no sense") {
  idem::MemoryStore store;
  CHECK_THROWS_AS(idem::resolve(store, idem::make_key("webhook", 1), 0s, "zero", 1), std::invalid_argument);
}

}  // namespace claim_resolve
