// What a connection to a Redis server needs to know.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/redis/reason.hpp>
#include <idem/detail/redis/server_facts.hpp>

#include <cstddef>
#include <cstdint>
#include <string>

IDEM_BEGIN_NAMESPACE
namespace detail::redis {

/// Where a server listens.
struct Endpoint {
  std::string host = "127.0.0.1";
  std::uint16_t port = 6379;
  std::string unix_socket;  // wins where it isn't empty

  friend bool operator==(const Endpoint& a, const Endpoint& b) noexcept {
    return a.host == b.host && a.port == b.port && a.unix_socket == b.unix_socket;
  }
};

/// What came of an attempt to connect.
enum class Shaken : std::uint8_t {
  good = 1,
  lost = 2,    // the connection broke, took too long, or the server isn't ready: to be tried again
  refused = 3  // by the server or by this side, and trying again won't help
};

/// Times are microseconds.
struct LinkSettings {
  Endpoint endpoint;
  std::string username;  // empty: the server's default user
  std::string password;  // empty: none is sent
  std::string client_name;
  unsigned database = 0;

  /// For one attempt to connect, with all that is said before the first command. Looking up a host name isn't covered:
  /// getaddrinfo(3) takes the time it takes.
  std::int64_t connect_timeout = 2'000'000;
  /// How long a connection may owe a reply before it is given up.
  std::int64_t timeout = 2'000'000;

  /// How many replicas WAIT asks for after each batch that writes; 0: it isn't sent.
  std::uint32_t min_replicas = 0;
  std::int64_t replica_timeout = 1'000'000;

  /// Asked before each attempt to connect for where the server is now, which may take until the deadline. False, with
  /// the reason, is an attempt that failed. Null: it's always at `endpoint`.
  bool (*locate)(void* context, std::int64_t deadline, Endpoint& to, Reason& why) noexcept = nullptr;
  void* locate_context = nullptr;

  /// Asked after each greeting, before any command is sent. All but `good`, with the reason, ends the connection; where
  /// it is `refused`, what is queued is answered `not_sent`.
  Shaken (*gate)(void* context, const ServerFacts& facts, Reason& why) noexcept = nullptr;
  void* gate_context = nullptr;

  /// False: there may be another server to turn to, so that what is queued is answered `not_sent`, if not `refused`, as
  /// soon as this one can't be reached.
  bool patient = true;

  bool tls = false;
  std::string tls_ca_file;    // PEM; empty: what the system trusts
  std::string tls_cert_file;  // PEM, of this client; empty: none
  std::string tls_key_file;   // PEM; empty: it stands in tls_cert_file

  /// A longer reply, or one of more values, costs the connection.
  std::size_t max_reply_bytes = std::size_t{64} << 20;
  std::size_t max_reply_nodes = std::size_t{1} << 20;

  /// Where to connect to now. False, with the reason, where nobody knows until the deadline. Only an allocation can
  /// throw.
  bool find(std::int64_t deadline, Endpoint& to, Reason& why) const {
    if (locate != nullptr) return locate(locate_context, deadline, to, why);
    to = endpoint;
    return true;
  }
};

}  // namespace detail::redis
IDEM_END_NAMESPACE
