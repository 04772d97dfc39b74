// The conversation on the connection on which the server tells who waits that a run has ended.
#pragma once

#include <idem/detail/boot_clock.hpp>
#include <idem/detail/bytes.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/redis/call.hpp>
#include <idem/detail/redis/command.hpp>
#include <idem/detail/redis/handshake.hpp>
#include <idem/detail/redis/link_settings.hpp>
#include <idem/detail/redis/reader.hpp>
#include <idem/detail/redis/reason.hpp>
#include <idem/detail/redis/reply_tree.hpp>
#include <idem/detail/redis/server_facts.hpp>
#include <idem/detail/redis/wire.hpp>
#include <idem/detail/sha256.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>

IDEM_BEGIN_NAMESPACE
namespace detail::redis {

/// One connection that subscribes. Not safe for use by several threads at once. Times are those of boot_micros().
class Subscription {
 public:
  /// What the server has said.
  struct Said {
    enum class Kind : std::uint8_t {
      nothing = 1,
      subscribed = 2,  ///< One SUBSCRIBE for this key was carried out.
      message = 3,     ///< Whatever ran with this key has ended.
      broken = 4,      ///< The connection is of no use any more.
      refused = 5      ///< Nor would another one be: the user may not subscribe.
    };
    Kind kind = Kind::nothing;
    Digest key = {};
  };

  /// Keys have channels named `prefix` + "wake:" + the digits of their digests.
  Subscription(LinkSettings settings, std::string prefix)
      : settings_(std::move(settings)), channels_(std::move(prefix)), reader_(largest_reply, values_of_reply) {
    channels_ += "wake:";
  }
  Subscription(const Subscription&) = delete;
  Subscription& operator=(const Subscription&) = delete;

  bool connected() const noexcept { return wire_.connected(); }
  int fd() const noexcept { return wire_.fd(); }

  /// Takes up to the time for a connection. May throw std::bad_alloc.
  Shaken connect(Reason& why) {
    close();
    reader_.reset();
    Endpoint endpoint;
    if (!settings_.find(boot_micros() + settings_.connect_timeout, endpoint, why)) return Shaken::lost;
    const std::int64_t deadline = boot_micros() + settings_.connect_timeout;
    Shaken shaken = wire_.connect(endpoint, settings_, deadline, why);
    if (shaken != Shaken::good) return shaken;
    ServerFacts facts;
    shaken = Handshake(wire_, reader_, settings_, deadline, facts).run(why);
    if (shaken != Shaken::good) close();
    return shaken;
  }

  void close() noexcept {
    wire_.close();
    out_.clear();
    sent_ = 0;
    owed_ = 0;
  }

  /// Queues SUBSCRIBE or UNSUBSCRIBE. May throw std::bad_alloc, and then the connection has to be closed.
  void ask(const Digest& key, bool subscribe) {
    char digits[digest_digits];
    write_digest(key, digits);
    std::string channel = channels_;
    channel.append(digits, sizeof digits);
    Command(out_, 2).arg(subscribe ? "SUBSCRIBE" : "UNSUBSCRIBE").arg(channel);
    if (owed_ == 0) owed_since_ = boot_micros();
    ++owed_;
  }

  /// Something is left to be sent.
  bool has_more() const noexcept { return sent_ < out_.size(); }

  /// Sends what the system takes at once. False where the connection is gone.
  bool send() noexcept {
    if (!has_more()) return true;
    Reason why;
    const std::ptrdiff_t sent = wire_.send(out_.data() + sent_, out_.size() - sent_, why);
    if (sent < 0) return false;
    sent_ += static_cast<std::size_t>(sent);
    if (!has_more()) {
      out_.clear();
      sent_ = 0;
    }
    return true;
  }

  /// By when the server has to have answered, or else the connection is dead.
  std::int64_t patience() const noexcept {
    return owed_ == 0 ? (std::numeric_limits<std::int64_t>::max)() : owed_since_ + settings_.timeout;
  }

  /// Reads what has come. False where the connection is gone.
  bool receive() noexcept {
    char buffer[4096];
    Reason why;
    // Whoever waits looks at the socket, which doesn't show what was read ahead.
    do {
      const std::ptrdiff_t got = wire_.receive(buffer, sizeof buffer, 0, 0, why);
      if (got < 0) return false;
      reader_.feed(buffer, static_cast<std::size_t>(got));
    } while (wire_.has_read_ahead());
    return true;
  }

  /// The next thing of what has been read.
  Said next() noexcept {
    for (;;) {
      const ReplyReader::Next next = reader_.next(reply_);
      if (next == ReplyReader::Next::more) return {};
      if (next == ReplyReader::Next::broken) return {Said::Kind::broken, {}};
      if (reply_.root().type == ReplyType::error) return {Said::Kind::refused, {}};
      Said said;
      if (!understand(said)) return {Said::Kind::broken, {}};
      if (said.kind != Said::Kind::nothing) return said;
    }
  }

 private:
  // What can come here is short, but for what a server says of itself in the greeting.
  static constexpr std::size_t largest_reply = std::size_t{1} << 20;
  static constexpr std::size_t values_of_reply = 4096;

  /// ["subscribe", channel, count], ["unsubscribe", channel, count] or ["message", channel, text].
  bool understand(Said& said) noexcept {
    if (reply_.root().type != ReplyType::array || reply_.size() != 4) return false;
    const std::string_view kind = reply_[1].text;
    const std::string_view channel = reply_[2].text;
    if (channel.substr(0, channels_.size()) != channels_) return false;
    if (!read_digest(channel.substr(channels_.size()), said.key)) return false;
    if (kind == "message") {
      said.kind = Said::Kind::message;
      return true;
    }
    if (owed_ == 0) return false;
    --owed_;
    owed_since_ = boot_micros();
    if (kind == "unsubscribe") return true;
    said.kind = Said::Kind::subscribed;
    return kind == "subscribe";
  }

  const LinkSettings settings_;
  std::string channels_;
  Wire wire_;
  ReplyReader reader_;
  ReplyTree reply_;
  Bytes out_;
  std::size_t sent_ = 0;
  std::size_t owed_ = 0;  // answers to what was asked
  std::int64_t owed_since_ = 0;
};

}  // namespace detail::redis
IDEM_END_NAMESPACE
