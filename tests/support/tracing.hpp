// Children that are traced: killed at a chosen system call, or told that it failed. The way of ptrace(2), so that
// nothing but the kernel is needed and the code under test is what users run.
#pragma once

#if defined(__linux__) && defined(__x86_64__) && defined(__LP64__)
#define IDEM_TEST_TRACING 1

#include <doctest/doctest.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

namespace tracing {

/// What is done to the traced part of a child.
enum class Harm {
  none,
  kill,          ///< Killed at point `at`: odd ones are before a call, even ones after it.
  fail,          ///< The call at point `at` fails.
  keep_failing,  ///< That and all later ones fail.
  shorten,       ///< That call, a read or write, moves 5 bytes at most.
  stop_moving,   ///< That call, a read or write, moves nothing and says so.
  tear,          ///< That call, a read or write, moves 5 bytes at most; all later calls fail.
};

/// A call of the traced part, as it was begun.
struct Made {
  long number = -1;
  std::string path;  ///< The file's, whole or below the directory that is the call's.
  unsigned long long flags = 0;   ///< Of open and flock.
  unsigned long long offset = 0;  ///< Of pwrite.
  unsigned long long size = 0;
  int descriptor = -1;
};

struct Plan {
  Harm harm = Harm::none;
  unsigned at = 1;
  int error = 0;
  /// Each call is a point: also the third and later ones of a row of equal ones, and for `kill` those that only look.
  bool every = false;
  long only = -1;  ///< Of this system call, where there is one.
  /// Gets all calls in order, where there is one and nothing is harmed.
  std::vector<Made>* log = nullptr;
};

struct Seen {
  bool hit = false;  ///< The traced part got as far as the point.
  unsigned points = 0;
  long number = -1;  ///< Of the call that was harmed first.
  std::string call;  ///< The same in words.
  int result = 0;    ///< What the child returned, or minus the signal that ended it.
};

inline constexpr long end_mark = 100002;  // no system call's number

/// Where the traced part of a child begins and ends.
inline void begin() {
  ::kill(::getpid(), SIGSTOP);
}
inline void end() {
  ::syscall(end_mark);
}

namespace impl {

struct Call {
  long number;
  const char* name;
};

/// What may fail for want of something, or because of the disk. Memory, clocks, signals and futexes aren't here: what a
/// sanitizer's own calls meet isn't idem's.
inline const char* name_of(long number) {
  static constexpr Call calls[] = {
      {SYS_open, "open"},           {SYS_openat, "openat"},       {SYS_close, "close"},
      {SYS_fstat, "fstat"},         {SYS_newfstatat, "fstatat"},  {SYS_flock, "flock"},
      {SYS_pread64, "pread"},       {SYS_pwrite64, "pwrite"},     {SYS_read, "read"},
      {SYS_getdents64, "getdents"}, {SYS_fallocate, "fallocate"}, {SYS_fdatasync, "fdatasync"},
      {SYS_fsync, "fsync"},         {SYS_syncfs, "syncfs"},       {SYS_rename, "rename"},
      {SYS_renameat, "renameat"},   {SYS_linkat, "linkat"},       {SYS_unlinkat, "unlinkat"},
      {SYS_mkdirat, "mkdirat"},     {SYS_fchmod, "fchmod"},       {SYS_fchmodat, "fchmodat"},
      {SYS_readlink, "readlink"},   {SYS_fcntl, "fcntl"},         {SYS_fstatfs, "fstatfs"},
      {SYS_getrandom, "getrandom"}, {SYS_mmap, "mmap"},           {SYS_statx, "statx"},
  };
  for (const Call& call : calls) {
    if (call.number == number) return call.name;
  }
  return nullptr;
}

/// Whether it matters to others that a call was made: being killed before a call that only looks is being killed before
/// the next one that does more. What is done to shared memory in between is seen by both.
inline bool has_effect(const user_regs_struct& registers) {
  switch (static_cast<long>(registers.orig_rax)) {
    case SYS_openat:
      return (registers.rdx & O_CREAT) != 0;
    case SYS_flock:
    case SYS_pwrite64:
    case SYS_fallocate:
    case SYS_fdatasync:
    case SYS_fsync:
    case SYS_renameat:
    case SYS_linkat:
    case SYS_unlinkat:
    case SYS_mkdirat:
    case SYS_fchmod:
    case SYS_ftruncate:
      return true;
    default:
      return false;
  }
}

inline bool moves_bytes(long number) {
  return number == SYS_pread64 || number == SYS_pwrite64 || number == SYS_read || number == SYS_write;
}

inline user_regs_struct registers_of(pid_t child) {
  user_regs_struct registers = {};
  REQUIRE(::ptrace(PTRACE_GETREGS, child, nullptr, &registers) == 0);
  return registers;
}

inline bool has_path(long number) {
  return number == SYS_openat || number == SYS_newfstatat || number == SYS_unlinkat || number == SYS_renameat ||
         number == SYS_linkat || number == SYS_mkdirat || number == SYS_statx;
}

/// By which a row of equal calls is known: what is called for which file.
struct Same {
  unsigned long long number = 0;
  unsigned long long first = 0;
  unsigned long long second = 0;

  friend bool operator==(const Same&, const Same&) = default;
};

inline Same same_as(const user_regs_struct& registers) {
  const bool path = has_path(static_cast<long>(registers.orig_rax));
  return {registers.orig_rax, registers.rdi, path ? registers.rsi : 0};
}

/// Of the file that a call is about: as it was given, or what the descriptor stands for.
inline std::string path_of(pid_t child, const user_regs_struct& registers) {
  const auto number = static_cast<long>(registers.orig_rax);
  char path[256] = {};
  if (has_path(number)) {
    iovec to{path, sizeof path - 1};
    iovec from{reinterpret_cast<void*>(registers.rsi), 64};
    static_cast<void>(::process_vm_readv(child, &to, 1, &from, 1, 0));
    path[sizeof path - 1] = '\0';
  } else if (name_of(number) != nullptr) {
    char link[64];
    std::snprintf(link, sizeof link, "/proc/%d/fd/%d", child, static_cast<int>(registers.rdi));
    static_cast<void>(::readlink(link, path, sizeof path - 1));
  }
  return path;
}

inline std::string words_for(pid_t child, const user_regs_struct& registers) {
  const auto number = static_cast<long>(registers.orig_rax);
  const char* const name = name_of(number);
  return (name != nullptr ? name : "system call " + std::to_string(number)) + " " + path_of(child, registers);
}

inline Made made(pid_t child, const user_regs_struct& registers) {
  const auto number = static_cast<long>(registers.orig_rax);
  return {.number = number,
          .path = path_of(child, registers),
          .flags = number == SYS_openat ? registers.rdx : registers.rsi,
          .offset = registers.r10,
          .size = registers.rdx,
          .descriptor = static_cast<int>(registers.rdi)};
}

inline int wait_for(pid_t child) {
  int status = 0;
  pid_t ended = -1;
  do {
    ended = ::waitpid(child, &status, 0);
  } while (ended < 0 && errno == EINTR);
  REQUIRE(ended == child);
  return status;
}

}  // namespace impl

/// Runs `run` in a child, does as planned between its `begin()` and `end()`, and tells what happened. Whatever hangs is
/// ended by an alarm.
template <class Run>
Seen trace(const Plan& plan, Run&& run) {
  using namespace impl;
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const rlimit none{0, 0};
    ::setrlimit(RLIMIT_CORE, &none);
    ::alarm(60);
    if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) ::_exit(99);
    ::kill(::getpid(), SIGSTOP);
    ::_exit(run());
  }
  Seen seen;
  bool inside = false;
  bool entering = true;
  bool rewrites = false;
  long long rewritten = 0;
  Same last = {};
  unsigned row = 0;
  const int first = wait_for(child);
  if (!WIFSTOPPED(first)) {
    seen.result = WIFEXITED(first) ? WEXITSTATUS(first) : -WTERMSIG(first);
    return seen;
  }
  REQUIRE(::ptrace(PTRACE_SETOPTIONS, child, nullptr, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL) == 0);
  long signal = 0;
  for (;;) {
    REQUIRE(::ptrace(inside ? PTRACE_SYSCALL : PTRACE_CONT, child, nullptr, signal) == 0);
    signal = 0;
    const int status = wait_for(child);
    if (!WIFSTOPPED(status)) {
      seen.result = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
      return seen;
    }
    if (WSTOPSIG(status) == SIGSTOP) {
      inside = true;
      entering = true;
      continue;
    }
    if (WSTOPSIG(status) != (SIGTRAP | 0x80)) {
      signal = WSTOPSIG(status);
      continue;
    }
    user_regs_struct registers = registers_of(child);
    const auto number = static_cast<long>(registers.orig_rax);
    const bool enters = entering;
    entering = !entering;
    if (enters && number == end_mark) {
      inside = false;
      entering = true;
      continue;
    }
    if (!enters && rewrites) {
      registers.rax = static_cast<unsigned long long>(rewritten);
      REQUIRE(::ptrace(PTRACE_SETREGS, child, nullptr, &registers) == 0);
      rewrites = false;
      continue;
    }
    if (plan.log != nullptr) {
      if (enters) plan.log->push_back(made(child, registers));
      continue;
    }
    if (plan.harm == Harm::kill ? !plan.every && !has_effect(registers) : name_of(number) == nullptr) continue;
    if (enters) {
      const Same call = same_as(registers);
      row = call == last ? row + 1 : 0;
      last = call;
    }
    if (row > 1 && !plan.every) continue;
    if (plan.only >= 0 && number != plan.only) continue;

    if (plan.harm == Harm::kill) {
      if (++seen.points != plan.at) continue;
      seen.hit = true;
      seen.number = number;
      seen.call = (enters ? "before " : "after ") + words_for(child, registers);
      ::kill(child, SIGKILL);
      const int ended = wait_for(child);
      seen.result = WIFEXITED(ended) ? WEXITSTATUS(ended) : -WTERMSIG(ended);
      return seen;
    }
    if (!enters) continue;
    if (number == SYS_mmap && static_cast<int>(registers.r8) < 0) continue;
    const bool only_moves = plan.harm == Harm::shorten || plan.harm == Harm::stop_moving || plan.harm == Harm::tear;
    if (only_moves && !seen.hit && !moves_bytes(number)) continue;
    ++seen.points;
    const bool at_point = seen.points == plan.at;
    const bool later = seen.points > plan.at && (plan.harm == Harm::keep_failing || plan.harm == Harm::tear);
    if (plan.harm == Harm::none || (!at_point && !later)) continue;
    if (at_point) {
      seen.hit = true;
      seen.number = number;
      seen.call = words_for(child, registers);
    }
    if (at_point && (plan.harm == Harm::shorten || plan.harm == Harm::tear)) {
      if (registers.rdx > 5) registers.rdx = 5;
    } else {
      rewrites = true;
      rewritten = plan.harm == Harm::stop_moving ? 0 : -plan.error;
      // A descriptor is closed whatever close(2) says, and a lock that is given back is free.
      const bool carried_out =
          number == SYS_close || (number == SYS_flock && (registers.rsi & ~std::uint64_t{LOCK_NB}) == LOCK_UN);
      if (!carried_out) registers.orig_rax = static_cast<unsigned long long>(-1);
    }
    REQUIRE(::ptrace(PTRACE_SETREGS, child, nullptr, &registers) == 0);
  }
}

/// Whether the system lets a process be traced at all; says so where not.
inline bool possible() {
  const Seen seen = trace({.harm = Harm::none}, [] {
    begin();
    end();
    return 7;
  });
  if (seen.result != 7) MESSAGE("this system lets no process be traced: nothing is tested here");
  return seen.result == 7;
}

}  // namespace tracing

#endif
