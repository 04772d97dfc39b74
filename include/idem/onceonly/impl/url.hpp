// Addresses: percent-encoding (RFC 3986) and the base address of a client.
#pragma once

#include <idem/detail/config.hpp>

#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>

IDEM_BEGIN_NAMESPACE
namespace onceonly {
namespace impl {

/// For a path segment or a value of the query: everything but the unreserved characters is encoded.
inline std::string percent_encoded(std::string_view text) {
  static constexpr char digits[] = "0123456789ABCDEF";
  std::string encoded;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                       c == '.' || c == '_' || c == '~';
    if (plain) {
      encoded += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      encoded += '%';
      encoded += digits[byte >> 4];
      encoded += digits[byte & 15];
    }
  }
  return encoded;
}

/// A segment of a path. Two of them can't be written by any encoding, since they stand for other places.
inline std::string path_segment(std::string_view text, const char* what) {
  if (text.empty() || text == "." || text == "..")
    idem::detail::raise(std::invalid_argument(std::string("idem: ") + what + " can't be empty, '.' or '..'"));
  return percent_encoded(text);
}

/// Trailing slashes are cut; an address without a path gets /v1. Throws std::invalid_argument for what isn't one; the
/// text is not repeated, since somebody may have put a password into it.
inline std::string base_address(std::string_view url) {
  const auto refuse = [](const char* why) {
    idem::detail::raise(std::invalid_argument(std::string("idem: ClientOptions::base_url ") + why));
  };
  while (!url.empty() && url.back() == '/') url.remove_suffix(1);
  for (const char c : url) {
    if (static_cast<unsigned char>(c) <= ' ' || c == '\x7f') refuse("has a blank or a control character");
  }
  const std::size_t scheme = url.find("://");
  if (scheme == std::string_view::npos) refuse("has to begin with https:// or http://");
  std::string name(url.substr(0, scheme));
  for (char& c : name) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  if (name != "https" && name != "http") refuse("has to begin with https:// or http://");
  const std::string_view rest = url.substr(scheme + 3);
  if (rest.find_first_of("?#") != std::string_view::npos) refuse("can't have a query or a fragment");
  const std::size_t path = rest.find('/');
  const std::string_view host = rest.substr(0, path);
  if (host.empty()) refuse("names no host");
  if (host.find('@') != std::string_view::npos) refuse("can't hold a user or a password");
  std::string address(url);
  if (path == std::string_view::npos) address += "/v1";
  return address;
}

}  // namespace impl
}  // namespace onceonly
IDEM_END_NAMESPACE
