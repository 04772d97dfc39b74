// The rules of the protocol as tables: what each operation answers and what it does to the record, for every situation
// that a record can be in. The tables say what is wanted and know nothing of how protocol.hpp decides.
#include <idem/protocol.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace {

using idem::Answer;
using idem::Duration;
using idem::Ownership;
using idem::OwnerToken;
using idem::Record;
using idem::State;
using idem::Status;
using idem::TimePoint;
using idem::protocol::Change;
using idem::protocol::Transition;
using std::chrono::microseconds;

constexpr TimePoint now{microseconds{1'700'000'000'000'000}};
constexpr TimePoint never = (TimePoint::max)();
constexpr microseconds tick{1};

constexpr OwnerToken owner_token{1, 2};
constexpr OwnerToken other_token{1, 3};
constexpr OwnerToken no_token{};
constexpr std::uint64_t owner_epoch = 41;

// The columns of every table, in this order.
enum Situation : std::size_t { none, live, gone, left, completed, failed, old_completed, old_failed, situations };
constexpr const char* situation_names[situations] = {"none",      "live",   "gone",          "left",
                                                     "completed", "failed", "old_completed", "old_failed"};

bool same(const Record& a, const Record& b) {
  return a.state == b.state && a.abandoned == b.abandoned && a.has_fingerprint == b.has_fingerprint &&
         a.attempt == b.attempt && a.owner == b.owner && a.started_at == b.started_at &&
         a.finished_at == b.finished_at && a.lease_until == b.lease_until && a.expires_at == b.expires_at &&
         a.fingerprint == b.fingerprint;
}

idem::Digest fingerprint(std::uint8_t fill) {
  idem::Digest digest;
  for (std::uint8_t& byte : digest.bytes) byte = fill;
  return digest;
}

/// One way of being in a situation. What varies within a situation must not matter.
struct Variant {
  Situation situation;
  std::optional<Record> record;
  bool owner_gone;

  const Record* get() const { return record ? &*record : nullptr; }
};

std::vector<Variant> variants_of(Situation situation) {
  std::vector<Variant> all;
  for (const bool owner_gone : {false, true}) {
    if (situation == none) {
      all.push_back({situation, std::nullopt, owner_gone});
      continue;
    }
    Record record;
    record.owner = {owner_token, owner_epoch};
    record.attempt = 3;
    record.started_at = now - std::chrono::hours{30};
    if (situation == live || situation == gone || situation == left) {
      if (situation == live && owner_gone) continue;
      if (situation == gone && !owner_gone) continue;
      record.abandoned = situation == left;
      // Whether a record in progress expires mustn't depend on what stands in its expiry.
      for (const TimePoint expiry : {never, now, now - tick, TimePoint{}}) {
        for (const TimePoint lease : {never, now + tick, now}) {
          record.expires_at = expiry;
          record.lease_until = lease;
          all.push_back({situation, record, owner_gone});
        }
      }
      continue;
    }
    record.state = situation == completed || situation == old_completed ? State::completed : State::failed;
    const bool old = situation == old_completed || situation == old_failed;
    // A record lives before the instant at which it expires, and not at it.
    const std::vector<TimePoint> expiries =
        old ? std::vector<TimePoint>{now, now - tick, now - std::chrono::hours{1}}
            : std::vector<TimePoint>{now + tick, now + std::chrono::hours{1}, never};
    for (const TimePoint expiry : expiries) {
      for (const TimePoint finish : {now - std::chrono::hours{2}, now, now + tick}) {
        record.expires_at = expiry;
        record.finished_at = finish;
        all.push_back({situation, record, owner_gone});
      }
    }
  }
  return all;
}

/// A cell: the answer's letter, then + where the record is written and - where it is erased.
struct Expected {
  Answer answer;
  Change change;
};

Expected parse(const std::string& cell) {
  static const std::string letters = "?ARDCFX0KSNUE";
  const std::size_t answer = letters.find(cell.at(0));
  REQUIRE(answer != std::string::npos);
  const char mark = cell.size() > 1 ? cell[1] : ' ';
  return {static_cast<Answer>(answer), mark == '+' ? Change::write : mark == '-' ? Change::erase : Change::none};
}

std::vector<Expected> parse_row(const char* cells) {
  std::istringstream text{cells};
  std::vector<Expected> row;
  for (std::string cell; text >> cell;) row.push_back(parse(cell));
  REQUIRE(row.size() == situations);
  return row;
}

std::string describe(const char* row, const Variant& variant, const Transition& got) {
  std::ostringstream text;
  text << row << " / " << situation_names[variant.situation] << (variant.owner_gone ? " (gone)" : "") << ": answered "
       << static_cast<int>(got.answer) << ", change " << static_cast<int>(got.change);
  return text.str();
}

// Counts instead of checking each: some hundred thousand combinations, of which only the failing ones are worth text.
struct Tally {
  std::size_t checked = 0;
  std::size_t failed = 0;
  std::string first = {};

  void expect(bool good, const std::string& what) {
    ++checked;
    if (good) return;
    if (failed++ == 0) first = what;
  }
  void report(std::size_t at_least) const {
    CHECK_MESSAGE(failed == 0, failed << " of " << checked << " combinations, the first: " << first);
    CHECK(checked >= at_least);
  }
};

/// Runs `operate(variant)` in every situation and compares with the row; `after(variant, transition)` says which record
/// is wanted where one is written.
template <class Operate, class After>
void check_row(Tally& tally, const char* name, const char* cells, Operate operate, After after) {
  const std::vector<Expected> row = parse_row(cells);
  for (std::size_t s = 0; s < situations; ++s) {
    for (const Variant& variant : variants_of(static_cast<Situation>(s))) {
      const Transition got = operate(variant);
      const std::string text = describe(name, variant, got);
      tally.expect(got.answer == row[s].answer && got.change == row[s].change, text);
      if (got.change == Change::write) tally.expect(same(got.next, after(variant, got)), text + ": wrong record");
      // Where nothing is written the reply shows the record as it stands.
      if (got.change == Change::none && variant.record && s < old_completed)
        tally.expect(same(got.next, *variant.record), text + ": wrong record shown");
    }
  }
}

Record no_record_wanted(const Variant&, const Transition&) {
  Record impossible;
  impossible.attempt = 4'000'000'000u;
  return impossible;
}

struct Requester {
  const char* name;
  Ownership owner;
};

// All who aren't the owner: none of them may change anything.
std::vector<Requester> strangers() {
  return {{"right token, earlier epoch", {owner_token, owner_epoch - 1}},
          {"right token, later epoch", {owner_token, owner_epoch + 1}},
          {"right token, no epoch", {owner_token, 0}},
          {"other token, right epoch", {other_token, owner_epoch}},
          {"half of the token", {{owner_token.hi, 0}, owner_epoch}},
          {"no token, right epoch", {no_token, owner_epoch}},
          {"nothing", {no_token, 0}}};
}

// What of the arguments the record and the claim know; the same or not comparable.
struct Fingerprints {
  std::optional<std::uint8_t> recorded;
  std::optional<std::uint8_t> asked;
  bool conflict;
};
constexpr Fingerprints fingerprints[] = {{std::nullopt, std::nullopt, false},
                                         {std::nullopt, std::uint8_t{7}, false},
                                         {std::uint8_t{7}, std::nullopt, false},
                                         {std::uint8_t{7}, std::uint8_t{7}, false},
                                         {std::uint8_t{7}, std::uint8_t{8}, true}};

struct ClaimRow {
  const char* name;
  OwnerToken token;
  bool take_over;
  bool at_once;
  bool conflict;
  const char* cells;
};

// Letters: A acquired, R running, D in doubt, C completed, F failed, X conflict, 0 absent, K ok, S stale, N refused,
// U unavailable. "left": abandoned by its owner. "old": expired.
constexpr ClaimRow claim_rows[] = {
    //                                                                 none live gone left compl. failed old c. old f.
    {"first or second caller", other_token, false, false, false, "     A+   R    D    D    C      F      A+     A+"},
    {"taking over", other_token, true, false, false, "                 A+   R    A+   A+   C      F      A+     A+"},
    {"at once", other_token, false, true, false, "                     A+   R    D    D    C      F      A+     A+"},
    {"at once, taking over", other_token, true, true, false, "         A+   R    A+   A+   C      F      A+     A+"},
    {"other arguments", other_token, false, false, true, "             A+   X    X    X    X      X      A+     A+"},
    {"other arguments, taking over", other_token, true, false, true, " A+   X    X    X    X      X      A+     A+"},
    {"other arguments, at once", other_token, false, true, true, "     A+   X    X    X    X      X      A+     A+"},
    // The same claim once more, since its answer was lost, changes nothing and is told again that it acquired the key.
    {"retry", owner_token, false, false, false, "                      A+   A    A    D    C      F      A+     A+"},
    {"retry, taking over", owner_token, true, false, false, "          A+   A    A    A+   C      F      A+     A+"},
    {"retry, at once", owner_token, false, true, false, "              A+   A    A    D    A      F      A+     A+"},
    {"retry, at once, taking over", owner_token, true, true, false, "  A+   A    A    A+   A      F      A+     A+"},
    // Without a token nobody could be told from anybody else.
    {"no token", no_token, false, false, false, "                      U    U    U    U    U      U      U      U "},
    {"no token, taking over", no_token, true, false, false, "          U    U    U    U    U      U      U      U "},
    {"no token, at once", no_token, true, true, false, "               U    U    U    U    U      U      U      U "},
    {"no token, other arguments", no_token, true, false, true, "       U    U    U    U    U      U      U      U "},
};

constexpr Duration ttl = std::chrono::hours{5};
constexpr Duration lease = std::chrono::seconds{30};

}  // namespace

TEST_CASE("T-15 T-48 T-49 T-50 CORE-05 CORE-07: what a claim is answered and what it writes, in every situation") {
  Tally tally;
  for (const ClaimRow& row : claim_rows) {
    for (const Fingerprints& known : fingerprints) {
      if (known.conflict != row.conflict) continue;
      for (const std::uint64_t floor : {std::uint64_t{0}, owner_epoch + 1, std::uint64_t{9'000}}) {
        const auto prepared = [&](const Variant& variant) {
          Variant copy = variant;
          if (copy.record && known.recorded) {
            copy.record->has_fingerprint = true;
            copy.record->fingerprint = fingerprint(*known.recorded);
          }
          return copy;
        };
        const idem::Digest asked = fingerprint(known.asked.value_or(0));
        idem::ClaimRequest request;
        request.owner = row.token;
        request.lease = lease;
        request.fingerprint = known.asked ? &asked : nullptr;
        request.take_over = row.take_over;
        request.complete_at_once = row.at_once;
        request.ttl = ttl;
        const std::vector<Expected> cells = parse_row(row.cells);
        for (std::size_t s = 0; s < situations; ++s) {
          for (const Variant& plain : variants_of(static_cast<Situation>(s))) {
            const Variant variant = prepared(plain);
            const Transition got = idem::protocol::claim(variant.get(), request, now, variant.owner_gone, floor);
            const std::string text = describe(row.name, variant, got);
            tally.expect(got.answer == cells[s].answer && got.change == cells[s].change, text);
            if (got.change == Change::none) {
              if (variant.record && s < old_completed) tally.expect(same(got.next, *variant.record), text + ": shown");
              continue;
            }
            // The record that an acquisition makes, from nothing or from the one it takes over.
            const bool takes_over = s == gone || s == left;
            Record wanted;
            wanted.state = row.at_once ? State::completed : State::in_progress;
            wanted.attempt = takes_over ? 4u : 1u;
            wanted.owner.token = row.token;
            const std::uint64_t previous = s == none ? 0 : owner_epoch;
            wanted.owner.epoch = floor > previous ? floor : previous + 1;
            wanted.started_at = takes_over ? variant.record->started_at : now;
            wanted.lease_until = row.at_once ? never : now + std::chrono::seconds{30};
            const TimePoint untouched = takes_over ? variant.record->expires_at : never;
            wanted.expires_at = row.at_once ? now + std::chrono::hours{5} : untouched;
            wanted.finished_at = row.at_once ? now : TimePoint{};
            const std::optional<std::uint8_t> kept = takes_over && known.recorded ? known.recorded : known.asked;
            wanted.has_fingerprint = kept.has_value();
            if (kept) wanted.fingerprint = fingerprint(*kept);
            tally.expect(same(got.next, wanted), text + ": wrong record");
          }
        }
      }
    }
  }
  tally.report(10'000);
}

TEST_CASE("CORE-03 CORE-06 T-04 T-05 T-08 T-71: what an owner may do, and that nobody else changes anything") {
  struct Row {
    const char* operation;
    const char* by_owner;
    const char* by_others;
  };
  constexpr Row rows[] = {
      //            none live gone left compl. failed old c. old f.
      {"renew", "   S    K+   S    S    S      S      S      S", "S S S S S S S S"},
      {"complete", "S    K+   K+   K+   K      S      K      S", "S S S S S S S S"},
      {"fail", "    S    K+   K+   K+   S      K      S      K", "S S S S S S S S"},
      // What isn't there needs no giving back; what expired isn't there.
      {"release", " K    K-   K-   K-   S      S      K      K", "K S S S S S K K"},
      // Whoever took over and gives back knows nothing of the run that was in doubt.
      {"release after a takeover", "K K+ K+ K    S      S      K      K", "K S S S S S K K"},
      {"abandon", " K    K+   K+   K    S      S      K      K", "K S S S S S K K"},
  };
  std::vector<Requester> requesters = strangers();
  requesters.insert(requesters.begin(), {"the owner", {owner_token, owner_epoch}});
  Tally tally;
  for (const Row& row : rows) {
    const std::string_view operation = row.operation;
    for (const Requester& requester : requesters) {
      const bool is_owner = &requester == requesters.data();
      const auto operate = [&](const Variant& variant) {
        if (operation == "renew")
          return idem::protocol::renew(variant.get(), requester.owner, lease, now, variant.owner_gone);
        if (operation == "release after a takeover")
          return idem::protocol::release(variant.get(), requester.owner, now);
        if (operation == "release") {
          Record first = variant.record.value_or(Record{});
          first.attempt = 1;
          Transition got = idem::protocol::release(variant.record ? &first : nullptr, requester.owner, now);
          if (variant.record) got.next.attempt = variant.record->attempt;
          return got;
        }
        if (operation == "abandon") return idem::protocol::abandon(variant.get(), requester.owner, now);
        return idem::protocol::finish(variant.get(), requester.owner,
                                      operation == "complete" ? State::completed : State::failed, now, ttl);
      };
      const auto after = [&](const Variant& variant, const Transition&) {
        Record wanted = *variant.record;
        if (operation == "renew") wanted.lease_until = now + std::chrono::seconds{30};
        if (operation == "abandon" || operation == "release after a takeover") wanted.abandoned = true;
        if (operation == "complete" || operation == "fail") {
          // T-47: everything that the claim knew stays.
          wanted.state = operation == "complete" ? State::completed : State::failed;
          wanted.abandoned = false;
          wanted.finished_at = now;
          wanted.expires_at = now + std::chrono::hours{5};
          wanted.lease_until = never;
        }
        return wanted;
      };
      const std::string name = std::string(row.operation) + " by " + requester.name;
      check_row(tally, name.c_str(), is_owner ? row.by_owner : row.by_others, operate, after);
    }
  }
  tally.report(3'000);
}

TEST_CASE("T-80: a doubt is resolved once, by whoever looked into that very doubt") {
  struct Row {
    const char* name;
    OwnerToken resolver;
    std::uint64_t epoch;
    State state;
    const char* cells;
  };
  constexpr Row rows[] = {
      //                                                                none live gone left compl. failed old c. old f.
      {"completed", other_token, owner_epoch, State::completed, "       0    N    K+   K+   S      S      0      0"},
      {"failed", other_token, owner_epoch, State::failed, "             0    N    K+   K+   S      S      0      0"},
      {"of any epoch", other_token, 0, State::completed, "              0    N    K+   K+   S      S      0      0"},
      {"earlier doubt", other_token, owner_epoch - 1, State::failed, "  0    N    S    S    S      S      0      0"},
      {"later doubt", other_token, owner_epoch + 1, State::completed, " 0    N    S    S    S      S      0      0"},
      {"nobody", no_token, owner_epoch, State::completed, "             0    N    U    U    S      S      0      0"},
      {"no outcome", other_token, owner_epoch, State::in_progress, "    0    N    U    U    S      S      0      0"},
  };
  Tally tally;
  for (const Row& row : rows) {
    for (const std::uint64_t floor : {std::uint64_t{0}, std::uint64_t{9'000}}) {
      check_row(
          tally, row.name, row.cells,
          [&](const Variant& variant) {
            return idem::protocol::resolve(variant.get(), row.epoch, row.resolver, row.state, now, ttl,
                                           variant.owner_gone, floor);
          },
          [&](const Variant& variant, const Transition&) {
            Record wanted = *variant.record;
            wanted.state = row.state;
            wanted.abandoned = false;
            wanted.owner = {row.resolver, floor == 0 ? owner_epoch + 1 : floor};
            wanted.finished_at = now;
            wanted.expires_at = now + std::chrono::hours{5};
            wanted.lease_until = never;
            return wanted;
          });
    }
  }
  tally.report(1'000);
}

TEST_CASE("T-17 T-39 T-40 CORE-13: erasing refuses a live owner's record, and purging keeps what isn't over") {
  Tally tally;
  //                           none live gone left compl. failed old c. old f.
  check_row(
      tally, "erase", "  0    N    K-   K-   K-     K-     0-     0-",
      [](const Variant& variant) { return idem::protocol::erase(variant.get(), now, variant.owner_gone); },
      no_record_wanted);

  // Which records a purge takes: without an age, with one that isn't reached, with one that is reached just now.
  struct Purge {
    std::optional<Duration> age;
    const char* cells;
  };
  const Duration age_now = std::chrono::hours{30};
  const Duration age_later = std::chrono::hours{30} + tick;
  const Purge purges[] = {
      //                    none live gone left compl. failed old c. old f.
      {std::nullopt, "      .    .    .    .    .      .      y      y"},
      {age_later, "         .    .    .    .    .      .      y      y"},
      {idem::forever, "     .    .    .    .    .      .      y      y"},
      {age_now, "           .    .    y    y    .      .      y      y"},
      {Duration{tick}, "    .    .    y    y    .      .      y      y"},
  };
  for (const Purge& purge : purges) {
    std::istringstream cells{purge.cells};
    for (std::size_t s = 0; s < situations; ++s) {
      std::string cell;
      cells >> cell;
      for (const Variant& variant : variants_of(static_cast<Situation>(s))) {
        if (!variant.record) continue;
        const bool taken =
            idem::protocol::purgeable(*variant.record, now, variant.owner_gone, purge.age ? &*purge.age : nullptr);
        tally.expect(taken == (cell == "y"), std::string("purge / ") + situation_names[s]);
      }
    }
  }
  tally.report(400);
}

TEST_CASE("T-01 T-36 T-41 TIM-10: what a record means, and that only finished ones expire, to the microsecond") {
  constexpr Status wanted[situations] = {Status::absent,    Status::running, Status::in_doubt, Status::in_doubt,
                                         Status::completed, Status::failed,  Status::absent,   Status::absent};
  constexpr Answer told[situations] = {Answer::absent,    Answer::running, Answer::in_doubt, Answer::in_doubt,
                                       Answer::completed, Answer::failed,  Answer::absent,   Answer::absent};
  Tally tally;
  for (std::size_t s = 0; s < situations; ++s) {
    for (const Variant& variant : variants_of(static_cast<Situation>(s))) {
      const Transition found = idem::protocol::find(variant.get(), now, variant.owner_gone);
      tally.expect(found.answer == told[s] && found.change == Change::none, situation_names[s]);
      const std::uint64_t shown = told[s] == Answer::absent ? 0 : variant.record->owner.epoch;
      tally.expect(found.next.owner.epoch == shown, situation_names[s]);
      tally.expect(idem::protocol::status(variant.get(), now, variant.owner_gone) == wanted[s], situation_names[s]);
      if (variant.record) {
        const bool old = s == old_completed || s == old_failed;
        tally.expect(idem::protocol::expired(*variant.record, now) == old, situation_names[s]);
      }
      // Only a running record's meaning depends on its owner, so that a store asks for proof in no other case.
      tally.expect(idem::protocol::asks_for_owner(variant.get()) == (s == live || s == gone), situation_names[s]);
    }
  }
  tally.report(200);

  Record record;
  record.lease_until = now;
  CHECK(idem::protocol::lease_ended(record, now));
  CHECK_FALSE(idem::protocol::lease_ended(record, now - tick));
  record.lease_until = never;
  CHECK_FALSE(idem::protocol::lease_ended(record, now + std::chrono::hours{24 * 365 * 100}));
}

namespace {

/// An operation with all its parameters, for the invariants that hold whatever is asked.
struct Operation {
  std::string name;
  bool retry_gives_same_answer;
  Ownership by;  ///< Whose operation it is, where it is one of an owner.
  bool of_owner;
  Transition (*run)(const Record*, const Ownership&, bool owner_gone, std::uint64_t floor);
};

template <bool take_over, bool at_once>
Transition run_claim(const Record* record, const Ownership& by, bool owner_gone, std::uint64_t floor) {
  idem::ClaimRequest request;
  request.owner = by.token;
  request.lease = lease;
  request.take_over = take_over;
  request.complete_at_once = at_once;
  request.ttl = ttl;
  return idem::protocol::claim(record, request, now, owner_gone, floor);
}
Transition run_renew(const Record* record, const Ownership& by, bool owner_gone, std::uint64_t) {
  return idem::protocol::renew(record, by, lease, now, owner_gone);
}
template <State state>
Transition run_finish(const Record* record, const Ownership& by, bool, std::uint64_t) {
  return idem::protocol::finish(record, by, state, now, ttl);
}
Transition run_release(const Record* record, const Ownership& by, bool, std::uint64_t) {
  return idem::protocol::release(record, by, now);
}
Transition run_abandon(const Record* record, const Ownership& by, bool, std::uint64_t) {
  return idem::protocol::abandon(record, by, now);
}
Transition run_resolve(const Record* record, const Ownership& by, bool owner_gone, std::uint64_t floor) {
  return idem::protocol::resolve(record, 0, by.token, State::completed, now, ttl, owner_gone, floor);
}
Transition run_erase(const Record* record, const Ownership&, bool owner_gone, std::uint64_t) {
  return idem::protocol::erase(record, now, owner_gone);
}

std::vector<Operation> all_operations() {
  std::vector<Requester> requesters = strangers();
  requesters.push_back({"the owner", {owner_token, owner_epoch}});
  std::vector<Operation> all;
  for (const Requester& requester : requesters) {
    const Ownership by = requester.owner;
    all.push_back({"claim", true, by, false, run_claim<false, false>});
    all.push_back({"claim, taking over", true, by, false, run_claim<true, false>});
    all.push_back({"claim at once", true, by, false, run_claim<false, true>});
    all.push_back({"claim at once, taking over", true, by, false, run_claim<true, true>});
    all.push_back({"renew", true, by, true, run_renew});
    all.push_back({"complete", true, by, true, run_finish<State::completed>});
    all.push_back({"fail", true, by, true, run_finish<State::failed>});
    all.push_back({"release", true, by, true, run_release});
    all.push_back({"abandon", true, by, true, run_abandon});
    all.push_back({"resolve", false, by, false, run_resolve});
    all.push_back({"erase", false, by, false, run_erase});
    for (std::size_t i = all.size() - 11; i < all.size(); ++i) all[i].name += std::string(" by ") + requester.name;
  }
  return all;
}

const Record* apply(const Transition& transition, const Record* record) {
  switch (transition.change) {
    case Change::none:
      return record;
    case Change::write:
      return &transition.next;
    case Change::erase:
      break;
  }
  return nullptr;
}

}  // namespace

TEST_CASE("CORE-03 T-12 T-13 T-14 T-69 T-71 T-72: what holds for every operation in every situation") {
  Tally tally;
  for (const Operation& operation : all_operations()) {
    for (std::size_t s = 0; s < situations; ++s) {
      for (const Variant& variant : variants_of(static_cast<Situation>(s))) {
        for (const std::uint64_t floor : {std::uint64_t{0}, std::uint64_t{9'000}}) {
          const Record* record = variant.get();
          const Transition got = operation.run(record, operation.by, variant.owner_gone, floor);
          const std::string text = describe(operation.name.c_str(), variant, got);
          const bool owns = record != nullptr && operation.by == record->owner;
          const bool is_new = got.change == Change::write && (record == nullptr || !(got.next.owner == record->owner));

          if (operation.of_owner && !owns) tally.expect(got.change == Change::none, text + ": stale, yet changed");
          if (s == live && !owns) tally.expect(got.change == Change::none, text + ": a live record changed");
          if (s == completed || s == failed) {
            tally.expect(got.change != Change::write, text + ": a finished record written");
            tally.expect(got.change == Change::none || operation.run == run_erase, text + ": a finished record lost");
          }
          if (got.change == Change::write) {
            tally.expect(got.next.owner.epoch != 0 && got.next.owner.token, text + ": nobody's record");
            tally.expect(got.next.attempt != 0, text + ": never acquired");
            if (record != nullptr) {
              tally.expect(got.next.owner.epoch >= record->owner.epoch, text + ": epoch fell");
              const bool over = s == old_completed || s == old_failed;
              tally.expect(over || got.next.started_at == record->started_at, text + ": first claim forgotten");
            }
            if (is_new) {
              tally.expect(got.next.owner.epoch >= floor, text + ": epoch below the floor");
              tally.expect(record == nullptr || got.next.owner.epoch > record->owner.epoch, text + ": epoch repeated");
              tally.expect(got.next.owner.token == operation.by.token, text + ": somebody else's");
            }
            tally.expect(got.next.state != State::in_progress || !idem::protocol::expired(got.next, never - tick),
                         text + ": expires while in progress");
            tally.expect(got.next.state == State::in_progress || got.next.expires_at > now, text + ": expired at once");
          }
          if (got.answer == Answer::stale || got.answer == Answer::refused || got.answer == Answer::unavailable ||
              got.answer == Answer::conflict || got.answer == Answer::running || got.answer == Answer::in_doubt)
            tally.expect(got.change == Change::none, text + ": refused, yet changed");
          // A claim that is answered "acquired" is backed by a record that names the claimer.
          if (got.answer == Answer::acquired) {
            const Record* after = apply(got, record);
            tally.expect(after != nullptr && after->owner.token == operation.by.token, text + ": acquired for nobody");
          }
          if (operation.retry_gives_same_answer) {
            // Whoever acquired the record meanwhile lives; else its owner is what it was.
            const bool still_gone = variant.owner_gone && !is_new;
            const Transition again = operation.run(apply(got, record), operation.by, still_gone, floor);
            tally.expect(again.answer == got.answer, text + ": a retry is told something else");
            if (got.change != Change::none && operation.run != run_renew)
              tally.expect(again.change == Change::none, text + ": a retry changes something again");
          }
        }
      }
    }
  }
  tally.report(50'000);
}

TEST_CASE("T-70: an epoch is never reused nor zero, and numbers that are used up end the acquisitions") {
  constexpr std::uint64_t last = (std::numeric_limits<std::uint64_t>::max)();
  CHECK(idem::protocol::next_epoch(0, 0) == 1);
  CHECK(idem::protocol::next_epoch(0, 7) == 7);
  CHECK(idem::protocol::next_epoch(7, 7) == 8);
  CHECK(idem::protocol::next_epoch(8, 7) == 9);
  CHECK(idem::protocol::next_epoch(0, last) == last);
  CHECK(idem::protocol::next_epoch(last - 2, 0) == last - 1);
  CHECK(idem::protocol::next_epoch(last - 1, 0) == last);
  CHECK(idem::protocol::next_epoch(last - 1, last) == last);
  CHECK(idem::protocol::next_epoch(last, 0) == 0);
  CHECK(idem::protocol::next_epoch(last, last) == 0);

  Record record;
  record.abandoned = true;
  record.attempt = 1;
  record.owner = {owner_token, last};
  idem::ClaimRequest request;
  request.owner = other_token;
  request.take_over = true;
  Transition got = idem::protocol::claim(&record, request, now, true, 0);
  CHECK(got.answer == Answer::unavailable);
  CHECK(got.change == Change::none);
  got = idem::protocol::resolve(&record, 0, other_token, State::completed, now, ttl, true, 0);
  CHECK(got.answer == Answer::unavailable);
  CHECK(got.change == Change::none);

  record.owner.epoch = last - 1;
  got = idem::protocol::claim(&record, request, now, true, 0);
  CHECK(got.answer == Answer::acquired);
  CHECK(got.next.owner.epoch == last);
}

TEST_CASE("T-70: a count of attempts that is full stays full") {
  Record record;
  record.abandoned = true;
  record.owner = {owner_token, owner_epoch};
  idem::ClaimRequest request;
  request.owner = other_token;
  request.take_over = true;
  record.attempt = (std::numeric_limits<std::uint32_t>::max)() - 1;
  Transition got = idem::protocol::claim(&record, request, now, false, 0);
  CHECK(got.next.attempt == (std::numeric_limits<std::uint32_t>::max)());
  record.attempt = (std::numeric_limits<std::uint32_t>::max)();
  got = idem::protocol::claim(&record, request, now, false, 0);
  CHECK(got.answer == Answer::acquired);
  CHECK(got.next.attempt == (std::numeric_limits<std::uint32_t>::max)());
}

TEST_CASE("T-26 T-76 TIM-09: spans too long for the clock last for ever, and the shortest one is not none") {
  const Record running = [] {
    Record record;
    record.owner = {owner_token, owner_epoch};
    record.attempt = 1;
    return record;
  }();
  const Ownership owner{owner_token, owner_epoch};
  const Duration longest = std::chrono::nanoseconds::max();
  const TimePoint late = never - tick;

  for (const Duration span : {idem::forever, Duration{std::chrono::hours::max()}}) {
    CHECK(idem::protocol::finish(&running, owner, State::completed, now, span).next.expires_at == never);
    CHECK(idem::protocol::renew(&running, owner, span, now, false).next.lease_until == never);
  }
  CHECK(idem::protocol::finish(&running, owner, State::completed, late, longest).next.expires_at == never);
  CHECK(idem::protocol::finish(&running, owner, State::failed, late, Duration{std::chrono::hours{1}}).next.expires_at ==
        never);
  CHECK(idem::protocol::finish(&running, owner, State::completed, now, longest).next.expires_at > now);

  // A nanosecond is kept as the microsecond that holds it, so that what is remembered is remembered at all.
  const Transition brief =
      idem::protocol::finish(&running, owner, State::completed, now, Duration{std::chrono::nanoseconds{1}});
  CHECK(brief.next.expires_at == now + tick);
  CHECK(idem::protocol::status(&brief.next, now, false) == Status::completed);
  CHECK(idem::protocol::status(&brief.next, now + tick, false) == Status::absent);

  idem::ClaimRequest request;
  request.owner = owner_token;
  CHECK(idem::protocol::claim(nullptr, request, now, false, 0).next.lease_until == never);
  request.lease = longest;
  CHECK(idem::protocol::claim(nullptr, request, late, false, 0).next.lease_until == never);
  // T-39: an age that overflows is never reached.
  Record doubtful = running;
  doubtful.abandoned = true;
  doubtful.started_at = late;
  CHECK_FALSE(idem::protocol::purgeable(doubtful, late, false, &longest));
}

TEST_CASE("T-10 T-11: at the instant at which a record expires the next claim begins anew and the old owner is stale") {
  Record record;
  record.state = State::completed;
  record.owner = {owner_token, owner_epoch};
  record.attempt = 5;
  record.started_at = now - std::chrono::hours{1};
  record.finished_at = now - std::chrono::minutes{1};
  record.expires_at = now;
  record.has_fingerprint = true;
  record.fingerprint = fingerprint(7);

  idem::ClaimRequest request;
  request.owner = other_token;
  const idem::Digest other = fingerprint(9);
  request.fingerprint = &other;
  CHECK(idem::protocol::claim(&record, request, now - tick, false, 0).answer == Answer::conflict);
  const Transition got = idem::protocol::claim(&record, request, now, false, 0);
  REQUIRE(got.answer == Answer::acquired);
  CHECK(got.next.attempt == 1);
  CHECK(got.next.started_at == now);
  CHECK(got.next.owner.epoch > owner_epoch);
  CHECK(got.next.finished_at == TimePoint{});
  CHECK(got.next.fingerprint == other);

  // The replacement survives everything that the former owner, or somebody who saw the expired record, does.
  const Ownership former{owner_token, owner_epoch};
  CHECK(idem::protocol::finish(&got.next, former, State::completed, now, ttl).answer == Answer::stale);
  CHECK(idem::protocol::release(&got.next, former, now).change == Change::none);
  CHECK(idem::protocol::erase(&got.next, now, false).change == Change::none);
  CHECK_FALSE(idem::protocol::purgeable(got.next, now, false, nullptr));
}

static_assert(idem::protocol::status(nullptr, now, false) == Status::absent, "the rules can be used at compile time");
