// That a directory is known to be unchanged only while it is.
#include <idem/detail/file/directory.hpp>
#include <idem/detail/file/names.hpp>
#include <idem/file_store.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <string>

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "support/directory.hpp"

namespace {

using idem::detail::file::DirectoryNames;
using idem::detail::file::Fd;

/// Whether a look is trusted in the end. False on file systems of which it isn't known.
bool settles(DirectoryNames& names, int directory) {
  const auto patience = std::chrono::steady_clock::now() + std::chrono::milliseconds(200);
  while (std::chrono::steady_clock::now() < patience) {
    if (names.unchanged(directory)) return true;
    names.confirm();
  }
  return false;
}

bool make(int directory, const char* name) {
  return static_cast<bool>(Fd(::openat(directory, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600)));
}

}  // namespace

TEST_CASE("FSE: a name made, removed or replaced since the last look is never missed") {
  const support::Directory place;
  const Fd directory(::open(place.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  REQUIRE(directory);
  DirectoryNames names;
  bool exact = true;
  for (int round = 0; round < 8 && exact; ++round) {
    exact = settles(names, directory.get());
    REQUIRE(make(directory.get(), "a"));
    CHECK_FALSE(names.unchanged(directory.get()));
    exact = exact && settles(names, directory.get());
    REQUIRE(::renameat(directory.get(), "a", directory.get(), "b") == 0);
    CHECK_FALSE(names.unchanged(directory.get()));
    exact = exact && settles(names, directory.get());
    REQUIRE(make(directory.get(), "c"));
    CHECK_FALSE(names.unchanged(directory.get()));
    exact = exact && settles(names, directory.get());
    REQUIRE(::renameat(directory.get(), "c", directory.get(), "b") == 0);
    CHECK_FALSE(names.unchanged(directory.get()));
    exact = exact && settles(names, directory.get());
    REQUIRE(::unlinkat(directory.get(), "b", 0) == 0);
    CHECK_FALSE(names.unchanged(directory.get()));
  }
}

TEST_CASE("FSE: a look just after a change isn't trusted, since a second change may bear the same time") {
  const support::Directory place;
  const Fd directory(::open(place.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  REQUIRE(directory);
  DirectoryNames names;
  for (int round = 0; round < 2000; ++round) {
    REQUIRE(make(directory.get(), "a"));
    static_cast<void>(names.unchanged(directory.get()));
    names.confirm();
    REQUIRE(::unlinkat(directory.get(), "a", 0) == 0);
    REQUIRE_FALSE(names.unchanged(directory.get()));
  }
}

TEST_CASE("FSE: a look that nobody confirmed is worth nothing") {
  const support::Directory place;
  const Fd directory(::open(place.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  REQUIRE(directory);
  DirectoryNames names;
  const auto patience = std::chrono::steady_clock::now() + std::chrono::milliseconds(60);
  while (std::chrono::steady_clock::now() < patience) REQUIRE_FALSE(names.unchanged(directory.get()));
}

TEST_CASE("FLK: a store that has long been at work notices at once that its lock or journal was replaced") {
  const support::Directory place;
  idem::FileStore store(place.path(), {.durability = idem::Durability::process});
  const auto patience = std::chrono::steady_clock::now() + std::chrono::milliseconds(100);
  while (std::chrono::steady_clock::now() < patience) REQUIRE(store.open().answer == idem::Answer::ok);

  const Fd directory(::open(place.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  REQUIRE(::unlinkat(directory.get(), "lock", 0) == 0);
  REQUIRE(store.open().answer == idem::Answer::ok);
  CHECK(::faccessat(directory.get(), "lock", F_OK, 0) == 0);

  while (std::chrono::steady_clock::now() < patience + std::chrono::milliseconds(100)) {
    REQUIRE(store.open().answer == idem::Answer::ok);
  }
  REQUIRE(::unlinkat(directory.get(), "journal", 0) == 0);
  CHECK(store.open().answer == idem::Answer::unavailable);
}
