// Running the function (or asking what became of it) with the key in hand, and recording how that ended.
#pragma once

#include <idem/context.hpp>
#include <idem/detail/acquisition.hpp>
#include <idem/detail/cancellation.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/guard_state.hpp>
#include <idem/detail/outcome_writer.hpp>
#include <idem/outcome.hpp>

#include <exception>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

IDEM_BEGIN_NAMESPACE
namespace detail {

/// `A` are the parameter types of the arguments.
template <class State, class R, class... A>
class Invocation : OutcomeWriter<State, R> {
 public:
  using Store = typename State::Store;
  using Keeping = typename State::template Keeping<R>;

  using OutcomeWriter<State, R>::OutcomeWriter;

  /// Runs the function and records its outcome. REQUIRES: the key is acquired; `twin`, where there is one, is the same
  /// call under its other key, which ends the same way. Asks recover_with first where an earlier run is in doubt.
  void run(Run<Store>& run, Run<Store>* twin, LeaseState& lease, A&... arguments) {
    twin_ = twin;
    attempt_ = run.record().attempt;
    if (twin != nullptr && twin->record().attempt > attempt_) attempt_ = twin->record().attempt;
    if (!state().observers().empty()) {
      const NoCancellation shield;  // the function hasn't begun, so that nothing is in doubt yet
      Record record = run.record();
      record.attempt = attempt_;
      tell(attempt_ > 1 ? EventKind::taken_over : EventKind::claimed, run.key(), record);
    }
    if constexpr (State::template has<extra::forwarding>) {
      if (!agreed(run)) return;
    }
    Context context = ContextAccess::make(run.key(), run.record(), attempt_, lease);
    recover_or_call(run, context, arguments...);
    if constexpr (State::template has<extra::forwarding>) told_elsewhere(run);
  }

  /// The store can't be used, and the user chose to go on without it.
  void run_unguarded(const Key& key, const Reply& reply, LeaseState& lease, A&... arguments) {
    tell(EventKind::unguarded, key, reply.record, reply.message);
    const Record record;
    Context context = ContextAccess::make(key, record, record.attempt, lease);
    IDEM_TRY {
      slot().emplace_from([&]() -> decltype(auto) {
        return invoke_with_context(state().function(), context, static_cast<A&&>(arguments)...);
      });
      verdict(Verdict::unguarded, Effect::ran);
      set_message(info(), "idem: the function ran without protection, since the store can't be used: ", reply.message);
    }
    IDEM_CATCH_UNWIND
    IDEM_CATCH_ALL {
      slot().reset();
      keep_exception();
      verdict(Verdict::failed, Effect::unknown);
      set_message(info(),
                  "idem: the function failed, without protection, since the store can't be used: ", reply.message);
    }
  }

 private:
  using Base = OutcomeWriter<State, R>;
  using Base::facts;
  using Base::info;
  using Base::keep_exception;
  using Base::options;
  using Base::outcome;
  using Base::slot;
  using Base::state;
  using Base::tell;
  using Base::verdict;
  using typename Base::Access;

  void recover_or_call(Run<Store>& run, Context& context, A&... arguments) {
    if constexpr (State::template has<extra::recovery>) {
      if (attempt_ > 1 && recovered(run, context, arguments...)) return;
    }
    call(run, context, arguments...);
  }

  /// Asks elsewhere before the function runs. False where that ends the call: nothing has happened here.
  bool agreed(Run<Store>& run) {
    const auto asked = state().template get<extra::forwarding>().before(run.key(), attempt_, options().ttl);
    if (!asked.message.empty()) tell(EventKind::store_warning, run.key(), run.record(), asked.message);
    if (asked.go_on) return true;
    release(run);
    facts_of(run);
    Effect effect = Effect::not_run;
    EventKind kind = EventKind::unavailable;
    if (asked.verdict == Verdict::duplicate) {
      effect = Effect::ran;
      kind = EventKind::duplicate;
    } else if (asked.verdict == Verdict::in_doubt) {
      effect = Effect::unknown;
      kind = EventKind::in_doubt;
    }
    verdict(asked.verdict, effect);
    set_message(info(), "idem: ", asked.message);
    tell(kind, run.key(), run.record(), asked.message);
    return false;
  }
  void told_elsewhere(const Run<Store>& run) {
    const NoCancellation shield;  // the outcome is recorded: nothing may be lost any more
    const std::string problem = state().template get<extra::forwarding>().after(run.key(), attempt_, info());
    if (!problem.empty()) tell(EventKind::store_warning, run.key(), run.record(), problem);
  }

  bool recovered(Run<Store>& run, Context& context, A&... arguments) {
    const auto& ask = state().template get<extra::recovery>().function;
    bool found = false;
    IDEM_TRY {
      auto answer = [&] {
        // As with the function itself: no Context for who doesn't ask for one.
        if constexpr (std::is_invocable_v<decltype(ask), const std::remove_reference_t<A>&...>) {
          return ask(std::as_const(arguments)...);
        } else {
          return ask(std::as_const(arguments)..., context);
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
      abandon(run, "recover_with threw an exception");
      facts_of(run);
      verdict(Verdict::in_doubt, Effect::unknown);
      set_message(info(), "idem: recover_with threw an exception, so that this call's effect stays unknown");
      tell(EventKind::in_doubt, run.key(), run.record());
      return true;
    }
    complete(run, Verdict::recovered);
    if (outcome().verdict() == Verdict::recovered) tell(EventKind::recovered, run.key(), run.record());
    return true;
  }

  void call(Run<Store>& run, Context& context, A&... arguments) {
    // What is thrown here is the function's, and nothing else is: recording its outcome comes after.
    IDEM_TRY {
      slot().emplace_from([&]() -> decltype(auto) {
        return invoke_with_context(state().function(), context, static_cast<A&&>(arguments)...);
      });
    }
    IDEM_CATCH_UNWIND
    IDEM_CATCH_ALL {
      threw(run);
      return;
    }
    if constexpr (State::template has<extra::result_choice>) {
      if (std::optional<Failure> failure = classified_result(); failure.has_value()) {
        failed_by_value(run, *failure);
        return;
      }
    }
    complete(run, Verdict::executed);
  }

  Source result_source(const Key& key, Bytes& scratch) {
    return Keeping::source(state().store(), slot(), key, state().seal(), options().max_result_bytes, scratch);
  }

  void complete(Run<Store>& run, Verdict good) { recorded(run, keep_value(run, false), good); }

  // Each way to end a run ends its twin, too.

  Recorded keep_value(Run<Store>& run, bool as_failure) {
    const auto keep = [&](Run<Store>& one) {
      Bytes scratch;
      FinishRequest request{{}, options().ttl, result_source(one.key(), scratch)};
      return as_failure ? one.fail(std::move(request)) : one.complete(std::move(request));
    };
    const Recorded recorded = keep(run);
    if (twin_ != nullptr) keep(*twin_);
    return recorded;
  }
  /// A run without an effect says nothing about one before it.
  Effect released_effect() const noexcept { return attempt_ > 1 ? Effect::unknown : Effect::not_run; }
  Recorded release(Run<Store>& run) {
    if (twin_ != nullptr) twin_->release();
    return run.release();
  }
  Recorded abandon(Run<Store>& run, std::string_view why) {
    if (twin_ != nullptr) twin_->abandon(why);
    return run.abandon(why);
  }

  void recorded(const Run<Store>& run, Recorded recorded, Verdict good) {
    facts_of(run);
    switch (recorded) {
      case Recorded::yes:
        verdict(good, Effect::ran);
        return;
      case Recorded::stale:
        verdict(Verdict::stale, Effect::ran);
        set_message(
            info(),
            "idem: the function ran, but meanwhile another owner took over this call or its record was removed");
        return;
      case Recorded::no:
        verdict(Verdict::unrecorded, Effect::ran);
        set_message(info(), "idem: the function ran, but its outcome couldn't be recorded: ", run.message());
        return;
    }
  }

  /// The function failed by value: the value is the caller's in any case.
  void failed_by_value(Run<Store>& run, Failure failure) {
    switch (failure) {
      case Failure::permanent:
        recorded(run, keep_value(run, true), Verdict::executed);
        return;
      case Failure::retryable:
        recorded(run, release(run), Verdict::executed);
        break;
      case Failure::in_doubt:
        recorded(run, abandon(run, "classify_result said so"), Verdict::executed);
        break;
    }
    if (outcome().verdict() == Verdict::executed)
      info().effect = failure == Failure::in_doubt ? Effect::unknown : released_effect();
  }

  std::optional<Failure> classified_result() {
    IDEM_TRY {
      return state().template get<extra::result_choice>().function(std::as_const(*slot()));
    }
    IDEM_CATCH_UNWIND
    IDEM_CATCH_ALL {
      return Failure::in_doubt;
    }
  }

#if IDEM_EXCEPTIONS
  void threw(Run<Store>& run) {
    slot().reset();
    keep_exception();
    const std::exception_ptr& failure = Access::exception(outcome());
    Effect effect = Effect::unknown;
    Recorded recorded = Recorded::yes;
    switch (classified(failure)) {
      case Failure::retryable:
        recorded = release(run);
        effect = released_effect();
        break;
      case Failure::permanent:
        effect = Effect::ran;
        recorded = keep_failure(run, failure);
        break;
      case Failure::in_doubt:
        recorded = abandon(run, "the function ended by an exception that doesn't tell its effect");
        break;
    }
    facts_of(run);
    verdict(Verdict::failed, effect);
    // Its own exception reaches the caller whatever the store says; what the store said stands beside it.
    if (recorded == Recorded::yes) {
      set_message(info(), "idem: the function failed");
    } else {
      set_message(info(), "idem: the function failed, and that couldn't be recorded: ", run.message());
    }
  }

  Recorded keep_failure(Run<Store>& run, const std::exception_ptr& failure) {
    const auto keep = [&](Run<Store>& one) {
      Bytes scratch;
      return one.fail({{},
                       options().ttl,
                       Keeping::failure_source(state().store(), failure, one.key(), state().seal(),
                                               options().max_result_bytes, scratch)});
    };
    const Recorded recorded = keep(run);
    if (twin_ != nullptr) keep(*twin_);
    return recorded;
  }

  Failure classified(const std::exception_ptr& failure) {
    if constexpr (State::template has<extra::failure_choice>) {
      IDEM_TRY {
        return state().template get<extra::failure_choice>().function(failure);
      }
      IDEM_CATCH_UNWIND
      IDEM_CATCH_ALL {
        return Failure::in_doubt;
      }
    } else {
      // What isn't a std::exception follows no convention, so that it says nothing about the effect.
      IDEM_TRY {
        std::rethrow_exception(failure);
      }
      IDEM_CATCH_UNWIND
      IDEM_CATCH_STD(error) {
        static_cast<void>(error);
      }
      IDEM_CATCH_ALL {
        return Failure::in_doubt;
      }
      switch (options().on_failure) {
        case OnFailure::unlock:
          return Failure::retryable;
        case OnFailure::lock:
          return Failure::permanent;
        case OnFailure::in_doubt:
          break;
      }
      return Failure::in_doubt;
    }
  }
#else
  void threw(Run<Store>&) noexcept {}
#endif

  void facts_of(const Run<Store>& run) const noexcept {
    facts(run.record());
    Access::facts(outcome()).attempt = attempt_;
  }

  Run<Store>* twin_ = nullptr;
  std::uint32_t attempt_ = 1;
};

}  // namespace detail
IDEM_END_NAMESPACE
