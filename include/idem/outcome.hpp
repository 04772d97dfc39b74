// Outcome<R>: how a call ended, without exceptions.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/slot.hpp>
#include <idem/duration.hpp>
#include <idem/error.hpp>
#include <idem/key.hpp>
#include <idem/protocol.hpp>

#include <cstdint>
#include <exception>
#include <memory>
#include <type_traits>
#include <utility>

IDEM_BEGIN_NAMESPACE

namespace detail {

/// What of a record a caller may want to know.
struct Facts {
  std::uint32_t attempt = 0;
  TimePoint started_at = {};
  TimePoint finished_at = {};
  TimePoint expires_at = (TimePoint::max)();

  Facts() noexcept = default;
  explicit Facts(const Record& record) noexcept
      : attempt(record.attempt),
        started_at(record.started_at),
        finished_at(record.finished_at),
        expires_at(record.expires_at) {}
};

struct OutcomeAccess;

}  // namespace detail

/// How a guarded call ended: a verdict, a value where there is one, and what the record says.
/// Thread safety: a plain value.
template <class R>
class Outcome {
 public:
  using value_type = R;

  Verdict verdict() const noexcept { return info_.verdict; }
  bool has_value() const noexcept { return value_.has_value(); }
  explicit operator bool() const noexcept { return has_value(); }

  /// The result. Without one it throws what `operator()` would: the function's own exception, the stored one, or the
  /// IdempotencyError that belongs to the verdict (where exceptions are off, the program ends).
  decltype(auto) value() & {
    require_value();
    if constexpr (!std::is_void_v<R>) return (*value_);
  }
  decltype(auto) value() const& {
    require_value();
    if constexpr (!std::is_void_v<R>) return (*value_);
  }
  decltype(auto) value() && {
    require_value();
    if constexpr (std::is_reference_v<R>) {
      return (*value_);
    } else if constexpr (!std::is_void_v<R>) {
      return R(std::move(*value_));
    }
  }

  const ErrorInfo& error() const noexcept { return info_; }
#if IDEM_EXCEPTIONS
  /// The function's own exception, or the stored one; empty where there is none.
  const std::exception_ptr& exception() const noexcept {
    return exception_;
  }
#endif

  const Key& key() const noexcept {
    return key_;
  }
  /// How often the key was acquired since it was last absent, released or expired; 0 where no record was seen.
  std::uint32_t attempt() const noexcept {
    return facts_.attempt;
  }
  /// When the key was first claimed in that time.
  TimePoint started_at() const noexcept {
    return facts_.started_at;
  }
  /// When the outcome was recorded; the clock's epoch where there is none.
  TimePoint finished_at() const noexcept {
    return facts_.finished_at;
  }
  /// When the outcome will be forgotten; `TimePoint::max()`, which is never, where there is none.
  TimePoint expires_at() const noexcept {
    return facts_.expires_at;
  }
  /// How long the caller waited for another one's run.
  std::chrono::microseconds waited() const noexcept {
    return waited_;
  }
  /// After which time it makes sense to call again; zero where it makes none or nothing is known.
  std::chrono::microseconds retry_after() const noexcept {
    return retry_after_;
  }

 private:
  friend struct detail::OutcomeAccess;

  void require_value() const {
    if (has_value()) return;
#if IDEM_EXCEPTIONS
    if (exception_ != nullptr) std::rethrow_exception(exception_);
#endif
    detail::raise_verdict(info_, key_, ready_to_wait_);
  }

  // No `= {}` behind members of class type: g++ would clear the whole object first, which takes longer than the rest.
  detail::Slot<R> value_;
  ErrorInfo info_;
#if IDEM_EXCEPTIONS
  std::exception_ptr exception_;
#endif
  detail::Facts facts_;
  std::chrono::microseconds waited_ = {};
  std::chrono::microseconds retry_after_ = {};
  bool ready_to_wait_ = true;
  Key key_;
};

namespace detail {

/// Lets the parts of idem that make outcomes fill them in.
struct OutcomeAccess {
  template <class R>
  static Slot<R>& value(Outcome<R>& outcome) noexcept {
    return outcome.value_;
  }
  template <class R>
  static ErrorInfo& info(Outcome<R>& outcome) noexcept {
    return outcome.info_;
  }
#if IDEM_EXCEPTIONS
  template <class R>
  static std::exception_ptr& exception(Outcome<R>& outcome) noexcept {
    return outcome.exception_;
  }
#endif
  template <class R>
  static void set(Outcome<R>& outcome, Verdict verdict, Effect effect) noexcept {
    outcome.info_.verdict = verdict;
    outcome.info_.effect = effect;
  }
  template <class R>
  static Facts& facts(Outcome<R>& outcome) noexcept {
    return outcome.facts_;
  }
  template <class R>
  static void waited(Outcome<R>& outcome, std::chrono::microseconds span, bool ready_to_wait) noexcept {
    outcome.waited_ = span;
    outcome.ready_to_wait_ = ready_to_wait;
  }
  template <class R>
  static void retry_after(Outcome<R>& outcome, std::chrono::microseconds span) noexcept {
    outcome.retry_after_ = span;
  }
  template <class R>
  static void key(Outcome<R>& outcome, Key&& key) noexcept {
    outcome.key_ = KeyBuilder::owned(std::move(key));
  }
};

}  // namespace detail

IDEM_END_NAMESPACE
