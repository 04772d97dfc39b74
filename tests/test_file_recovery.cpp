// What a store of files finds after the machine lost its power.
//
// The model: what was on disk at the last fdatasync stays; of what was appended since, any subset of sectors got there,
// and the others hold zeros or whatever lay there before.
#include "support/store_files.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <dirent.h>

namespace file_recovery {

using namespace store_files;

const std::string small = "5 bytes";
const std::string large(3000, 'L');

/// What a key's record may be found to be.
struct Allowed {
  std::vector<Answer> answers;
  std::string payload = {};
};
using Expectations = std::map<std::string, Allowed>;

/// A directory with operations that were answered, and later ones of which nothing was on disk yet.
struct Scene {
  Directory place;
  Content journal;  ///< As the page cache has it.
  Content page;     ///< As it was when everything up to `durable` was on disk.
  std::uint64_t durable = 0;
  std::uint64_t end = 0;
  Expectations expected;
};

/// A payload in which a search for frames finds one.
std::string image_of_frames(const Content& journal, std::uint64_t from, std::uint64_t to) {
  return {journal.begin() + static_cast<std::ptrdiff_t>(from), journal.begin() + static_cast<std::ptrdiff_t>(to)};
}

void make(Scene& scene) {
  const std::string path = scene.place.path();
  {
    FileStore power(path, with(Durability::power));
    FileStore process(path, with(Durability::process));
    // It syncs once at the beginning.
    completed(process, "first", small);
    completed(power, "done", small);
    completed(power, "done.large", large);
    completed(power, "done.empty", "");
    const Ownership failed = claimed(power, "failed");
    REQUIRE(power.fail(key_of("failed"), outcome(failed, small)).answer == Answer::ok);
    claimed(power, "running");
    const Ownership later = claimed(power, "completed later");
    const Ownership abandoned = claimed(power, "abandoned");
    REQUIRE(power.abandon(key_of("abandoned"), abandoned).answer == Answer::ok);
    const Ownership released = claimed(power, "released");
    REQUIRE(power.release(key_of("released"), released).answer == Answer::ok);
    completed(power, "erased", small);
    REQUIRE(power.erase(key_of("erased")).answer == Answer::ok);
    completed(power, "erased later", small);
    scene.page = read(path + "/page");
    scene.durable = durable_end(scene.page);
    REQUIRE(scene.durable == end_of(frames_of(read(path + "/journal"))));

    claimed(process, "new");
    completed(process, "new.done", small);
    REQUIRE(power.traits().survives_process);
    REQUIRE(process.complete(key_of("completed later"), outcome(later, large)).answer == Answer::ok);
    completed(process, "new.large", large);
    const Content so_far = read(path + "/journal");
    completed(process, "new.image", image_of_frames(so_far, scene.durable, scene.durable + 1500));
    REQUIRE(process.erase(key_of("erased later")).answer == Answer::ok);
    const Ownership gone = claimed(process, "new.released");
    REQUIRE(process.release(key_of("new.released"), gone).answer == Answer::ok);
    claimed(process, "new.last");
    // Closing changes nothing in the journal.
    scene.journal = read(path + "/journal");
    REQUIRE(durable_end(read(path + "/page")) == scene.durable);
    scene.expected["new.image"].payload = image_of_frames(so_far, scene.durable, scene.durable + 1500);
  }
  scene.end = end_of(frames_of(scene.journal));
  REQUIRE(scene.end > scene.durable + 4096);
  scene.journal = without_preallocated(scene.journal, scene.end);

  Expectations& e = scene.expected;
  e["first"] = {{Answer::completed}, small};
  e["done"] = {{Answer::completed}, small};
  e["done.large"] = {{Answer::completed}, large};
  e["done.empty"] = {{Answer::completed}, ""};
  e["failed"] = {{Answer::failed}, small};
  e["running"] = {{Answer::in_doubt}};
  e["completed later"] = {{Answer::in_doubt, Answer::completed}, large};
  e["abandoned"] = {{Answer::in_doubt}};
  e["released"] = {{Answer::absent}};
  e["erased"] = {{Answer::absent}};
  e["erased later"] = {{Answer::completed, Answer::absent}, small};
  e["new"] = {{Answer::absent, Answer::in_doubt}};
  e["new.done"] = {{Answer::absent, Answer::in_doubt, Answer::completed}, small};
  e["new.large"] = {{Answer::absent, Answer::in_doubt, Answer::completed}, large};
  e["new.image"].answers = {Answer::absent, Answer::in_doubt, Answer::completed};
  e["new.released"] = {{Answer::absent, Answer::in_doubt}};
  e["new.last"] = {{Answer::absent, Answer::in_doubt}};
  e["unknown"] = {{Answer::absent}};
}

/// What is found otherwise than allowed; empty where nothing is.
std::string contradictions(FileStore& store, const Expectations& expected) {
  std::string text;
  for (const auto& [name, allowed] : expected) {
    const Reply found = store.find(key_of(name));
    const bool known = std::find(allowed.answers.begin(), allowed.answers.end(), found.answer) != allowed.answers.end();
    const bool has_payload = found.answer == Answer::completed || found.answer == Answer::failed;
    if (known && (!has_payload || payload_of(found) == allowed.payload)) continue;
    text += name + ": answer " + std::to_string(int(found.answer)) + " " + found.message + "; ";
  }
  return text;
}

enum class PageLeft { removed, zeroed, of_another_boot, older, random };

void leave_page(const std::string& path, const Content& page, PageLeft left, Dice& dice) {
  Content bytes = page;
  switch (left) {
    case PageLeft::removed:
      ::unlink(path.c_str());
      return;
    case PageLeft::zeroed:
      std::fill(bytes.begin(), bytes.end(), std::uint8_t{0});
      break;
    case PageLeft::of_another_boot:
      for (std::size_t i = 0; i < 16; ++i) bytes[file::page_impl::at_boot + i] ^= 0x5a;
      break;
    case PageLeft::older:
      break;
    case PageLeft::random:
      for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(dice.next() >> 32);
      break;
  }
  write(path, bytes);
}

/// Fills sectors from `durable` on that didn't get to disk: of `lost`, which has one entry for each sector.
Content cut(const Content& journal, std::uint64_t durable, const std::vector<bool>& lost,
            const std::function<std::uint8_t(std::uint64_t)>& before) {
  Content left = journal;
  const std::uint64_t first = durable / sector;
  for (std::size_t i = 0; i < lost.size(); ++i) {
    if (!lost[i]) continue;
    const std::uint64_t begin = (std::max)((first + i) * sector, durable);
    const std::uint64_t end = (std::min)((first + i + 1) * sector, std::uint64_t{journal.size()});
    for (std::uint64_t at = begin; at < end; ++at) left[at] = before(at);
  }
  return left;
}

/// All ways of losing sectors that a test tries: none, all, each one, each prefix, each suffix, and subsets by dice.
std::vector<std::vector<bool>> losses(std::size_t sectors, std::size_t random, Dice& dice) {
  std::vector<std::vector<bool>> ways;
  ways.emplace_back(sectors, false);
  ways.emplace_back(sectors, true);
  for (std::size_t i = 0; i < sectors; ++i) {
    std::vector<bool> one(sectors, false);
    one[i] = true;
    ways.push_back(one);
    std::vector<bool> rest(sectors, false);
    std::fill(rest.begin() + static_cast<std::ptrdiff_t>(i), rest.end(), true);
    ways.push_back(rest);
    std::vector<bool> beginning(sectors, true);
    std::fill(beginning.begin() + static_cast<std::ptrdiff_t>(i), beginning.end(), false);
    ways.push_back(beginning);
  }
  for (std::size_t i = 0; i < random; ++i) {
    std::vector<bool> some(sectors);
    const std::size_t share = 1 + dice.below(7);
    for (std::size_t s = 0; s < sectors; ++s) some[s] = dice.below(8) < share;
    ways.push_back(some);
  }
  return ways;
}

/// Opens what a power loss left, looks at everything, and uses it.
void check_after_loss(const Scene& scene, const Content& journal, PageLeft left, Dice& dice, bool twice) {
  Directory after;
  write(after / "journal", journal);
  write(after / "lock", {});
  write(after / "owner.0123456789abcdef0123456789abcdef", {});
  leave_page(after / "page", scene.page, left, dice);
  for (int round = 0; round < (twice ? 2 : 1); ++round) {
    FileStore store(after.path(), with(Durability::process));
    const std::string wrong = contradictions(store, scene.expected);
    REQUIRE_MESSAGE(wrong.empty(), "page ", int(left), ": ", wrong);
    REQUIRE(!store.stats().damaged);
    const std::string troubled = trouble(store, "after " + std::to_string(round));
    REQUIRE_MESSAGE(troubled.empty(), troubled);
    // What is known of the owner that is gone stays known.
    REQUIRE(claim(store, "running").answer == Answer::in_doubt);
  }
  const idem::FileReport report = FileStore::verify(after.path());
  REQUIRE_MESSAGE(report.good(), report.message);
}

void lose_power(std::size_t random, std::uint64_t seed) {
  Scene scene;
  make(scene);
  Dice dice(seed);
  const std::size_t sectors = scene.end / sector - scene.durable / sector + 1;
  const Content& journal = scene.journal;
  const std::function<std::uint8_t(std::uint64_t)> befores[] = {
      [](std::uint64_t) { return std::uint8_t{0}; },
      // Blocks of the disk that held a part of this very journal, shifted by whole sectors.
      [&journal](std::uint64_t at) { return journal[at - 2048]; },
      [](std::uint64_t at) { return static_cast<std::uint8_t>(at * 0x9d + (at >> 9)); },
  };
  std::size_t number = 0;
  for (const std::vector<bool>& lost : losses(sectors, random, dice)) {
    ++number;
    CAPTURE(number);
    const auto left = static_cast<PageLeft>(dice.below(5));
    check_after_loss(scene, cut(journal, scene.durable, lost, befores[number % 3]), left, dice, number % 8 == 0);
  }
}

/// The new journal that a compaction of `old` makes while others append: all frames, up to the seal.
Content compacted(const Content& old, std::size_t in_snapshot, std::uint64_t& snapshot_end, std::uint64_t& end) {
  file::JournalHeader header;
  const char* why = nullptr;
  REQUIRE(file::decode_header(old.data(), old.size(), header, why));
  const std::vector<Place> places = frames_of(old);
  header.journal = file::new_id();
  header.generation += 1;
  header.base_sequence = places[in_snapshot].frame.sequence;
  const file::FrameSeal seal(header);
  Content bytes(file::journal_header_size);
  for (std::size_t i = 0; i < places.size(); ++i) {
    if (i == in_snapshot) header.snapshot_end = bytes.size();
    const std::uint64_t at = bytes.size();
    const std::uint8_t* const from = old.data() + places[i].offset;
    bytes.insert(bytes.end(), from, from + places[i].frame.size);
    file::move_frame(bytes.data() + at, seal, at, file::journal_header_size);
  }
  idem::detail::Bytes out;
  file::begin_frame(out);
  file::Frame last;
  last.type = file::FrameType::seal;
  last.sequence = places.back().frame.sequence + 1;
  last.durable_end = header.snapshot_end;
  file::finish_frame(out, 0, seal, bytes.size(), last);
  bytes.insert(bytes.end(), out.data(), out.data() + out.size());
  file::encode_header(bytes.data(), header);
  snapshot_end = header.snapshot_end;
  end = bytes.size();
  bytes.resize((bytes.size() + 8191) / 4096 * 4096);
  return bytes;
}

/// All of a scene's operations were answered: nothing may be missing.
Expectations final_expectations(const Scene& scene) {
  Expectations all = scene.expected;
  all["completed later"].answers = {Answer::completed};
  all["erased later"].answers = {Answer::absent};
  for (const char* name : {"new.done", "new.large", "new.image"}) all[name].answers = {Answer::completed};
  for (const char* name : {"new", "new.last"}) all[name].answers = {Answer::in_doubt};
  all["new.released"].answers = {Answer::absent};
  return all;
}

void check_directory(const Directory& place, const Expectations& expected, const char* stage) {
  CAPTURE(stage);
  {
    FileStore store(place.path(), with(Durability::power));
    const std::string wrong = contradictions(store, expected);
    REQUIRE_MESSAGE(wrong.empty(), wrong);
    const std::string troubled = trouble(store, "afterwards");
    REQUIRE_MESSAGE(troubled.empty(), troubled);
    REQUIRE(!exists(place / "journal.old"));
    const Reply compacted = store.compact();
    REQUIRE_MESSAGE(compacted.answer == Answer::ok, compacted.message);
    REQUIRE(!exists(place / "journal.next"));
    REQUIRE(!exists(place / "journal.old"));
  }
  FileStore again(place.path(), with(Durability::power));
  const std::string wrong = contradictions(again, expected);
  REQUIRE_MESSAGE(wrong.empty(), wrong);
  REQUIRE(FileStore::verify(place.path()).good());
}

}  // namespace file_recovery

using namespace file_recovery;

TEST_CASE("FDU-02, FDU-04, T-34: whatever a power loss keeps of unsynced sectors, what was answered is there") {
  lose_power(60, 1);
}

TEST_CASE("FDU-02, FDU-04: a soak of power losses" * doctest::skip()) {
  for (std::uint64_t seed = 2; seed < 20; ++seed) lose_power(1000, seed);
}

TEST_CASE("FDU-12: power lost again right after a recovery, whose zeros and first record aren't on disk yet") {
  Scene scene;
  make(scene);
  Dice dice(7);
  const std::size_t sectors = scene.end / sector - scene.durable / sector + 1;
  for (int round = 0; round < 40; ++round) {
    CAPTURE(round);
    std::vector<bool> lost(sectors);
    for (std::size_t s = 0; s < sectors; ++s) lost[s] = dice.below(3) == 0;
    const Content before = cut(scene.journal, scene.durable, lost, [](std::uint64_t) { return std::uint8_t{0}; });
    Directory place;
    write(place / "journal", before);
    {
      FileStore store(place.path(), with(Durability::process));
      const std::string wrong = contradictions(store, scene.expected);
      REQUIRE_MESSAGE(wrong.empty(), wrong);
      claimed(store, "second life");
    }
    Content after = read(place / "journal");
    after.resize(before.size());
    std::vector<bool> lost_again(sectors);
    for (std::size_t s = 0; s < sectors; ++s) lost_again[s] = dice.below(2) == 0;
    const Content mixed = cut(after, scene.durable, lost_again, [&before](std::uint64_t at) { return before[at]; });
    scene.expected["second life"] = {{Answer::absent, Answer::in_doubt}};
    check_after_loss(scene, mixed, PageLeft::removed, dice, true);
    scene.expected.erase("second life");
  }
}

TEST_CASE("FDU-04: an outcome that was cut off doesn't come back behind a new claim of its key") {
  Directory place;
  {
    FileStore store(place.path(), with(Durability::process));
    completed(store, "first", small);
    completed(store, "again", "of a run that nobody knows of");
  }
  const std::vector<Place> frames = frames_of(read(place / "journal"));
  REQUIRE(frames.size() == 4);
  // The claim is lost, its outcome isn't.
  const Content zeros(frames[2].frame.size);
  write_at(place / "journal", frames[2].offset, zeros.data(), zeros.size());
  ::unlink((place / "page").c_str());
  FileStore store(place.path(), with(Durability::power));
  const Ownership owner = claimed(store, "again");
  REQUIRE(end_of(frames_of(read(place / "journal"))) == frames[3].offset);
  FileStore other(place.path(), with(Durability::power));
  for (FileStore* each : {&store, &other}) CHECK(claim(*each, "again").answer == Answer::running);
  CHECK(store.complete(key_of("again"), outcome(owner, small)).answer == Answer::ok);
  CHECK(payload_of(claim(other, "again")) == small);
}

TEST_CASE("FDU-02, FDU-03: power lost at any stage of a compaction loses nothing that was answered") {
  Scene scene;
  make(scene);
  const Expectations all = final_expectations(scene);
  const Content& old = scene.journal;
  std::uint64_t snapshot_end = 0;
  std::uint64_t end = 0;
  const std::size_t frames = frames_of(old).size();
  const Content next = compacted(old, frames / 2, snapshot_end, end);
  const auto zeros = [](std::uint64_t) { return std::uint8_t{0}; };
  Dice dice(3);

  SUBCASE("while it is written, its name is lost or not, and it holds anything") {
    Directory lost;
    write(lost / "journal", old);
    check_directory(lost, all, "journal.next is lost");
    for (const std::size_t size : {std::size_t{0}, std::size_t{100}, std::size_t{4096}, std::size_t{5000}, end}) {
      Directory cut_off;
      write(cut_off / "journal", old);
      write(cut_off / "journal.next", Content(next.begin(), next.begin() + static_cast<std::ptrdiff_t>(size)));
      check_directory(cut_off, all, "journal.next is begun");
    }
  }
  SUBCASE("once the old one has its second name, and the rename is lost") {
    Directory place;
    write(place / "journal", old);
    REQUIRE(::link((place / "journal").c_str(), (place / "journal.old").c_str()) == 0);
    write(place / "journal.next", next);
    check_directory(place, all, "the rename is lost");
  }
  SUBCASE("once the new one has its name, and what was copied under the lock is lost or not") {
    const std::size_t sectors = end / sector - snapshot_end / sector + 1;
    std::size_t number = 0;
    for (const std::vector<bool>& lost : losses(sectors, 10, dice)) {
      if (++number % 3 != 0) continue;
      Directory place;
      write(place / "journal.old", old);
      write(place / "journal", cut(next, snapshot_end, lost, zeros));
      check_directory(place, all, "the new journal's end may be lost");
    }
  }
  SUBCASE("once others have appended to the new one, answered or not") {
    Directory place;
    write(place / "journal", next);
    std::uint64_t durable = 0;
    {
      FileStore power(place.path(), with(Durability::power));
      FileStore process(place.path(), with(Durability::process));
      completed(process, "to begin with", small);
      completed(power, "answered", large);
      durable = durable_end(read(place / "page"));
      completed(process, "unanswered", large);
    }
    const std::uint64_t last = end_of(frames_of(read(place / "journal")));
    const Content longer = without_preallocated(read(place / "journal"), last);
    REQUIRE(durable > end);
    Expectations more = all;
    more["answered"] = {{Answer::completed}, large};
    more["unanswered"] = {{Answer::completed, Answer::in_doubt, Answer::absent}, large};
    const std::size_t sectors = last / sector - durable / sector + 1;
    std::size_t number = 0;
    for (const std::vector<bool>& lost : losses(sectors, 5, dice)) {
      if (++number % 3 != 0) continue;
      Directory after;
      write(after / "journal.old", old);
      write(after / "journal", cut(longer, durable, lost, zeros));
      check_directory(after, more, "others have appended");
    }
  }
  SUBCASE("once the old one is gone") {
    Directory place;
    write(place / "journal", next);
    check_directory(place, all, "the old journal is gone");
  }
}

TEST_CASE("FDU-02: a journal on its own, beside the one from before a compaction, is never begun anew") {
  Scene scene;
  make(scene);
  Directory place;
  write(place / "journal.old", scene.journal);
  FileStore store(place.path(), with(Durability::power));
  const Reply refused = claim(store, "done");
  CHECK(refused.answer == Answer::unavailable);
  CHECK_MESSAGE(refused.message.find("journal.old") != std::string::npos, refused.message);
  CHECK(read(place / "journal.old") == scene.journal);
  // Done as the message says, all is there.
  REQUIRE(::rename((place / "journal.old").c_str(), (place / "journal").c_str()) == 0);
  CHECK(claim(store, "done").answer == Answer::completed);
}

TEST_CASE("FDU-03, FDU-11: a power loss while a store is made leaves one that is empty and works") {
  const auto fresh = [](const char* stage, const std::function<void(const Directory&)>& leave) {
    CAPTURE(stage);
    Directory place;
    leave(place);
    FileStore store(place.path(), with(Durability::power));
    const std::string troubled = trouble(store, "first");
    CHECK_MESSAGE(troubled.empty(), troubled);
    CHECK(!exists(place / "journal.next"));
    CHECK(FileStore::verify(place.path()).good());
  };
  fresh("nothing", [](const Directory&) {});
  fresh("files without content", [](const Directory& place) {
    write(place / "lock", {});
    write(place / "page", {});
    write(place / "owner.0123456789abcdef0123456789abcdef", {});
  });
  fresh("a page of zeros", [](const Directory& place) { write(place / "page", Content(file::page_size)); });
  fresh("a short page", [](const Directory& place) { write(place / "page", Content(100, 0xff)); });
  fresh("an unfinished journal", [](const Directory& place) { write(place / "journal.next", Content(5000, 0xaa)); });
  fresh("an empty unfinished journal", [](const Directory& place) { write(place / "journal.next", {}); });
}

TEST_CASE("FDU-11: owner files of the dead are swept, and what isn't the store's stays") {
  Directory place;
  REQUIRE(FileStore(place.path(), with(Durability::process)).open().answer == Answer::ok);
  for (int i = 0; i < 10; ++i) write(place / ("owner.0123456789abcdef0123456789abcde" + std::to_string(i)), {});
  const std::string others[] = {"owner.notes", "owner.0123456789ABCDEF0123456789ABCDEF", "journal.bak", "README",
                                "owner.0123456789abcdef0123456789abcdef0"};
  for (const std::string& name : others) write(place / name, Content(3, 'x'));
  FileStore store(place.path(), with(Durability::process));
  REQUIRE(store.open().answer == Answer::ok);
  CHECK(store.stats().processes == 1);
  for (int i = 0; i < 10; ++i) CHECK(!exists(place / ("owner.0123456789abcdef0123456789abcde" + std::to_string(i))));
  for (const std::string& name : others) CHECK_MESSAGE(read(place / name) == Content(3, 'x'), name);
}

TEST_CASE("FDU-18: a backup replays what it holds, and what was recorded after it is new") {
  Directory place;
  Directory restored;
  {
    FileStore store(place.path(), with(Durability::power));
    completed(store, "before", small);
    claimed(store, "in progress");
    write(restored / "journal", read(place / "journal"));
    completed(store, "after", small);
  }
  FileStore store(restored.path(), with(Durability::power));
  const Reply found = claim(store, "before");
  CHECK(found.answer == Answer::completed);
  CHECK(payload_of(found) == small);
  CHECK(claim(store, "in progress").answer == Answer::in_doubt);
  CHECK(claim(store, "after").answer == Answer::acquired);
}

TEST_CASE("FDU-18: an older journal put under a directory's feet is damage, not a fresh start") {
  for (const Durability durability : {Durability::power, Durability::process}) {
    CAPTURE(int(durability));
    Directory place;
    Content older;
    {
      FileStore store(place.path(), with(durability));
      completed(store, "before", small);
      older = read(place / "journal");
      completed(store, "after", small);
    }
    SUBCASE("in another file") {
      ::unlink((place / "journal").c_str());
      write(place / "journal", older);
    }
    SUBCASE("in the same file") {
      write(place / "journal", older);
    }
    FileStore store(place.path(), with(durability));
    CHECK(claim(store, "before").answer == Answer::completed);
    const Reply refused = claim(store, "after");
    CHECK(refused.answer == Answer::corrupt);
    CHECK_MESSAGE(refused.message.find("repair()") != std::string::npos, refused.message);
    CHECK(store.stats().damaged);
    REQUIRE(store.repair().answer == Answer::ok);
    CHECK(claim(store, "after").answer == Answer::acquired);
    CHECK(claim(store, "before").answer == Answer::completed);
  }
}
