// A directory keeps every store's promises.
#include <idem/any_store.hpp>
#include <idem/clock.hpp>
#include <idem/file_store.hpp>
#include <idem/testing/conformance.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <string>
#include <utility>

#include "support/directory.hpp"

namespace {

using idem::AnyStore;
using idem::Clock;
using idem::FileStore;
using idem::FileStoreOptions;
using idem::testing::ConformanceResult;

struct Report {
  std::size_t* skipped;

  void operator()(const ConformanceResult& result) const {
    if (result.skipped) ++*skipped;
    CHECK_MESSAGE(result.passed, result.id, ": ", result.promise, ": ", result.detail);
  }
};

/// A store and its directory, in the order in which they go.
template <class S>
struct Placed {
  support::Directory place;
  S store;

  S& operator*() noexcept { return store; }
};

FileStoreOptions options(const Clock& clock) {
  // What power costs is measured elsewhere; the promises are the same.
  return {.durability = idem::Durability::process, .clock = clock};
}

}  // namespace

TEST_CASE("T-15: a store of files keeps every store's promises") {
  std::size_t skipped = 0;
  std::string path;
  Clock used;
  idem::testing::check_conformance(
      [&](const Clock& clock) {
        support::Directory place;
        path = place.path();
        used = clock;
        return Placed<FileStore>{std::move(place), FileStore(path, options(clock))};
      },
      Report{&skipped}, [&](FileStore&) { return FileStore(path, options(used)); });
  CHECK(skipped == 5);  // those about leases, and the one about objects
}

TEST_CASE("T-15: a store of files behind AnyStore keeps every store's promises") {
  std::size_t skipped = 0;
  std::string path;
  Clock used;
  idem::testing::check_conformance(
      [&](const Clock& clock) {
        support::Directory place;
        path = place.path();
        used = clock;
        return Placed<AnyStore>{std::move(place), AnyStore(FileStore(path, options(clock)))};
      },
      Report{&skipped}, [&](AnyStore&) { return AnyStore(FileStore(path, options(used))); });
  CHECK(skipped == 5);
}
