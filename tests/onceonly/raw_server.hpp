// A server that answers with any bytes at all, or none: what no HTTP library can be told to do.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace onceonly_support {

class RawServer {
 public:
  /// One connection, of which a request has been read.
  class Connection {
   public:
    explicit Connection(int socket) : socket_(socket) {}
    /// False where the client has gone.
    bool send(std::string_view bytes) const {
      while (!bytes.empty()) {
        const ssize_t sent = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (sent <= 0) return false;
        bytes.remove_prefix(static_cast<std::size_t>(sent));
      }
      return true;
    }

   private:
    int socket_;
  };
  /// Answers the request of that number, counted from 1 over all connections. False: closes the connection.
  using Answer = std::function<bool(const Connection&, std::size_t number)>;

  explicit RawServer(Answer answer) : answer_(std::move(answer)), listener_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* const any = reinterpret_cast<sockaddr*>(&address);
    if (::bind(listener_, any, size) != 0 || ::listen(listener_, 16) != 0 || ::getsockname(listener_, any, &size) != 0)
      throw std::runtime_error("can't listen on 127.0.0.1");
    port_ = ntohs(address.sin_port);
    accepting_ = std::thread([this] { accept_all(); });
  }
  RawServer(const RawServer&) = delete;
  RawServer& operator=(const RawServer&) = delete;
  ~RawServer() {
    ::shutdown(listener_, SHUT_RDWR);
    accepting_.join();
    ::close(listener_);
    {
      const std::lock_guard lock(mutex_);
      for (const int socket : sockets_) ::shutdown(socket, SHUT_RDWR);
    }
    for (std::thread& thread : serving_) thread.join();
    for (const int socket : sockets_) ::close(socket);
  }

  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_) + "/v1"; }
  std::size_t requests() const { return requests_; }

  static std::string json(std::string_view body) {
    return "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) +
           "\r\n\r\n" + std::string(body);
  }

 private:
  void accept_all() {
    for (;;) {
      const int socket = ::accept(listener_, nullptr, nullptr);
      if (socket < 0) return;
      const std::lock_guard lock(mutex_);
      sockets_.push_back(socket);
      serving_.emplace_back([this, socket] {
        serve(socket);
        ::shutdown(socket, SHUT_RDWR);
      });
    }
  }

  void serve(int socket) {
    std::string read;
    const auto more = [&] {
      char some[4096];
      const ssize_t size = ::recv(socket, some, sizeof some, 0);
      if (size > 0) read.append(some, static_cast<std::size_t>(size));
      return size > 0;
    };
    for (;;) {
      std::size_t head = read.find("\r\n\r\n");
      while (head == std::string::npos) {
        if (!more()) return;
        head = read.find("\r\n\r\n");
      }
      const std::size_t length = read.find("Content-Length: ");
      const std::size_t body = length < head ? std::strtoul(read.c_str() + length + 16, nullptr, 10) : 0;
      while (read.size() < head + 4 + body) {
        if (!more()) return;
      }
      read.erase(0, head + 4 + body);
      if (!answer_(Connection(socket), ++requests_)) return;
    }
  }

  Answer answer_;
  int listener_;
  int port_ = 0;
  std::atomic<std::size_t> requests_{0};
  std::thread accepting_;
  std::mutex mutex_;
  std::vector<int> sockets_;
  std::vector<std::thread> serving_;
};

}  // namespace onceonly_support
