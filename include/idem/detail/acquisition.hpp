// The path claim, wait, run, record: in one place, apart from how a call is made. A blocking caller and a coroutine
// drive the same steps; the only difference is how they wait.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/running.hpp>
#include <idem/event.hpp>
#include <idem/key.hpp>
#include <idem/protocol.hpp>
#include <idem/store.hpp>

#include <chrono>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

IDEM_BEGIN_NAMESPACE
namespace detail {

using Observers = std::vector<EventHandler>;

inline void tell(const Observers& observers, EventKind kind, const Key& key, const Record& record,
                 std::string_view message = {}) {
  if (observers.empty()) return;
  const Event event{kind, key, record.owner.epoch, record.attempt, message};
  for (const EventHandler& observer : observers) observer(event);
}

/// How a caller goes about a key.
struct Terms {
  Duration ttl = forever;
  Duration lease = forever;
  Duration wait = Duration();  ///< For a running call; zero: not at all.
  const Digest* fingerprint = nullptr;
  bool take_over = false;  ///< A key in doubt is acquired.
};

/// One caller's way to a key, up to where the function may run.
template <class S>
class Acquisition {
 public:
  enum class Step : std::uint8_t {
    run = 1,       ///< The key is the caller's: it has to make a Run of it.
    wait = 2,      ///< Somebody runs it: wait until the record may have changed, then `again()`.
    answered = 3,  ///< The reply says it.
  };

  Acquisition(S& store, const Key& key, const Terms& terms, const Observers& observers, LeaseWatch* watch) noexcept
      : store_(store), key_(key), terms_(terms), observers_(observers), watch_(watch) {}

  /// The first step.
  Step begin() { return claim(); }
  /// The step after `wait`.
  Step again() {
    const Step step = claim();
    waited_ = std::chrono::duration_cast<std::chrono::microseconds>(store_.now() - waiting_since_);
    return step;
  }
  /// Blocks until the record may have changed or waiting is over. REQUIRES: the last step was `wait`.
  void wait() { store_.wait(key_, reply_.record.owner.epoch, deadline_); }

  Reply& reply() noexcept { return reply_; }
  /// The running call stands further up this thread's own stack.
  bool reentrant() const noexcept { return reentrant_; }
  std::chrono::microseconds waited() const noexcept { return waited_; }

 private:
  Step claim() {
    // The same token for each try: only the one that succeeds makes an acquisition of it.
    if (!owner_) owner_ = new_owner_token();
    if (!owner_) {
      reply_ = Reply{};
      reply_.message = "the system has no random bytes for an owner token";
      return Step::answered;
    }
    ClaimRequest request;
    request.owner = owner_;
    request.lease = terms_.lease;
    request.fingerprint = terms_.fingerprint;
    request.take_over = terms_.take_over;
    reply_ = store_.claim(key_, request, watch_);
    if (reply_.answer == Answer::acquired) return admitted();
    if (reply_.answer != Answer::running) return Step::answered;

    if (RunningFrame::on_this_stack(reply_.record.owner.token)) {
      reentrant_ = true;
      return Step::answered;
    }
    if (terms_.wait.nanoseconds() <= 0) return Step::answered;
    if (!waiting_) {
      waiting_ = true;
      waiting_since_ = store_.now();
      deadline_ = later(waiting_since_, terms_.wait);
      tell(observers_, EventKind::waiting, key_, reply_.record);
    } else if (store_.now() >= deadline_) {
      return Step::answered;
    }
    return Step::wait;
  }

  /// A process that was paused between the claim and here may find its lease over: others may have been told that the
  /// run is in doubt, so that it must not begin.
  Step admitted() {
    const bool in_time = reply_.valid_until == (TimePoint::max)() || store_.now() < reply_.valid_until;
    if (in_time) return Step::run;
    store_.release(key_, reply_.record.owner);
    tell(observers_, EventKind::released, key_, reply_.record, "the lease ended before the function could start");
    reply_ = Reply{};
    reply_.message = "the lease ended before the function could start; use a longer Options::lease";
    return Step::answered;
  }

  S& store_;
  const Key& key_;
  const Terms& terms_;
  const Observers& observers_;
  LeaseWatch* watch_;
  Reply reply_ = {};
  OwnerToken owner_ = {};
  TimePoint waiting_since_ = {};
  TimePoint deadline_ = {};
  std::chrono::microseconds waited_ = {};
  bool waiting_ = false;
  bool reentrant_ = false;
};

/// What became of an outcome that was to be recorded.
enum class Recorded : std::uint8_t { yes = 1, stale = 2, no = 3 };

/// An acquired key, from the claim to the record of its outcome. Ends in doubt when it's destroyed without an outcome,
/// whatever the reason: an exception, the end of a thread, a forgotten call.
template <class S>
class Run {
 public:
  /// REQUIRES: `key` and `observers` outlive the run.
  Run(S& store, const Key& key, const Record& record, const Observers& observers) noexcept
      : store_(&store), key_(&key), observers_(&observers), record_(record) {}
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;
  ~Run() {
    if (!ended_) abandon("it ended without an outcome");
  }

  const Record& record() const noexcept { return record_; }
  bool ended() const noexcept { return ended_; }

  Recorded complete(const Source& source, Duration ttl) {
    return finished(store_->complete(*key_, {record_.owner, ttl, source}), EventKind::completed,
                    source.kind == PayloadKind::lost);
  }
  Recorded fail(const Source& source, Duration ttl) {
    return finished(store_->fail(*key_, {record_.owner, ttl, source}), EventKind::failed, false);
  }
  /// The function didn't run, or its failure said that nothing happened.
  Recorded release() {
    ended_ = true;
    Reply reply = store_->release(*key_, record_.owner);
    if (reply.answer == Answer::ok) {
      tell(*observers_, EventKind::released, *key_, record_);
      return Recorded::yes;
    }
    return not_ended(reply);
  }
  Recorded abandon(std::string_view why) {
    ended_ = true;
    Reply reply = store_->abandon(*key_, record_.owner);
    if (reply.answer == Answer::ok) {
      tell(*observers_, EventKind::abandoned, *key_, record_, why);
      return Recorded::yes;
    }
    return not_ended(reply);
  }
  /// What the store said when it couldn't record.
  const std::string& message() const noexcept { return message_; }

 private:
  Recorded finished(Reply reply, EventKind kind, bool lost) {
    ended_ = true;
    if (reply.answer == Answer::ok) {
      record_ = reply.record;
      if (lost || reply.payload.kind() == PayloadKind::lost) {
        tell(*observers_, EventKind::unrecorded, *key_, record_, "completed, but its result couldn't be kept");
      }
      tell(*observers_, kind, *key_, record_);
      return Recorded::yes;
    }
    if (reply.answer == Answer::stale) return not_ended(reply);
    // The outcome isn't durable: never freed, never failed, but in doubt for everybody.
    message_ = std::move(reply.message);
    tell(*observers_, EventKind::unrecorded, *key_, record_, message_);
    abandon("its outcome couldn't be recorded");
    return Recorded::no;
  }
  Recorded not_ended(Reply& reply) {
    if (reply.answer == Answer::stale) {
      tell(*observers_, EventKind::stale, *key_, record_);
      return Recorded::stale;
    }
    if (message_.empty()) message_ = std::move(reply.message);
    tell(*observers_, EventKind::unavailable, *key_, record_, reply.message.empty() ? message_ : reply.message);
    return Recorded::no;
  }

  S* store_;
  const Key* key_;
  const Observers* observers_;
  Record record_;
  std::string message_ = {};
  bool ended_ = false;
};

}  // namespace detail
IDEM_END_NAMESPACE
