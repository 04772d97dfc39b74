// Where a call's outcome is put together.
#pragma once

#include <idem/detail/acquisition.hpp>
#include <idem/detail/config.hpp>
#include <idem/options.hpp>
#include <idem/outcome.hpp>

#include <exception>
#include <string>
#include <string_view>

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

/// A guard's state and the outcome of one of its calls.
template <class State, class R>
class OutcomeWriter {
 public:
  OutcomeWriter(const State& state, Outcome<R>& outcome) noexcept : state_(state), outcome_(outcome) {}

 protected:
  using Access = OutcomeAccess;

  const State& state() const noexcept { return state_; }
  const Options& options() const noexcept { return state_.options(); }
  Outcome<R>& outcome() const noexcept { return outcome_; }
  ErrorInfo& info() const noexcept { return Access::info(outcome_); }
  Slot<R>& slot() const noexcept { return Access::value(outcome_); }
  void verdict(Verdict verdict, Effect effect) const noexcept { Access::set(outcome_, verdict, effect); }
  void facts(const Record& record) const noexcept { Access::facts(outcome_) = Facts(record); }
  void tell(EventKind kind, const Key& key, const Record& record, std::string_view message = {}) const {
    detail::tell(state_.observers(), kind, key, record, message);
  }
  /// Called in a handler: keeps what is being handled.
  void keep_exception() const noexcept {
#if IDEM_EXCEPTIONS
    Access::exception(outcome_) = std::current_exception();
#endif
  }

 private:
  const State& state_;
  Outcome<R>& outcome_;
};

}  // namespace detail
IDEM_END_NAMESPACE
