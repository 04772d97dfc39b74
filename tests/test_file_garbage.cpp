// When a journal is rewritten by itself: where half of it is garbage, and not where nearly all of it counts.
#include <doctest/doctest.h>

#include "support/store_files.hpp"

#include <idem/detail/file/garbage.hpp>
#include <idem/testing/manual_clock.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

namespace file_garbage {

using namespace store_files;
using idem::detail::file::Sample;
using idem::testing::ManualClock;
using std::chrono::hours;

constexpr std::size_t least = 32768;  // bytes of a journal before it is looked at

struct World {
  Directory directory;
  ManualClock clock;
  FileStore store{directory.path(), {.durability = Durability::process, .compact_at = least, .clock = clock}};

  std::uint64_t generation() const { return generation_of(directory); }
  void complete(const std::string& prefix, int from, int to, idem::Duration ttl = idem::forever) {
    for (int i = from; i < to; ++i) completed(store, prefix + std::to_string(i), std::string(200, 'r'), ttl);
  }
  bool has(const std::string& prefix, int from, int to) {
    for (int i = from; i < to; ++i) {
      if (payload_of(store.find(key_of(prefix + std::to_string(i)))) != std::string(200, 'r')) return false;
    }
    return true;
  }
};

}  // namespace file_garbage

using namespace file_garbage;

TEST_CASE("a journal is half garbage where its live frames fill no more than half of it") {
  const std::uint64_t records = 1000;
  CHECK(file::is_half_garbage(400'000, records, {.size = 10, .live_bytes = 2000}));
  CHECK(!file::is_half_garbage(400'000, records, {.size = 10, .live_bytes = 2010}));
  CHECK(file::is_half_garbage(400'000, records, {.size = 10, .live_bytes = 0}));
  // Nothing that counts is all garbage.
  CHECK(file::is_half_garbage(400'000, 0, {}));
  CHECK(file::is_half_garbage(400'000, records, {}));
  // No length that somebody forged makes a sum overflow.
  const std::uint64_t huge = ~std::uint64_t{0};
  CHECK(!file::is_half_garbage(huge, huge, {.size = 1, .live_bytes = huge}));
  CHECK(!file::is_half_garbage(huge, 2, {.size = 1, .live_bytes = huge}));
  CHECK(file::is_half_garbage(huge, 2, {.size = 256, .live_bytes = huge}));
}

TEST_CASE("what counts is not copied again and again while a store fills up") {
  World world;
  world.complete("kept ", 0, 1000);
  CHECK(world.store.stats().bytes > 10 * least);
  CHECK(world.generation() == 1);
  CHECK(world.has("kept ", 0, 1000));
}

TEST_CASE("a journal of passing keys stays small, and one of keys that run again and again does") {
  World world;
  world.complete("kept ", 0, 10);
  for (int i = 0; i < 600; ++i) {
    world.complete("passing ", i, i + 1);
    REQUIRE(world.store.erase(key_of("passing " + std::to_string(i))).answer == Answer::ok);
    REQUIRE(world.store.stats().bytes < 2 * least);
  }
  const std::uint64_t before = world.generation();
  CHECK(before > 3);
  for (int i = 0; i < 600; ++i) {
    const Ownership owner = claimed(world.store, "retried");
    REQUIRE(world.store.release(key_of("retried"), owner).answer == Answer::ok);
    REQUIRE(world.store.stats().bytes < 2 * least);
  }
  CHECK(world.generation() > before);
  CHECK(world.has("kept ", 0, 10));
}

TEST_CASE("what has expired makes room although nobody purges, and live results are kept") {
  World world;
  world.complete("kept ", 0, 40);
  std::uint64_t most = 0;
  for (int hour = 0; hour < 30; ++hour) {
    world.complete("hour " + std::to_string(hour) + " ", 0, 40, hours(1));
    world.clock.advance(hours(1));
    const std::uint64_t bytes = world.store.stats().bytes;
    most = bytes > most ? bytes : most;
  }
  // 80 live frames of about 400 bytes with their claims, and what has just expired.
  CHECK(most < 4 * least);
  CHECK(world.generation() > 3);
  CHECK(world.has("kept ", 0, 40));
  CHECK(FileStore::verify(world.directory.path()).good());
}

TEST_CASE("a store that was full of live results is rewritten once they have expired") {
  World world;
  world.complete("day ", 0, 1000, hours(24));
  const std::uint64_t full = world.store.stats().bytes;
  REQUIRE(world.generation() == 1);
  world.clock.advance(hours(25));
  world.complete("next ", 0, 300);
  CHECK(world.generation() > 1);
  CHECK(world.store.stats().bytes < full / 2);
  CHECK(world.has("next ", 0, 300));
}

TEST_CASE("what nobody finished counts as live, whatever the clock says") {
  World world;
  for (int i = 0; i < 400; ++i) claimed(world.store, "running " + std::to_string(i));
  world.clock.advance(hours(24 * 365));
  world.complete("kept ", 0, 10);
  CHECK(world.generation() == 1);
  for (int i = 0; i < 400; ++i) {
    CHECK(claim(world.store, "running " + std::to_string(i)).answer == Answer::running);
  }
}
