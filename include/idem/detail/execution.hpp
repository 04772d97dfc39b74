// A guarded call from its key to its outcome, for a caller that blocks.
#pragma once

#include <idem/context.hpp>
#include <idem/detail/acquisition.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/guard_state.hpp>
#include <idem/detail/running.hpp>
#include <idem/outcome.hpp>

#include <chrono>
#include <concepts>
#include <exception>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

IDEM_BEGIN_NAMESPACE
namespace detail {

/// Texts are put together without letting a lack of memory change the outcome.
inline void set_message(ErrorInfo& info, const char* first, std::string_view second = {}) noexcept {
  IDEM_TRY {
    info.message = first;
    info.message += second;
  }
  IDEM_CATCH_ALL {}
}

/// One call. `A` are the parameter types of the arguments.
template <class State, class R, class... A>
class Execution {
 public:
  using Store = typename State::Store;
  using Keeping = typename State::template Keeping<R>;
  static_assert(Keeping::check());

  explicit Execution(const State& state) noexcept : state_(state) {}

  /// Makes key and fingerprint once, before anything can change the arguments. First of all.
  void prepare(const std::remove_reference_t<A>&... arguments) {
    IDEM_TRY {
      error_ = state_.template make_key<A...>(key_, state_.domain().borrow(), arguments...);
      if (error_ == nullptr) has_fingerprint_ = state_.template make_fingerprint<A...>(fingerprint_, key_, error_, arguments...);
    }
    IDEM_CATCH_UNWIND
    IDEM_CATCH_ALL { error_ = "making the key threw an exception"; }
  }

  /// The path of most duplicates: puts the stored result into `slot` where the store can give it without a lock and
  /// nobody wants to hear of it. False says nothing, and leaves the slot empty.
  bool replay(Slot<R>& slot, Facts* facts) {
    if constexpr (can_peek && State::keeps_result && !State::template has<extra::duplicate_value>) {
      if (error_ != nullptr || !state_.observers().empty() || options().on_duplicate == OnDuplicate::raise) return false;
      const Peeked seen = state_.store().peek(key_, fingerprint());
      if (seen.answer != Answer::completed || seen.payload.kind() != PayloadKind::value) return false;
      IDEM_TRY {
        if (!Keeping::restore(seen.payload, key_, state_.seal(), slot)) return false;
      }
      IDEM_CATCH_UNWIND
      IDEM_CATCH_ALL { return false; }
      if (facts != nullptr) *facts = Facts(*seen.record);
      return true;
    }
    static_cast<void>(slot), static_cast<void>(facts);
    return false;
  }

  /// Runs the protocol. Afterwards the outcome is complete but for its key: `take_key()`. Throws nothing but the
  /// end of a cancelled thread.
  void run(Outcome<R>& outcome, A&&... arguments) {
    outcome_ = &outcome;
    if (error_ == nullptr && state_.previous()) {
      IDEM_TRY { error_ = state_.template make_key<A...>(previous_key_, state_.previous().borrow(), arguments...); }
      IDEM_CATCH_UNWIND
      IDEM_CATCH_ALL { error_ = "making the key threw an exception"; }
    }
    if (error_ != nullptr) {
      key_ = Key();
      verdict(Verdict::invalid_key, Effect::not_run);
      set_message(info(), "idem: these arguments have no key, the function wasn't run: ", error_);
      tell(EventKind::invalid_key, key_, Record{}, error_);
      return;
    }
    go(key_, terms(), &state_.previous(), arguments...);
  }
  Key&& take_key() noexcept { return std::move(key_); }

 private:
  static constexpr bool can_peek = requires(Store& store, const Key& key) {
    { store.peek(key, nullptr) } -> std::same_as<Peeked>;
  };

  using Access = OutcomeAccess;
  using Step = typename Acquisition<Store>::Step;

  const Options& options() const noexcept { return state_.options(); }
  const Digest* fingerprint() const noexcept { return has_fingerprint_ ? &fingerprint_ : nullptr; }
  ErrorInfo& info() noexcept { return Access::info(*outcome_); }
  Slot<R>& slot() noexcept { return Access::value(*outcome_); }
  void verdict(Verdict verdict, Effect effect) noexcept { Access::set(*outcome_, verdict, effect); }
  void tell(EventKind kind, const Key& key, const Record& record, std::string_view message = {}) const {
    detail::tell(state_.observers(), kind, key, record, message);
  }

  Terms terms() const noexcept {
    Terms terms;
    terms.ttl = options().ttl;
    terms.lease = options().lease;
    terms.fingerprint = fingerprint();
    switch (options().on_duplicate) {
      case OnDuplicate::return_stored: terms.wait = options().wait_timeout; break;
      case OnDuplicate::wait: terms.wait = options().wait_limit; break;
      case OnDuplicate::raise: break;
    }
    terms.take_over = State::template has<extra::recovery> || options().on_in_doubt == OnInDoubt::rerun;
    return terms;
  }

  /// Goes about one key. `previous`: the domain of an earlier secret, if there is one to look under as well.
  void go(const Key& key, const Terms& terms, const DomainRef* previous, A&... arguments) {
    LeaseState lease;
    Acquisition<Store> acquisition(state_.store(), key, terms, state_.observers(), &lease);
    Step step = acquisition.begin();
    while (step == Step::wait) {
      acquisition.wait();
      step = acquisition.again();
    }
    Access::waited(*outcome_, acquisition.waited(), options().on_duplicate != OnDuplicate::raise);
    if (step == Step::answered) {
      answered(acquisition, key, lease, arguments...);
      return;
    }
    const Record record = acquisition.reply().record;
    Run<Store> run(state_.store(), key, record, state_.observers());
    if (previous != nullptr && *previous && held_before(run)) {
      if (!run.ended()) run.release();
      if (outcome_->verdict() != Verdict::unavailable) go(previous_key_, terms, nullptr, arguments...);
      return;
    }
    tell(record.attempt > 1 ? EventKind::taken_over : EventKind::claimed, key, record);
    Context context = ContextAccess::make(key, record, lease);
    if constexpr (State::template has<extra::recovery>) {
      if (record.attempt > 1 && recovered(run, key, context, arguments...)) return;
    }
    call(run, key, context, arguments...);
  }

  /// With a new secret: whether the key is in the store under the previous one. Each caller claims under its own secret
  /// first and looks under the other one then, so that of two that differ at least one sees the other.
  bool held_before(Run<Store>& run) {
    Reply reply = state_.store().find(previous_key_);
    if (reply.answer == Answer::absent) return false;
    if (reply.answer == Answer::unavailable) {
      run.release();
      unavailable(previous_key_, reply);
    }
    return true;
  }

  // What others did.

  void answered(Acquisition<Store>& acquisition, const Key& key, LeaseState& lease, A&... arguments) {
    Reply& reply = acquisition.reply();
    if (reply.answer != Answer::unavailable) Access::facts(*outcome_) = Facts(reply.record);
    switch (reply.answer) {
      case Answer::completed:
      case Answer::failed: finished(reply, key, arguments...); return;
      case Answer::running:
        if (acquisition.reentrant()) {
          verdict(Verdict::reentrant, Effect::unknown);
          set_message(info(), "idem: this call stands further up this thread's own stack; waiting for it would never end");
          tell(EventKind::reentrant, key, reply.record);
          return;
        }
        verdict(Verdict::in_progress, Effect::unknown);
        if (reply.record.lease_until != (TimePoint::max)()) {
          const auto left = reply.record.lease_until - state_.store().now();
          if (left.count() > 0) Access::retry_after(*outcome_, left);
        }
        set_message(info(), options().on_duplicate == OnDuplicate::raise
                                ? "idem: another caller is running this call"
                                : "idem: another caller was still running this call when waiting ended");
        tell(EventKind::in_progress, key, reply.record);
        return;
      case Answer::in_doubt:
        verdict(Verdict::in_doubt, Effect::unknown);
        set_message(info(),
                    "idem: an earlier run of this call ended without a recorded outcome, so that its effect is unknown; "
                    "find out and use resolve or forget, or give the guard recover_with");
        tell(EventKind::in_doubt, key, reply.record);
        return;
      case Answer::conflict: conflict(reply, key); return;
      case Answer::corrupt:
        verdict(Verdict::corrupt, Effect::unknown);
        set_message(info(), "idem: the record of this call can't be read: ", reply.message);
        tell(EventKind::corrupt, key, reply.record, reply.message);
        return;
      default: break;
    }
    if (options().on_store_error == OnStoreError::run_unguarded) {
      run_unguarded(key, reply, lease, arguments...);
      return;
    }
    unavailable(key, reply);
  }

  void unavailable(const Key& key, const Reply& reply) {
    verdict(Verdict::unavailable, Effect::not_run);
    set_message(info(), "idem: the store can't be used, the function wasn't run: ", reply.message);
    tell(EventKind::unavailable, key, reply.record, reply.message);
  }

  void conflict(const Reply& reply, const Key& key) {
    Effect effect = Effect::unknown;
    if (reply.record.state != idem::State::in_progress) effect = Effect::ran;
    verdict(Verdict::conflict, effect);
    set_message(info(), "idem: this key was used before with other arguments");
    tell(EventKind::conflict, key, reply.record);
  }

  void finished(const Reply& reply, const Key& key, A&... arguments) {
    if (options().on_duplicate == OnDuplicate::raise) {
      duplicate(key, reply.record);
      return;
    }
    if constexpr (State::template has<extra::duplicate_value>) {
      if (reply.answer == Answer::completed) {
        substitute(reply, key, arguments...);
        return;
      }
    }
    IDEM_TRY { describe<R, Keeping, State::keeps_result>(*outcome_, reply, key, state_.seal()); }
    IDEM_CATCH_UNWIND
    IDEM_CATCH_ALL {
      // A result whose copy throws, or no memory for a message: it was made, but can't be handed out now.
      slot().reset();
      verdict(Verdict::corrupt, Effect::ran);
    }
    tell(event_of(outcome_->verdict()), key, reply.record, info().message);
  }

  void duplicate(const Key& key, const Record& record) {
    verdict(Verdict::duplicate, Effect::ran);
    set_message(info(), "idem: this call has been made");
    tell(EventKind::duplicate, key, record);
  }

  static EventKind event_of(Verdict verdict) noexcept {
    switch (verdict) {
      case Verdict::replayed: return EventKind::replayed;
      case Verdict::failure_replayed: return EventKind::failure_replayed;
      case Verdict::unrecorded: return EventKind::unrecorded;
      case Verdict::duplicate: return EventKind::duplicate;
      default: return EventKind::corrupt;
    }
  }

  void substitute(const Reply& reply, const Key& key, A&... arguments) {
    const auto& given = state_.template get<extra::duplicate_value>().value;
    using Given = std::remove_cvref_t<decltype(given)>;
    IDEM_TRY {
      if constexpr (std::is_invocable_v<const Given&, const std::remove_reference_t<A>&...>) {
        fill([&]() -> decltype(auto) { return given(std::as_const(arguments)...); });
      } else if constexpr (std::is_invocable_v<const Given&>) {
        fill([&]() -> decltype(auto) { return given(); });
      } else {
        static_assert(std::is_void_v<R> || std::is_convertible_v<const Given&, R>,
                      "idem: on_duplicate_return takes a value of the function's result, or a callable that gives one");
        fill([&]() -> const Given& { return given; });
      }
      verdict(Verdict::replayed, Effect::ran);
      tell(EventKind::replayed, key, reply.record);
    }
    IDEM_CATCH_UNWIND
    IDEM_CATCH_ALL {
      slot().reset();
      duplicate(key, reply.record);
      keep_exception();
    }
  }

  template <class Make>
  void fill(Make&& make) {
    if constexpr (std::is_void_v<R>) {
      static_cast<void>(make());
      slot().emplace();
    } else {
      slot().emplace_from([&]() -> R { return make(); });
    }
  }

  // What this caller does.

  bool recovered(Run<Store>& run, const Key& key, Context& context, A&... arguments) {
    const auto& ask = state_.template get<extra::recovery>().function;
    bool found = false;
    IDEM_TRY {
      RunningFrame frame(run.record().owner);
      auto answer = [&] {
        if constexpr (std::is_invocable_v<decltype(ask), const std::remove_reference_t<A>&..., Context&>) {
          return ask(std::as_const(arguments)..., context);
        } else {
          return ask(std::as_const(arguments)...);
        }
      }();
      found = static_cast<bool>(answer);
      if (!found) return false;
      if constexpr (std::is_void_v<R>) {
        slot().emplace();
      } else {
        slot().emplace_from([&]() -> R { return *std::move(answer); });
      }
    }
    IDEM_CATCH_UNWIND
    IDEM_CATCH_ALL {
      slot().reset();
      run.abandon("recover_with threw an exception");
      facts(run);
      verdict(Verdict::in_doubt, Effect::unknown);
      set_message(info(), "idem: recover_with threw an exception, so that this call's effect stays unknown");
      tell(EventKind::in_doubt, key, run.record());
      return true;
    }
    complete(run, key, Verdict::recovered);
    if (outcome_->verdict() == Verdict::recovered) tell(EventKind::recovered, key, run.record());
    return true;
  }

  void call(Run<Store>& run, const Key& key, Context& context, A&... arguments) {
    // What is thrown here is the function's, and nothing else is: recording its outcome comes after.
    IDEM_TRY {
      RunningFrame frame(run.record().owner);
      slot().emplace_from([&]() -> decltype(auto) {
        return invoke_with_context(state_.function(), context, static_cast<A&&>(arguments)...);
      });
    }
    IDEM_CATCH_UNWIND
    IDEM_CATCH_ALL {
      threw(run, key);
      return;
    }
    if constexpr (State::template has<extra::result_choice>) {
      if (std::optional<Failure> failure = classified_result(); failure.has_value()) {
        failed_by_value(run, key, *failure);
        return;
      }
    }
    complete(run, key, Verdict::executed);
  }

  void facts(const Run<Store>& run) noexcept { Access::facts(*outcome_) = Facts(run.record()); }

  Source result_source(const Key& key, Bytes& scratch) {
    return Keeping::source(state_.store(), slot(), key, state_.seal(), options().max_result_bytes, scratch);
  }

  void complete(Run<Store>& run, const Key& key, Verdict good) {
    Bytes scratch;
    recorded(run, run.complete(result_source(key, scratch), options().ttl), good);
  }

  void recorded(const Run<Store>& run, Recorded recorded, Verdict good) {
    facts(run);
    switch (recorded) {
      case Recorded::yes: verdict(good, Effect::ran); return;
      case Recorded::stale:
        verdict(Verdict::stale, Effect::ran);
        set_message(info(), "idem: the function ran, but meanwhile another owner took over this call or its record was removed");
        return;
      case Recorded::no:
        verdict(Verdict::unrecorded, Effect::ran);
        set_message(info(), "idem: the function ran, but its outcome couldn't be recorded: ", run.message());
        return;
    }
  }

  /// The function failed by value: the value is the caller's in any case.
  void failed_by_value(Run<Store>& run, const Key& key, Failure failure) {
    Bytes scratch;
    switch (failure) {
      case Failure::permanent:
        recorded(run, run.fail(result_source(key, scratch), options().ttl), Verdict::executed);
        return;
      case Failure::retryable: recorded(run, run.release(), Verdict::executed); break;
      case Failure::in_doubt: recorded(run, run.abandon("classify_result said so"), Verdict::executed); break;
    }
    if (outcome_->verdict() == Verdict::executed) {
      info().effect = failure == Failure::retryable ? Effect::not_run : Effect::unknown;
    }
  }

  std::optional<Failure> classified_result() {
    IDEM_TRY { return state_.template get<extra::result_choice>().function(std::as_const(*slot())); }
    IDEM_CATCH_UNWIND
    IDEM_CATCH_ALL { return Failure::in_doubt; }
  }

#if IDEM_EXCEPTIONS
  /// Called in a handler: keeps what is being handled.
  void keep_exception() noexcept { Access::exception(*outcome_) = std::current_exception(); }

  void threw(Run<Store>& run, const Key& key) {
    slot().reset();
    keep_exception();
    const std::exception_ptr& failure = Access::exception(*outcome_);
    Bytes scratch;
    Effect effect = Effect::unknown;
    Recorded recorded = Recorded::yes;
    switch (classified(failure)) {
      case Failure::retryable:
        effect = Effect::not_run;
        recorded = run.release();
        break;
      case Failure::permanent: {
        effect = Effect::ran;
        const Source source = Keeping::failure_source(state_.store(), failure, key, state_.seal(),
                                                      options().max_result_bytes, scratch);
        recorded = run.fail(source, options().ttl);
        break;
      }
      case Failure::in_doubt: recorded = run.abandon("the function ended by an exception that doesn't tell its effect"); break;
    }
    facts(run);
    verdict(Verdict::failed, effect);
    // Its own exception reaches the caller whatever the store says; what the store said stands beside it.
    if (recorded == Recorded::yes) {
      set_message(info(), "idem: the function failed");
    } else {
      set_message(info(), "idem: the function failed, and that couldn't be recorded: ", run.message());
    }
  }

  Failure classified(const std::exception_ptr& failure) {
    if constexpr (State::template has<extra::failure_choice>) {
      IDEM_TRY { return state_.template get<extra::failure_choice>().function(failure); }
      IDEM_CATCH_UNWIND
      IDEM_CATCH_ALL { return Failure::in_doubt; }
    } else {
      // What isn't a std::exception follows no convention, so that it says nothing about the effect.
      IDEM_TRY { std::rethrow_exception(failure); }
      IDEM_CATCH_UNWIND
      IDEM_CATCH_STD(error) { static_cast<void>(error); }
      IDEM_CATCH_ALL { return Failure::in_doubt; }
      switch (options().on_failure) {
        case OnFailure::unlock: return Failure::retryable;
        case OnFailure::lock: return Failure::permanent;
        case OnFailure::in_doubt: break;
      }
      return Failure::in_doubt;
    }
  }
#else
  void keep_exception() noexcept {}
  void threw(Run<Store>&, const Key&) noexcept {}
#endif

  void run_unguarded(const Key& key, const Reply& reply, LeaseState& lease, A&... arguments) {
    tell(EventKind::unguarded, key, reply.record, reply.message);
    const Record record;
    Context context = ContextAccess::make(key, record, lease);
    IDEM_TRY {
      slot().emplace_from([&]() -> decltype(auto) {
        return invoke_with_context(state_.function(), context, static_cast<A&&>(arguments)...);
      });
      verdict(Verdict::unguarded, Effect::ran);
      set_message(info(), "idem: the function ran without protection, since the store can't be used: ", reply.message);
    }
    IDEM_CATCH_UNWIND
    IDEM_CATCH_ALL {
      slot().reset();
      keep_exception();
      verdict(Verdict::failed, Effect::unknown);
      set_message(info(), "idem: the function failed, without protection, since the store can't be used: ", reply.message);
    }
  }

  const State& state_;
  Outcome<R>* outcome_ = nullptr;
  const char* error_ = nullptr;  ///< Why there is no key.
  bool has_fingerprint_ = false;
  Key key_;
  Digest fingerprint_;
  Key previous_key_;
};

}  // namespace detail
IDEM_END_NAMESPACE
