// What a case of the conformance suite works with: a fresh store, a clock, and short words for the operations.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/random.hpp>
#include <idem/duration.hpp>
#include <idem/key.hpp>
#include <idem/make_key.hpp>
#include <idem/payload.hpp>
#include <idem/protocol.hpp>
#include <idem/store.hpp>
#include <idem/testing/manual_clock.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

IDEM_BEGIN_NAMESPACE
namespace testing {

/// How much the cases with threads do.
struct ConformanceOptions {
  std::size_t threads = 4;
  std::size_t rounds = 100;  ///< Of races; a store that writes to a disk wants fewer.
};

/// What a case needs of the store; it's skipped where the store lacks it.
enum Needs : unsigned {
  needs_nothing = 0,
  needs_clock = 1,    ///< The store judges time by the clock that it was given.
  needs_leases = 2,   ///< Leases prove liveness.
  needs_other = 4,    ///< A second object onto the same records.
  needs_objects = 8,  ///< The store keeps objects.
  own_clock = 16,     ///< It is made with an empty clock, so that its own one is tried, which the trial's doesn't move.
};

template <class S>
class Trial {
 public:
  Trial(S& tried, S* second, const ManualClock& time, const ConformanceOptions& how) noexcept
      : store(tried), clock(time), options(how), second_(second) {}
  Trial(const Trial&) = delete;
  Trial& operator=(const Trial&) = delete;

  S& store;
  ManualClock clock;
  const ConformanceOptions& options;

  bool has_other() const noexcept { return second_ != nullptr; }
  /// A second object onto the same records where there is one, else the store itself.
  S& other() const noexcept { return second_ != nullptr ? *second_ : store; }

  /// Notes the first thing that isn't as promised.
  void check(bool good, const char* wanted) {
    if (good) return;
    const std::lock_guard lock(mutex_);
    if (detail_.empty()) detail_ = wanted;
  }
  void check(Answer answer, Answer wanted, const char* when) {
    if (answer == wanted) return;
    const std::lock_guard lock(mutex_);
    if (!detail_.empty()) return;
    detail_ = std::string(when) + ": answered " + std::to_string(static_cast<int>(answer)) + " instead of " +
              std::to_string(static_cast<int>(wanted));
  }
  const std::string& detail() const noexcept { return detail_; }

  static Key key(int number) { return make_key("conformance", number); }

  static OwnerToken token() { return idem::detail::new_owner_token(); }

  static ClaimRequest request(OwnerToken owner = token()) {
    ClaimRequest request;
    request.owner = owner;
    request.lease = std::chrono::seconds(30);
    request.ttl = std::chrono::hours(24);
    return request;
  }

  Reply claim(const Key& key) { return store.claim(key, request(), nullptr); }
  Reply claim(const Key& key, const ClaimRequest& request) { return store.claim(key, request, nullptr); }
  Reply take_over(const Key& key) {
    ClaimRequest taking = request();
    taking.take_over = true;
    return claim(key, taking);
  }
  /// Claims a key that is free.
  Ownership acquire(const Key& key) {
    const Reply reply = claim(key);
    check(reply.answer, Answer::acquired, "claiming a free key");
    return reply.record.owner;
  }
  /// Leaves a key in doubt; gives whose doubt it is.
  Ownership put_in_doubt(const Key& key) {
    const Ownership owner = acquire(key);
    check(store.abandon(key, owner).answer, Answer::ok, "abandoning a running record");
    return owner;
  }

  /// `text` as what a function gave, in the form that the store keeps.
  Source source(const std::string& text, PayloadKind kind = PayloadKind::value) const {
    Source source;
    source.kind = kind;
    if (kind != PayloadKind::value && kind != PayloadKind::failure) return source;
    if (keeps_objects()) {
      source.type = &object_type<std::string>;
      source.object = &text;
    } else {
      source.data = reinterpret_cast<const std::uint8_t*>(text.data());
      source.size = text.size();
    }
    return source;
  }
  bool holds(const Payload& payload, const std::string& text, PayloadKind kind = PayloadKind::value) const {
    if (payload.kind() != kind) return false;
    if (keeps_objects()) {
      const std::string* object = payload.object<std::string>();
      return object != nullptr && *object == text;
    }
    if (payload.size() != text.size()) return false;
    return text.empty() || std::memcmp(payload.data(), text.data(), text.size()) == 0;
  }
  bool keeps_objects() const {
    return S::keeps == Keeps::objects || (S::keeps == Keeps::either && store.traits().keeps == Keeps::objects);
  }

  Answer complete(const Key& key, const Ownership& owner, const std::string& text,
                  Duration ttl = std::chrono::hours(24)) {
    return store.complete(key, FinishRequest{owner, ttl, source(text)}).answer;
  }
  Answer fail(const Key& key, const Ownership& owner, const std::string& text,
              Duration ttl = std::chrono::hours(24)) {
    return store.fail(key, FinishRequest{owner, ttl, source(text, PayloadKind::failure)}).answer;
  }
  Answer found(const Key& key) { return store.find(key).answer; }

  void check_completed(const Key& key, const std::string& text, const char* when) {
    const Reply claimed = claim(key);
    check(claimed.answer, Answer::completed, when);
    check(holds(claimed.payload, text), "a claim of a completed key is told what was committed");
    const Reply seen = store.find(key);
    check(seen.answer, Answer::completed, when);
    check(holds(seen.payload, text), "find is told what was committed");
    if constexpr (requires { store.peek(key, nullptr); }) {
      const Peeked peeked = store.peek(key, nullptr);
      check(peeked.answer == Answer::absent || (peeked.answer == Answer::completed && holds(peeked.payload, text)),
            "peek tells what was committed, or nothing");
    }
  }

  static bool same(const Record& a, const Record& b) {
    return a.state == b.state && a.abandoned == b.abandoned && a.attempt == b.attempt && a.owner == b.owner &&
           a.started_at == b.started_at && a.finished_at == b.finished_at && a.lease_until == b.lease_until &&
           a.expires_at == b.expires_at && a.has_fingerprint == b.has_fingerprint && a.fingerprint == b.fingerprint;
  }

 private:
  S* second_;
  std::mutex mutex_;
  std::string detail_;
};

/// One promise and how it is tried.
template <class S>
struct ConformanceCase {
  std::string_view id;       ///< Of the cases in the project's catalogue of tests that it shows.
  std::string_view promise;
  unsigned needs;
  void (*run)(Trial<S>&);
};

template <class S>
using ConformanceCases = std::vector<ConformanceCase<S>>;

}  // namespace testing
IDEM_END_NAMESPACE
