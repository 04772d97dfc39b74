// Guard: a callable whose calls happen at most once. AnyGuard: any guard behind one type.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/execution.hpp>
#include <idem/detail/guard_state.hpp>
#include <idem/detail/signature.hpp>
#include <idem/outcome.hpp>

#include <concepts>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

IDEM_BEGIN_NAMESPACE
namespace detail {

/// What all guards do, whatever the form of their parameters.
template <class State>
class GuardCore {
 public:
  explicit GuardCore(std::shared_ptr<const State> state) noexcept : state_(std::move(state)) {}

  template <class R, class... A>
  R call(A&&... arguments) const {
    Execution<State, R, A...> execution(*state_);
    execution.prepare(arguments...);
    if (Slot<R> slot; execution.replay(slot, nullptr)) return take<R>(slot);
    return protocol_call<R, A...>(execution, static_cast<A&&>(arguments)...);
  }

  template <class R, class... A>
  Outcome<R> try_call(A&&... arguments) const {
    Execution<State, R, A...> execution(*state_);
    execution.prepare(arguments...);
    Outcome<R> outcome;
    if (execution.replay(OutcomeAccess::value(outcome), &OutcomeAccess::facts(outcome))) {
      OutcomeAccess::set(outcome, Verdict::replayed, Effect::ran);
    } else {
      execution.run(outcome, static_cast<A&&>(arguments)...);
    }
    OutcomeAccess::key(outcome, execution.take_key());
    return outcome;
  }

  template <class... A>
  Key key(const std::remove_reference_t<A>&... arguments) const {
    Key key;
    if (const char* error = state_->template make_key<A...>(key, state_->domain(), arguments...); error != nullptr) {
      raise(SerializationError({Verdict::invalid_key, Effect::not_run, error}, Key()));
    }
    return key;
  }

  template <class R, class... A>
  std::optional<Outcome<R>> find(const std::remove_reference_t<A>&... arguments) const {
    Key key = this->key<A...>(arguments...);
    Reply reply = state_->store().find(key);
    if (reply.answer == Answer::absent && state_->previous()) {
      key = Key();
      state_->template make_key<A...>(key, state_->previous(), arguments...);
      reply = state_->store().find(key);
    }
    if (reply.answer == Answer::absent) return std::nullopt;
    std::optional<Outcome<R>> found(std::in_place);
    OutcomeAccess::facts(*found) = Facts(reply.record);
    describe<R, typename State::template Keeping<R>, State::keeps_result>(*found, reply, key, state_->seal());
    OutcomeAccess::key(*found, std::move(key));
    return found;
  }

  template <class... A>
  bool forget(const std::remove_reference_t<A>&... arguments) const {
    Key key = this->key<A...>(arguments...);
    bool forgotten = forget_key(key);
    if (state_->previous()) {
      key = Key();
      state_->template make_key<A...>(key, state_->previous(), arguments...);
      forgotten = forget_key(key) || forgotten;
    }
    return forgotten;
  }

  const std::shared_ptr<const State>& state() const noexcept { return state_; }

 private:
  template <class R, class... A>
  IDEM_NOINLINE R protocol_call(Execution<State, R, A...>& execution, A&&... arguments) const {
    Outcome<R> outcome;
    execution.run(outcome, static_cast<A&&>(arguments)...);
    if (!outcome.has_value() || raises(outcome)) [[unlikely]]
      no_value(outcome, execution.take_key());
    return take<R>(OutcomeAccess::value(outcome));
  }

  template <class R>
  static R take(Slot<R>& slot) {
    if constexpr (std::is_reference_v<R>) {
      return *slot;
    } else if constexpr (!std::is_void_v<R>) {
      return R(std::move(*slot));
    } else {
      static_cast<void>(slot);
    }
  }

  template <class R>
  bool raises(const Outcome<R>& outcome) const noexcept {
    return state_->options().on_unrecorded == OnUnrecorded::raise &&
           (outcome.verdict() == Verdict::unrecorded || outcome.verdict() == Verdict::stale);
  }

  template <class R>
  [[noreturn]] IDEM_COLD void no_value(Outcome<R>& outcome, Key&& key) const {
    OutcomeAccess::key(outcome, std::move(key));
    if (outcome.has_value()) raise_verdict(outcome.error(), outcome.key(), true);
    static_cast<void>(outcome.value());
    std::abort();  // value() has thrown
  }

  bool forget_key(const Key& key) const {
    const Reply reply = state_->store().erase(key);
    if (reply.answer == Answer::unavailable || reply.answer == Answer::corrupt) {
      raise(StoreError(
          {Verdict::unavailable, Effect::unknown, "idem: the store can't forget the call: " + reply.message}, key));
    }
    if (reply.answer == Answer::ok) tell(state_->observers(), EventKind::forgotten, key, reply.record);
    return reply.answer == Answer::ok;
  }

  std::shared_ptr<const State> state_;
};

}  // namespace detail

/// A callable whose calls happen at most once, made by `idem::idempotent`. A handle: copies share callable, options and
/// store. `Arguments` is the callable's parameter list without the Context where it has one signature; see below for
/// callables with many.
///
/// Thread safety: all members are const and may be called from any thread; the callable is called by many threads at
/// once, for different keys.
template <class State, class Arguments>
class Guard;

template <class State, class... A>
class Guard<State, detail::TypeList<A...>> {
  using Result = typename detail::Signature<typename State::Callable>::Result;

 public:
  explicit Guard(std::shared_ptr<const State> state) noexcept : core_(std::move(state)) {}

  /// Calls the function unless it was called with this key before; the result is the function's, or the stored one.
  /// Throws the function's own exception, the stored one, or an IdempotencyError (docs/errors.md says of each whether
  /// the function was run).
  Result operator()(A... arguments) const { return core_.template call<Result, A...>(static_cast<A&&>(arguments)...); }

  /// The same; throws nothing but the end of a cancelled thread.
  Outcome<Result> try_call(A... arguments) const {
    return core_.template try_call<Result, A...>(static_cast<A&&>(arguments)...);
  }

  /// The key of a call. Throws SerializationError where these arguments have none.
  Key key(const std::remove_reference_t<A>&... arguments) const { return core_.template key<A...>(arguments...); }

  /// What is known of a call, without making it; `nullopt` where nothing is, or not any more.
  std::optional<Outcome<Result>> find(const std::remove_reference_t<A>&... arguments) const {
    return core_.template find<Result, A...>(arguments...);
  }

  /// Forgets a call, so that the next one runs: an explicit choice, also of one in doubt. False where there was nothing
  /// to forget, or where it's running. Throws StoreError.
  bool forget(const std::remove_reference_t<A>&... arguments) const {
    return core_.template forget<A...>(arguments...);
  }

 private:
  detail::GuardCore<State> core_;
};

/// Of a callable with many signatures: arguments are forwarded, and enter the key as they are given.
template <class State>
class Guard<State, void> {
  using Callable = typename State::Callable;
  template <class... A>
  using ResultFor = detail::CallResult<Callable, A...>;

 public:
  explicit Guard(std::shared_ptr<const State> state) noexcept : core_(std::move(state)) {}

  template <class... A>
  ResultFor<A...> operator()(A&&... arguments) const {
    return core_.template call<ResultFor<A...>, Plain<A>...>(std::forward<A>(arguments)...);
  }
  template <class... A>
  Outcome<ResultFor<A...>> try_call(A&&... arguments) const {
    return core_.template try_call<ResultFor<A...>, Plain<A>...>(std::forward<A>(arguments)...);
  }
  template <class... A>
  Key key(const A&... arguments) const {
    return core_.template key<const A&...>(arguments...);
  }
  template <class... A>
  std::optional<Outcome<ResultFor<const A&...>>> find(const A&... arguments) const {
    return core_.template find<ResultFor<const A&...>, const A&...>(arguments...);
  }
  template <class... A>
  bool forget(const A&... arguments) const {
    return core_.template forget<const A&...>(arguments...);
  }

 private:
  template <class A>
  using Plain = A&&;

  detail::GuardCore<State> core_;
};

template <class Signature>
class AnyGuard;

/// Any guard of a function `R(Args…)`, for class members and interfaces. Copies share the guard. Empty only when moved
/// from. Thread safety: that of a guard.
template <class R, class... A>
class AnyGuard<R(A...)> {
 public:
  template <class G>
  requires(!std::same_as<std::remove_cvref_t<G>, AnyGuard> &&
           requires(const std::remove_cvref_t<G>& guard, A... a) {
             { guard.try_call(static_cast<A&&>(a)...) } -> std::same_as<Outcome<R>>;
           }) AnyGuard(G&& guard)  // NOLINT: conversion is the point
      : held_(std::make_shared<const Held<std::remove_cvref_t<G>>>(std::forward<G>(guard))) {}

  R operator()(A... arguments) const { return held_->call(static_cast<A&&>(arguments)...); }
  Outcome<R> try_call(A... arguments) const { return held_->try_call(static_cast<A&&>(arguments)...); }
  Key key(const std::remove_reference_t<A>&... arguments) const { return held_->key(arguments...); }
  std::optional<Outcome<R>> find(const std::remove_reference_t<A>&... arguments) const {
    return held_->find(arguments...);
  }
  bool forget(const std::remove_reference_t<A>&... arguments) const { return held_->forget(arguments...); }

 private:
  struct Interface {
    virtual ~Interface() = default;
    virtual R call(A... arguments) const = 0;
    virtual Outcome<R> try_call(A... arguments) const = 0;
    virtual Key key(const std::remove_reference_t<A>&... arguments) const = 0;
    virtual std::optional<Outcome<R>> find(const std::remove_reference_t<A>&... arguments) const = 0;
    virtual bool forget(const std::remove_reference_t<A>&... arguments) const = 0;
  };
  template <class G>
  struct Held final : Interface {
    explicit Held(G held) : guard(std::move(held)) {}
    R call(A... arguments) const override { return guard(static_cast<A&&>(arguments)...); }
    Outcome<R> try_call(A... arguments) const override { return guard.try_call(static_cast<A&&>(arguments)...); }
    Key key(const std::remove_reference_t<A>&... arguments) const override { return guard.key(arguments...); }
    std::optional<Outcome<R>> find(const std::remove_reference_t<A>&... arguments) const override {
      return guard.find(arguments...);
    }
    bool forget(const std::remove_reference_t<A>&... arguments) const override { return guard.forget(arguments...); }
    G guard;
  };

  std::shared_ptr<const Interface> held_;
};

IDEM_END_NAMESPACE
