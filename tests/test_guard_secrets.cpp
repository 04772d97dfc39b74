// What a store, an observer and an error message may learn of arguments; secrets, and sealed results.
#include <doctest/doctest.h>

#include "support/guard_support.hpp"
#include "support/hook_store.hpp"

#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <latch>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

using namespace guard_support;
using namespace std::chrono_literals;
using idem::Answer;
using idem::Effect;
using idem::Verdict;

namespace {

constexpr const char* card = "4242424242424242";
constexpr std::string_view old_secret = "0123456789abcdef";
constexpr std::string_view new_secret = "fedcba9876543210";

std::string text_of(std::span<const std::byte> bytes) {
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

/// Not a cipher, but it has the properties that the guard sees: bytes that don't show the text, and a refusal where the
/// associated data isn't the one it was sealed with.
std::vector<std::byte> toy_seal(std::span<const std::byte> plain, std::span<const std::byte> associated) {
  std::vector<std::byte> sealed(associated.begin(), associated.end());
  for (const std::byte byte : plain) sealed.push_back(byte ^ std::byte{0x5a});
  return sealed;
}
std::optional<std::vector<std::byte>> toy_open(std::span<const std::byte> sealed, std::span<const std::byte> associated) {
  if (sealed.size() < associated.size() || text_of(sealed.first(associated.size())) != text_of(associated)) {
    return std::nullopt;
  }
  std::vector<std::byte> plain;
  for (const std::byte byte : sealed.subspan(associated.size())) plain.push_back(byte ^ std::byte{0x5a});
  return plain;
}

/// All that a guard hands to a store of bytes.
template <class S>
class Recorder : public HookStore<S> {
 public:
  explicit Recorder(S& store) : HookStore<S>(store) {}
  idem::Reply complete(const idem::Key& key, const idem::FinishRequest& request) {
    note(request);
    return HookStore<S>::complete(key, request);
  }
  idem::Reply fail(const idem::Key& key, const idem::FinishRequest& request) {
    note(request);
    return HookStore<S>::fail(key, request);
  }
  const std::string& handed() const { return *handed_; }

 private:
  void note(const idem::FinishRequest& request) {
    handed_->append(reinterpret_cast<const char*>(request.source.data), request.source.size);
    handed_->push_back('\n');
  }
  std::shared_ptr<std::string> handed_ = std::make_shared<std::string>();
};

bool holds(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

}  // namespace

TEST_CASE("SEC-01: an argument is in no record, no message and no event, however the call ends") {
  ManualClock clock;
  LeaseStore store = Leases::make(clock);
  Recorder<LeaseStore> recorder(store);
  Events events;
  std::string texts;
  const auto note = [&](const auto& outcome) {
    texts += outcome.error().message;
    texts += outcome.key().text();
    try {
      if (!outcome.has_value()) static_cast<void>(outcome.value());
    } catch (const std::exception& error) {
      texts += error.what();
    } catch (...) {
    }
  };
  idem::Options options{.on_failure = idem::OnFailure::lock, .on_conflict = idem::OnConflict::raise, .wait_timeout = 0s};
  auto charge = idem::idempotent<"charge">(
      function_of([](const std::string&, int amount) -> int {
        if (amount == 2) throw std::domain_error("declined");
        if (amount == 3) throw 42;
        return amount;
      }),
      options, recorder, idem::key_from<0, 1>, idem::observe(events));
  note(charge.try_call(card, 1));
  note(charge.try_call(card, 1));
  note(charge.try_call(card, 2));
  note(charge.try_call(card, 2));
  note(charge.try_call(card, 3));
  note(charge.try_call(card, 3));
  auto keyed = idem::idempotent<"charge keyed">(
      function_of([](int, const std::string&) { return 1; }), options, recorder,
                                                idem::key_from<0>, idem::observe(events));
  note(keyed.try_call(1, card));
  note(keyed.try_call(1, std::string(card) + "1"));
  const auto running = hold(store, charge.key(card, 9));
  note(charge.try_call(card, 9));
  REQUIRE(store.damage(charge.key(card, 1)));
  note(charge.try_call(card, 1));
  store.for_each([&](const idem::RecordView& view) {
    texts += view.text;
    texts.append(reinterpret_cast<const char*>(view.record.fingerprint.bytes), sizeof view.record.fingerprint.bytes);
  });
  for (const std::string& message : events.messages()) texts += message;
  REQUIRE(texts.size() > 100);
  CHECK_FALSE(holds(texts, card));
  CHECK_FALSE(holds(recorder.handed(), card));
  // As a number, too.
  CHECK_FALSE(holds(recorder.handed(), std::string_view("\x32\x92\x3f\xb1\x6c\x12\x0f", 7)));
}

TEST_CASE("SEC-02: with a secret, a digest can't be found by trying all arguments") {
  ManualClock clock;
  LeaseStore store = Leases::make(clock);
  const auto function = [](const std::string&) { return 1; };
  auto plain = idem::idempotent<"pan">(function, store);
  auto keyed = idem::idempotent<"pan">(function, store, idem::keyed_with(new_secret));
  auto other = idem::idempotent<"pan">(function, store, idem::keyed_with(old_secret));
  CHECK_FALSE(plain.key(card).digest() == keyed.key(card).digest());
  CHECK_FALSE(other.key(card).digest() == keyed.key(card).digest());
  CHECK_FALSE(plain.key(card).derived("gateway") == keyed.key(card).derived("gateway"));
  CHECK(keyed.key(card).digest() == idem::make_key(idem::KeySpec{.name = "pan", .secret = new_secret}, card).digest());
  CHECK(keyed.try_call(card).verdict() == Verdict::executed);
  CHECK(keyed.try_call(card).verdict() == Verdict::replayed);
  CHECK(plain.try_call(card).verdict() == Verdict::executed);
}

TEST_CASE("SEC-02: the fingerprint of the other arguments is keyed like the key") {
  ManualClock clock;
  LeaseStore store = Leases::make(clock);
  const auto function = [](int, const std::string&) { return 1; };
  const idem::Options options{.on_conflict = idem::OnConflict::raise};
  auto plain = idem::idempotent<"fingerprint">(function, options, store, idem::key_from<0>);
  auto keyed = idem::idempotent<"fingerprint">(function, options, store, idem::key_from<0>, idem::keyed_with(new_secret));
  static_cast<void>(plain(1, card));
  static_cast<void>(keyed(1, card));
  const idem::Record a = store.find(plain.key(1, card)).record;
  const idem::Record b = store.find(keyed.key(1, card)).record;
  CHECK(a.has_fingerprint);
  CHECK(b.has_fingerprint);
  CHECK_FALSE(a.fingerprint == b.fingerprint);
}

TEST_CASE("SEC-02: a secret that is empty or given twice is refused") {
  const auto function = [](int number) { return number; };
  CHECK_THROWS_AS(idem::idempotent<"no secret">(function, idem::keyed_with("")), std::invalid_argument);
  CHECK_THROWS_AS(idem::idempotent<"twice">(function, idem::keyed_with(new_secret, {.previous = new_secret})),
                  std::invalid_argument);
}

TEST_CASE_TEMPLATE("KEY-13: records of the previous secret are still found, looked up and forgotten", K, Memory, Leases,
                   AnyMemory, AnyLeases) {
  ManualClock clock;
  auto store = K::make(clock);
  int runs = 0;
  const auto function = [&](int number) { ++runs; return Receipt{number, "r"}; };
  auto before = idem::idempotent<"rotated">(function, {.wait_timeout = 0s}, store, idem::keyed_with(old_secret));
  auto after = idem::idempotent<"rotated">(function, {.wait_timeout = 0s}, store,
                                           idem::keyed_with(new_secret, {.previous = old_secret}));
  CHECK(before(1) == Receipt{1, "r"});
  const auto found = after.try_call(1);
  CHECK(found.verdict() == Verdict::replayed);
  CHECK(found.value() == Receipt{1, "r"});
  REQUIRE(after.find(1).has_value());
  CHECK(after.find(1)->verdict() == Verdict::replayed);
  CHECK(runs == 1);
  CHECK(after.forget(1));
  CHECK_FALSE(after.find(1).has_value());

  // What is running or in doubt under the previous secret is met as such.
  {
    const auto running = hold(store, before.key(2));
    CHECK(after.try_call(2).verdict() == Verdict::in_progress);
  }
  CHECK(after.try_call(2).verdict() == Verdict::in_doubt);
  CHECK(runs == 1);

  // New calls are kept where those find them who know only one of the secrets.
  CHECK(after(3) == Receipt{3, "r"});
  auto alone = idem::idempotent<"rotated">(function, {.wait_timeout = 0s}, store, idem::keyed_with(new_secret));
  CHECK(before.try_call(3).verdict() == Verdict::replayed);
  CHECK(alone.try_call(3).verdict() == Verdict::replayed);
  CHECK(after.try_call(3).verdict() == Verdict::replayed);
  CHECK(runs == 2);
}

TEST_CASE_TEMPLATE("KEY-13: the store failing for the second of two secrets means not run, and the first is given back", K,
                   Memory, Leases) {
  ManualClock clock;
  auto store = K::make(clock);
  int claims = 0;
  HookStore<typename K::Store> broken(store, [&](Op op, const idem::Key&) {
    return op == Op::claim && ++claims > 1 ? std::optional<idem::Reply>(unreachable()) : std::nullopt;
  });
  int runs = 0;
  auto once = idem::idempotent<"rotated">(function_of([&](int) { return ++runs; }), broken,
                                          idem::keyed_with(new_secret, {.previous = old_secret}));
  auto before = idem::idempotent<"rotated">(
      function_of([&](int) { return ++runs; }), store, idem::keyed_with(old_secret));
  const auto outcome = once.try_call(1);
  CHECK(outcome.verdict() == Verdict::unavailable);
  CHECK(outcome.error().effect == Effect::not_run);
  CHECK(runs == 0);
  CHECK(store.find(once.key(1)).answer == Answer::absent);
  CHECK(store.find(before.key(1)).answer == Answer::absent);
}

TEST_CASE_TEMPLATE("KEY-13: in the middle of a rotation two processes with the secrets the other way round run once", K,
                   Memory, Leases) {
  ManualClock clock;
  auto store = K::make(clock);
  // Both have claimed before either goes on, and both have looked before either acts on what it saw.
  std::latch claimed(2);
  std::latch looked(2);
  using Hooked = HookStore<typename K::Store>;
  const auto in_step = [&](Hooked& hooked) {
    struct Steps {
      std::atomic<int> claims{0};
      std::atomic<int> looks{0};
    };
    auto steps = std::make_shared<Steps>();
    hooked.after([&, steps](Op op, const idem::Key&, idem::Reply&) {
      if (op == Op::claim && steps->claims.fetch_add(1) == 0) claimed.arrive_and_wait();
      if (op == Op::find && steps->looks.fetch_add(1) == 0) looked.arrive_and_wait();
    });
  };
  Hooked first_store(store);
  Hooked second_store(store);
  in_step(first_store);
  in_step(second_store);
  std::atomic<int> runs{0};
  const auto function = [&](int) { return runs.fetch_add(1); };
  auto first = idem::idempotent<"rotated">(function, {.on_duplicate = idem::OnDuplicate::wait}, first_store,
                                           idem::keyed_with(new_secret, {.previous = old_secret}));
  auto second = idem::idempotent<"rotated">(function, {.on_duplicate = idem::OnDuplicate::wait}, second_store,
                                            idem::keyed_with(old_secret, {.previous = new_secret}));
  idem::Verdict verdicts[2] = {};
  std::thread a([&] { verdicts[0] = first.try_call(1).verdict(); });
  std::thread b([&] { verdicts[1] = second.try_call(1).verdict(); });
  a.join();
  b.join();
  CHECK(runs.load() == 1);
  CHECK((verdicts[0] == Verdict::executed) != (verdicts[1] == Verdict::executed));
}

TEST_CASE_TEMPLATE("KEY-13: many callers in the middle of a rotation run once", K, Memory, Leases) {
  constexpr int callers = 16;
  constexpr int rounds = 20;
  ManualClock clock;
  auto store = K::make(clock);
  std::atomic<int> runs{0};
  const auto function = [&](int) { return runs.fetch_add(1); };
  auto first = idem::idempotent<"rotated">(function, {.on_duplicate = idem::OnDuplicate::wait}, store,
                                           idem::keyed_with(new_secret, {.previous = old_secret}));
  auto second = idem::idempotent<"rotated">(function, {.on_duplicate = idem::OnDuplicate::wait}, store,
                                            idem::keyed_with(old_secret, {.previous = new_secret}));
  std::atomic<int> without_value{0};
  std::vector<std::thread> threads;
  std::latch start(callers);
  for (int i = 0; i < callers; ++i) {
    threads.emplace_back([&, i] {
      start.arrive_and_wait();
      for (int round = 0; round < rounds; ++round) {
        const auto outcome = i % 2 == 0 ? first.try_call(round) : second.try_call(round);
        if (!outcome.has_value()) without_value.fetch_add(1);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(runs.load() == rounds);
  CHECK(without_value.load() == 0);
}

TEST_CASE_TEMPLATE("SEC-04: results are sealed before a store sees them, and opened for duplicates", K, Leases, AnyLeases) {
  ManualClock clock;
  auto store = K::make(clock);
  Recorder<typename K::Store> recorder(store);
  int runs = 0;
  auto once = idem::idempotent<"sealed">(
      function_of([&](int number) { ++runs; return Receipt{number, "for your eyes only"}; }), recorder,
                                         idem::seal_with(toy_seal, toy_open));
  CHECK(once(1) == Receipt{1, "for your eyes only"});
  CHECK(once(1) == Receipt{1, "for your eyes only"});
  CHECK(runs == 1);
  REQUIRE(!recorder.handed().empty());
  CHECK_FALSE(holds(recorder.handed(), "for your eyes only"));

  // A guard that doesn't know the key reads nothing, and runs nothing.
  auto plain = idem::idempotent<"sealed">(function_of([&](int) { ++runs; return Receipt{}; }), recorder);
  CHECK(plain.try_call(1).verdict() == Verdict::corrupt);
  CHECK(plain.try_call(1).error().effect == Effect::ran);
  CHECK(runs == 1);
}

TEST_CASE("SEC-04: a sealed result that was moved to another key can't be opened") {
  ManualClock clock;
  LeaseStore store = Leases::make(clock);
  // The result of call 1 is handed out as if it were that of call 2.
  std::vector<std::uint8_t> stolen;
  HookStore<LeaseStore> thief(store);
  int runs = 0;
  auto once = idem::idempotent<"moved">(
      function_of([&](int) { return ++runs; }), thief, idem::seal_with(toy_seal, toy_open));
  static_cast<void>(once(1));
  static_cast<void>(once(2));
  const idem::Reply original = store.find(once.key(1));
  REQUIRE(original.payload.size() > 0);
  stolen.assign(original.payload.data(), original.payload.data() + original.payload.size());
  thief.after([&](Op op, const idem::Key&, idem::Reply& reply) {
    if (op == Op::claim) reply.payload = idem::Payload(idem::PayloadKind::value, stolen.data(), stolen.size());
  });
  CHECK(once.try_call(1).verdict() == Verdict::replayed);
  const auto outcome = once.try_call(2);
  CHECK(outcome.verdict() == Verdict::corrupt);
  CHECK(outcome.error().effect == Effect::ran);
  CHECK(runs == 2);
}

TEST_CASE("SEC-05: messages of kept failures are sealed as well") {
  ManualClock clock;
  LeaseStore store = Leases::make(clock);
  Recorder<LeaseStore> recorder(store);
  auto once = idem::idempotent<"sealed failure">(
      function_of([](int) -> int { throw std::domain_error("the customer's name is Erika"); }),
      {.on_failure = idem::OnFailure::lock},
      recorder, idem::seal_with(toy_seal, toy_open));
  CHECK_THROWS_AS(once(1), std::domain_error);
  REQUIRE(!recorder.handed().empty());
  CHECK_FALSE(holds(recorder.handed(), "Erika"));
  CHECK_THROWS_WITH_AS(once(1), "the customer's name is Erika", std::domain_error);
}

TEST_CASE("SEC-04: a seal that throws or refuses costs the result, never the call") {
  ManualClock clock;
  LeaseStore store = Leases::make(clock);
  int runs = 0;
  auto once = idem::idempotent<"broken seal">(
      function_of([&](int) { return ++runs; }), store,
      idem::seal_with(
          [](std::string_view, std::string_view) -> std::string { throw std::runtime_error("no key"); },
          [](std::string_view sealed, std::string_view) { return std::string(sealed); }));
  CHECK(once(1) == 1);
  CHECK(once.try_call(1).verdict() == Verdict::unrecorded);
  CHECK(runs == 1);
}

TEST_CASE("KEY-13: a doubt outlives the change of a secret, under both keys") {
  idem::MemoryStore store;
  int runs = 0;
  const auto charge = [&runs](int) -> int {
    ++runs;
    throw 42;
  };
  const auto guard = [&](const auto&... extras) { return idem::idempotent<"doubtful">(charge, store, extras...); };
  const auto call = [](const auto& once) {
    return once.try_call(1).verdict();
  };
  CHECK(call(guard(idem::keyed_with("old secret 0123"))) == idem::Verdict::failed);
  CHECK(call(guard(idem::keyed_with("old secret 0123", {.previous = "new secret 0123"}))) == idem::Verdict::in_doubt);
  CHECK(call(guard(idem::keyed_with("new secret 0123", {.previous = "old secret 0123"}))) == idem::Verdict::in_doubt);
  CHECK(call(guard(idem::keyed_with("new secret 0123"))) == idem::Verdict::in_doubt);
  CHECK(runs == 1);
}

TEST_CASE("KEY-13: attempts and fencing tokens go on while a secret is changed") {
  idem::MemoryStore store;
  std::uint64_t token = 0;
  std::uint32_t attempt = 0;
  const auto charge = [&](int, idem::Context& run) -> int {
    CHECK(run.fencing_token() > token);
    CHECK(run.attempt() == attempt + 1);
    token = run.fencing_token();
    attempt = run.attempt();
    throw std::runtime_error("nothing happened");
  };
  const auto guard = [&](idem::Options options, const auto&... extras) {
    return idem::idempotent<"taken over">(charge, options, store, extras...);
  };
  const idem::Options doubt{.on_failure = idem::OnFailure::in_doubt, .on_in_doubt = idem::OnInDoubt::rerun};
  const auto before = guard(doubt, idem::keyed_with("old secret 0123"));
  for (int i = 0; i < 3; ++i) CHECK(before.try_call(1).verdict() == idem::Verdict::failed);
  const auto during = guard({.on_in_doubt = idem::OnInDoubt::rerun},
                            idem::keyed_with("new secret 0123", {.previous = "old secret 0123"}));
  const auto outcome = during.try_call(1);
  CHECK(outcome.verdict() == idem::Verdict::failed);
  CHECK(outcome.error().effect == idem::Effect::unknown);
  CHECK(outcome.attempt() == 4);
}
