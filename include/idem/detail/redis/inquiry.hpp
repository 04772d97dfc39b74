// A question to a server that isn't, or not yet, one of those that hold records: a sentinel, or a node of a cluster
// that may know the others.
#pragma once

#include <idem/detail/boot_clock.hpp>
#include <idem/detail/bytes.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/redis/handshake.hpp>
#include <idem/detail/redis/link_settings.hpp>
#include <idem/detail/redis/reader.hpp>
#include <idem/detail/redis/reason.hpp>
#include <idem/detail/redis/reply_tree.hpp>
#include <idem/detail/redis/server_facts.hpp>
#include <idem/detail/redis/wire.hpp>

#include <cstddef>
#include <cstdint>

IDEM_BEGIN_NAMESPACE
namespace detail::redis {

/// A connection for one thread. Deadlines are those of boot_micros().
class Inquiry {
 public:
  /// `link`: how to log in; where the server is stands in `endpoint`. REQUIRES: it outlives this object.
  explicit Inquiry(const LinkSettings& link) noexcept
      : link_(link), reader_(link.max_reply_bytes, link.max_reply_nodes) {}
  Inquiry(const Inquiry&) = delete;
  Inquiry& operator=(const Inquiry&) = delete;

  /// Only an allocation can throw.
  Shaken connect(const Endpoint& endpoint, std::int64_t deadline, Reason& why) {
    close();
    Shaken shaken = wire_.connect(endpoint, link_, deadline, why);
    if (shaken != Shaken::good) return shaken;
    ServerFacts facts;
    shaken = Handshake(wire_, reader_, link_, deadline, facts).run(why);
    if (shaken != Shaken::good) close();
    return shaken;
  }

  /// Sends all of `commands`. False, with the reason, where the connection is gone or the deadline comes first.
  bool send(const Bytes& commands, std::int64_t deadline, Reason& why) noexcept {
    for (std::size_t done = 0; done < commands.size();) {
      const std::ptrdiff_t sent = wire_.send(commands.data() + done, commands.size() - done, why);
      if (sent < 0) return false;
      done += static_cast<std::size_t>(sent);
      if (done == commands.size()) break;
      if (boot_micros() >= deadline) return too_late(why);
      wire_.wait_for(POLLIN | POLLOUT, deadline);
    }
    return true;
  }

  /// What comes next: false where nothing came until then; `lost` says whether the connection is gone.
  bool receive(ReplyTree& reply, std::int64_t deadline, bool& lost, Reason& why) noexcept {
    lost = false;
    for (;;) {
      const ReplyReader::Next next = reader_.next(reply);
      if (next == ReplyReader::Next::reply) return true;
      if (next == ReplyReader::Next::broken) {
        why = Reason("the server sent ");
        why.add(reader_.why());
        lost = true;
        return false;
      }
      const std::int64_t now = boot_micros();
      if (now >= deadline) return too_late(why);
      char buffer[4096];
      const std::ptrdiff_t got = wire_.receive(buffer, sizeof buffer, now, deadline, why);
      if (got < 0) {
        lost = true;
        return false;
      }
      reader_.feed(buffer, static_cast<std::size_t>(got));
    }
  }
  bool receive(ReplyTree& reply, std::int64_t deadline, Reason& why) noexcept {
    bool lost = false;
    return receive(reply, deadline, lost, why);
  }

  /// Ends the conversation while another thread is in `receive`. REQUIRES: no thread connects or closes meanwhile.
  void interrupt() noexcept { wire_.interrupt(); }
  void close() noexcept {
    wire_.close();
    reader_.reset();
  }

 private:
  static bool too_late(Reason& why) noexcept {
    why = Reason("the server didn't answer in time");
    return false;
  }

  const LinkSettings& link_;
  Wire wire_;
  ReplyReader reader_;
};

/// Until when one of several servers is waited for, so that there is time left for the others.
constexpr std::int64_t share_of(std::int64_t now, std::int64_t deadline, std::int64_t longest) noexcept {
  const std::int64_t half = (deadline - now) / 2;
  return now + (half < longest ? half : longest);
}

}  // namespace detail::redis
IDEM_END_NAMESPACE
