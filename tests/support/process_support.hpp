// What tests with several processes share: children, memory that all of them see, and waiting until something is so.
#pragma once

#include <doctest/doctest.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <new>

#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

namespace process_support {

/// A process that runs `run` and ends with what that returns. Killed with this object, and by an alarm where it hangs.
class Child {
 public:
  template <class Run>
  explicit Child(Run&& run) : pid_(::fork()) {
    REQUIRE(pid_ >= 0);
    if (pid_ != 0) return;
    const rlimit none{0, 0};
    ::setrlimit(RLIMIT_CORE, &none);
    ::alarm(60);
    ::_exit(run());
  }
  ~Child() {
    if (pid_ <= 0) return;
    kill(SIGKILL);
    wait();
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  pid_t pid() const { return pid_; }
  void kill(int signal) const { ::kill(pid_, signal); }

  /// Sends SIGSTOP and returns when the process has stopped.
  void stop() const {
    int status = 0;
    kill(SIGSTOP);
    REQUIRE(::waitpid(pid_, &status, WUNTRACED) == pid_);
    REQUIRE(WIFSTOPPED(status));
  }

  /// What it returned, or minus the signal that ended it.
  int wait() {
    int status = 0;
    pid_t ended = -1;
    do {
      ended = ::waitpid(pid_, &status, 0);
    } while (ended < 0 && errno == EINTR);
    REQUIRE(ended == pid_);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

 private:
  pid_t pid_;
};

/// A T that children share with their parent.
template <class T>
class Shared {
 public:
  Shared() {
    void* const memory = ::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(memory != MAP_FAILED);
    value_ = ::new (memory) T{};
  }
  ~Shared() { ::munmap(value_, sizeof(T)); }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;

  T* operator->() const { return value_; }
  T& operator*() const { return *value_; }

 private:
  T* value_;
};

/// Gives way to others until `so` says true; false where that takes so long that it will never be.
template <class Condition>
bool eventually(Condition&& so) {
  timespec began = {};
  ::clock_gettime(CLOCK_MONOTONIC, &began);
  while (!so()) {
    timespec now = {};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    if (now.tv_sec - began.tv_sec > 50) return false;
    ::sched_yield();
  }
  return true;
}

}  // namespace process_support
