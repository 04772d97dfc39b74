// The one connection on which all threads of a store send their commands.
#pragma once

#include <idem/detail/boot_clock.hpp>
#include <idem/detail/cancellation.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/futex.hpp>
#include <idem/detail/process.hpp>
#include <idem/detail/redis/link.hpp>
#include <idem/detail/redis/link_settings.hpp>
#include <idem/detail/redis/reason.hpp>
#include <idem/detail/redis/reply_tree.hpp>
#include <idem/detail/redis/request.hpp>
#include <idem/detail/redis/server_facts.hpp>
#include <idem/detail/redis/traffic.hpp>

#include <algorithm>  // min
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <mutex>

#include <sched.h>  // sched_yield

IDEM_BEGIN_NAMESPACE
namespace detail::redis {

/// One thread at a time drives: it sends what all have queued, reads what has come, and hands the role on when its own
/// reply is there. While it waits for the server, others send what they have queued themselves: a command never waits
/// for the reply to another one. Replies are given out in the order in which the commands went; that of a caller who
/// has left is dropped in its place. Anything wrong ends the connection: what was on its way is `unknown` then, what
/// was still queued waits for the next one. Deadlines are those of boot_micros().
///
/// Thread safety: all functions from any number of threads at once, but for the destructor. Nothing here is a
/// cancellation point. In a child of fork(3) it answers nothing but not_sent, and may be destroyed. Keeps errno.
class Channel {
 public:
  /// Connects with the first request.
  explicit Channel(LinkSettings settings)
      : settings_(static_cast<LinkSettings&&>(settings)), traffic_(settings_), link_(settings_) {}
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;
  /// REQUIRES: no thread is in a function of this object.
  ~Channel() {
    if (is_own()) close();
  }

  /// Sends the request and waits for its reply, and gives it up at the deadline: never `pending`.
  Sent call(Request& request, std::int64_t deadline) noexcept {
    submit(request);
    const Sent result = await(request, deadline);
    return result == Sent::pending ? leave(request) : result;
  }

  /// Queues it. Sends nothing by itself: somebody has to await it or another one.
  void submit(Request& request) noexcept {
    Traffic::begin(request);
    if (!is_own()) return Traffic::refuse(request, "the connection is another process's");
    const std::lock_guard guard(mutex_);
    if (closed_) return Traffic::refuse(request, "the connection was closed for good");
    traffic_.queue(request);
  }

  /// Drives, or waits for who does; `pending` at the time `until`.
  Sent await(Request& request, std::int64_t until) noexcept {
    if (is_done(request)) return request.result_;
    const NoCancellation shield;
    const int errno_before = errno;
    bool drives = false;
    {
      std::unique_lock lock(mutex_);
      if (is_done(request)) return request.result_;
      drives = !driven_;
      driven_ = true;
      if (!drives) {
        traffic_.begin_to_wait(request);
        if (reading_) send_for_driver(lock, request, until);
      }
    }
    if (!drives) drives = sleep(request, until);
    if (drives) drive(request, until);
    errno = errno_before;
    return is_done(request) ? request.result_ : Sent::pending;
  }

  /// Gives it up: not_sent where it was still queued, unknown where it was sent, and what it is where it is done.
  Sent leave(Request& request) noexcept {
    if (is_done(request)) return request.result_;
    const std::lock_guard guard(mutex_);
    return is_done(request) ? request.result_ : traffic_.leave(request, trouble_);
  }

  /// As of the last connect. Only an allocation can throw.
  ServerFacts facts() const {
    const std::lock_guard guard(mutex_);
    return facts_;
  }

  /// How often it has connected.
  std::uint64_t connections() const noexcept { return connections_.load(std::memory_order_acquire); }

  /// Ends the present connection; what is on its way is `unknown` then, and the next command connects anew.
  void drop(const char* why) noexcept {
    const NoCancellation shield;
    {
      Wakes wakes;
      std::unique_lock lock(mutex_);
      if (!is_own() || !up_) return;
      // Whoever drives sees that the socket was shut down.
      if (driven_) return link_.interrupt();
      driven_ = true;
      drop(lock, Reason(why), wakes);
    }
    hand_on();
  }

  /// Ends the connection for good. Whoever waits is answered.
  void close() noexcept {
    const NoCancellation shield;
    Wakes wakes;
    std::unique_lock lock(mutex_);
    closed_ = true;
    stop_.store(1, std::memory_order_relaxed);
    futex_impl::wake(&stop_, all_sleepers, FutexScope::own_process);
    if (driven_) {
      // Whoever drives sees it, and ends the connection itself.
      if (up_) link_.interrupt();
      return;
    }
    drop(lock, Reason("the connection was closed for good"), wakes);
  }

 private:
  static bool is_done(const Request& request) noexcept { return Traffic::is_done(request); }
  bool is_own() const noexcept { return generation_ == process_generation(); }

  // Ends the connection. REQUIRES: this thread drives, or nobody does.
  void drop(std::unique_lock<std::mutex>& lock, const Reason& why, Wakes& wakes) noexcept {
    if (up_) link_.interrupt();
    up_ = false;
    reading_ = false;
    // Who sends at this moment finds out at once.
    while (sending_) {
      lock.unlock();
      ::sched_yield();
      lock.lock();
    }
    if (traffic_.owes()) link_.forget_unsent();
    link_.close();
    trouble_ = why;
    traffic_.answer_outstanding(why, wakes);
    if (closed_) traffic_.answer_queued(why, settings_.patient, wakes);
  }

  // Sends what is queued, unless another thread is about it: then that one does, or who drives. What the system doesn't
  // take at once is sent until then, unless this request's thread is called to drive: somebody has to read. False, with
  // the reason, where the connection is gone. REQUIRES: who drives doesn't end the connection meanwhile but by `drop`.
  bool send_queued(std::unique_lock<std::mutex>& lock, std::int64_t now, const Request* request, std::int64_t until,
                   Reason& why, Wakes& wakes) noexcept {
    while (up_ && !sending_) {
      if (link_.all_sent()) {
        if (!traffic_.owes()) owed_since_ = now;
        traffic_.take_queue(link_.out(), wakes);
      }
      if (link_.all_sent()) break;
      sending_ = true;
      lock.unlock();
      bool good = link_.send(why);
      while (good && !link_.all_sent() && request != nullptr && Traffic::is_running(*request) &&
             boot_micros() < until) {
        link_.wait_until_writable((std::min)(until, boot_micros() + send_pause));
        good = link_.send(why);
      }
      lock.lock();
      sending_ = false;
      if (!good) return false;
      if (!link_.all_sent()) break;
    }
    return true;
  }

  // While who drives waits for replies. Otherwise who drives sends it with all else that comes until then.
  void send_for_driver(std::unique_lock<std::mutex>& lock, const Request& request, std::int64_t until) noexcept {
    Reason why;
    Wakes wakes;
    const std::int64_t now = boot_micros();
    // Who drives finds out, and ends the connection.
    if (!send_queued(lock, now, &request, until, why, wakes) && up_) link_.interrupt();
    lock.unlock();
  }

  // Returns whether this thread drives now. Where it doesn't, the request is done or the time is over. The lock isn't
  // held.
  bool sleep(Request& request, std::int64_t until) noexcept {
    for (;;) {
      std::uint32_t seen = Request::running;
      if (request.word_.compare_exchange_strong(seen, Request::asleep, std::memory_order_acq_rel)) {
        seen = Request::asleep;
      }
      if (seen == Request::done) return false;
      if (seen == Request::called_to_drive) break;
      const std::int64_t left = until - boot_micros();
      if (left <= 0) {
        const std::lock_guard guard(mutex_);
        const std::uint32_t last = request.word_.load(std::memory_order_acquire);
        if (last == Request::done) return false;
        if (last == Request::called_to_drive) break;  // only to hand it on
        traffic_.stop_to_wait(request);
        request.word_.store(Request::running, std::memory_order_relaxed);
        return false;
      }
      futex_impl::wait(&request.word_, Request::asleep, (std::min)(left, longest_sleep), FutexScope::own_process);
    }
    request.word_.store(Request::running, std::memory_order_relaxed);
    return true;
  }

  // REQUIRES: this thread has the role, which it gives away.
  void drive(Request& request, std::int64_t until) noexcept {
    while (!is_done(request)) {
      const std::int64_t now = boot_micros();
      if (now >= until || is_closing()) break;
      if (link_.connected()) {
        exchange(now, until);
      } else {
        connect(now, until);
      }
    }
    hand_on();
  }

  bool is_closing() const noexcept { return stop_.load(std::memory_order_relaxed) != 0; }

  void hand_on() noexcept {
    Wakes wakes;
    std::unique_lock lock(mutex_);
    reading_ = false;
    if (closed_) drop(lock, Reason("the connection was closed for good"), wakes);
    driven_ = traffic_.call_to_drive(wakes);
  }

  // Sends and receives once.
  void exchange(std::int64_t now, std::int64_t until) noexcept {
    Wakes wakes;
    Reason why;
    const std::int64_t heard_before = heard_;
    std::int64_t limit = 0;
    bool all_sent = false;
    {
      std::unique_lock lock(mutex_);
      if (!traffic_.owes()) {
        // After a while the server may have closed what would be written to, and nobody would know what became of it.
        if (now - heard_ > long_idle && link_.is_readable()) {
          return drop(lock, Reason("the connection ended while nobody used it"), wakes);
        }
        owed_since_ = now;
      }
      limit = owed_since_ + settings_.timeout + (settings_.min_replicas == 0 ? 0 : settings_.replica_timeout);
      // On a connection that is about to be given up nothing more is sent.
      if (now < limit && !send_queued(lock, now, nullptr, now, why, wakes)) return drop(lock, why, wakes);
      if (!traffic_.owes()) return;
      all_sent = sending_ || link_.all_sent();
      reading_ = all_sent;
    }
    wakes.flush();
    std::int64_t patience = (std::min)(until, limit);
    if (!all_sent) {
      link_.wait_either(patience);
      patience = now;
    }
    if (!link_.receive(now, patience, why) || !give_out(why, wakes)) return lose(why, wakes);
    if (heard_ == heard_before && boot_micros() >= limit) lose(Reason("the server owes a reply for too long"), wakes);
  }

  // Gives the replies that have come to whom they belong.
  bool give_out(Reason& why, Wakes& wakes) noexcept {
    ReplyTree reply;
    for (bool first = true;; first = false) {
      const Link::Next next = link_.next(reply, why);
      if (next == Link::Next::broken) return false;
      if (next == Link::Next::none) return true;
      const std::int64_t now = first ? boot_micros() : 0;
      const std::lock_guard guard(mutex_);
      if (first) {
        heard_ = now;
        owed_since_ = now;
        reading_ = false;
      }
      if (!traffic_.give_out(reply, wakes)) {
        why = Reason("the server sent a reply to nothing");
        return false;
      }
    }
  }

  // REQUIRES: this thread drives.
  void lose(const Reason& why, Wakes& wakes) noexcept {
    std::unique_lock lock(mutex_);
    drop(lock, why, wakes);
  }

  // One attempt, or a pause before the next one.
  void connect(std::int64_t now, std::int64_t until) noexcept {
    if (now < link_.next_attempt()) {
      if (!settings_.patient) {
        Wakes wakes;
        const std::lock_guard guard(mutex_);
        return traffic_.answer_queued(trouble_, false, wakes);
      }
      const std::int64_t pause = (std::min)(link_.next_attempt(), until) - now;
      futex_impl::wait(&stop_, 0, pause, FutexScope::own_process);
      return;
    }
    Reason why;
    ServerFacts facts;
    const Shaken shaken = link_.connect(now, until, facts, why);
    Wakes wakes;
    const std::lock_guard guard(mutex_);
    trouble_ = why;
    if (shaken == Shaken::good) {
      trouble_.clear();
      facts_ = static_cast<ServerFacts&&>(facts);
      heard_ = boot_micros();
      up_ = true;
      connections_.fetch_add(1, std::memory_order_release);
    } else if (shaken == Shaken::refused || !settings_.patient) {
      traffic_.answer_queued(why, shaken == Shaken::refused, wakes);
    }
  }

  // Microseconds.
  static constexpr std::int64_t longest_sleep = 1'000'000;  // the kernel doesn't count the time of a suspension
  static constexpr std::int64_t long_idle = 50'000;
  static constexpr std::int64_t send_pause = 2'000;

  const LinkSettings settings_;
  const std::uint64_t generation_ = process_generation();

  // Under the lock.
  mutable std::mutex mutex_;
  Traffic traffic_;
  bool driven_ = false;
  bool reading_ = false;  // who drives waits for replies, and sends nothing meanwhile
  bool sending_ = false;  // a thread is in link_.send
  bool up_ = false;       // connected and greeted: only then may others than who drives touch the link
  bool closed_ = false;
  Reason trouble_;  // of the last connection or attempt
  ServerFacts facts_;
  std::int64_t owed_since_ = 0;  // since when the next reply is owed

  Link link_;
  std::int64_t heard_ = 0;  // when the last reply came; of who drives

  std::atomic<std::uint32_t> stop_{0};
  std::atomic<std::uint64_t> connections_{0};
};

}  // namespace detail::redis
IDEM_END_NAMESPACE
