// A thread of idem's own, which no signal of the program's is delivered to.
#pragma once

#include <idem/detail/config.hpp>

#include <initializer_list>

#include <pthread.h>  // the thread; <thread> costs as much to include as <mutex> and <condition_variable> together
#include <signal.h>   // pthread_sigmask

IDEM_BEGIN_NAMESPACE
namespace detail {

/// Not thread-safe: whoever has it calls with a lock of his own. Has to be joined before it's destroyed, but for
/// children of fork, in which there is no such thread.
class BackgroundThread {
 public:
  using Main = void (*)(void* subject);

  BackgroundThread() = default;
  BackgroundThread(const BackgroundThread&) = delete;
  BackgroundThread& operator=(const BackgroundThread&) = delete;

  /// Calls `main(subject)` in a thread of its own. False where there is none to be had. REQUIRES: none is there.
  bool start(Main main, void* subject) noexcept {
    main_ = main;
    subject_ = subject;
    // Signals are for the program's own threads.
    sigset_t all;
    sigset_t before;
    ::sigfillset(&all);
    // But for those that a thread brings upon itself: FileStore mends a bus error where it isn't blocked.
    for (const int own : {SIGBUS, SIGSEGV, SIGILL, SIGFPE, SIGTRAP, SIGSYS}) ::sigdelset(&all, own);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    there_ = ::pthread_create(&thread_, nullptr, &BackgroundThread::run, this) == 0;
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return there_;
  }
  /// Started and not joined yet.
  bool there() const noexcept { return there_; }

  /// Waits for its end, if there is one.
  void join() noexcept {
    if (there_) ::pthread_join(thread_, nullptr);
    there_ = false;
  }

 private:
  static void* run(void* self) {
    const BackgroundThread& thread = *static_cast<BackgroundThread*>(self);
    thread.main_(thread.subject_);
    return nullptr;
  }

  pthread_t thread_ = {};
  Main main_ = nullptr;
  void* subject_ = nullptr;
  bool there_ = false;
};

}  // namespace detail
IDEM_END_NAMESPACE
