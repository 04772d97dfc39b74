// A mapped file that is shortened, or can't be read, doesn't end the program.
#include <doctest/doctest.h>

#if !defined(_WIN32)

#include "support/file_system_support.hpp"

#include <idem/detail/file/mapping.hpp>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

using namespace file_system_support;
using file::Fd;
using file::Mapping;

namespace {

const std::size_t page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));

/// A file of `pages` pages, each filled with its number, counted from 1.
Fd make_file(const Folder& folder, const char* name, std::size_t pages) {
  Fd fd;
  REQUIRE_FALSE(file::open_file(folder.get(), name, file::Creation::exclusive, false, fd));
  for (std::size_t i = 0; i < pages; ++i) {
    const std::string content(page, static_cast<char>(i + 1));
    REQUIRE_FALSE(file::write_all(fd.get(), content.data(), page, i * page));
  }
  return fd;
}

bool shorten(const Fd& fd, std::size_t pages) { return ::ftruncate(fd.get(), static_cast<off_t>(pages * page)) == 0; }

/// What is there, whatever the compiler thinks. ThreadSanitizer takes a page that is put in place for a write to it.
#if defined(__GNUC__)
__attribute__((noinline, no_sanitize("thread")))
#endif
std::uint8_t at(const Mapping& mapping, std::size_t offset) {
  return *const_cast<const volatile std::uint8_t*>(mapping.data() + offset);
}

void put(const Mapping& mapping, std::size_t offset, std::uint8_t value) {
  *const_cast<volatile std::uint8_t*>(mapping.data() + offset) = value;
}

/// A page that is in no Mapping and brings SIGBUS.
volatile std::uint8_t* foreign_page(const Fd& fd) {
  void* const memory = ::mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  return memory == MAP_FAILED ? nullptr : static_cast<volatile std::uint8_t*>(memory) + page;
}

/// As before the first mapping of the process, with `handler` in place.
template <class Handler>
void start_anew(Handler handler, int flags) {
  struct sigaction action = {};
  if constexpr (std::is_invocable_v<Handler, int, siginfo_t*, void*>) {
    action.sa_sigaction = handler;
  } else {
    action.sa_handler = handler;
  }
  action.sa_flags = flags;
  ::sigaction(SIGBUS, &action, nullptr);
  file::bus_state.installed = false;
}

std::atomic<int> handled{0};
std::atomic<bool> address_fits{false};
volatile std::uint8_t* expected_address = nullptr;

void mend_for_tests() {
  ++handled;
  ::mmap(const_cast<std::uint8_t*>(expected_address), page, PROT_READ | PROT_WRITE,
         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

void handler_with_info(int, siginfo_t* info, void* context) {
  address_fits = info->si_addr == const_cast<std::uint8_t*>(expected_address) && context != nullptr;
  mend_for_tests();
}

/// Whether bus errors come with their address: not with qemu 7 for other machines, which tells its own.
bool addresses_are_true(const Folder& folder) {
  const Fd fd = make_file(folder, "probe", 1);
  return in_child([&] {
    struct sigaction action = {};
    action.sa_sigaction = [](int, siginfo_t* info, void*) {
      ::_exit(info->si_code > 0 && info->si_addr == const_cast<std::uint8_t*>(expected_address) ? 0 : 1);
    };
    action.sa_flags = SA_SIGINFO;
    ::sigaction(SIGBUS, &action, nullptr);
    expected_address = foreign_page(fd);
    return expected_address == nullptr ? 2 : *expected_address + 3;
  }) == 0;
}

void plain_handler(int signal) {
  address_fits = signal == SIGBUS;
  mend_for_tests();
}

}  // namespace

TEST_CASE("mappings of one file share its bytes with each other and with those who read and write it") {
  const Folder folder;
  const Fd fd = make_file(folder, "page", 2);
  Mapping one, other;
  REQUIRE_FALSE(one.map(fd.get(), 2 * page, true));
  REQUIRE_FALSE(other.map(fd.get(), page + 100, false));
  CHECK(one.size() == 2 * page);
  CHECK(other.size() == page + 100);
  CHECK(at(other, 0) == 1);
  CHECK(at(other, page) == 2);
  put(one, 17, 99);
  CHECK(at(other, 17) == 99);
  CHECK(content_of(fd.get())[17] == 99);
  CHECK(in_child([&] {
    put(one, 18, 98);
    return 0;
  }) == 0);
  CHECK(at(other, 18) == 98);
  REQUIRE_FALSE(file::write_all(fd.get(), "x", 1, 19));
  CHECK(at(one, 19) == 'x');
  CHECK_FALSE(one.damaged());
  CHECK_FALSE(other.damaged());
}

TEST_CASE("what a file doesn't have yet can be mapped and is there once it has grown") {
  const Folder folder;
  const Fd fd = make_file(folder, "journal", 1);
  Mapping mapping;
  REQUIRE_FALSE(mapping.map(fd.get(), 1000 * page, false));
  REQUIRE_FALSE(file::write_all(fd.get(), "later", 5, 500 * page));
  CHECK(std::memcmp(mapping.data() + 500 * page, "later", 5) == 0);
  CHECK(at(mapping, 250 * page) == 0);
  CHECK_FALSE(mapping.damaged());
}

TEST_CASE("FDU-15: a file that is shortened reads as zeros from there on and is known to be damaged") {
  const Folder folder;
  if (!addresses_are_true(folder)) return;
  const Fd fd = make_file(folder, "journal", 4);
  const Fd whole = make_file(folder, "page", 4);
  const int wrong = in_child([&] {
    Mapping reading, writing, spared;
    if (reading.map(fd.get(), 4 * page, false) || writing.map(fd.get(), 4 * page, true)) return 1;
    if (spared.map(whole.get(), 4 * page, true)) return 2;
    if (!shorten(fd, 2)) return 3;
    if (reading.damaged() || writing.damaged()) return 4;
    errno = 77;
    if (at(reading, 3 * page + 5) != 0 || errno != 77) return 5;
    if (!reading.damaged() || writing.damaged() || spared.damaged()) return 6;
    if (at(reading, 2 * page) != 0 || at(reading, 4 * page - 1) != 0) return 7;
    if (at(reading, 0) != 1 || at(reading, 2 * page - 1) != 2) return 8;
    // What is written to a lost page stays with the writer and brings no end either.
    put(writing, 2 * page, 42);
    if (!writing.damaged() || at(writing, 2 * page) != 42 || at(reading, 2 * page) != 0) return 9;
    put(writing, 0, 43);
    if (at(reading, 0) != 43 || content_of(fd.get()).size() != 2 * page) return 10;
    if (spared.damaged() || at(spared, 3 * page) != 4) return 11;
    // A new mapping of the same object knows nothing of it.
    if (reading.map(whole.get(), 4 * page, false) || reading.damaged() || at(reading, 3 * page) != 4) return 12;
    return 0;
  });
  CHECK(wrong == 0);
}

TEST_CASE("threads that meet a lost page at the same time all go on, while others map and unmap") {
  const Folder folder;
  if (!addresses_are_true(folder)) return;
  const Fd fd = make_file(folder, "journal", 64);
  const Fd whole = make_file(folder, "page", 1);
  const int wrong = in_child([&] {
    Mapping mapping;
    if (mapping.map(fd.get(), 64 * page, false) || !shorten(fd, 0)) return 1;
    std::atomic<int> result{0};
    std::atomic<bool> over{false};
    std::vector<std::thread> threads;
    for (int i = 0; i < 2; ++i) {
      threads.emplace_back([&] {
        while (!over) {
          Mapping other;
          if (other.map(whole.get(), page, true) || at(other, 1) != 1 || other.damaged()) result = 2;
        }
      });
    }
    for (int i = 0; i < 3; ++i) {
      threads.emplace_back([&] {
        for (std::size_t offset = 0; offset < 64 * page; offset += page) {
          if (at(mapping, offset) != 0) result = 3;
        }
      });
    }
    for (std::size_t i = threads.size(); i-- > 0;) {
      if (i == 1) over = true;
      threads[i].join();
    }
    if (!mapping.damaged()) result = 4;
    return result.load();
  });
  CHECK(wrong == 0);
}

TEST_CASE("bus errors elsewhere go to the handler that was there before") {
  const Folder folder;
  if (!addresses_are_true(folder)) return;
  const Fd fd = make_file(folder, "foreign", 1);
  const Fd ours = make_file(folder, "journal", 2);
  const auto with_handler = [&](auto handler, int flags) {
    return in_child([&] {
      start_anew(handler, flags);
      Mapping mapping;
      if (mapping.map(ours.get(), 2 * page, false) || !shorten(ours, 1)) return 1;
      expected_address = foreign_page(fd);
      if (expected_address == nullptr) return 2;
      if (*expected_address != 0) return 3;
      if (handled != 1 || !address_fits) return 4;
      if (mapping.damaged() || at(mapping, page) != 0 || !mapping.damaged() || handled != 1) return 5;
      // A signal that somebody sends isn't about memory, whatever it says.
      ::raise(SIGBUS);
      return handled == 2 ? 0 : 6;
    });
  };
  CHECK(with_handler(handler_with_info, SA_SIGINFO) == 0);
  CHECK(with_handler(plain_handler, 0) == 0);
}

TEST_CASE("where there was no handler, bus errors elsewhere end the program as they always did") {
  const Folder folder;
  const Fd fd = make_file(folder, "foreign", 1);
  const Fd ours = make_file(folder, "journal", 1);
  const auto touch = [&](void (*before)(int)) {
    return in_child([&] {
      start_anew(before, 0);
      Mapping mapping;
      if (mapping.map(ours.get(), page, false)) return 1;
      volatile std::uint8_t* const foreign = foreign_page(fd);
      return foreign == nullptr ? 2 : *foreign + 3;
    });
  };
  CHECK(touch(SIG_DFL) == -SIGBUS);
  CHECK(touch(SIG_IGN) == -SIGBUS);  // the kernel lets nobody ignore it
  const auto send = [&](void (*before)(int)) {
    return in_child([&] {
      start_anew(before, 0);
      Mapping mapping;
      if (mapping.map(ours.get(), page, false)) return 1;
      ::raise(SIGBUS);
      return 0;
    });
  };
  CHECK(send(SIG_DFL) == -SIGBUS);
  CHECK(send(SIG_IGN) == 0);
}

TEST_CASE("memory that was unmapped is no longer ours, and what described it is used again") {
  const Folder folder;
  const Fd fd = make_file(folder, "journal", 2);
  const auto ranges = [] {
    int count = 0;
    for (file::MappedRange* range = file::bus_state.first; range != nullptr; range = range->next) ++count;
    return count;
  };
  Mapping mapping;
  REQUIRE_FALSE(mapping.map(fd.get(), 2 * page, false));
  const int before = ranges();
  for (int i = 0; i < 100; ++i) {
    REQUIRE_FALSE(mapping.map(fd.get(), 2 * page, false));
    REQUIRE(mapping.map(-1, 2 * page, false).error == EBADF);
    REQUIRE(mapping.data() == nullptr);
    REQUIRE(mapping.map(fd.get(), 0, false).what != nullptr);
    REQUIRE(mapping.map(fd.get(), UINT64_MAX, false).error == EFBIG);
  }
  CHECK(ranges() == before);
  CHECK(in_child([&] {
    start_anew(SIG_DFL, 0);
    if (mapping.map(fd.get(), 2 * page, false)) return 1;
    const std::uintptr_t address = reinterpret_cast<std::uintptr_t>(mapping.data());
    mapping.unmap();
    if (file::mend_page(address) || mapping.damaged() || mapping.size() != 0) return 2;
    return 0;
  }) == 0);
}

TEST_CASE("a mapping that is moved stays where it is in memory, and so does its damage") {
  const Folder folder;
  if (!addresses_are_true(folder)) return;
  const Fd fd = make_file(folder, "journal", 2);
  const Fd other = make_file(folder, "page", 1);
  const int wrong = in_child([&] {
    Mapping first, third;
    if (first.map(fd.get(), 2 * page, true) || third.map(other.get(), page, true)) return 1;
    const std::uint8_t* const data = first.data();
    Mapping second(static_cast<Mapping&&>(first));
    if (first.data() != nullptr || first.size() != 0 || first.damaged() || second.data() != data) return 2;
    if (!shorten(fd, 1) || at(second, page) != 0 || !second.damaged()) return 3;
    third = static_cast<Mapping&&>(second);
    if (second.damaged() || !third.damaged() || third.data() != data || third.size() != 2 * page) return 4;
    if (at(third, 0) != 1) return 5;
    return 0;
  });
  CHECK(wrong == 0);
}

TEST_CASE("a mapping for writing needs a file that may be written") {
  const Folder folder;
  make_file(folder, "journal", 1);
  const Fd fd = file::open_at(folder.get(), "journal", O_RDONLY);
  Mapping mapping;
  CHECK(mapping.map(fd.get(), page, true).error == EACCES);
  CHECK_FALSE(mapping.map(fd.get(), page, false));
}

#endif
