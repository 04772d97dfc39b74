// FDU-05 to FDU-09, FLK-07, FLK-13, CORE-09, T-27: system calls that fail do no harm to any record, and service goes
// on.
#include <doctest/doctest.h>

#include "support/tracing.hpp"

#if defined(IDEM_TEST_TRACING)

#include "support/file_world.hpp"
#include "support/process_support.hpp"

#include <idem/file_store.hpp>
#include <idem/idem.hpp>
#include <idem/make_key.hpp>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <string>
#include <string_view>

using namespace file_world;
using process_support::Shared;
using tracing::Harm;
using tracing::Plan;
using tracing::Seen;

namespace {

constexpr std::string_view bytes = "what the function returned";
constexpr int errors[] = {ENOSPC, EDQUOT, EFBIG, EIO, EMFILE, ENFILE, ENOLCK, EINTR, ENOMEM};

/// What the child tells.
struct Told {
  Answer answer = {};
  Ownership owner = {};
  bool poisoned = false;
  int runs = 0;
  int value = 0;
  idem::Verdict verdict = {};
  idem::Verdict again = {};
  char wrong[600] = {};  ///< What wasn't as it has to be.

  void fail(const std::string& what) {
    if (wrong[0] == '\0') std::snprintf(wrong, sizeof wrong, "%s", what.c_str());
  }
};

std::size_t descriptors() {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
  return count;
}

/// What may be interrupted by a signal (signal(7) and the pages of the calls themselves).
bool may_be_interrupted(long call) {
  for (const long known : {SYS_open, SYS_openat, SYS_close, SYS_flock, SYS_pread64, SYS_pwrite64, SYS_read,
                           SYS_fallocate, SYS_fdatasync, SYS_fsync, SYS_getrandom}) {
    if (call == known) return true;
  }
  return false;
}

bool syncs(long call) {
  return call == SYS_fdatasync || call == SYS_fsync || call == SYS_syncfs;
}

/// The journal that is in use, not one that is being made.
bool syncs_journal(const Seen& seen) {
  constexpr std::string_view name = "/journal";
  return seen.number == SYS_fdatasync && seen.call.size() > name.size() &&
         seen.call.compare(seen.call.size() - name.size(), name.size(), name) == 0;
}

std::string words_for(const Plan& plan) {
  constexpr const char* harms[] = {"none", "kill", "fail", "keep failing", "shorten", "stop moving", "tear"};
  return std::string(harms[static_cast<int>(plan.harm)]) + " with errno " + std::to_string(plan.error) + " at point " +
         std::to_string(plan.at);
}

/// One operation, and what has to be true of it.
struct Operation {
  const char* name;
  bool warm = true;       ///< The store was opened before.
  bool poisoned = false;  ///< The store is poisoned before.
  bool cut_off = false;   ///< A compaction was killed just after its journal got its name.
  void (*before)(FileStore&, const Key&, Told&) = [](FileStore&, const Key&, Told&) {};
  Reply (*act)(World&, FileStore&, const Key&, Told&);
  bool (*answers)(Answer);  ///< Besides `unavailable`.
  /// Once nothing fails any more, and the store isn't poisoned: in the same process, and in another one.
  void (*later)(FileStore&, const Key&, Told&) = [](FileStore&, const Key&, Told&) {};
  void (*judge)(FileStore&, const Key&, const Told&, bool was_poisoned) = [](FileStore&, const Key&, const Told&,
                                                                             bool) {};
};

/// Does one operation in a child with one harm done to it. False where the harm's point wasn't reached.
bool try_one(World& world, const Operation& operation, const Plan& plan) {
  static unsigned calls = 0;
  const Key key = idem::make_key("faulty", ++calls);
  const Shared<Told> told;
  if (operation.poisoned) {
    const Seen seen = tracing::trace({.harm = Harm::fail, .at = 1, .error = EIO, .only = SYS_fdatasync}, [&] {
      FileStore store = store_at(world.path(), Durability::power);
      if (store.open().answer != Answer::ok) return 1;
      tracing::begin();
      const Reply reply = claim(store, idem::make_key("poison", calls));
      tracing::end();
      return reply.answer == Answer::unavailable ? 0 : 2;
    });
    REQUIRE(seen.result == 0);
  }
  if (operation.cut_off) {
    const Seen seen = tracing::trace({.harm = Harm::kill, .at = 2, .only = SYS_renameat}, [&] {
      FileStore store = store_at(world.path(), Durability::power);
      if (store.open().answer != Answer::ok) return 1;
      tracing::begin();
      store.compact();
      tracing::end();
      return 2;
    });
    REQUIRE(seen.result == -SIGKILL);
    REQUIRE(std::filesystem::exists(world.path() + "/journal.old"));
  }
  const Seen seen = tracing::trace(plan, [&] {
    const std::size_t at_first = descriptors();
    {
      FileStore store = store_at(world.path(), Durability::power);
      if (operation.warm && store.open().answer != Answer::ok) return 3;
      operation.before(store, key, *told);
      const std::size_t before = descriptors();
      tracing::begin();
      const Reply reply = operation.act(world, store, key, *told);
      tracing::end();
      told->answer = reply.answer;
      if (reply.answer == Answer::unavailable && reply.message.empty()) told->fail("no reason is given");
      if (operation.warm && descriptors() != before) told->fail("descriptors leaked");
      told->poisoned = store.stats().poisoned;
      const Key next = idem::make_key("after", calls);
      if (told->poisoned) {
        if (claim(store, next).answer != Answer::unavailable) told->fail("claimed though poisoned");
        if (store.find(key).answer == Answer::completed) told->fail("shown though nobody knows whether it's on disk");
        if (operation.poisoned) {
          const Reply recovered = store.recover();
          if (recovered.answer != Answer::ok) told->fail("recover: " + recovered.message);
          told->poisoned = store.stats().poisoned;
        }
      }
      if (!told->poisoned) {
        const std::string wrong = works(store, next);
        if (!wrong.empty()) told->fail("afterwards, " + wrong);
        operation.later(store, key, *told);
      }
    }
    if (descriptors() != at_first) told->fail("descriptors leaked in the end");
    return 0;
  });
  INFO(std::string(operation.name), ", ", words_for(plan), ": ", seen.call);
  CHECK(seen.result == 0);
  CHECK(std::string(told->wrong) == "");
  const bool good = operation.answers(told->answer);
  CHECK_MESSAGE((good || told->answer == Answer::unavailable), static_cast<int>(told->answer));
  const bool once = plan.harm == Harm::fail;
  if (!seen.hit) CHECK(good);
  if (plan.harm == Harm::shorten) CHECK(good);
  if (once && plan.error == EINTR && may_be_interrupted(seen.number)) {
    CHECK(good);
    CHECK_FALSE(told->poisoned);
  }
  FileStore fresh = store_at(world.path());
  const bool poisoned = fresh.stats().poisoned;
  CHECK(poisoned == told->poisoned);
  CHECK(world.witness().stats().poisoned == poisoned);
  if (once && !syncs(seen.number)) CHECK_FALSE(poisoned);
  // What can't be synced is never taken for synced because a second attempt succeeds.
  if (once && plan.error != EINTR && syncs_journal(seen) && !operation.poisoned) CHECK(poisoned);
  if (poisoned) {
    if (!operation.answers(Answer::unavailable)) CHECK_FALSE(good);
    // Nobody gets an answer that another fdatasync would have made look true.
    FileStore other = store_at(world.path(), Durability::power);
    const Answer found = other.find(key).answer;
    CHECK((found == Answer::unavailable || found == Answer::absent || found == Answer::in_doubt));
    CHECK(claim(world.witness(), idem::make_key("unknown", calls)).answer == Answer::unavailable);
    const Reply recovered = world.witness().recover();
    CHECK_MESSAGE(recovered.answer == Answer::ok, recovered.message);
    CHECK_FALSE(fresh.stats().poisoned);
  }
  operation.judge(fresh, key, *told, poisoned);
  world.check(fresh);
  return seen.hit;
}

/// Every system call of the operation fails in turn. `all`: with every error; else each with another one.
void try_all(World& world, const Operation& operation, bool all) {
  unsigned points = 0;
  bool hit = true;
  for (unsigned at = 1; hit; ++at) {
    hit = false;
    for (std::size_t i = 0; i < std::size(errors); ++i) {
      if (!all && i != at % std::size(errors)) continue;
      if (try_one(world, operation, {.harm = Harm::fail, .at = at, .error = errors[i]})) hit = true;
    }
    for (const int error : {ENOSPC, EIO}) {
      if (!all && at % 4 != (error == EIO ? 0u : 2u)) continue;
      if (try_one(world, operation, {.harm = Harm::keep_failing, .at = at, .error = error})) hit = true;
    }
    points = at;
    REQUIRE(at < 2000);
  }
  CHECK(points > 3);
  for (const Harm harm : {Harm::shorten, Harm::stop_moving, Harm::tear}) {
    unsigned at = 1;
    while (try_one(world, operation, {.harm = harm, .at = at, .error = ENOSPC})) ++at;
  }
  FileStore last = store_at(world.path());
  world.check_files(last);
}

void claim_before(FileStore& store, const Key& key, Told& told) {
  const Reply reply = claim(store, key);
  if (reply.answer != Answer::acquired) ::_exit(4);
  told.owner = reply.record.owner;
}

bool is_ok(Answer answer) {
  return answer == Answer::ok;
}
bool is_acquired(Answer answer) {
  return answer == Answer::acquired;
}

Reply act_claim(World&, FileStore& store, const Key& key, Told&) {
  return claim(store, key);
}

void after_claim(FileStore& store, const Key& key, Told& told) {
  const Answer found = store.find(key).answer;
  // Whoever was refused doesn't hold the key.
  if (found != (told.answer == Answer::acquired ? Answer::running : Answer::absent)) {
    told.fail("after a claim the record is " + std::to_string(static_cast<int>(found)));
  }
}

void judge_claim(FileStore& fresh, const Key& key, const Told& told, bool was_poisoned) {
  const Answer found = fresh.find(key).answer;
  if (told.answer == Answer::acquired) {
    CHECK(found == Answer::in_doubt);
  } else {
    CHECK((found == Answer::absent || (was_poisoned && found == Answer::in_doubt)));
  }
}

const Operation first_claim{.name = "open and claim",
                            .warm = false,
                            .act = act_claim,
                            .answers = is_acquired,
                            .later = after_claim,
                            .judge = judge_claim};

const Operation claim_after_compactor{.name = "open after a compactor was killed, and claim",
                                      .warm = false,
                                      .cut_off = true,
                                      .act = act_claim,
                                      .answers = is_acquired,
                                      .later = after_claim,
                                      .judge = judge_claim};

const Operation later_claim{
    .name = "claim", .act = act_claim, .answers = is_acquired, .later = after_claim, .judge = judge_claim};

const Operation completes{.name = "complete",
                          .before = claim_before,
                          .act = [](World&, FileStore& store, const Key& key,
                                    Told& told) { return store.complete(key, outcome(told.owner, bytes)); },
                          .answers = is_ok,
                          .later =
                              [](FileStore& store, const Key& key, Told& told) {
                                if (store.complete(key, outcome(told.owner, bytes)).answer != Answer::ok)
                                  told.fail("complete isn't retried");
                              },
                          .judge =
                              [](FileStore& fresh, const Key& key, const Told& told, bool was_poisoned) {
                                const Reply found = fresh.find(key);
                                if (was_poisoned && found.answer == Answer::in_doubt) return;
                                CHECK(found.answer == Answer::completed);
                                CHECK((payload_of(found) == bytes || found.payload.kind() == PayloadKind::lost));
                                CHECK((told.answer == Answer::ok || told.answer == Answer::unavailable));
                              }};

const Operation fails{
    .name = "fail",
    .before = claim_before,
    .act = [](World&, FileStore& store, const Key& key,
              Told& told) { return store.fail(key, outcome(told.owner, bytes, PayloadKind::failure)); },
    .answers = is_ok,
    .judge =
        [](FileStore& fresh, const Key& key, const Told& told, bool) {
          const Reply found = fresh.find(key);
          if (told.answer == Answer::unavailable && found.answer == Answer::in_doubt) return;
          CHECK(found.answer == Answer::failed);
          CHECK((payload_of(found) == bytes || found.payload.kind() == PayloadKind::lost));
        }};

const Operation releases{
    .name = "release",
    .before = claim_before,
    .act = [](World&, FileStore& store, const Key& key, Told& told) { return store.release(key, told.owner); },
    .answers = is_ok,
    .later =
        [](FileStore& store, const Key& key, Told& told) {
          if (store.find(key).answer != Answer::absent) told.fail("the release isn't made up for");
        },
    .judge =
        [](FileStore& fresh, const Key& key, const Told&, bool was_poisoned) {
          const Answer found = fresh.find(key).answer;
          CHECK((found == Answer::absent || (was_poisoned && found == Answer::in_doubt)));
        }};

const Operation abandons{
    .name = "abandon",
    .before = claim_before,
    .act = [](World&, FileStore& store, const Key& key, Told& told) { return store.abandon(key, told.owner); },
    .answers = is_ok,
    .later =
        [](FileStore& store, const Key& key, Told& told) {
          if (store.find(key).answer != Answer::in_doubt) told.fail("the abandonment isn't made up for");
        },
    .judge = [](FileStore& fresh, const Key& key, const Told&,
                bool) { CHECK(fresh.find(key).answer == Answer::in_doubt); }};

const Operation meets_completed{
    .name = "open and claim what is completed",
    .warm = false,
    .act = [](World& world, FileStore& store, const Key&, Told&) { return claim(store, world.completed()); },
    .answers = [](Answer answer) { return answer == Answer::completed; }};

const Operation meets_doubt{
    .name = "claim what a dead owner left",
    .act = [](World& world, FileStore& store, const Key&, Told&) { return claim(store, world.in_doubt()); },
    .answers = [](Answer answer) { return answer == Answer::in_doubt; }};

const Operation meets_running{
    .name = "claim what a live owner holds",
    .act = [](World& world, FileStore& store, const Key&, Told&) { return claim(store, world.running()); },
    .answers = [](Answer answer) { return answer == Answer::running; }};

const Operation purges{.name = "purge",
                       .before =
                           [](FileStore& store, const Key& key, Told& told) {
                             claim_before(store, key, told);
                             FinishRequest request = outcome(told.owner, bytes);
                             request.ttl = std::chrono::microseconds(1);
                             if (store.complete(key, request).answer != Answer::ok) ::_exit(4);
                           },
                       .act =
                           [](World&, FileStore& store, const Key&, Told&) {
                             store.purge({});
                             Reply reply;
                             reply.answer = Answer::ok;
                             return reply;
                           },
                       .answers = [](Answer) { return true; },
                       .judge = [](FileStore& fresh, const Key& key, const Told&,
                                   bool) { CHECK(fresh.find(key).answer == Answer::absent); }};

const Operation compacts{.name = "compact",
                         .act = [](World&, FileStore& store, const Key&, Told&) { return store.compact(); },
                         .answers = is_ok,
                         .later =
                             [](FileStore& store, const Key&, Told& told) {
                               if (store.compact().answer == Answer::ok) return;
                               const Reply again = store.compact();
                               if (again.answer != Answer::ok) told.fail("compact: " + again.message);
                             }};

const Operation recovers{.name = "recover",
                         .poisoned = true,
                         .act = [](World&, FileStore& store, const Key&, Told&) { return store.recover(); },
                         .answers = is_ok};

/// A store's directory is made, and a damaged store repaired, while calls fail. `start` prepares the directory.
template <class Start, class Act, class Later>
void try_apart(const char* name, bool all, Start start, Act act, Later later) {
  const Place place;
  unsigned number = 0;
  bool hit = true;
  const auto one = [&](const Plan& plan) {
    const std::string path = place / std::to_string(++number);
    start(path);
    const Shared<Told> told;
    const Seen seen = tracing::trace(plan, [&] {
      const std::size_t at_first = descriptors();
      {
        FileStore store = store_at(path, Durability::power);
        tracing::begin();
        told->answer = act(store).answer;
        tracing::end();
        told->poisoned = store.stats().poisoned;
        if (told->poisoned && store.recover().answer != Answer::ok) told->fail("recover");
        const std::string wrong = later(store);
        if (!wrong.empty()) told->fail(wrong);
      }
      if (descriptors() != at_first) told->fail("descriptors leaked");
      return 0;
    });
    INFO(std::string(name), ", ", words_for(plan), ": ", seen.call);
    CHECK(seen.result == 0);
    CHECK(std::string(told->wrong) == "");
    const bool good = told->answer == Answer::ok || told->answer == Answer::acquired;
    CHECK((good || told->answer == Answer::unavailable));
    if (!seen.hit || plan.harm == Harm::shorten) CHECK(good);
    if (plan.harm == Harm::fail) {
      if (plan.error == EINTR && may_be_interrupted(seen.number)) CHECK(good);
      if (!syncs(seen.number)) CHECK_FALSE(told->poisoned);
    }
    const idem::FileReport report = FileStore::verify(path);
    CHECK_MESSAGE(report.good(), report.message);
    CHECK_FALSE(std::filesystem::exists(path + "/journal.old"));
    std::filesystem::remove_all(path);
    return seen.hit;
  };
  for (unsigned at = 1; hit; ++at) {
    hit = false;
    for (std::size_t i = 0; i < std::size(errors); ++i) {
      if (!all && i != at % std::size(errors)) continue;
      if (one({.harm = Harm::fail, .at = at, .error = errors[i]})) hit = true;
    }
    for (const int error : {ENOSPC, EIO}) {
      if (!all && at % 4 != (error == EIO ? 0u : 2u)) continue;
      if (one({.harm = Harm::keep_failing, .at = at, .error = error})) hit = true;
    }
    REQUIRE(at < 2000);
  }
  for (const Harm harm : {Harm::shorten, Harm::stop_moving, Harm::tear}) {
    unsigned at = 1;
    while (one({.harm = harm, .at = at, .error = ENOSPC})) ++at;
  }
}

void try_creation(bool all) {
  try_apart(
      "making the directory", all, [](const std::string&) {},
      [](FileStore& store) { return claim(store, idem::make_key("first")); },
      [](FileStore& store) { return works(store, idem::make_key("second")); });
}

void try_repair(bool all) {
  const DamagedWorld damaged;
  try_apart(
      "repair", all, [&](const std::string& path) { damaged.copy_to(path); },
      [](FileStore& store) { return store.repair(); },
      [](FileStore& store) -> std::string {
        Reply again = store.repair();
        if (again.answer != Answer::ok) again = store.repair();
        if (again.answer != Answer::ok) return "repair: " + again.message;
        for (int i = 0; i < 20; ++i) {
          const Reply found = store.find(idem::make_key("kept", i));
          if (found.answer != Answer::completed || payload_of(found) != "fine") return "lost: " + all_of(found);
        }
        if (claim(store, idem::make_key("lost")).answer != Answer::in_doubt) return "the lost record's claim is lost";
        return works(store, idem::make_key("unknown"));
      });
}

/// A guarded function whose outcome meets the harm: it has run once, its value is handed out, and it never runs again.
void guard_outcomes(World& world, Harm harm, int error) {
  bool hit = true;
  for (unsigned at = 1; hit; ++at) {
    const int number = static_cast<int>(at) + 1000 * (error + 200 * static_cast<int>(harm));
    const Shared<Told> told;
    const Seen seen = tracing::trace({.harm = harm, .at = at, .error = error}, [&] {
      FileStore store = store_at(world.path(), Durability::power);
      auto once = idem::idempotent<"triple">(
          [&](int x) {
            ++told->runs;
            tracing::begin();
            return x * 3;
          },
          {}, store);
      const auto first = once.try_call(number);
      tracing::end();
      told->verdict = first.verdict();
      told->value = first.has_value() ? first.value() : 0;
      told->again = once.try_call(number).verdict();
      return 0;
    });
    hit = seen.hit;
    INFO("an outcome, ", words_for({.harm = harm, .at = at, .error = error}), ": ", seen.call);
    CHECK(seen.result == 0);
    CHECK(told->runs == 1);
    CHECK(told->value == number * 3);
    CHECK((told->verdict == idem::Verdict::executed || told->verdict == idem::Verdict::unrecorded));
    if (!hit) CHECK(told->verdict == idem::Verdict::executed);
    // Where the result found no room, that it ran is recorded all the same.
    const auto recorded = [](idem::Verdict verdict) {
      return verdict == idem::Verdict::replayed || verdict == idem::Verdict::unrecorded;
    };
    if (told->verdict == idem::Verdict::executed) CHECK(recorded(told->again));
    CHECK(told->again != idem::Verdict::executed);
    if (world.witness().stats().poisoned) CHECK(world.witness().recover().answer == Answer::ok);
    int runs = 0;
    FileStore fresh = store_at(world.path());
    auto once = idem::idempotent<"triple">(
        [&](int x) {
          ++runs;
          return x * 3;
        },
        {}, fresh);
    const auto later = once.try_call(number);
    CHECK(runs == 0);
    if (told->verdict == idem::Verdict::executed) {
      CHECK(recorded(later.verdict()));
    } else {
      CHECK((recorded(later.verdict()) || later.verdict() == idem::Verdict::in_doubt));
    }
    if (later.verdict() == idem::Verdict::replayed) CHECK(later.value() == number * 3);
    REQUIRE(at < 500);
  }
  FileStore fresh = store_at(world.path());
  world.check(fresh);
}

/// A guarded function whose claim meets the harm: it runs once or not at all, as the verdict says.
void guard_claims(World& world, Harm harm, int error) {
  bool hit = true;
  for (unsigned at = 1; hit; ++at) {
    const int number = static_cast<int>(at) + 1000 * (error + 200 * static_cast<int>(harm));
    const Shared<Told> told;
    const Seen seen = tracing::trace({.harm = harm, .at = at, .error = error}, [&] {
      FileStore store = store_at(world.path(), Durability::power);
      if (store.open().answer != Answer::ok) return 3;
      auto once = idem::idempotent<"double">(
          [&](int x) {
            tracing::end();
            ++told->runs;
            return x * 2;
          },
          {}, store);
      tracing::begin();
      told->verdict = once.try_call(number).verdict();
      tracing::end();
      return 0;
    });
    hit = seen.hit;
    INFO("a claim, ", words_for({.harm = harm, .at = at, .error = error}), ": ", seen.call);
    CHECK(seen.result == 0);
    if (told->verdict == idem::Verdict::unavailable) {
      CHECK(told->runs == 0);
    } else {
      CHECK(told->verdict == idem::Verdict::executed);
      CHECK(told->runs == 1);
    }
    if (!hit) CHECK(told->runs == 1);
    if (world.witness().stats().poisoned) CHECK(world.witness().recover().answer == Answer::ok);
    REQUIRE(at < 500);
  }
  FileStore fresh = store_at(world.path());
  world.check(fresh);
}

}  // namespace

TEST_CASE("FDU-05 FLK-13: a claim whose system calls fail is refused or good, and service resumes by itself") {
  if (!tracing::possible()) return;
  World world;
  try_all(world, later_claim, true);
  try_all(world, first_claim, false);
}

TEST_CASE("FDU-05 FDU-06 FDU-09: an outcome whose system calls fail is recorded or not, whole, and may be retried") {
  if (!tracing::possible()) return;
  World world;
  try_all(world, completes, true);
  try_all(world, fails, false);
}

TEST_CASE("FDU-05: a release or abandonment whose system calls fail is made up for") {
  if (!tracing::possible()) return;
  World world;
  try_all(world, releases, false);
  try_all(world, abandons, false);
}

TEST_CASE("FDU-05 FLK-13: what is completed, in doubt or running is never taken for free, whatever fails") {
  if (!tracing::possible()) return;
  World world;
  try_all(world, meets_doubt, true);
  try_all(world, meets_running, true);
  try_all(world, meets_completed, false);
}

TEST_CASE("FDU-05 FDU-07 FDU-12: a compaction or recovery whose system calls fail loses nothing") {
  if (!tracing::possible()) return;
  World world;
  try_all(world, compacts, false);
  try_all(world, recovers, false);
}

TEST_CASE(
    "FDU-06 FDU-12: ending a compaction that was cut off loses nothing, and a journal that can't be synced is told") {
  if (!tracing::possible()) return;
  World world;
  try_all(world, claim_after_compactor, false);
}

TEST_CASE("FDU-05 FDU-08 FLK-07: a store whose making or repair meets failing system calls is made or repaired later") {
  if (!tracing::possible()) return;
  try_creation(false);
  try_repair(false);
}

// FLK-12: a network file system that lost its lease on the lock answers EIO, from then on to everything.
TEST_CASE(
    "CORE-09 FLK-12 T-27: where an outcome can't be stored its caller has the value, and the function never runs again") {
  if (!tracing::possible()) return;
  World world;
  for (const int error : {ENOSPC, EIO}) {
    guard_outcomes(world, Harm::fail, error);
    guard_outcomes(world, Harm::keep_failing, error);
  }
  guard_outcomes(world, Harm::tear, ENOSPC);
}

TEST_CASE("CORE-09: where a claim can't be stored the function isn't run") {
  if (!tracing::possible()) return;
  World world;
  for (const int error : {ENOSPC, EIO}) {
    guard_claims(world, Harm::fail, error);
    guard_claims(world, Harm::keep_failing, error);
  }
}

TEST_CASE("FDU-05: every error at every system call of claims and outcomes does no harm" * doctest::skip()) {
  if (!tracing::possible()) return;
  World world;
  for (const Operation& operation :
       {later_claim, first_claim, completes, fails, releases, abandons, meets_completed, meets_doubt, meets_running}) {
    try_all(world, operation, true);
  }
}

TEST_CASE("FDU-05: every error at every system call of a compaction or recovery does no harm" * doctest::skip()) {
  if (!tracing::possible()) return;
  World world;
  for (const Operation& operation : {claim_after_compactor, compacts, recovers}) try_all(world, operation, true);
}

TEST_CASE("FDU-05: an error at any system call of a purge does no harm" * doctest::skip()) {
  if (!tracing::possible()) return;
  World world;
  try_all(world, purges, false);
}

TEST_CASE("FDU-05: every error at every system call of the making or repair of a store does no harm" *
          doctest::skip()) {
  if (!tracing::possible()) return;
  try_creation(true);
  try_repair(true);
}

#else

TEST_CASE("FDU-05: system calls fail only where the tests know how to trace them") {
  CHECK(true);
}

#endif
