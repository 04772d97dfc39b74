// Keeps a connection that its peer has closed from ending the program.
#pragma once

#include <idem/detail/config.hpp>

#if !defined(_WIN32)
#include <pthread.h>  // pthread_sigmask
#include <signal.h>
#include <time.h>  // timespec
#endif

IDEM_BEGIN_NAMESPACE
namespace onceonly {
namespace impl {

/// While this lives, writing to a closed connection brings no SIGPIPE upon the calling thread. libcurl ignores that
/// signal by itself only where it may set the process's handlers, which CURLOPT_NOSIGNAL forbids; and the TLS library
/// below many of its versions writes without MSG_NOSIGNAL.
class NoBrokenPipe {
 public:
#if defined(_WIN32)
  NoBrokenPipe() noexcept {}
#else
  NoBrokenPipe() noexcept {
    sigset_t pending;
    ::sigpending(&pending);
    was_pending_ = ::sigismember(&pending, SIGPIPE) == 1;
    ::pthread_sigmask(SIG_BLOCK, pipe(), &before_);
  }
  ~NoBrokenPipe() {
    if (::sigismember(&before_, SIGPIPE) == 1) return;
    // One that came meanwhile is this thread's own doing.
    sigset_t pending;
    ::sigpending(&pending);
    if (!was_pending_ && ::sigismember(&pending, SIGPIPE) == 1) take();
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
#endif
  NoBrokenPipe(const NoBrokenPipe&) = delete;
  NoBrokenPipe& operator=(const NoBrokenPipe&) = delete;

#if !defined(_WIN32)
 private:
  static const sigset_t* pipe() noexcept {
    static const sigset_t only = [] {
      sigset_t set;
      ::sigemptyset(&set);
      ::sigaddset(&set, SIGPIPE);
      return set;
    }();
    return &only;
  }

  static void take() noexcept {
#if defined(__APPLE__)
    int taken = 0;
    ::sigwait(pipe(), &taken);
#else
    // Not sigwait, which would wait for another one if some other thread had taken it.
    const timespec at_once = {};
    ::sigtimedwait(pipe(), nullptr, &at_once);
#endif
  }

  sigset_t before_;
  bool was_pending_ = false;
#endif
};

}  // namespace impl
}  // namespace onceonly
IDEM_END_NAMESPACE
