// Options of a guard.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/duration.hpp>

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

IDEM_BEGIN_NAMESPACE

/// What a caller gets who calls a second time.
enum class OnDuplicate : std::uint8_t {
  return_stored = 1,  ///< The stored result; a running call is waited for, up to `wait_timeout`.
  raise = 2,          ///< DuplicateExecutionError at once, also while it runs.
  wait = 3,           ///< The stored result; a running call is waited for, up to `wait_limit`.
};

/// What an exception of the function says about its effect. `classify_failure` goes before.
enum class OnFailure : std::uint8_t {
  unlock = 1,    ///< Nothing happened: the key is free again, the next call runs.
  lock = 2,      ///< It is the outcome: kept for `ttl` and replayed.
  in_doubt = 3,  ///< Nobody knows: the next call is told so.
};

/// What a caller gets who meets a run whose effect is unknown, where no `recover_with` can tell.
enum class OnInDoubt : std::uint8_t {
  report = 1,  ///< InDoubtError; nothing runs.
  rerun = 2,   ///< The function runs again with a higher fencing token, and may repeat the effect.
};

/// What a caller gets who uses a key again with other arguments (those that aren't in the key).
enum class OnConflict : std::uint8_t {
  ignore = 1,  ///< The stored result, as if they were the same. Nothing is compared or stored for it.
  raise = 2,   ///< KeyConflictError. Costs a digest per call.
};

/// What happens when the store doesn't answer.
enum class OnStoreError : std::uint8_t {
  fail_closed = 1,    ///< StoreError; the function isn't run.
  run_unguarded = 2,  ///< The function runs without protection and may repeat its effect.
};

/// What a caller gets whose function ran, but whose outcome couldn't be recorded, or whose key another owner took over.
enum class OnUnrecorded : std::uint8_t {
  return_value = 1,  ///< The function's result.
  raise = 2,         ///< UnrecordedError or StaleOwnerError; the result is lost to `operator()`, not to `try_call`.
};

/// Every field has a default, and their order is part of the interface. First what decides correctness, then tuning.
/// A span that is zero (but for `wait_timeout`), negative or too long is refused when the guard is made
/// (std::invalid_argument).
struct Options {
  Duration ttl = std::chrono::hours(
      24);  ///< How long a finished outcome is remembered, from its end on; `idem::forever`. Longer than any retry.
  OnDuplicate on_duplicate = OnDuplicate::return_stored;
  OnFailure on_failure = OnFailure::unlock;
  OnInDoubt on_in_doubt = OnInDoubt::report;
  OnConflict on_conflict = OnConflict::ignore;
  OnStoreError on_store_error = OnStoreError::fail_closed;
  OnUnrecorded on_unrecorded = OnUnrecorded::return_value;
  Duration wait_timeout =
      std::chrono::seconds(10);   ///< How long `return_stored` waits for a running call; 0: it doesn't wait.
  Duration wait_limit = forever;  ///< How long `wait` waits for a running call.
  Duration lease =
      std::chrono::seconds(30);  ///< Where nothing else proves that an owner lives; renewed at a third of it.
  std::size_t max_result_bytes =
      1 << 20;                ///< Larger results aren't kept by stores of bytes: duplicates get UnrecordedError.
  std::uint32_t version = 1;  ///< Of the call's meaning; part of the key, so that a new one starts afresh.
  std::string scope = {};     ///< A tenant, say; part of the key.
};

namespace detail {

inline void check_span(Duration span, bool may_be_zero, const char* what) {
  if (span.overflowed()) {
    raise(std::invalid_argument(std::string("idem: ") + what +
                                " is too long (about 292 years at most); use idem::forever"));
  }
  if (span.nanoseconds() < 0 || (!may_be_zero && span.nanoseconds() == 0)) {
    raise(std::invalid_argument(std::string("idem: ") + what +
                                (may_be_zero ? " must not be negative" : " must be longer than zero")));
  }
}

inline void check_options(const Options& options) {
  check_span(options.ttl, false, "Options::ttl");
  check_span(options.wait_timeout, true, "Options::wait_timeout");
  check_span(options.wait_limit, false, "Options::wait_limit");
  check_span(options.lease, false, "Options::lease");
  if (options.version == 0) raise(std::invalid_argument("idem: Options::version starts at 1"));
}

}  // namespace detail

IDEM_END_NAMESPACE
