// Clocks that are set forth and back: nothing that expired comes back, and nothing expires because of a step back.
#include "support/store_files.hpp"

#include <idem/testing/manual_clock.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <unistd.h>

namespace file_time {

using namespace store_files;
using idem::testing::ManualClock;
using std::chrono::hours;

FileStoreOptions options(const ManualClock& clock) {
  return {.durability = Durability::process, .clock = clock};
}

}  // namespace file_time

using namespace file_time;

TEST_CASE("TIM-07: what has expired doesn't come back when the clock is set back") {
  Directory place;
  ManualClock clock;
  FileStore store(place.path(), options(clock));
  completed(store, "short", "result", hours(1));
  completed(store, "long", "result", hours(100));
  clock.advance(hours(2));

  SUBCASE("seen by a claim") {
    const Reply anew = claim(store, "short");
    REQUIRE(anew.answer == Answer::acquired);
    clock.advance(-hours(3));
    CHECK(claim(store, "short").answer == Answer::running);
    REQUIRE(store.release(key_of("short"), anew.record.owner).answer == Answer::ok);
    CHECK(store.find(key_of("short")).answer == Answer::absent);
  }
  SUBCASE("seen by a look") {
    REQUIRE(store.find(key_of("short")).answer == Answer::absent);
    clock.advance(-hours(3));
    CHECK(store.find(key_of("short")).answer == Answer::absent);
    FileStore other(place.path(), options(clock));
    CHECK(other.find(key_of("short")).answer == Answer::absent);
  }
  SUBCASE("purged") {
    REQUIRE(store.purge({}).expired == 1);
    clock.advance(-hours(3));
    CHECK(store.find(key_of("short")).answer == Answer::absent);
  }
  SUBCASE("left out by a compaction") {
    REQUIRE(store.compact().answer == Answer::ok);
    clock.advance(-hours(3));
    CHECK(store.find(key_of("short")).answer == Answer::absent);
  }
  SUBCASE("expired while another record was written") {
    completed(store, "other", "result");
    clock.advance(-hours(3));
    CHECK(store.find(key_of("short")).answer == Answer::absent);
    CHECK(claim(store, "short").answer == Answer::acquired);
  }
  CHECK(claim(store, "long").answer == Answer::completed);
}

TEST_CASE("TIM-07: the time that was seen outlives stores, the shared page and compactions") {
  Directory place;
  ManualClock clock;
  {
    FileStore store(place.path(), options(clock));
    completed(store, "short", "result", hours(1));
    clock.advance(hours(2));
    completed(store, "other", "result");
    SUBCASE("in the journal") {}
    SUBCASE("in a compacted journal") {
      REQUIRE(store.compact().answer == Answer::ok);
    }
    SUBCASE("in a compacted journal that holds nothing else") {
      REQUIRE(store.erase(key_of("other")).answer == Answer::ok);
      REQUIRE(store.compact().answer == Answer::ok);
    }
  }
  ::unlink((place / "page").c_str());
  clock.advance(-hours(10));
  FileStore store(place.path(), options(clock));
  CHECK(store.find(key_of("short")).answer == Answer::absent);
  // A record made now doesn't seem older than it is, and lives no longer than was said.
  completed(store, "new", "result", hours(1));
  clock.advance(hours(9));
  CHECK(claim(store, "new").answer == Answer::completed);
  clock.advance(hours(3));
  CHECK(claim(store, "new").answer == Answer::acquired);
}

TEST_CASE("TIM-07: a clock that is set back lets nothing run again early") {
  Directory place;
  ManualClock clock;
  FileStore store(place.path(), options(clock));
  completed(store, "done", "result", hours(5));
  const Ownership running = claimed(store, "running");
  for (const int step : {-1, -100, 90, -10000, 10014}) {
    clock.advance(hours(step));
    CHECK(claim(store, "done").answer == Answer::completed);
    CHECK(claim(store, "running").answer == Answer::running);
    CHECK(store.purge({.in_doubt_older_than = idem::Duration(std::chrono::seconds(0))}).expired == 0);
    REQUIRE(store.compact().answer == Answer::ok);
  }
  // Finished before it was claimed, by the clock.
  clock.advance(-hours(50));
  CHECK(store.complete(key_of("running"), outcome(running, "late", hours(5))).answer == Answer::ok);
  const Reply late = claim(store, "running");
  CHECK(late.answer == Answer::completed);
  CHECK(late.record.finished_at >= late.record.started_at);
}

TEST_CASE("TIM-07: processes whose clocks differ agree on the latest") {
  Directory place;
  ManualClock early;
  ManualClock late(early.now() + hours(100));
  FileStore behind(place.path(), options(early));
  FileStore ahead(place.path(), options(late));
  completed(behind, "a", "result", hours(10));
  CHECK(behind.find(key_of("a")).answer == Answer::completed);
  completed(ahead, "b", "result", hours(10));
  CHECK(ahead.find(key_of("a")).answer == Answer::absent);
  CHECK(behind.find(key_of("a")).answer == Answer::absent);
  CHECK(behind.find(key_of("b")).answer == Answer::completed);
  completed(behind, "c", "result", hours(10));
  CHECK(ahead.find(key_of("c")).answer == Answer::completed);
}

TEST_CASE("TIM-10: retention counts from the completion, and completing once more doesn't extend it") {
  Directory place;
  ManualClock clock;
  FileStore store(place.path(), options(clock));
  const Ownership owner = claimed(store, "a");
  clock.advance(hours(10));
  REQUIRE(store.complete(key_of("a"), outcome(owner, "x", hours(1))).answer == Answer::ok);
  const idem::TimePoint end = clock.now() + hours(1);
  clock.advance(std::chrono::minutes(30));
  REQUIRE(store.complete(key_of("a"), outcome(owner, "x", hours(1))).answer == Answer::ok);
  CHECK(store.find(key_of("a")).record.expires_at == end);
  clock.set(end - std::chrono::microseconds(1));
  CHECK(store.find(key_of("a")).answer == Answer::completed);
  clock.set(end);
  CHECK(store.find(key_of("a")).answer == Answer::absent);
}
