// MemoryStore, and the stores of the testing headers, keep what every store promises.
#include <idem/clock.hpp>
#include <idem/memory_store.hpp>
#include <idem/testing/conformance.hpp>
#include <idem/testing/faulty_store.hpp>
#include <idem/testing/lease_store.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <memory>

namespace {

using idem::Clock;
using idem::MemoryStore;
using idem::testing::ConformanceResult;
using idem::testing::FaultyStore;
using idem::testing::LeaseStore;

struct Report {
  std::size_t* run;
  std::size_t* skipped;

  void operator()(const ConformanceResult& result) const {
    ++*run;
    if (result.skipped) ++*skipped;
    CHECK_MESSAGE(result.passed, result.id, ": ", result.promise, ": ", result.detail);
  }
};

template <class Make, class... Attach>
void conforms(std::size_t skips, Make make, Attach... attach) {
  std::size_t run = 0;
  std::size_t skipped = 0;
  idem::testing::check_conformance(make, Report{&run, &skipped}, attach...);
  CHECK(run > 30);
  CHECK(skipped == skips);
}

}  // namespace

TEST_CASE("CORE-01 CORE-02 CORE-03 CORE-06 CORE-07 CORE-13: a MemoryStore keeps every store's promises") {
  // Not asked: what is about leases, and about two objects onto the same records.
  conforms(5, [](const Clock& clock) {
    return std::make_unique<MemoryStore>(idem::MemoryStoreOptions{.clock = clock});
  });
}

TEST_CASE("CORE-01 CORE-02 CORE-03 CORE-06 CORE-07 CORE-13: a LeaseStore keeps every store's promises") {
  conforms(1, [](const Clock& clock) { return LeaseStore({.clock = clock}); },
           [](LeaseStore& store) { return store; });
}

TEST_CASE("SIM-05: a FaultyStore without faults is the store that it is made of") {
  conforms(4, [](const Clock& clock) { return FaultyStore{MemoryStore{{.clock = clock}}}; },
           [](FaultyStore<MemoryStore>& store) { return store; });
  conforms(1, [](const Clock& clock) { return FaultyStore{LeaseStore{{.clock = clock}}}; },
           [](FaultyStore<LeaseStore>& store) { return store; });
}
