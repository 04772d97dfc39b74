// Hears from a sentinel that another server is the primary now.
#pragma once

#include <idem/detail/background_thread.hpp>
#include <idem/detail/boot_clock.hpp>
#include <idem/detail/bytes.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/futex.hpp>
#include <idem/detail/redis/address.hpp>
#include <idem/detail/redis/channel.hpp>
#include <idem/detail/redis/command.hpp>
#include <idem/detail/redis/inquiry.hpp>
#include <idem/detail/redis/link_settings.hpp>
#include <idem/detail/redis/reason.hpp>
#include <idem/detail/redis/reply_tree.hpp>
#include <idem/detail/redis/sentinels.hpp>

#include <algorithm>  // min
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string_view>

IDEM_BEGIN_NAMESPACE
namespace detail::redis {

/// A thread that subscribes to +switch-master at one sentinel, and at the next one where that is lost. When the primary
/// is another one, the connection to the old one ends: what was on its way there is said again at the new one. Without
/// this thread the same happens when the old one is heard of no more.
///
/// Thread safety: `start` from any thread. In children of fork it isn't used.
class SentinelWatch {
 public:
  /// REQUIRES: both outlive it.
  SentinelWatch(Sentinels& sentinels, Channel& channel) noexcept
      : sentinels_(sentinels), channel_(channel), inquiry_(sentinels.link()) {}
  SentinelWatch(const SentinelWatch&) = delete;
  SentinelWatch& operator=(const SentinelWatch&) = delete;
  /// May take as long as an attempt to connect.
  ~SentinelWatch() {
    {
      const std::lock_guard guard(mutex_);
      stop_.store(1, std::memory_order_relaxed);
      if (connected_) inquiry_.interrupt();
    }
    futex_impl::wake(&stop_, all_sleepers, FutexScope::own_process);
    thread_.join();
  }

  /// Where no thread is to be had it's tried again with the next call.
  void start() noexcept {
    if (started_.load(std::memory_order_acquire)) return;
    const std::lock_guard guard(mutex_);
    if (thread_.there()) return;
    if (thread_.start([](void* self) { static_cast<SentinelWatch*>(self)->run(); }, this)) {
      started_.store(true, std::memory_order_release);
    }
  }

 private:
  // Microseconds.
  static constexpr std::int64_t shortest_pause = 50'000;
  static constexpr std::int64_t longest_pause = 1'000'000;
  static constexpr std::int64_t silence = 5'000'000;  // after which the sentinel is asked whether it's still there
  static constexpr std::int64_t soon = 100'000;
  static constexpr int longest_dispute = 20;
  static constexpr int silences = 12;  // after which others are asked, too, in case that one is cut off from them

  bool stops() const noexcept { return stop_.load(std::memory_order_relaxed) != 0; }

  void run() noexcept {
    std::int64_t pause = shortest_pause;
    while (!stops()) {
      IDEM_TRY {
        const Endpoint place = sentinels_.first();
        if (listen(place)) pause = shortest_pause;
        if (!stops()) sentinels_.defer(place);
      }
      IDEM_CATCH_ALL {}
      close();
      if (!stops()) futex_impl::wait(&stop_, 0, pause, FutexScope::own_process);
      pause = (std::min)(pause * 2, longest_pause);
    }
  }

  void close() noexcept {
    const std::lock_guard guard(mutex_);
    connected_ = false;
    inquiry_.close();
  }

  /// Until that sentinel is lost. False where it couldn't be reached.
  bool listen(const Endpoint& place) {
    Reason why;
    const std::int64_t deadline = boot_micros() + sentinels_.link().connect_timeout;
    if (inquiry_.connect(place, deadline, why) != Shaken::good) return false;
    {
      const std::lock_guard guard(mutex_);
      connected_ = true;
    }
    Bytes command;
    Command(command, 2).arg("SUBSCRIBE").arg("+switch-master");
    ReplyTree reply;
    if (!inquiry_.send(command, deadline, why) || !inquiry_.receive(reply, deadline, why)) return false;
    if (reply.size() != 4 || reply[1].text != "subscribe") return false;
    hear(place);
    return true;
  }

  void hear(const Endpoint& place) {
    Reason why;
    ReplyTree reply;
    Bytes ping;
    Command(ping, 1).arg("PING");
    bool asked = false;
    // What was told before the subscription, or got lost, is asked for.
    Endpoint primary;
    if (!sentinels_.locate(boot_micros() + sentinels_.link().connect_timeout, primary, why)) return;
    int left = longest_dispute;
    int silent = 0;
    while (!stops()) {
      // Whoever had asked before the message may connect only now.
      const Endpoint in_use = sentinels_.in_use();
      const bool disputed = !in_use.host.empty() && !(in_use == primary) && left > 0;
      if (disputed) {
        --left;
        channel_.drop("the sentinels name another primary");
      }
      const std::int64_t patience = disputed ? soon : asked ? sentinels_.link().connect_timeout : silence;
      bool lost = false;
      if (inquiry_.receive(reply, boot_micros() + patience, lost, why)) {
        asked = false;
        if (reply.size() == 4 && reply[1].text == "message" && read_switch(reply[3].text, primary)) {
          sentinels_.prefer(place);
          left = longest_dispute;
        }
      } else if (lost || (asked && !disputed)) {
        return;
      } else if (!disputed) {
        if (++silent % silences == 0) {
          if (!sentinels_.locate(boot_micros() + sentinels_.link().connect_timeout, primary, why)) return;
        }
        if (!inquiry_.send(ping, boot_micros() + patience, why)) return;
        left = longest_dispute;
        asked = true;
      }
    }
  }

  /// "name old-address old-port new-address new-port".
  bool read_switch(std::string_view message, Endpoint& to) const {
    const auto word = [&message] {
      const std::size_t end = message.find(' ');
      const std::string_view found = message.substr(0, end);
      message = end == std::string_view::npos ? std::string_view() : message.substr(end + 1);
      return found;
    };
    if (word() != sentinels_.master()) return false;
    word();
    word();
    const std::string_view host = word();
    std::uint16_t port = 0;
    if (!is_host(host) || !read_port(word(), port)) return false;
    to.host.assign(host);
    to.port = port;
    return true;
  }

  Sentinels& sentinels_;
  Channel& channel_;
  std::mutex mutex_;
  BackgroundThread thread_;
  bool connected_ = false;
  std::atomic<bool> started_{false};
  std::atomic<std::uint32_t> stop_{0};
  Inquiry inquiry_;  // of the thread, but for `interrupt` while it's connected
};

}  // namespace detail::redis
IDEM_END_NAMESPACE
