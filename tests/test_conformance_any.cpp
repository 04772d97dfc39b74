// Behind AnyStore every store is what it was.
#include <idem/any_store.hpp>
#include <idem/clock.hpp>
#include <idem/memory_store.hpp>
#include <idem/testing/conformance.hpp>
#include <idem/testing/lease_store.hpp>

#include <doctest/doctest.h>

#include <cstddef>

namespace {

using idem::AnyStore;
using idem::Clock;
using idem::testing::ConformanceResult;

struct Report {
  std::size_t* skipped;

  void operator()(const ConformanceResult& result) const {
    if (result.skipped) ++*skipped;
    CHECK_MESSAGE(result.passed, result.id, ": ", result.promise, ": ", result.detail);
  }
};

constexpr auto same_store = [](AnyStore& store) { return store; };

}  // namespace

TEST_CASE("T-15: a store of objects behind AnyStore keeps every store's promises") {
  std::size_t skipped = 0;
  idem::testing::check_conformance(
      [](const Clock& clock) { return AnyStore(idem::MemoryStore(idem::MemoryStoreOptions{.clock = clock})); },
      Report{&skipped}, same_store);
  CHECK(skipped == 4);  // those about leases
}

TEST_CASE("T-15: a store of bytes behind AnyStore keeps every store's promises") {
  std::size_t skipped = 0;
  idem::testing::check_conformance(
      [](const Clock& clock) { return AnyStore(idem::testing::LeaseStore({.clock = clock})); },
      Report{&skipped}, same_store);
  CHECK(skipped == 1);  // the one about objects
}
