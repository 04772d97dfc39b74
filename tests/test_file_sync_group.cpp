// When an fdatasync waits for more threads that need one.
#include <doctest/doctest.h>

#include <idem/detail/file/sync_group.hpp>

#include <cstdint>

using idem::detail::file::SyncGroup;

namespace {

constexpr std::int64_t duration = 1000;  // microseconds

/// Threads of one process beside a disk, on a clock of its own.
struct Disk {
  SyncGroup group;
  std::int64_t now = 5'000'000;

  void join(int threads) {
    for (int i = 0; i < threads; ++i) group.join();
  }
  /// One fdatasync, during which `threads` more need the next one.
  void sync(int threads_meanwhile = 0, std::int64_t took = duration) {
    group.begin(now);
    join(threads_meanwhile);
    now += took;
    group.end(now);
  }
  /// Brings the group to where it expects so many threads.
  void expect(int threads) {
    join(threads);
    sync();
  }
};

}  // namespace

TEST_CASE("the first fdatasync begins at once") {
  Disk disk;
  disk.join(1);
  CHECK(disk.group.wait(disk.now) == 0);
}

TEST_CASE("a thread that is alone never waits") {
  Disk disk;
  for (int i = 0; i < 100; ++i) {
    disk.join(1);
    REQUIRE(disk.group.wait(disk.now) == 0);
    disk.sync();
    disk.now += 10;
  }
}

TEST_CASE("an fdatasync waits for those whom the last one served, for half of its time at most") {
  Disk disk;
  disk.expect(4);
  disk.join(3);
  CHECK(disk.group.wait(disk.now) == duration / 2);
  CHECK(disk.group.wait(disk.now + 100) == duration / 2 - 100);
  CHECK(disk.group.wait(disk.now + duration / 2) == 0);
  CHECK(disk.group.wait(disk.now + 60 * duration) == 0);
  disk.join(1);
  CHECK(disk.group.is_full());
  CHECK(disk.group.wait(disk.now) == 0);
}

TEST_CASE("those who came while an fdatasync ran are waited with, not for") {
  Disk disk;
  disk.join(5);
  disk.sync(3);
  // Three are here, and the five that were served are expected.
  CHECK(disk.group.wait(disk.now) == duration / 2);
  disk.join(4);
  CHECK(disk.group.wait(disk.now) != 0);
  disk.join(1);
  CHECK(disk.group.wait(disk.now) == 0);
}

TEST_CASE("an fdatasync that waited in vain lets the next ones begin at once, for longer each time") {
  Disk disk;
  int at_once = 0;
  for (int vain = 0; vain < 14; ++vain) {
    int now_at_once = 0;
    for (;; ++now_at_once) {
      // Two of three threads have gone away by the time that the next one could begin.
      disk.join(2);
      if (disk.group.wait(disk.now) != 0) break;
      disk.sync(1);
      REQUIRE(now_at_once < 10'000);
    }
    disk.now += duration / 2;
    REQUIRE(disk.group.wait(disk.now) == 0);
    disk.sync(2);
    CHECK(now_at_once >= at_once);
    at_once = now_at_once;
  }
  CHECK(at_once > 1000);
}

TEST_CASE("threads that come back after a while are waited for again") {
  Disk disk;
  disk.expect(3);
  disk.join(1);
  disk.now += duration;
  disk.sync(2);
  int at_once = 0;
  for (; at_once < 100; ++at_once) {
    disk.join(1);
    if (disk.group.wait(disk.now) != 0) break;
    disk.sync(2);
  }
  CHECK(at_once > 1);
  CHECK(at_once < 100);
}

TEST_CASE("where the disk is faster than falling asleep nobody waits") {
  Disk disk;
  disk.join(8);
  disk.sync(0, 30);
  disk.join(1);
  CHECK(disk.group.wait(disk.now) == 0);
}

TEST_CASE("a clock that goes back makes nobody wait for longer") {
  Disk disk;
  disk.expect(4);
  disk.join(1);
  CHECK(disk.group.wait(disk.now - 10 * duration) == 0);
  disk.group.begin(disk.now);
  disk.group.end(disk.now - duration);
  disk.join(1);
  CHECK(disk.group.wait(disk.now) <= duration / 2);
}
