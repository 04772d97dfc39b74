// Whether a server that was just connected to may be used, and what is to be said about it.
#pragma once

#include <idem/detail/boot_clock.hpp>
#include <idem/detail/chrono.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/redis/link_settings.hpp>
#include <idem/detail/redis/reason.hpp>
#include <idem/detail/redis/server_facts.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>

IDEM_BEGIN_NAMESPACE
namespace detail::redis {

/// What makes a server's time of boot_micros(). Thread safety: every member from any thread.
class ServerClock {
 public:
  ServerClock() noexcept {
    const auto wall = std::chrono::system_clock::now().time_since_epoch();
    offset_ = std::chrono::duration_cast<std::chrono::microseconds>(wall).count() - boot_micros();
  }
  std::int64_t offset() const noexcept { return offset_.load(std::memory_order_relaxed); }
  /// The first server that tells is believed; later ones change nothing, so that no deadline moves.
  void learn(std::int64_t offset) noexcept {
    if (!known_.exchange(true)) offset_.store(offset, std::memory_order_relaxed);
  }

 private:
  std::atomic<std::int64_t> offset_{0};
  std::atomic<bool> known_{false};
};

struct AdmissionTerms {
  bool refuse_unsafe = false;
  bool pause_after_restart = false;
  std::int64_t restart_pause = 30'000'000;  // microseconds
  std::uint32_t min_replicas = 0;
  /// The primary is looked for (Sentinel, Cluster), so that one that is found to be none is looked for again.
  bool looks_for_primary = false;
  ServerClock* clock = nullptr;
};

/// What a server's facts mean for what idem promises. Zero is reserved.
enum class Concern : std::uint8_t {
  evicts = 1,           ///< A finished record may be evicted before its time, and then its call runs again.
  forgets = 2,          ///< Without an append-only file a restart forgets records.
  few_replicas = 3,     ///< Fewer than are asked for.
  unknown_policy = 4,   ///< It doesn't tell whether it evicts.
  unknown_file = 5,     ///< It doesn't tell whether it keeps an append-only file.
  restarted = 6,        ///< It was started anew while leases may have run, and has no append-only file.
};
inline constexpr std::size_t concerns = 7;

constexpr std::string_view text_of(Concern concern) noexcept {
  switch (concern) {
    case Concern::evicts:
      return "the Redis server evicts keys at maxmemory, and a call whose record was evicted runs again; set "
             "maxmemory-policy to noeviction";
    case Concern::forgets:
      return "the Redis server keeps no append-only file, so that a restart forgets calls, which then run again; set "
             "appendonly to yes";
    case Concern::few_replicas:
      return "the Redis server has fewer replicas than min_replicas asks for, so that no claim will succeed";
    case Concern::unknown_policy:
      return "the Redis server doesn't tell its eviction policy; allow the user INFO, and see that it is noeviction";
    case Concern::unknown_file:
      return "the Redis server doesn't tell whether it keeps an append-only file; allow the user INFO, and see that it "
             "does";
    case Concern::restarted:
      return "the Redis server was started anew and keeps no append-only file: calls that it knew may run again";
  }
  return {};
}

/// What is remembered of a server from one connect to the next. Of Admission, but for `has_flags`.
struct Acquaintance {
  std::string run_id = {};
  std::int64_t paused_until = 0;
  /// Whether scripts may have flags: Redis 7 and later, and servers that don't tell.
  std::atomic<bool> has_flags{true};
};

/// Thread safety: every member from any thread.
class Admission {
 public:
  explicit Admission(const AdmissionTerms& terms) noexcept : terms_(terms) {}

  /// Asked after each handshake, before any command of the store. All but `good`, with the reason, where the connection
  /// has to be closed.
  Shaken admit(const ServerFacts& facts, Acquaintance& server, Reason& why) noexcept {
    const std::lock_guard guard(mutex_);
    // Nothing is ever read from a replica, whose records may be old.
    if (terms_.looks_for_primary && facts.role != Role::primary) {
      why = Reason(facts.role == Role::unknown ? "the server doesn't tell whether it is a primary; allow the user ROLE"
                                               : "the server isn't a primary, or not yet");
      return Shaken::lost;
    }
    if (facts.role == Role::replica) return refuse(why, "the server is a replica; name its primary");
    if (facts.role == Role::sentinel) return refuse(why, "the server is a sentinel; name the Redis server itself");
    if (facts.version && facts.version->major < 5) return refuse(why, "the server is older than Redis 5");
    if (facts.server_minus_boot && terms_.clock != nullptr) terms_.clock->learn(*facts.server_minus_boot);
    server.has_flags.store(!facts.version || facts.version->major >= 7, std::memory_order_relaxed);

    std::uint32_t found = 0;
    const auto note = [&found](Concern concern) { found |= std::uint32_t{1} << static_cast<unsigned>(concern); };
    const bool limited = !facts.maxmemory || *facts.maxmemory != 0;
    if (facts.maxmemory_policy ? limited && *facts.maxmemory_policy != "noeviction" : limited)
      note(facts.maxmemory_policy ? Concern::evicts : Concern::unknown_policy);
    if (!facts.aof_enabled || !*facts.aof_enabled) note(facts.aof_enabled ? Concern::forgets : Concern::unknown_file);
    if (facts.connected_replicas && *facts.connected_replicas < terms_.min_replicas) note(Concern::few_replicas);
    if (restarted(facts, server)) note(Concern::restarted);

    const std::uint32_t fresh = found & ~told_;
    told_ |= found;
    news_.fetch_or(fresh);
    // A restart is told each time, what the server is set up as only once.
    told_ &= ~(std::uint32_t{1} << static_cast<unsigned>(Concern::restarted));

    if (terms_.refuse_unsafe) {
      for (std::size_t i = 1; i < concerns; ++i) {
        const auto concern = static_cast<Concern>(i);
        if (concern != Concern::restarted && (found >> i & 1) != 0) return refuse(why, text_of(concern));
      }
    }
    if (terms_.pause_after_restart && boot_micros() < server.paused_until)
      return refuse(why,
                    "the server was started anew and forgot who holds which call; restart_pause has to pass first");
    return Shaken::good;
  }

  bool has_news() const noexcept { return news_.load(std::memory_order_relaxed) != 0; }

  /// `tell(text)` for each concern that nobody was told of, without a lock.
  template <class Tell>
  void take_news(Tell&& tell) {
    const std::uint32_t news = news_.exchange(0);
    for (std::size_t i = 1; i < concerns; ++i) {
      if ((news >> i & 1) != 0) tell(text_of(static_cast<Concern>(i)));
    }
  }

 private:
  static Shaken refuse(Reason& why, std::string_view text) noexcept {
    why = Reason(text);
    return Shaken::refused;
  }

  bool restarted(const ServerFacts& facts, Acquaintance& server) noexcept {
    if (!facts.run_id) return false;
    IDEM_TRY {
      const bool anew = !server.run_id.empty() && server.run_id != *facts.run_id;
      server.run_id = *facts.run_id;
      if (!anew || (facts.aof_enabled && *facts.aof_enabled)) return false;
    }
    IDEM_CATCH_ALL {
      return false;
    }
    server.paused_until = boot_micros() + terms_.restart_pause;
    return true;
  }

  const AdmissionTerms terms_;
  std::mutex mutex_;
  std::uint32_t told_ = 0;
  std::atomic<std::uint32_t> news_{0};
};

}  // namespace detail::redis
IDEM_END_NAMESPACE
