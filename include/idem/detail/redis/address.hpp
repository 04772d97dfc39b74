// Where a server listens, as users, sentinels and the nodes of a cluster write it.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/redis/link_settings.hpp>
#include <idem/detail/redis/reason.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

IDEM_BEGIN_NAMESPACE
namespace detail::redis {

/// Names and addresses have no other characters; what a server says is looked up and connected to only if it could be
/// either.
inline bool is_host(std::string_view text) noexcept {
  if (text.empty() || text.size() > 255) return false;
  for (const char c : text) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    const bool other = (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_' || c == ':' || c == '%';
    if (!letter && !other) return false;
  }
  return true;
}

/// A decimal number up to `most`.
inline bool read_number(std::string_view text, std::uint32_t most, std::uint32_t& number) noexcept {
  if (text.empty() || text.size() > 9) return false;
  number = 0;
  for (const char digit : text) {
    if (digit < '0' || digit > '9') return false;
    number = number * 10 + static_cast<std::uint32_t>(digit - '0');
  }
  return number <= most;
}

inline bool read_port(std::string_view text, std::uint16_t& port) noexcept {
  std::uint32_t number = 0;
  if (!read_number(text, 65535, number) || number == 0) return false;
  port = static_cast<std::uint16_t>(number);
  return true;
}

/// `host`, `host:port`, `[address]` or `[address]:port`. False where it's none. Only an allocation can throw.
inline bool read_address(std::string_view text, std::uint16_t usual_port, Endpoint& to) {
  std::string_view host = text;
  std::string_view port;
  bool has_port = false;
  if (!text.empty() && text.front() == '[') {
    const std::size_t end = text.find(']');
    if (end == std::string_view::npos) return false;
    host = text.substr(1, end - 1);
    const std::string_view rest = text.substr(end + 1);
    has_port = !rest.empty();
    if (has_port && rest.front() != ':') return false;
    if (has_port) port = rest.substr(1);
  } else if (const std::size_t colon = text.rfind(':'); colon != std::string_view::npos) {
    // Of an address with colons nobody knows whether the last part is a port.
    if (text.find(':') != colon) return false;
    has_port = true;
    host = text.substr(0, colon);
    port = text.substr(colon + 1);
  }
  to.unix_socket.clear();
  to.port = usual_port;
  if (!is_host(host) || (has_port && !read_port(port, to.port))) return false;
  to.host.assign(host);
  return true;
}

/// Puts the server before what went wrong with it. A host that can't be one may be a whole URL with its password, and
/// stays unsaid.
inline void name_place(Reason& why, const Endpoint& place) noexcept {
  constexpr std::size_t longest = 100;  // so that there is room for the reason
  Reason named;
  if (!place.unix_socket.empty()) {
    named.add(std::string_view(place.unix_socket).substr(0, longest));
  } else if (is_host(place.host)) {
    const bool colons = place.host.find(':') != std::string::npos;
    named.add(colons ? "[" : "").add(std::string_view(place.host).substr(0, longest)).add(colons ? "]:" : ":");
    named.add(std::uint64_t{place.port});
  } else {
    return;
  }
  why = named.add(": ").add(why.view());
}

/// What stands behind MOVED and ASK: a slot, and an address whose port follows the last colon. Without a host it's the
/// one that says so. False where it's something else. Only an allocation can throw.
inline bool read_redirect(std::string_view error, std::string_view speaker, std::uint32_t& slot, Endpoint& to) {
  const std::size_t first = error.find(' ');
  if (first == std::string_view::npos) return false;
  const std::size_t second = error.find(' ', first + 1);
  if (second == std::string_view::npos) return false;
  if (!read_number(error.substr(first + 1, second - first - 1), 16383, slot)) return false;
  const std::string_view address = error.substr(second + 1);
  const std::size_t colon = address.rfind(':');
  if (colon == std::string_view::npos || !read_port(address.substr(colon + 1), to.port)) return false;
  std::string_view host = address.substr(0, colon);
  if (host.empty() || host == "?") host = speaker;
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  if (!is_host(host)) return false;
  to.host.assign(host);
  to.unix_socket.clear();
  return true;
}

}  // namespace detail::redis
IDEM_END_NAMESPACE
