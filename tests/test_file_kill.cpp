// FDU-01, T-33, T-34: a process that is killed at any system call leaves a directory in which nothing is wrong.
#include <doctest/doctest.h>

#include "support/tracing.hpp"

#if defined(IDEM_TEST_TRACING)

#include "support/file_world.hpp"
#include "support/process_support.hpp"

#include <idem/file_store.hpp>
#include <idem/make_key.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

using namespace file_world;
using process_support::Shared;
using tracing::Harm;
using tracing::Seen;

namespace {

/// What the child got to know before it was killed.
struct Told {
  Answer answer = {};
  bool acknowledged = false;
  Ownership owner = {};
};

void tell(Told& told, const Reply& reply) {
  told.answer = reply.answer;
  told.acknowledged = true;
}

constexpr std::string_view bytes = "what the function returned, of more than one sector? no: of sixty-four";

/// Kills a child at every system call of `act(store, key, told)`, after `before(store, key, told)`, and lets
/// `judge(key, told, fresh store)` look at what is left.
template <class Before, class Act, class Judge>
void kill_everywhere(World& world, const std::string& name, bool every, Before before, Act act, Judge judge) {
  unsigned at = 1;
  for (bool killed = true; killed; ++at) {
    const Shared<Told> told;
    const Key key = idem::make_key("killed", name, at);
    const Seen seen = tracing::trace({.harm = Harm::kill, .at = at, .every = every}, [&] {
      FileStore store = store_at(world.path(), Durability::power);
      before(store, key, *told);
      tracing::begin();
      act(store, key, *told);
      tracing::end();
      return 0;
    });
    killed = seen.hit;
    INFO(name, " killed ", seen.call, ", point ", at);
    CHECK(seen.result == (killed ? -SIGKILL : 0));
    CHECK((killed || told->acknowledged));
    {
      const idem::FileReport report = FileStore::verify(world.path());
      CHECK_MESSAGE(report.good(), report.message);
    }
    FileStore fresh = store_at(world.path());
    judge(key, *told, fresh);
    world.check(fresh);
    REQUIRE(at < 2000);
  }
  CHECK(at > 8);
  FileStore last = store_at(world.path());
  world.check_files(last);
}

void nothing(FileStore&, const Key&, Told&) {}

void claimed(FileStore& store, const Key& key, Told& told) {
  const Reply reply = claim(store, key);
  if (reply.answer != Answer::acquired) ::_exit(3);
  told.owner = reply.record.owner;
}

void kill_claims(bool every) {
  World world;
  // An opening that was cut off has to be gone through again by the first claim.
  kill_everywhere(
      world, "claim", every, nothing,
      [](FileStore& store, const Key& key, Told& told) { tell(told, claim(store, key)); },
      [](const Key& key, const Told& told, FileStore& fresh) {
        const Answer found = fresh.find(key).answer;
        if (told.acknowledged) {
          CHECK(told.answer == Answer::acquired);
          CHECK(found == Answer::in_doubt);
        }
        CHECK((found == Answer::absent || found == Answer::in_doubt));
        const Answer again = claim(fresh, key).answer;
        CHECK(again == (found == Answer::absent ? Answer::acquired : Answer::in_doubt));
      });
}

void kill_outcomes(bool every, bool fails) {
  World world;
  kill_everywhere(
      world, fails ? "fail" : "complete", every, claimed,
      [fails](FileStore& store, const Key& key, Told& told) {
        tell(told, fails ? store.fail(key, outcome(told.owner, bytes, PayloadKind::failure))
                         : store.complete(key, outcome(told.owner, bytes)));
      },
      [fails](const Key& key, const Told& told, FileStore& fresh) {
        const Reply found = fresh.find(key);
        const Answer finished = fails ? Answer::failed : Answer::completed;
        if (told.acknowledged) {
          CHECK(told.answer == Answer::ok);
          CHECK(found.answer == finished);
        }
        CHECK((found.answer == finished || found.answer == Answer::in_doubt));
        if (found.answer == finished) CHECK(payload_of(found) == bytes);
        CHECK(claim(fresh, key).answer == found.answer);
      });
}

void kill_endings(bool every, bool releases) {
  World world;
  kill_everywhere(
      world, releases ? "release" : "abandon", every, claimed,
      [releases](FileStore& store, const Key& key, Told& told) {
        tell(told, releases ? store.release(key, told.owner) : store.abandon(key, told.owner));
      },
      [releases](const Key& key, const Told& told, FileStore& fresh) {
        const Answer found = fresh.find(key).answer;
        if (told.acknowledged) {
          CHECK(told.answer == Answer::ok);
          CHECK(found == (releases ? Answer::absent : Answer::in_doubt));
        }
        CHECK(((releases && found == Answer::absent) || found == Answer::in_doubt));
      });
}

void kill_rewriting(bool every) {
  World world;
  kill_everywhere(
      world, "compact", every,
      [](FileStore& store, const Key&, Told&) {
        // What a compaction that was killed before left is ended first.
        if (store.open().answer != Answer::ok) ::_exit(3);
      },
      [](FileStore& store, const Key&, Told& told) { tell(told, store.compact()); },
      [](const Key&, const Told& told, FileStore&) {
        if (told.acknowledged) CHECK(told.answer == Answer::ok);
      });
}

void kill_purge(bool every) {
  World world;
  kill_everywhere(
      world, "purge", every,
      [](FileStore& store, const Key& key, Told&) {
        const Reply reply = claim(store, key);
        FinishRequest request = outcome(reply.record.owner, bytes);
        request.ttl = std::chrono::microseconds(1);
        if (store.complete(key, request).answer != Answer::ok) ::_exit(3);
      },
      [](FileStore& store, const Key&, Told& told) {
        told.answer = store.purge({}).expired > 0 ? Answer::ok : Answer::absent;
        told.acknowledged = true;
      },
      [](const Key& key, const Told& told, FileStore& fresh) {
        if (told.acknowledged) CHECK(told.answer == Answer::ok);
        CHECK(fresh.find(key).answer == Answer::absent);
      });
}

/// Makes an fdatasync fail, so that nobody knows any more what is on disk.
void poison(World& world, unsigned number) {
  const Seen seen = tracing::trace({.harm = Harm::fail, .at = 1, .error = EIO, .only = SYS_fdatasync}, [&] {
    FileStore store = store_at(world.path(), Durability::power);
    if (store.open().answer != Answer::ok) return 1;
    tracing::begin();
    const Reply reply = claim(store, idem::make_key("poison", number));
    tracing::end();
    return reply.answer == Answer::unavailable ? 0 : 2;
  });
  CHECK(seen.hit);
  CHECK(seen.result == 0);
}

void kill_recovery(bool every) {
  World world;
  unsigned at = 1;
  for (bool killed = true; killed; ++at) {
    poison(world, at);
    CHECK(world.witness().stats().poisoned);
    const Shared<Told> told;
    const Seen seen = tracing::trace({.harm = Harm::kill, .at = at, .every = every}, [&] {
      FileStore store = store_at(world.path(), Durability::power);
      if (store.open().answer != Answer::ok) ::_exit(3);
      tracing::begin();
      tell(*told, store.recover());
      tracing::end();
      return 0;
    });
    killed = seen.hit;
    INFO("recover killed ", seen.call, ", point ", at);
    CHECK(seen.result == (killed ? -SIGKILL : 0));
    FileStore fresh = store_at(world.path());
    const bool poisoned = fresh.stats().poisoned;
    CHECK(world.witness().stats().poisoned == poisoned);
    if (told->acknowledged) {
      CHECK(told->answer == Answer::ok);
      CHECK_FALSE(poisoned);
    }
    world.check_records(fresh);
    world.check_records(world.witness());
    if (poisoned) {
      CHECK(claim(fresh, idem::make_key("meanwhile", at)).answer == Answer::unavailable);
      const Reply recovered = fresh.recover();
      CHECK_MESSAGE(recovered.answer == Answer::ok, recovered.message);
      CHECK_FALSE(world.witness().stats().poisoned);
    }
    world.check(fresh);
    // Whoever was refused has no claim.
    CHECK(fresh.find(idem::make_key("meanwhile", at)).answer == Answer::absent);
    REQUIRE(at < 2000);
  }
  CHECK(at > 20);
  FileStore last = store_at(world.path());
  world.check_files(last);
}

void kill_repair(bool every) {
  const DamagedWorld damaged;
  const Place place;
  unsigned at = 1;
  for (bool killed = true; killed; ++at) {
    const std::string path = place / std::to_string(at);
    damaged.copy_to(path);
    const Shared<Told> told;
    const Seen seen = tracing::trace({.harm = Harm::kill, .at = at, .every = every}, [&] {
      FileStore store = store_at(path, Durability::power);
      if (store.open().answer != Answer::corrupt) ::_exit(3);
      tracing::begin();
      tell(*told, store.repair());
      tracing::end();
      return 0;
    });
    killed = seen.hit;
    INFO("repair killed ", seen.call, ", point ", at);
    CHECK(seen.result == (killed ? -SIGKILL : 0));
    FileStore fresh = store_at(path);
    DamagedWorld::check_kept(fresh);
    bool repaired = FileStore::verify(path).good();
    CHECK(fresh.stats().damaged == !repaired);
    if (told->acknowledged) {
      CHECK(told->answer == Answer::ok);
      CHECK(repaired);
    }
    if (!repaired) {
      CHECK(claim(fresh, idem::make_key("unknown")).answer == Answer::corrupt);
      Reply again = fresh.repair();
      if (again.answer != Answer::ok) again = fresh.repair();
      CHECK_MESSAGE(again.answer == Answer::ok, again.message);
      repaired = FileStore::verify(path).good();
      CHECK(repaired);
    }
    DamagedWorld::check_kept(fresh);
    CHECK(works(fresh, idem::make_key("unknown")) == "");
    // Its claim is there still, so that nobody takes it for free.
    CHECK(claim(fresh, idem::make_key("lost")).answer == Answer::in_doubt);
    std::filesystem::remove_all(path);
    REQUIRE(at < 2000);
  }
  CHECK(at > 20);
}

void kill_creation(bool every) {
  const Place place;
  unsigned at = 1;
  for (bool killed = true; killed; ++at) {
    const std::string top = place / std::to_string(at);
    const std::string path = top + "/inner";
    const Shared<Told> told;
    const Key key = idem::make_key("created");
    const Seen seen = tracing::trace({.harm = Harm::kill, .at = at, .every = every}, [&] {
      FileStore store = store_at(path, Durability::power);
      tracing::begin();
      tell(*told, claim(store, key));
      tracing::end();
      return 0;
    });
    killed = seen.hit;
    INFO("creation killed ", seen.call, ", point ", at);
    CHECK(seen.result == (killed ? -SIGKILL : 0));
    FileStore fresh = store_at(path);
    const Reply found = fresh.find(key);
    if (told->acknowledged) CHECK(found.answer == Answer::in_doubt);
    CHECK_MESSAGE((found.answer == Answer::absent || found.answer == Answer::in_doubt), all_of(found), found.message);
    CHECK(works(fresh, idem::make_key("next")) == "");
    const idem::FileReport report = FileStore::verify(path);
    CHECK_MESSAGE(report.good(), report.message);
    std::filesystem::remove_all(top);
    REQUIRE(at < 2000);
  }
  CHECK(at > 20);
}

}  // namespace

TEST_CASE("FDU-01 T-33: killed at any system call of an opening and a claim, a key is free or in doubt") {
  if (tracing::possible()) kill_claims(false);
}

TEST_CASE("FDU-01 T-34: killed at any system call of a completion, a key is in doubt or has the whole outcome") {
  if (tracing::possible()) kill_outcomes(false, false);
}

TEST_CASE("FDU-01: killed at any system call of fail, a key is in doubt or has the whole failure") {
  if (tracing::possible()) kill_outcomes(false, true);
}

TEST_CASE("FDU-01: killed at any system call of release or abandon, a key is in doubt or what it was to be") {
  if (!tracing::possible()) return;
  kill_endings(false, true);
  kill_endings(false, false);
}

TEST_CASE("FDU-01: killed at any system call of a compaction, no record is lost") {
  if (tracing::possible()) kill_rewriting(false);
}

TEST_CASE("FDU-01: killed at any system call of a purge, no record is lost that wasn't purged") {
  if (tracing::possible()) kill_purge(false);
}

TEST_CASE("FDU-01 FDU-12: killed at any system call of recover, a poisoned store stays so or is well") {
  if (tracing::possible()) kill_recovery(false);
}

TEST_CASE("FDU-01 FDU-12: killed at any system call of repair, a damaged store stays so or is well") {
  if (tracing::possible()) kill_repair(false);
}

TEST_CASE("FDU-01: killed at any system call that makes a store's directory, the next process makes it") {
  if (tracing::possible()) kill_creation(false);
}

TEST_CASE("FDU-01: killed at each of many equal system calls too, nothing is wrong" * doctest::skip()) {
  if (!tracing::possible()) return;
  kill_claims(true);
  kill_outcomes(true, false);
  kill_outcomes(true, true);
  kill_endings(true, true);
  kill_endings(true, false);
  kill_rewriting(true);
  kill_purge(true);
  kill_recovery(true);
  kill_repair(true);
  kill_creation(true);
}

#else

TEST_CASE("FDU-01: processes are killed at system calls only where the tests know how to trace them") {
  CHECK(true);
}

#endif
