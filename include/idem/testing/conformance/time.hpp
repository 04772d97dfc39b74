// Conformance: expiry and leases, to the microsecond, by a clock that stands still.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/testing/conformance/trial.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <thread>

IDEM_BEGIN_NAMESPACE
namespace testing {

namespace conformance_impl {

struct CountingWatch final : LeaseWatch {
  std::atomic<int> times{0};
  void lost() noexcept override { times.fetch_add(1); }
};

}  // namespace conformance_impl

template <class S>
void add_time_cases(ConformanceCases<S>& cases) {
  using T = Trial<S>;
  using std::chrono::hours;
  using std::chrono::microseconds;
  using std::chrono::seconds;

  cases.push_back({"T-10 T-36 T-41 TIM-10", "finished records expire ttl after they finished, to the microsecond",
                   needs_clock, [](T& t) {
    constexpr auto ttl = seconds(10);
    const Key keys[] = {t.key(1), t.key(2), t.key(3), t.key(4)};
    const Ownership first = t.acquire(keys[0]);
    const Ownership second = t.acquire(keys[1]);
    t.put_in_doubt(keys[2]);
    t.clock.advance(seconds(7));  // what counts is when they finish
    t.complete(keys[0], first, "value", ttl);
    t.fail(keys[1], second, "reason", ttl);
    Resolution found;
    found.ttl = ttl;
    t.check(t.store.resolve(keys[2], found, "").answer, Answer::ok, "resolving");
    ClaimRequest at_once = t.request();
    at_once.complete_at_once = true;
    at_once.ttl = ttl;
    t.claim(keys[3], at_once);
    for (const Key& key : keys) {
      const Record record = t.store.find(key).record;
      t.check(record.expires_at == record.finished_at + ttl, "expiry is the finish and the ttl");
      t.check(record.finished_at == t.clock.now(), "a record finishes when it is finished");
    }
    t.clock.advance(ttl - microseconds(1));
    for (const Key& key : keys) {
      const Answer answer = t.claim(key).answer;
      t.check(answer == Answer::completed || answer == Answer::failed, "a microsecond before its expiry it is there");
    }
    t.check_completed(keys[0], "value", "a microsecond before its expiry");
    t.clock.advance(microseconds(1));
    for (const Key& key : keys) {
      t.check(t.found(key), Answer::absent, "at its expiry it is gone");
      if constexpr (requires { t.store.peek(key, nullptr); })
        t.check(t.store.peek(key, nullptr).answer, Answer::absent, "peek doesn't show what has expired");
    }
    std::size_t shown = 0;
    t.store.for_each([&](const RecordView&) { ++shown; });
    t.check(shown == 0, "what has expired isn't shown");
    const Reply again = t.claim(keys[0]);
    t.check(again.answer, Answer::acquired, "claiming at the expiry");
    t.check(again.record.attempt == 1, "an expired key begins with attempt 1");
    t.check(again.record.owner.epoch > first.epoch, "epochs outlive an expiry");
    t.check(again.record.started_at == t.clock.now(), "a new record has a new start");
  }});

  cases.push_back({"T-11 T-10", "whoever saw a record expire can't touch the one that took its place", needs_clock,
                   [](T& t) {
    const Key key = t.key(1);
    const Ownership former = t.acquire(key);
    t.complete(key, former, "old", seconds(1));
    t.clock.advance(seconds(1));
    const Ownership owner = t.acquire(key);
    t.check(t.complete(key, former, "old"), Answer::stale, "completing by the former owner");
    t.check(t.store.release(key, former).answer, Answer::stale, "releasing by the former owner");
    t.check(t.store.abandon(key, former).answer, Answer::stale, "abandoning by the former owner");
    t.check(t.store.purge(PurgeOptions{}).expired <= 1, "purging");
    t.store.clear();
    t.check(t.store.erase(key).answer, Answer::refused, "erasing");
    t.check(t.complete(key, owner, "new"), Answer::ok, "completing by the new owner");
    t.check_completed(key, "new", "after all that");
  }});

  cases.push_back({"CORE-05 T-09 T-39", "running and in-doubt records never expire", needs_clock, [](T& t) {
    ClaimRequest request = t.request();
    request.lease = forever;
    request.ttl = seconds(1);
    const Reply running = t.claim(t.key(1), request);
    t.put_in_doubt(t.key(2));
    t.clock.advance(hours(24 * 365 * 50));
    t.check(t.store.purge(PurgeOptions{}).in_doubt == 0, "purging without saying so takes no doubt");
    t.check(t.claim(t.key(1)).answer, Answer::running, "a running record after fifty years");
    t.check(t.claim(t.key(2)).answer, Answer::in_doubt, "a record in doubt after fifty years");
    t.check(t.complete(t.key(1), running.record.owner, "value"), Answer::ok, "completing after fifty years");
    t.check_completed(t.key(1), "value", "after fifty years");
  }});

  cases.push_back({"T-26 T-76 TIM-09", "the shortest ttl isn't none, and the longest doesn't overflow", needs_clock,
                   [](T& t) {
    // Where a server forgets by a clock of its own, too, the record may be gone before it's looked for: not every time.
    bool there = false;
    int brief = 10;
    while (!there && brief < 200) {
      const Key key = t.key(++brief);
      t.complete(key, t.acquire(key), "brief", std::chrono::nanoseconds(1));
      const Reply claimed = t.claim(key);
      there = claimed.answer == Answer::completed && t.holds(claimed.payload, "brief");
    }
    t.check(there, "a record within its microsecond");
    t.complete(t.key(2), t.acquire(t.key(2)), "always", forever);
    t.complete(t.key(3), t.acquire(t.key(3)), "long", (std::chrono::nanoseconds::max)());
    t.clock.advance(microseconds(1));
    t.check(t.found(t.key(brief)), Answer::absent, "after its microsecond");
    t.clock.advance(hours(24 * 365 * 100));
    t.check_completed(t.key(2), "always", "after a hundred years");
    t.check_completed(t.key(3), "long", "after a hundred years");
  }});

  cases.push_back({"T-36 T-39 T-40", "purge takes what has expired, and doubts only by their age", needs_clock,
                   [](T& t) {
    t.complete(t.key(1), t.acquire(t.key(1)), "x", seconds(1));
    t.fail(t.key(2), t.acquire(t.key(2)), "x", seconds(1));
    t.put_in_doubt(t.key(3));
    t.clock.advance(seconds(5));
    t.put_in_doubt(t.key(4));
    t.clock.advance(seconds(5));
    PurgeOptions options;
    options.in_doubt_older_than = Duration(seconds(10) + microseconds(1));
    // Stores may have removed expired records by themselves before.
    t.check(t.store.purge(options).in_doubt == 0, "a doubt that isn't old enough stays");
    t.check(t.store.stats().records == 2, "expired ones are gone");
    options.in_doubt_older_than = Duration(seconds(10));
    t.check(t.store.purge(options).in_doubt == 1, "a doubt that is old enough goes");
    t.check(t.found(t.key(3)), Answer::absent, "the older doubt");
    t.check(t.found(t.key(4)), Answer::in_doubt, "the younger doubt");
  }});

  cases.push_back({"TIM-02 TIM-07", "a clock that is set back takes nothing away", needs_clock, [](T& t) {
    t.complete(t.key(1), t.acquire(t.key(1)), "value", hours(1));
    t.put_in_doubt(t.key(2));
    t.clock.advance(-hours(24));
    t.check_completed(t.key(1), "value", "a day before it finished");
    t.check(t.claim(t.key(2)).answer, Answer::in_doubt, "a doubt of tomorrow");
    t.check(t.claim(t.key(3)).answer, Answer::acquired, "claiming a new key");
  }});

  cases.push_back({"T-05 RFT-11", "an owner whose lease ended is in doubt, can't renew, and may still complete",
                   needs_clock | needs_leases, [](T& t) {
    const Key key = t.key(1);
    const Reply claimed = t.claim(key);
    t.check(claimed.record.lease_until == t.clock.now() + seconds(30), "the lease ends when it was asked to");
    t.check(claimed.valid_until <= claimed.record.lease_until, "the claim isn't surely valid beyond its lease");
    t.clock.advance(seconds(20));
    t.check(t.store.renew(key, claimed.record.owner, seconds(30)).answer, Answer::ok, "renewing in time");
    t.clock.advance(seconds(30) - microseconds(1));
    t.check(t.claim(key).answer, Answer::running, "a microsecond before the lease ends");
    t.clock.advance(microseconds(1));
    t.check(t.claim(key).answer, Answer::in_doubt, "when the lease has ended");
    t.check(t.found(key), Answer::in_doubt, "finding it when the lease has ended");
    t.check(t.store.renew(key, claimed.record.owner, seconds(30)).answer, Answer::stale, "renewing too late");
    t.check(t.claim(key).answer, Answer::in_doubt, "after renewing too late");
    t.check(t.complete(key, claimed.record.owner, "late"), Answer::ok, "completing late, when nobody took over");
    t.check_completed(key, "late", "after completing late");
  }});

  cases.push_back({"T-04 T-72 T-75", "a lease that ended can be taken over, and its owner is then stale",
                   needs_clock | needs_leases, [](T& t) {
    const Key key = t.key(1);
    const Ownership former = t.acquire(key);
    t.check(t.take_over(key).answer, Answer::running, "taking over while the lease lasts");
    t.clock.advance(seconds(30));
    const Reply taken = t.take_over(key);
    t.check(taken.answer, Answer::acquired, "taking over when the lease has ended");
    t.check(taken.record.lease_until == t.clock.now() + seconds(30), "the new owner has a lease of its own");
    t.check(t.store.renew(key, former, seconds(300)).answer, Answer::stale, "renewing what was taken over");
    t.check(t.complete(key, former, "wrong"), Answer::stale, "completing what was taken over");
    t.check(t.store.find(key).record.lease_until == taken.record.lease_until, "the new lease is untouched");
    t.check(t.complete(key, taken.record.owner, "right"), Answer::ok, "completing by the new owner");
    t.check_completed(key, "right", "after all that");
  }});

  cases.push_back({"RFT-12 T-05", "the owner is told once that its lease is lost, and not after it has finished",
                   needs_clock | needs_leases, [](T& t) {
    conformance_impl::CountingWatch lost;
    conformance_impl::CountingWatch kept;
    const Reply losing = t.store.claim(t.key(1), t.request(), &lost);
    const Reply keeping = t.store.claim(t.key(2), t.request(), &kept);
    t.check(t.complete(t.key(2), keeping.record.owner, "value"), Answer::ok, "completing in time");
    t.clock.advance(seconds(31));
    t.take_over(t.key(1));
    // A store with a thread of its own may need a moment.
    for (int pause = 0; pause < 3000 && lost.times.load() == 0; ++pause)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    t.check(lost.times.load() == 1, "the lease's loss is told");
    t.claim(t.key(1));
    t.check(t.store.abandon(t.key(1), losing.record.owner).answer, Answer::stale, "abandoning what was taken over");
    t.clock.advance(hours(1));
    t.claim(t.key(1));
    t.check(lost.times.load() == 1, "the loss is told once");
    t.check(kept.times.load() == 0, "who has finished has nothing to lose");
  }});
}

}  // namespace testing
IDEM_END_NAMESPACE
