// The way to a key, apart from how a call is made: a blocking caller and a coroutine drive the same steps; the only
// difference is how they wait. What follows once the key is acquired is in run.hpp.
#pragma once

#include <idem/detail/cancellation.hpp>
#include <idem/detail/chrono.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/process.hpp>
#include <idem/detail/random.hpp>
#include <idem/detail/run.hpp>
#include <idem/detail/running.hpp>
#include <idem/detail/slot.hpp>
#include <idem/event.hpp>
#include <idem/key.hpp>
#include <idem/protocol.hpp>
#include <idem/store.hpp>

#include <concepts>
#include <cstdint>
#include <string_view>
#include <utility>

IDEM_BEGIN_NAMESPACE
namespace detail {

/// A new owner's token: by the store, where it has a cheaper way to tell its owners apart than 128 random bits.
template <class S>
OwnerToken new_owner() noexcept {
  if constexpr (has_own_tokens<S>) {
    return S::new_owner();
  } else {
    return new_owner_token();
  }
}

/// How a caller goes about a key.
struct Terms {
  Duration lease = forever;
  Duration ttl = forever;      ///< For stores to which a claim is all that there is.
  Duration wait = Duration();  ///< For a running call; zero: not at all.
  const Digest* fingerprint = nullptr;
  bool take_over = false;         ///< A key in doubt is acquired.
  std::uint64_t epoch_above = 0;  ///< Of a new acquisition.
};

/// How long a caller has been waiting, over all the keys it goes about.
struct Waiting {
  bool begun = false;
  TimePoint since = {};
  TimePoint deadline = {};
  std::chrono::microseconds waited = {};
};

/// One caller's way to a key, up to where the function may run.
template <class S>
class Acquisition {
 public:
  enum class Step : std::uint8_t {
    run = 1,       ///< The key is the caller's: it has to make a Run of it.
    wait = 2,      ///< Somebody runs it: wait until the record may have changed, then `claim()` again.
    answered = 3,  ///< The reply says it.
  };

  /// REQUIRES: everything that it's given outlives it.
  Acquisition(S& store, const Key& key, const Terms& terms, const Observers& observers, LeaseWatch* watch,
              Waiting& waiting) noexcept
      : store_(store), key_(key), terms_(terms), observers_(observers), watch_(watch), waiting_(waiting) {
    // The same token for each try: only the one that succeeds makes an acquisition of it.
    if constexpr (!has_own_tokens<S>) generation_ = process_generation();
    request_.owner = new_owner<S>();
    request_.lease = terms.lease;
    request_.ttl = terms.ttl;
    request_.fingerprint = terms.fingerprint;
    request_.epoch_above = terms.epoch_above;
  }

  /// The first step, and the one after each `wait`.
  Step claim() {
    // Two processes with one token would be one owner: a fork since the last claim makes this another one.
    if constexpr (!has_own_tokens<S>) {
      if (process_generation() != generation_) {
        generation_ = process_generation();
        request_.owner = new_owner<S>();
      }
    }
    if (!request_.owner) return give_up("the system has no random bytes for an owner token");
    ask(terms_.take_over && innermost_frame == nullptr);
    if (reply().answer == Answer::running || reply().answer == Answer::in_doubt) {
      if (RunningFrame::on_this_stack(reply().record.owner.token)) {
        reentrant_ = true;
        return Step::answered;
      }
    }
    // Only now is it sure that a key in doubt isn't one of this stack's own whose lease has ended.
    if (reply().answer == Answer::in_doubt && terms_.take_over) ask(true);
    if (waiting_.begun) note_waiting();
    if (reply().answer == Answer::acquired) return admitted();
    if (reply().answer == Answer::completed || reply().answer == Answer::failed) keep_token();
    if (reply().answer != Answer::running || !may_wait()) return Step::answered;
    return Step::wait;
  }
  /// Blocks until the record may have changed or waiting is over. REQUIRES: the last step was `wait`.
  void wait() { store_.wait(key_, reply().record.owner.epoch, waiting_.deadline); }

  /// REQUIRES: a step has been made.
  Reply& reply() noexcept { return *reply_; }
  /// The call stands further up this thread's own stack, running or with its lease ended.
  bool reentrant() const noexcept { return reentrant_; }
  /// The function can't be run, though not because of the store: nobody may run it unguarded.
  bool gave_up() const noexcept { return gave_up_; }

 private:
  /// A finished record doesn't have the token of the claim that it answered.
  void keep_token() noexcept {
    if constexpr (!has_own_tokens<S>) {
      return_owner_token(request_.owner, generation_);
      request_.owner = {};
    }
  }

  void ask(bool take_over) {
    request_.take_over = take_over;
    const NoCancellation shield(!shields_itself<S>);
    reply_.reset();
    reply_.emplace_from([&] { return store_.claim(key_, request_, watch_); });
  }

  bool may_wait() {
    if (terms_.wait.nanoseconds() <= 0) return false;
    if (waiting_.begun) return store_.now() < waiting_.deadline;
    waiting_.begun = true;
    waiting_.since = store_.now();
    waiting_.deadline = later(waiting_.since, terms_.wait);
    const NoCancellation shield;  // another key may be held meanwhile
    tell(observers_, EventKind::waiting, key_, reply().record);
    return true;
  }
  void note_waiting() noexcept {
    waiting_.waited = std::chrono::duration_cast<std::chrono::microseconds>(store_.now() - waiting_.since);
  }

  /// A process that was paused between the claim and here may find its lease over: others may have been told that the
  /// run is in doubt, so that it must not begin.
  Step admitted() {
    const bool in_time = reply().valid_until == (TimePoint::max)() || store_.now() < reply().valid_until;
    if (in_time) return Step::run;
    Run<S>(store_, key_, reply().record, observers_).release();
    return give_up("the lease ended before the function could start; use a longer one");
  }

  Step give_up(const char* why) {
    reply_.reset();
    reply_.emplace();
    IDEM_TRY {
      reply().message = why;
    }
    IDEM_CATCH_ALL {}
    gave_up_ = true;
    return Step::answered;
  }

  S& store_;
  const Key& key_;
  const Terms& terms_;
  const Observers& observers_;
  LeaseWatch* watch_;
  Waiting& waiting_;
  Slot<Reply> reply_;
  ClaimRequest request_;
  std::uint64_t generation_ = 0;  // of the process that made the token
  bool reentrant_ = false;
  bool gave_up_ = false;
};

}  // namespace detail
IDEM_END_NAMESPACE
