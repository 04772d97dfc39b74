// A small world, searched completely: three actors with one key, and everything that can happen to them in any order.
// The rules of protocol.hpp keep their promises in every state that can be reached; with one rule taken out, the
// search finds the history that breaks a promise, which shows that it would have noticed.
#include <idem/protocol.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

namespace {

using idem::Answer;
using idem::Duration;
using idem::OwnerToken;
using idem::Ownership;
using idem::Record;
using idem::State;
using idem::Status;
using idem::TimePoint;
using idem::protocol::Change;
using idem::protocol::Transition;

/// Rules that a broken store would leave out.
struct Rules {
  bool finish_asks_who = true;       ///< complete compares owner and epoch
  bool release_asks_who = true;
  bool release_keeps_doubt = true;   ///< a doubt that was taken over comes back when the new owner gives up
  bool renew_asks_who = true;
  bool renew_asks_when = true;       ///< a lease that ended isn't renewed
  bool claim_is_atomic = true;       ///< the record that a claim decides on is the one that it replaces
  bool purge_spares_doubt = true;
  bool erase_spares_live = true;
  bool doubt_is_told = true;         ///< a record whose owner is gone isn't taken for absent
  bool epochs_outlive_records = true;  ///< the store's floor
};

struct World {
  Rules rules = {};
  bool leases = true;     ///< Liveness by leases; else the store knows who died.
  bool take_over = true;  ///< Actors 0 and 1 take over records in doubt; actor 2 only ever asks.
};

constexpr int actors = 3;
constexpr int last_moment = 5;
constexpr Duration lease = std::chrono::microseconds{2};
constexpr Duration ttl = std::chrono::microseconds{2};

enum class Phase : std::uint8_t { idle, asking, snapshot, owning, ran, done, dead };

struct Actor {
  Phase phase = Phase::idle;
  std::uint8_t claims = 0;     ///< Distinct claims made; each has a token of its own.
  std::uint8_t epoch = 0;      ///< Of the ownership that it believes in.
  std::uint8_t seen = 0;       ///< The epoch in its snapshot (only where claims aren't atomic).
  bool seen_free = false;      ///< Its snapshot says that the key can be had.
};

/// Everything that decides what can happen next, and what the promises are about. Small numbers only, so that it can be
/// compared by its bytes.
struct Moment {
  std::uint8_t now = 0;
  std::uint8_t exists = 0;
  std::uint8_t state = 0;
  std::uint8_t abandoned = 0;
  std::uint8_t owner = 0;      ///< Token: 1 + actor * 8 + claim; 0 is nobody.
  std::uint8_t epoch = 0;
  std::uint8_t attempt = 0;
  std::uint8_t started = 0;
  std::uint8_t finished = 0;
  std::uint8_t expires = 255;
  std::uint8_t lease_until = 255;
  std::uint8_t payload = 0;    ///< Epoch of the run whose result the store holds.
  // What only the checker knows.
  std::uint8_t top_epoch = 0;  ///< The highest epoch ever handed out.
  std::uint8_t period = 0;     ///< Epochs from here on belong to the present period, which ends with an expiry, an
                               ///< erasure or a purge.
  std::uint8_t effects = 0;    ///< Runs of owners of this period.
  std::uint8_t chosen = 0;     ///< Takeovers of this period, each of which somebody chose.
  std::uint8_t told_ok = 0;    ///< Epoch of the completion that was acknowledged, until it expires.
  std::uint8_t purged = 0;     ///< Purges and erasures are few.
  std::array<std::uint8_t, actors * 5> who = {};

  friend bool operator==(const Moment&, const Moment&) = default;
};

struct HashMoment {
  std::size_t operator()(const Moment& moment) const {
    unsigned char bytes[sizeof(Moment)];
    std::memcpy(bytes, &moment, sizeof moment);
    std::uint64_t hash = 14695981039346656037u;
    for (const unsigned char byte : bytes) hash = (hash ^ byte) * 1099511628211u;
    return static_cast<std::uint32_t>(hash ^ (hash >> 32));
  }
};
static_assert(alignof(Moment) == 1, "without padding, the bytes are the value");

TimePoint at(std::uint8_t moment) {
  return moment == 255 ? (TimePoint::max)() : TimePoint{std::chrono::microseconds{moment}};
}
std::uint8_t from(TimePoint time) {
  return time == (TimePoint::max)() ? std::uint8_t{255} : static_cast<std::uint8_t>(time.time_since_epoch().count());
}

Actor actor_of(const Moment& moment, int index) {
  const auto* who = &moment.who[static_cast<std::size_t>(index) * 5];
  return {static_cast<Phase>(who[0]), who[1], who[2], who[3], who[4] != 0};
}
void put(Moment& moment, int index, const Actor& actor) {
  auto* who = &moment.who[static_cast<std::size_t>(index) * 5];
  who[0] = static_cast<std::uint8_t>(actor.phase);
  who[1] = actor.claims;
  who[2] = actor.epoch;
  who[3] = actor.seen;
  who[4] = actor.seen_free ? 1 : 0;
}

std::uint8_t token_number(int index, const Actor& actor) {
  return static_cast<std::uint8_t>(1 + index * 8 + actor.claims);
}
OwnerToken token(std::uint8_t number) { return {number, 0}; }

Record record_of(const Moment& moment) {
  Record record;
  record.state = static_cast<State>(moment.state);
  record.abandoned = moment.abandoned != 0;
  record.attempt = moment.attempt;
  record.owner = {token(moment.owner), moment.epoch};
  record.started_at = at(moment.started);
  record.finished_at = at(moment.finished);
  record.expires_at = at(moment.expires);
  record.lease_until = at(moment.lease_until);
  return record;
}

bool owner_gone(const World& world, const Moment& moment) {
  if (moment.exists == 0) return false;
  if (world.leases) return moment.lease_until <= moment.now;
  const int index = (moment.owner - 1) / 8;
  const Actor actor = actor_of(moment, index);
  return actor.phase == Phase::dead || token_number(index, actor) != moment.owner;
}

void write(Moment& moment, const Transition& transition) {
  if (transition.change == Change::none) return;
  moment.exists = transition.change == Change::write ? 1 : 0;
  const Record record = transition.change == Change::write ? transition.next : Record{};
  moment.state = transition.change == Change::write ? static_cast<std::uint8_t>(record.state) : std::uint8_t{0};
  moment.abandoned = record.abandoned ? 1 : 0;
  moment.attempt = static_cast<std::uint8_t>(record.attempt);
  moment.owner = static_cast<std::uint8_t>(record.owner.token.hi);
  moment.epoch = static_cast<std::uint8_t>(record.owner.epoch);
  moment.started = from(record.started_at);
  moment.finished = from(record.finished_at);
  moment.expires = from(record.expires_at);
  moment.lease_until = from(record.lease_until);
  if (moment.exists == 0 || record.state == State::in_progress) moment.payload = 0;
}

struct Checker {
  World world;
  std::size_t seen = 0;
  std::string broken = {};
  std::string history = {};

  void promise(bool kept, const char* what) {
    if (!kept && broken.empty()) broken = what;
  }

  Status status(const Moment& moment) const {
    const Record record = record_of(moment);
    return idem::protocol::status(moment.exists != 0 ? &record : nullptr, at(moment.now), owner_gone(world, moment));
  }

  /// Somebody is told that it owns the key, while `before` was the case.
  void check_acquired(const Moment& before, const Moment& after, int index, bool is_new, bool chose) {
    if (!is_new) return;
    // I1: an epoch is handed out once, and they grow whatever became of the records.
    promise(after.epoch > before.top_epoch, "I1: an epoch was handed out twice");
    const Status found = status(before);
    promise(found == Status::absent || found == Status::in_doubt, "I1: a second live owner");
    promise(found != Status::in_doubt || chose, "I2: a doubt became a run that nobody chose");
    promise(before.exists != 0 || before.effects == 0, "I2: a key is free though its effect may have happened");
    // I7, seen from the outside: what was finished and told so stays until it expires.
    promise(before.told_ok == 0 || before.expires <= before.now, "I7: a completed record was claimed again");
    if (!world.leases) {
      // Where the store knows who lives, no two of the living ever believe that they own the key.
      for (int other = 0; other < actors; ++other) {
        const Actor rival = actor_of(before, other);
        const bool believes = rival.phase == Phase::owning || rival.phase == Phase::ran;
        promise(other == index || !believes || before.abandoned != 0 || token_number(other, rival) != before.owner,
                "I1: the owner lives, yet another one was made");
      }
    }
  }

  void step(std::vector<std::pair<Moment, std::string>>& out, const Moment& next, std::string what) {
    out.emplace_back(next, std::move(what));
  }

  Transition claim(const Moment& moment, std::uint8_t by, bool take_over) const {
    const Record record = record_of(moment);
    idem::ClaimRequest request;
    request.owner = token(by);
    request.lease = world.leases ? lease : idem::forever;
    request.take_over = take_over;
    const std::uint64_t floor = world.rules.epochs_outlive_records ? std::uint64_t{moment.top_epoch} + 1 : 0;
    const Record* shown = moment.exists != 0 ? &record : nullptr;
    if (!world.rules.doubt_is_told && status(moment) == Status::in_doubt) shown = nullptr;
    return idem::protocol::claim(shown, request, at(moment.now), owner_gone(world, moment), floor);
  }

  static void end_period(Moment& moment) {
    moment.period = static_cast<std::uint8_t>(moment.top_epoch + 1);
    moment.effects = 0;
    moment.chosen = 0;
    moment.told_ok = 0;
  }

  void acquired(const Moment& before, Moment& after, int index, Actor actor, const Transition& got, bool chose) {
    const bool is_new = got.change == Change::write;
    write(after, got);
    check_acquired(before, after, index, is_new, chose && status(before) == Status::in_doubt);
    if (is_new) {
      if (before.exists != 0 && status(before) == Status::absent) end_period(after);
      if (before.exists != 0 && status(before) != Status::absent) ++after.chosen;
      after.told_ok = 0;
      after.top_epoch = (std::max)(after.top_epoch, after.epoch);
    }
    actor.epoch = static_cast<std::uint8_t>(got.next.owner.epoch);
    put(after, index, actor);
  }

  /// What an actor can do now. `out` gets each moment that can follow.
  void act(const Moment& moment, int index, std::vector<std::pair<Moment, std::string>>& out) {
    const Actor actor = actor_of(moment, index);
    const std::string name(1, static_cast<char>('A' + index));
    const Record record = record_of(moment);
    const Record* shown = moment.exists != 0 ? &record : nullptr;
    const TimePoint now = at(moment.now);
    const bool take_over = world.take_over && index != 2;

    if (actor.phase == Phase::idle || actor.phase == Phase::asking) {
      Actor asking = actor;
      if (actor.phase == Phase::idle) {
        if (actor.claims == 2) return;
        ++asking.claims;
        asking.phase = Phase::asking;
      }
      const std::uint8_t by = token_number(index, asking);
      if (world.rules.claim_is_atomic) {
        const Transition got = claim(moment, by, take_over);
        if (got.answer == Answer::acquired) {
          Moment next = moment;
          Actor owning = asking;
          owning.phase = Phase::owning;
          acquired(moment, next, index, owning, got, take_over);
          step(out, next, name + " claims");
          // The same with the answer lost: it asks again with the same token.
          if (actor.phase == Phase::idle) {
            Moment lost = next;
            Actor waiting = asking;
            waiting.phase = Phase::asking;
            waiting.epoch = 0;
            put(lost, index, waiting);
            step(out, lost, name + " claims, answer lost");
          }
        } else {
          promise(got.change == Change::none, "a claim that failed changed the record");
          if (got.answer == Answer::completed) {
            // I3, I5: what is replayed is what was committed.
            promise(moment.payload != 0 && moment.payload == moment.told_ok, "I3: a replay of what nobody committed");
          } else {
            promise(moment.told_ok == 0 || moment.expires <= moment.now,
                    "I5: an acknowledged completion isn't replayed");
          }
          Moment next = moment;
          Actor done = asking;
          done.phase = Phase::idle;
          put(next, index, done);
          step(out, next, name + " asks");
        }
      } else {
        // Reads, and decides later.
        const Transition got = claim(moment, by, take_over);
        Moment next = moment;
        Actor reading = asking;
        reading.phase = Phase::snapshot;
        reading.seen = moment.exists != 0 ? moment.epoch : std::uint8_t{0};
        reading.seen_free = got.answer == Answer::acquired;
        put(next, index, reading);
        step(out, next, name + " reads");
      }
    } else if (actor.phase == Phase::snapshot) {
      Moment next = moment;
      Actor after = actor;
      if (!actor.seen_free) {
        after.phase = Phase::idle;
        put(next, index, after);
      } else {
        // Writes what it decided on what it read, whatever stands there by now.
        Transition got = claim(Moment{}, token_number(index, actor), take_over);
        got.next.owner.epoch = static_cast<std::uint64_t>(moment.top_epoch) + 1;
        got.next.started_at = at(moment.now);
        got.next.lease_until = world.leases ? later(at(moment.now), lease) : (TimePoint::max)();
        after.phase = Phase::owning;
        acquired(moment, next, index, after, got, take_over);
      }
      step(out, next, name + " acts on what it read");
    } else if (actor.phase == Phase::owning || actor.phase == Phase::ran) {
      const Ownership own{token(token_number(index, actor)), actor.epoch};
      const bool holds = moment.exists != 0 && record.owner == own;
      const auto settle = [&](const char* what, const Transition& got, Phase phase, bool finished) {
        Moment next = moment;
        write(next, got);
        Actor after = actor;
        after.phase = phase;
        if (phase == Phase::idle) after.epoch = 0;
        put(next, index, after);
        // I4.
        promise(holds || got.change == Change::none, "I4: a stale owner changed the record");
        promise(holds || got.answer == Answer::stale || (got.answer == Answer::ok && status(moment) == Status::absent),
                "I4: a stale owner was told that all is well");
        if (finished && got.answer == Answer::ok && got.change == Change::write) {
          next.payload = actor.epoch;
          next.told_ok = actor.epoch;
        }
        step(out, next, name + what);
      };
      const auto as_if_owner = [&](bool rule) { return rule || !moment.exists ? own : record.owner; };

      if (actor.phase == Phase::owning) {
        Moment next = moment;
        Actor after = actor;
        after.phase = Phase::ran;
        put(next, index, after);
        if (actor.epoch >= moment.period) ++next.effects;
        promise(next.effects <= 1 + next.chosen, "I2: an effect was repeated that nobody chose to repeat");
        step(out, next, name + " runs");
        const Ownership giver = as_if_owner(world.rules.release_asks_who);
        Transition released = idem::protocol::release(shown, giver, now);
        if (!world.rules.release_keeps_doubt && released.change == Change::write) released.change = Change::erase;
        settle(" releases", released, Phase::idle, false);
      }
      if (actor.phase == Phase::ran) {
        const Ownership who = as_if_owner(world.rules.finish_asks_who);
        settle(" completes", idem::protocol::finish(shown, who, State::completed, now, ttl), Phase::idle, true);
        settle(" abandons", idem::protocol::abandon(shown, own, now), Phase::idle, false);
      }
      if (world.leases) {
        const bool gone = world.rules.renew_asks_when && owner_gone(world, moment);
        const Transition got =
            idem::protocol::renew(shown, as_if_owner(world.rules.renew_asks_who), lease, now, gone);
        promise(got.change == Change::none || status(moment) == Status::running,
                "T-05: a lease that ended was renewed");
        settle(" renews", got, got.answer == Answer::ok ? actor.phase : Phase::idle, false);
      }
      // Death: nothing is written. Another process takes its place.
      Moment next = moment;
      Actor dead = actor;
      dead.phase = Phase::dead;
      put(next, index, dead);
      step(out, next, name + " dies");
    } else if (actor.phase == Phase::dead) {
      Moment next = moment;
      Actor again = actor;
      again.phase = Phase::idle;
      again.epoch = 0;
      put(next, index, again);
      // The new process must not be taken for the one that died.
      if (again.claims < 2) step(out, next, name + " starts again");
    }
  }

  void surroundings(const Moment& moment, std::vector<std::pair<Moment, std::string>>& out) {
    if (moment.now < last_moment) {
      Moment next = moment;
      ++next.now;
      step(out, next, "time passes");
    }
    if (moment.exists == 0 || moment.purged == 2) return;
    const Record record = record_of(moment);
    const TimePoint now = at(moment.now);
    const Status found = status(moment);
    const Duration age = world.rules.purge_spares_doubt ? idem::forever : Duration{};
    if (idem::protocol::purgeable(record, now, owner_gone(world, moment), &age)) {
      // CORE-13.
      promise(found == Status::absent, "CORE-13: a purge removed a record that isn't over");
      Moment next = moment;
      write(next, {Answer::ok, Change::erase, record});
      end_period(next);
      ++next.purged;
      step(out, next, "purge");
    }
    const bool spare = world.rules.erase_spares_live;
    const Transition erased = idem::protocol::erase(&record, now, owner_gone(world, moment) || !spare);
    if (erased.change == Change::erase) {
      promise(found != Status::running, "T-17: a live owner's record was erased");
      Moment next = moment;
      write(next, erased);
      end_period(next);
      ++next.purged;
      step(out, next, "erase");
    } else {
      promise(found == Status::running, "an erasure was refused though nobody runs");
    }
  }

  /// Breadth first, so that the history of a broken promise is a shortest one.
  void search(std::size_t depth, std::size_t at_most) {
    struct Node {
      Moment moment;
      std::size_t parent;
      std::string what;
    };
    std::deque<Node> nodes;
    std::unordered_set<Moment, HashMoment> known;
    nodes.push_back({Moment{}, 0, ""});
    known.insert(Moment{});
    std::size_t begin = 0;
    std::vector<std::pair<Moment, std::string>> out;
    for (std::size_t level = 0; level < depth && broken.empty(); ++level) {
      const std::size_t end = nodes.size();
      if (begin == end) break;
      for (; begin < end && broken.empty(); ++begin) {
        const Moment moment = nodes[begin].moment;
        out.clear();
        for (int index = 0; index < actors && broken.empty(); ++index) act(moment, index, out);
        if (broken.empty()) surroundings(moment, out);
        if (!broken.empty()) {
          for (std::size_t node = begin; node != 0; node = nodes[node].parent) {
            history.insert(0, nodes[node].what + "; ");
          }
          break;
        }
        for (auto& [next, what] : out) {
          if (known.size() < at_most && known.insert(next).second) nodes.push_back({next, begin, std::move(what)});
        }
      }
    }
    seen = known.size();
  }
};

Checker explore(const World& world, std::size_t depth = 11) {
  Checker checker{world};
  checker.search(depth, 400'000);
  return checker;
}

void expect_found(const World& world, const char* what) {
  const Checker checker = explore(world);
  INFO("history: " << checker.history << " found: " << checker.broken);
  CHECK_MESSAGE(!checker.broken.empty(), "no history shows: " << what);
}

}  // namespace

TEST_CASE("SIM-01 T-02 CORE-04 CORE-13: three actors with leases can't break a promise in any order of steps") {
  const Checker checker = explore({.leases = true});
  INFO("history: " << checker.history);
  CHECK(checker.broken == "");
  CHECK(checker.seen > 10'000);
}

TEST_CASE("SIM-01 T-02 CORE-04 CORE-13: nor can they where the store knows who died") {
  const Checker checker = explore({.leases = false});
  INFO("history: " << checker.history);
  CHECK(checker.broken == "");
  CHECK(checker.seen > 10'000);
}

TEST_CASE("SIM-01: nor where nobody ever takes over") {
  const Checker checker = explore({.take_over = false});
  INFO("history: " << checker.history);
  CHECK(checker.broken == "");
}

TEST_CASE("SIM-02 SIM-03: each rule that is taken out is missed") {
  expect_found({.rules = {.finish_asks_who = false}}, "complete without an owner (T-04)");
  expect_found({.rules = {.release_asks_who = false}}, "release without an owner (T-08)");
  expect_found({.rules = {.release_keeps_doubt = false}}, "a release that forgets whose run was in doubt");
  expect_found({.rules = {.renew_asks_who = false}}, "renewal without an owner (T-05)");
  expect_found({.rules = {.renew_asks_when = false}}, "renewal of a lease that ended");
  expect_found({.rules = {.claim_is_atomic = false}}, "a claim that acts on a stale snapshot (T-02)");
  expect_found({.rules = {.claim_is_atomic = false}, .leases = false}, "the same without leases");
  expect_found({.rules = {.purge_spares_doubt = false}}, "a purge that takes records in doubt (T-39)");
  expect_found({.rules = {.erase_spares_live = false}}, "an erasure of a live record (T-17)");
  expect_found({.rules = {.doubt_is_told = false}}, "a record in doubt taken for an absent one (T-33)");
  expect_found({.rules = {.epochs_outlive_records = false}}, "epochs that begin again (T-69)");
}
