// TLS by OpenSSL, 1.1.1 or later, for programs that ask for it.
//
// It is there where IDEM_REDIS_TLS is 1, which the build target idem::redis_tls sets. All translation units of a
// program have to agree. Should they not, it's left to the linker whether a connection that is to be encrypted is, or
// is refused; it's never used unencrypted.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/redis/encryption.hpp>
#include <idem/detail/redis/link_settings.hpp>
#include <idem/detail/redis/reason.hpp>

#if IDEM_REDIS_TLS
#include <idem/detail/boot_clock.hpp>
#include <idem/detail/redis/socket_io.hpp>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>  // X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS

#include <algorithm>  // min
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <new>
#include <string>

#include <poll.h>

#if OPENSSL_VERSION_NUMBER < 0x10101000L
#error "idem: IDEM_REDIS_TLS needs OpenSSL 1.1.1 or later"
#endif
#endif

IDEM_BEGIN_NAMESPACE
namespace detail::redis {

#if IDEM_REDIS_TLS

/// OpenSSL sees no socket: it reads and writes memory, and what is to be sent or has come is carried to and fro by who
/// sends or receives. So its lock is never held while somebody waits, and no SIGPIPE comes of it.
class Tls final : public Encryption {
 public:
  Tls() noexcept = default;
  ~Tls() override { ::SSL_free(ssl_); }

  /// False, with the reason, where the files don't hold what they should. They are read anew for each connection.
  bool prepare(const Endpoint& endpoint, const LinkSettings& link, Reason& why) noexcept {
    ::ERR_clear_error();
    SSL_CTX* const context = ::SSL_CTX_new(::TLS_client_method());
    bool good = context != nullptr || fail("OpenSSL can't be used", why);
    if (good) good = set_up(context, link, why) && begin(context, endpoint, why);
    ::SSL_CTX_free(context);
    return good;
  }

  Shaken shake_hands(int fd, std::int64_t deadline, Reason& why) noexcept override {
    for (;;) {
      ::ERR_clear_error();
      const int result = ::SSL_connect(ssl_);
      const int error = ::SSL_get_error(ssl_, result);
      if (result != 1 && error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) {
        explain(why);
        broken_ = true;
        // Why it was turned down is for the server's log, if there is room.
        Reason ignored;
        flush(fd, ignored);
        return Shaken::refused;
      }
      while (has_unsent()) {
        if (!flush(fd, why)) return lost(why);
        if (!has_unsent()) break;
        if (boot_micros() >= deadline) return too_late(why);
        poll_until(fd, POLLOUT, deadline);
      }
      if (result == 1) return has_proof(why);
      if (error == SSL_ERROR_WANT_WRITE) continue;
      std::uint8_t buffer[piece];
      std::ptrdiff_t got = 0;
      while (got == 0) {
        const std::int64_t now = boot_micros();
        if (now >= deadline) return too_late(why);
        got = receive_some(fd, buffer, sizeof buffer, now, deadline, why);
      }
      if (got < 0 || !take_in(buffer, got, why)) return lost(why);
    }
  }

  std::ptrdiff_t send(int fd, const void* data, std::size_t size, Reason& why) noexcept override {
    // In a child of fork the lock may be held by a thread that isn't there.
    if (fd < 0) return gone(why);
    const auto* const bytes = static_cast<const std::uint8_t*>(data);
    std::size_t done = 0;
    do {
      const std::lock_guard guard(mutex_);
      if (!flush(fd, why)) return -1;
      if (has_unsent()) break;
      done += encrypted_;
      encrypted_ = 0;
      if (done >= size) break;
      if (!encrypt(bytes + done, size - done, why) || !flush(fd, why)) return -1;
      // What hasn't left yet counts as sent only when it has: otherwise nobody would come back for it.
      if (has_unsent() || encrypted_ == 0) break;
      done += encrypted_;
      encrypted_ = 0;
    } while (done < size);
    return static_cast<std::ptrdiff_t>(done);
  }

  std::ptrdiff_t receive(int fd, void* to, std::size_t size, std::int64_t now, std::int64_t until,
                         Reason& why) noexcept override {
    if (fd < 0) return gone(why);
    {
      const std::lock_guard guard(mutex_);
      if (const std::ptrdiff_t got = decrypt(fd, to, size, why); got != 0) return got;
    }
    std::uint8_t buffer[piece];
    const std::ptrdiff_t come = receive_some(fd, buffer, sizeof buffer, now, until, why);
    if (come <= 0) return come;
    const std::lock_guard guard(mutex_);
    return take_in(buffer, come, why) ? decrypt(fd, to, size, why) : -1;
  }

  bool has_read_ahead() noexcept override {
    if (is_inherited()) return false;
    const std::lock_guard guard(mutex_);
    return has_something_in();
  }

  bool is_refused() const noexcept override { return refused_; }

 private:
  // The largest part of the data that TLS encrypts at once, and with what it adds to that.
  static constexpr std::size_t largest_plain = 16384;
  static constexpr std::size_t piece = largest_plain + 512;
  // What is encrypted before it is sent, under the lock.
  static constexpr std::size_t batch = 4 * largest_plain;
  // A server that makes us owe it more than this means no good.
  static constexpr std::size_t most_unsent = 4 * batch;

  static bool fail(const char* what, Reason& why) noexcept {
    why = Reason(what);
    add_error(why);
    return false;
  }

  // The oldest error of OpenSSL's that has words; takes all of them away.
  static void add_error(Reason& why) noexcept {
    while (const unsigned long error = ::ERR_get_error()) {
      const int reason = ERR_GET_REASON(error);
      if (ERR_GET_LIB(error) == ERR_LIB_SYS) {
        why.add_errno(reason);
        break;
      }
      if (const char* const text = ::ERR_reason_error_string(error)) {
        why.add(": ").add(text);
        if (ERR_GET_LIB(error) == ERR_LIB_SSL && reason == SSL_R_WRONG_VERSION_NUMBER) why.add(" (is it TLS at all?)");
        break;
      }
    }
    ::ERR_clear_error();
  }

  void explain(Reason& why) const noexcept {
    const long verified = ::SSL_get_verify_result(ssl_);
    if (verified == X509_V_OK) {
      fail("no TLS with the server", why);
      return;
    }
    why = Reason("the server's certificate isn't good: ");
    why.add(::X509_verify_cert_error_string(verified));
    ::ERR_clear_error();
  }

  // A system may be set up to allow ciphers that need no certificate.
  Shaken has_proof(Reason& why) const noexcept {
    if (::SSL_get_peer_cert_chain(ssl_) != nullptr && ::SSL_get_verify_result(ssl_) == X509_V_OK) return Shaken::good;
    why = Reason("the server has shown no certificate");
    return Shaken::refused;
  }

  static Shaken lost(Reason& why) noexcept {
    why.add(" (before TLS was agreed upon)");
    return Shaken::lost;
  }
  static Shaken too_late(Reason& why) noexcept {
    why = Reason("the server didn't agree upon TLS in time");
    return Shaken::lost;
  }
  static std::ptrdiff_t gone(Reason& why) noexcept {
    why = Reason("there is no connection");
    return -1;
  }

  // Otherwise OpenSSL asks whoever sits at the terminal.
  static int no_passphrase(char*, int, int, void*) noexcept { return -1; }

  static bool set_up(SSL_CTX* context, const LinkSettings& link, Reason& why) noexcept {
    // The system may ask for more.
    if (SSL_CTX_get_min_proto_version(context) < TLS1_2_VERSION &&
        SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1) {
      return fail("OpenSSL has no TLS 1.2", why);
    }
    ::SSL_CTX_set_options(context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(context,
                     SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_AUTO_RETRY);
    ::SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
    ::SSL_CTX_set_default_passwd_cb(context, &no_passphrase);
    const std::string& authorities = link.tls_ca_file;
    const int trusted = authorities.empty() ? ::SSL_CTX_set_default_verify_paths(context)
                                            : ::SSL_CTX_load_verify_locations(context, authorities.c_str(), nullptr);
    if (trusted != 1) return fail("RedisOptions::tls_ca_file can't be used", why);
    if (link.tls_cert_file.empty()) return true;
    if (::SSL_CTX_use_certificate_chain_file(context, link.tls_cert_file.c_str()) != 1) {
      return fail("RedisOptions::tls_cert_file can't be used", why);
    }
    const std::string& key = link.tls_key_file.empty() ? link.tls_cert_file : link.tls_key_file;
    if (::SSL_CTX_use_PrivateKey_file(context, key.c_str(), SSL_FILETYPE_PEM) != 1 ||
        ::SSL_CTX_check_private_key(context) != 1) {
      return fail("RedisOptions::tls_key_file can't be used", why);
    }
    return true;
  }

  bool begin(SSL_CTX* context, const Endpoint& endpoint, Reason& why) noexcept {
    ssl_ = ::SSL_new(context);
    if (ssl_ == nullptr) return fail("OpenSSL can't be used", why);
    in_ = ::BIO_new(::BIO_s_mem());
    out_ = ::BIO_new(::BIO_s_mem());
    if (in_ == nullptr || out_ == nullptr) {
      ::BIO_free(in_);
      ::BIO_free(out_);
      return fail("OpenSSL can't be used", why);
    }
    ::SSL_set_bio(ssl_, in_, out_);
    // An empty name would match every certificate.
    if (!endpoint.unix_socket.empty() || endpoint.host.empty()) {
      why = Reason("TLS needs a host whose name the certificate can have");
      return false;
    }
    const char* const name = endpoint.host.c_str();
    if (::X509_VERIFY_PARAM_set1_ip_asc(::SSL_get0_param(ssl_), name) == 1) return true;
    ::ERR_clear_error();
    ::SSL_set_hostflags(ssl_, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (::SSL_set1_host(ssl_, name) != 1 ||
        ::SSL_ctrl(ssl_, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, const_cast<char*>(name)) != 1) {
      return fail("the host's name can't be checked", why);
    }
    return true;
  }

  // From here on, REQUIRES: the lock, or that the connection isn't shared yet.

  bool has_unsent() const noexcept { return unsent_at_ != unsent_end_ || ::BIO_ctrl_pending(out_) != 0; }
  bool has_something_in() const noexcept { return ::SSL_pending(ssl_) > 0 || ::BIO_ctrl_pending(in_) != 0; }

  // Sends what the system takes at once of what is encrypted. False where the connection is gone.
  bool flush(int fd, Reason& why) noexcept {
    while (has_unsent()) {
      if (unsent_at_ == unsent_end_) {
        const int size = ::BIO_read(out_, unsent_, static_cast<int>(sizeof unsent_));
        unsent_at_ = 0;
        unsent_end_ = size > 0 ? static_cast<std::size_t>(size) : 0;
      }
      const std::ptrdiff_t sent = send_some(fd, unsent_ + unsent_at_, unsent_end_ - unsent_at_, why);
      if (sent < 0) return false;
      if (sent == 0) break;
      unsent_at_ += static_cast<std::size_t>(sent);
    }
    return true;
  }

  bool take_in(const std::uint8_t* data, std::ptrdiff_t size, Reason& why) noexcept {
    if (::BIO_write(in_, data, static_cast<int>(size)) == size) return true;
    broken_ = true;
    return fail("no memory for what has come", why);
  }

  // As much as is good to have at once. False where the connection is of no use any more.
  bool encrypt(const std::uint8_t* data, std::size_t size, Reason& why) noexcept {
    if (broken_) return gone(why) >= 0;
    while (encrypted_ < size && encrypted_ < batch) {
      const std::size_t next = (std::min)(size - encrypted_, largest_plain);
      ::ERR_clear_error();
      const int taken = ::SSL_write(ssl_, data + encrypted_, static_cast<int>(next));
      if (taken <= 0) return is_passing(taken, why);
      encrypted_ += static_cast<std::size_t>(taken);
    }
    return true;
  }

  // What can be had of what has come; zero where that is nothing.
  std::ptrdiff_t decrypt(int fd, void* to, std::size_t size, Reason& why) noexcept {
    if (broken_) return gone(why);
    if (!has_something_in()) return 0;
    ::ERR_clear_error();
    const int got = ::SSL_read(ssl_, to, static_cast<int>((std::min)(size, largest_plain)));
    if (got <= 0 && !is_passing(got, why)) {
      Reason ignored;
      flush(fd, ignored);
      return -1;
    }
    // TLS itself may have had to answer.
    if (!flush(fd, why)) return -1;
    if (::BIO_ctrl_pending(out_) > most_unsent) {
      broken_ = true;
      why = Reason("the server asks too much of TLS");
      return -1;
    }
    return got > 0 ? got : 0;
  }

  bool is_passing(int result, Reason& why) noexcept {
    const int error = ::SSL_get_error(ssl_, result);
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) return true;
    broken_ = true;
    // Such errors are what the server has sent.
    refused_ = error == SSL_ERROR_SSL && ERR_GET_REASON(::ERR_peek_error()) > SSL_AD_REASON_OFFSET;
    if (error != SSL_ERROR_ZERO_RETURN) return fail("TLS with the server broke", why);
    why = Reason("the server closed the connection");
    return false;
  }

  std::mutex mutex_;
  SSL* ssl_ = nullptr;
  BIO* in_ = nullptr;  // both are ssl_'s
  BIO* out_ = nullptr;
  bool broken_ = false;
  bool refused_ = false;
  std::size_t encrypted_ = 0;  // of what `send` was given, encrypted but not reported as sent
  std::size_t unsent_at_ = 0;  // what has been taken out of out_
  std::size_t unsent_end_ = 0;
  std::uint8_t unsent_[piece];
};

/// What is to encrypt a connection to this server; null, with the reason, where there can't be any.
inline Encryption* make_encryption(const Endpoint& endpoint, const LinkSettings& link, Reason& why) noexcept {
  Tls* const tls = new (std::nothrow) Tls;
  if (tls == nullptr) {
    why = Reason("no memory for a connection");
    return nullptr;
  }
  if (tls->prepare(endpoint, link, why)) return tls;
  delete tls;
  return nullptr;
}

#else

/// What is to encrypt a connection to this server: nothing, as this program is built.
inline Encryption* make_encryption(const Endpoint&, const LinkSettings&, Reason& why) noexcept {
  why = Reason("RedisOptions::tls is set, but this program was built without TLS: IDEM_REDIS_TLS is 0");
  return nullptr;
}

#endif

}  // namespace detail::redis
IDEM_END_NAMESPACE
