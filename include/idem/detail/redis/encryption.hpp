// What a connection that is encrypted goes through.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/process.hpp>
#include <idem/detail/redis/link_settings.hpp>
#include <idem/detail/redis/reason.hpp>

#include <cstddef>
#include <cstdint>

IDEM_BEGIN_NAMESPACE
namespace detail::redis {

/// Of one connection, whose descriptor stays its owner's and is given to each call. There in every build, so that the
/// types of connections are the same with and without TLS.
///
/// Thread safety: one thread may send while another one receives; all else needs nobody else in it.
class Encryption {
 public:
  Encryption() noexcept = default;
  Encryption(const Encryption&) = delete;
  Encryption& operator=(const Encryption&) = delete;
  /// Tells the server nothing.
  virtual ~Encryption() = default;

  /// `good` once both sides agree and the server has proved who it is; otherwise the reason. The deadline is one of
  /// boot_micros().
  virtual Shaken shake_hands(int fd, std::int64_t deadline, Reason& why) noexcept = 0;

  /// As send_some(). What isn't reported as sent has to come first in the next call.
  virtual std::ptrdiff_t send(int fd, const void* data, std::size_t size, Reason& why) noexcept = 0;
  /// As receive_some().
  virtual std::ptrdiff_t receive(int fd, void* to, std::size_t size, std::int64_t now, std::int64_t until,
                                 Reason& why) noexcept = 0;
  /// Something was taken from the socket that `receive` hasn't given out yet.
  virtual bool has_read_ahead() noexcept = 0;

  /// The server has turned this side down, and said so. Not while others send or receive.
  virtual bool is_refused() const noexcept = 0;

  /// It is a copy that a child of fork has of its parent's.
  bool is_inherited() const noexcept { return generation_ != process_generation(); }

 private:
  const std::uint64_t generation_ = process_generation();
};

}  // namespace detail::redis
IDEM_END_NAMESPACE
