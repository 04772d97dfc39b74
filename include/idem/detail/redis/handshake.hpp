// What is said on a new connection before the first command.
#pragma once

#include <idem/detail/boot_clock.hpp>
#include <idem/detail/bytes.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/redis/command.hpp>
#include <idem/detail/redis/link_settings.hpp>
#include <idem/detail/redis/reader.hpp>
#include <idem/detail/redis/reason.hpp>
#include <idem/detail/redis/reply_tree.hpp>
#include <idem/detail/redis/server_facts.hpp>
#include <idem/detail/redis/wire.hpp>
#include <idem/detail/wipe.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

IDEM_BEGIN_NAMESPACE
namespace detail::redis {

/// One conversation. Not safe for use by several threads at once.
class Handshake {
 public:
  /// `facts` is what the server says of itself, as far as it says so. REQUIRES: `wire` is connected and `reader` is
  /// new. The deadline is one of boot_micros(). Only an allocation can throw.
  Handshake(Wire& wire, ReplyReader& reader, const LinkSettings& settings, std::int64_t deadline, ServerFacts& facts)
      : wire_(wire), reader_(reader), settings_(settings), deadline_(deadline), facts_(facts) {}
  Handshake(const Handshake&) = delete;
  Handshake& operator=(const Handshake&) = delete;
  ~Handshake() { wipe(out_.data(), out_.size()); }

  /// Logs in, gives the connection its name and its database, and asks. `why` never holds the password.
  Shaken run(Reason& why) {
    facts_ = ServerFacts{};
    // So that no copy of the password stays behind in a buffer that was too small.
    out_.reserve(settings_.username.size() + settings_.password.size() + settings_.client_name.size() + 512);
    Shaken result = greet(why);
    if (result != Shaken::good) return result;
    result = select(why);
    return result == Shaken::good ? ask(why) : result;
  }

 private:
  /// Sends what is in out_ and begins the next batch.
  bool send(Reason& why) {
    std::size_t done = 0;
    while (done < out_.size()) {
      const std::ptrdiff_t sent = wire_.send(out_.data() + done, out_.size() - done, why);
      if (sent < 0) {
        // It may have said why before it closed the connection.
        char buffer[256];
        Reason said;
        if (wire_.receive(buffer, sizeof buffer, 0, 0, said) < 0 && wire_.is_refused()) why = said;
        return false;
      }
      done += static_cast<std::size_t>(sent);
      if (sent == 0) {
        if (boot_micros() >= deadline_) return too_late(why);
        wire_.wait_for(POLLIN | POLLOUT, deadline_);
      }
    }
    wipe(out_.data(), out_.size());
    out_.clear();
    return true;
  }

  bool receive(ReplyTree& reply, Reason& why) {
    for (;;) {
      const ReplyReader::Next next = reader_.next(reply);
      if (next == ReplyReader::Next::reply) return true;
      if (next == ReplyReader::Next::broken) {
        why = Reason("the server sent ");
        why.add(reader_.why());
        return false;
      }
      const std::int64_t now = boot_micros();
      if (now >= deadline_) return too_late(why);
      char buffer[4096];
      const std::ptrdiff_t got = wire_.receive(buffer, sizeof buffer, now, deadline_, why);
      if (got < 0) return false;
      reader_.feed(buffer, static_cast<std::size_t>(got));
    }
  }

  static bool too_late(Reason& why) noexcept {
    why = Reason("the server didn't answer in time while connecting");
    return false;
  }

  static bool begins(std::string_view text, std::string_view with) noexcept {
    return text.substr(0, with.size()) == with;
  }

  static bool is_error(const ReplyTree& reply) noexcept { return reply.root().type == ReplyType::error; }

  /// What a server says that will be another one soon.
  static bool passes(std::string_view error) noexcept {
    return begins(error, "LOADING") || begins(error, "BUSY") || begins(error, "MASTERDOWN") ||
           begins(error, "TRYAGAIN") || begins(error, "CLUSTERDOWN");
  }

  /// The server's words, up to the first quotation: some servers repeat what they were sent.
  static Shaken refused(const char* what, const ReplyTree& reply, Reason& why) noexcept {
    const std::string_view error = reply.root().text;
    why = Reason(what);
    why.add(": ").add(error.substr(0, error.find_first_of("'`\"")));
    return passes(error) ? Shaken::lost : Shaken::refused;
  }

  /// HELLO does all at once from Redis 6 on. Whatever is wrong with it is judged by what the older commands say.
  Shaken greet(Reason& why) {
    const bool secret = !settings_.password.empty();
    const bool named = !settings_.client_name.empty();
    Command hello(out_, 2 + (secret ? 3u : 0u) + (named ? 2u : 0u));
    hello.arg("HELLO").arg("2");
    if (secret) hello.arg("AUTH").arg(user()).arg(settings_.password);
    if (named) hello.arg("SETNAME").arg(settings_.client_name);
    ReplyTree reply;
    if (!send(why) || !receive(reply, why)) return Shaken::lost;
    if (!is_error(reply)) {
      read_hello(reply);
      return Shaken::good;
    }
    if (begins(reply.root().text, "NOAUTH") && !secret) {
      // The server's own words are about HELLO, which nobody has called by hand.
      why = Reason("the server wants a password; give RedisOptions::password (NOAUTH)");
      return Shaken::refused;
    }
    if (begins(reply.root().text, "WRONGPASS") || begins(reply.root().text, "NOAUTH")) {
      return refused("the server refused to log in", reply, why);
    }
    if (secret) {
      Command auth(out_, settings_.username.empty() ? 2 : 3);
      auth.arg("AUTH");
      if (!settings_.username.empty()) auth.arg(settings_.username);
      auth.arg(settings_.password);
      if (!send(why) || !receive(reply, why)) return Shaken::lost;
      if (is_error(reply)) return refused("the server refused to log in", reply, why);
    }
    if (named) {
      Command(out_, 3).arg("CLIENT").arg("SETNAME").arg(settings_.client_name);
      // A connection without a name is as good.
      if (!send(why) || !receive(reply, why)) return Shaken::lost;
    }
    return Shaken::good;
  }

  std::string_view user() const noexcept {
    return settings_.username.empty() ? std::string_view("default") : std::string_view(settings_.username);
  }

  Shaken select(Reason& why) {
    if (settings_.database == 0) return Shaken::good;
    Command(out_, 2).arg("SELECT").number(settings_.database);
    ReplyTree reply;
    if (!send(why) || !receive(reply, why)) return Shaken::lost;
    return is_error(reply) ? refused("the server refused the database", reply, why) : Shaken::good;
  }

  /// All that is good to know and that a user may not be allowed to ask, in one round trip.
  Shaken ask(Reason& why) {
    Command(out_, 1).arg("TIME");
    Command(out_, 1).arg("ROLE");
    Command(out_, 1).arg("INFO");
    Command(out_, 3).arg("CONFIG").arg("GET").arg("appendfsync");
    Command(out_, 3).arg("CONFIG").arg("GET").arg("save");
    ReplyTree reply;
    const std::int64_t before = boot_micros();
    if (!send(why) || !receive(reply, why)) return Shaken::lost;
    if (is_error(reply) && begins(reply.root().text, "NOAUTH")) {
      return refused("the server wants a password; give RedisOptions::password", reply, why);
    }
    read_time(reply, before, boot_micros());
    if (!receive(reply, why)) return Shaken::lost;
    if (reply.root().children != 0) read_role(reply[1].text);
    if (!receive(reply, why)) return Shaken::lost;
    if (reply.root().type == ReplyType::string) read_info(reply.root().text);
    if (!receive(reply, why)) return Shaken::lost;
    if (reply.root().children == 2) facts_.appendfsync = std::string(reply[2].text);
    if (!receive(reply, why)) return Shaken::lost;
    if (reply.root().children == 2) facts_.save = std::string(reply[2].text);
    return Shaken::good;
  }

  void read_time(const ReplyTree& reply, std::int64_t before, std::int64_t after) noexcept {
    std::uint64_t seconds = 0, micros = 0;
    if (reply.root().children != 2 || !read_number(reply[1].text, seconds) || !read_number(reply[2].text, micros)) {
      return;
    }
    // Beyond the year 9999 it's no time, and nothing could be added to it.
    if (seconds > 253'402'300'799 || micros > 999'999) return;
    // The server has looked at its clock at some time between these two.
    const std::int64_t middle = before + (after - before) / 2;
    facts_.server_minus_boot = static_cast<std::int64_t>(seconds * 1'000'000 + micros) - middle;
    facts_.server_minus_boot_error = (after - before + 1) / 2;
  }

  void read_hello(const ReplyTree& reply) {
    for (std::size_t i = 1; i < reply.size(); i = reply.after(i)) {
      const std::string_view name = reply[i].text;
      i = reply.after(i);
      if (i >= reply.size()) return;
      const std::string_view value = reply[i].text;
      if (name == "version") read_version(value);
      if (name == "mode") facts_.mode = std::string(value);
      if (name == "role") read_role(value);
    }
  }

  void read_info(std::string_view info) {
    while (!info.empty()) {
      const std::size_t end = info.find('\n');
      std::string_view line = info.substr(0, end);
      info = end == std::string_view::npos ? std::string_view() : info.substr(end + 1);
      if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
      const std::size_t colon = line.find(':');
      if (colon != std::string_view::npos) read_fact(line.substr(0, colon), line.substr(colon + 1));
    }
  }

  void read_fact(std::string_view name, std::string_view value) {
    std::uint64_t number = 0;
    if (name == "redis_version" && !facts_.version) read_version(value);
    if (name == "redis_mode") facts_.mode = std::string(value);
    if (name == "run_id") facts_.run_id = std::string(value);
    if (name == "role" && facts_.role == Role::unknown) read_role(value);
    if (name == "maxmemory_policy") facts_.maxmemory_policy = std::string(value);
    if (name == "aof_enabled") facts_.aof_enabled = value == "1";
    if (name == "loading") facts_.loading = value == "1";
    if (name == "maxmemory" && read_number(value, number)) facts_.maxmemory = number;
    if (name == "connected_slaves" && read_number(value, number)) facts_.connected_replicas = number;
  }

  void read_role(std::string_view role) noexcept {
    if (role == "master") facts_.role = Role::primary;
    if (role == "slave" || role == "replica") facts_.role = Role::replica;
    if (role == "sentinel") facts_.role = Role::sentinel;
  }

  void read_version(std::string_view text) noexcept {
    ServerFacts::Version version;
    std::uint32_t* const parts[] = {&version.major, &version.minor, &version.patch};
    std::size_t part = 0;
    if (text.empty() || text[0] < '0' || text[0] > '9') return;
    for (const char c : text) {
      if (c >= '0' && c <= '9') {
        if (*parts[part] < 100'000) *parts[part] = *parts[part] * 10 + static_cast<std::uint32_t>(c - '0');
      } else if (c != '.' || ++part == 3) {
        break;
      }
    }
    facts_.version = version;
  }

  static bool read_number(std::string_view text, std::uint64_t& to) noexcept {
    if (text.empty() || text.size() > 18) return false;
    to = 0;
    for (const char c : text) {
      if (c < '0' || c > '9') return false;
      to = to * 10 + static_cast<std::uint64_t>(c - '0');
    }
    return true;
  }

  Wire& wire_;
  ReplyReader& reader_;
  const LinkSettings& settings_;
  const std::int64_t deadline_;
  ServerFacts& facts_;
  Bytes out_;
};

}  // namespace detail::redis
IDEM_END_NAMESPACE
