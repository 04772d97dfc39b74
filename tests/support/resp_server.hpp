// A server that speaks the Redis protocol and says what a test wants it to.
#pragma once

#include "loopback.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace support {

using RespCommand = std::vector<std::string>;

inline std::string bulk(std::string_view text) {
  return "$" + std::to_string(text.size()) + "\r\n" + std::string(text) + "\r\n";
}

/// How the server answers what is said on a new connection; empty for every other command. `major`: its version.
inline std::string answer_to_greeting(const RespCommand& command, int major = 7) {
  const std::string version = std::to_string(major) + ".0.1";
  if (command[0] == "HELLO") {
    if (major < 6) return "-ERR unknown command 'HELLO', with args beginning with: '2'\r\n";
    return "*6\r\n" + bulk("server") + bulk("redis") + bulk("version") + bulk(version) + bulk("role") + bulk("master");
  }
  if (command[0] == "AUTH" || command[0] == "SELECT") return "+OK\r\n";
  if (command[0] == "CLIENT" && command[1] == "SETNAME") return "+OK\r\n";
  if (command[0] == "TIME") return "*2\r\n" + bulk("1700000000") + bulk("250000");
  if (command[0] == "ROLE") return "*3\r\n" + bulk("master") + ":0\r\n*0\r\n";
  if (command[0] == "INFO") {
    return bulk("# Server\r\nredis_version:" + version + "\r\nredis_mode:standalone\r\nrun_id:0123abcd\r\n\r\n" +
                "# Memory\r\nmaxmemory:1048576\r\nmaxmemory_policy:noeviction\r\n# Persistence\r\nloading:0\r\n" +
                "aof_enabled:1\r\n# Replication\r\nrole:master\r\nconnected_slaves:2\r\n");
  }
  if (command[0] == "CONFIG" && command[2] == "appendfsync") return "*2\r\n" + bulk("appendfsync") + bulk("everysec");
  if (command[0] == "CONFIG" && command[2] == "save") return "*2\r\n" + bulk("save") + bulk("3600 1");
  return {};
}

/// One connection, as a script of the test's sees it. Used by the script's thread alone.
class RespConnection {
 public:
  RespConnection(int fd, int number) : fd_(fd), number_(number) { send_at_once(fd_); }
  RespConnection(const RespConnection&) = delete;
  RespConnection& operator=(const RespConnection&) = delete;
  ~RespConnection() { close(); }

  /// How many came before it.
  int number() const { return number_; }

  /// The next command, whatever it is; empty where the client is gone. Ill-formed bytes end the test's program.
  RespCommand next_of_all() {
    std::size_t end = 0;
    RespCommand command;
    while (!parse(command, end)) {
      char buffer[65536];
      const ssize_t got = ::recv(fd_, buffer, sizeof buffer, 0);
      if (got <= 0) return {};
      kept_.append(buffer, static_cast<std::size_t>(got));
    }
    kept_.erase(0, end);
    return command;
  }

  /// The next command that no greeting consists of; those are answered here.
  RespCommand next(int major = 7) {
    for (;;) {
      RespCommand command = next_of_all();
      if (command.empty()) return {};
      const std::string answer = answer_to_greeting(command, major);
      if (answer.empty()) return command;
      send(answer);
    }
  }

  /// Answers a greeting to its end, and reads nothing of what follows.
  void next_greeting() {
    for (RespCommand command = next_of_all(); !command.empty(); command = next_of_all()) {
      send(answer_to_greeting(command));
      if (command[0] == "CONFIG" && command[2] == "save") return;
    }
  }

  /// Whether the client is, without reading what it has sent.
  bool is_gone() const {
    pollfd asked = {fd_, POLLRDHUP, 0};
    return ::poll(&asked, 1, 0) > 0;
  }

  bool send(std::string_view bytes) { return send_all(fd_, bytes); }

  /// Reads on, to no end, until the client is gone.
  void swallow() {
    char buffer[4096];
    while (::recv(fd_, buffer, sizeof buffer, 0) > 0) {
    }
  }

  /// Whether the client has sent something more, or has gone, within so many milliseconds.
  bool hears_within(int millis) { return !kept_.empty() || is_readable_within(fd_, millis); }

  /// Tells the client that nothing more comes.
  void end() { ::shutdown(fd_, SHUT_WR); }

  void reset() {
    reset_at_close(fd_);
    close();
  }

  void close() {
    const std::lock_guard guard(mutex_);
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }

  // For another thread: whatever the script waits for ends.
  void interrupt() {
    const std::lock_guard guard(mutex_);
    if (fd_ >= 0) ::shutdown(fd_, SHUT_RDWR);
  }

 private:
  bool line(std::size_t& at, char type, std::size_t& value) const {
    const std::size_t end = kept_.find("\r\n", at);
    if (end == std::string::npos) return false;
    if (kept_[at] != type) std::abort();
    value = std::stoul(kept_.substr(at + 1, end - at - 1));
    at = end + 2;
    return true;
  }

  bool parse(RespCommand& command, std::size_t& at) const {
    command.clear();
    at = 0;
    std::size_t count = 0;
    if (kept_.empty() || !line(at, '*', count)) return false;
    for (std::size_t i = 0; i < count; ++i) {
      std::size_t size = 0;
      if (at >= kept_.size() || !line(at, '$', size) || kept_.size() < at + size + 2) return false;
      if (kept_.compare(at + size, 2, "\r\n") != 0) std::abort();
      command.push_back(kept_.substr(at, size));
      at += size + 2;
    }
    return true;
  }

  std::mutex mutex_;
  int fd_;
  const int number_;
  std::string kept_;
};

/// Runs the script once for each connection, on a thread of its own; the connection ends with it. Gone with the object.
class RespServer {
 public:
  using Script = std::function<void(RespConnection&)>;

  explicit RespServer(Script script) : script_(std::move(script)), acceptor_([this] { accept_all(); }) {}
  RespServer(const RespServer&) = delete;
  RespServer& operator=(const RespServer&) = delete;
  ~RespServer() {
    stopped_ = true;
    ::shutdown(listening_.fd(), SHUT_RDWR);
    acceptor_.join();
    for (const auto& connection : connections_) connection->interrupt();
    for (std::thread& thread : threads_) thread.join();
  }

  std::uint16_t port() const { return listening_.port(); }
  int connections() const { return accepted_; }
  /// For scripts that wait for something of the test's.
  bool stopped() const { return stopped_; }

 private:
  void accept_all() {
    for (;;) {
      const int fd = ::accept4(listening_.fd(), nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) {
        if (stopped_) return;
        continue;
      }
      connections_.push_back(std::make_unique<RespConnection>(fd, accepted_));
      ++accepted_;
      threads_.emplace_back([this, connection = connections_.back().get()] {
        script_(*connection);
        connection->close();
      });
    }
  }

  const Script script_;
  Listening listening_;
  std::atomic<int> accepted_{0};
  std::atomic<bool> stopped_{false};
  std::list<std::unique_ptr<RespConnection>> connections_;
  std::list<std::thread> threads_;
  std::thread acceptor_;
};

}  // namespace support
