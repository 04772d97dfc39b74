// What the errors of a server mean to who gets them.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/redis/reason.hpp>

#include <cstdint>
#include <string_view>

IDEM_BEGIN_NAMESPACE
namespace detail::redis {

/// What an error of the server means.
enum class Trouble : std::uint8_t {
  final = 1,     ///< Trying again won't help before somebody changes something.
  passing = 2,   ///< It may be over in a moment.
  forgotten = 3, ///< The server doesn't know the script.
  demoted = 4,   ///< Another server is the primary now.
  foreign = 5,   ///< The key holds another type.
  moved = 6,     ///< Another node of the cluster has the key's slot.
  asked = 7,     ///< Another node of the cluster has the key already, if there is one.
};

inline Trouble trouble_of(std::string_view error) noexcept {
  const auto begins = [error](std::string_view code) { return error.substr(0, code.size()) == code; };
  if (begins("NOSCRIPT")) return Trouble::forgotten;
  for (const std::string_view code : {"LOADING", "BUSY", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN"}) {
    if (begins(code)) return Trouble::passing;
  }
  if (begins("MOVED ")) return Trouble::moved;
  if (begins("ASK ")) return Trouble::asked;
  if (begins("READONLY") || begins("UNBLOCKED")) return Trouble::demoted;
  // Before Redis 7 what a command says within a script stands behind where it stood.
  if (begins("WRONGTYPE")) return Trouble::foreign;
  if (begins("ERR Error running script")) {
    if (error.find("WRONGTYPE") != std::string_view::npos) return Trouble::foreign;
    if (error.find("READONLY") != std::string_view::npos) return Trouble::demoted;
  }
  return Trouble::final;
}

/// What to do about an error, where that isn't plain from the server's words; empty, or ending in a space.
inline std::string_view advice_on(std::string_view error) noexcept {
  if (error.substr(0, 3) == "OOM") return "the server is full; raise its maxmemory, or purge: ";
  if (error.substr(0, 6) == "MOVED ") {
    return "the server is a node of a cluster; name nodes in RedisOptions::cluster_nodes: ";
  }
  // Of a command within a script it doesn't say which one.
  if (error.find("The user executing the script") != std::string_view::npos) {
    return "the server's user lacks a right; RedisStore::open() says which: ";
  }
  return {};
}

/// A server's error in its own words, and what to do about it.
inline Reason words_of(std::string_view error) noexcept {
  return Reason(advice_on(error)).add("the server said: ").add(error);
}

}  // namespace detail::redis
IDEM_END_NAMESPACE
