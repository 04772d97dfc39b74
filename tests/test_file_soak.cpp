// FLK-15 for some seconds; tests/file/soak.cpp does it for as long as is asked for.
#include <doctest/doctest.h>

#if !defined(_WIN32)

#include "support/directory.hpp"
#include "support/file_soak.hpp"

namespace {

void soak(double seconds, std::size_t processes, std::uint64_t seed) {
  const support::Directory place;
  file_soak::Soak one({.path = place.path(), .seconds = seconds, .processes = processes, .seed = seed});
  const file_soak::Report report = one.run();
  for (const std::string& failure : report.failures) FAIL_CHECK(failure);
  CHECK(report.good());
  CHECK(report.kills > 0);
  CHECK(report.stops > 0);
  MESSAGE(report.keys, " keys, ", report.effects, " effects, ", report.reruns, " chosen again, ", report.recovered,
          " recovered, ", report.replayed, " replayed, ", report.kills, " kills, ", report.stops, " stops");
}

}  // namespace

TEST_CASE("FLK-15: sixteen processes, killed and stopped at random, repeat no effect that nobody chose to repeat") {
  soak(3, 16, 1);
}

#endif
