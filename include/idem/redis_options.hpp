// RedisOptions: where the server is, and what is expected of it.
#pragma once

#include <idem/clock.hpp>
#include <idem/detail/chrono.hpp>
#include <idem/detail/config.hpp>
#include <idem/duration.hpp>
#include <idem/event.hpp>

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

IDEM_BEGIN_NAMESPACE

/// What becomes of a server that may lose records or isn't a primary: an eviction policy that takes keys without a TTL,
/// no append-only file, a replica.
enum class UnsafeServer : std::uint8_t {
  warn = 1,    ///< An event `store_warning`.
  refuse = 2,  ///< Every operation is answered `unavailable`.
};

struct RedisUrlOptions;

/// Where the servers are is said in one of three ways: host and port (or unix_socket) for one, `sentinels` and
/// `master_name` for a primary that Sentinel watches over, `cluster_nodes` for a Redis Cluster. docs/guarantees.md says
/// what each of them can lose.
struct RedisOptions {
  std::string host = "127.0.0.1";
  std::uint16_t port = 6379;
  std::string unix_socket = {};  ///< Path of a socket; goes before host and port.
  /// Sentinels as `host:port` (port 26379 where there is none), best all of them: who of most of them knows of the
  /// latest failover says where the primary is. Host and port above are of no account then.
  std::vector<std::string> sentinels = {};
  std::string master_name = {};  ///< As the sentinels' configuration names the primary.
  std::string sentinel_username = {};
  std::string sentinel_password = {};  ///< Of the sentinels, which get neither user nor password of the servers.
  /// Some nodes of a cluster as `host:port` (port 6379 where there is none), which tell where the others are. Host and
  /// port above are of no account then.
  std::vector<std::string> cluster_nodes = {};
  std::string username = {};  ///< Empty: the server's default user.
  std::string password = {};  ///< Never in a log or an error text.
  std::uint32_t database = 0;
  /// Of every key and channel, 256 bytes at most. Guards that share records share it. In a cluster a {tag} in it would
  /// put all records on one node.
  std::string prefix = "idem:";

  /// Replicas that have to have a claim before the function starts, and an outcome before it's told (WAIT). A claim
  /// that fewer have is given back and `unavailable`; an outcome that fewer have is `unrecorded`, and stays. Even so a
  /// failover may choose a replica that has less.
  std::uint32_t min_replicas = 0;
  Duration replica_timeout = std::chrono::seconds(1);  ///< How long WAIT waits. Others' commands wait meanwhile.
  UnsafeServer unsafe_server = UnsafeServer::warn;
  /// A server that lost its memory while leases ran has forgotten who holds them. With true, a server that was started
  /// anew without an append-only file is used again, by claims and outcomes alike, only once `restart_pause` has passed
  /// since.
  bool pause_after_restart = false;
  Duration restart_pause = std::chrono::seconds(30);  ///< At least the longest lease that guards use.

  /// For one operation from its beginning to its answer, connecting and trying again included. Then it's unavailable.
  Duration timeout = std::chrono::seconds(5);
  Duration connect_timeout = std::chrono::seconds(2);  ///< For one attempt. Looking up a name may take longer.
  /// A longer answer drops the connection. Has to be larger than any guard's max_result_bytes, and a mebibyte at least.
  std::size_t max_reply_bytes = std::size_t{64} << 20;

  /// Encrypts with TLS 1.2 or later, and verifies the server's certificate and that it is made out to the host as it's
  /// named here, be that a name or an address. Nothing is ever sent unencrypted then: whatever is wrong makes
  /// operations unavailable with the reason. Needs OpenSSL and a program that was built with IDEM_REDIS_TLS=1, the same
  /// in all its parts (CMake: idem::redis_tls); in others every operation is unavailable and says so. The files are
  /// read at each connect.
  bool tls = false;
  std::string tls_ca_file = {};    ///< PEM, who is trusted; empty: whom the system trusts.
  std::string tls_cert_file = {};  ///< PEM, of this client with its chain, where the server asks for one.
  std::string tls_key_file = {};   ///< PEM, without a passphrase; empty: it stands in tls_cert_file.

  /// For tests: judges leases and expiry instead of the server's TIME.
  Clock clock = {};
  /// Told what was done to records by hand (resolved, forgotten), and what is wrong with the server.
  EventHandler on_event = {};

  /// A server that isn't set up for what idem promises is refused. All else is as by default: of options that are there
  /// already it keeps nothing, but for those that `from_url` gives.
  [[nodiscard]] static RedisOptions strict() {
    RedisOptions options;
    options.unsafe_server = UnsafeServer::refuse;
    return options;
  }

  /// `redis://user:password@host:port/database`, `rediss://` for TLS, `unix:///path?db=1` or `redis+unix://` likewise,
  /// also with `user:password@` before the path; all names are percent-decoded. Throws std::invalid_argument, whose
  /// text never has the URL in it.
  [[nodiscard]] static RedisUrlOptions from_url(std::string_view url);
};

/// What `RedisOptions::from_url` gives: options like any others, of which `strict()` keeps what the URL said.
struct RedisUrlOptions : RedisOptions {
  [[nodiscard]] RedisOptions strict() const {
    RedisOptions options = *this;
    options.unsafe_server = UnsafeServer::refuse;
    return options;
  }
};

namespace detail {

/// Reads a URL from left to right.
class RedisUrl {
 public:
  explicit RedisUrl(std::string_view url) : rest_(url) {}

  RedisOptions parse() {
    RedisOptions options;
    if (skip("unix://") || skip("redis+unix://")) {
      const std::string_view query = cut_from('?');
      if (rest_.substr(0, 1) != "/") take_user(options);
      options.unix_socket = decoded(rest_);
      if (options.unix_socket.substr(0, 1) != "/") refuse("has to name a socket by its whole path");
      if (!query.empty()) options.database = database(query.substr(0, 3) == "db=" ? query.substr(3) : query);
      return options;
    }
    options.tls = skip("rediss://");
    if (!options.tls && !skip("redis://")) refuse("has to begin with redis://, rediss:// or unix://");
    if (!cut_from('#').empty() || !cut_from('?').empty()) refuse("has a query or a fragment, which mean nothing here");
    const std::string_view path = cut_from('/');
    if (!path.empty()) options.database = database(path);
    take_user(options);
    std::string_view port;
    if (!rest_.empty() && rest_.front() == '[') {
      const std::size_t end = rest_.find(']');
      if (end == std::string_view::npos) refuse("has a [ without a ]");
      options.host = std::string(rest_.substr(1, end - 1));
      port = rest_.substr(end + 1);
      if (!port.empty() && port.front() != ':') refuse("has something else than a port behind the host");
      if (!port.empty()) port.remove_prefix(1);
    } else {
      const std::size_t colon = rest_.rfind(':');
      if (colon != std::string_view::npos) port = rest_.substr(colon + 1);
      const std::string_view host = rest_.substr(0, colon);
      if (!host.empty()) options.host = decoded(host);
    }
    if (!port.empty()) options.port = static_cast<std::uint16_t>(number(port, 65535, "has a port that isn't one"));
    if (options.host.empty() || options.port == 0) refuse("names no host or no port");
    return options;
  }

 private:
  [[noreturn]] static void refuse(const char* why) {
    raise(std::invalid_argument(std::string("idem: the URL of the Redis server ") + why));
  }
  bool skip(std::string_view what) noexcept {
    if (rest_.substr(0, what.size()) != what) return false;
    rest_.remove_prefix(what.size());
    return true;
  }
  /// A password may hold an @ that nobody encoded; a host can't.
  void take_user(RedisOptions& options) {
    const std::size_t at = rest_.rfind('@');
    if (at == std::string_view::npos) return;
    const std::string_view user = rest_.substr(0, at);
    rest_.remove_prefix(at + 1);
    const std::size_t colon = user.find(':');
    options.username = decoded(user.substr(0, colon));
    if (colon != std::string_view::npos) options.password = decoded(user.substr(colon + 1));
  }
  /// What stands behind the first `mark`, which is taken away with it.
  std::string_view cut_from(char mark) noexcept {
    const std::size_t at = rest_.find(mark);
    if (at == std::string_view::npos) return {};
    const std::string_view behind = rest_.substr(at + 1);
    rest_ = rest_.substr(0, at);
    return behind;
  }
  static std::uint32_t number(std::string_view text, std::uint32_t most, const char* why) {
    std::uint32_t value = 0;
    if (text.empty() || text.size() > 9) refuse(why);
    for (const char digit : text) {
      if (digit < '0' || digit > '9') refuse(why);
      value = value * 10 + static_cast<std::uint32_t>(digit - '0');
    }
    if (value > most) refuse(why);
    return value;
  }
  static std::uint32_t database(std::string_view text) {
    return number(text, 999'999'999, "has a database that isn't a number");
  }
  static std::string decoded(std::string_view text) {
    const auto hex = [](char digit) {
      if (digit >= '0' && digit <= '9') return digit - '0';
      if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
      if (digit >= 'A' && digit <= 'F') return digit - 'A' + 10;
      refuse("has a % without two hexadecimal digits");
    };
    std::string plain;
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text[i] != '%') {
        plain += text[i];
        continue;
      }
      if (i + 2 >= text.size()) refuse("has a % without two hexadecimal digits");
      plain += static_cast<char>(hex(text[i + 1]) * 16 + hex(text[i + 2]));
      // A name or a path would end there for the system.
      if (plain.back() == '\0') refuse("has a %00");
      i += 2;
    }
    return plain;
  }

  std::string_view rest_;
};

}  // namespace detail

inline RedisUrlOptions RedisOptions::from_url(std::string_view url) {
  return RedisUrlOptions{detail::RedisUrl(url).parse()};
}

IDEM_END_NAMESPACE
