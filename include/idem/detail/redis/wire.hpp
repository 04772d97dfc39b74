// One socket to a Redis server.
#pragma once

#include <idem/detail/boot_clock.hpp>
#include <idem/detail/cancellation.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/fork_guard.hpp>
#include <idem/detail/redis/encryption.hpp>
#include <idem/detail/redis/link_settings.hpp>
#include <idem/detail/redis/reason.hpp>
#include <idem/detail/redis/socket_io.hpp>
#include <idem/detail/redis/tls.hpp>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include <fcntl.h>
#include <netdb.h>  // getaddrinfo
#include <netinet/in.h>
#include <netinet/tcp.h>  // TCP_NODELAY
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>  // timeval
#include <sys/un.h>
#include <unistd.h>

IDEM_BEGIN_NAMESPACE
namespace detail::redis {

/// One thread may send while another one receives and a third one interrupts; all else needs nobody else in it. Closed
/// in every child of fork(3), without a byte being sent; no program started by exec(3) has it. No function raises
/// SIGPIPE, and none can be cancelled if its caller can't. Once it encrypts, nothing goes past that.
class Wire {
 public:
  Wire() noexcept = default;
  Wire(const Wire&) = delete;
  Wire& operator=(const Wire&) = delete;
  ~Wire() { close(); }

  /// `link`: whether to encrypt; `endpoint` may be another one than its own. Not `good`, with the reason, where there
  /// is no connection at the deadline (of boot_micros()), or none that is as it has to be. All addresses of a name are
  /// tried; one that doesn't answer takes its share of the time only. Looking a name up takes the time it takes.
  Shaken connect(const Endpoint& endpoint, const LinkSettings& link, std::int64_t deadline, Reason& why) noexcept {
    const NoCancellation shield;
    close();
    Encryption* encryption = nullptr;
    if (link.tls) {
      encryption = make_encryption(endpoint, link, why);
      if (encryption == nullptr) return Shaken::refused;
    }
    const bool connected = endpoint.unix_socket.empty() ? connect_by_name(endpoint, deadline, why)
                                                        : connect_by_path(endpoint, deadline, why);
    // Only now, since each address that didn't answer was closed.
    encryption_ = encryption;
    Shaken result = connected ? Shaken::good : Shaken::lost;
    if (connected && encryption != nullptr) result = encryption->shake_hands(fd_.get(), deadline, why);
    if (result != Shaken::good) close();
    return result;
  }

  void close() noexcept {
    fd_.close();
    // In a child of fork another thread may have been in the middle of it.
    if (encryption_ != nullptr && !encryption_->is_inherited()) delete encryption_;
    encryption_ = nullptr;
  }
  bool connected() const noexcept { return fd_.get() >= 0; }
  int fd() const noexcept { return fd_.get(); }

  /// What the server's system hasn't confirmed yet isn't sent again once this is closed: a command that nobody waits
  /// for any more mustn't arrive long after those of the next connection. Only of use over TCP.
  void forget_unsent() noexcept {
    const linger at_once = {1, 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  }

  /// Ends the conversation while another thread waits in `receive`, which finds the end then.
  void interrupt() noexcept { ::shutdown(fd_.get(), SHUT_RDWR); }

  /// Sends as much as the system takes at once; -1, with the reason, where the connection is gone. What it hasn't
  /// taken has to come first in the next call.
  std::ptrdiff_t send(const void* data, std::size_t size, Reason& why) noexcept {
    if (encryption_ != nullptr) return encryption_->send(fd_.get(), data, size, why);
    return send_some(fd_.get(), data, size, why);
  }

  /// What has come or comes until then (of boot_micros(), which is `now`). Zero where that is nothing, or earlier for
  /// no reason; -1, with the reason, where the connection is gone.
  std::ptrdiff_t receive(void* to, std::size_t size, std::int64_t now, std::int64_t until, Reason& why) noexcept {
    if (encryption_ != nullptr) return encryption_->receive(fd_.get(), to, size, now, until, why);
    return receive_some(fd_.get(), to, size, now, until, why);
  }

  /// Whether something has come that the socket doesn't show any more: it is to be received before anybody waits.
  bool has_read_ahead() const noexcept { return encryption_ != nullptr && encryption_->has_read_ahead(); }

  /// The server has turned this side down, and said so, though a connection seemed to be there: since TLS 1.3 it judges
  /// a client's certificate after that. Not while others send or receive.
  bool is_refused() const noexcept { return encryption_ != nullptr && encryption_->is_refused(); }

  /// Waits until something has come (POLLIN) or can be sent (POLLOUT), as asked for.
  void wait_for(short events, std::int64_t until) noexcept {
    if ((events & POLLIN) != 0 && has_read_ahead()) return;
    poll_until(fd_.get(), events, until);
  }

  /// Whether there is something to read, be it the end.
  bool is_readable() const noexcept { return has_read_ahead() || poll_until(fd_.get(), POLLIN, 0) != 0; }

 private:
  bool connect_by_path(const Endpoint& endpoint, std::int64_t deadline, Reason& why) noexcept {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    if (endpoint.unix_socket.size() >= sizeof address.sun_path) {
      why = Reason("the path of the unix socket is too long");
      return false;
    }
    std::memcpy(address.sun_path, endpoint.unix_socket.c_str(), endpoint.unix_socket.size() + 1);
    return connect_to(AF_UNIX, reinterpret_cast<const sockaddr*>(&address), sizeof address, deadline, why);
  }

  bool connect_by_name(const Endpoint& endpoint, std::int64_t deadline, Reason& why) noexcept {
    char port[6] = {};
    write_port(endpoint.port, port);
    addrinfo hints = {};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    if (const int error = ::getaddrinfo(endpoint.host.c_str(), port, &hints, &found)) {
      const int system_error = errno;
      why = Reason("the host's name could not be looked up");
      if (error == EAI_SYSTEM) {
        why.add_errno(system_error);
      } else {
        why.add(": ").add(::gai_strerror(error));
      }
      return false;
    }
    std::int64_t left = 0;
    for (const addrinfo* each = found; each != nullptr; each = each->ai_next) ++left;
    bool good = false;
    for (const addrinfo* each = found; each != nullptr && !good; each = each->ai_next, --left) {
      const std::int64_t now = boot_micros();
      good = connect_to(each->ai_family, each->ai_addr, each->ai_addrlen, now + (deadline - now) / left, why);
    }
    ::freeaddrinfo(found);
    return good;
  }

  static void write_port(std::uint16_t port, char* to) noexcept {
    char digits[5];
    int count = 0;
    unsigned rest = port;
    do {
      digits[count++] = static_cast<char>('0' + rest % 10);
      rest /= 10;
    } while (rest != 0);
    while (count != 0) *to++ = digits[--count];
  }

  static bool fail(Reason& why, const char* what, int error) noexcept {
    why = Reason(what);
    why.add_errno(error);
    return false;
  }

  bool connect_to(int family, const sockaddr* address, socklen_t size, std::int64_t deadline, Reason& why) noexcept {
    if (const int error = open_socket(family)) return fail(why, "there is no socket to be had", error);
    const int fd = fd_.get();
    int error = ::connect(fd, address, size) == 0 ? 0 : errno;
    // After a signal the attempt goes on by itself. EAGAIN: the queue of a unix socket is full, and it has to be asked
    // again.
    while (family == AF_UNIX && error == EAGAIN && boot_micros() < deadline) {
      ::poll(nullptr, 0, 1);
      error = ::connect(fd, address, size) == 0 ? 0 : errno;
    }
    if (error == EINPROGRESS || error == EINTR || error == EALREADY) error = await_connection(fd, deadline);
    if (error == 0) error = prepare(fd, family);
    if (error == 0) return true;
    close();
    return fail(why, "the server can't be reached", error);
  }

  static int await_connection(int fd, std::int64_t deadline) noexcept {
    while (poll_until(fd, POLLOUT, deadline) == 0) {
      if (boot_micros() >= deadline) return ETIMEDOUT;
    }
    int error = 0;
    socklen_t size = sizeof error;
    return ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 ? error : errno;
  }

  /// Zero, or an errno.
  int open_socket(int family) noexcept {
#if defined(SOCK_CLOEXEC) && defined(SOCK_NONBLOCK)
    int fd = ::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return errno;
#else
    int fd = ::socket(family, SOCK_STREAM, 0);
    if (fd < 0) return errno;
    if (::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0 || ::fcntl(fd, F_SETFL, O_NONBLOCK) != 0) {
      const int error = errno;
      close_quietly(fd);
      return error;
    }
#endif
    // A program that was started without its standard streams would print into the connection.
    if (fd <= 2) {
      const int other = ::fcntl(fd, F_DUPFD_CLOEXEC, 3);
      const int error = errno;
      close_quietly(fd);
      if (other < 0) return error;
      fd = other;
    }
    return fd_.set(fd);
  }

  /// Zero, or an errno.
  static int prepare(int fd, int family) noexcept {
    const int on = 1;
    if (family != AF_UNIX) {
      // Commands are sent together by us; what is sent goes out at once.
      if (::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) return errno;
      if (::setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on) != 0) return errno;
#if defined(TCP_KEEPIDLE) && defined(TCP_KEEPINTVL) && defined(TCP_KEEPCNT)
      const int idle = 15, interval = 5, count = 3;
      ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
      ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
      ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
#endif
    }
#if defined(SO_NOSIGPIPE)
    if (::setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof on) != 0) return errno;
#endif
    timeval wait = {};
    wait.tv_usec = socket_patience;
    if (::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait) != 0) return errno;
    const int flags = ::fcntl(fd, F_GETFL);
    if (flags < 0 || ::fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) != 0) return errno;
    return 0;
  }

  ForkClosed fd_;
  Encryption* encryption_ = nullptr;  // null: nothing is encrypted
};

}  // namespace detail::redis
IDEM_END_NAMESPACE
