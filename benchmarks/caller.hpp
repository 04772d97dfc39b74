// What the benchmarks of stores measure, behind one interface.
#pragma once

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "invoice.hpp"

namespace bench {

[[noreturn]] inline void give_up(const char* what, const char* why) {
  std::fprintf(stderr, "benchmark: %s: %s\n", what, why);
  std::_Exit(EXIT_FAILURE);
}

inline void require(bool good, const char* what) {
  if (!good) give_up(what, errno != 0 ? std::strerror(errno) : "failed");
}

/// One thread's access to a peer.
class Caller {
 public:
  Caller() = default;
  Caller(const Caller&) = delete;
  Caller& operator=(const Caller&) = delete;
  virtual ~Caller() = default;
  virtual Invoice pair(int user_id, double amount) = 0;
  virtual Invoice duplicate(int, double) { give_up("duplicate", "is not measured with this peer"); }
};

/// One process's access to a peer.
class Peer {
 public:
  Peer() = default;
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;
  virtual ~Peer() = default;
  virtual std::unique_ptr<Caller> caller() = 0;
};

}  // namespace bench
