// An acquired key, from the claim to the record of its outcome.
#pragma once

#include <idem/detail/cancellation.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/observers.hpp>
#include <idem/detail/process.hpp>
#include <idem/detail/random.hpp>
#include <idem/event.hpp>
#include <idem/key.hpp>
#include <idem/protocol.hpp>
#include <idem/store.hpp>

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

IDEM_BEGIN_NAMESPACE
namespace detail {

/// The store has a way of its own to tell its owners apart, and so its process from others.
template <class S>
inline constexpr bool has_own_tokens = requires {
  { S::new_owner() } -> std::same_as<OwnerToken>;
};

/// What became of an outcome that was to be recorded.
enum class Recorded : std::uint8_t { yes = 1, stale = 2, no = 3 };

/// An acquired key. Ends in doubt when it's destroyed without an outcome, whatever the reason: an exception, the end of
/// a thread, a forgotten call. A thread isn't cancelled while an outcome is being recorded and told. In a child of the
/// process that acquired it, it's a dead handle: what runs there is a copy, and the record stays with the parent.
template <class S>
class Run {
 public:
  /// REQUIRES: `key` and `observers` outlive the run.
  Run(S& store, const Key& key, const Record& record, const Observers& observers) noexcept
      : store_(&store), key_(&key), observers_(&observers), record_(record) {
    if constexpr (!has_own_tokens<S>) generation_ = process_generation();
  }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;
  ~Run() {
    if (!ended_) abandon("it ended without an outcome");
  }

  const Key& key() const noexcept { return *key_; }
  const Record& record() const noexcept { return record_; }
  bool ended() const noexcept { return ended_; }

  /// The request's owner is filled in here.
  Recorded complete(FinishRequest&& request) {
    const NoCancellation shield(!shields_itself<S> || !observers_->empty());
    if (inherited()) return stale();
    request.owner = record_.owner;
    return finished(store_->complete(*key_, request), EventKind::completed, request.source.kind == PayloadKind::lost);
  }
  Recorded fail(FinishRequest&& request) {
    const NoCancellation shield(!shields_itself<S> || !observers_->empty());
    if (inherited()) return stale();
    request.owner = record_.owner;
    return finished(store_->fail(*key_, request), EventKind::failed, false);
  }
  /// The function didn't run, or its failure said that nothing happened. A key that had been in doubt is so again,
  /// since that says nothing about the earlier run: see `in_doubt()`.
  Recorded release() {
    const NoCancellation shield;
    if (inherited()) return stale();
    Reply reply = store_->release(*key_, record_.owner);
    ended_ = true;
    if (reply.answer != Answer::ok) return not_ended(reply);
    in_doubt_ = record_.attempt > 1;
    tell(*observers_, in_doubt_ ? EventKind::abandoned : EventKind::released, *key_, record_);
    return Recorded::yes;
  }
  Recorded abandon(std::string_view why) {
    const NoCancellation shield;
    if (inherited()) return stale();
    Reply reply = store_->abandon(*key_, record_.owner);
    ended_ = true;
    if (reply.answer != Answer::ok) return not_ended(reply);
    in_doubt_ = true;
    tell(*observers_, EventKind::abandoned, *key_, record_, why);
    return Recorded::yes;
  }
  /// The run ended in doubt.
  bool in_doubt() const noexcept { return in_doubt_; }
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
    abandon("its outcome couldn't be recorded");
    tell(*observers_, EventKind::unrecorded, *key_, record_, message_);
    return Recorded::no;
  }
  Recorded not_ended(Reply& reply) {
    if (reply.answer == Answer::stale) return stale();
    if (message_.empty()) message_ = std::move(reply.message);
    tell(*observers_, EventKind::unavailable, *key_, record_, message_);
    return Recorded::no;
  }

  Recorded stale() {
    ended_ = true;
    tell(*observers_, EventKind::stale, *key_, record_);
    return Recorded::stale;
  }
  /// By a child process. Stores with tokens of their own know by themselves.
  bool inherited() const noexcept {
    if constexpr (has_own_tokens<S>) {
      return false;
    } else {
      return process_generation() != generation_;
    }
  }

  S* store_;
  const Key* key_;
  const Observers* observers_;
  Record record_;
  std::string message_ = {};
  bool ended_ = false;
  bool in_doubt_ = false;
  std::uint64_t generation_ = 0;  // of the process that acquired it
};

}  // namespace detail
IDEM_END_NAMESPACE
