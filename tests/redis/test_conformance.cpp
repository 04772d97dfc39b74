// A store on a server keeps every store's promises.
#include <idem/any_store.hpp>
#include <idem/clock.hpp>
#include <idem/redis_store.hpp>
#include <idem/testing/conformance.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <string>
#include <utility>

#include "support/redis_server.hpp"

namespace {

using idem::AnyStore;
using idem::Clock;
using idem::RedisStore;
using idem::testing::ConformanceResult;

struct Report {
  std::size_t* skipped;

  void operator()(const ConformanceResult& result) const {
    if (result.skipped) ++*skipped;
    CHECK_MESSAGE(result.passed, result.id, ": ", result.promise, ": ", result.detail);
  }
};

/// Each case has records of its own on one server, by a prefix. `make` gives a store of type S from a RedisStore.
template <class S, class Make>
void check_promises(bool by_tcp, Make make) {
  support::RedisServer server;
  std::size_t skipped = 0;
  int cases = 0;
  Clock used;
  const auto open = [&](const Clock& clock) {
    idem::RedisOptions options;
    options.port = server.port();
    if (!by_tcp) options.unix_socket = server.unix_socket();
    options.prefix = "case " + std::to_string(cases) + ":";
    options.clock = clock;
    return make(RedisStore(options));
  };
  idem::testing::check_conformance(
      [&](const Clock& clock) {
        ++cases;
        used = clock;
        return open(clock);
      },
      Report{&skipped}, [&](S&) { return open(used); });
  CHECK(skipped == 1);  // the one about objects
}

}  // namespace

TEST_CASE("T-15: a store on a Redis server keeps every store's promises") {
  check_promises<RedisStore>(true, [](RedisStore store) { return store; });
}

TEST_CASE("T-15: a store on a Redis server behind AnyStore keeps every store's promises") {
  check_promises<AnyStore>(false, [](RedisStore store) { return AnyStore(std::move(store)); });
}
