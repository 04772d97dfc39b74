// The system's words for an errno.
#pragma once

#include <idem/detail/config.hpp>

#include <cstring>  // strerror_r

IDEM_BEGIN_NAMESPACE
namespace detail {

// strerror_r(3) is two functions of one name; which one is there shows in its result.
inline const char* error_message(int result, const char* buffer) noexcept {
  return result == 0 ? buffer : "";
}
inline const char* error_message(const char* result, const char*) noexcept {
  return result;
}

/// The text, which may stand in the buffer. Safe from any thread.
template <decltype(sizeof 0) size>
const char* error_text(int error, char (&buffer)[size]) noexcept {
  return error_message(::strerror_r(error, buffer, size), buffer);
}

}  // namespace detail
IDEM_END_NAMESPACE
