// The requests of a channel: which are queued, which are on their way, and whose threads wait.
#pragma once

#include <idem/detail/bytes.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/futex.hpp>
#include <idem/detail/redis/command.hpp>
#include <idem/detail/redis/link_settings.hpp>
#include <idem/detail/redis/outstanding.hpp>
#include <idem/detail/redis/reason.hpp>
#include <idem/detail/redis/reply_tree.hpp>
#include <idem/detail/redis/request.hpp>

#include <algorithm>  // min, max
#include <atomic>
#include <cstddef>
#include <cstdint>

IDEM_BEGIN_NAMESPACE
namespace detail::redis {

/// Whom to wake once all are answered and no lock is held. Only the addresses count: the requests may be gone by then.
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

/// Not safe for use by several threads at once, but for the functions that are static.
class Traffic {
 public:
  explicit Traffic(const LinkSettings& settings) {
    if (settings.min_replicas == 0) return;
    // Zero would be for ever.
    const std::int64_t millis = (std::max)(settings.replica_timeout / 1000, std::int64_t{1});
    Command(wait_, 3).arg("WAIT").number(settings.min_replicas).number(millis);
  }

  static bool is_done(const Request& request) noexcept {
    return request.word_.load(std::memory_order_acquire) == Request::done;
  }
  /// Neither done nor called to drive.
  static bool is_running(const Request& request) noexcept {
    return request.word_.load(std::memory_order_acquire) == Request::running;
  }

  static void begin(Request& request) noexcept {
    request.reply.clear();
    request.replicas = 0;
    request.refused = false;
    request.why.clear();
    request.result_ = Sent::pending;
    request.word_.store(Request::running, std::memory_order_relaxed);
  }
  static void refuse(Request& request, const char* why) noexcept {
    request.why = Reason(why);
    finish(request, Sent::not_sent);
  }

  void queue(Request& request) noexcept {
    request.place_ = Request::Place::queued;
    queue_.append(request);
  }

  /// Its thread gives it up. REQUIRES: it isn't done, and nobody waits for it.
  Sent leave(Request& request, const Reason& trouble) noexcept {
    if (request.place_ == Request::Place::queued) {
      queue_.remove(request);
      request.why = Reason("not sent in time");
      if (!trouble.empty()) request.why.add(": ").add(trouble.view());
      finish(request, Sent::not_sent);
    } else {
      outstanding_[request.sequence_].request = nullptr;
      request.why = Reason("no reply in time");
      finish(request, Sent::unknown);
    }
    return request.result_;
  }

  void begin_to_wait(Request& request) noexcept {
    request.waiting_ = true;
    waiting_.append(request);
  }
  void stop_to_wait(Request& request) noexcept {
    if (!request.waiting_) return;
    waiting_.remove(request);
    request.waiting_ = false;
  }

  /// Calls one of those who wait; false where nobody does. Who came last waits longest, and has the role longest.
  bool call_to_drive(Wakes& wakes) noexcept {
    Request* const heir = waiting_.last();
    if (heir == nullptr) return false;
    stop_to_wait(*heir);
    const std::uint32_t before = heir->word_.exchange(Request::called_to_drive, std::memory_order_acq_rel);
    if (before == Request::asleep) wakes.add(&heir->word_);
    return true;
  }

  /// Whether a reply is to come.
  bool owes() const noexcept { return outstanding_.owes(); }

  /// `refused`: trying again won't help.
  void answer_queued(const Reason& why, bool refused, Wakes& wakes) noexcept {
    while (Request* const request = queue_.first()) {
      queue_.remove(*request);
      request->why = why;
      request->refused = refused;
      answer(*request, Sent::not_sent, wakes);
    }
  }

  /// The connection has ended.
  void answer_outstanding(const Reason& why, Wakes& wakes) noexcept {
    for (std::size_t i = outstanding_.first(); i != outstanding_.end(); ++i) {
      if (Request* const request = outstanding_[i].request) {
        request->why = why;
        answer(*request, Sent::unknown, wakes);
      }
    }
    outstanding_.clear();
  }

  /// Appends what is queued to `out`; what is too much for one batch stays.
  void take_queue(Bytes& out, Wakes& wakes) noexcept {
    bool wait = false;
    while (Request* const request = queue_.first()) {
      if (out.size() >= largest_batch) break;
      queue_.remove(*request);
      if (!append(out, *request)) {
        request->why = Reason("no memory for a command");
        answer(*request, Sent::not_sent, wakes);
        continue;
      }
      request->place_ = Request::Place::outstanding;
      if (request->asks) outstanding_.push({nullptr, false});
      request->sequence_ = outstanding_.push({request, false});
      wait = wait || request->writes;
    }
    if (wait && !wait_.empty()) {
      // There is room for both.
      out.append(wait_.data(), wait_.size());
      outstanding_.push({nullptr, true});
    }
  }

  /// The next reply has come. False where nobody had asked for it.
  bool give_out(ReplyTree& reply, Wakes& wakes) noexcept {
    if (!outstanding_.owes()) return false;
    Slot& slot = outstanding_[outstanding_.next()];
    if (slot.is_wait) {
      confirm(reply.root(), wakes);
    } else if (slot.request != nullptr) {
      slot.request->reply = static_cast<ReplyTree&&>(reply);
      if (wait_.empty() || !slot.request->writes) {
        Request& request = *slot.request;
        slot.request = nullptr;
        answer(request, Sent::answered, wakes);
      }
    }
    outstanding_.advance();
    return true;
  }

 private:
  // Returns whether its thread sleeps. Once this has been called, another thread's request may be gone.
  static bool finish(Request& request, Sent result) noexcept {
    request.result_ = result;
    request.place_ = Request::Place::nowhere;
    return request.word_.exchange(Request::done, std::memory_order_acq_rel) == Request::asleep;
  }

  void answer(Request& request, Sent result, Wakes& wakes) noexcept {
    stop_to_wait(request);
    if (finish(request, result)) wakes.add(&request.word_);
  }

  bool append(Bytes& out, const Request& request) noexcept {
    IDEM_TRY {
      outstanding_.reserve(3);
      out.reserve(out.size() + request.command.size() + wait_.size());
      out.append(request.command.data(), request.command.size());
      return true;
    }
    IDEM_CATCH_ALL {
      return false;
    }
  }

  void confirm(const ReplyNode& wait, Wakes& wakes) noexcept {
    for (std::size_t i = outstanding_.first(); i != outstanding_.next(); ++i) {
      Request* const request = outstanding_[i].request;
      if (request == nullptr) continue;
      outstanding_[i].request = nullptr;
      if (wait.type == ReplyType::integer && wait.integer > 0) {
        request->replicas = static_cast<std::uint32_t>((std::min)(wait.integer, std::int64_t{0xffff}));
      } else if (wait.type != ReplyType::integer) {
        request->why = Reason("WAIT failed: ");
        request->why.add(wait.text);
      }
      answer(*request, Sent::answered, wakes);
    }
  }

  static constexpr std::size_t largest_batch = std::size_t{1} << 20;

  Bytes wait_;  // the WAIT command; empty where there is none
  Request::Chain<&Request::queue_link_> queue_;
  Request::Chain<&Request::waiting_link_> waiting_;
  Outstanding outstanding_;
};

}  // namespace detail::redis
IDEM_END_NAMESPACE
