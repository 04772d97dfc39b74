// Conformance: who may do what to a record.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/testing/conformance/trial.hpp>

#include <chrono>
#include <cstdint>
#include <string>

IDEM_BEGIN_NAMESPACE
namespace testing {

template <class S>
void add_ownership_cases(ConformanceCases<S>& cases) {
  using T = Trial<S>;

  cases.push_back({"CORE-01", "a call that completed is replayed with what it gave", needs_nothing, [](T& t) {
    const Key key = t.key(1);
    t.check(t.found(key), Answer::absent, "finding a key that nobody claimed");
    const ClaimRequest request = t.request();
    const Reply claimed = t.claim(key, request);
    t.check(claimed.answer, Answer::acquired, "claiming a free key");
    t.check(claimed.record.owner.token == request.owner, "the record is the claimer's");
    t.check(claimed.record.owner.epoch != 0, "an epoch is never zero");
    t.check(claimed.record.attempt == 1, "the first attempt is 1");
    const Reply second = t.claim(key);
    t.check(second.answer, Answer::running, "claiming a key that is running");
    t.check(second.record.owner == claimed.record.owner, "a duplicate is told whose run it is");
    t.check(t.found(key), Answer::running, "finding a key that is running");
    t.check(t.complete(key, claimed.record.owner, "value"), Answer::ok, "completing");
    t.check_completed(key, "value", "after completion");
    const Record record = t.store.find(key).record;
    t.check(record.started_at <= record.finished_at && record.finished_at < record.expires_at,
            "a record starts, finishes and expires in this order");
  }});

  cases.push_back({"CORE-03 T-04 T-05 T-08", "an owner that was fenced changes nothing and is told so", needs_nothing,
                   [](T& t) {
    const Key key = t.key(1);
    const Ownership former = t.put_in_doubt(key);
    const Reply taken = t.take_over(key);
    t.check(taken.answer, Answer::acquired, "taking over a key in doubt");
    t.check(taken.record.owner.epoch > former.epoch, "a takeover raises the epoch");
    t.check(taken.record.attempt == 2, "a takeover is one more attempt");
    const Ownership owner = taken.record.owner;
    const Ownership strangers[] = {former,           {owner.token, former.epoch}, {owner.token, owner.epoch + 1},
                                   {owner.token, 0}, {t.token(), owner.epoch},    {OwnerToken{}, owner.epoch},
                                   {}};
    const Record before = t.store.find(key).record;
    for (const Ownership& stranger : strangers) {
      t.check(t.store.renew(key, stranger, std::chrono::hours(1)).answer, Answer::stale, "renewing without owning");
      t.check(t.complete(key, stranger, "wrong"), Answer::stale, "completing without owning");
      t.check(t.fail(key, stranger, "wrong"), Answer::stale, "failing without owning");
      t.check(t.store.release(key, stranger).answer, Answer::stale, "releasing without owning");
      t.check(t.store.abandon(key, stranger).answer, Answer::stale, "abandoning without owning");
    }
    const Reply after = t.store.find(key);
    t.check(after.answer, Answer::running, "after operations of strangers");
    t.check(t.same(before, after.record), "operations of strangers leave the record as it was");
    t.check(t.complete(key, owner, "right"), Answer::ok, "completing after a takeover");
    t.check_completed(key, "right", "after the new owner completed");
  }});

  cases.push_back({"CORE-06", "an outcome is recorded once; the same said again is ok, another is stale", needs_nothing,
                   [](T& t) {
    t.check(t.complete(t.key(1), {t.token(), 1}, "x"), Answer::stale, "completing a key that nobody claimed");
    t.check(t.fail(t.key(1), {t.token(), 1}, "x"), Answer::stale, "failing a key that nobody claimed");
    t.check(t.found(t.key(1)), Answer::absent, "after completing without a claim");

    const Ownership owner = t.acquire(t.key(2));
    t.check(t.complete(t.key(2), owner, "first"), Answer::ok, "completing");
    const Record once = t.store.find(t.key(2)).record;
    t.check(t.complete(t.key(2), owner, "second"), Answer::ok, "completing once more");
    t.check(t.same(once, t.store.find(t.key(2)).record), "completing once more changes nothing (TIM-10)");
    t.check(t.fail(t.key(2), owner, "x"), Answer::stale, "failing after completing");
    t.check(t.store.release(t.key(2), owner).answer, Answer::stale, "releasing after completing");
    t.check(t.store.abandon(t.key(2), owner).answer, Answer::stale, "abandoning after completing");
    t.check(t.store.renew(t.key(2), owner, std::chrono::hours(1)).answer, Answer::stale, "renewing after completing");
    t.check(t.complete(t.key(2), {t.token(), owner.epoch}, "x"), Answer::stale, "completing what another completed");
    t.check_completed(t.key(2), "first", "after completing twice");

    const Ownership failing = t.acquire(t.key(3));
    t.check(t.fail(t.key(3), failing, "reason"), Answer::ok, "failing");
    t.check(t.fail(t.key(3), failing, "other"), Answer::ok, "failing once more");
    t.check(t.complete(t.key(3), failing, "x"), Answer::stale, "completing after failing");
    const Reply replay = t.claim(t.key(3));
    t.check(replay.answer, Answer::failed, "claiming a key whose failure is kept");
    t.check(t.holds(replay.payload, "reason", PayloadKind::failure), "a kept failure is replayed as it was");
  }});

  cases.push_back({"CORE-07 T-48 T-49 T-50", "other arguments under the same key are a conflict in every state",
                   needs_nothing, [](T& t) {
    Digest mine;
    mine.bytes[31] = 1;
    Digest others;
    others.bytes[31] = 2;
    for (int number = 1; number <= 4; ++number) {
      const Key key = t.key(number);
      ClaimRequest request = t.request();
      request.fingerprint = &mine;
      const Reply claimed = t.claim(key, request);
      t.check(claimed.answer, Answer::acquired, "claiming with a fingerprint");
      if (number == 2) t.store.abandon(key, claimed.record.owner);
      if (number == 3) t.complete(key, claimed.record.owner, "value");
      if (number == 4) t.fail(key, claimed.record.owner, "reason");
      const Record before = t.store.find(key).record;
      for (const bool take_over : {false, true}) {
        ClaimRequest wrong = t.request();
        wrong.fingerprint = &others;
        wrong.take_over = take_over;
        t.check(t.claim(key, wrong).answer, Answer::conflict, "claiming with other arguments");
      }
      if constexpr (requires { t.store.peek(key, &others); }) {
        const Answer peeked = t.store.peek(key, &others).answer;
        t.check(peeked == Answer::absent || peeked == Answer::conflict, "peek sees other arguments too");
      }
      t.check(t.same(before, t.store.find(key).record), "a conflict leaves the record as it was");
      constexpr Answer wanted[] = {Answer::running, Answer::in_doubt, Answer::completed, Answer::failed};
      ClaimRequest right = t.request();
      right.fingerprint = &mine;
      t.check(t.claim(key, right).answer, wanted[number - 1], "claiming with the same arguments (T-47)");
      t.check(t.claim(key).answer, wanted[number - 1], "claiming without a fingerprint");
    }
  }});

  cases.push_back({"CORE-08", "releasing frees the key, and the next attempt is a first one", needs_nothing, [](T& t) {
    const Key key = t.key(1);
    const Ownership owner = t.acquire(key);
    t.check(t.store.release(key, owner).answer, Answer::ok, "releasing");
    t.check(t.found(key), Answer::absent, "after releasing");
    t.check(t.store.release(key, owner).answer, Answer::ok, "releasing once more");
    t.check(t.complete(key, owner, "x"), Answer::stale, "completing after releasing");
    const Reply again = t.claim(key);
    t.check(again.answer, Answer::acquired, "claiming after a release");
    t.check(again.record.attempt == 1, "a released key begins with attempt 1");
    t.check(t.store.release(key, owner).answer, Answer::stale, "releasing what another owns now");
    t.check(t.found(key), Answer::running, "after a late release of a former owner");
  }});

  cases.push_back({"CORE-05 T-01 T-33", "an abandoned key is in doubt at once, and only stated choices end that",
                   needs_nothing, [](T& t) {
    const Key key = t.key(1);
    const Ownership owner = t.put_in_doubt(key);
    t.check(t.claim(key).answer, Answer::in_doubt, "claiming a key in doubt");
    t.check(t.found(key), Answer::in_doubt, "finding a key in doubt");
    t.check(t.store.abandon(key, owner).answer, Answer::ok, "abandoning once more");
    t.check(t.store.renew(key, owner, std::chrono::hours(1)).answer, Answer::stale, "renewing what was abandoned");
    // Its owner finds out after all.
    t.check(t.complete(key, owner, "late"), Answer::ok, "completing what was abandoned");
    t.check_completed(key, "late", "after a late completion");

    // Taking over keeps what is known of the key.
    t.put_in_doubt(t.key(2));
    const Record before = t.store.find(t.key(2)).record;
    t.clock.advance(std::chrono::seconds(1));
    const Reply taken = t.take_over(t.key(2));
    t.check(taken.answer, Answer::acquired, "taking over");
    t.check(taken.record.started_at == before.started_at, "a takeover keeps when the key was first claimed");
    t.check(t.take_over(t.key(2)).answer, Answer::running, "taking over from a live owner");
    // Whoever took over and gives up knows nothing of the earlier run.
    t.check(t.store.release(t.key(2), taken.record.owner).answer, Answer::ok, "releasing a takeover");
    t.check(t.claim(t.key(2)).answer, Answer::in_doubt, "claiming after a takeover was given up");
    const Reply third = t.take_over(t.key(2));
    t.check(third.record.attempt == 3, "attempts are counted on");
  }});

  cases.push_back({"T-80", "a doubt is resolved by what somebody found out, and its former owner is stale",
                   needs_nothing, [](T& t) {
    const auto resolve = [&t](const Key& key, std::uint64_t epoch, State state, const std::string& text) {
      Resolution found;
      found.state = state;
      found.ttl = std::chrono::hours(24);
      found.expected_epoch = epoch;
      found.source = t.source(text, state == State::completed ? PayloadKind::value : PayloadKind::failure);
      return t.store.resolve(key, found, "looked it up").answer;
    };
    t.check(resolve(t.key(1), 0, State::completed, "x"), Answer::absent, "resolving a key that nobody claimed");
    const Ownership running = t.acquire(t.key(2));
    t.check(resolve(t.key(2), running.epoch, State::completed, "x"), Answer::refused, "resolving a running key");
    t.check(t.complete(t.key(2), running, "value"), Answer::ok, "completing after a refused resolution");
    t.check(resolve(t.key(2), running.epoch, State::completed, "x"), Answer::stale, "resolving a finished key");
    t.check_completed(t.key(2), "value", "after a late resolution");

    const Ownership former = t.put_in_doubt(t.key(3));
    t.check(resolve(t.key(3), former.epoch + 1, State::completed, "x"), Answer::stale, "resolving another doubt");
    t.check(resolve(t.key(3), former.epoch, State::completed, "found"), Answer::ok, "resolving");
    t.check_completed(t.key(3), "found", "after a resolution");
    t.check(t.complete(t.key(3), former, "late"), Answer::stale, "completing what was resolved");
    t.check_completed(t.key(3), "found", "after a late completion of what was resolved");

    t.put_in_doubt(t.key(4));
    t.check(resolve(t.key(4), 0, State::failed, "reason"), Answer::ok, "resolving as failed, whichever doubt it is");
    t.check(t.claim(t.key(4)).answer, Answer::failed, "claiming what was resolved as failed");
  }});

  cases.push_back({"T-12 RLU-02 RLU-03", "the same claim once more is told again that it acquired the key",
                   needs_nothing, [](T& t) {
    const Key key = t.key(1);
    const ClaimRequest request = t.request();
    const Reply first = t.claim(key, request);
    const Reply again = t.claim(key, request);
    t.check(again.answer, Answer::acquired, "claiming once more with the same token");
    t.check(again.record.owner == first.record.owner, "a repeated claim has the same epoch");
    t.check(again.record.attempt == 1, "a repeated claim is no further attempt");
    t.check(t.store.renew(key, first.record.owner, std::chrono::seconds(40)).answer, Answer::ok, "renewing");
    t.check(t.store.renew(key, first.record.owner, std::chrono::seconds(40)).answer, Answer::ok, "renewing again");
    t.check(t.claim(key).answer, Answer::running, "claiming with another token");
  }});

  cases.push_back({"T-13 T-14", "the same fingerprint doesn't make two claims one", needs_nothing, [](T& t) {
    Digest print;
    print.bytes[0] = 1;
    ClaimRequest first = t.request();
    ClaimRequest second = t.request();
    first.fingerprint = &print;
    second.fingerprint = &print;
    t.check(t.claim(t.key(1), first).answer, Answer::acquired, "claiming first");
    t.check(t.claim(t.key(1), second).answer, Answer::running, "claiming second with the same fingerprint");
  }});

  cases.push_back({"T-70 T-71 SEC-07", "nobody owns anything: a token or an epoch of zero is never valid",
                   needs_nothing, [](T& t) {
    const Reply refused = t.claim(t.key(1), t.request(OwnerToken{}));
    t.check(refused.answer, Answer::unavailable, "claiming without a token");
    t.check(!refused.message.empty(), "what is unavailable says why");
    t.check(t.found(t.key(1)), Answer::absent, "after claiming without a token");
    t.check(t.store.renew(t.key(1), {}, std::chrono::hours(1)).answer, Answer::stale, "renewing nothing");
    t.check(t.store.renew(t.key(1), {t.token(), 1}, std::chrono::hours(1)).answer, Answer::stale,
            "renewing a key that nobody claimed");
  }});

  cases.push_back({"T-69 T-72", "epochs of a key only grow, whatever became of its records", needs_nothing, [](T& t) {
    const Key key = t.key(1);
    std::uint64_t top = 0;
    const auto next = [&] {
      const Ownership owner = t.acquire(key);
      t.check(owner.epoch > top, "an acquisition has a greater epoch than all before it");
      top = owner.epoch;
      return owner;
    };
    t.store.release(key, next());
    t.store.abandon(key, next());
    t.check(t.store.erase(key).answer, Answer::ok, "erasing a key in doubt");
    t.complete(key, next(), "x");
    t.check(t.store.erase(key).answer, Answer::ok, "erasing a completed key");
    t.fail(key, next(), "x");
    t.check(t.store.clear() == 1, "clear counts what it removes");
    const Ownership former = next();
    t.store.abandon(key, former);
    const Reply taken = t.take_over(key);
    t.check(taken.record.owner.epoch > top, "a takeover has a greater epoch than all before it");
    t.check(t.complete(key, former, "x"), Answer::stale, "completing by an earlier self");
  }});

  cases.push_back({"CHECK-LOCK", "claiming and completing in one transition has one winner", needs_nothing, [](T& t) {
    ClaimRequest request = t.request();
    request.complete_at_once = true;
    const Reply first = t.claim(t.key(1), request);
    t.check(first.answer, Answer::acquired, "the first one");
    t.check(first.record.state == State::completed, "it's completed in the same transition");
    t.check(t.claim(t.key(1), request).answer, Answer::acquired, "the first one once more");
    ClaimRequest late = t.request();
    late.complete_at_once = true;
    const Reply second = t.claim(t.key(1), late);
    t.check(second.answer, Answer::completed, "the second one");
    t.check(second.record.started_at == first.record.started_at, "the second one is told when the first one was");
    t.check(second.payload.kind() == PayloadKind::nothing, "there is no payload");
    t.acquire(t.key(2));
    t.check(t.claim(t.key(2), late).answer, Answer::running, "at once, while another one runs");
    t.put_in_doubt(t.key(3));
    t.check(t.claim(t.key(3), late).answer, Answer::in_doubt, "at once, while in doubt");
  }});

  cases.push_back({"CORE-15 T-25 T-51", "keys don't meet, and an empty key is refused", needs_nothing, [](T& t) {
    const Key keys[] = {make_key("a", "b"), make_key("a", "b", "c"), make_key("a", "bc"), make_key("b", "a"),
                        make_key(KeySpec{.name = "a", .scope = "tenant"}, "b"),
                        make_key(KeySpec{.name = "a", .version = 2}, "b")};
    for (const Key& key : keys) t.check(t.complete(key, t.acquire(key), key.text()), Answer::ok, "completing");
    for (const Key& key : keys) t.check_completed(key, key.text(), "one of several keys");
    t.check(t.claim(Key()).answer, Answer::unavailable, "claiming an empty key");
    t.check(t.found(Key()), Answer::unavailable, "finding an empty key");
    t.check(t.store.erase(Key()).answer, Answer::unavailable, "erasing an empty key");
  }});

  cases.push_back({"FLK-09", "two objects onto one store are one store", needs_other, [](T& t) {
    const Key key = t.key(1);
    const Ownership owner = t.acquire(key);
    t.check(t.other().claim(key, t.request(), nullptr).answer, Answer::running, "claiming through the other object");
    t.check(t.other().erase(key).answer, Answer::refused, "erasing through the other object");
    t.check(t.complete(key, owner, "value"), Answer::ok, "completing");
    const Reply seen = t.other().claim(key, t.request(), nullptr);
    t.check(seen.answer, Answer::completed, "claiming through the other object after completion");
    t.check(t.holds(seen.payload, "value"), "the other object replays it");
    t.check(t.other().erase(key).answer, Answer::ok, "erasing through the other object");
    t.check(t.found(key), Answer::absent, "after erasing through the other object");
  }});
}

}  // namespace testing
IDEM_END_NAMESPACE
