// forward_to: a local store decides, and the OnceOnly service is told.
#pragma once

#include <idem/detail/boot_clock.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/process.hpp>
#include <idem/detail/sha256.hpp>
#include <idem/duration.hpp>
#include <idem/error.hpp>
#include <idem/extras.hpp>
#include <idem/key.hpp>
#include <idem/onceonly/calls.hpp>
#include <idem/onceonly/impl/check_lock_api.hpp>
#include <idem/onceonly/impl/digest_hash.hpp>
#include <idem/onceonly/impl/lease_api.hpp>
#include <idem/onceonly/impl/session.hpp>
#include <idem/onceonly/json.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

IDEM_BEGIN_NAMESPACE
namespace onceonly {

/// What happens where the local store says that a call wasn't made, and the service that it was.
enum class OnDisagreement : std::uint8_t {
  report = 1,  ///< The function runs; observers hear a store_warning.
  raise = 2,   ///< DuplicateExecutionError, or InDoubtError where an answer was lost; the function isn't run.
};

/// What happens where the service can't be told before the function runs.
enum class OnDown : std::uint8_t {
  ignore = 1,  ///< The function runs; observers hear a store_warning.
  raise = 2,   ///< StoreError; the function isn't run.
};

struct ForwardOptions {
  OnDisagreement on_disagreement = OnDisagreement::report;
  OnDown on_down = OnDown::ignore;
  std::string key_prefix = "idem:";   ///< Before the key's text, as the service sees it.
  std::optional<Json> metadata = {};  ///< An object; idem's own facts are added as `idem`.
};

/// The extra that `forward_to` makes. Thread safety: that of a guard.
class ForwardTo {
 public:
  using idem_extra = extra::forwarding;

  /// What comes of asking before the function runs.
  struct Asked {
    bool go_on = true;
    Verdict verdict = Verdict::executed;
    std::string message = {};
  };

  ForwardTo(const ClientCalls& client, ForwardOptions options)
      : shared_(std::make_shared<Shared>(session_of(client), std::move(options))) {}

  Asked before(const Key& key, std::uint32_t attempt, Duration ttl) const {
    const bool ignored = shared_->options.on_down == OnDown::ignore;
    if (inherited())
      return {ignored, Verdict::unavailable, "the OnceOnly client belongs to the parent of this process"};
    const Digest digest = key.digest();
    const Heard heard = begin(digest);
    if (heard == Heard::yes || attempt > 1) return {};
    IDEM_TRY {
      Json metadata = shared_->options.metadata.value_or(Json::object());
      if (!metadata.is_object()) metadata = Json{{"metadata", metadata}};
      metadata["idem"] = Json{{"name", std::string(key.name())}, {"version", key.version()}, {"attempt", attempt}};
      const impl::LockTold told = impl::lock_at(*shared_->session, name_of(key), ttl, std::move(metadata));
      switch (told.kind) {
        case impl::LockTold::Kind::locked:
          return {};
        case impl::LockTold::Kind::duplicate: {
          const bool go_on = shared_->options.on_disagreement == OnDisagreement::report;
          if (told.maybe_own || heard == Heard::maybe) {
            if (!go_on) forget(digest, true);
            return {go_on, Verdict::in_doubt,
                    "the OnceOnly service says that this call was made; that may be a request from here whose answer "
                    "was lost"};
          }
          if (!go_on) forget(digest, false);
          std::string message = "the OnceOnly service says that this call was made elsewhere";
          const std::string first = told.result.first_seen_at.value_or("");
          if (impl::time_in(first).has_value()) message += ", at " + first;
          return {go_on, Verdict::duplicate, std::move(message)};
        }
        default:
          return down(digest, told.message, told.maybe_own || heard == Heard::maybe);
      }
    }
    IDEM_CATCH_UNWIND
    IDEM_CATCH_ALL {
      return down(digest, "the OnceOnly service couldn't be told", true);
    }
  }

  /// Tells how the call ended. Gives what went wrong with that, or nothing: it changes nothing any more.
  std::string after(const Key& key, std::uint32_t attempt, const ErrorInfo& info) const {
    if (inherited()) return {};
    const std::int64_t started = started_at(key.digest());
    const bool finished = info.effect == Effect::ran;
    const char* const status = finished && info.verdict != Verdict::failed ? "completed" : "failed";
    if (finished) forget(key.digest(), false);
    IDEM_TRY {
      Json body{{"run_id", name_of(key)}, {"type", "idem.call"}, {"status", status}};
      if (started != 0) body["duration_ms"] = (idem::detail::boot_micros() - started) / 1000;
      // No text of an exception: nobody knows what is in it.
      body["data"] = Json{{"verdict", std::string(name_of_verdict(info))},
                          {"effect", std::string(name_of_effect(info))},
                          {"attempt", attempt}};
      const Response response = shared_->session->exchange(impl::post_call("/events", std::move(body)));
      if (response.failure != TransportFailure::none)
        return "the OnceOnly service wasn't told how the call ended: " + response.message;
      if (response.status < 200 || response.status >= 300)
        return "the OnceOnly service wasn't told how the call ended: it answered " + std::to_string(response.status);
      return {};
    }
    IDEM_CATCH_UNWIND
    IDEM_CATCH_ALL {}
    return {};
  }

 private:
  /// Whether the service has heard of a call: of a run before this one.
  enum class Heard : std::uint8_t { no = 1, maybe = 2, yes = 3 };
  struct Begun {
    std::int64_t since = 0;  ///< Of boot_micros().
    bool maybe = false;      ///< Nothing has run; a request may have arrived whose answer was lost.
  };
  struct Shared {
    Shared(std::shared_ptr<impl::Session> with, ForwardOptions how)
        : session(std::move(with)), options(std::move(how)) {}
    std::shared_ptr<impl::Session> session;
    ForwardOptions options;
    std::mutex mutex;
    /// Calls that the service has heard of and that have no outcome here. A call that failed without an effect is run
    /// again, and isn't a disagreement then.
    std::unordered_map<Digest, Begun, impl::DigestHash> begun;
    std::uint64_t generation = idem::detail::process_generation();
  };
  static constexpr std::size_t most_begun = 100'000;

  static constexpr std::string_view name_of_verdict(const ErrorInfo& info) { return idem::name_of(info.verdict); }
  static constexpr std::string_view name_of_effect(const ErrorInfo& info) { return idem::name_of(info.effect); }

  std::string name_of(const Key& key) const { return shared_->options.key_prefix + key.text(); }

  /// By a child of fork, in which nobody knows who holds the mutex.
  bool inherited() const noexcept { return idem::detail::process_generation() != shared_->generation; }

  Heard begin(const Digest& digest) const {
    const std::lock_guard lock(shared_->mutex);
    if (shared_->begun.size() >= most_begun) shared_->begun.clear();
    const auto [at, added] = shared_->begun.try_emplace(digest);
    const Begun before = std::exchange(at->second, Begun{idem::detail::boot_micros(), false});
    return added ? Heard::no : before.maybe ? Heard::maybe : Heard::yes;
  }
  /// Nothing has run, or it has an outcome. `maybe`: the service may have heard of it all the same.
  void forget(const Digest& digest, bool maybe) const {
    const std::lock_guard lock(shared_->mutex);
    const auto found = shared_->begun.find(digest);
    if (found == shared_->begun.end()) return;
    found->second.maybe = maybe;
    if (!maybe) shared_->begun.erase(found);
  }
  std::int64_t started_at(const Digest& digest) const {
    const std::lock_guard lock(shared_->mutex);
    const auto found = shared_->begun.find(digest);
    return found == shared_->begun.end() ? 0 : found->second.since;
  }

  Asked down(const Digest& digest, std::string message, bool maybe) const {
    if (shared_->options.on_down == OnDown::raise) forget(digest, maybe);
    return {shared_->options.on_down == OnDown::ignore, Verdict::unavailable, std::move(message)};
  }

  std::shared_ptr<Shared> shared_;
};

/// An extra of `idem::idempotent`: the local store decides; before a first run the service's check-lock is told, and
/// afterwards an event. Both are sent while the caller waits, and only by the one who runs the function: duplicates
/// cost nothing.
inline ForwardTo forward_to(const ClientCalls& client, ForwardOptions options = {}) {
  return ForwardTo(client, std::move(options));
}

}  // namespace onceonly
IDEM_END_NAMESPACE
