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

TEST_CASE("a journal is half garbage where its current frames fill no more than half of it") {
  const std::uint64_t end = file::journal_header_size + 400'000;
  CHECK(file::is_half_garbage({end, 4096, 200'000}, {1000, 1000}));
  CHECK(!file::is_half_garbage({end, 4096, 200'001}, {1000, 1000}));
  CHECK(file::is_half_garbage({end, 4096, 0}, {}));
  // What has expired is judged by a sample.
  CHECK(file::is_half_garbage({end, 4096, 300'000}, {3000, 2000}));
  CHECK(!file::is_half_garbage({end, 4096, 300'000}, {3000, 2010}));
  CHECK(file::is_half_garbage({end, 4096, 400'000}, {3000, 0}));
  // Nothing found: an index that is nearly empty for its size.
  CHECK(file::is_half_garbage({end, 4096, 400'000}, {}));
  // A sample may be wrong; what is superseded is known.
  CHECK(!file::is_half_garbage({end, end / 2 + 1, 300'000}, {3000, 0}));
  CHECK(file::is_half_garbage({end, end / 2 + 1, 100'000}, {3000, 3000}));
  // No length that somebody forged makes a sum overflow.
  const std::uint64_t huge = ~std::uint64_t{0};
  CHECK(!file::is_half_garbage({huge, 4096, huge}, {huge, huge}));
  CHECK(file::is_half_garbage({huge, 4096, huge}, {huge, 1}));
}

TEST_CASE("a journal is looked at again after an eighth more, a page at least, and not below the size that was set") {
  CHECK(file::next_look(100'000, 4096) == 100'000);
  CHECK(file::next_look(100'000, 100'000) == 112'500);
  CHECK(file::next_look(0, 8192) == 8192 + 4096);
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

TEST_CASE("how long records are, and which table of the index they fall into, doesn't let the journal grow") {
  World world;
  const auto put = [&](const std::string& name, std::size_t size) {
    completed(world.store, name, std::string(size, 'r'));
  };
  for (int i = 0; i < 31; ++i) put("long " + std::to_string(i), 4096);
  int small = 0;
  for (int i = 0; small < 1500; ++i) {
    const std::string name = "small " + std::to_string(i);
    if (key_of(name).digest().bytes[8] % file::FileIndex::table_count != 0) continue;
    put(name, 1);
    ++small;
  }
  REQUIRE(world.store.compact().answer == Answer::ok);
  const std::uint64_t live = world.store.stats().bytes;
  std::uint64_t most = 0;
  for (int i = 0; i < 600; ++i) {
    put("passing", 4096);
    REQUIRE(world.store.erase(key_of("passing")).answer == Answer::ok);
    if (i % 8 != 0) continue;
    const std::uint64_t bytes = world.store.stats().bytes;
    most = bytes > most ? bytes : most;
  }
  CHECK(most < 5 * live / 2);
}

TEST_CASE("a store that is cleared or purged gives its room back, however long its records are") {
  for (const std::size_t size : {std::size_t{1}, std::size_t{600}, std::size_t{8192}}) {
    for (const bool purge : {false, true}) {
      CAPTURE(size);
      CAPTURE(purge);
      World world;
      for (int i = 0; i < 300; ++i) {
        completed(world.store, "kept " + std::to_string(i), std::string(size, 'r'), hours(1));
      }
      REQUIRE(world.store.compact().answer == Answer::ok);
      REQUIRE(world.store.stats().bytes > least);
      world.clock.advance(hours(purge ? 2 : 0));
      CHECK((purge ? world.store.purge({}).expired : world.store.clear()) == 300);
      CHECK(world.store.stats().bytes < least);
    }
  }
}

TEST_CASE("claims alone, of owners that die one after the other, don't let the journal grow for ever") {
  Directory place;
  const FileStoreOptions options = {.durability = Durability::process, .compact_at = 8192};
  const auto die = [&](int times) {
    for (int i = 0; i < times; ++i) {
      FileStore store(place.path(), options);
      REQUIRE(claim(store, "taken over", true).answer == Answer::acquired);
    }
  };
  die(60);
  // A claim leaves it to others for a while; who only looks doesn't do it.
  FileStore other(place.path(), options);
  CHECK(other.find(key_of("taken over")).answer == Answer::in_doubt);
  CHECK(generation_of(place) == 1);
  die(300);
  CHECK(generation_of(place) > 1);
  CHECK(other.stats().bytes < 5 * 8192);
  const Reply last = claim(other, "taken over", true);
  CHECK(last.record.attempt == 361);
}

TEST_CASE("what another process has made of the journal decides when it is looked at again") {
  World world;
  world.complete("day ", 0, 1000, hours(24));
  world.clock.advance(hours(25));
  FileStore other(world.directory.path(), {.durability = Durability::process, .clock = world.clock});
  REQUIRE(other.compact().answer == Answer::ok);
  REQUIRE(other.stats().bytes < least);
  // This one has seen the long journal last.
  for (int i = 0; i < 600; ++i) {
    world.complete("passing ", i, i + 1);
    REQUIRE(world.store.erase(key_of("passing " + std::to_string(i))).answer == Answer::ok);
    REQUIRE(world.store.stats().bytes < 2 * least);
  }
}
