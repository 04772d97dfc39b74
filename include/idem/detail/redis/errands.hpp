// What the threads behind a store ask its engine for: leases to renew, debts to pay, records to look at.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/sha256.hpp>
#include <idem/protocol.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>

IDEM_BEGIN_NAMESPACE
namespace detail::redis {

// All times and spans are microseconds; times are of boot_micros().

/// A lease to prolong by its whole length, and what came of it.
struct Renewal {
  enum class Result : std::uint8_t {
    no_answer = 1,  ///< It may have been prolonged or not.
    renewed = 2,
    stale = 3,  ///< The record isn't this owner's any more, or the lease had ended.
  };

  Digest key = {};
  Ownership owner = {};
  std::int64_t lease = 0;

  Result result = Result::no_answer;
  std::int64_t valid_until = 0;  ///< Of renewed: when the request was sent, plus the lease, less the margin.
  TimePoint lease_until = {};    ///< Of renewed: by the record's clock.
};

/// What the store has still to be told of a claim.
struct Owed {
  enum class Kind : std::uint8_t { release = 1, abandon = 2 };

  Digest key = {};
  /// An epoch of zero: the claim's answer was lost, so that its token alone is known. It may reach the store even later
  /// than what is owed.
  Ownership owner = {};
  Kind kind = Kind::release;
};

/// What a record looks like to those who wait for its end.
struct Look {
  enum class Result : std::uint8_t {
    no_answer = 1,
    running = 2,  ///< With the epoch asked for. Its end will be told by a message.
    changed = 3,  ///< Anything else, or an answer that says that there is no more to wait for.
  };

  Result result = Result::no_answer;
  std::int64_t lease_left = 0;  ///< Of running.
};

/// What the keeper of leases needs. Nothing is thrown; calls come from the keeper's thread alone and may block until
/// `until`.
///  1. renew: asks for all `count` in one pipeline, and fills in what came of each.
///  2. pay: true once the store has answered, whatever it said.
template <class E>
concept KeepingEngine = requires(E& engine, Renewal* batch, std::size_t count, std::int64_t until, const Owed& owed) {
  { engine.renew(batch, count, until) } noexcept;
  { engine.pay(owed, until) } noexcept -> std::same_as<bool>;
};

/// What waiters need. Nothing is thrown; calls come from the threads that wait, and may block until `until`.
///  1. look: says what there is, and sees to it that the end of a running record with this epoch is told by a message.
template <class E>
concept LookingEngine = requires(E& engine, const Digest& key, std::uint64_t epoch, std::int64_t until) {
  { engine.look(key, epoch, until) } noexcept -> std::same_as<Look>;
};

}  // namespace detail::redis
IDEM_END_NAMESPACE
