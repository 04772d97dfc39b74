// Threads of the client's own, which no signal of the program's is delivered to.
#pragma once

#include <idem/detail/config.hpp>

#include <thread>
#include <utility>

#if !defined(_WIN32)
#include <pthread.h>  // pthread_sigmask
#include <signal.h>
#endif

IDEM_BEGIN_NAMESPACE
namespace onceonly {
namespace impl {

/// Runs `main()` in a thread that blocks all signals but those that a thread brings upon itself. Throws what
/// std::thread throws.
template <class Main>
std::thread quiet_thread(Main&& main) {
#if !defined(_WIN32)
  struct Blocked {
    sigset_t before;
    Blocked() noexcept {
      sigset_t all;
      ::sigfillset(&all);
      for (const int own : {SIGBUS, SIGSEGV, SIGILL, SIGFPE, SIGTRAP, SIGSYS}) ::sigdelset(&all, own);
      ::pthread_sigmask(SIG_SETMASK, &all, &before);
    }
    ~Blocked() { ::pthread_sigmask(SIG_SETMASK, &before, nullptr); }
  };
  const Blocked blocked;  // inherited by the thread
#endif
  return std::thread(std::forward<Main>(main));
}

}  // namespace impl
}  // namespace onceonly
IDEM_END_NAMESPACE
