// T-05 to T-07, T-74, T-75, RFT-10, RFT-12, TIM-06, CORE-10: leases that are renewed in the background, and debts.
#include <doctest/doctest.h>

#include "support/process_support.hpp"

#include <idem/context.hpp>
#include <idem/detail/random.hpp>
#include <idem/detail/redis/debts.hpp>
#include <idem/detail/redis/lease_keeper.hpp>
#include <idem/detail/redis/leases.hpp>
#include <idem/testing/gate.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <thread>
#include <utility>
#include <vector>

using idem::Digest;
using idem::Ownership;
using idem::detail::boot_micros;
using idem::testing::Gate;
using process_support::Child;
using process_support::eventually;
using process_support::Shared;
namespace redis = idem::detail::redis;
using redis::Debts;
using redis::Leases;
using redis::Owed;
using redis::Renewal;
using Result = redis::Renewal::Result;

namespace {

constexpr std::int64_t second = 1'000'000;
constexpr std::int64_t lease = 30 * second;

Digest digest(int number) {
  Digest made;
  std::memcpy(made.bytes, &number, sizeof number);
  return made;
}

Ownership owner(int number) {
  return {{1, static_cast<std::uint64_t>(number)}, static_cast<std::uint64_t>(number)};
}
int number_of(const Ownership& of) {
  return static_cast<int>(of.epoch);
}

/// A clock that stands still until the test moves it on.
struct TestClock {
  std::atomic<std::int64_t>* time;

  std::int64_t now() const noexcept { return time->load(); }
  std::int64_t longest_nap() const noexcept { return 500; }
  // So that the watches are told by it until when a lease is sure.
  bool is_boot() const noexcept { return true; }
};

/// An engine whose answers the test gives, and that remembers what it was asked.
struct FakeEngine {
  std::function<void(Renewal&, std::int64_t until)> on_renew = [](Renewal&, std::int64_t) {};
  std::function<bool(const Owed&, std::int64_t until)> on_pay = [](const Owed&, std::int64_t) { return true; };

  void renew(Renewal* batch, std::size_t count, std::int64_t until) noexcept {
    for (std::size_t i = 0; i < count; ++i) on_renew(batch[i], until);
    const std::lock_guard guard(mutex);
    batches.push_back(count);
    for (std::size_t i = 0; i < count; ++i) ++renewals[static_cast<std::size_t>(number_of(batch[i].owner)) % 100];
  }
  bool pay(const Owed& owed, std::int64_t until) noexcept {
    const bool answered = on_pay(owed, until);
    const std::lock_guard guard(mutex);
    tries.push_back(owed);
    return answered;
  }

  std::size_t asked(int number) {
    const std::lock_guard guard(mutex);
    return renewals[static_cast<std::size_t>(number)];
  }
  std::size_t calls() {
    const std::lock_guard guard(mutex);
    return batches.size();
  }
  std::size_t tried() {
    const std::lock_guard guard(mutex);
    return tries.size();
  }

  std::mutex mutex;
  std::vector<std::size_t> batches;
  std::vector<Owed> tries;
  std::size_t renewals[100] = {};
};

struct Watch final : idem::LeaseWatch {
  std::atomic<int> told{0};
  std::atomic<std::int64_t> sure{0};
  std::function<void()> on_lost = [] {};

  void lost() noexcept override {
    on_lost();
    told.fetch_add(1);
  }
  void sure_until(std::int64_t until) noexcept override { sure = until; }
};

/// A keeper at time zero, whose engine renews from the moment on at which it's asked.
struct Scene {
  std::atomic<std::int64_t> time{0};
  FakeEngine engine;
  std::optional<redis::LeaseKeeper<FakeEngine, TestClock>> keeper;

  Scene() {
    engine.on_renew = [this](Renewal& renewal, std::int64_t) { grant(renewal); };
    keeper.emplace(engine, 5 * second, TestClock{&time});
  }

  void grant(Renewal& renewal) const {
    renewal.result = Result::renewed;
    renewal.valid_until = time.load() + renewal.lease;
  }
  bool add(int number, idem::LeaseWatch* watch, std::int64_t length = lease) {
    return keeper->add(digest(number), owner(number), length, time.load() + length, watch);
  }
};

/// One lease from time zero.
Leases holding(int number = 1) {
  Leases leases;
  CHECK(leases.add(digest(number), owner(number), lease, lease, 0));
  return leases;
}

std::vector<Renewal> take(Leases& leases, std::int64_t now) {
  std::vector<Renewal> batch;
  leases.take_due(batch, now);
  return batch;
}

void answer(Leases& leases, std::vector<Renewal> batch, Result result, std::int64_t valid_until, std::int64_t now) {
  for (Renewal& renewal : batch) {
    renewal.result = result;
    renewal.valid_until = valid_until;
  }
  leases.renewed(batch, now);
}

bool is_lost(Leases& leases, std::int64_t now) {
  Ownership lost;
  return leases.take_lost(lost, now);
}

}  // namespace

TEST_CASE("a heap of times gives the earliest first, whatever is changed and taken out") {
  struct Thing {
    redis::TimeSlot slot = {};
  };
  std::mt19937 random(7);
  std::vector<Thing> things(200);
  redis::TimeHeap<Thing, &Thing::slot> heap;
  heap.reserve(things.size());
  for (int round = 0; round < 20'000; ++round) {
    Thing& thing = things[random() % things.size()];
    if (random() % 3 == 0) {
      heap.remove(thing);
      REQUIRE_FALSE(thing.slot.queued());
    } else {
      heap.put(thing, static_cast<std::int64_t>(random() % 1000));
    }
    std::size_t queued = 0;
    const Thing* least = nullptr;
    for (const Thing& other : things) {
      if (!other.slot.queued()) continue;
      ++queued;
      if (least == nullptr || other.slot.at < least->slot.at) least = &other;
    }
    REQUIRE(heap.size() == queued);
    REQUIRE((heap.first() == nullptr) == (least == nullptr));
    if (least != nullptr) REQUIRE(heap.first()->slot.at == least->slot.at);
  }
}

TEST_CASE("TIM-06: a lease is renewed once a third of it has passed, also one of 100 milliseconds") {
  for (const std::int64_t length : {std::int64_t{100'000}, lease}) {
    Leases leases;
    CHECK(leases.add(digest(1), owner(1), length, length, 0));
    CHECK(leases.next_renewal() == length / 3);
    CHECK(take(leases, length / 3 - 1).empty());
    std::vector<Renewal> batch = take(leases, length / 3);
    REQUIRE(batch.size() == 1);
    CHECK(batch[0].lease == length);
    CHECK(batch[0].owner == owner(1));
    CHECK(batch[0].key == digest(1));
    const std::int64_t sent = length / 3;
    answer(leases, batch, Result::renewed, sent + length, sent + 5);
    CHECK(leases.next_end() == sent + length);
    CHECK(leases.next_renewal() == sent + 5 + length / 3);
    CHECK_FALSE(is_lost(leases, sent + length - 1));
    CHECK(is_lost(leases, sent + length));
  }
}

TEST_CASE("T-05 RFT-12: a lease whose renewal is refused is lost at once, and is lost once") {
  Leases leases = holding();
  answer(leases, take(leases, 10 * second), Result::stale, 0, 10 * second);
  CHECK(is_lost(leases, 10 * second));
  CHECK_FALSE(is_lost(leases, 100 * second));
  CHECK(leases.next_renewal() == redis::never);
}

TEST_CASE("T-06: a renewal that comes back when the lease has ended counts for nothing, whatever it says") {
  for (const bool before_told : {true, false}) {
    Leases leases = holding();
    const std::vector<Renewal> batch = take(leases, 10 * second);
    if (!before_told) CHECK(is_lost(leases, lease));
    answer(leases, batch, Result::renewed, 10 * second + lease, lease);
    CHECK(is_lost(leases, lease) == before_told);
    CHECK(leases.next_renewal() == redis::never);
    CHECK(leases.next_end() == redis::never);
  }
}

TEST_CASE("T-07: a renewal without an answer is tried again, sooner and sooner, until the lease really ends") {
  Leases leases = holding();
  std::vector<std::int64_t> pauses;
  std::int64_t now = leases.next_renewal();
  while (now < lease) {
    const std::vector<Renewal> batch = take(leases, now);
    REQUIRE(batch.size() == 1);
    REQUIRE_FALSE(is_lost(leases, now));
    answer(leases, batch, Result::no_answer, 0, now);
    pauses.push_back(leases.next_renewal() - now);
    now = leases.next_renewal();
  }
  CHECK(pauses.size() > 20);
  CHECK(std::is_sorted(pauses.rbegin(), pauses.rend()));
  CHECK(pauses.front() == second);
  CHECK(pauses.back() == 20'000);
  CHECK_FALSE(is_lost(leases, lease - 1));
  // An answer that comes in time after all is as good as any.
  Leases saved = holding();
  answer(saved, take(saved, 10 * second), Result::no_answer, 0, 15 * second);
  const std::int64_t again = saved.next_renewal();
  answer(saved, take(saved, again), Result::renewed, again + lease, again);
  CHECK_FALSE(is_lost(saved, again + lease - 1));
  CHECK(saved.next_renewal() == again + lease / 3);
}

TEST_CASE("T-07: that the run is over when a renewal finds it so is no loss") {
  Leases leases = holding();
  const std::vector<Renewal> batch = take(leases, 10 * second);
  leases.settle(owner(1));
  answer(leases, batch, Result::stale, 0, 10 * second);
  CHECK_FALSE(is_lost(leases, 100 * second));
  // Until the store has answered, its lease is still renewed: the run may go on to be told.
  Leases slow = holding();
  slow.settle(owner(1));
  CHECK(take(slow, 10 * second).size() == 1);
}

TEST_CASE("all that are due go in one batch, and what isn't answered delays no shorter lease") {
  Leases leases;
  constexpr int count = 5000;
  for (int i = 1; i <= count; ++i) REQUIRE(leases.add(digest(i), owner(i), lease, lease, 0));
  CHECK(leases.patience() == lease / 2);
  std::vector<Renewal> batch = take(leases, 10 * second);
  CHECK(batch.size() == count);
  CHECK(take(leases, 10 * second).empty());
  answer(leases, batch, Result::no_answer, 0, 10 * second);
  CHECK(leases.next_renewal() == 11 * second);
  REQUIRE(leases.add(digest(0), owner(count + 1), 100'000, 10 * second + 100'000, 10 * second));
  CHECK(leases.patience() == 50'000);
  CHECK(leases.next_renewal() <= 10 * second + 33'333);
  CHECK(take(leases, 10 * second + 33'333).size() == count + 1);
  CHECK(leases.remove(owner(count + 1)));
  CHECK_FALSE(leases.remove(owner(count + 1)));
  CHECK(leases.patience() == lease / 2);
  for (int i = 1; i <= count; ++i) REQUIRE(leases.remove(owner(i)));
  CHECK(leases.size() == 0);
  CHECK(leases.next_end() == redis::never);
}

TEST_CASE("a lease without an end is neither renewed nor lost") {
  Leases leases;
  CHECK(leases.add(digest(1), owner(1), lease, redis::never, 0));
  CHECK(leases.next_renewal() == redis::never);
  CHECK(leases.next_end() == redis::never);
}

TEST_CASE("RFT-12: a held lease is renewed again and again, and its watch knows until when it is sure") {
  Watch watch;
  Scene scene;
  REQUIRE(scene.add(1, &watch));
  CHECK(watch.sure == lease);
  for (std::size_t round = 1; round <= 20; ++round) {
    scene.time += 10 * second;
    REQUIRE(eventually([&] { return watch.sure == scene.time + lease; }));
    CHECK(scene.engine.asked(1) == round);
  }
  scene.keeper->end(owner(1));
  scene.time += 100 * second;
  CHECK(watch.told == 0);
}

TEST_CASE("T-06 T-74: a lost lease is told in time while its renewal, and what is owed, hang") {
  for (const bool paying : {false, true}) {
    Watch watch;
    Scene scene;
    Gate gate;
    const auto hang = [&] { gate.pass(); };
    scene.engine.on_renew = [&](Renewal&, std::int64_t) { hang(); };
    scene.engine.on_pay = [&](const Owed&, std::int64_t) {
      hang();
      return true;
    };
    REQUIRE(scene.add(1, &watch));
    if (paying) {
      CHECK(scene.keeper->owe({digest(2), owner(2)}));
    } else {
      scene.time = 10 * second;
    }
    REQUIRE(gate.wait_until_reached());
    scene.time = lease;
    CHECK(eventually([&] { return watch.told == 1; }));
    gate.open();
    scene.keeper.reset();
    CHECK(watch.told == 1);
  }
}

TEST_CASE("T-06: no call of the engine may last longer than other leases can wait") {
  Watch watch;
  Scene scene;
  std::atomic<std::int64_t> renewing{0};
  std::atomic<std::int64_t> paying{0};
  scene.engine.on_renew = [&](Renewal& renewal, std::int64_t until) {
    renewing = until - scene.time;
    scene.grant(renewal);
  };
  scene.engine.on_pay = [&](const Owed&, std::int64_t until) {
    paying = until - scene.time;
    return true;
  };
  REQUIRE(scene.add(1, &watch));
  REQUIRE(scene.keeper->owe({digest(3), owner(3)}));
  REQUIRE(eventually([&] { return scene.engine.tried() == 1; }));
  CHECK(paying == 5 * second);
  REQUIRE(scene.add(2, &watch, 100'000));
  scene.time += 33'333;
  REQUIRE(eventually([&] { return scene.engine.asked(2) == 1; }));
  CHECK(renewing == 50'000);
  REQUIRE(scene.keeper->owe({digest(3), owner(3)}));
  REQUIRE(eventually([&] { return scene.engine.tried() == 2; }));
  CHECK(paying == 25'000);
  scene.keeper.reset();
}

TEST_CASE("T-05 T-75: after a loss nothing more is asked of the store for that lease, and others go on") {
  Watch lost;
  Watch kept;
  Scene scene;
  scene.engine.on_renew = [&](Renewal& renewal, std::int64_t) {
    if (number_of(renewal.owner) == 1) {
      renewal.result = Result::stale;
    } else {
      scene.grant(renewal);
    }
  };
  REQUIRE(scene.add(1, &lost));
  REQUIRE(scene.add(2, &kept));
  scene.time = 10 * second;
  REQUIRE(eventually([&] { return lost.told == 1 && kept.sure == scene.time + lease; }));
  for (std::size_t round = 2; round <= 10; ++round) {
    scene.time += 10 * second;
    REQUIRE(eventually([&] { return kept.sure == scene.time + lease; }));
    CHECK(scene.engine.asked(2) == round);
  }
  CHECK(scene.engine.asked(1) == 1);
  CHECK(scene.engine.tried() == 0);
  scene.keeper->end(owner(1));
  scene.keeper.reset();
  CHECK(lost.told == 1);
  CHECK(kept.told == 0);
}

TEST_CASE("T-07 RFT-12: while the store can't be reached the lease is held, and lost when it ends") {
  Watch watch;
  Scene scene;
  scene.engine.on_renew = [](Renewal&, std::int64_t) {};
  REQUIRE(scene.add(1, &watch));
  scene.time = 10 * second;
  REQUIRE(eventually([&] { return scene.engine.calls() >= 1; }));
  REQUIRE(eventually([&] {
    if (scene.time < lease - second) scene.time += second / 10;
    return scene.time >= lease - second;
  }));
  CHECK(watch.told == 0);
  scene.time = lease;
  CHECK(eventually([&] { return watch.told == 1; }));
}

TEST_CASE("a watch is called without a lock, and may use the keeper") {
  Watch watch;
  Watch other;
  Scene scene;
  watch.on_lost = [&] {
    scene.keeper->end(owner(1));
    CHECK(scene.add(2, &other));
    CHECK(scene.keeper->owe({digest(1), owner(1), Owed::Kind::abandon}));
  };
  REQUIRE(scene.add(1, &watch));
  scene.time = 10 * lease;
  CHECK(eventually([&] { return watch.told == 1 && scene.engine.tried() == 1; }));
  scene.keeper.reset();
}

TEST_CASE("a watch that blocks keeps no other lease from being renewed, and whoever ends its run waits for it") {
  Watch watch;
  Watch other;
  Scene scene;
  Gate gate;
  watch.on_lost = [&] { gate.pass(); };
  scene.engine.on_renew = [&](Renewal& renewal, std::int64_t) {
    if (number_of(renewal.owner) == 1) {
      renewal.result = Result::stale;
    } else {
      scene.grant(renewal);
    }
  };
  REQUIRE(scene.add(1, &watch));
  REQUIRE(scene.add(2, &other));
  scene.time = 10 * second;
  REQUIRE(gate.wait_until_reached());
  std::atomic<bool> ended{false};
  std::thread ending([&] {
    scene.keeper->end(owner(1));
    CHECK(watch.told == 1);
    ended = true;
  });
  for (int round = 1; round <= 5; ++round) {
    REQUIRE(eventually([&] { return other.sure == scene.time + lease; }));
    scene.time += 10 * second;
  }
  CHECK_FALSE(ended);
  gate.open();
  ending.join();
}

TEST_CASE("T-75: many threads acquire and end, and no watch is called after its end") {
  Scene scene;
  scene.engine.on_renew = [&](Renewal& renewal, std::int64_t) {
    if (renewal.owner.token.lo % 3 == 0) return;
    scene.grant(renewal);
    if (renewal.owner.token.lo % 3 == 1) renewal.result = Result::stale;
  };
  std::atomic<bool> over{false};
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      for (int i = 0; i < 2000; ++i) {
        const int number = 1 + thread + 4 * i;
        // Gone as soon as its run has ended: AddressSanitizer and ThreadSanitizer see a call that comes later.
        auto watch = std::make_unique<Watch>();
        if (!scene.add(number, watch.get(), 100'000)) std::abort();
        if (i % 2 == 0) std::this_thread::yield();
        scene.keeper->settle(owner(number));
        scene.keeper->end(owner(number));
      }
    });
  }
  std::thread moving([&] {
    while (!over) {
      scene.time += 20'000;
      std::this_thread::yield();
    }
  });
  for (std::thread& thread : threads) thread.join();
  over = true;
  moving.join();
}

TEST_CASE("CORE-10: what can't be told the store is remembered, and tried until the store answers") {
  Scene scene;
  std::atomic<bool> reachable{false};
  scene.engine.on_pay = [&](const Owed&, std::int64_t) { return reachable.load(); };
  CHECK_FALSE(scene.keeper->owes(digest(1)));
  REQUIRE(scene.keeper->owe({digest(1), owner(1), Owed::Kind::release}));
  REQUIRE(scene.keeper->owe({digest(2), owner(2), Owed::Kind::abandon}));
  for (int round = 0; round < 5; ++round) {
    const std::size_t before = scene.engine.tried();
    REQUIRE(eventually([&] {
      scene.time += second / 10;
      return scene.engine.tried() > before;
    }));
    CHECK(scene.keeper->owes(digest(1)));
    CHECK(scene.keeper->owes(digest(2)));
    CHECK_FALSE(scene.keeper->owes(digest(3)));
    CHECK(scene.keeper->debts() == 2);
  }
  reachable = true;
  scene.time += second;
  CHECK(eventually([&] {
    scene.time += second;
    return scene.keeper->debts() == 0;
  }));
  CHECK_FALSE(scene.keeper->owes(digest(1)));
  const std::size_t tried = scene.engine.tried();
  scene.keeper.reset();
  CHECK(scene.engine.tried() == tried);
}

TEST_CASE("CORE-10: debts are tried at first at once, then with pauses of up to a second") {
  Debts debts;
  REQUIRE(debts.add({digest(1), owner(1)}, 0));
  std::int64_t now = 0;
  std::vector<std::int64_t> pauses;
  CHECK(debts.next() == 0);
  for (int round = 0; round < 10; ++round) {
    debts.tried(*debts.first(), false, now);
    pauses.push_back(debts.next() - now);
    now = debts.next();
  }
  CHECK(pauses.front() == 20'000);
  CHECK(std::is_sorted(pauses.begin(), pauses.end()));
  CHECK(pauses.back() == second);
  // One that fails doesn't keep others from their turn.
  REQUIRE(debts.add({digest(2), owner(2)}, now));
  debts.tried(*debts.first(), false, now);
  now = debts.next();
  CHECK(debts.first()->owed.key == digest(2));
  debts.tried(*debts.first(), true, now);
  CHECK_FALSE(debts.owes(digest(2)));
  CHECK(debts.owes(digest(1)));
}

TEST_CASE("CORE-10: a claim whose answer was lost is released twice, and owed once") {
  Debts debts;
  const Ownership token_only = {{7, 7}, 0};
  REQUIRE(debts.add({digest(1), token_only, Owed::Kind::release}, 0));
  REQUIRE(debts.add({digest(1), owner(1), Owed::Kind::release}, 5));
  CHECK(debts.first()->owed.owner == token_only);
  debts.tried(*debts.first(), true, 10);
  CHECK(debts.owes(digest(1)));  // the other one
  debts.tried(*debts.first(), true, 10);
  CHECK_FALSE(debts.owes(digest(1)));
  CHECK(debts.none());
  REQUIRE(debts.first() != nullptr);
  CHECK(debts.next() == 10 + second);
  CHECK(debts.first()->owed.owner == token_only);
  debts.tried(*debts.first(), true, 10 + second);
  CHECK(debts.first() == nullptr);
}

TEST_CASE("CORE-10: when the store ends, each debt is tried once more and no longer than one timeout") {
  Scene scene;
  std::atomic<int> last{0};
  std::atomic<bool> ending{false};
  scene.engine.on_pay = [&](const Owed&, std::int64_t until) {
    if (!ending) return false;
    CHECK(until == scene.time + 5 * second - 2 * second * last);
    scene.time += 2 * second;
    last.fetch_add(1);
    return false;
  };
  for (int i = 0; i < 10; ++i) REQUIRE(scene.keeper->owe({digest(i), owner(i + 1)}));
  REQUIRE(eventually([&] { return scene.engine.tried() >= 1; }));
  ending = true;
  scene.keeper.reset();
  CHECK(last >= 3);
  CHECK(last <= 4);
}

#if !defined(_WIN32)

TEST_CASE("HIR-07 CXX-12: a child that was forked while the keeper works may destroy it") {
  for (int round = 0; round < 10; ++round) {
    Watch watch;
    Scene scene;
    scene.engine.on_pay = [](const Owed&, std::int64_t) { return false; };
    for (int i = 1; i < 50; ++i) REQUIRE(scene.add(i, &watch, 100'000));
    REQUIRE(scene.keeper->owe({digest(1), owner(1)}));
    scene.time += 40'000;
    Child child([&] {
      scene.keeper.reset();
      return 0;
    });
    CHECK(child.wait() == 0);
  }
}

namespace {

/// Renews at once, by the real clock, and says so to other processes.
struct GrantingEngine {
  std::atomic<std::int64_t>* sure;

  void renew(Renewal* batch, std::size_t count, std::int64_t) noexcept {
    for (std::size_t i = 0; i < count; ++i) {
      batch[i].valid_until = boot_micros() + batch[i].lease;
      batch[i].result = Result::renewed;
      *sure = batch[i].valid_until;
    }
  }
  bool pay(const Owed&, std::int64_t) noexcept { return true; }
};

}  // namespace

TEST_CASE("RFT-10 TIM-06 T-74: a process that was stopped for longer than its lease knows so at its first look") {
  struct Facts {
    std::atomic<std::int64_t> sure{0};
    std::atomic<bool> renewed{false};
    std::atomic<bool> resumed{false};
  };
  Shared<Facts> facts;
  Child child([&] {
    GrantingEngine engine{&facts->sure};
    redis::LeaseKeeper<GrantingEngine> keeper(engine, second);
    idem::detail::LeaseState state;
    const std::int64_t first = boot_micros() + 100'000;
    facts->sure = first;
    if (!keeper.add(digest(1), owner(1), 100'000, first, &state)) return 1;
    for (;;) {
      const bool resumed = facts->resumed;
      const bool lost = state.is_lost();
      if (resumed) ::_exit(lost ? 0 : 2);
      // A machine that is busy may stop this process for as long by itself.
      if (lost) ::_exit(boot_micros() >= first ? 0 : 3);
      if (facts->sure != first) facts->renewed = true;
    }
  });
  const auto ended = [&] {
    siginfo_t info = {};
    return ::waitid(P_PID, static_cast<id_t>(child.pid()), &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid != 0;
  };
  REQUIRE(eventually([&] { return facts->renewed || ended(); }));
  if (facts->renewed) {
    child.kill(SIGSTOP);
    siginfo_t stopped = {};
    REQUIRE(::waitid(P_PID, static_cast<id_t>(child.pid()), &stopped, WSTOPPED | WEXITED | WNOWAIT) == 0);
    REQUIRE(eventually([&] { return boot_micros() > facts->sure; }));
    facts->resumed = true;
    child.kill(SIGCONT);
  }
  CHECK(child.wait() == 0);
}

#endif
