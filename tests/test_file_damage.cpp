// What a store of files does when bytes that had been on disk aren't there any more: it replays what it can read, and
// refuses whatever the lost ones may have been about.
#include "support/store_files.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <dirent.h>

namespace file_damage {

using namespace store_files;

/// Offsets in files that fit into memory.
template <class Offset>
std::size_t whole(Offset offset) {
  return std::size_t{offset};
}

struct Truth {
  Answer answer;
  std::string payload;
};

/// A store's directory that was closed well, and what is in it.
struct Scene {
  Directory place;
  Content journal;
  Content page;
  std::vector<Place> frames;
  std::uint64_t end = 0;
  std::map<std::string, Truth> truth;
  std::vector<std::string> history;  ///< Which key each frame is about.

  std::string path(const char* name) const { return place / name; }

  /// As it was, in the same files.
  void restore() const {
    write(path("journal"), journal);
    write(path("page"), page);
  }
};

void make(Scene& scene, Durability durability) {
  FileStore store(scene.place.path(), with(durability));
  completed(store, "done", "first result");
  completed(store, "done again", "second result, which is a little longer");
  const Ownership failed = claimed(store, "failed");
  REQUIRE(store.fail(key_of("failed"), outcome(failed, "what was thrown")).answer == Answer::ok);
  const Ownership doubtful = claimed(store, "doubtful");
  REQUIRE(store.abandon(key_of("doubtful"), doubtful).answer == Answer::ok);
  completed(store, "erased", "of no use");
  REQUIRE(store.erase(key_of("erased")).answer == Answer::ok);
  claimed(store, "running");
  completed(store, "last", "last result");
  scene.truth = {{"done", {Answer::completed, "first result"}},
                 {"done again", {Answer::completed, "second result, which is a little longer"}},
                 {"failed", {Answer::failed, "what was thrown"}},
                 {"doubtful", {Answer::in_doubt, ""}},
                 {"erased", {Answer::absent, ""}},
                 {"running", {Answer::in_doubt, ""}},
                 {"last", {Answer::completed, "last result"}}};
  scene.journal = read(scene.path("journal"));
  scene.page = read(scene.path("page"));
}

void measure(Scene& scene) {
  scene.frames = frames_of(scene.journal);
  scene.end = end_of(scene.frames);
  scene.journal = without_preallocated(scene.journal, scene.end);
  scene.restore();
}

/// What a claim by somebody who takes over may be answered where something is lost. Never another result, and never
/// `acquired` though the key was claimed before.
std::string wrong_answers(FileStore& store, const std::map<std::string, Truth>& truth, bool take_over) {
  std::string text;
  const auto complain = [&](const std::string& name, const Reply& reply) {
    text +=
        name + ": answer " + std::to_string(int(reply.answer)) + " '" + payload_of(reply) + "' " + reply.message + "; ";
  };
  for (const auto& [name, expected] : truth) {
    const Reply reply = claim(store, name, take_over);
    if (reply.answer == Answer::corrupt || reply.answer == Answer::unavailable) {
      if (reply.message.empty()) complain(name, reply);
      continue;
    }
    if (reply.answer == Answer::completed || reply.answer == Answer::failed) {
      // A lost erase leaves what was there before it.
      const bool erased = expected.answer == Answer::absent && payload_of(reply) == "of no use";
      if (!erased && (reply.answer != expected.answer || payload_of(reply) != expected.payload)) complain(name, reply);
      continue;
    }
    if (reply.answer == Answer::in_doubt && !take_over) continue;  // a lost outcome
    complain(name, reply);
  }
  return text;
}

/// Looks at a damaged directory with a store of its own.
void check_damaged(const Scene& scene, Durability durability) {
  FileStore store(scene.place.path(), with(durability));
  std::string wrong = wrong_answers(store, scene.truth, false);
  REQUIRE_MESSAGE(wrong.empty(), wrong);
  const Reply unknown = claim(store, "unknown");
  REQUIRE((unknown.answer == Answer::corrupt || unknown.answer == Answer::unavailable));
  if (unknown.answer == Answer::corrupt) REQUIRE(unknown.message.find("repair()") != std::string::npos);
}

void flip_bytes(std::size_t step, const std::vector<std::uint8_t>& masks, Durability durability) {
  Scene scene;
  make(scene, durability);
  measure(scene);
  for (std::size_t at = 0; at < scene.end; at += at < file::journal_header_size ? step * 16 + 1 : step) {
    for (const std::uint8_t mask : masks) {
      CAPTURE(at);
      CAPTURE(int(mask));
      const std::uint8_t changed = scene.journal[at] ^ mask;
      write_at(scene.path("journal"), at, &changed, 1);
      check_damaged(scene, durability);
      const idem::FileReport report = FileStore::verify(scene.place.path());
      REQUIRE(!report.good());
      REQUIRE(report.message.find(scene.place.path()) != std::string::npos);
      if (report.readable) {
        REQUIRE(report.damaged.size() == 1);
        REQUIRE(report.damaged[0].offset <= at);
        REQUIRE(report.damaged[0].offset + report.damaged[0].size > at);
        REQUIRE(report.message.find(std::to_string(report.damaged[0].offset)) != std::string::npos);
      }
      scene.restore();
    }
  }
}

}  // namespace file_damage

using namespace file_damage;

TEST_CASE("FDU-15, FDU-04, T-35: no changed byte of what had been on disk makes a key unknown or a result another") {
  flip_bytes(11, {0x01, 0xff}, Durability::power);
}

TEST_CASE("FDU-15: no byte that changes while the machine runs does, where only the process has to be survived") {
  flip_bytes(23, {0x40}, Durability::process);
}

TEST_CASE("FDU-15: a soak of all changed bytes" * doctest::skip()) {
  flip_bytes(1, {0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff}, Durability::power);
  flip_bytes(1, {0x01, 0x80}, Durability::process);
}

TEST_CASE("FDU-15: without the page's help all but the last frame are known to have been on disk") {
  Scene scene;
  make(scene, Durability::power);
  measure(scene);
  const std::uint64_t last = scene.frames.back().offset;
  for (std::size_t at = file::journal_header_size; at < last; at += 13) {
    CAPTURE(at);
    const std::uint8_t changed = scene.journal[at] ^ 0x10;
    write_at(scene.path("journal"), at, &changed, 1);
    ::unlink(scene.path("page").c_str());
    check_damaged(scene, Durability::power);
    scene.restore();
  }
}

TEST_CASE("FDU-04, T-34: sectors of zeros and a journal cut short below the durable end are damage") {
  Scene scene;
  make(scene, Durability::power);
  measure(scene);
  for (std::size_t at = file::journal_header_size; at < scene.end; at += sector) {
    CAPTURE(at);
    for (const std::size_t size : {sector, whole(scene.end - at)}) {
      const Content zeros(size);
      write_at(scene.path("journal"), at, zeros.data(), zeros.size());
      check_damaged(scene, Durability::power);
      REQUIRE(!FileStore::verify(scene.place.path()).good());
      scene.restore();
    }
  }
  for (std::size_t size = 0; size < scene.end; size += 97) {
    CAPTURE(size);
    write(scene.path("journal"),
          Content(scene.journal.begin(), scene.journal.begin() + static_cast<std::ptrdiff_t>(size)));
    check_damaged(scene, Durability::power);
    REQUIRE(!FileStore::verify(scene.place.path()).good());
    scene.restore();
  }
}

TEST_CASE("FDU-15: a store that is running doesn't take a key for unknown whose bytes have changed under it") {
  Scene scene;
  make(scene, Durability::power);
  measure(scene);
  FileStore store(scene.place.path(), with(Durability::power));
  REQUIRE(store.open().answer == Answer::ok);
  REQUIRE(wrong_answers(store, {{"done", scene.truth["done"]}}, false).empty());
  // The erased key is unknown to this store, as nothing of its is needed any more.
  std::map<std::string, Truth> truth = scene.truth;
  truth.erase("erased");
  for (std::size_t at = file::journal_header_size; at < scene.end; at += 7) {
    for (const std::uint8_t mask : {std::uint8_t{0x01}, std::uint8_t{0x80}}) {
      CAPTURE(at);
      const std::uint8_t changed = scene.journal[at] ^ mask;
      write_at(scene.path("journal"), at, &changed, 1);
      const std::string wrong = wrong_answers(store, truth, false);
      CHECK_MESSAGE(wrong.empty(), wrong);
      write_at(scene.path("journal"), at, &scene.journal[at], 1);
    }
  }
  // Whole frames too, as when a page of the file can't be read.
  for (const Place& place : scene.frames) {
    const Content zeros(place.frame.size);
    write_at(scene.path("journal"), place.offset, zeros.data(), zeros.size());
    const std::string wrong = wrong_answers(store, truth, false);
    CHECK_MESSAGE(wrong.empty(), wrong);
    write_at(scene.path("journal"), place.offset, &scene.journal[whole(place.offset)], place.frame.size);
  }
  CHECK(wrong_answers(store, truth, false).empty());
  const std::string troubled = trouble(store, "new");
  CHECK_MESSAGE(troubled.empty(), troubled);
}

TEST_CASE("FDU-15: a running record whose owner's name has changed is corrupt, not in doubt") {
  Directory place;
  FileStore owner(place.path(), with(Durability::process));
  FileStore other(place.path(), with(Durability::process));
  claimed(owner, "running");
  REQUIRE(claim(other, "running").answer == Answer::running);
  const Content journal = read(place / "journal");
  const std::uint64_t at = frames_of(journal).back().offset + file::frame_impl::at_owner;
  const std::uint8_t changed = journal[whole(at)] ^ 1;
  write_at(place / "journal", at, &changed, 1);
  const Reply reply = claim(other, "running", true);
  CHECK(reply.answer == Answer::corrupt);
  CHECK(!reply.message.empty());
  CHECK(claim(owner, "running", true).answer == Answer::corrupt);
}

TEST_CASE("T-35: behind damage service goes on for what was seen there, and is refused for what was seen before") {
  Directory place;
  std::optional<FileStore> running(std::in_place, place.path(), with(Durability::power));
  const Ownership before = claimed(*running, "claimed before");
  completed(*running, "done before", "old");
  completed(*running, "lost", "lost");
  const Content so_far = read(place / "journal");
  const std::vector<Place> frames = frames_of(so_far);
  const Ownership after = claimed(*running, "claimed after");
  completed(*running, "done after", "new");

  const Content zeros(frames.back().frame.size);
  write_at(place / "journal", frames.back().offset, zeros.data(), zeros.size());
  FileStore store(place.path(), with(Durability::power));
  const Reply unknown = claim(store, "unknown");
  CHECK(unknown.answer == Answer::corrupt);
  CHECK_MESSAGE(unknown.message.find("repair()") != std::string::npos, unknown.message);
  CHECK(claim(store, "done before").answer == Answer::completed);
  CHECK(claim(store, "done after").answer == Answer::completed);
  CHECK(claim(store, "lost").answer == Answer::running);  // as before its completion
  CHECK(claim(store, "lost", true).answer == Answer::running);
  CHECK(store.stats().damaged);

  // The owners still live, and tell this store's directory.
  const Reply refused = store.complete(key_of("claimed before"), outcome(before, "late"));
  CHECK(refused.answer == Answer::corrupt);
  CHECK_MESSAGE(refused.message.find("repair()") != std::string::npos, refused.message);
  CHECK(store.complete(key_of("claimed after"), outcome(after, "in time")).answer == Answer::ok);
  CHECK(claim(store, "claimed after").answer == Answer::completed);
  // By choice a record can go, but that doesn't make its key one that may be claimed.
  CHECK(store.erase(key_of("done before")).answer == Answer::ok);
  CHECK(claim(store, "done before").answer == Answer::corrupt);
  CHECK(store.purge({}).expired == 0);
  CHECK(store.compact().answer == Answer::unavailable);

  const idem::FileReport report = FileStore::verify(place.path());
  CHECK(!report.good());
  REQUIRE(report.damaged.size() == 1);
  CHECK(report.damaged[0].offset == frames.back().offset);
  CHECK(report.damaged[0].size == frames.back().frame.size);
  CHECK(report.message.find(place / "journal") != std::string::npos);
  CHECK(report.message.find(std::to_string(frames.back().offset)) != std::string::npos);

  // After a restart it is the same.
  running.reset();
  CHECK(claim(store, "unknown").answer == Answer::corrupt);
  const Reply repaired = store.repair();
  CHECK_MESSAGE(repaired.answer == Answer::ok, repaired.message);
  FileStore third(place.path(), with(Durability::power));
  for (FileStore* each : {&store, &third}) {
    CHECK(!each->stats().damaged);
    CHECK(claim(*each, "done after").answer == Answer::completed);
    CHECK(claim(*each, "claimed after").answer == Answer::completed);
    CHECK(claim(*each, "lost").answer == Answer::in_doubt);
    CHECK(claim(*each, "claimed before").answer == Answer::in_doubt);
  }
  CHECK(claim(store, "unknown").answer == Answer::acquired);
  CHECK(store.complete(key_of("claimed before"), outcome(before, "late")).answer == Answer::ok);
  CHECK(payload_of(claim(third, "claimed before")) == "late");
  CHECK(FileStore::verify(place.path()).good());
}

TEST_CASE("T-35: damage at the end, in the middle and twice; each is repaired with everything else kept") {
  Scene scene;
  make(scene, Durability::power);
  measure(scene);
  const auto zeroed = [&](std::size_t frame) {
    const Content zeros(scene.frames[frame].frame.size);
    write_at(scene.path("journal"), scene.frames[frame].offset, zeros.data(), zeros.size());
  };
  const std::size_t last = scene.frames.size() - 1;
  SUBCASE("at the end") {
    zeroed(last);
  }
  SUBCASE("at the beginning") {
    zeroed(0);
  }
  SUBCASE("twice") {
    zeroed(2);
    zeroed(last - 3);
  }
  SUBCASE("everything") {
    for (std::size_t i = 0; i <= last; ++i) zeroed(i);
  }
  check_damaged(scene, Durability::power);
  std::map<std::string, Reply> before;
  {
    FileStore store(scene.place.path(), with(Durability::power));
    for (const auto& [name, truth] : scene.truth) before[name] = store.find(key_of(name));
    CHECK(store.recover().answer == Answer::unavailable);  // that isn't what is wrong
    const Reply repaired = store.repair();
    REQUIRE_MESSAGE(repaired.answer == Answer::ok, repaired.message);
  }
  FileStore store(scene.place.path(), with(Durability::power));
  for (const auto& [name, was] : before) {
    const Reply found = store.find(key_of(name));
    // What can't be found is corrupt for as long as it may be among what is lost.
    CHECK(found.answer == (was.answer == Answer::corrupt ? Answer::absent : was.answer));
    CHECK(payload_of(found) == payload_of(was));
    CHECK(found.record.owner == was.record.owner);
  }
  const std::string troubled = trouble(store, "unknown");
  CHECK_MESSAGE(troubled.empty(), troubled);
  CHECK(FileStore::verify(scene.place.path()).good());
}

TEST_CASE("T-35: what is appended behind damage at the end is found again, and epochs don't repeat") {
  Scene scene;
  make(scene, Durability::power);
  measure(scene);
  std::uint64_t highest = 0;
  for (const Place& place : scene.frames) highest = (std::max)(highest, place.frame.sequence);
  const Place& last = scene.frames.back();
  const Content zeros(last.frame.size);
  write_at(scene.path("journal"), last.offset, zeros.data(), zeros.size());
  {
    FileStore store(scene.place.path(), with(Durability::power));
    CHECK(store.erase(key_of("done")).answer == Answer::ok);
  }
  FileStore store(scene.place.path(), with(Durability::power));
  CHECK(store.find(key_of("done")).answer == Answer::corrupt);
  CHECK(claim(store, "done").answer == Answer::corrupt);
  CHECK(claim(store, "done again").answer == Answer::completed);
  CHECK(store.repair().answer == Answer::ok);
  const Reply anew = claim(store, "done");
  CHECK(anew.answer == Answer::acquired);
  CHECK(anew.record.owner.epoch > highest);
}

TEST_CASE("SER-06: a journal or a record of a newer format is refused and left as it is") {
  Directory place;
  {
    FileStore store(place.path(), with(Durability::power));
    completed(store, "done", "result");
  }
  SUBCASE("journal") {
    Content journal = read(place / "journal");
    journal[file::frame_impl::header_format] = 2;
    write(place / "journal", journal);
    FileStore store(place.path(), with(Durability::power));
    for (const char* name : {"done", "unknown"}) {
      const Reply refused = claim(store, name);
      CHECK(refused.answer == Answer::unavailable);
      CHECK_MESSAGE(refused.message.find("newer version") != std::string::npos, refused.message);
    }
    for (const Reply& reply : {store.compact(), store.recover(), store.repair(), store.upgrade()}) {
      CHECK(reply.answer == Answer::unavailable);
    }
    // Nothing was ever read, of which a page that was made anew knows as much.
    ::unlink((place / "page").c_str());
    FileStore late(place.path(), with(Durability::power));
    CHECK(late.open().answer == Answer::unavailable);
    for (FileStore* waiting : {&store, &late}) waiting->wait(key_of("done"), 1, (idem::TimePoint::max)());
    CHECK(read(place / "journal") == journal);
    CHECK(!FileStore::verify(place.path()).good());
  }
  SUBCASE("records: of a newer format, of an unknown state, with unknown flags") {
    const Content journal = read(place / "journal");
    const Content page = read(place / "page");
    file::JournalHeader header;
    const char* why = nullptr;
    REQUIRE(file::decode_header(journal.data(), journal.size(), header, why));
    const std::vector<Place> frames = frames_of(journal);
    const Place& last = frames.back();
    namespace at = idem::detail::record_bytes_impl;
    const struct {
      std::size_t offset;
      std::uint8_t value;
    } changes[] = {{at::at_format, 2}, {at::at_state, 9}, {at::at_flags, 0x80}, {at::at_kind, 77}};
    for (const auto& change : changes) {
      CAPTURE(change.offset);
      Content changed = journal;
      write(place / "page", page);
      std::uint8_t* const content = changed.data() + last.offset + file::frame_head_size;
      content[change.offset] = change.value;
      const std::size_t body = last.frame.content_size - at::crc_size;
      idem::detail::store_le32(content + body, idem::detail::crc32c(0, content, body));
      file::move_frame(changed.data() + last.offset, file::FrameSeal(header), last.offset, last.frame.durable_end);
      write(place / "journal", changed);
      FileStore store(place.path(), with(Durability::power));
      for (const bool take_over : {false, true}) {
        const Reply refused = claim(store, "done", take_over);
        CHECK(refused.answer == Answer::corrupt);
        CHECK(!refused.message.empty());
      }
      CHECK(store.purge({.in_doubt_older_than = idem::Duration(std::chrono::seconds(0))}).in_doubt == 0);
      CHECK(claim(store, "unknown " + std::to_string(change.offset)).answer == Answer::acquired);
      // A compaction keeps what it can't read.
      const Reply compacted = store.compact();
      CHECK_MESSAGE(compacted.answer == Answer::ok, compacted.message);
      CHECK(claim(store, "done").answer == Answer::corrupt);
    }
  }
}

TEST_CASE("FSE-11: a record of one key copied over another's is neither's") {
  Directory place;
  {
    FileStore store(place.path(), with(Durability::power));
    completed(store, "a", "result of a");
    completed(store, "b", "result of b");
  }
  const Content journal = read(place / "journal");
  const Content page = read(place / "page");
  const std::vector<Place> frames = frames_of(journal);
  REQUIRE(frames.size() == 4);
  REQUIRE(frames[1].frame.size == frames[3].frame.size);
  const Place& from = frames[1];
  const Place& to = frames[3];
  const auto copy = [&](std::size_t skip, std::size_t size) {
    Content changed = journal;
    std::memcpy(changed.data() + to.offset + skip, journal.data() + from.offset + skip, size);
    return changed;
  };
  const Content variants[] = {
      copy(0, from.frame.size),                                              // the frame
      copy(file::frame_head_size, from.frame.content_size),                  // the record
      copy(file::frame_head_size, idem::detail::record_bytes_impl::at_key),  // all but the key
  };
  std::size_t number = 0;
  for (const Content& changed : variants) {
    ++number;
    CAPTURE(number);
    write(place / "journal", changed);
    write(place / "page", page);
    FileStore store(place.path(), with(Durability::power));
    const Reply a = claim(store, "a");
    CHECK(a.answer == Answer::completed);
    CHECK(payload_of(a) == "result of a");
    const Reply b = claim(store, "b");
    CHECK((b.answer == Answer::corrupt || b.answer == Answer::in_doubt));
    CHECK(claim(store, "b", true).answer == Answer::corrupt);
  }
}
