// Claims by hand, for code that can't be wrapped in a function: claim, do it, complete.
#pragma once

#include <idem/any_store.hpp>
#include <idem/context.hpp>
#include <idem/detail/acquisition.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/results.hpp>
#include <idem/detail/signature.hpp>
#include <idem/detail/slot.hpp>
#include <idem/error.hpp>
#include <idem/options.hpp>
#include <idem/outcome.hpp>

#include <concepts>
#include <exception>
#include <string_view>
#include <type_traits>
#include <utility>

IDEM_BEGIN_NAMESPACE

struct ClaimOptions {
  Duration ttl = std::chrono::hours(24);             ///< How long the outcome is remembered, from its end on.
  Duration lease = std::chrono::seconds(30);         ///< Where nothing else proves that the owner lives.
  Duration wait_timeout = std::chrono::seconds(10);  ///< For a running call; 0: it doesn't wait.
  OnInDoubt on_in_doubt = OnInDoubt::report;  ///< rerun: a key in doubt is acquired, with a higher fencing token.
};

namespace detail {
struct ClaimAccess;
}

/// A key claimed by hand. Move-only. When it's destroyed without complete, fail or release, the key is in doubt at
/// once: never taken for success, never free. Thread safety: used by one thread at a time; it may change threads.
class Claim {
 public:
  Claim(Claim&& other) noexcept : held_(other.held_) { other.held_ = nullptr; }
  /// What the claim held before is put in doubt.
  Claim& operator=(Claim&& other) noexcept {
    Held* const taken = other.held_;
    other.held_ = nullptr;
    const Held* const before = held_;
    held_ = taken;
    delete before;
    return *this;
  }
  ~Claim() { delete held_; }

  /// The key is the caller's: go ahead, then say how it ended.
  bool acquired() const noexcept { return held_ != nullptr && held_->run.has_value(); }
  explicit operator bool() const noexcept { return acquired(); }

  /// What the store answered: acquired, running, in_doubt, completed, failed, unavailable or corrupt.
  Answer status() const noexcept { return held_ == nullptr ? Answer::unavailable : held_->reply.answer; }
  /// When the key was first claimed; the clock's epoch where nothing is known.
  TimePoint first_seen_at() const noexcept { return held_ == nullptr ? TimePoint() : held_->reply.record.started_at; }

  /// The outcome of an earlier run, as a guard's try_call would give it, or of this one once it has ended.
  template <class R>
  Outcome<R> result() const {
    using Keeping = KeepingOf<R>;
    static_assert(Keeping::check());
    Outcome<R> outcome;
    using Access = detail::OutcomeAccess;
    ErrorInfo& info = Access::info(outcome);
    if (held_ == nullptr) {
      info = {Verdict::unavailable, Effect::unknown, "idem: this claim was moved from"};
      return outcome;
    }
    Access::key(outcome, Key(held_->key));
    // What a claim that has ended has made of the key, only the store knows.
    Reply now;
    const bool ended = held_->run.has_value() && (*held_->run).ended();
    if (ended) now = held_->store.find(held_->key);
    const Reply& reply = ended ? now : held_->reply;
    Access::facts(outcome) = detail::Facts(reply.record);
    detail::describe<R, Keeping, true>(outcome, reply, held_->key, detail::NoSeal{});
    return outcome;
  }

  /// What a guarded function gets as its Context. REQUIRES: acquired.
  Context& context() { return held_->context(); }

  /// It happened; at most one value is kept as its result. executed; stale where another owner took over meanwhile, or
  /// the claim has ended before; unrecorded where the outcome isn't durable, and the key is in doubt.
  template <class... V>
  Verdict complete(const V&... value) {
    static_assert(sizeof...(V) <= 1, "idem: complete takes one value, or none");
    if (!open()) return Verdict::stale;
    detail::Bytes scratch;
    if constexpr (sizeof...(V) == 0) {
      detail::Slot<void> slot;
      slot.emplace();
      return ended((*held_->run).complete({{}, held_->ttl, source<void>(slot, scratch)}), Verdict::executed);
    } else {
      return complete_with(scratch, std::decay_t<const V&>(value)...);
    }
  }

#if IDEM_EXCEPTIONS
  /// It failed for good, and that is the outcome: kept and replayed. failed, stale or unrecorded.
  template <class E>
  Verdict fail(const E& failure) {
    if constexpr (std::same_as<E, std::exception_ptr>) {
      if (!open()) return Verdict::stale;
      detail::Bytes scratch;
      const Source kept = KeepingOf<void>::failure_source(held_->store, failure, held_->key, detail::NoSeal{},
                                                          max_result_bytes, scratch);
      return ended((*held_->run).fail({{}, held_->ttl, kept}), Verdict::failed);
    } else {
      return fail(std::make_exception_ptr(failure));
    }
  }
#endif

  /// Nothing happened: the key is free again. False where that couldn't be done, or the claim had ended.
  bool release() noexcept {
    return open() && (*held_->run).release() == detail::Recorded::yes;
  }

  /// The key that is claimed; an empty one where the claim was moved from.
  const Key& key() const noexcept {
    static const Key none;
    return held_ == nullptr ? none : held_->key;
  }

 private:
  friend struct detail::ClaimAccess;

  static constexpr std::size_t max_result_bytes = 1 << 20;

  template <class R>
  using KeepingOf = detail::ResultKeeping<R, AnyStore, true, detail::NoSeal, detail::ExceptionList<>>;

  struct Held {
    Held(AnyStore on, const Key& of, Duration remember) : store(std::move(on)), key(of), ttl(remember) {}

    Context& context() {
      if (!made_context.has_value()) {
        made_context.emplace_from(
            [&] { return detail::ContextAccess::make(key, reply.record, reply.record.attempt, lease); });
      }
      return *made_context;
    }

    AnyStore store;
    Key key;
    Duration ttl;
    Reply reply = {};
    detail::LeaseState lease = {};
    detail::Observers observers = {};
    detail::Slot<Context> made_context;
    detail::Slot<detail::Run<AnyStore>> run;
  };

  Claim(AnyStore store, const Key& key, Duration ttl) : held_(new Held(std::move(store), key, ttl)) {}

  bool open() const noexcept {
    return acquired() && !(*held_->run).ended();
  }

  template <class V>
  Verdict complete_with(detail::Bytes& scratch, V value) {
    static_assert(KeepingOf<V>::check());
    detail::Slot<V> slot;
    slot.emplace(std::move(value));
    return ended((*held_->run).complete({{}, held_->ttl, source<V>(slot, scratch)}), Verdict::executed);
  }

  template <class R>
  Source source(const detail::Slot<R>& slot, detail::Bytes& scratch) {
    return KeepingOf<R>::source(held_->store, slot, held_->key, detail::NoSeal{}, max_result_bytes, scratch);
  }

  static Verdict ended(detail::Recorded recorded, Verdict good) noexcept {
    if (recorded == detail::Recorded::yes) return good;
    return recorded == detail::Recorded::stale ? Verdict::stale : Verdict::unrecorded;
  }

  Held* held_;
};

namespace detail {
struct ClaimAccess {
  static Claim make(AnyStore store, const Key& key, Duration ttl) { return Claim(std::move(store), key, ttl); }
  static Claim::Held& held(Claim& claim) noexcept { return *claim.held_; }
};
}  // namespace detail

/// Claims a key by hand. Waits for a running call up to `wait_timeout`. Throws std::invalid_argument for options that
/// make no sense; what the store can't do is in `status()`.
template <Store S>
Claim claim(S& store, const Key& key, const ClaimOptions& options = {}) {
  detail::check_span(options.ttl, false, "ClaimOptions::ttl");
  detail::check_span(options.lease, false, "ClaimOptions::lease");
  detail::check_span(options.wait_timeout, true, "ClaimOptions::wait_timeout");
  Claim made = detail::ClaimAccess::make(AnyStore(store), key, options.ttl);
  auto& held = detail::ClaimAccess::held(made);
  detail::Terms terms;
  terms.lease = options.lease;
  terms.ttl = options.ttl;
  terms.wait = options.wait_timeout;
  terms.take_over = options.on_in_doubt == OnInDoubt::rerun;
  detail::Waiting waiting;
  detail::Acquisition<AnyStore> acquisition(held.store, held.key, terms, held.observers, &held.lease, waiting);
  auto step = acquisition.claim();
  while (step == detail::Acquisition<AnyStore>::Step::wait) {
    acquisition.wait();
    step = acquisition.claim();
  }
  held.reply = std::move(acquisition.reply());
  if (step == detail::Acquisition<AnyStore>::Step::run) {
    held.run.emplace(held.store, held.key, held.reply.record, held.observers);
  } else {
    // A claim may be kept for long, and must keep nothing of the store's back meanwhile.
    IDEM_TRY {
      held.reply.payload = held.reply.payload.detach();
    }
    IDEM_CATCH_UNWIND
    IDEM_CATCH_ALL {
      held.reply.payload = Payload(PayloadKind::lost, nullptr, nullptr);
    }
  }
  return made;
}

/// What check_lock found.
struct CheckLock {
  bool locked = false;     ///< The caller is the first one.
  bool duplicate = false;  ///< Somebody was before.
  TimePoint first_seen_at = {};
};

/// First one wins: claims and completes the key in one transition, for `ttl`. Throws StoreError where the store doesn't
/// answer: nothing was run by this call, but a store on a server may have locked the key for it without getting to say
/// so, and tells whoever asks again that it is a duplicate. CorruptRecordError where the record can't be read: nothing
/// is known then.
template <Store S>
CheckLock check_lock(S& store, const Key& key, Duration ttl) {
  detail::check_span(ttl, false, "the ttl of check_lock");
  ClaimRequest request;
  request.owner = detail::new_owner<S>();
  request.complete_at_once = true;
  request.ttl = ttl;
  const Reply reply = store.claim(key, request, nullptr);
  switch (reply.answer) {
    case Answer::acquired:
      return {true, false, reply.record.started_at};
    case Answer::unavailable:
      detail::raise(
          StoreError({Verdict::unavailable, Effect::not_run, "idem: the store can't be used: " + reply.message}, key));
    case Answer::corrupt:
      detail::raise(CorruptRecordError(
          {Verdict::corrupt, Effect::unknown, "idem: the record can't be read: " + reply.message}, key));
    default:
      return {false, true, reply.record.started_at};
  }
}

/// Ends the doubt about a key by what somebody found out: it happened, with this value as its result (or none). `note`
/// says who found out and how; it goes to the store's observer. ok; absent; refused where it's running; stale where it
/// isn't in doubt (any more); unavailable.
template <Store S, class... V>
Answer resolve(S& store, const Key& key, Duration ttl, std::string_view note, const V&... value) {
  static_assert(sizeof...(V) <= 1, "idem: resolve takes one value, or none");
  detail::check_span(ttl, false, "the ttl of resolve");
  using R = typename detail::first_of<detail::TypeList<std::decay_t<const V&>..., void>>::type;
  using Keeping = detail::ResultKeeping<R, S, true, detail::NoSeal, detail::ExceptionList<>>;
  static_assert(Keeping::check());
  detail::Bytes scratch;
  detail::Slot<R> slot;
  slot.emplace(value...);
  Resolution resolution;
  resolution.ttl = ttl;
  resolution.source = Keeping::source(store, slot, key, detail::NoSeal{}, static_cast<std::size_t>(-1), scratch);
  return store.resolve(key, resolution, note).answer;
}

IDEM_END_NAMESPACE
