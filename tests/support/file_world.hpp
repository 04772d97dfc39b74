// A store's directory with records of all states, which have to be there unchanged whatever is done to others.
#pragma once

#include "directory.hpp"

#include <doctest/doctest.h>

#include <idem/file_store.hpp>
#include <idem/make_key.hpp>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <unistd.h>  // access

namespace file_world {

using idem::Answer;
using idem::ClaimRequest;
using idem::Durability;
using idem::FileStore;
using idem::FinishRequest;
using idem::Key;
using idem::Ownership;
using idem::PayloadKind;
using idem::Reply;

/// A directory in memory where there is such a thing: what is tested here is no disk, and syncing one takes long.
class Place : public support::Directory {
 public:
  Place() : Directory(::access("/dev/shm", W_OK | X_OK) == 0 ? "/dev/shm" : base()) {}
};

inline FileStore store_at(const std::string& path, Durability durability = Durability::process) {
  return FileStore(path, {.durability = durability});
}

inline Reply claim(FileStore& store, const Key& key) {
  ClaimRequest request;
  request.owner = idem::detail::new_owner_token();
  return store.claim(key, request);
}

inline FinishRequest outcome(const Ownership& owner, std::string_view bytes, PayloadKind kind = PayloadKind::value) {
  FinishRequest request;
  request.owner = owner;
  request.source.kind = kind;
  request.source.data = reinterpret_cast<const std::uint8_t*>(bytes.data());
  request.source.size = bytes.size();
  return request;
}

inline std::string_view payload_of(const Reply& reply) {
  return {reinterpret_cast<const char*>(reply.payload.data()), reply.payload.size()};
}

/// All that a reply says of a record. The message isn't part of it.
inline std::string all_of(const Reply& reply) {
  const auto micros = [](idem::TimePoint time) { return std::to_string(time.time_since_epoch().count()); };
  std::string text = "answer " + std::to_string(static_cast<int>(reply.answer)) + " state " +
                     std::to_string(static_cast<int>(reply.record.state)) +
                     (reply.record.abandoned ? " abandoned" : "") + " attempt " + std::to_string(reply.record.attempt) +
                     " epoch " + std::to_string(reply.record.owner.epoch) + " from " + micros(reply.record.started_at) +
                     " to " + micros(reply.record.finished_at) + " until " + micros(reply.record.expires_at);
  if (reply.answer == Answer::completed || reply.answer == Answer::failed) {
    text += " kind " + std::to_string(static_cast<int>(reply.payload.kind())) + " " + std::string(payload_of(reply));
  }
  return text;
}

/// A claim and its completion, as they have to work in a store that is well. Says what doesn't.
inline std::string works(FileStore& store, const Key& key) {
  const Reply claimed = claim(store, key);
  if (claimed.answer != Answer::acquired) return "claim: " + all_of(claimed) + " " + claimed.message;
  const Reply finished = store.complete(key, outcome(claimed.record.owner, "fine"));
  if (finished.answer != Answer::ok) return "complete: " + all_of(finished) + " " + finished.message;
  const Reply found = store.find(key);
  if (found.answer != Answer::completed || payload_of(found) != "fine") return "find: " + all_of(found);
  return {};
}

class World {
 public:
  World() : store_(store_at(place_.path())) {
    const std::string path = place_.path();
    auto dead = std::make_unique<FileStore>(store_at(path));
    for (int i = 0; i < 20; ++i) {
      const Key key = idem::make_key("world", i);
      FileStore& owner = i % 10 == 4 ? *dead : store_;
      const Reply claimed = claim(owner, key);
      REQUIRE(claimed.answer == Answer::acquired);
      const Ownership& by = claimed.record.owner;
      const std::string bytes(static_cast<std::size_t>(i * i * 5), static_cast<char>('a' + i));
      Answer answer = Answer::ok;
      switch (i % 10) {
        case 4:  // its owner dies
        case 5:  // its owner lives
          break;
        case 6:
          answer = store_.abandon(key, by).answer;
          break;
        case 7:
        case 8:
          answer = store_.fail(key, outcome(by, bytes, PayloadKind::failure)).answer;
          break;
        case 9:
          answer = store_.complete(key, outcome(by, {}, PayloadKind::nothing)).answer;
          break;
        default:
          answer = store_.complete(key, outcome(by, bytes)).answer;
      }
      REQUIRE(answer == Answer::ok);
      keys_.push_back(key);
    }
    dead.reset();
    for (const Key& key : keys_) known_.push_back(all_of(store_.find(key)));
    CHECK(store_.find(keys_[4]).answer == Answer::in_doubt);
    CHECK(store_.find(keys_[5]).answer == Answer::running);
    CHECK(store_.find(keys_[16]).answer == Answer::in_doubt);
    CHECK(store_.find(keys_[17]).answer == Answer::failed);
    CHECK(store_.find(keys_[10]).answer == Answer::completed);
  }

  const std::string& path() const { return place_.path(); }
  /// A store object that was there before, and is there after, whatever happens.
  FileStore& witness() { return store_; }

  const Key& completed() const { return keys_[10]; }
  const Key& failed() const { return keys_[17]; }
  const Key& running() const { return keys_[5]; }
  const Key& in_doubt() const { return keys_[4]; }

  /// Every record is as it was, as this store sees it.
  void check_records(FileStore& store) {
    for (std::size_t i = 0; i < keys_.size(); ++i) {
      const Reply found = store.find(keys_[i]);
      CAPTURE(i);
      CHECK_MESSAGE(all_of(found) == known_[i], found.message);
    }
  }

  /// The directory is well: nothing is damaged, every record is as it was, new calls are recorded.
  void check(FileStore& fresh) {
    const idem::FileReport report = FileStore::verify(path());
    CHECK_MESSAGE(report.good(), report.message);
    CHECK(report.message == "");
    check_records(fresh);
    check_records(store_);
    const Key next = idem::make_key("next", ++calls_);
    CHECK(works(fresh, next) == "");
    CHECK(store_.find(next).answer == Answer::completed);
    const Key after = idem::make_key("next", ++calls_);
    CHECK(works(store_, after) == "");
    CHECK(fresh.find(after).answer == Answer::completed);
  }

  /// Nothing is left of operations that were cut off once a compaction got through.
  void check_files(FileStore& fresh) {
    if (fresh.compact().answer != Answer::ok) CHECK(fresh.compact().answer == Answer::ok);
    std::size_t owners = 0;
    for (const auto& entry : std::filesystem::directory_iterator(path())) {
      const std::string name = entry.path().filename().string();
      if (name.compare(0, 6, "owner.") == 0) {
        ++owners;
      } else {
        CHECK_MESSAGE((name == "journal" || name == "lock" || name == "page" || name == "compacting"), name);
      }
    }
    CHECK(owners == 2);
  }

 private:
  Place place_;
  FileStore store_;
  std::vector<Key> keys_;
  std::vector<std::string> known_;
  int calls_ = 0;
};

/// A directory whose journal lost a record though it had been on disk; the others are there.
class DamagedWorld {
 public:
  DamagedWorld() {
    FileStore store = store_at(place_.path(), Durability::power);
    for (int i = 0; i < 12; ++i) REQUIRE(works(store, idem::make_key("kept", i)) == "");
    const Reply claimed = claim(store, idem::make_key("lost"));
    REQUIRE(store.complete(idem::make_key("lost"), outcome(claimed.record.owner, mark)).answer == Answer::ok);
    for (int i = 12; i < 20; ++i) REQUIRE(works(store, idem::make_key("kept", i)) == "");
    std::string journal = slurp();
    const std::size_t found = journal.find(mark);
    REQUIRE(found != std::string::npos);
    std::fstream file(place_.path() + "/journal", std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(found));
    file.put('?');
  }

  void copy_to(const std::string& path) const {
    std::filesystem::create_directory(path);
    std::filesystem::permissions(path, std::filesystem::perms::owner_all);
    for (const char* name : {"journal", "page", "lock"}) {
      std::filesystem::copy_file(place_.path() + "/" + name, path + "/" + name);
    }
  }

  static void check_kept(FileStore& store) {
    for (int i = 0; i < 20; ++i) {
      const Reply found = store.find(idem::make_key("kept", i));
      CHECK_MESSAGE(found.answer == Answer::completed, i, ": ", all_of(found), found.message);
      CHECK(payload_of(found) == "fine");
    }
  }

 private:
  static constexpr std::string_view mark = "this is what will be lost";

  std::string slurp() const {
    std::ifstream file(place_.path() + "/journal", std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  Place place_;
};

}  // namespace file_world
