// Running the function (or asking what became of it) with the key in hand, and recording how that ended.
#pragma once

#include <idem/context.hpp>
#include <idem/detail/acquisition.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/guard_state.hpp>
#include <idem/detail/outcome_writer.hpp>
#include <idem/detail/running.hpp>
#include <idem/outcome.hpp>

#include <exception>
#include <optional>
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

  /// REQUIRES: the key is acquired. Asks recover_with first where an earlier run is in doubt.
  void run(Run<Store>& run, const Key& key, LeaseState& lease, A&... arguments) {
    const Record record = run.record();
    tell(record.attempt > 1 ? EventKind::taken_over : EventKind::claimed, key, record);
    Context context = ContextAccess::make(key, record, lease);
    if constexpr (State::template has<extra::recovery>) {
      if (record.attempt > 1 && recovered(run, key, context, arguments...)) return;
    }
    call(run, key, context, arguments...);
  }

  /// The store can't be used, and the user chose to go on without it.
  void run_unguarded(const Key& key, const Reply& reply, LeaseState& lease, A&... arguments) {
    tell(EventKind::unguarded, key, reply.record, reply.message);
    const Record record;
    Context context = ContextAccess::make(key, record, lease);
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

  bool recovered(Run<Store>& run, const Key& key, Context& context, A&... arguments) {
    const auto& ask = state().template get<extra::recovery>().function;
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
      facts(run.record());
      verdict(Verdict::in_doubt, Effect::unknown);
      set_message(info(), "idem: recover_with threw an exception, so that this call's effect stays unknown");
      tell(EventKind::in_doubt, key, run.record());
      return true;
    }
    complete(run, key, Verdict::recovered);
    if (outcome().verdict() == Verdict::recovered) tell(EventKind::recovered, key, run.record());
    return true;
  }

  void call(Run<Store>& run, const Key& key, Context& context, A&... arguments) {
    // What is thrown here is the function's, and nothing else is: recording its outcome comes after.
    IDEM_TRY {
      RunningFrame frame(run.record().owner);
      slot().emplace_from([&]() -> decltype(auto) {
        return invoke_with_context(state().function(), context, static_cast<A&&>(arguments)...);
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

  Source result_source(const Key& key, Bytes& scratch) {
    return Keeping::source(state().store(), slot(), key, state().seal(), options().max_result_bytes, scratch);
  }

  void complete(Run<Store>& run, const Key& key, Verdict good) {
    Bytes scratch;
    recorded(run, run.complete(result_source(key, scratch), options().ttl), good);
  }

  void recorded(const Run<Store>& run, Recorded recorded, Verdict good) {
    facts(run.record());
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
  void failed_by_value(Run<Store>& run, const Key& key, Failure failure) {
    Bytes scratch;
    switch (failure) {
      case Failure::permanent:
        recorded(run, run.fail(result_source(key, scratch), options().ttl), Verdict::executed);
        return;
      case Failure::retryable:
        recorded(run, run.release(), Verdict::executed);
        break;
      case Failure::in_doubt:
        recorded(run, run.abandon("classify_result said so"), Verdict::executed);
        break;
    }
    if (outcome().verdict() == Verdict::executed) {
      info().effect = failure == Failure::retryable ? Effect::not_run : Effect::unknown;
    }
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
  void threw(Run<Store>& run, const Key& key) {
    slot().reset();
    keep_exception();
    const std::exception_ptr& failure = Access::exception(outcome());
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
        const Source source =
            Keeping::failure_source(state().store(), failure, key, state().seal(), options().max_result_bytes, scratch);
        recorded = run.fail(source, options().ttl);
        break;
      }
      case Failure::in_doubt:
        recorded = run.abandon("the function ended by an exception that doesn't tell its effect");
        break;
    }
    facts(run.record());
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
  void threw(Run<Store>&, const Key&) noexcept {}
#endif
};

}  // namespace detail
IDEM_END_NAMESPACE
