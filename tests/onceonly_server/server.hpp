// The OnceOnly service as a real HTTP server on loopback, for tests and examples. It can be told to fail.
#pragma once

#include <idem/duration.hpp>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace onceonly_server {

/// What is done to requests instead of answering them.
struct Fault {
  std::string path = {};   ///< Requests to this path behind /v1; empty: to all.
  unsigned times = 1;      ///< So many of them.
  int status = 0;          ///< Answers with this one; 0: not.
  std::string body = {};   ///< The body of that answer, as it is. Empty: a JSON error.
  std::map<std::string, std::string> headers = {};
  unsigned delay_ms = 0;   ///< Waits before it answers.
  bool drop = false;       ///< Carries the request out and closes the connection without an answer.
};

/// A request as it arrived.
struct Received {
  std::string method = {};
  std::string target = {};  ///< Path and query, as sent.
  std::multimap<std::string, std::string> headers = {};
  std::string body = {};
};

/// Serves until it ends. Over HTTP it is told what the members say by POST /__control/fail, /advance {"seconds"} and
/// /rate_limit {"requests", "seconds"}; GET /__control/requests gives what was received.
/// Thread safety: every member from any thread.
class Server {
 public:
  /// Listens on 127.0.0.1. Port 0: any that is free.
  explicit Server(int port = 0);
  ~Server();

  int port() const noexcept;
  /// As a client's base_url.
  std::string url() const;

  void fail(const Fault& fault);
  void advance(idem::Duration span);
  void limit_rate(std::uint64_t requests, idem::Duration window);
  std::vector<Received> received() const;
  void forget_received();
  /// How many connections were accepted.
  std::size_t connections() const;

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace onceonly_server
