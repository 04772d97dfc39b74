// A user's options, checked, as the parts of a RedisStore take them.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/redis/address.hpp>
#include <idem/detail/redis/session.hpp>
#include <idem/duration.hpp>
#include <idem/redis_options.hpp>

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

IDEM_BEGIN_NAMESPACE
namespace detail::redis {

inline std::int64_t checked_micros(Duration span, const char* name) {
  if (!span.is_positive()) {
    raise(std::invalid_argument(std::string("idem: RedisOptions::") + name + " has to be more than zero"));
  }
  // A year is as good as forever, and no deadline overflows.
  constexpr std::int64_t longest = std::int64_t{365} * 24 * 3600 * 1'000'000;
  const std::int64_t micros = span.nanoseconds() / 1000 + 1;
  return micros < longest ? micros : longest;
}

inline std::vector<Endpoint> checked_places(const std::vector<std::string>& texts, std::uint16_t usual_port,
                                            const char* name) {
  std::vector<Endpoint> places;
  for (const std::string& text : texts) {
    Endpoint place;
    if (!read_address(text, usual_port, place)) {
      raise(std::invalid_argument(std::string("idem: RedisOptions::") + name +
                                  " has something else than host:port in it"));
    }
    places.push_back(place);
  }
  return places;
}

/// Throws std::invalid_argument.
inline StoreSettings settings_of(const RedisOptions& options) {
  const auto refuse_if = [](bool wrong, const char* why) {
    if (wrong) raise(std::invalid_argument(std::string("idem: RedisOptions::") + why));
  };
  refuse_if(options.unix_socket.empty() && (options.host.empty() || options.port == 0),
            "host and port have to name a server");
  // For the system they would end there.
  refuse_if(options.host.find('\0') != std::string::npos || options.unix_socket.find('\0') != std::string::npos,
            "host and unix_socket must not hold a zero byte");
  refuse_if(options.prefix.empty(), "prefix must not be empty, so that clear() and others' keys stay apart");
  // A batch of SCAN has to fit, and what a server says of itself.
  refuse_if(options.prefix.size() > 256, "prefix has to be 256 bytes at most");
  refuse_if(options.max_reply_bytes < std::size_t{1} << 20, "max_reply_bytes has to be a mebibyte at least");
  refuse_if(options.tls && !options.unix_socket.empty(), "tls means nothing on a unix socket");
  const bool finds = !options.sentinels.empty() || !options.cluster_nodes.empty();
  refuse_if(!options.sentinels.empty() && !options.cluster_nodes.empty(),
            "sentinels and cluster_nodes exclude each other");
  refuse_if(options.sentinels.empty() != options.master_name.empty(), "sentinels and master_name go together");
  refuse_if(finds && !options.unix_socket.empty(),
            "unix_socket names a server, which sentinels or cluster_nodes do already");
  refuse_if(!options.cluster_nodes.empty() && options.database != 0,
            "database has to be 0 in a cluster, which has no other");
  // Whoever names them means TLS, and mustn't go without.
  refuse_if(!options.tls && !(options.tls_ca_file + options.tls_cert_file + options.tls_key_file).empty(),
            "tls_ca_file, tls_cert_file and tls_key_file mean nothing without tls");
  refuse_if(options.tls_cert_file.empty() && !options.tls_key_file.empty(),
            "tls_key_file means nothing without tls_cert_file");
  StoreSettings settings;
  settings.places.sentinels = checked_places(options.sentinels, 26379, "sentinels");
  settings.places.master_name = options.master_name;
  settings.places.sentinel_username = options.sentinel_username;
  settings.places.sentinel_password = options.sentinel_password;
  settings.places.cluster_nodes = checked_places(options.cluster_nodes, 6379, "cluster_nodes");
  settings.admission.looks_for_primary = finds;
  settings.timeout = checked_micros(options.timeout, "timeout");
  settings.prefix = options.prefix;
  settings.clock = options.clock;
  LinkSettings& link = settings.link;
  link.endpoint.host = options.host;
  link.endpoint.port = options.port;
  link.endpoint.unix_socket = options.unix_socket;
  link.username = options.username;
  link.password = options.password;
  link.client_name = "idem";
  link.database = options.database;
  link.connect_timeout = checked_micros(options.connect_timeout, "connect_timeout");
  link.timeout = settings.timeout;
  link.min_replicas = options.min_replicas;
  link.replica_timeout = checked_micros(options.replica_timeout, "replica_timeout");
  link.max_reply_bytes = options.max_reply_bytes;
  link.tls = options.tls;
  link.tls_ca_file = options.tls_ca_file;
  link.tls_cert_file = options.tls_cert_file;
  link.tls_key_file = options.tls_key_file;
  settings.admission.refuse_unsafe = options.unsafe_server == UnsafeServer::refuse;
  settings.admission.pause_after_restart = options.pause_after_restart;
  settings.admission.restart_pause = checked_micros(options.restart_pause, "restart_pause");
  settings.admission.min_replicas = options.min_replicas;
  return settings;
}

}  // namespace detail::redis
IDEM_END_NAMESPACE
