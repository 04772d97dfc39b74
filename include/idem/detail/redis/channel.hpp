// The one connection on which all threads of a store send their commands.
#pragma once

#include <idem/detail/boot_clock.hpp>
#include <idem/detail/bytes.hpp>
#include <idem/detail/cancellation.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/futex.hpp>
#include <idem/detail/process.hpp>
#include <idem/detail/random.hpp>
#include <idem/detail/redis/command.hpp>
#include <idem/detail/redis/handshake.hpp>
#include <idem/detail/redis/link_settings.hpp>
#include <idem/detail/redis/outstanding.hpp>
#include <idem/detail/redis/reader.hpp>
#include <idem/detail/redis/reason.hpp>
#include <idem/detail/redis/reply_tree.hpp>
#include <idem/detail/redis/request.hpp>
#include <idem/detail/redis/server_facts.hpp>
#include <idem/detail/redis/wire.hpp>

#include <algorithm>  // min
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <mutex>

IDEM_BEGIN_NAMESPACE
namespace detail::redis {

/// One thread at a time drives: it sends what all have queued, reads what has come, and hands the role on when its own
/// reply is there. Replies are given out in the order in which the commands went; that of a caller who has left is
/// dropped in its place. Anything wrong ends the connection: what was on its way is `unknown` then, what was still
/// queued waits for the next one. Deadlines are those of boot_micros().
///
/// Thread safety: all functions from any number of threads at once, but for the destructor. Nothing here is a
/// cancellation point. In a child of fork(3) it answers nothing but not_sent, and may be destroyed. Keeps errno.
class Channel {
 public:
  /// Connects with the first request.
  explicit Channel(LinkSettings settings)
      : settings_(static_cast<LinkSettings&&>(settings)),
        reader_(settings_.max_reply_bytes, settings_.max_reply_nodes) {
    if (settings_.min_replicas != 0) {
      // Zero would be for ever.
      const std::int64_t millis = (std::max)(settings_.replica_timeout / 1000, std::int64_t{1});
      Command(wait_, 3).arg("WAIT").number(settings_.min_replicas).number(millis);
    }
  }
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
    request.reply.clear();
    request.replicas = 0;
    request.why.clear();
    request.result_ = Sent::pending;
    request.word_.store(Request::running, std::memory_order_relaxed);
    if (!is_own()) return refuse(request, "the connection is another process's");
    const std::lock_guard guard(mutex_);
    if (closed_) return refuse(request, "the connection was closed for good");
    request.place_ = Request::Place::queued;
    queue_.append(request);
  }

  /// Drives, or waits for who does; `pending` at the time `until`.
  Sent await(Request& request, std::int64_t until) noexcept {
    if (is_done(request)) return request.result_;
    const NoCancellation shield;
    const int errno_before = errno;
    bool drives = false;
    {
      const std::lock_guard guard(mutex_);
      if (is_done(request)) return request.result_;
      drives = !driven_;
      driven_ = true;
      if (!drives) {
        request.waiting_ = true;
        waiting_.append(request);
      }
    }
    if (!drives) drives = sleep(request, until);
    if (drives) drive(request, until);
    errno = errno_before;
    return is_done(request) ? request.result_ : Sent::pending;
  }

  /// Gives it up: not_sent where it was still queued, unknown where it was sent, and what it is where it is done.
  Sent leave(Request& request) noexcept {
    const std::lock_guard guard(mutex_);
    if (is_done(request)) return request.result_;
    if (request.place_ == Request::Place::queued) {
      queue_.remove(request);
      request.why = Reason("not sent in time");
      if (!trouble_.empty()) request.why.add(": ").add(trouble_.view());
      finish(request, Sent::not_sent);
    } else {
      outstanding_[request.sequence_].request = nullptr;
      request.why = Reason("no reply in time");
      finish(request, Sent::unknown);
    }
    return request.result_;
  }

  /// As of the last connect. Only an allocation can throw.
  ServerFacts facts() const {
    const std::lock_guard guard(mutex_);
    return facts_;
  }

  /// How often it has connected.
  std::uint64_t connections() const noexcept { return connections_.load(std::memory_order_acquire); }

  /// Ends the connection for good. Whoever waits is answered.
  void close() noexcept {
    const NoCancellation shield;
    Wakes wakes;
    const std::lock_guard guard(mutex_);
    closed_ = true;
    stop_.store(1, std::memory_order_relaxed);
    futex_impl::wake(&stop_, all_sleepers, FutexScope::own_process);
    if (driven_) {
      // Whoever drives sees it, and ends the connection itself.
      if (up_) wire_.interrupt();
      return;
    }
    drop(Reason("the connection was closed for good"), wakes);
  }

 private:
  // Whom to wake once all are answered. Only the addresses count: the requests may be gone by then.
  class Wakes {
   public:
    Wakes() noexcept = default;
    Wakes(const Wakes&) = delete;
    Wakes& operator=(const Wakes&) = delete;
    ~Wakes() { flush(); }
    void add(const std::atomic<std::uint32_t>* word) noexcept {
      if (count_ == sizeof words_ / sizeof words_[0]) flush();
      words_[count_++] = word;
    }
    void flush() noexcept {
      for (std::size_t i = 0; i < count_; ++i) futex_impl::wake(words_[i], one_sleeper, FutexScope::own_process);
      count_ = 0;
    }

   private:
    const std::atomic<std::uint32_t>* words_[64];
    std::size_t count_ = 0;
  };

  static bool is_done(const Request& request) noexcept {
    return request.word_.load(std::memory_order_acquire) == Request::done;
  }

  bool is_own() const noexcept { return generation_ == process_generation(); }

  static void refuse(Request& request, const char* why) noexcept {
    request.why = Reason(why);
    finish(request, Sent::not_sent);
  }

  // Returns whether its thread sleeps. Once this has been called, another thread's request may be gone.
  static bool finish(Request& request, Sent result) noexcept {
    request.result_ = result;
    request.place_ = Request::Place::nowhere;
    return request.word_.exchange(Request::done, std::memory_order_acq_rel) == Request::asleep;
  }

  // REQUIRES: the lock, as for all that follows up to `sleep`.
  void answer(Request& request, Sent result, Wakes& wakes) noexcept {
    if (request.waiting_) {
      waiting_.remove(request);
      request.waiting_ = false;
    }
    if (finish(request, result)) wakes.add(&request.word_);
  }

  void answer_queued(const Reason& why, Wakes& wakes) noexcept {
    while (Request* const request = queue_.first()) {
      queue_.remove(*request);
      request->why = why;
      answer(*request, Sent::not_sent, wakes);
    }
  }

  // Ends the connection. REQUIRES: this thread drives, or nobody does.
  void drop(const Reason& why, Wakes& wakes) noexcept {
    up_ = false;
    wire_.close();
    reader_.reset();
    out_.clear();
    out_sent_ = 0;
    trouble_ = why;
    for (std::size_t i = outstanding_.first(); i != outstanding_.end(); ++i) {
      if (Request* const request = outstanding_[i].request) {
        request->why = why;
        answer(*request, Sent::unknown, wakes);
      }
    }
    outstanding_.clear();
    if (closed_) answer_queued(why, wakes);
  }

  // What is queued goes to the end of out_.
  void take_queue(Wakes& wakes, std::int64_t now) noexcept {
    bool wait = false;
    while (Request* const request = queue_.first()) {
      if (out_.size() >= largest_batch) break;
      queue_.remove(*request);
      if (!append(*request)) {
        request->why = Reason("no memory for a command");
        answer(*request, Sent::not_sent, wakes);
        continue;
      }
      if (!outstanding_.owes()) owed_since_ = now;
      request->place_ = Request::Place::outstanding;
      request->sequence_ = outstanding_.push({request, false});
      wait = wait || request->writes;
    }
    if (wait && !wait_.empty()) {
      // There is room for both.
      out_.append(wait_.data(), wait_.size());
      outstanding_.push({nullptr, true});
    }
  }

  bool append(const Request& request) noexcept {
    IDEM_TRY {
      outstanding_.reserve(2);
      out_.reserve(out_.size() + request.command.size() + wait_.size());
      out_.append(request.command.data(), request.command.size());
      return true;
    }
    IDEM_CATCH_ALL { return false; }
  }

  // The next reply has come. False where nobody had asked for it.
  bool give_out(ReplyTree& reply, Wakes& wakes) noexcept {
    if (!outstanding_.owes()) return false;
    Slot& slot = outstanding_[outstanding_.next()];
    const bool waits = !wait_.empty();
    if (slot.is_wait) {
      confirm(reply.root(), wakes);
    } else if (slot.request != nullptr) {
      slot.request->reply = static_cast<ReplyTree&&>(reply);
      if (!waits || !slot.request->writes) {
        answer(*slot.request, Sent::answered, wakes);
        slot.request = nullptr;
      }
    }
    outstanding_.advance();
    return true;
  }

  void confirm(const ReplyNode& wait, Wakes& wakes) noexcept {
    for (std::size_t i = outstanding_.first(); i != outstanding_.next(); ++i) {
      Request* const request = outstanding_[i].request;
      if (request == nullptr) continue;
      if (wait.type == ReplyType::integer && wait.integer > 0) {
        request->replicas = static_cast<std::uint32_t>((std::min)(wait.integer, std::int64_t{0xffff}));
      } else if (wait.type != ReplyType::integer) {
        request->why = Reason("WAIT failed: ");
        request->why.add(wait.text);
      }
      answer(*request, Sent::answered, wakes);
    }
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
        waiting_.remove(request);
        request.waiting_ = false;
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
      if (now >= until) break;
      if (is_closing()) {
        Wakes wakes;
        const std::lock_guard guard(mutex_);
        drop(Reason("the connection was closed for good"), wakes);
      } else if (!wire_.connected()) {
        connect(now, until);
      } else {
        exchange(now, until);
      }
    }
    hand_on();
  }

  bool is_closing() const noexcept { return stop_.load(std::memory_order_relaxed) != 0; }

  void hand_on() noexcept {
    Wakes wakes;
    const std::lock_guard guard(mutex_);
    if (closed_) drop(Reason("the connection was closed for good"), wakes);
    // Who waits longest has the role longest.
    Request* const heir = waiting_.last();
    if (heir == nullptr) {
      driven_ = false;
      return;
    }
    waiting_.remove(*heir);
    heir->waiting_ = false;
    const std::uint32_t before = heir->word_.exchange(Request::called_to_drive, std::memory_order_acq_rel);
    if (before == Request::asleep) wakes.add(&heir->word_);
  }

  // Sends and receives once.
  void exchange(std::int64_t now, std::int64_t until) noexcept {
    Wakes wakes;
    Reason why;
    if (out_sent_ == out_.size()) {
      // After a while the server may have closed what would be written to, and nobody would know what became of it.
      if (!outstanding_.owes() && now - heard_ > long_idle && wire_.is_readable()) {
        return lose(Reason("the connection ended while nobody used it"), wakes);
      }
      out_.clear();
      out_sent_ = 0;
      const std::lock_guard guard(mutex_);
      take_queue(wakes, now);
    }
    if (out_sent_ < out_.size()) {
      const std::ptrdiff_t sent = wire_.send(out_.data() + out_sent_, out_.size() - out_sent_, why);
      if (sent < 0) return lose(why, wakes);
      out_sent_ += static_cast<std::size_t>(sent);
    }
    const std::int64_t limit = owed_since_ + settings_.timeout + (wait_.empty() ? 0 : settings_.replica_timeout);
    if (out_sent_ < out_.size()) {
      wire_.wait_either((std::min)(until, limit));
      until = now;
    }
    char buffer[16384];
    const std::ptrdiff_t got = wire_.receive(buffer, sizeof buffer, now, (std::min)(until, limit), why);
    if (got < 0) return lose(why, wakes);
    if (got > 0) {
      reader_.feed(buffer, static_cast<std::size_t>(got));
      if (!read_replies(why, wakes)) return lose(why, wakes);
    } else if (boot_micros() >= limit) {
      lose(Reason("the server owes a reply for too long"), wakes);
    }
  }

  bool read_replies(Reason& why, Wakes& wakes) noexcept {
    bool some = false;
    ReplyTree reply;
    for (;;) {
      const ReplyReader::Next next = reader_.next(reply);
      if (next == ReplyReader::Next::more) break;
      if (next == ReplyReader::Next::broken) {
        why = Reason("the server sent ");
        why.add(reader_.why());
        return false;
      }
      const std::lock_guard guard(mutex_);
      if (!give_out(reply, wakes)) {
        why = Reason("the server sent a reply to nothing");
        return false;
      }
      some = true;
    }
    if (some) {
      heard_ = boot_micros();
      owed_since_ = heard_;
      failures_ = 0;
    }
    return true;
  }

  void lose(const Reason& why, Wakes& wakes) noexcept {
    // A server that closes before its first reply is one that can't be reached.
    if (failures_ != 0) back_off();
    const std::lock_guard guard(mutex_);
    drop(why, wakes);
  }

  // One attempt, or a pause before the next one.
  void connect(std::int64_t now, std::int64_t until) noexcept {
    if (now < next_attempt_) {
      futex_impl::wait(&stop_, 0, (std::min)(next_attempt_, until) - now, FutexScope::own_process);
      return;
    }
    Reason why;
    ServerFacts facts;
    Shaken shaken = Shaken::lost;
    const std::int64_t deadline = (std::min)(until, now + settings_.connect_timeout);
    IDEM_TRY {
      if (wire_.connect(settings_.endpoint, deadline, why)) {
        shaken = Handshake(wire_, reader_, settings_, deadline, facts).run(why);
      }
    }
    IDEM_CATCH_ALL { why = Reason("no memory for a connection"); }
    ++failures_;  // until the first reply
    Wakes wakes;
    if (shaken != Shaken::good && boot_micros() < until) back_off();
    const std::lock_guard guard(mutex_);
    if (shaken == Shaken::good) {
      up_ = true;
      heard_ = boot_micros();
      trouble_.clear();
      facts_ = static_cast<ServerFacts&&>(facts);
      connections_.fetch_add(1, std::memory_order_release);
      return;
    }
    drop(why, wakes);
    if (shaken == Shaken::refused) answer_queued(why, wakes);
  }

  void back_off() noexcept {
    std::int64_t pause = shortest_pause;
    for (std::uint32_t i = 1; i < failures_ && pause < longest_pause; ++i) pause *= 2;
    pause = (std::min)(pause, longest_pause);
    std::uint32_t random = 0;
    static_cast<void>(random_bytes(&random, sizeof random));
    next_attempt_ = boot_micros() + pause / 2 + static_cast<std::int64_t>(random % static_cast<std::uint32_t>(pause / 2));
  }

  // Microseconds.
  static constexpr std::int64_t shortest_pause = 20'000;
  static constexpr std::int64_t longest_pause = 1'000'000;
  static constexpr std::int64_t longest_sleep = 1'000'000;  // the kernel doesn't count the time of a suspension
  static constexpr std::int64_t long_idle = 1'000'000;
  static constexpr std::size_t largest_batch = std::size_t{1} << 20;

  const LinkSettings settings_;
  Bytes wait_;  // the WAIT command; empty where there is none
  const std::uint64_t generation_ = process_generation();

  // Under the lock.
  mutable std::mutex mutex_;
  Request::Chain<&Request::queue_link_> queue_;
  Request::Chain<&Request::waiting_link_> waiting_;
  bool driven_ = false;
  bool closed_ = false;
  bool up_ = false;  // connected and greeted: only then may others than who drives touch the wire
  Outstanding outstanding_;
  Reason trouble_;  // of the last attempt to connect
  ServerFacts facts_;

  // Of who drives.
  Wire wire_;
  ReplyReader reader_;
  Bytes out_;
  std::size_t out_sent_ = 0;
  std::int64_t owed_since_ = 0;  // since when the next reply is owed
  std::int64_t heard_ = 0;       // when the last reply came
  std::int64_t next_attempt_ = 0;
  std::uint32_t failures_ = 0;  // attempts since the last reply

  std::atomic<std::uint32_t> stop_{0};
  std::atomic<std::uint64_t> connections_{0};
};

}  // namespace detail::redis
IDEM_END_NAMESPACE
