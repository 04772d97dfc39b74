// What a caller is told who doesn't run the function: what others did, or that the store can't be used.
#pragma once

#include <idem/detail/acquisition.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/guard_state.hpp>
#include <idem/detail/outcome_writer.hpp>
#include <idem/detail/results.hpp>
#include <idem/outcome.hpp>

#include <type_traits>
#include <utility>

IDEM_BEGIN_NAMESPACE
namespace detail {

/// `A` are the parameter types of the arguments.
template <class State, class R, class... A>
class Answering : OutcomeWriter<State, R> {
 public:
  using Store = typename State::Store;
  using Keeping = typename State::template Keeping<R>;

  using OutcomeWriter<State, R>::OutcomeWriter;

  void tell_answer(Acquisition<Store>& acquisition, const Key& key, A&... arguments) {
    Reply& reply = acquisition.reply();
    if (reply.answer != Answer::unavailable) facts(reply.record);
    if (acquisition.reentrant()) {
      verdict(Verdict::reentrant, Effect::unknown);
      set_message(info(), "idem: this call stands further up this thread's own stack; waiting for it would never end");
      tell(EventKind::reentrant, key, reply.record);
      return;
    }
    switch (reply.answer) {
      case Answer::completed:
      case Answer::failed:
        finished(reply, key, arguments...);
        return;
      case Answer::running:
        verdict(Verdict::in_progress, Effect::unknown);
        if (reply.record.lease_until != (TimePoint::max)()) {
          const auto left = reply.record.lease_until - state().store().now();
          if (left.count() > 0) Access::retry_after(outcome(), left);
        }
        set_message(info(), options().on_duplicate == OnDuplicate::raise
                                ? "idem: another caller is running this call"
                                : "idem: another caller was still running this call when waiting ended");
        tell(EventKind::in_progress, key, reply.record);
        return;
      case Answer::in_doubt:
        verdict(Verdict::in_doubt, Effect::unknown);
        set_message(
            info(),
            "idem: an earlier run of this call ended without a recorded outcome, so that its effect is unknown; "
            "find out and use resolve or forget, or give the guard recover_with");
        tell(EventKind::in_doubt, key, reply.record);
        return;
      case Answer::conflict:
        conflict(reply, key);
        return;
      case Answer::corrupt:
        verdict(Verdict::corrupt, Effect::unknown);
        set_message(info(), "idem: the record of this call can't be read: ", reply.message);
        tell(EventKind::corrupt, key, reply.record, reply.message);
        return;
      default:
        unavailable(key, reply);
        return;
    }
  }

  void no_key(const char* why) {
    verdict(Verdict::invalid_key, Effect::not_run);
    set_message(info(), "idem: these arguments have no key, the function wasn't run: ", why);
    tell(EventKind::invalid_key, Key(), Record{}, why);
  }

  void unavailable(const Key& key, const Reply& reply) {
    verdict(Verdict::unavailable, Effect::not_run);
    set_message(info(), "idem: the store can't be used, the function wasn't run: ", reply.message);
    tell(EventKind::unavailable, key, reply.record, reply.message);
  }

 private:
  using Base = OutcomeWriter<State, R>;
  using Base::facts;
  using Base::info;
  using Base::options;
  using Base::outcome;
  using Base::slot;
  using Base::state;
  using Base::tell;
  using Base::verdict;
  using typename Base::Access;

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
    IDEM_TRY {
      describe<R, Keeping, State::keeps_result>(outcome(), reply, key, state().seal());
    }
    IDEM_CATCH_UNWIND
    IDEM_CATCH_ALL {
      // No memory for a message.
      slot().reset();
      verdict(Verdict::unrecorded, Effect::ran);
    }
    tell(event_of(outcome().verdict()), key, reply.record, info().message);
  }

  void duplicate(const Key& key, const Record& record) {
    verdict(Verdict::duplicate, Effect::ran);
    set_message(info(), "idem: this call has been made");
    tell(EventKind::duplicate, key, record);
  }

  static EventKind event_of(Verdict verdict) noexcept {
    switch (verdict) {
      case Verdict::replayed:
        return EventKind::replayed;
      case Verdict::failure_replayed:
        return EventKind::failure_replayed;
      case Verdict::unrecorded:
        return EventKind::unrecorded;
      case Verdict::duplicate:
        return EventKind::duplicate;
      default:
        return EventKind::corrupt;
    }
  }

  void substitute(const Reply& reply, const Key& key, A&... arguments) {
    const auto& given = state().template get<extra::duplicate_value>().value;
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
      set_message(info(), "idem: this call has been made, and on_duplicate_return threw an exception");
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
};

}  // namespace detail
IDEM_END_NAMESPACE
