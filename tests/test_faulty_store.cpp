// FaultyStore fails where it's told to, and keeps the promise about what couldn't be carried out.
#include <idem/make_key.hpp>
#include <idem/memory_store.hpp>
#include <idem/testing/faulty_store.hpp>
#include <idem/testing/lease_store.hpp>
#include <idem/testing/manual_clock.hpp>
#include <idem/testing/recording_observer.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <thread>

namespace {

using idem::Answer;
using idem::Key;
using idem::Ownership;
using idem::Reply;
using idem::testing::Fault;
using idem::testing::FaultyStore;
using idem::testing::LeaseStore;
using idem::testing::Operation;

struct Fixture {
  FaultyStore<LeaseStore> store{LeaseStore{}};
  Key key = idem::make_key("faulty", 1);

  static idem::ClaimRequest request() {
    idem::ClaimRequest request;
    request.owner = idem::detail::new_owner_token();
    request.lease = std::chrono::seconds(30);
    return request;
  }
  Reply claim() { return store.claim(key, request(), nullptr); }
  Answer complete(const Ownership& owner) { return store.complete(key, {owner, idem::forever, {}}).answer; }
};

}  // namespace

TEST_CASE_FIXTURE(Fixture, "SIM-05: a call that is made to fail isn't carried out, and the ones around it are") {
  store.inject(Operation::claim, Fault::unavailable, 2, 1);
  const idem::ClaimRequest mine = request();
  CHECK(store.claim(key, mine, nullptr).answer == Answer::acquired);
  const Reply failed = claim();
  CHECK(failed.answer == Answer::unavailable);
  CHECK_FALSE(failed.message.empty());
  CHECK(claim().answer == Answer::unavailable);
  CHECK(claim().answer == Answer::running);
  CHECK(store.calls(Operation::claim) == 4);
  CHECK(store.inner().find(key).record.owner.token == mine.owner);

  store.inject(Operation::complete, Fault::stale);
  const Ownership owner = store.find(key).record.owner;
  CHECK(complete(owner) == Answer::stale);
  CHECK(store.find(key).answer == Answer::running);
  store.inject(Operation::find, Fault::corrupt);
  CHECK(store.find(key).answer == Answer::corrupt);
  CHECK(complete(owner) == Answer::ok);
}

TEST_CASE_FIXTURE(Fixture, "T-12 T-27: a lost answer leaves the operation done, and asking again is safe") {
  const Ownership owner = claim().record.owner;
  store.inject(Operation::complete, Fault::lost_answer);
  CHECK(complete(owner) == Answer::unavailable);
  CHECK(store.inner().find(key).answer == Answer::completed);
  CHECK(complete(owner) == Answer::ok);
}

TEST_CASE_FIXTURE(Fixture, "T-12: a claim whose answer was lost is given back, unless its claimer asks again") {
  store.inject(Operation::claim, Fault::lost_answer);
  store.inject(Operation::release, Fault::unavailable, idem::testing::always);
  const idem::ClaimRequest mine = request();
  CHECK(store.claim(key, mine, nullptr).answer == Answer::unavailable);
  CHECK(store.pending() == 1);
  CHECK(claim().answer == Answer::in_doubt);
  CHECK(store.claim(key, mine, nullptr).answer == Answer::acquired);
  CHECK(store.pending() == 0);

  const Key other = idem::make_key("faulty", 2);
  store.recover();
  store.inject(Operation::claim, Fault::lost_answer);
  CHECK(store.claim(other, request(), nullptr).answer == Answer::unavailable);
  CHECK(store.claim(other, request(), nullptr).answer == Answer::acquired);
}

TEST_CASE_FIXTURE(Fixture, "CORE-10: what can't be abandoned is in doubt here at once, and later everywhere") {
  const Ownership owner = claim().record.owner;
  store.go_down();
  CHECK(store.abandon(key, owner).answer == Answer::unavailable);
  CHECK(store.inner().find(key).answer == Answer::running);
  CHECK(claim().answer == Answer::in_doubt);
  store.recover();
  CHECK(store.find(key).answer == Answer::in_doubt);
  CHECK(store.inner().find(key).answer == Answer::in_doubt);
  CHECK(store.pending() == 0);
}

TEST_CASE_FIXTURE(Fixture, "SIM-05: a key can be found running, in doubt, or taken over") {
  REQUIRE(store.put_running(key));
  CHECK(claim().answer == Answer::running);
  CHECK_FALSE(store.put_running(key));
  const Key doubtful = idem::make_key("faulty", 3);
  REQUIRE(store.put_in_doubt(doubtful));
  CHECK(store.claim(doubtful, request(), nullptr).answer == Answer::in_doubt);

  const Key stolen = idem::make_key("faulty", 4);
  CHECK_FALSE(store.take_over(stolen));
  const Reply mine = store.claim(stolen, request(), nullptr);
  REQUIRE(store.take_over(stolen));
  CHECK(store.complete(stolen, {mine.record.owner, idem::forever, {}}).answer == Answer::stale);
}

TEST_CASE_FIXTURE(Fixture, "RFT-12: the owner is told when its key is taken over, and never after it is done") {
  struct Watch final : idem::LeaseWatch {
    std::atomic<int> times{0};
    void lost() noexcept override { times.fetch_add(1); }
  };
  Watch told;
  Watch done;
  const Key other = idem::make_key("faulty", 5);
  store.claim(key, request(), &told);
  const Ownership owner = store.claim(other, request(), &done).record.owner;
  REQUIRE(store.take_over(key));
  CHECK(told.times == 1);
  // The store inside never learns that the other one is done; its watch is left alone all the same.
  store.go_down();
  CHECK(store.complete(other, {owner, idem::forever, {}}).answer == Answer::unavailable);
  store.inner().abandon(other, owner);
  store.inner().erase(other);
  store.inner().renew_all(std::chrono::seconds(30));
  CHECK(done.times == 0);
}

TEST_CASE_FIXTURE(Fixture, "SIM-05: an operation can be stopped before it is carried out, and before it answers") {
  const Ownership owner = claim().record.owner;
  const idem::testing::Gate before = store.stop_before(Operation::complete);
  const idem::testing::Gate after = store.stop_after(Operation::complete);
  std::thread runner([&] { CHECK(complete(owner) == Answer::ok); });
  CHECK(before.wait_until_reached());
  CHECK(claim().answer == Answer::running);
  before.open();
  CHECK(after.wait_until_reached());
  CHECK(claim().answer == Answer::completed);
  after.open();
  runner.join();
}

TEST_CASE("SIM-05: a peek hides nothing that a test asked for") {
  FaultyStore store{idem::MemoryStore{}};
  const Key key = idem::make_key("faulty", 1);
  const Ownership owner = store.claim(key, Fixture::request(), nullptr).record.owner;
  REQUIRE(store.complete(key, {owner, idem::forever, {}}).answer == Answer::ok);
  CHECK(store.peek(key, nullptr).answer == Answer::completed);
  store.inject(Operation::claim, Fault::unavailable);
  CHECK(store.peek(key, nullptr).answer == Answer::absent);
}

TEST_CASE("SER-02: a record that is damaged is corrupt, is never taken for absent, and stays") {
  LeaseStore store;
  const Key key = idem::make_key("damaged", 1);
  CHECK_FALSE(store.damage(key));
  const Ownership owner = store.claim(key, Fixture::request(), nullptr).record.owner;
  REQUIRE(store.complete(key, {owner, idem::forever, {}}).answer == Answer::ok);
  REQUIRE(store.damage(key));
  const Reply claimed = store.claim(key, Fixture::request(), nullptr);
  CHECK(claimed.answer == Answer::corrupt);
  CHECK(claimed.message == "the record's checksum is wrong");
  CHECK(store.find(key).answer == Answer::corrupt);
  CHECK(store.erase(key).answer == Answer::corrupt);
  CHECK(store.release(key, owner).answer == Answer::corrupt);
  CHECK(store.clear() == 0);
  CHECK(store.purge({}).expired == 0);
  CHECK(store.stats().records == 1);
}

TEST_CASE("T-80: what was resolved or forgotten by hand is told to the store's observer") {
  const idem::testing::RecordingObserver seen;
  LeaseStore store({.on_event = seen});
  const Key key = idem::make_key("observed", 1);
  const Ownership owner = store.claim(key, Fixture::request(), nullptr).record.owner;
  store.abandon(key, owner);
  CHECK(store.resolve(key, {}, "looked it up").answer == Answer::ok);
  CHECK(store.erase(key).answer == Answer::ok);
  REQUIRE(seen.events().size() == 2);
  CHECK(seen.events()[0].kind == idem::EventKind::resolved);
  CHECK(seen.events()[0].message == "looked it up");
  CHECK(seen.events()[0].key == key.text());
  CHECK(seen.events()[1].kind == idem::EventKind::forgotten);
  CHECK(seen.wait_for(idem::EventKind::forgotten));
  CHECK(seen.count(idem::EventKind::claimed) == 0);
}

TEST_CASE("T-07: leases are renewed for those who watch them") {
  idem::testing::ManualClock clock;
  LeaseStore store({.clock = clock});
  struct Watch final : idem::LeaseWatch {
    std::atomic<int> times{0};
    void lost() noexcept override { times.fetch_add(1); }
  };
  Watch watch;
  const Key key = idem::make_key("renewed", 1);
  store.claim(key, Fixture::request(), &watch);
  for (int i = 0; i < 5; ++i) {
    clock.advance(std::chrono::seconds(20));
    CHECK(store.renew_all(std::chrono::seconds(30)) == 1);
  }
  CHECK(watch.times == 0);
  clock.advance(std::chrono::seconds(30));
  CHECK(store.renew_all(std::chrono::seconds(30)) == 0);
  CHECK(watch.times == 1);
}
