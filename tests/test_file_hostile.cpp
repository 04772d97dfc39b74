// Keys, files, directories and disks that mean no good.
#include "support/other_processes.hpp"
#include "support/store_files.hpp"

#include <idem/idempotent.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>

namespace file_hostile {

using namespace store_files;

std::set<std::string> entries(const std::string& path) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(path)) names.insert(entry.path().filename().string());
  return names;
}

bool is_of_the_store(const std::string& name) {
  static const std::set<std::string> known = {"journal", "page", "lock", "compacting"};
  if (known.count(name) != 0) return true;
  const std::string digits = "0123456789abcdef";
  return name.size() == 38 && name.rfind("owner.", 0) == 0 && name.find_first_not_of(digits, 6) == std::string::npos;
}

bool contains(const Content& bytes, const std::string& text) {
  return std::search(bytes.begin(), bytes.end(), text.begin(), text.end()) != bytes.end();
}

template <class Run>
int in_child(Run run) {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ::alarm(60);
    ::_exit(run());
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/// A journal of one completed record ("done") and a frame made by somebody else, its checksums right.
Content forged(const Directory& place, std::uint64_t sequence, std::uint64_t durable_end, std::uint32_t length_said) {
  {
    FileStore store(place.path(), with(Durability::power));
    completed(store, "done", "result");
  }
  Content journal = read(place / "journal");
  const std::uint64_t end = end_of(frames_of(journal));
  file::JournalHeader header;
  const char* why = nullptr;
  REQUIRE(file::decode_header(journal.data(), journal.size(), header, why));
  idem::detail::Bytes frame;
  file::begin_frame(frame);
  const idem::Digest nobody = idem::detail::sha256("x", 1);
  frame.append(nobody.bytes, sizeof nobody.bytes);
  file::Frame head;
  head.type = file::FrameType::erase;
  head.sequence = sequence;
  head.durable_end = durable_end;
  file::finish_frame(frame, 0, file::FrameSeal(header), end, head);
  std::copy(frame.data(), frame.data() + frame.size(), journal.begin() + static_cast<std::ptrdiff_t>(end));
  if (length_said != 0) idem::detail::store_le32(journal.data() + end + file::frame_impl::at_content_size, length_said);
  ::unlink((place / "page").c_str());
  write(place / "journal", journal);
  return journal;
}

}  // namespace file_hostile

using namespace file_hostile;

TEST_CASE("FSE-01, FSE-02: whatever a key is made of, nothing but the store's own files is touched") {
  Directory above;
  const std::string path = above / "store";
  FileStore store(path, with(Durability::process));
  std::vector<std::string> names = {
      "../../etc/x", "a/b",     ".",      "..", "/", "",   "%2e%2e/", "line\nbreak", "ä ö ü \xf0\x9f\x92\xb6",
      "journal",     "lock",    "owner.", "A",  "a", "AB", "aB",      "CON",         "a ",
      " a",          "\xff\xfe"};
  names.emplace_back("nul\0nul", 7);
  names.emplace_back("nul\0nun", 7);
  names.emplace_back(10240, 'k');
  names.emplace_back(10241, 'k');
  for (const std::string& name : names) {
    const idem::Key key = idem::make_key("hostile", name, 1);
    idem::ClaimRequest request;
    request.owner = idem::detail::new_owner_token();
    const Reply taken = store.claim(key, request);
    REQUIRE_MESSAGE(taken.answer == Answer::acquired, name);
    REQUIRE(store.complete(key, outcome(taken.record.owner, "of " + name)).answer == Answer::ok);
  }
  for (const std::string& name : names) {
    CHECK(payload_of(store.find(idem::make_key("hostile", name, 1))) == "of " + name);
  }
  CHECK(entries(above.path()) == std::set<std::string>{"store"});
  for (const std::string& name : entries(path)) CHECK_MESSAGE(is_of_the_store(name), name);
  CHECK(FileStore::verify(path).records == names.size());
}

TEST_CASE("FSE-03, FSE-04, FSE-05: files planted under the store's names are refused, and their targets left alone") {
  Directory place;
  Directory elsewhere;
  const std::string victim = elsewhere / "victim";
  write(victim, Content(4, 'v'));
  const char* const name = "journal";
  const struct {
    const char* what;
    bool (*plant)(const std::string& path, const std::string& victim);
  } kinds[] = {
      {"symbolic link",
       [](const std::string& path, const std::string& target) { return ::symlink(target.c_str(), path.c_str()) == 0; }},
      {"symbolic link to nothing",
       [](const std::string& path, const std::string&) { return ::symlink("/nowhere", path.c_str()) == 0; }},
      {"FIFO", [](const std::string& path, const std::string&) { return ::mkfifo(path.c_str(), 0600) == 0; }},
      {"directory", [](const std::string& path, const std::string&) { return ::mkdir(path.c_str(), 0700) == 0; }},
  };
  for (const char* file_name : {"journal", "page", "lock", "compacting", "journal.old"}) {
    for (const auto& kind : kinds) {
      CAPTURE(std::string(file_name));
      CAPTURE(std::string(kind.what));
      Directory here;
      const std::string path = here / file_name;
      const bool of_compactions = std::string(file_name) == "compacting" || std::string(file_name) == "journal.old";
      if (of_compactions) {
        FileStore store(here.path(), with(Durability::process));
        completed(store, "done", "result");
      }
      REQUIRE(kind.plant(path, victim));
      FileStore store(here.path(), with(Durability::process));
      const Reply reply = of_compactions ? store.compact() : claim(store, "done");
      CHECK(reply.answer == Answer::unavailable);
      CHECK_MESSAGE(reply.message.find(here.path()) != std::string::npos, reply.message);
      CHECK(read(victim) == Content(4, 'v'));
      // Once it is gone the same store works.
      REQUIRE(::remove(path.c_str()) == 0);
      const std::string troubled = trouble(store, "new");
      CHECK_MESSAGE(troubled.empty(), troubled);
      CHECK(store.compact().answer == Answer::ok);
    }
  }
  // A hard link to somebody's file would be written to.
  write(victim, read(victim));
  REQUIRE(::link(victim.c_str(), (place / "page").c_str()) == 0);
  FileStore store(place.path(), with(Durability::process));
  CHECK(claim(store, "a").answer == Answer::unavailable);
  CHECK(read(victim) == Content(4, 'v'));
  CHECK(!exists(place / name));
}

TEST_CASE("FSE-04: what is planted under the name of the next journal doesn't get in its way") {
  Directory place;
  Directory elsewhere;
  const std::string victim = elsewhere / "victim";
  write(victim, Content(4, 'v'));
  FileStore store(place.path(), with(Durability::process));
  completed(store, "done", "result");
  REQUIRE(::symlink(victim.c_str(), (place / "journal.next").c_str()) == 0);
  CHECK(store.compact().answer == Answer::ok);
  REQUIRE(::mkfifo((place / "journal.next").c_str(), 0600) == 0);
  CHECK(store.compact().answer == Answer::ok);
  REQUIRE(::mkdir((place / "journal.next").c_str(), 0700) == 0);
  CHECK(store.compact().answer == Answer::unavailable);
  CHECK(claim(store, "done").answer == Answer::completed);
  CHECK(trouble(store, "new").empty());
  CHECK(read(victim) == Content(4, 'v'));
}

TEST_CASE("FSE-09: lengths, ends and sequences that a stranger made up are bounded, and lose nothing") {
  Directory place;
  SUBCASE("a frame that claims to be longer than the journal") {
    for (const std::uint32_t length : {0xffffffffu, 0xffffff00u, 0x7fffffffu, 0x00100000u, 0xffffu}) {
      forged(place, 1000, 4096, length);
      FileStore store(place.path(), with(Durability::power));
      CHECK(payload_of(claim(store, "done")) == "result");
      CHECK(trouble(store, "new " + std::to_string(length)).empty());
      std::filesystem::remove_all(place / "journal");
      ::unlink((place / "page").c_str());
    }
  }
  SUBCASE("the last sequence that there is") {
    forged(place, ~std::uint64_t{0}, 4096, 0);
    FileStore store(place.path(), with(Durability::power));
    CHECK(payload_of(claim(store, "done")) == "result");
    // It mustn't be acquired by everybody who comes along.
    const Reply refused = claim(store, "new");
    CHECK(refused.answer == Answer::unavailable);
    CHECK(!refused.message.empty());
  }
  SUBCASE("an end of the snapshot beyond every file") {
    for (const std::uint64_t end : {std::uint64_t{1} << 40, std::uint64_t{1} << 60, ~std::uint64_t{7}}) {
      CAPTURE(end);
      Content journal = forged(place, 1000, 4096, 0);
      file::JournalHeader header;
      const char* why = nullptr;
      REQUIRE(file::decode_header(journal.data(), journal.size(), header, why));
      header.snapshot_end = end;
      file::encode_header(journal.data(), header);
      write(place / "journal", journal);
      FileStore store(place.path(), with(Durability::power));
      CHECK(payload_of(claim(store, "done")) == "result");
      CHECK(claim(store, "new").answer == Answer::corrupt);
      CHECK(store.erase(key_of("done")).answer != Answer::absent);
      struct stat status = {};
      REQUIRE(::stat((place / "journal").c_str(), &status) == 0);
      CHECK(status.st_blocks * 512 < (64 << 20));
      CHECK(!FileStore::verify(place.path()).good());
      std::filesystem::remove_all(place / "journal");
      ::unlink((place / "page").c_str());
    }
  }
  SUBCASE("a journal of gigabytes of nothing") {
    forged(place, 1000, 4096, 0);
    REQUIRE(::truncate((place / "journal").c_str(), off_t{1} << 25) == 0);
    FileStore store(place.path(), with(Durability::power));
    CHECK(payload_of(claim(store, "done")) == "result");
    CHECK(trouble(store, "new").empty());
  }
  SUBCASE("random bytes") {
    Dice dice(9);
    Content noise(1 << 16);
    for (int round = 0; round < 10; ++round) {
      for (std::uint8_t& byte : noise) byte = static_cast<std::uint8_t>(dice.next() >> 24);
      if (round % 2 == 0) {
        const Content journal = forged(place, 1000, 4096, 0);
        std::copy(journal.begin(), journal.begin() + 4096 + 300, noise.begin());
      }
      write(place / "journal", noise);
      write(place / "page", Content(noise.begin() + 4096, noise.begin() + 4096 + 16384));
      FileStore store(place.path(), with(Durability::power));
      const Reply reply = claim(store, "done");
      CHECK((reply.answer == Answer::in_doubt || reply.answer == Answer::completed || reply.answer == Answer::corrupt ||
             reply.answer == Answer::unavailable));
      ::unlink((place / "journal").c_str());
      ::unlink((place / "page").c_str());
    }
  }
}

TEST_CASE("a journal that is removed under a store is an error, and no fresh start") {
  Directory place;
  FileStore store(place.path(), with(Durability::process));
  completed(store, "done", "result");
  const Ownership running = claimed(store, "running");
  SUBCASE("the journal") {
    REQUIRE(::unlink((place / "journal").c_str()) == 0);
  }
  SUBCASE("all files") {
    for (const std::string& name : entries(place.path())) REQUIRE(::unlink((place / name).c_str()) == 0);
  }
  SUBCASE("the directory") {
    std::filesystem::remove_all(place.path());
  }
  const Reply refused = claim(store, "new");
  CHECK(refused.answer == Answer::unavailable);
  CHECK_MESSAGE(refused.message.find(place.path()) != std::string::npos, refused.message);
  CHECK(store.complete(key_of("running"), outcome(running, "late")).answer == Answer::unavailable);
  const Reply again = claim(store, "done");
  CHECK((again.answer == Answer::completed || again.answer == Answer::unavailable));
  CHECK(!exists(place / "journal"));
}

TEST_CASE("a journal that is removed while nobody looks is an error while its page is there") {
  Directory place;
  {
    FileStore store(place.path(), with(Durability::process));
    completed(store, "done", "result");
  }
  REQUIRE(::unlink((place / "journal").c_str()) == 0);
  FileStore store(place.path(), with(Durability::process));
  CHECK(claim(store, "done").answer == Answer::unavailable);
  CHECK(!exists(place / "journal"));
}

TEST_CASE("a directory that is replaced under a store stays that store's, and the new one is another") {
  Directory above;
  const std::string path = above / "store";
  FileStore store(path, with(Durability::process));
  completed(store, "done", "result");
  std::filesystem::rename(path, above / "moved");
  FileStore fresh(path, with(Durability::process));
  completed(fresh, "other", "result");
  CHECK(claim(store, "done").answer == Answer::completed);
  CHECK(trouble(store, "new").empty());
  CHECK(store.compact().answer == Answer::ok);
  CHECK(claim(store, "other").answer == Answer::acquired);
  CHECK(claim(fresh, "new").answer == Answer::acquired);
  CHECK(FileStore::verify(above / "moved").records == 3);
  CHECK(FileStore::verify(path).records == 2);
}

// It may be deleted only while nobody has the store open: who still maps the deleted one isn't told at once of what
// others erased. What decides is looked at under the lock.
TEST_CASE("a page that is removed, cut or overwritten under stores lets no two of them run a function") {
  Directory place;
  FileStore a(place.path(), with(Durability::power));
  FileStore b(place.path(), with(Durability::power));
  completed(a, "first", "result");
  REQUIRE(claim(b, "first").answer == Answer::completed);
  bool shared = true;
  SUBCASE("removed") {
    REQUIRE(::unlink((place / "page").c_str()) == 0);
    shared = false;
  }
  SUBCASE("cut to nothing") {
    REQUIRE(::truncate((place / "page").c_str(), 0) == 0);
    shared = false;
  }
  SUBCASE("overwritten with zeros") {
    write(place / "page", Content(file::page_size));
  }
  SUBCASE("overwritten with anything") {
    write(place / "page", Content(file::page_size, 0xa5));
  }
  FileStore c(place.path(), with(Durability::power));
  FileStore* const stores[] = {&a, &b, &c};
  for (int round = 0; round < 6; ++round) {
    CAPTURE(round);
    const std::string name = "key " + std::to_string(round);
    FileStore& writer = *stores[round % 3];
    const Ownership owner = claimed(writer, name);
    for (FileStore* reader : stores) REQUIRE(claim(*reader, name, true).answer == Answer::running);
    REQUIRE(writer.complete(key_of(name), outcome(owner, "result")).answer == Answer::ok);
    for (FileStore* reader : stores) REQUIRE(payload_of(claim(*reader, name)) == "result");
    REQUIRE(writer.erase(key_of(name)).answer == Answer::ok);
    if (!shared) continue;
    for (FileStore* reader : stores) REQUIRE(reader->find(key_of(name)).answer == Answer::absent);
  }
  CHECK(!a.stats().damaged);
  CHECK(FileStore::verify(place.path()).good());
}

TEST_CASE("SEC-01: digits of an argument are in no file, no event and no error") {
  Directory place;
  const std::string card = "4242424242424242";
  constexpr std::uint64_t number = 4242424242424242;
  std::string told;
  FileStoreOptions options = with(Durability::process);
  options.on_event = [&told](const idem::Event& event) {
    told += event.key.text();
    told += event.message;
  };
  {
    FileStore store(place.path(), options);
    auto charge = idem::idempotent<"charge">([](const std::string&, std::uint64_t) { return std::string("a receipt"); },
                                             {}, store);
    CHECK(charge(card, number) == "a receipt");
    CHECK(charge(card, number) == "a receipt");
    auto refuse = idem::idempotent<"refuse">(
        [](const std::string&, std::uint64_t) -> std::string { throw std::runtime_error("declined"); }, {}, store);
    try {
      refuse(card, number);
    } catch (const std::exception& error) {
      told += error.what();
    }
    const idem::Key key = idem::make_key("claim", card, number);
    idem::ClaimRequest request;
    request.owner = idem::detail::new_owner_token();
    const Reply taken = store.claim(key, request);
    REQUIRE(store.abandon(key, taken.record.owner).answer == Answer::ok);
    told += store.claim(key, request).message;
    REQUIRE(store.resolve(key, {}, "looked into").answer == Answer::ok);
    REQUIRE(store.erase(key).answer == Answer::ok);
    store.for_each([&told](const idem::RecordView& view) { told += view.text; });
    const std::uint64_t end = end_of(frames_of(read(place / "journal")));
    const std::uint8_t flipped = 0x5a;
    write_at(place / "journal", end - 20, &flipped, 1);
    FileStore other(place.path(), options);
    told += other.claim(key, request).message + FileStore::verify(place.path()).message;
  }
  std::uint8_t binary[8];
  idem::detail::store_le64(binary, number);
  for (const std::string& name : entries(place.path())) {
    const Content bytes = read(place / name);
    CHECK(!contains(bytes, card));
    CHECK(!contains(bytes, std::string(binary, binary + 8)));
    CHECK(!contains(Content(name.begin(), name.end()), card));
  }
  CHECK(told.find(card) == std::string::npos);
  CHECK(told.find("charge") != std::string::npos);
  // What the function returned is another matter: it is to be replayed, and so it is there.
  CHECK(contains(read(place / "journal"), "a receipt"));
}

namespace file_hostile {

/// What a full disk does to claims and outcomes; `fill` leaves no room, `free` makes some.
template <class Fill, class Free>
std::string on_a_full_disk(const std::string& path, Fill fill, Free free) {
  FileStore store(path, with(Durability::power));
  FileStore other(path, with(Durability::power));
  completed(store, "done", "result");
  std::vector<std::pair<std::string, Ownership>> running;
  for (int i = 0; i < 40; ++i) {
    const std::string name = "running " + std::to_string(i);
    const Reply taken = claim(i % 2 == 0 ? store : other, name);
    if (taken.answer != Answer::acquired) return "claim " + name + ": " + taken.message;
    running.emplace_back(name, taken.record.owner);
  }
  // Longer than the room that is kept for an outcome.
  const idem::Key endless = idem::make_key(std::string(3000, 'n'), 1);
  idem::ClaimRequest request;
  request.owner = idem::detail::new_owner_token();
  const Reply begun = store.claim(endless, request);
  if (begun.answer != Answer::acquired) return "claim of a long name: " + begun.message;
  fill();
  // Claims eat up what was allocated ahead, but for what the outcomes need.
  Reply refused;
  int more = 0;
  for (; more < 100000; ++more) {
    const std::string name = "more " + std::to_string(more);
    refused = claim(store, name);
    if (refused.answer != Answer::acquired) break;
    if (more % 3 == 0)
      running.emplace_back(name, refused.record.owner);
    else if (store.release(key_of(name), refused.record.owner).answer != Answer::ok)
      return "release " + name;
  }
  if (refused.answer != Answer::unavailable || refused.message.empty()) return "claims go on";
  if (claim(other, "unknown").answer != Answer::unavailable) return "claims of others go on";
  if (claim(other, "done").answer != Answer::completed) return "no replays";

  const std::string small = "small result";
  const std::string large(20000, 'L');
  const Reply ended = store.complete(endless, outcome(begun.record.owner, small));
  if (ended.answer != Answer::ok) return "outcome of a long name: " + ended.message;
  if (other.find(endless).answer != Answer::completed) return "the outcome of a long name isn't found";
  for (std::size_t i = 0; i < running.size(); ++i) {
    FileStore& by = i % 2 == 0 ? store : other;
    const bool is_large = i % 4 == 1;
    const Reply done = by.complete(key_of(running[i].first), outcome(running[i].second, is_large ? large : small));
    if (done.answer != Answer::ok) return "outcome of " + running[i].first + ": " + done.message;
    // Small ones take less than was kept for them, so that a large one may find room in the end.
    const bool lost = is_large && done.payload.kind() == idem::PayloadKind::lost;
    if (i == 1 && !lost) return "a large result wasn't said to be lost";
    const Reply found = claim(by, running[i].first);
    if (found.answer != Answer::completed) return "replay of " + running[i].first + ": " + found.message;
    if ((found.payload.kind() == idem::PayloadKind::lost) != lost)
      return "a result is lost or not, and was said otherwise";
    if (!lost && payload_of(found) != (is_large ? large : small)) return "wrong result";
  }
  if (store.stats().poisoned || store.stats().damaged) return "poisoned or damaged";
  free();
  std::string troubled = trouble(store, "afterwards");
  if (troubled.empty()) troubled = trouble(other, "afterwards, too");
  if (!troubled.empty()) return troubled;
  for (const auto& [name, owner] : running) {
    if (store.find(key_of(name)).answer != Answer::completed) return name + " is lost";
  }
  if (store.compact().answer != Answer::ok) return "no compaction";
  return FileStore::verify(path).good() ? std::string() : "not good";
}

}  // namespace file_hostile

TEST_CASE("FDU-05: a full disk stops claims, not outcomes, and service resumes by itself") {
  Directory place;
  const std::string disk = place / "disk";
  REQUIRE(::mkdir(disk.c_str(), 0700) == 0);
  if (::mount("none", disk.c_str(), "tmpfs", 0, "size=4m,mode=0700") != 0) return;  // only root may
  struct Unmount {
    const std::string& path;
    ~Unmount() { ::umount2(path.c_str(), MNT_DETACH); }
  } unmount{disk};
  const std::string filler = disk + "/filler";
  const auto fill = [&] {
    const int fd = ::open(filler.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    REQUIRE(fd >= 0);
    const Content block(4096, 'f');
    while (::write(fd, block.data(), block.size()) > 0) {
    }
    CHECK(errno == ENOSPC);
    ::close(fd);
  };
  const std::string wrong = on_a_full_disk(disk + "/store", fill, [&] { ::unlink(filler.c_str()); });
  CHECK_MESSAGE(wrong.empty(), wrong);
}

TEST_CASE("FDU-05: a limit on the size of files stops claims, not outcomes, and kills nobody") {
  Directory place;
  const std::string path = place / "store";
  const int wrong = in_child([&] {
    rlimit limit = {};
    ::getrlimit(RLIMIT_FSIZE, &limit);
    const auto set = [&](rlim_t size) {
      rlimit changed = limit;
      changed.rlim_cur = size;
      ::setrlimit(RLIMIT_FSIZE, &changed);
    };
    const auto fill = [&] {
      struct stat status = {};
      ::stat((path + "/journal").c_str(), &status);
      set(static_cast<rlim_t>(status.st_size));
    };
    const std::string text = on_a_full_disk(path, fill, [&] { set(limit.rlim_cur); });
    if (!text.empty()) std::fprintf(stderr, "%s\n", text.c_str());
    return text.empty() ? 0 : 1;
  });
  CHECK(wrong == 0);
}

TEST_CASE("FDU-05: where a journal that has grown finds no place in memory, nobody reads past what is mapped") {
  if (IDEM_TEST_SANITIZED) return;  // they need addresses of their own
  // Where the kernel tells of changed names, so that not each operation asks for the journal's size.
  const support::Directory place("/tmp");
  const auto allow = [](rlim_t more) {
    std::ifstream file("/proc/self/statm");
    rlim_t pages = 0;
    file >> pages;
    rlimit limit = {};
    ::getrlimit(RLIMIT_AS, &limit);
    limit.rlim_cur = more == RLIM_INFINITY ? more : pages * static_cast<rlim_t>(::sysconf(_SC_PAGESIZE)) + more;
    ::setrlimit(RLIMIT_AS, &limit);
  };
  int told[2] = {};
  int answered[2] = {};
  REQUIRE(::pipe(told) == 0);
  REQUIRE(::pipe(answered) == 0);
  FileStore others(place.path(), with(Durability::process));
  completed(others, "first", "kept");
  std::thread grows([&] {
    char byte = 0;
    if (::read(told[0], &byte, 1) != 1) return;
    const std::string large(60'000, 'x');
    for (int i = 0; i < 40; ++i) {
      const std::string name = "large " + std::to_string(i);
      const Reply taken = claim(others, name);
      static_cast<void>(others.complete(key_of(name), outcome(taken.record.owner, large)));
    }
    CHECK(::write(answered[1], "x", 1) == 1);
  });
  const int wrong = in_child([&] {
    const rlimit none{0, 0};
    ::setrlimit(RLIMIT_CORE, &none);
    // So that whoever reads on behind the journal comes upon memory that can't be read.
    if (::mmap(nullptr, std::size_t{4} << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED) return 1;
    allow(rlim_t{64} << 20);
    FileStore store(place.path(), with(Durability::process));
    if (store.find(key_of("first")).answer != Answer::completed) return 2;
    ::usleep(50'000);  // names count as unchanged only when their last change is some ticks of the clock ago
    for (int i = 0; i < 2; ++i) static_cast<void>(claim(store, "first " + std::to_string(i)));
    char byte = 0;
    if (::write(told[1], "x", 1) != 1 || ::read(answered[0], &byte, 1) != 1) return 3;
    allow(rlim_t{1} << 18);
    for (int i = 0; i < 3; ++i) {
      if (store.find(key_of("large 39")).answer != Answer::unavailable) return 4;
    }
    allow(RLIM_INFINITY);
    return store.find(key_of("large 39")).answer == Answer::completed ? 0 : 5;
  });
  CHECK(::write(told[1], "x", 1) == 1);  // where the child came to nothing
  grows.join();
  for (const int fd : {told[0], told[1], answered[0], answered[1]}) ::close(fd);
  CHECK(wrong == 0);
}
