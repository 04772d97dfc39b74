// Bytes of a Redis server in, replies out.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/redis/reason.hpp>
#include <idem/detail/redis/reply_tree.hpp>

#include <hiredis/hiredis.h>  // for its version; the parser itself is in read.h

#include <algorithm>  // min
#include <cstddef>
#include <cstdint>
#include <cstring>  // memchr
#include <limits>

IDEM_BEGIN_NAMESPACE
namespace detail::redis {

/// What hiredis' parser calls for each value, in the order in which they come. Never lets an exception pass through C:
/// a null pointer makes the parser give up for good.
class ReplyBuilder {
 public:
  ReplyBuilder(std::size_t max_bytes, std::size_t max_nodes) noexcept
      : max_bytes_((std::min)(max_bytes, std::size_t{(std::numeric_limits<std::uint32_t>::max)()})),
        max_nodes_(max_nodes) {}

  std::size_t max_bytes() const noexcept { return max_bytes_; }
  /// A literal; null where nothing was refused.
  const char* refusal() const noexcept { return refusal_; }

  /// The reply that is complete now; begins the next one.
  void take(ReplyTree& to) noexcept {
    to = static_cast<ReplyTree&&>(tree_);
    reset();
  }
  void reset() noexcept {
    tree_.clear();
    expected_ = 1;
    refusal_ = nullptr;
  }

  static redisReplyObjectFunctions* functions() noexcept {
    static constinit redisReplyObjectFunctions functions = [] {
      redisReplyObjectFunctions all = {};
      all.createString = &text;
      all.createArray = &array;
      all.createInteger = &integer;
      all.createNil = &nil;
      all.freeObject = &free;
#if HIREDIS_MAJOR >= 1
      all.createDouble = [](const redisReadTask* task, double, char*, std::size_t) { return wrong_type(task); };
      all.createBool = [](const redisReadTask* task, int) { return wrong_type(task); };
#endif
      return all;
    }();
    return &functions;
  }

 private:
#if HIREDIS_MAJOR >= 1
  using Count = std::size_t;
#else
  using Count = int;
#endif

  static ReplyBuilder& of(const redisReadTask* task) noexcept {
    return *static_cast<ReplyBuilder*>(task->privdata);
  }

  void* refuse(const char* why) noexcept {
    refusal_ = why;
    return nullptr;
  }

  /// Adds one value; what hiredis keeps as the value is only compared with null.
  template <class Add>
  void* add(Add&& adding) noexcept {
    IDEM_TRY {
      adding();
      return this;
    }
    IDEM_CATCH_ALL {
      return refuse("no memory for a reply");
    }
  }

  static void* wrong_type(const redisReadTask* task) noexcept {
    return of(task).refuse("a value of a type that this version of the protocol doesn't have");
  }

  static void* text(const redisReadTask* task, char* data, std::size_t size) noexcept {
    ReplyBuilder& self = of(task);
    ReplyType type = ReplyType::string;
    if (task->type == REDIS_REPLY_STATUS) {
      type = ReplyType::status;
    } else if (task->type == REDIS_REPLY_ERROR) {
      type = ReplyType::error;
    } else if (task->type != REDIS_REPLY_STRING) {
      return wrong_type(task);
    }
    if (size > self.max_bytes_ - self.tree_.text_size()) return self.refuse("a reply longer than what is allowed");
    // hiredis passes a place in its buffer, in which all of the string's end is, and doesn't look at that end.
    if (data[size] != '\r' || data[size + 1] != '\n') return self.refuse("a string without its end");
    return self.add([&] { self.tree_.add_text(type, data, size); });
  }

  static void* array(const redisReadTask* task, Count count) noexcept {
    ReplyBuilder& self = of(task);
    if (task->type != REDIS_REPLY_ARRAY) return wrong_type(task);
    unsigned depth = 1;
    for (const redisReadTask* above = task->parent; above != nullptr; above = above->parent) ++depth;
    if (depth > max_depth) return self.refuse("a reply nested too deeply");
    const auto children = static_cast<std::size_t>(count);
    if (children > self.max_nodes_ || self.expected_ > self.max_nodes_ - children) {
      return self.refuse("a reply of more values than are allowed");
    }
    self.expected_ += children;
    return self.add([&] { self.tree_.add_array(static_cast<std::uint32_t>(children)); });
  }

  static void* integer(const redisReadTask* task, long long value) noexcept {
    ReplyBuilder& self = of(task);
    return self.add([&] { self.tree_.add_integer(value); });
  }

  static void* nil(const redisReadTask* task) noexcept {
    ReplyBuilder& self = of(task);
    return self.add([&] { self.tree_.add_nil(); });
  }

  static void free(void*) noexcept {}

  static constexpr unsigned max_depth = 7;  // what hiredis 0.14 can read

  const std::size_t max_bytes_;
  const std::size_t max_nodes_;
  std::size_t expected_ = 1;  // how many values the reply announces so far
  const char* refusal_ = nullptr;
  ReplyTree tree_;
};

/// hiredis' parser with limits. Anything wrong is final: what follows can't be told apart any more, and the connection
/// has to go. Not safe for use by several threads at once. hiredis before 1.0 ends the program where it has no memory
/// for the parser itself.
class ReplyReader {
 public:
  enum class Next : std::uint8_t { reply = 1, more = 2, broken = 3 };

  /// Limits of one reply: bytes of text, and values.
  ReplyReader(std::size_t max_bytes, std::size_t max_nodes) noexcept : builder_(max_bytes, max_nodes) {}
  ReplyReader(const ReplyReader&) = delete;
  ReplyReader& operator=(const ReplyReader&) = delete;
  ~ReplyReader() { drop(); }

  /// For a new connection.
  void reset() noexcept {
    drop();
    builder_.reset();
    why_ = nullptr;
  }

  /// Takes what has come from the server.
  void feed(const void* data, std::size_t size) noexcept {
    if (why_ != nullptr) return;
    if (reader_ == nullptr) {
      reader_ = ::redisReaderCreateWithFunctions(ReplyBuilder::functions());
      if (reader_ == nullptr) {
        why_ = "no memory for a reply";
        return;
      }
      reader_->privdata = &builder_;
    }
    if (::redisReaderFeed(reader_, static_cast<const char*>(data), size) != REDIS_OK) why_ = "no memory for a reply";
  }

  /// Moves the next complete reply, if there is one, to `to`.
  Next next(ReplyTree& to) noexcept {
    if (why_ != nullptr) return Next::broken;
    if (reader_ == nullptr) return Next::more;
    void* reply = nullptr;
    if (::redisReaderGetReply(reader_, &reply) != REDIS_OK) {
      why_ = builder_.refusal() != nullptr ? builder_.refusal() : "what isn't the Redis protocol";
      return Next::broken;
    }
    if (reply != nullptr) {
      builder_.take(to);
      return Next::reply;
    }
    return too_much_is_kept() ? Next::broken : Next::more;
  }

  /// Whether the beginning of a reply has come.
  bool has_begun() const noexcept { return reader_ != nullptr && (reader_->pos < reader_->len || reader_->ridx >= 0); }

  /// A literal, after `broken`.
  const char* why() const noexcept { return why_; }

 private:
  // An integer or a length, the only things that stand before a line's end but for short texts, has fewer digits.
  static constexpr std::size_t longest_number = 32;
  static constexpr std::size_t longest_line = 65536;

  /// Of a string hiredis keeps all before it calls for it.
  bool too_much_is_kept() noexcept {
    const std::size_t kept = reader_->len - reader_->pos;
    if (kept == 0) return false;
    const char* const first = reader_->buf + reader_->pos;
    const bool has_length = std::memchr(first, '\n', (std::min)(kept, longest_number)) != nullptr;
    if (has_length ? !announces_too_much(first) : kept <= longest_line) return false;
    why_ = has_length ? "a reply longer than what is allowed" : "a line longer than what is allowed";
    return true;
  }

  /// Whether the string that has begun won't fit: no need to wait for it.
  bool announces_too_much(const char* at) const noexcept {
    std::uint64_t size = 0;
    for (; *at >= '0' && *at <= '9'; ++at) {
      if (size > builder_.max_bytes()) return true;
      size = size * 10 + static_cast<std::uint64_t>(*at - '0');
    }
    return size > builder_.max_bytes();
  }

  void drop() noexcept {
    if (reader_ != nullptr) ::redisReaderFree(reader_);
    reader_ = nullptr;
  }

  ReplyBuilder builder_;
  redisReader* reader_ = nullptr;
  const char* why_ = nullptr;
};

}  // namespace detail::redis
IDEM_END_NAMESPACE
