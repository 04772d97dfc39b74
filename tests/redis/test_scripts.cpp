// The scripts are held equal to the rules: the same random histories through both.
#include <idem/detail/random.hpp>
#include <idem/detail/redis/scripts.hpp>
#include <idem/detail/sha1.hpp>
#include <idem/make_key.hpp>
#include <idem/protocol.hpp>
#include <idem/redis_store.hpp>
#include <idem/testing/manual_clock.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "support/redis_server.hpp"

namespace {

using namespace std::chrono_literals;
using idem::Answer;
using idem::Digest;
using idem::Duration;
using idem::OwnerToken;
using idem::Ownership;
using idem::PayloadKind;
using idem::Record;
using idem::RedisStore;
using idem::State;
using idem::TimePoint;
using idem::protocol::Change;
using idem::protocol::Transition;
using Random = std::mt19937_64;

std::uint64_t below(Random& random, std::uint64_t limit) { return random() % limit; }
bool chance(Random& random, std::uint64_t in) { return below(random, in) == 0; }

/// A key's record by the rules alone.
struct Model {
  std::optional<Record> record = {};
  std::string payload = {};
  PayloadKind kind = PayloadKind::nothing;

  const Record* get() const { return record ? &*record : nullptr; }
  bool owner_gone(TimePoint now) const { return record && idem::protocol::lease_ended(*record, now); }
  void apply(const Transition& transition) {
    if (transition.change == Change::write) {
      record = transition.next;
    } else if (transition.change == Change::erase) {
      record.reset();
    }
  }
};

bool same(const Record& a, const Record& b) {
  return a.state == b.state && a.abandoned == b.abandoned && a.has_fingerprint == b.has_fingerprint &&
         a.attempt == b.attempt && a.owner == b.owner && a.started_at == b.started_at && a.finished_at == b.finished_at &&
         a.lease_until == b.lease_until && a.expires_at == b.expires_at &&
         (!a.has_fingerprint || a.fingerprint == b.fingerprint);
}

/// One key's history. Says what differed, or nothing.
class History {
 public:
  History(RedisStore& store, idem::testing::ManualClock& clock, Random& random, const idem::Key& key)
      : store_(store), clock_(clock), random_(random), key_(key) {}

  std::string run(int steps) {
    for (int i = 0; i < steps && difference_.empty(); ++i) step();
    if (difference_.empty()) look("in the end");
    return difference_;
  }

 private:
  // Minutes, so that the server's own clock ends nothing meanwhile; and microseconds, so that it's exact.
  Duration span() {
    if (chance(random_, 8)) return idem::forever;
    return std::chrono::minutes(10 + below(random_, 3)) + std::chrono::microseconds(below(random_, 3));
  }

  Ownership somebody() {
    const std::uint64_t which = below(random_, 8);
    if (which == 0) return {OwnerToken{1, 2}, 3};
    if (which == 1 && model_.record) return {model_.record->owner.token, model_.record->owner.epoch + 1};
    if (which == 2 && !owners_.empty()) return owners_[below(random_, owners_.size())];
    if (which == 3) return {};
    return model_.record ? model_.record->owner : Ownership{OwnerToken{4, 5}, 6};
  }

  void advance() {
    switch (below(random_, 4)) {
      case 0:
        break;
      case 1:
        clock_.advance(std::chrono::microseconds(below(random_, 3)));
        break;
      case 2:
        clock_.advance(std::chrono::minutes(below(random_, 13)));
        break;
      default:
        // To the very moment, or the one before it.
        if (!model_.record) break;
        for (const TimePoint end : {model_.record->lease_until, model_.record->expires_at}) {
          if (end == (TimePoint::max)() || end <= clock_.now()) continue;
          clock_.advance(end - clock_.now() - std::chrono::microseconds(below(random_, 2)));
        }
    }
  }

  void expect(const char* what, const idem::Reply& reply, const Transition& expected) {
    if (!difference_.empty()) return;
    if (reply.answer != expected.answer) {
      difference_ = std::string(what) + ": answered " + std::to_string(static_cast<int>(reply.answer)) + ", the rules say " +
                    std::to_string(static_cast<int>(expected.answer)) + " " + reply.message;
    } else if (expected.answer != Answer::absent && expected.answer != Answer::unavailable && model_.record &&
               !same(reply.record, expected.next)) {
      difference_ = std::string(what) + ": another record";
    }
  }

  void step() {
    advance();
    const TimePoint now = clock_.now();
    const bool gone = model_.owner_gone(now);
    switch (below(random_, 12)) {
      case 0:
      case 1:
      case 2:
      case 3:
        claim(now, gone);
        return;
      case 4: {
        const Ownership owner = somebody();
        const Duration lease = span();
        const Transition expected = idem::protocol::renew(model_.get(), owner, lease, now, gone);
        expect("renew", store_.renew(key_, owner, lease), expected);
        model_.apply(expected);
        return;
      }
      case 5:
      case 6:
        finish(now);
        return;
      case 7: {
        const Ownership owner = somebody();
        const Transition expected = idem::protocol::release(model_.get(), owner, now);
        expect("release", store_.release(key_, owner), expected);
        model_.apply(expected);
        return;
      }
      case 8: {
        const Ownership owner = somebody();
        const Transition expected = idem::protocol::abandon(model_.get(), owner, now);
        expect("abandon", store_.abandon(key_, owner), expected);
        model_.apply(expected);
        return;
      }
      case 9:
        resolve(now, gone);
        return;
      case 10:
        if (chance(random_, 2)) {
          look("find");
          return;
        } else {
          const Transition expected = idem::protocol::erase(model_.get(), now, gone);
          expect("erase", store_.erase(key_), expected);
          model_.apply(expected);
          return;
        }
      default:
        // A time that was there before: clocks may be set back.
        clock_.advance(-std::chrono::minutes(below(random_, 5)));
    }
  }

  static std::uint64_t wall() {
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(now).count());
  }
  /// The floor of epochs is the server's clock, which is this machine's: what the answer shows of it, where that is a
  /// time of the operation.
  static std::uint64_t floor_of(const idem::Reply& reply, std::uint64_t before) {
    const std::uint64_t epoch = reply.record.owner.epoch;
    return before <= epoch && epoch <= wall() ? epoch : before;
  }

  void claim(TimePoint now, bool gone) {
    idem::ClaimRequest request;
    request.owner = !owners_.empty() && chance(random_, 4) ? owners_[below(random_, owners_.size())].token
                                                           : idem::detail::new_owner_token();
    request.lease = span();
    Digest fingerprint;
    fingerprint.bytes[0] = static_cast<std::uint8_t>(below(random_, 2));
    if (chance(random_, 2)) request.fingerprint = &fingerprint;
    request.take_over = chance(random_, 2);
    if (chance(random_, 16)) {
      constexpr std::uint64_t edges[] = {1,
                                         (std::uint64_t{1} << 53) + 1,
                                         (std::numeric_limits<std::uint32_t>::max)(),
                                         (std::uint64_t{1} << 63) + 12345,
                                         (std::numeric_limits<std::uint64_t>::max)() - 1};
      request.epoch_above = edges[below(random_, 5)];
    }
    if (chance(random_, 8)) {
      request.complete_at_once = true;
      request.ttl = span();
    }
    const std::uint64_t before = wall();
    const idem::Reply reply = store_.claim(key_, request, nullptr);
    const std::uint64_t floor = floor_of(reply, before);
    const Transition expected = idem::protocol::claim(model_.get(), request, now, gone, floor);
    if (expected.change == Change::write) {
      model_.kind = PayloadKind::nothing;
      model_.payload.clear();
      owners_.push_back(expected.next.owner);
      model_.apply(expected);
    }
    expect("claim", reply, expected);
    if (reply.answer == Answer::completed || reply.answer == Answer::failed) check_payload("claim", reply);
  }

  void finish(TimePoint now) {
    const Ownership owner = somebody();
    idem::FinishRequest request;
    request.owner = owner;
    request.ttl = span();
    const std::string payload = some_payload(request.source);
    const State state = chance(random_, 2) ? State::completed : State::failed;
    const Transition expected = idem::protocol::finish(model_.get(), owner, state, now, request.ttl);
    const idem::Reply reply =
        state == State::completed ? store_.complete(key_, request) : store_.fail(key_, request);
    if (expected.change == Change::write) {
      model_.kind = request.source.kind;
      model_.payload = payload;
    }
    model_.apply(expected);
    expect("finish", reply, expected);
  }

  void resolve(TimePoint now, bool gone) {
    idem::Resolution found;
    found.state = chance(random_, 2) ? State::completed : State::failed;
    found.ttl = span();
    const std::string payload = some_payload(found.source);
    if (chance(random_, 2) && model_.record) found.expected_epoch = model_.record->owner.epoch + below(random_, 2);
    const std::uint64_t before = wall();
    const idem::Reply reply = store_.resolve(key_, found, "note");
    const std::uint64_t floor = floor_of(reply, before);
    // The resolver's token is the store's own choice.
    const OwnerToken resolver = reply.answer == Answer::ok ? reply.record.owner.token : OwnerToken{7, 8};
    const Transition expected =
        idem::protocol::resolve(model_.get(), found.expected_epoch, resolver, found.state, now, found.ttl, gone, floor);
    if (expected.change == Change::write) {
      model_.kind = found.source.kind;
      model_.payload = payload;
    }
    model_.apply(expected);
    expect("resolve", reply, expected);
  }

  void look(const char* what) {
    const TimePoint now = clock_.now();
    const idem::Reply reply = store_.find(key_);
    expect(what, reply, idem::protocol::find(model_.get(), now, model_.owner_gone(now)));
    if (reply.answer == Answer::completed || reply.answer == Answer::failed) check_payload(what, reply);
  }

  std::string some_payload(idem::Source& source) {
    text_.assign(below(random_, 40), static_cast<char>(below(random_, 256)));
    source.kind = chance(random_, 4) ? PayloadKind::nothing : PayloadKind::value;
    if (source.kind == PayloadKind::nothing) text_.clear();
    source.data = reinterpret_cast<const std::uint8_t*>(text_.data());
    source.size = text_.size();
    return text_;
  }

  void check_payload(const char* what, const idem::Reply& reply) {
    const std::string_view got(reinterpret_cast<const char*>(reply.payload.data()), reply.payload.size());
    if (difference_.empty() && (reply.payload.kind() != model_.kind || got != model_.payload))
      difference_ = std::string(what) + ": another payload";
  }

  RedisStore& store_;
  idem::testing::ManualClock& clock_;
  Random& random_;
  const idem::Key key_;
  Model model_ = {};
  std::vector<Ownership> owners_ = {};
  std::string text_ = {};
  std::string difference_ = {};
};

}  // namespace

TEST_CASE("T-15 RLU-04 RLU-13 T-02: in a hundred thousand random histories the scripts do what the rules say") {
  constexpr int threads = 4;
  constexpr int histories = 25'000;
  support::RedisServer server;
  std::atomic<bool> differs{false};
  std::vector<std::string> first(threads);
  std::vector<std::thread> workers;
  // A store, and so a connection, for all; a clock of its own for each history's thread isn't possible with one store.
  for (int worker = 0; worker < threads; ++worker) {
    workers.emplace_back([&, worker] {
      idem::testing::ManualClock clock;
      RedisStore store({.unix_socket = server.unix_socket(), .clock = clock});
      const auto seed = static_cast<std::uint64_t>(worker) + 1;
      Random random(seed);
      for (int i = 0; i < histories && !differs; ++i) {
        const idem::Key key = idem::make_key("scripts", worker, i);
        const std::string difference = History(store, clock, random, key).run(3 + static_cast<int>(below(random, 6)));
        if (difference.empty()) continue;
        first[static_cast<std::size_t>(worker)] =
            difference + " (worker " + std::to_string(worker) + ", history " + std::to_string(i) + ")";
        differs = true;
      }
    });
  }
  for (std::thread& worker : workers) worker.join();
  for (const std::string& difference : first) CHECK(difference == "");
}

TEST_CASE("RLU-01: a script's name is the SHA-1 of its text") {
  const auto hex = [](std::string_view text) {
    char digits[40];
    idem::detail::sha1_hex(text, digits);
    return std::string(digits, sizeof digits);
  };
  // FIPS 180-4's examples, and what lies around the block's end.
  CHECK(hex("abc") == "a9993e364706816aba3e25717850c26c9cd0d89d");
  CHECK(hex("") == "da39a3ee5e6b4b0d3255bfef95601890afd80709");
  CHECK(hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") == "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
  CHECK(hex(std::string(1'000'000, 'a')) == "34aa973cd4c4daa4f61eeb2bdbad27316534016f");

  support::RedisServer server;
  for (const bool flags : {true, false}) {
    const idem::detail::redis::Scripts scripts(flags);
    for (const auto* script : {&scripts.claim, &scripts.renew, &scripts.finish, &scripts.give_up, &scripts.resolve,
                               &scripts.find, &scripts.erase, &scripts.purge, &scripts.watch}) {
      CHECK(server.command({"SCRIPT", "LOAD", script->text}).text == std::string(script->name()));
    }
  }
}
