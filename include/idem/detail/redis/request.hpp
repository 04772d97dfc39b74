// One command on its way through a Channel, and its reply.
#pragma once

#include <idem/detail/bytes.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/redis/reason.hpp>
#include <idem/detail/redis/reply_tree.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>

IDEM_BEGIN_NAMESPACE
namespace detail::redis {

/// What became of a request.
enum class Sent : std::uint8_t {
  answered = 1,  // the reply is there
  not_sent = 2,  // surely nothing of it reached the server
  unknown = 3,   // it may have been carried out
  pending = 4    // nothing so far
};

class Channel;

/// Lives on its caller's stack and may be used again when it is no longer submitted. REQUIRES: between `submit` and the
/// first answer other than `pending`, or `leave`, it stays where it is, nobody touches it, and one thread at a time
/// awaits it. What it has allocated is kept for the next use.
class Request {
 public:
  Request() noexcept = default;
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;

  Bytes command;
  /// Of the cluster's ASKING, which stands before the command and is sent with it: its answer is nobody's.
  bool asks = false;
  /// With LinkSettings::min_replicas it is answered only with the WAIT of its batch.
  bool writes = false;

  ReplyTree reply;             // once answered; an error of the server is a reply, too
  std::uint32_t replicas = 0;  // how many have acknowledged it, where that was asked for; zero where WAIT failed
  bool refused = false;        // of not_sent: by the server or by this side, and trying again soon won't help
  Reason why;                  // of not_sent and unknown, or of a WAIT that failed; no secret in it

 private:
  friend class Channel;
  friend class Traffic;

  // What its thread sleeps on. `asleep` is set by that thread, all else under the channel's lock.
  static constexpr std::uint32_t running = 0;
  static constexpr std::uint32_t asleep = 1;
  static constexpr std::uint32_t called_to_drive = 2;
  static constexpr std::uint32_t done = 3;

  enum class Place : std::uint8_t { nowhere = 1, queued = 2, outstanding = 3 };

  struct Link {
    Request* before = nullptr;
    Request* after = nullptr;
  };

  // A list of requests by one of their links.
  template <Link Request::*link>
  class Chain {
   public:
    bool empty() const noexcept { return first_ == nullptr; }
    Request* first() const noexcept { return first_; }
    Request* last() const noexcept { return last_; }
    void append(Request& one) noexcept {
      (one.*link).before = last_;
      (one.*link).after = nullptr;
      (last_ != nullptr ? (last_->*link).after : first_) = &one;
      last_ = &one;
    }
    void remove(Request& one) noexcept {
      Link& mine = one.*link;
      (mine.before != nullptr ? (mine.before->*link).after : first_) = mine.after;
      (mine.after != nullptr ? (mine.after->*link).before : last_) = mine.before;
      mine = Link{};
    }

   private:
    Request* first_ = nullptr;
    Request* last_ = nullptr;
  };

  std::atomic<std::uint32_t> word_{running};
  Sent result_ = Sent::pending;
  Place place_ = Place::nowhere;
  bool waiting_ = false;      // its thread is in the list of those who wait
  std::size_t sequence_ = 0;  // its place among the outstanding ones
  Link queue_link_;
  Link waiting_link_;
};

}  // namespace detail::redis
IDEM_END_NAMESPACE
