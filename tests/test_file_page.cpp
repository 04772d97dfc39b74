// The page of memory that the processes of a file store share: what is believed of it, and how it wakes sleepers.
#include <doctest/doctest.h>

#if !defined(_WIN32)

#include "support/file_system_support.hpp"
#include "support/process_support.hpp"

#include <idem/detail/file/page.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <new>
#include <string>

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

using namespace process_support;
using namespace file_system_support;
using file::Creation;
using file::Fd;
using file::Id128;
using file::SharedPage;
using idem::Digest;

namespace {

constexpr std::int64_t minute = 60'000'000;

Id128 id_of(std::uint8_t first) {
  Id128 id;
  for (std::uint8_t& byte : id.bytes) byte = first++;
  return id;
}

Digest digest_of(std::uint8_t byte) {
  Digest digest;
  for (std::uint8_t& to : digest.bytes) to = byte;
  return digest;
}

/// The file itself, past the mapping.
struct PageFile {
  explicit PageFile(const Folder& folder) {
    REQUIRE(!file::open_file(folder.get(), "page", Creation::never, false, fd));
  }

  std::uint64_t word(std::uint64_t offset) const {
    std::uint64_t value = 0;
    REQUIRE(!file::read_all(fd.get(), &value, sizeof value, offset));
    return value;
  }
  std::uint32_t half(std::uint64_t offset) const {
    std::uint32_t value = 0;
    REQUIRE(!file::read_all(fd.get(), &value, sizeof value, offset));
    return value;
  }
  void put(std::uint64_t offset, std::uint64_t value) const {
    REQUIRE(!file::write_all(fd.get(), &value, sizeof value, offset));
  }

  Fd fd;
};

/// A bell whose second word can't be touched at first. Who does so all the same, as a ring does after it has counted,
/// goes on after another thread has taken a ticket and said that it's about to sleep.
struct HaltedBell {
  HaltedBell() {
    memory = ::mmap(nullptr, 2 * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(memory != MAP_FAILED);
    count = ::new (memory) std::atomic<std::uint32_t>(0);
    second = static_cast<char*>(memory) + size;
    asleep = ::new (second) std::atomic<std::uint32_t>(0);
    REQUIRE(::mprotect(second, size, PROT_NONE) == 0);
    halted = this;
    struct ::sigaction action = {};
    action.sa_handler = meanwhile;
    for (const int signal : {SIGSEGV, SIGBUS}) REQUIRE(::sigaction(signal, &action, &before[signal == SIGBUS]) == 0);
  }
  ~HaltedBell() {
    for (const int signal : {SIGSEGV, SIGBUS}) ::sigaction(signal, &before[signal == SIGBUS], nullptr);
    ::munmap(memory, 2 * size);
  }
  HaltedBell(const HaltedBell&) = delete;
  HaltedBell& operator=(const HaltedBell&) = delete;

  file::Bell bell() const { return file::Bell(*count, *asleep); }

  static void meanwhile(int) {
    if (::mprotect(halted->second, halted->size, PROT_READ | PROT_WRITE) != 0) ::_exit(1);
    halted->ticket = halted->count->load();
    halted->asleep->store(1);
  }

  static inline HaltedBell* halted = nullptr;
  const std::size_t size = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  void* memory = nullptr;
  void* second = nullptr;
  std::atomic<std::uint32_t>* count = nullptr;
  std::atomic<std::uint32_t>* asleep = nullptr;
  std::uint32_t ticket = 77;
  struct ::sigaction before[2] = {};
};

}  // namespace

TEST_CASE("a new page belongs to no store until it is rebuilt, and then to one") {
  const Folder folder;
  SharedPage page;
  REQUIRE(!page.open(folder.get(), false));
  CHECK(size_of(PageFile(folder).fd.get()) == 16384);
  CHECK(mode_of(folder / "page") == 0600);
  CHECK(!page.describes(id_of(1)));
  CHECK(page.sequence() == 0);
  page.rebuild(id_of(1));
  CHECK(page.describes(id_of(1)));
  CHECK(!page.describes(id_of(2)));
  page.rebuild(id_of(2));
  CHECK(page.describes(id_of(2)));
  CHECK(!page.describes(id_of(1)));
}

TEST_CASE("what one says in the page all others see, and a rebuild forgets it") {
  const Folder folder;
  SharedPage one;
  SharedPage other;
  REQUIRE(!one.open(folder.get(), false));
  one.rebuild(id_of(1));
  REQUIRE(!other.open(folder.get(), false));
  CHECK(other.describes(id_of(1)));
  one.start_generation(1, 4096, false);
  one.publish(17);
  one.durable(16);
  one.durable_end(1, 8192);
  one.directory_is_synced(1);
  one.poison(true);
  one.time_seen(1234);
  one.lock_holder(99);
  CHECK(other.sequence() == 17);
  CHECK(other.durable_sequence() == 16);
  CHECK(other.durable_end(1) == 8192);
  CHECK(other.directory_synced(1));
  CHECK(other.poisoned());
  CHECK(other.time() == 1234);
  CHECK(other.lock_holder() == 99);
  other.rebuild(id_of(1));
  CHECK(one.sequence() == 0);
  CHECK(one.durable_sequence() == 0);
  CHECK(one.durable_end(1) == 0);
  CHECK(!one.directory_synced(1));
  CHECK(!one.poisoned());
  CHECK(one.time() == 0);
}

TEST_CASE("what is durable is never taken back, and the store's clock never goes back") {
  const Folder folder;
  SharedPage page;
  REQUIRE(!page.open(folder.get(), false));
  page.rebuild(id_of(1));
  page.durable(20);
  page.durable(19);
  CHECK(page.durable_sequence() == 20);
  page.time_seen(1000);
  page.time_seen(999);
  page.time_seen(-5);
  page.time_seen((std::numeric_limits<std::int64_t>::min)());
  CHECK(page.time() == 1000);
  page.time_seen((std::numeric_limits<std::int64_t>::max)());
  CHECK(page.time() == (std::numeric_limits<std::int64_t>::max)());
  // Only `publish` may: a writer who finds that frames are gone says how many there are.
  page.publish(30);
  page.publish(7);
  CHECK(page.sequence() == 7);
}

TEST_CASE("the durable end of one journal is never taken for that of another") {
  const Folder folder;
  SharedPage page;
  REQUIRE(!page.open(folder.get(), false));
  page.rebuild(id_of(1));
  CHECK(page.durable_end(0) == 0);
  page.durable_end(0, 8192);
  page.durable_end(1, 8192);
  CHECK(page.durable_end(0) == 0);
  CHECK(page.durable_end(1) == 0);
  page.start_generation(1, 4096, false);
  CHECK(page.durable_end(1) == 4096);
  CHECK(page.durable_end(2) == 0);
  page.durable_end(1, 8192);
  page.durable_end(1, 6000);
  CHECK(page.durable_end(1) == 8192);
  page.durable_end(2, 9000);
  CHECK(page.durable_end(1) == 8192);
  // A compaction made it shorter; a thread that still syncs the old journal says nothing about the new one.
  page.start_generation(2, 5000, false);
  page.durable_end(1, 1 << 20);
  CHECK(page.durable_end(2) == 5000);
  CHECK(page.durable_end(1) == 0);
  const std::uint64_t generation = 0x12340000u;
  page.start_generation(generation, 4096, false);
  CHECK(page.durable_end(generation) == 4096);
  page.durable_end(generation, (std::uint64_t{1} << 48) + 5);
  CHECK(page.durable_end(generation) == (std::uint64_t{1} << 48) - 1);
  CHECK(page.durable_end(generation + 1) == 0);
}

TEST_CASE("the directory counts as synced for the journal that had its name by then, and for those before") {
  const Folder folder;
  SharedPage page;
  REQUIRE(!page.open(folder.get(), false));
  page.rebuild(id_of(1));
  CHECK(!page.directory_synced(0));
  page.start_generation(4, 4096, false);
  CHECK(!page.directory_synced(4));
  page.directory_is_synced(3);
  CHECK(!page.directory_synced(4));
  page.directory_is_synced(4);
  page.directory_is_synced(3);
  CHECK(page.directory_synced(4));
  CHECK(page.directory_synced(3));
  CHECK(!page.directory_synced(5));
  page.start_generation(5, 4096, true);
  CHECK(page.directory_synced(5));
  page.start_generation(6, 4096, false);
  CHECK(!page.directory_synced(6));
}

TEST_CASE("the page has the bytes that docs/format.md gives it") {
  const Folder folder;
  SharedPage page;
  REQUIRE(!page.open(folder.get(), false));
  page.rebuild(id_of(0x10));
  page.publish(0x1122334455667788u);
  page.time_seen(0x0102030405060708);
  page.durable(0x1122334455667787u);
  page.start_generation(0x50003, 0x2000, true);
  page.poison(true);
  page.lock_holder(4711);
  page.wake(digest_of(255));
  std::string expected(16384, '\0');
  const auto put = [&expected](std::size_t offset, const auto& value) {
    std::memcpy(expected.data() + offset, &value, sizeof value);
  };
  const PageFile raw(folder);
  file::FileStatus status;
  REQUIRE(!file::status_of(raw.fd.get(), status));
  put(0, std::uint64_t{0x6761702d6d656469u});
  put(8, std::uint64_t{1});
  put(16, id_of(0x10));
  put(32, file::boot_id());
  put(48, status.device);
  put(56, status.inode);
  put(128, std::uint64_t{0x1122334455667788u});
  put(136, std::uint64_t{0x0102030405060708u});
  put(192, std::uint64_t{0x1122334455667787u});
  put(200, std::uint64_t{0x0003000000002000u});
  put(208, std::uint64_t{0x50003});
  put(216, std::uint64_t{1});
  put(264, std::uint64_t{4711});
  for (std::size_t bell = 0; bell < 256; ++bell) put(4096 + 32 * bell, std::uint32_t{bell == 255 ? 2u : 1u});
  CHECK(content_of(raw.fd.get()) == expected);
}

TEST_CASE("T-78: a page of another version, store, boot, directory or machine isn't believed") {
  const Folder folder;
  SharedPage page;
  REQUIRE(!page.open(folder.get(), false));
  const PageFile raw(folder);
  for (std::uint64_t offset = 0; offset < 64; offset += 8) {
    CAPTURE(offset);
    page.rebuild(id_of(1));
    page.publish(5);
    page.durable(5);
    page.poison(true);
    REQUIRE(page.describes(id_of(1)));
    for (int bit = 0; bit < 64; ++bit) {
      const std::uint64_t before = raw.word(offset);
      raw.put(offset, before ^ (std::uint64_t{1} << bit));
      CHECK(!page.describes(id_of(1)));
      raw.put(offset, before);
    }
    CHECK(page.describes(id_of(1)));
    raw.put(offset, 0x0706050403020100u);
    CHECK(!page.describes(id_of(1)));
    page.rebuild(id_of(1));
    CHECK(page.describes(id_of(1)));
    CHECK(page.durable_sequence() == 0);
    CHECK(!page.poisoned());
  }
}

TEST_CASE("the copy of a directory doesn't believe the page that was copied along") {
  const Folder folder;
  const Folder copy;
  SharedPage page;
  REQUIRE(!page.open(folder.get(), false));
  page.rebuild(id_of(1));
  page.publish(9);
  page.durable(9);
  const std::string bytes = content_of(PageFile(folder).fd.get());
  Fd target;
  REQUIRE(!file::open_file(copy.get(), "page", Creation::exclusive, false, target));
  REQUIRE(!file::write_all(target.get(), bytes.data(), bytes.size(), 0));
  SharedPage copied;
  REQUIRE(!copied.open(copy.get(), false));
  CHECK(!copied.describes(id_of(1)));
  CHECK(page.describes(id_of(1)));
}

TEST_CASE("who has mapped a page that was deleted is told that it knows nothing") {
  const Folder folder;
  SharedPage page;
  REQUIRE(!page.open(folder.get(), false));
  page.rebuild(id_of(1));
  page.publish(5);
  REQUIRE(::unlink((folder / "page").c_str()) == 0);
  SharedPage fresh;
  REQUIRE(!fresh.open(folder.get(), false));
  CHECK(!fresh.describes(id_of(1)));
  fresh.rebuild(id_of(1));
  fresh.publish(6);
  CHECK(!page.describes(id_of(1)));
  CHECK(page.sequence() == 0);
  page.rebuild(id_of(1));
  page.publish(5);
  page.durable(5);
  CHECK(!page.describes(id_of(1)));
  // It mustn't tell readers that they are up to date, but what this process itself synced is on disk.
  CHECK(page.sequence() == 0);
  CHECK(page.durable_sequence() == 5);
  CHECK(fresh.sequence() == 6);
}

TEST_CASE("a page that somebody cuts kills nobody, and serves again once it is whole") {
  const Folder folder;
  SharedPage page;
  REQUIRE(!page.open(folder.get(), false));
  page.rebuild(id_of(1));
  page.publish(5);
  const PageFile raw(folder);
  SUBCASE("noticed before it is read") {
    REQUIRE(::ftruncate(raw.fd.get(), 100) == 0);
    CHECK(!page.describes(id_of(1)));
    CHECK(page.sequence() == 0);
    page.rebuild(id_of(1));
    CHECK(page.describes(id_of(1)));
    SharedPage fresh;
    REQUIRE(!fresh.open(folder.get(), false));
    CHECK(fresh.describes(id_of(1)));
    CHECK(size_of(raw.fd.get()) == 16384);
  }
  SUBCASE("noticed by reading") {
    REQUIRE(::ftruncate(raw.fd.get(), 0) == 0);
    CHECK(page.sequence() == 0);
    CHECK(!page.describes(id_of(1)));
    page.rebuild(id_of(1));
    page.publish(5);
    CHECK(page.sequence() == 0);
    SharedPage fresh;
    REQUIRE(!fresh.open(folder.get(), false));
    CHECK(!fresh.describes(id_of(1)));
    fresh.rebuild(id_of(1));
    CHECK(fresh.describes(id_of(1)));
    CHECK(!page.describes(id_of(1)));
  }
}

TEST_CASE("a page shorter than it should be is made whole, a longer one is used") {
  const Folder folder;
  {
    Fd fd;
    REQUIRE(!file::open_file(folder.get(), "page", Creation::exclusive, false, fd));
    REQUIRE(!file::write_all(fd.get(), "short", 5, 0));
  }
  SharedPage page;
  REQUIRE(!page.open(folder.get(), false));
  page.rebuild(id_of(1));
  CHECK(page.describes(id_of(1)));
  REQUIRE(::truncate((folder / "page").c_str(), 20000) == 0);
  SharedPage longer;
  REQUIRE(!longer.open(folder.get(), false));
  CHECK(longer.describes(id_of(1)));
  CHECK(size_of(PageFile(folder).fd.get()) == 20000);
}

TEST_CASE("a ring between taking the ticket and falling asleep isn't slept through") {
  const Folder folder;
  SharedPage page;
  REQUIRE(!page.open(folder.get(), false));
  page.rebuild(id_of(1));
  // Each of these would last for an hour.
  std::uint32_t ticket = page.ticket(digest_of(7));
  page.wake(digest_of(7));
  page.sleep(digest_of(7), ticket, 60 * minute);
  ticket = page.ticket(digest_of(7));
  page.wake_all();
  page.sleep(digest_of(7), ticket, 60 * minute);
  ticket = page.ticket(digest_of(7));
  page.rebuild(id_of(1));
  page.sleep(digest_of(7), ticket, 60 * minute);
  // These last no time at all.
  ticket = page.ticket(digest_of(7));
  page.sleep(digest_of(7), ticket, 0);
  page.sleep(digest_of(7), ticket, -5);
  page.sleep(digest_of(7), ticket, 1);
  CHECK(page.ticket(digest_of(7)) == ticket);
  page.wake(digest_of(8));
  CHECK(page.ticket(digest_of(7)) == ticket);
}

TEST_CASE("who is about to fall asleep while a bell rings doesn't do so unknown to the next ring") {
  for (const std::uint32_t how_many : {idem::detail::one_sleeper, idem::detail::all_sleepers, std::uint32_t{0}}) {
    CAPTURE(how_many);
    HaltedBell halted;
    const file::Bell bell = halted.bell();
    if (how_many == 0) {
      bell.ring_for_one();
    } else {
      bell.ring(how_many);
    }
    CHECK(halted.ticket == 1);
    CHECK((bell.has_sleepers() || bell.ticket() != halted.ticket));
  }
}

TEST_CASE("a ring for one leaves it known that others sleep, until all are woken") {
  std::atomic<std::uint32_t> count{5};
  std::atomic<std::uint32_t> asleep{0};
  const file::Bell bell(count, asleep, idem::detail::FutexScope::own_process);
  bell.ring_for_one();
  CHECK_FALSE(bell.has_sleepers());
  bell.expect_sleepers();
  const std::uint32_t ticket = bell.ticket();
  bell.ring_for_one();
  CHECK(bell.has_sleepers());
  CHECK(bell.ticket() != ticket);
  bell.ring(idem::detail::all_sleepers);
  CHECK_FALSE(bell.has_sleepers());
}

TEST_CASE("sleepers of other processes are woken: by their key, by all keys, by a rebuild") {
  const Folder folder;
  SharedPage page;
  REQUIRE(!page.open(folder.get(), false));
  page.rebuild(id_of(1));
  const PageFile raw(folder);
  const Shared<std::atomic<bool>> over;
  // A sleeper that nobody wakes is ended by the alarm of a minute.
  const auto sleeper = [&over](SharedPage& own) {
    while (true) {
      const std::uint32_t ticket = own.ticket(digest_of(3));
      if (over->load()) return 0;
      own.sleep(digest_of(3), ticket, 60 * minute);
    }
  };
  for (int way = 0; way < 3; ++way) {
    CAPTURE(way);
    over->store(false);
    Child first([&] { return sleeper(page); });
    Child second([&] {
      SharedPage own;
      if (own.open(folder.get(), false)) return 2;
      return sleeper(own);
    });
    REQUIRE(eventually([&] { return raw.half(4096 + 32 * 3 + 4) == 1; }));
    over->store(true);
    if (way == 0) page.wake(digest_of(3));
    if (way == 1) page.wake_all();
    if (way == 2) page.rebuild(id_of(1));
    CHECK(first.wait() == 0);
    CHECK(second.wait() == 0);
  }
}

TEST_CASE("no wake-up gets lost in ten thousand turns of two processes") {
  const Folder folder;
  SharedPage page;
  REQUIRE(!page.open(folder.get(), false));
  page.rebuild(id_of(1));
  const Shared<std::atomic<int>> turn;
  constexpr int rounds = 10000;
  const auto play = [&](int mine) {
    for (int round = 0; round < rounds; ++round) {
      while (true) {
        const std::uint32_t ticket = page.ticket(digest_of(9));
        if (turn->load() % 2 == mine) break;
        page.sleep(digest_of(9), ticket, 60 * minute);
      }
      turn->fetch_add(1);
      page.wake(digest_of(9));
    }
    return 0;
  };
  Child other([&] { return play(1); });
  play(0);
  CHECK(other.wait() == 0);
  CHECK(turn->load() == 2 * rounds);
}

TEST_CASE("a sleeper that is killed in its sleep costs one system call, and the others still wake up") {
  const Folder folder;
  SharedPage page;
  REQUIRE(!page.open(folder.get(), false));
  page.rebuild(id_of(1));
  const PageFile raw(folder);
  const Shared<std::atomic<bool>> over;
  const auto sleep_until_over = [&] {
    while (true) {
      const std::uint32_t ticket = page.ticket(digest_of(0));
      if (over->load()) return 0;
      page.sleep(digest_of(0), ticket, 60 * minute);
    }
  };
  const auto asleep = [&raw] { return raw.half(4096 + 4) == 1; };
  {
    Child victim(sleep_until_over);
    REQUIRE(eventually(asleep));
    victim.kill(SIGKILL);
    CHECK(victim.wait() == -SIGKILL);
  }
  CHECK(asleep());
  page.wake(digest_of(0));
  CHECK(!asleep());
  Child survivor(sleep_until_over);
  REQUIRE(eventually(asleep));
  over->store(true);
  page.wake(digest_of(0));
  CHECK(survivor.wait() == 0);
}

#endif
