// What a FileStore couldn't do at once it does as soon as it can, without being asked again.
#include <idem/file_store.hpp>
#include <idem/make_key.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <optional>
#include <string>

#include "support/directory.hpp"
#include "support/process_support.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

namespace {

using namespace std::chrono_literals;
using idem::Answer;
using idem::FileStore;
using process_support::eventually;

/// Holds a store's lock as a process does that was stopped inside it.
class Holder {
 public:
  explicit Holder(const std::string& directory) : fd_(::open((directory + "/lock").c_str(), O_RDWR | O_CLOEXEC)) {
    REQUIRE(fd_ >= 0);
    REQUIRE(::flock(fd_, LOCK_EX) == 0);
  }
  ~Holder() { ::close(fd_); }
  Holder(const Holder&) = delete;
  Holder& operator=(const Holder&) = delete;

 private:
  int fd_;
};

idem::ClaimRequest new_claim() {
  idem::ClaimRequest request;
  request.owner = idem::detail::new_owner_token();
  return request;
}

}  // namespace

TEST_CASE(
    "CORE-10: a release that the store couldn't take is made in the background, and till then the key is in doubt") {
  const support::Directory place;
  FileStore store(place.path(), {.durability = idem::Durability::process, .lock_timeout = 20ms});
  FileStore other(place.path(), {.durability = idem::Durability::process});
  const idem::Key key = idem::make_key("owed", 1);
  const idem::Reply claimed = store.claim(key, new_claim());
  REQUIRE(claimed.answer == Answer::acquired);
  {
    const Holder holder(place.path());
    CHECK(store.release(key, claimed.record.owner).answer == Answer::unavailable);
    CHECK(store.claim(key, new_claim()).answer == Answer::unavailable);
  }
  // Nobody uses `store` any more.
  CHECK(eventually([&] { return other.find(key).answer == Answer::absent; }));
}

TEST_CASE("CORE-09: an abandon that the store couldn't take is made in the background") {
  const support::Directory place;
  FileStore store(place.path(), {.lock_timeout = 20ms});
  FileStore other(place.path());
  const idem::Key key = idem::make_key("owed", 1);
  const idem::Reply claimed = store.claim(key, new_claim());
  REQUIRE(claimed.answer == Answer::acquired);
  {
    const Holder holder(place.path());
    CHECK(store.abandon(key, claimed.record.owner).answer == Answer::unavailable);
  }
  CHECK(eventually([&] { return other.find(key).answer == Answer::in_doubt; }));
}

TEST_CASE("a store that owes something ends at once while its lock is held by somebody else") {
  const support::Directory place;
  const idem::Key key = idem::make_key("owed", 1);
  std::optional<Holder> holder;
  {
    FileStore store(place.path(), {.durability = idem::Durability::process, .lock_timeout = 20ms});
    const idem::Reply claimed = store.claim(key, new_claim());
    REQUIRE(claimed.answer == Answer::acquired);
    holder.emplace(place.path());
    CHECK(store.release(key, claimed.record.owner).answer == Answer::unavailable);
  }
  holder.reset();
  // Its owner is gone, and whether its function ran nobody knows.
  CHECK(FileStore(place.path()).find(key).answer == Answer::in_doubt);
}

TEST_CASE("what is owed outlives a page that somebody cut, and so does the program") {
  const support::Directory place;
  FileStore store(place.path(), {.durability = idem::Durability::process, .lock_timeout = 20ms});
  const idem::Key key = idem::make_key("owed", 1);
  const idem::Reply claimed = store.claim(key, new_claim());
  REQUIRE(claimed.answer == Answer::acquired);
  {
    const Holder holder(place.path());
    CHECK(store.release(key, claimed.record.owner).answer == Answer::unavailable);
    REQUIRE(::truncate((place / "page").c_str(), 0) == 0);
  }
  // Another store would make the page whole again before it is touched.
  CHECK(eventually([&] { return FileStore::verify(place.path()).records == 0; }));
  CHECK(store.find(key).answer == Answer::absent);
}

TEST_CASE("a store whose directory can't be opened removes nothing and comes to no harm") {
  const support::Directory place;
  for (const idem::Durability durability : {idem::Durability::process, idem::Durability::power}) {
    FileStore store(place.path() + "/no\nsuch/../" + std::string(300, 'x'), {.durability = durability});
    CHECK(store.clear() == 0);
    CHECK_FALSE(store.purge({}).complete);
    CHECK(store.complete(idem::make_key("owed", 1), {}).answer == Answer::unavailable);
    CHECK(store.recover().answer == Answer::unavailable);
  }
}
