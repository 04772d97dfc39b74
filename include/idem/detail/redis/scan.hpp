// All records of a server, in batches, without holding anything up.
#pragma once

#include <idem/detail/array.hpp>
#include <idem/detail/boot_clock.hpp>
#include <idem/detail/bytes.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/endian.hpp>
#include <idem/detail/redis/call.hpp>
#include <idem/detail/redis/channel.hpp>
#include <idem/detail/redis/command.hpp>
#include <idem/detail/redis/node.hpp>
#include <idem/detail/redis/reason.hpp>
#include <idem/detail/redis/record.hpp>
#include <idem/detail/redis/reply_tree.hpp>
#include <idem/detail/redis/request.hpp>
#include <idem/detail/redis/runner.hpp>
#include <idem/detail/redis/trouble.hpp>
#include <idem/protocol.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

IDEM_BEGIN_NAMESPACE
namespace detail::redis {

/// Goes through the keys of a prefix on one server by SCAN, a few hundred at a time. Each command has the store's
/// timeout of its own. It ends also where the server would never say that it has. May throw std::bad_alloc. For one
/// thread.
class Scan {
 public:
  Scan(Runner& runner, const NodeRef& node, std::int64_t timeout) : runner_(runner), node_(node), timeout_(timeout) {
    // The prefix stands for itself in the pattern.
    for (const char c : runner.prefix()) {
      if (c == '*' || c == '?' || c == '[' || c == ']' || c == '\\') pattern_ += '\\';
      pattern_ += c;
    }
    pattern_ += '*';
  }

  /// Of a scan that wasn't whole.
  const Reason& why() const noexcept { return why_; }

  /// `see(const StoredRecord&, Status)` for every record that can be read; without its payload. False where the server
  /// didn't answer to the end.
  template <class See>
  bool records(See& see) {
    TimePoint now;
    if (!time(now)) return false;
    do {
      if (!step()) return false;
      for (std::size_t begin = 0; begin < keys_.size(); begin += at_once) {
        const std::size_t count = keys_.size() - begin < at_once ? keys_.size() - begin : at_once;
        if (!show(&keys_[begin], count, now, see)) return false;
      }
    } while (!done_);
    return true;
  }

  /// `prepare(Call&)` and then the script, for every key; `see(const Answered&)` for each answer.
  template <class Prepare, class See>
  bool calls(Prepare& prepare, See& see) {
    struct Work {
      Call calls[at_once];
      Answered answers[at_once];
    };
    struct Owner {
      Work* held;
      ~Owner() { delete held; }
    } const owner{new Work};
    bool complete = true;
    do {
      if (!step()) return false;
      for (std::size_t begin = 0; begin < keys_.size(); begin += at_once) {
        const std::size_t count = keys_.size() - begin < at_once ? keys_.size() - begin : at_once;
        for (std::size_t i = 0; i < count; ++i) {
          owner.held->calls[i] = Call();
          owner.held->calls[i].key = keys_[begin + i];
          owner.held->answers[i] = Answered();
          prepare(owner.held->calls[i]);
        }
        runner_.run_all(owner.held->calls, owner.held->answers, count, deadline());
        for (std::size_t i = 0; i < count; ++i) {
          const Answered& answered = owner.held->answers[i];
          if (answered.answered) see(answered);
          // What is no record of idem's stays, and is nothing that failed.
          if (answered.answered || answered.foreign) continue;
          complete = false;
          why_ = answered.why;
        }
      }
    } while (!done_);
    return complete;
  }

 private:
  static constexpr std::size_t at_once = 32;
  static constexpr std::int64_t enough = 1024;  // bytes of a record, for all but long names
  // Of a few hundred keys each: more than a server can hold, which is 2^32 keys.
  static constexpr std::uint32_t most_steps = std::uint32_t{1} << 25;

  std::int64_t deadline() const noexcept { return boot_micros() + timeout_; }

  bool fail(std::string_view text) noexcept {
    why_ = Reason(text);
    return false;
  }

  /// A command that only reads is said once more where its answer was lost.
  bool ask(Request& request) {
    for (int tries = 0; tries < 3; ++tries) {
      if (runner_.ask(*node_, request, deadline()) == Sent::answered) return true;
    }
    return fail(request.why.view());
  }
  bool unreadable(const Request& request) noexcept {
    const ReplyNode root = request.reply.root();
    return fail(root.type == ReplyType::error ? root.text : "the server's answer can't be read");
  }

  bool time(TimePoint& now) {
    if (runner_.clock()) {
      now = runner_.clock().now();
      return true;
    }
    Request request;
    Command(request.command, 1).arg("TIME");
    if (!ask(request)) return false;
    const ReplyTree& reply = request.reply;
    std::int64_t seconds = 0;
    std::int64_t micros = 0;
    if (reply.size() != 3 || !number(reply[1].text, seconds) || !number(reply[2].text, micros)) {
      return unreadable(request);
    }
    now = TimePoint{std::chrono::microseconds{seconds * 1'000'000 + micros}};
    return true;
  }

  static bool number(std::string_view text, std::int64_t& value) noexcept {
    if (text.empty() || text.size() > 12) return false;
    value = 0;
    for (const char digit : text) {
      if (digit < '0' || digit > '9') return false;
      value = value * 10 + (digit - '0');
    }
    return true;
  }

  /// The next keys.
  bool step() {
    Request request;
    Command command(request.command, 6);
    command.arg("SCAN").arg(cursor_).arg("MATCH").arg(pattern_).arg("COUNT").arg("512");
    if (!ask(request)) return false;
    const ReplyTree& reply = request.reply;
    if (reply.size() < 3 || reply[0].type != ReplyType::array || reply[1].type != ReplyType::string ||
        reply[2].type != ReplyType::array) {
      return unreadable(request);
    }
    keys_.clear();
    for (std::size_t i = 3; i < reply.size(); ++i) {
      const std::string_view name = reply[i].text;
      Digest digest;
      if (name.size() != runner_.prefix().size() + digest_digits) continue;
      if (name.substr(0, runner_.prefix().size()) != runner_.prefix()) continue;
      if (read_digest(name.substr(runner_.prefix().size()), digest)) keys_.push(digest);
    }
    cursor_ = reply[1].text;
    done_ = cursor_ == "0";
    return done_ || moves_on();
  }

  /// A server's cursors never come to where they were, so that one that does would go round for ever. The place that is
  /// looked out for is a later one each time, so that a circle of any length is met with.
  bool moves_on() {
    if (cursor_ == passed_ || ++steps_ == most_steps) return fail("the server's SCAN comes to no end");
    if (steps_ == next_look_) {
      passed_ = cursor_;
      next_look_ *= 2;
    }
    return true;
  }

  void write_get(Request& request, const Digest& key, std::int64_t end) const {
    Bytes name(runner_.prefix().data(), runner_.prefix().size());
    write_digest(key, reinterpret_cast<char*>(name.extend(digest_digits)));
    Command command(request.command, 4);
    command.arg("GETRANGE").arg(name.data(), name.size()).arg("0").number(end);
  }

  /// Wherever the key is now.
  bool get(Request& request, const Digest& key, std::int64_t end) {
    return runner_.ask(key, request, deadline(), [&](Request& to) { write_get(to, key, end); });
  }

  template <class See>
  bool show(const Digest* keys, std::size_t count, TimePoint now, See& see) {
    struct Batch {
      Request requests[at_once];
      Channel* channel = nullptr;
      std::size_t submitted = 0;
      std::size_t settled = 0;
      ~Batch() {
        for (; settled < submitted; ++settled) static_cast<void>(channel->leave(requests[settled]));
      }
    };
    struct Owner {
      Batch* held;
      ~Owner() { delete held; }
    } const owner{new Batch};
    Batch& batch = *owner.held;
    batch.channel = &node_->channel();
    for (std::size_t i = 0; i < count; ++i) {
      write_get(batch.requests[i], keys[i], enough);
      batch.channel->submit(batch.requests[i]);
      batch.submitted = i + 1;
    }
    const std::int64_t until = deadline();
    bool complete = true;
    for (std::size_t i = 0; i < count; ++i) {
      Request& request = batch.requests[i];
      Sent sent = batch.channel->await(request, until);
      if (sent == Sent::pending) sent = batch.channel->leave(request);
      batch.settled = i + 1;
      const bool is_error = sent == Sent::answered && request.reply.root().type == ReplyType::error &&
                            trouble_of(request.reply.root().text) != Trouble::foreign;
      if (sent != Sent::answered || is_error) {
        Request again;
        if (!get(again, keys[i], enough)) {
          complete = fail(again.why.empty() ? std::string_view("a record can't be had") : again.why.view());
        }
        show_one(again, keys[i], now, see);
      } else {
        show_one(request, keys[i], now, see);
      }
    }
    return complete;
  }

  template <class See>
  void show_one(Request& request, const Digest& key, TimePoint now, See& see) {
    std::string_view value = request.reply.root().text;
    Request longer;
    StoredRecord stored;
    const char* why = nullptr;
    const auto decode = [&] {
      return decode_head(reinterpret_cast<const std::uint8_t*>(value.data()), value.size(), stored, why);
    };
    if (request.reply.root().type != ReplyType::string || !decode()) return;
    const auto size_at = [&](std::size_t at) {
      return std::size_t{load_le32(reinterpret_cast<const std::uint8_t*>(value.data()) + at)};
    };
    const std::size_t end = value_head + size_at(value_at::name_size);
    if (end > value.size()) {
      if (!get(longer, key, static_cast<std::int64_t>(end)) || longer.reply.root().type != ReplyType::string) return;
      value = longer.reply.root().text;
      if (!decode() || value_head + size_at(value_at::name_size) > value.size()) return;
    }
    stored.key = key;
    stored.name = value.substr(value_head, size_at(value_at::name_size));
    stored.payload_size = size_at(value_at::payload_size);
    see(std::as_const(stored), protocol::status(&stored.record, now, protocol::lease_ended(stored.record, now)));
  }

  Runner& runner_;
  const NodeRef node_;
  const std::int64_t timeout_;
  std::string pattern_;
  std::string cursor_ = "0";
  std::string passed_ = cursor_;
  std::uint32_t steps_ = 0;
  std::uint32_t next_look_ = 1;
  bool done_ = false;
  Reason why_;
  Array<Digest> keys_;
};

}  // namespace detail::redis
IDEM_END_NAMESPACE
