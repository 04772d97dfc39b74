// Conformance: what is kept, shown and removed.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/testing/conformance/trial.hpp>

#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

IDEM_BEGIN_NAMESPACE
namespace testing {

namespace conformance_impl {

/// A result whose copies and destructions use the store that keeps it, as a user's may.
template <class S>
struct Meddler {
  S* store;
  Key key;
  mutable bool counts = false;

  Meddler(S& used, const Key& looked_for) : store(&used), key(looked_for) {}
  Meddler(const Meddler& other) : store(other.store), key(other.key), counts(true) { store->find(key); }
  Meddler& operator=(const Meddler&) = delete;
  ~Meddler() {
    if (counts) store->find(key);
  }
};

}  // namespace conformance_impl

template <class S>
void add_record_cases(ConformanceCases<S>& cases) {
  using T = Trial<S>;

  cases.push_back({"STORE-10", "the traits say what the store is", needs_nothing, [](T& t) {
    const StoreTraits traits = t.store.traits();
    t.check(traits.keeps == S::keeps || S::keeps == Keeps::either, "traits().keeps and keeps say the same");
    t.check(traits.keeps != Keeps::either, "a store keeps objects or bytes");
    const TimePoint before = t.store.now();
    t.check(t.store.now() >= before, "now() isn't set back");
  }});

  cases.push_back({"T-55", "payloads of every kind and size come back as they were", needs_nothing, [](T& t) {
    const std::string texts[] = {"", std::string(1, '\0'), "a", std::string(95, 'x'), std::string(100'000, 'y'),
                                 std::string("\r\n\0\xff%s{}", 9)};
    int number = 0;
    for (const std::string& text : texts) {
      const Key key = t.key(++number);
      t.check(t.complete(key, t.acquire(key), text), Answer::ok, "completing");
      t.check_completed(key, text, "after completion");
      const Key failing = t.key(1000 + number);
      t.check(t.fail(failing, t.acquire(failing), text), Answer::ok, "failing");
      t.check(t.holds(t.claim(failing).payload, text, PayloadKind::failure), "a kept failure is what it was");
    }
    const std::string none;
    for (const PayloadKind kind : {PayloadKind::nothing, PayloadKind::lost}) {
      const Key key = t.key(2000 + static_cast<int>(kind));
      const FinishRequest request{t.acquire(key), std::chrono::hours(24), t.source(none, kind)};
      t.check(t.store.complete(key, request).answer, Answer::ok, "completing without a payload");
      t.check(t.claim(key).payload.kind() == kind, "what wasn't kept is told by its kind");
    }
  }});

  cases.push_back({"MEM-06", "a payload that was handed out outlives its record", needs_nothing, [](T& t) {
    const Key key = t.key(1);
    t.complete(key, t.acquire(key), "kept");
    const Reply reply = t.claim(key);
    t.check(t.store.erase(key).answer, Answer::ok, "erasing");
    t.complete(key, t.acquire(key), "other");
    t.check(t.holds(reply.payload, "kept"), "the payload in hand is as it was");
    t.check_completed(key, "other", "the new one");
  }});

  cases.push_back({"T-47", "completing keeps everything that the claim knew", needs_nothing, [](T& t) {
    const Key key = t.key(1);
    Digest print;
    print.bytes[7] = 7;
    ClaimRequest request = t.request();
    request.fingerprint = &print;
    const Record claimed = t.claim(key, request).record;
    t.clock.advance(std::chrono::seconds(1));
    t.complete(key, claimed.owner, "value");
    const Record record = t.store.find(key).record;
    t.check(record.owner == claimed.owner, "owner and epoch");
    t.check(record.started_at == claimed.started_at, "when it was claimed");
    t.check(record.attempt == claimed.attempt, "the attempt");
    t.check(record.has_fingerprint && record.fingerprint == print, "the fingerprint");
  }});

  cases.push_back({"T-17 T-77 STORE-8", "a live running record is neither erased nor cleared nor purged", needs_nothing,
                   [](T& t) {
    const Key key = t.key(1);
    const Ownership owner = t.acquire(key);
    t.check(t.store.erase(key).answer, Answer::refused, "erasing a running record");
    t.check(t.store.clear() == 0, "clear takes no running record");
    const Duration at_once = std::chrono::microseconds(1);
    const PurgeResult purged = t.store.purge(PurgeOptions{.in_doubt_older_than = at_once});
    t.check(purged.expired == 0 && purged.in_doubt == 0, "purge takes no running record");
    t.check(t.claim(key).answer, Answer::running, "a second call after all that");
    t.check(t.complete(key, owner, "value"), Answer::ok, "completing after all that");
    t.check_completed(key, "value", "after all that");
  }});

  cases.push_back({"CORE-11 RFT-04", "a record that was removed is not made again by its former owner", needs_nothing,
                   [](T& t) {
    const Key key = t.key(1);
    const Ownership owner = t.put_in_doubt(key);
    t.check(t.store.erase(key).answer, Answer::ok, "erasing a record in doubt, the explicit choice that it is");
    t.check(t.complete(key, owner, "x"), Answer::stale, "completing what was erased");
    t.check(t.fail(key, owner, "x"), Answer::stale, "failing what was erased");
    t.check(t.store.renew(key, owner, std::chrono::hours(1)).answer, Answer::stale, "renewing what was erased");
    t.check(t.found(key), Answer::absent, "after all that");
    t.check(t.store.erase(key).answer, Answer::absent, "erasing what isn't there");
  }});

  cases.push_back({"T-39 T-40 CORE-13", "clear removes all but the running ones, and says how many", needs_nothing,
                   [](T& t) {
    t.acquire(t.key(1));
    t.put_in_doubt(t.key(2));
    t.complete(t.key(3), t.acquire(t.key(3)), "x");
    t.fail(t.key(4), t.acquire(t.key(4)), "x");
    const PurgeResult kept = t.store.purge(PurgeOptions{});
    t.check(kept.expired == 0 && kept.in_doubt == 0, "purge takes only what has expired, unless asked for more");
    t.check(t.found(t.key(2)), Answer::in_doubt, "after a purge");
    t.check(t.store.clear() == 3, "clear counts what it removes");
    t.check(t.found(t.key(1)), Answer::running, "the running one stays");
    for (int number = 2; number <= 4; ++number)
      t.check(t.found(t.key(number)), Answer::absent, "the others are gone");
  }});

  cases.push_back({"STORE-FOR-EACH", "each record is shown once, by its key's text, and showing holds no lock",
                   needs_nothing, [](T& t) {
    const Ownership running = t.acquire(t.key(1));
    t.put_in_doubt(t.key(2));
    t.complete(t.key(3), t.acquire(t.key(3)), "x");
    t.fail(t.key(4), t.acquire(t.key(4)), "x");
    constexpr Status wanted[] = {Status::running, Status::in_doubt, Status::completed, Status::failed};
    int times[4] = {};
    std::size_t shown = 0;
    t.store.for_each([&](const RecordView& view) {
      ++shown;
      for (int i = 0; i < 4; ++i) {
        if (view.text != t.key(i + 1).text()) continue;
        ++times[i];
        t.check(view.status == wanted[i], "a record is shown with its status");
        if (i == 0) t.check(view.record.owner == running, "a record is shown whole");
        t.check(t.found(t.key(i + 1)) != Answer::unavailable, "the store can be used while it shows records");
      }
    });
    t.check(shown == 4, "nothing else is shown");
    for (const int count : times) t.check(count == 1, "each record is shown once");
  }});

  cases.push_back({"STORE-STATS", "the records are counted by what they mean", needs_nothing, [](T& t) {
    const StoreStats empty = t.store.stats();
    t.check(empty.records == 0 && empty.running == 0 && empty.completed == 0 && !empty.oldest_in_doubt,
            "an empty store has nothing to count");
    t.put_in_doubt(t.key(1));
    const TimePoint oldest = t.store.find(t.key(1)).record.started_at;
    t.clock.advance(std::chrono::seconds(1));
    t.put_in_doubt(t.key(2));
    t.acquire(t.key(3));
    for (int number = 4; number <= 6; ++number) t.complete(t.key(number), t.acquire(t.key(number)), "x");
    t.fail(t.key(7), t.acquire(t.key(7)), "x");
    const StoreStats stats = t.store.stats();
    t.check(stats.records == 7 && stats.in_doubt == 2 && stats.running == 1 && stats.completed == 3 &&
                stats.failed == 1,
            "two in doubt, one running, three completed, one failed");
    t.check(stats.oldest_in_doubt && *stats.oldest_in_doubt == oldest, "since when the oldest doubt has been one");
  }});

  cases.push_back({"CXX-16 STORE-7", "copying and destroying results holds no lock", needs_objects, [](T& t) {
    using Meddler = conformance_impl::Meddler<S>;
    const Key key = t.key(1);
    {
      const Meddler result(t.store, key);
      Source source;
      source.kind = PayloadKind::value;
      source.type = &object_type<Meddler>;
      source.object = &result;
      const FinishRequest request{t.acquire(key), std::chrono::hours(24), source};
      t.check(t.store.complete(key, request).answer, Answer::ok, "completing with a result that uses the store");
    }
    {
      const Reply reply = t.claim(key);
      const Meddler* kept = reply.payload.template object<Meddler>();
      t.check(kept != nullptr, "the object is kept");
      if (kept != nullptr) {
        const Meddler copy(*kept);
        t.check(copy.key == key, "the object is what it was");
      }
    }
    t.check(t.store.erase(key).answer, Answer::ok, "erasing a result that uses the store");
    t.acquire(key);
  }});
}

}  // namespace testing
IDEM_END_NAMESPACE
