// What a FileStore says of itself where it can't answer.
#include <idem/file_store.hpp>
#include <idem/make_key.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <string>
#include <vector>

#include "support/directory.hpp"
#include "support/store_files.hpp"

#include <sys/stat.h>

namespace {

using namespace std::chrono_literals;
using idem::Answer;
using idem::FileStore;

idem::Reply claim(FileStore& store, const idem::Key& key) {
  idem::ClaimRequest request;
  request.owner = idem::detail::new_owner_token();
  return store.claim(key, request);
}

}  // namespace

TEST_CASE("SER-06: where the journal is damaged nothing is said to be absent, and everybody is told what to do") {
  const support::Directory place;
  const idem::Key first = idem::make_key("damaged", 1);
  const idem::Key last = idem::make_key("damaged", 2);
  {
    FileStore store(place.path());
    for (const idem::Key* key : {&first, &last}) {
      const idem::Reply claimed = claim(store, *key);
      REQUIRE(claimed.answer == Answer::acquired);
      REQUIRE(store.complete(*key, {claimed.record.owner, 1h, {}}).answer == Answer::ok);
    }
  }
  auto journal = store_files::read(place / "journal");
  journal[4096 + 100] = static_cast<decltype(journal)::value_type>(journal[4096 + 100] ^ 1);
  store_files::write(place / "journal", journal);

  std::vector<std::string> warnings;
  FileStore store(place.path(), {.on_event = [&](const idem::Event& event) {
                    if (event.kind == idem::EventKind::store_warning) warnings.emplace_back(event.message);
                  }});
  CHECK(store.open().answer == Answer::corrupt);
  REQUIRE(!warnings.empty());
  CHECK(warnings.back().find("damaged") != std::string::npos);
  const idem::Key unknown = idem::make_key("damaged", 3);
  const idem::Reply found = store.find(unknown);
  CHECK(found.answer == Answer::corrupt);
  CHECK(found.message.find(place / "journal") != std::string::npos);
  CHECK(found.message.find("offset 4096") != std::string::npos);
  CHECK(store.erase(unknown).answer == Answer::corrupt);
  CHECK(store.resolve(unknown, {}, "").answer == Answer::corrupt);
  CHECK(claim(store, unknown).answer == Answer::corrupt);
  CHECK(store.find(last).answer == Answer::completed);
  CHECK(store.repair().answer == Answer::ok);
  CHECK(store.find(unknown).answer == Answer::absent);
  CHECK(store.open().answer == Answer::ok);
}

TEST_CASE("FSE-07: what counts and what removes say where they couldn't") {
  const support::Directory place;
  FileStore good(place / "good");
  CHECK(good.stats().available);
  CHECK(good.purge({}).complete);
  REQUIRE(::mkdir((place / "open").c_str(), 0700) == 0);
  REQUIRE(::chmod((place / "open").c_str(), 0777) == 0);
  FileStore refused(place / "open");
  CHECK(refused.open().answer == Answer::unavailable);
  CHECK_FALSE(refused.stats().available);
  CHECK_FALSE(refused.purge({}).complete);
  // A number can't say it.
  std::string told;
  const auto listen = [&told](const idem::Event& event) {
    if (event.kind == idem::EventKind::store_warning) told += event.message;
  };
  FileStore listening(place / "open", {.on_event = listen});
  CHECK(listening.clear() == 0);
  CHECK(told.find("clear()") != std::string::npos);
  told.clear();
  FileStore clearing(place / "good", {.on_event = listen});
  CHECK(clearing.clear() == 0);
  CHECK(told.find("clear()") == std::string::npos);
}

TEST_CASE("T-39: a negative age purges no doubt") {
  const support::Directory place;
  FileStore store(place.path());
  const idem::Key key = idem::make_key("doubt", 1);
  const idem::Reply claimed = claim(store, key);
  REQUIRE(store.abandon(key, claimed.record.owner).answer == Answer::ok);
  CHECK(store.purge({.in_doubt_older_than = -1h}).in_doubt == 0);
  CHECK(store.find(key).answer == Answer::in_doubt);
  CHECK(store.purge({.in_doubt_older_than = 0h}).in_doubt == 1);
}
