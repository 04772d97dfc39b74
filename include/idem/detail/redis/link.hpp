// A connection to a Redis server: how it comes to be and what is on its way to the server, without the question of
// whose it is.
#pragma once

#include <idem/detail/boot_clock.hpp>
#include <idem/detail/bytes.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/random.hpp>
#include <idem/detail/redis/address.hpp>
#include <idem/detail/redis/handshake.hpp>
#include <idem/detail/redis/link_settings.hpp>
#include <idem/detail/redis/reader.hpp>
#include <idem/detail/redis/reason.hpp>
#include <idem/detail/redis/server_facts.hpp>
#include <idem/detail/redis/wire.hpp>

#include <algorithm>  // min
#include <cstddef>
#include <cstdint>

IDEM_BEGIN_NAMESPACE
namespace detail::redis {

/// One thread at a time may send, another one receive, both while a third one calls `interrupt`. All else needs nobody
/// else in it.
class Link {
 public:
  /// `settings` have to outlive it.
  explicit Link(const LinkSettings& settings) noexcept
      : settings_(settings), reader_(settings.max_reply_bytes, settings.max_reply_nodes) {}

  bool connected() const noexcept { return wire_.connected(); }
  void interrupt() noexcept { wire_.interrupt(); }
  /// What is on its way to the server ends with the connection, as far as that can be.
  void forget_unsent() noexcept { wire_.forget_unsent(); }
  bool is_readable() const noexcept { return wire_.is_readable(); }

  /// When (of boot_micros()) it may be tried to connect. At once after a connection that was of use; ever later, up to
  /// a second, and not with all others, after attempts that failed.
  std::int64_t next_attempt() const noexcept { return next_attempt_; }

  /// One attempt. `until`: when it stops to matter.
  Shaken connect(std::int64_t now, std::int64_t until, ServerFacts& facts, Reason& why) noexcept {
    Shaken result = Shaken::lost;
    IDEM_TRY {
      Endpoint endpoint;
      const bool found = settings_.find((std::min)(until, now + settings_.connect_timeout), endpoint, why);
      if (found) {
        const std::int64_t deadline = (std::min)(until, boot_micros() + settings_.connect_timeout);
        result = wire_.connect(endpoint, settings_, deadline, why);
        if (result == Shaken::good) result = Handshake(wire_, reader_, settings_, deadline, facts).run(why);
      }
      if (result == Shaken::lost && wire_.is_refused()) result = Shaken::refused;
      if (result == Shaken::good && settings_.gate != nullptr) {
        result = settings_.gate(settings_.gate_context, facts, why);
      }
      if (found && result != Shaken::good) name_place(why, endpoint);
    }
    IDEM_CATCH_ALL {
      why = Reason("no memory for a connection");
      result = Shaken::lost;  // it may have been half greeted
    }
    useful_ = false;
    if (result == Shaken::good) return result;
    wire_.close();
    reader_.reset();
    // An attempt for which there was no time says nothing.
    const std::int64_t after = boot_micros();
    if (after < until) back_off(after);
    return result;
  }

  void close() noexcept {
    if (wire_.connected() && !useful_) back_off(boot_micros());
    wire_.close();
    reader_.reset();
    out_.clear();
    sent_ = 0;
  }

  /// What is to be sent is appended to this. REQUIRES: all_sent().
  Bytes& out() noexcept {
    if (sent_ != 0) {
      // A huge command's memory isn't kept for ever.
      if (out_.size() > largest_kept) out_ = Bytes();
      out_.clear();
      sent_ = 0;
    }
    return out_;
  }
  bool all_sent() const noexcept { return sent_ == out_.size(); }

  /// Sends what it can at once. False, with the reason, where the connection is gone.
  bool send(Reason& why) noexcept {
    const std::ptrdiff_t sent = wire_.send(out_.data() + sent_, out_.size() - sent_, why);
    if (sent < 0) return false;
    sent_ += static_cast<std::size_t>(sent);
    return true;
  }

  void wait_until_writable(std::int64_t until) noexcept { wire_.wait_for(POLLOUT, until); }
  void wait_either(std::int64_t until) noexcept { wire_.wait_for(POLLIN | POLLOUT, until); }

  /// Waits until something comes, at most until then; there may be replies then. False, with the reason, where the
  /// connection is gone.
  bool receive(std::int64_t now, std::int64_t until, Reason& why) noexcept {
    char buffer[16384];
    const std::ptrdiff_t got = wire_.receive(buffer, sizeof buffer, now, until, why);
    if (got > 0) reader_.feed(buffer, static_cast<std::size_t>(got));
    return got >= 0;
  }

  enum class Next : std::uint8_t { reply = 1, none = 2, broken = 3 };

  Next next(ReplyTree& reply, Reason& why) noexcept {
    const ReplyReader::Next next = reader_.next(reply);
    if (next == ReplyReader::Next::more) return Next::none;
    if (next == ReplyReader::Next::reply) {
      useful_ = true;
      failures_ = 0;
      return Next::reply;
    }
    why = Reason("the server sent ");
    why.add(reader_.why());
    return Next::broken;
  }

 private:
  void back_off(std::int64_t now) noexcept {
    std::int64_t pause = shortest_pause;
    for (std::uint32_t i = 0; i < failures_ && pause < longest_pause; ++i) pause *= 2;
    pause = (std::min)(pause, longest_pause);
    ++failures_;
    std::uint32_t random = 0;
    static_cast<void>(random_bytes(&random, sizeof random));
    next_attempt_ = now + pause / 2 + static_cast<std::int64_t>(random % static_cast<std::uint32_t>(pause / 2));
  }

  // Microseconds.
  static constexpr std::int64_t shortest_pause = 20'000;
  static constexpr std::int64_t longest_pause = 1'000'000;
  static constexpr std::size_t largest_kept = std::size_t{1} << 18;

  const LinkSettings& settings_;
  Wire wire_;
  ReplyReader reader_;
  Bytes out_;
  std::size_t sent_ = 0;  // how much of out_ the system has taken
  std::int64_t next_attempt_ = 0;
  std::uint32_t failures_ = 0;  // since the last reply
  bool useful_ = false;         // a reply has come on this connection
};

}  // namespace detail::redis
IDEM_END_NAMESPACE
