// Verdicts, what is known about the effect, and the exceptions that `operator()` throws.
//
// docs/errors.md says of each: its cause, whether the function was run, and whether the caller may retry.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/shared_object.hpp>
#include <idem/key.hpp>

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

IDEM_BEGIN_NAMESPACE

/// What is known about the effect behind a key.
enum class Effect : std::uint8_t { not_run = 1, ran = 2, unknown = 3 };

/// How a call ended. Zero is reserved.
enum class Verdict : std::uint8_t {
  executed = 1,          ///< The function ran now; its outcome is recorded as configured.
  replayed = 2,          ///< An earlier run's result.
  recovered = 3,         ///< recover_with told an earlier run's result.
  unguarded = 4,         ///< The function ran without protection, since the store didn't answer.
  failed = 5,            ///< The function threw.
  failure_replayed = 6,  ///< An earlier run's failure.
  duplicate = 7,         ///< The call has been made; there is no result to give.
  in_progress = 8,       ///< Another caller is running it.
  in_doubt = 9,          ///< An earlier run's effect is unknown.
  conflict = 10,         ///< The key was used with other arguments.
  reentrant = 11,        ///< The call stands further up this thread's own stack.
  invalid_key = 12,      ///< The arguments have no key.
  unavailable = 13,      ///< The store didn't answer; the function wasn't run.
  unrecorded = 14,       ///< The function ran, but its outcome isn't durable or its result couldn't be kept.
  stale = 15,            ///< The function ran, but another owner took over meanwhile.
  corrupt = 16,          ///< The record can't be read.
};

constexpr std::string_view name_of(Verdict verdict) noexcept {
  constexpr std::string_view names[] = {"none",     "executed",         "replayed",    "recovered",   "unguarded",
                                        "failed",   "failure_replayed", "duplicate",   "in_progress", "in_doubt",
                                        "conflict", "reentrant",        "invalid_key", "unavailable", "unrecorded",
                                        "stale",    "corrupt"};
  const auto index = static_cast<std::size_t>(verdict);
  return index < sizeof names / sizeof names[0] ? names[index] : names[0];
}

constexpr std::string_view name_of(Effect effect) noexcept {
  return effect == Effect::not_run ? "not_run" : effect == Effect::ran ? "ran" : "unknown";
}

/// Why a call has no value, or what is to be known beside it.
struct ErrorInfo {
  Verdict verdict = Verdict::executed;
  Effect effect = Effect::ran;
  std::string message{};
};

/// Base of everything that `operator()` throws beside the function's own exceptions.
/// Thread safety: immutable; copies share what they refer to and don't throw.
class IdempotencyError : public std::runtime_error {
 public:
  IdempotencyError(const ErrorInfo& info, const Key& key)
      : std::runtime_error(info.message),
        key_(detail::SharedObject::make<Key>(key)),
        verdict_(info.verdict),
        effect_(info.effect) {}

  /// Of the call; an empty one where its arguments have none.
  const Key& key() const noexcept { return key_.as<const Key>(); }
  Effect effect() const noexcept { return effect_; }
  Verdict verdict() const noexcept { return verdict_; }

 private:
  detail::SharedObject key_;
  Verdict verdict_;
  Effect effect_;
};

/// The call has been made, or is being made (OnDuplicate::raise); there is no result to hand out.
class DuplicateExecutionError : public IdempotencyError {
  using IdempotencyError::IdempotencyError;
};
/// Another caller was still running it when waiting ended.
class LockTimeoutError : public IdempotencyError {
  using IdempotencyError::IdempotencyError;
};
/// An earlier run ended without anybody knowing its effect.
class InDoubtError : public IdempotencyError {
  using IdempotencyError::IdempotencyError;
};
/// The key was used with other arguments.
class KeyConflictError : public IdempotencyError {
  using IdempotencyError::IdempotencyError;
};
/// The call stands further up this thread's own stack; waiting for it would never end.
class ReentrantCallError : public IdempotencyError {
  using IdempotencyError::IdempotencyError;
};
/// The arguments have no key (NaN, a codec that refuses); the function wasn't run.
class SerializationError : public IdempotencyError {
  using IdempotencyError::IdempotencyError;
};
/// The store didn't answer; the function wasn't run.
class StoreError : public IdempotencyError {
  using IdempotencyError::IdempotencyError;
};
/// The function ran, now or earlier, but its outcome isn't durable, or its result couldn't be kept.
class UnrecordedError : public IdempotencyError {
  using IdempotencyError::IdempotencyError;
};
/// The function ran, but another owner had taken over the key meanwhile.
class StaleOwnerError : public IdempotencyError {
  using IdempotencyError::IdempotencyError;
};
/// The record can't be read. It stays as it is.
class CorruptRecordError : public IdempotencyError {
  using IdempotencyError::IdempotencyError;
};

/// A stored failure whose type isn't known here: its message, and the name of its type as the process that stored it
/// spelled it.
class ReplayedError : public IdempotencyError {
 public:
  ReplayedError(const ErrorInfo& info, const Key& key, std::string_view type_name)
      : IdempotencyError(info, key), type_name_(detail::SharedObject::make<std::string>(type_name)) {}
  const std::string& type_name() const noexcept { return type_name_.as<const std::string>(); }

 private:
  detail::SharedObject type_name_;
};

namespace detail {

/// Throws the exception that belongs to the verdict. REQUIRES: one without a value. `waited`: the caller was ready to
/// wait for a running call.
[[noreturn]] IDEM_COLD inline void raise_verdict(const ErrorInfo& info, const Key& key, bool waited) {
  switch (info.verdict) {
    case Verdict::duplicate:
      raise(DuplicateExecutionError(info, key));
    case Verdict::in_progress:
      if (waited) raise(LockTimeoutError(info, key));
      raise(DuplicateExecutionError(info, key));
    case Verdict::in_doubt:
      raise(InDoubtError(info, key));
    case Verdict::conflict:
      raise(KeyConflictError(info, key));
    case Verdict::reentrant:
      raise(ReentrantCallError(info, key));
    case Verdict::invalid_key:
      raise(SerializationError(info, key));
    case Verdict::unavailable:
      raise(StoreError(info, key));
    case Verdict::unrecorded:
      raise(UnrecordedError(info, key));
    case Verdict::stale:
      raise(StaleOwnerError(info, key));
    case Verdict::failure_replayed:
      raise(ReplayedError(info, key, {}));
    case Verdict::corrupt:
    default:
      raise(CorruptRecordError(info, key));
  }
}

}  // namespace detail

IDEM_END_NAMESPACE
