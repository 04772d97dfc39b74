// What a Redis server says of itself.
#pragma once

#include <idem/detail/config.hpp>

#include <cstdint>
#include <optional>
#include <string>

IDEM_BEGIN_NAMESPACE
namespace detail::redis {

enum class Role : std::uint8_t { unknown = 1, primary = 2, replica = 3, sentinel = 4 };

/// As of the last connect. What the server didn't tell, because it is too old or because the user may not ask, has no
/// value.
struct ServerFacts {
  struct Version {
    std::uint32_t major = 0;
    std::uint32_t minor = 0;
    std::uint32_t patch = 0;
  };
  std::optional<Version> version;
  Role role = Role::unknown;
  std::optional<std::string> run_id;       // another one after each start of the server
  std::optional<std::string> mode;         // standalone, cluster, sentinel
  std::optional<std::uint64_t> maxmemory;  // bytes; 0: no limit
  std::optional<std::string> maxmemory_policy;
  std::optional<bool> aof_enabled;
  std::optional<std::string> appendfsync;  // always, everysec, no
  std::optional<std::string> save;         // the server's points of saving; empty: none
  std::optional<std::uint64_t> connected_replicas;
  std::optional<bool> loading;
  /// Microseconds: the server's time minus boot_micros(), and how far off that can be.
  std::optional<std::int64_t> server_minus_boot;
  std::int64_t server_minus_boot_error = 0;
};

}  // namespace detail::redis
IDEM_END_NAMESPACE
