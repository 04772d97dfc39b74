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

/// `make` gives a store of type S from a FileStore.
template <class S, class Make>
void check_promises(Make make) {
  std::size_t skipped = 0;
  std::string path;
  Clock used;
  idem::testing::check_conformance(
      [&](const Clock& clock) {
        support::Directory place;
        path = place.path();
        used = clock;
        return Placed<S>{std::move(place), make(FileStore(path, options(clock)))};
      },
      Report{&skipped}, [&](S&) { return make(FileStore(path, options(used))); });
  CHECK(skipped == 5);  // those about leases, and the one about objects
}

}  // namespace

TEST_CASE("T-15: a store of files keeps every store's promises") {
  check_promises<FileStore>([](FileStore store) { return store; });
}

TEST_CASE("T-15: a store of files behind AnyStore keeps every store's promises") {
  check_promises<AnyStore>([](FileStore store) { return AnyStore(std::move(store)); });
}
