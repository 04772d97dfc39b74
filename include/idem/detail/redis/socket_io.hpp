// Sending to and receiving from a connected socket, encrypted or not.
#pragma once

#include <idem/detail/boot_clock.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/redis/reason.hpp>

#include <cerrno>
#include <cstddef>
#include <cstdint>

#include <poll.h>
#include <sys/socket.h>

IDEM_BEGIN_NAMESPACE
namespace detail::redis {

#if defined(MSG_NOSIGNAL)
inline constexpr int no_signal = MSG_NOSIGNAL;
#else
inline constexpr int no_signal = 0;  // SO_NOSIGPIPE does it there
#endif

/// Microseconds for which recv(2) waits by itself: SO_RCVTIMEO. Who has less time left pays one system call more.
inline constexpr std::int64_t socket_patience = 20'000;

/// Waits for one of `events` until then (of boot_micros()) at most; returns what poll(2) found, zero where that was
/// nothing or a signal came. May come back a little early, never much later.
inline short poll_until(int fd, short events, std::int64_t until) noexcept {
  const std::int64_t left = until - boot_micros();
  // In pieces, since poll(2) doesn't count the time in which the machine sleeps.
  const int millis = left <= 0 ? 0 : left >= 1'000'000 ? 1000 : static_cast<int>((left + 999) / 1000);
  pollfd asked = {fd, events, 0};
  return ::poll(&asked, 1, millis) > 0 ? asked.revents : short{0};
}

/// Sends as much as the system takes at once; -1, with the reason, where the connection is gone.
inline std::ptrdiff_t send_some(int fd, const void* data, std::size_t size, Reason& why) noexcept {
  for (;;) {
    const ssize_t sent = ::send(fd, data, size, no_signal | MSG_DONTWAIT);
    if (sent >= 0) return static_cast<std::ptrdiff_t>(sent);
    if (errno == EINTR) continue;
    if (errno == EAGAIN || errno == EWOULDBLOCK) return 0;
    why = Reason("the connection broke while sending");
    why.add_errno(errno);
    return -1;
  }
}

/// What has come or comes until then (of boot_micros(), which is `now`). Zero where that is nothing, or earlier for no
/// reason; -1, with the reason, where the connection is gone. REQUIRES: SO_RCVTIMEO is `socket_patience`.
inline std::ptrdiff_t receive_some(int fd, void* to, std::size_t size, std::int64_t now, std::int64_t until,
                                   Reason& why) noexcept {
  // With the time that the socket was given at first, one call is enough.
  int flags = 0;
  if (until - now < socket_patience) {
    flags = MSG_DONTWAIT;
    if (until > now && poll_until(fd, POLLIN, until) == 0) return 0;
  }
  const ssize_t got = ::recv(fd, to, size, flags);
  if (got > 0) return static_cast<std::ptrdiff_t>(got);
  if (got == 0) {
    why = Reason("the server closed the connection");
    return -1;
  }
  if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) return 0;
  why = Reason("the connection broke while waiting for a reply");
  why.add_errno(errno);
  return -1;
}

}  // namespace detail::redis
IDEM_END_NAMESPACE
