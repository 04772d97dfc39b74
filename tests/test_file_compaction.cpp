// A compaction leaves out what is superseded or expired, and nothing else, while others go on.
#include "support/store_files.hpp"

#include <idem/testing/manual_clock.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <sys/file.h>
#include <sys/wait.h>

namespace file_compaction {

using namespace store_files;
using idem::testing::ManualClock;
using std::chrono::hours;

/// Of each key the last record as it stands in the journal, with the frame's sequence, time and owner.
std::map<std::string, std::string> last_records(const Directory& place) {
  const Content journal = read(place / "journal");
  std::map<std::string, std::string> records;
  for (const Place& at : frames_of(journal)) {
    const std::uint8_t* const digest = file::digest_of(at.frame);
    if (digest == nullptr) continue;
    const std::string key(digest, digest + 32);
    std::string whole(at.frame.content, at.frame.content + at.frame.content_size);
    whole += "#" + std::to_string(at.frame.sequence) + "#" + std::to_string(at.frame.time);
    whole.append(at.frame.owner.bytes, at.frame.owner.bytes + 16);
    records[key] = whole;
    if (at.frame.type == file::FrameType::erase) records.erase(key);
  }
  return records;
}

/// Claims and completes keys of its own, and looks again at each. True where all of that went well.
bool work(FileStore& store, const std::string& who, int keys) {
  for (int i = 0; i < keys; ++i) {
    const std::string name = who + std::to_string(i);
    const std::string payload = "result of " + name + std::string(static_cast<std::size_t>(i % 7) * 40, '.');
    const Reply taken = claim(store, name);
    if (taken.answer != Answer::acquired) return false;
    if (i % 5 == 0) {
      if (store.release(key_of(name), taken.record.owner).answer != Answer::ok) return false;
      continue;
    }
    if (store.complete(key_of(name), outcome(taken.record.owner, payload)).answer != Answer::ok) return false;
    const Reply again = claim(store, name);
    if (again.answer != Answer::completed || payload_of(again) != payload) return false;
  }
  return true;
}

/// Whether all that `work` was told is so.
bool holds(FileStore& store, const std::string& who, int keys) {
  for (int i = 0; i < keys; ++i) {
    const std::string name = who + std::to_string(i);
    const Reply found = store.find(key_of(name));
    if (i % 5 == 0) {
      if (found.answer != Answer::absent) return false;
    } else if (found.answer != Answer::completed || payload_of(found).find("result of " + name) != 0) {
      return false;
    }
  }
  return true;
}

}  // namespace file_compaction

using namespace file_compaction;

TEST_CASE("a compaction drops what is expired and superseded, and keeps everything else byte for byte") {
  Directory place;
  ManualClock clock;
  FileStore store(place.path(), {.durability = Durability::process, .clock = clock});
  for (int i = 0; i < 50; ++i) {
    const std::string number = std::to_string(i);
    completed(store, "kept " + number, std::string(static_cast<std::size_t>(i) * 17, 'k'), hours(10));
    completed(store, "expired " + number, "e", hours(1));
    completed(store, "erased " + number, "g");
    REQUIRE(store.erase(key_of("erased " + number)).answer == Answer::ok);
  }
  const Reply with_fingerprint = claim(store, "fingerprint", false, 42);
  REQUIRE(with_fingerprint.answer == Answer::acquired);
  REQUIRE(store.abandon(key_of("fingerprint"), with_fingerprint.record.owner).answer == Answer::ok);
  REQUIRE(claim(store, "fingerprint", true, 42).record.attempt == 2);
  const Ownership failed = claimed(store, "failed");
  REQUIRE(store.fail(key_of("failed"), outcome(failed, "thrown")).answer == Answer::ok);
  claimed(store, "running");
  const Ownership lost = claimed(store, "in doubt");
  REQUIRE(store.abandon(key_of("in doubt"), lost).answer == Answer::ok);
  clock.advance(hours(2));

  std::map<std::string, std::string> before = last_records(place);
  const std::uint64_t bytes = store.stats().bytes;
  const Reply compacted = store.compact();
  REQUIRE_MESSAGE(compacted.answer == Answer::ok, compacted.message);
  CHECK(generation_of(place) == 2);
  const std::map<std::string, std::string> after = last_records(place);
  CHECK(after.size() == 54);
  CHECK(before.size() == 104);
  for (const auto& [key, record] : after) {
    REQUIRE(before.count(key) == 1);
    CHECK(before[key] == record);
  }
  CHECK(frames_of(read(place / "journal")).size() == 55);  // and the seal
  CHECK(store.stats().bytes < bytes);

  FileStore fresh(place.path(), {.durability = Durability::process, .clock = clock});
  for (FileStore* each : {&store, &fresh}) {
    for (int i = 0; i < 50; ++i) {
      const std::string number = std::to_string(i);
      CHECK(payload_of(each->find(key_of("kept " + number))) == std::string(static_cast<std::size_t>(i) * 17, 'k'));
      CHECK(each->find(key_of("expired " + number)).answer == Answer::absent);
      CHECK(each->find(key_of("erased " + number)).answer == Answer::absent);
    }
    CHECK(claim(*each, "running").answer == Answer::running);
    CHECK(claim(*each, "in doubt").answer == Answer::in_doubt);
    CHECK(payload_of(claim(*each, "failed")) == "thrown");
    CHECK(claim(*each, "fingerprint", false, 43).answer == Answer::conflict);
    CHECK(each->find(key_of("fingerprint")).record.attempt == 2);
  }
  CHECK(FileStore::verify(place.path()).good());
}

TEST_CASE("epochs and sequences go on over compactions, also of keys that left no trace") {
  Directory place;
  FileStore store(place.path(), with(Durability::process));
  FileStore other(place.path(), with(Durability::process));
  std::uint64_t highest = 0;
  for (int round = 0; round < 6; ++round) {
    CAPTURE(round);
    FileStore& here = round % 2 == 0 ? store : other;
    const Ownership owner = completed(here, "again and again", "x");
    CHECK(owner.epoch > highest);
    highest = owner.epoch;
    REQUIRE(here.erase(key_of("again and again")).answer == Answer::ok);
    REQUIRE(here.compact().answer == Answer::ok);
    const std::vector<Place> frames = frames_of(read(place / "journal"));
    REQUIRE(frames.size() == 1);
    CHECK(frames[0].frame.type == file::FrameType::seal);
    CHECK(frames[0].frame.sequence > highest);
  }
  CHECK(generation_of(place) == 7);
}

TEST_CASE("owners live on over a compaction by somebody else, and late outcomes find their records") {
  Directory place;
  FileStore owner(place.path(), with(Durability::power));
  FileStore other(place.path(), with(Durability::power));
  const Ownership running = claimed(owner, "running");
  completed(other, "old", "old");
  REQUIRE(other.compact().answer == Answer::ok);
  REQUIRE(other.compact().answer == Answer::ok);
  CHECK(claim(other, "running", true).answer == Answer::running);
  CHECK(claim(owner, "old").answer == Answer::completed);
  CHECK(owner.complete(key_of("running"), outcome(running, "late")).answer == Answer::ok);
  CHECK(payload_of(claim(other, "running")) == "late");
  CHECK(owner.complete(key_of("running"), outcome(running, "late")).answer == Answer::ok);
}

TEST_CASE("compactions lose nothing while four threads and two processes write") {
  constexpr int keys = 150;
  Directory place;
  pid_t children[2] = {};
  for (int c = 0; c < 2; ++c) {
    children[c] = ::fork();
    REQUIRE(children[c] >= 0);
    if (children[c] != 0) continue;
    ::alarm(60);
    FileStore store(place.path(), with(c == 0 ? Durability::power : Durability::process));
    const std::string who = "child" + std::to_string(c) + ".";
    const bool good = work(store, who, keys) && store.compact().answer == Answer::ok && holds(store, who, keys);
    ::_exit(good ? 0 : 1);
  }
  FileStore store(place.path(), with(Durability::power));
  FileStore reader(place.path(), with(Durability::process));
  std::atomic<int> good{0};
  std::atomic<int> busy{4};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      if (work(t == 3 ? reader : store, "thread" + std::to_string(t) + ".", keys)) ++good;
      --busy;
    });
  }
  // Not every one is done here: where somebody else compacts it is left to them.
  do {
    CHECK(store.compact().answer == Answer::ok);
  } while (busy != 0 || generation_of(place) < 4);
  for (std::thread& thread : threads) thread.join();
  CHECK(good == 4);
  for (const pid_t child : children) {
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
  }
  FileStore fresh(place.path(), with(Durability::power));
  for (FileStore* each : {&store, &reader, &fresh}) {
    for (int t = 0; t < 4; ++t) CHECK(holds(*each, "thread" + std::to_string(t) + ".", keys));
    for (int c = 0; c < 2; ++c) CHECK(holds(*each, "child" + std::to_string(c) + ".", keys));
  }
  CHECK(!exists(place / "journal.old"));
  CHECK(!exists(place / "journal.next"));
  CHECK(FileStore::verify(place.path()).good());
}

TEST_CASE("what is erased or made anew while many records are listed is neither brought back nor lost") {
  constexpr std::size_t keys = 3000;  // some tables of the index are listed at a time
  constexpr std::size_t writers = 4;
  constexpr std::uint64_t compactions = 25;
  Directory place;
  FileStore store(place.path(), {.durability = Durability::process, .compact_at = std::size_t{1} << 30});
  const auto name = [](std::size_t key) { return "key " + std::to_string(key); };
  std::vector<std::string> expected(keys, "old");  // empty: erased
  for (std::size_t key = 0; key < keys; ++key) completed(store, name(key), "old");
  std::atomic<bool> ending{false};
  std::atomic<int> refused{0};
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < writers; ++t) {
    threads.emplace_back([&, t] {
      for (std::size_t key = t, round = 1; !ending; key += writers) {
        if (key >= keys) {
          key = t;
          ++round;
        }
        if (!expected[key].empty() && store.erase(key_of(name(key))).answer != Answer::ok) ++refused;
        expected[key].clear();
        if (key % 3 == 0) continue;
        const std::string payload = std::to_string(round);
        const Reply taken = claim(store, name(key));
        if (store.complete(key_of(name(key)), outcome(taken.record.owner, payload)).answer != Answer::ok) ++refused;
        expected[key] = payload;
      }
    });
  }
  for (std::uint64_t i = 0; i < compactions; ++i) CHECK(store.compact().answer == Answer::ok);
  ending = true;
  for (std::thread& thread : threads) thread.join();
  CHECK(refused == 0);
  CHECK(generation_of(place) == compactions + 1);
  FileStore fresh(place.path(), with(Durability::process));
  for (FileStore* each : {&store, &fresh}) {
    for (std::size_t key = 0; key < keys; ++key) {
      REQUIRE_MESSAGE(payload_of(each->find(key_of(name(key)))) == expected[key], key);
    }
  }
}

TEST_CASE("one compactor at a time: others leave it alone, or say that somebody is at it") {
  Directory place;
  FileStore store(place.path(), with(Durability::process));
  completed(store, "done", "result");
  REQUIRE(store.compact().answer == Answer::ok);
  const int held = ::open((place / "compacting").c_str(), O_RDWR | O_CLOEXEC);
  REQUIRE(held >= 0);
  REQUIRE(::flock(held, LOCK_EX | LOCK_NB) == 0);
  CHECK(store.compact().answer == Answer::ok);
  CHECK(generation_of(place) == 2);
  for (const Reply& reply : {store.recover(), store.repair()}) {
    CHECK(reply.answer == Answer::unavailable);
    CHECK_MESSAGE(reply.message.find("another process is compacting") != std::string::npos, reply.message);
  }
  ::close(held);
  CHECK(store.recover().answer == Answer::ok);
  CHECK(generation_of(place) == 3);
  CHECK(claim(store, "done").answer == Answer::completed);
}

TEST_CASE("FDU-06: a poisoned journal refuses, replays what is on disk, and recover() resumes for everybody") {
  Directory place;
  FileStore store(place.path(), with(Durability::power));
  FileStore other(place.path(), with(Durability::power));
  completed(store, "done", "result");
  const Ownership running = claimed(other, "running");
  {
    const int directory = ::open(place.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    file::SharedPage page;
    REQUIRE(!page.open(directory, false));
    page.poison(true);
    write(place / "poisoned", {});
    ::close(directory);
  }
  const auto refuses = [&](FileStore& each, const std::string& name) {
    const Reply refused = claim(each, name);
    CHECK(refused.answer == Answer::unavailable);
    CHECK_MESSAGE(refused.message.find("recover()") != std::string::npos, refused.message);
    CHECK(each.stats().poisoned);
    CHECK(payload_of(claim(each, "done")) == "result");
    CHECK(each.compact().answer == Answer::unavailable);
  };
  refuses(store, "a");
  refuses(other, "b");
  CHECK(other.complete(key_of("running"), outcome(running, "late")).answer == Answer::unavailable);
  FileStore later(place.path(), with(Durability::power));
  refuses(later, "c");

  const Reply recovered = later.recover();
  CHECK_MESSAGE(recovered.answer == Answer::ok, recovered.message);
  CHECK(!exists(place / "poisoned"));
  for (FileStore* each : {&store, &other, &later}) {
    CHECK(!each->stats().poisoned);
    CHECK(payload_of(claim(*each, "done")) == "result");
    CHECK(claim(*each, "running").answer == Answer::running);
  }
  for (const char* name : {"a", "b", "c"}) CHECK(trouble(store, name).empty());
  CHECK(other.complete(key_of("running"), outcome(running, "late")).answer == Answer::ok);
  CHECK(FileStore::verify(place.path()).good());
}

TEST_CASE("FDU-06: the mark of a failed fdatasync outlives the page, and so a restart of the machine") {
  Directory place;
  REQUIRE(FileStore(place.path(), with(Durability::power)).open().answer == Answer::ok);
  write(place / "poisoned", {});
  ::unlink((place / "page").c_str());
  FileStore store(place.path(), with(Durability::power));
  CHECK(claim(store, "a").answer == Answer::unavailable);
  CHECK(store.recover().answer == Answer::ok);
  CHECK(trouble(store, "a").empty());
}

TEST_CASE("FDU-06: where the journal is damaged as well, repair() recovers too") {
  Directory place;
  {
    FileStore store(place.path(), with(Durability::power));
    completed(store, "done", "result");
    completed(store, "lost", "result");
  }
  const std::vector<Place> frames = frames_of(read(place / "journal"));
  const Content zeros(frames[3].frame.size);
  write_at(place / "journal", frames[3].offset, zeros.data(), zeros.size());
  write(place / "poisoned", {});
  FileStore store(place.path(), with(Durability::power));
  CHECK(claim(store, "new").answer != Answer::acquired);
  const Reply refused = store.recover();
  CHECK(refused.answer == Answer::unavailable);
  CHECK_MESSAGE(refused.message.find("repair()") != std::string::npos, refused.message);
  const Reply repaired = store.repair();
  CHECK_MESSAGE(repaired.answer == Answer::ok, repaired.message);
  CHECK(trouble(store, "new").empty());
  CHECK(claim(store, "done").answer == Answer::completed);
  CHECK(claim(store, "lost").answer == Answer::in_doubt);
}
