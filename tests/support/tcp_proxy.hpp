// A proxy between a client and its server that does to their connection what networks do.
#pragma once

#include "loopback.hpp"

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <list>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include <time.h>

namespace support {

/// Listens on a free loopback port and forwards every connection. All functions may be called from any thread; they
/// hold for the connections there are and those to come.
class TcpProxy {
 public:
  enum class Way { to_server = 0, to_client = 1 };

  explicit TcpProxy(std::uint16_t port) : TcpProxy(port, {}) {}
  explicit TcpProxy(std::string unix_socket) : TcpProxy(0, std::move(unix_socket)) {}
  TcpProxy(const TcpProxy&) = delete;
  TcpProxy& operator=(const TcpProxy&) = delete;
  ~TcpProxy() {
    stopped_ = true;
    ::shutdown(listening_.fd(), SHUT_RDWR);
    acceptor_.join();
    for (std::thread& thread : threads_) thread.join();
  }

  std::uint16_t port() const { return listening_.port(); }
  /// How many have been accepted.
  int connections() const { return accepted_; }
  /// How many bytes went this way.
  std::uint64_t bytes(Way way) const { return at(way).bytes; }

  /// Nothing more goes this way, though the connection stays: a black hole, or a half-open connection.
  void hold(Way way) { at(way).held = true; }
  void release(Way way) { at(way).held = false; }
  /// Before each piece of at most so many bytes so many microseconds go by.
  void slow_down(Way way, std::size_t bytes, std::int64_t micros) {
    at(way).piece = bytes;
    at(way).pause = micros;
  }
  /// The next bytes that would go this way are lost, and the connection is reset instead; then all is as before.
  void cut_at_next(Way way) { at(way).cut_at_next = true; }
  /// Resets all connections there are.
  void cut() { ++cuts_; }
  /// Whether new connections are forwarded, or reset at once.
  void refuse(bool refuses) { refuses_ = refuses; }

 private:
  struct Lane {
    std::atomic<bool> held{false};
    std::atomic<bool> cut_at_next{false};
    std::atomic<std::size_t> piece{65536};
    std::atomic<std::int64_t> pause{0};
    std::atomic<std::uint64_t> bytes{0};
  };
  TcpProxy(std::uint16_t port, std::string path)
      : target_port_(port), target_path_(std::move(path)), acceptor_([this] { accept_all(); }) {}

  Lane& at(Way way) { return lanes_[static_cast<std::size_t>(way)]; }
  const Lane& at(Way way) const { return lanes_[static_cast<std::size_t>(way)]; }

  void accept_all() {
    for (;;) {
      const int client = ::accept4(listening_.fd(), nullptr, nullptr, SOCK_CLOEXEC);
      if (client < 0) {
        if (stopped_) return;
        continue;
      }
      ++accepted_;
      const int server = refuses_ ? -1 : connect_to(target_port_, target_path_);
      if (server < 0) {
        reset_at_close(client);
        ::close(client);
        continue;
      }
      send_at_once(client);
      send_at_once(server);
      threads_.emplace_back([this, client, server, cuts = cuts_.load()] { run(client, server, cuts); });
    }
  }

  void run(int client, int server, int cuts) {
    bool open_to_server = true, open_to_client = true;
    while (!stopped_ && cuts_ == cuts && (open_to_server || open_to_client)) {
      Lane& out = at(Way::to_server);
      Lane& in = at(Way::to_client);
      // A descriptor that isn't looked at says nothing, so that a held way costs no time.
      std::array<pollfd, 2> asked = {pollfd{open_to_server && !out.held ? client : -1, POLLIN, 0},
                                     pollfd{open_to_client && !in.held ? server : -1, POLLIN, 0}};
      if (::poll(asked.data(), asked.size(), 5) <= 0) continue;
      if (asked[0].revents != 0 && !forward(client, server, out, open_to_server)) break;
      if (asked[1].revents != 0 && !forward(server, client, in, open_to_client)) break;
    }
    reset_at_close(client);
    reset_at_close(server);
    ::close(client);
    ::close(server);
  }

  /// False where the connection is to be reset.
  static bool forward(int from, int to, Lane& lane, bool& open) {
    if (lane.pause != 0) {
      const timespec pause = {lane.pause / 1'000'000, lane.pause % 1'000'000 * 1000};
      ::nanosleep(&pause, nullptr);
      if (lane.held) return true;
    }
    char buffer[65536];
    const std::size_t most = lane.piece < sizeof buffer ? lane.piece.load() : sizeof buffer;
    const ssize_t got = ::recv(from, buffer, most, 0);
    if (got < 0) return false;
    if (got == 0) {
      open = false;
      ::shutdown(to, SHUT_WR);
      return true;
    }
    if (lane.cut_at_next.exchange(false)) return false;
    lane.bytes += static_cast<std::uint64_t>(got);
    return send_all(to, std::string_view(buffer, static_cast<std::size_t>(got)));
  }

  const std::uint16_t target_port_;
  const std::string target_path_;
  Listening listening_;
  std::array<Lane, 2> lanes_;
  std::atomic<int> accepted_{0};
  std::atomic<int> cuts_{0};
  std::atomic<bool> refuses_{false};
  std::atomic<bool> stopped_{false};
  std::list<std::thread> threads_;
  std::thread acceptor_;
};

}  // namespace support
