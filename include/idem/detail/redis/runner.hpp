// Calls scripts until they are answered: names what the server forgot, waits out what passes, and says what is final.
#pragma once

#include <idem/clock.hpp>
#include <idem/detail/boot_clock.hpp>
#include <idem/detail/cancellation.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/redis/admission.hpp>
#include <idem/detail/redis/call.hpp>
#include <idem/detail/redis/channel.hpp>
#include <idem/detail/redis/command.hpp>
#include <idem/detail/redis/link_settings.hpp>
#include <idem/detail/redis/node.hpp>
#include <idem/detail/redis/nodes.hpp>
#include <idem/detail/redis/reason.hpp>
#include <idem/detail/redis/reply_tree.hpp>
#include <idem/detail/redis/request.hpp>
#include <idem/detail/redis/scripts.hpp>
#include <idem/detail/redis/trouble.hpp>
#include <idem/detail/sha256.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

IDEM_BEGIN_NAMESPACE
namespace detail::redis {

/// What came of a call.
struct Answered {
  bool answered = false;  ///< `number` and `reply` are the script's.
  bool maybe = false;     ///< A try without an answer may have been carried out, or may be yet.
  bool foreign = false;   ///< The key holds something that idem never writes.
  std::int64_t number = 0;
  std::int64_t sent_at = 0;    ///< By boot_micros(), before the first try that may have been carried out.
  std::uint32_t replicas = 0;  ///< That have it, where any are asked for.
  ReplyTree reply = {};
  Reason why = {};  ///< There is no answer.

  /// The record behind the number, or as much of it as the script gave.
  std::string_view value() const noexcept {
    if (reply.root().type == ReplyType::string) return reply.root().text.substr(1);
    if (reply.size() < 3) return {};
    const ReplyNode node = reply[2];
    return node.type == ReplyType::string ? node.text : std::string_view{};
  }
  /// The number behind the number.
  std::int64_t second() const noexcept { return reply.size() < 3 ? 0 : reply[2].integer; }
};

/// Thread safety: every member from any thread.
class Runner {
 public:
  Runner(const LinkSettings& link, const Places& places, const AdmissionTerms& terms, std::string prefix, Clock clock)
      : admission_(terms),
        nodes_(link, places, admission_, prefix),
        prefix_(std::move(prefix)),
        clock_(std::move(clock)) {}
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  Nodes& nodes() noexcept { return nodes_; }
  Admission& admission() noexcept { return admission_; }
  const std::string& prefix() const noexcept { return prefix_; }
  const Clock& clock() const noexcept { return clock_; }

  /// Tries until the script answers, an error is final, or the deadline has passed. With `whole` the server is told its
  /// text at once. Throws nothing.
  Answered run(const Call& call, std::int64_t deadline, bool whole = false) noexcept {
    const NoCancellation shield;
    Answered result;
    IDEM_TRY {
      attempt_until(call, deadline, whole, result);
    }
    IDEM_CATCH_ALL {
      result.answered = false;
      result.why = Reason("there is no memory for what is said to the server");
    }
    return result;
  }

  /// All of them in one pipeline for each server, those that need another try one by one. REQUIRES: `results` has as
  /// many. Throws nothing.
  void run_all(const Call* calls, Answered* results, std::size_t count, std::int64_t deadline) noexcept {
    const NoCancellation shield;
    for (std::size_t begin = 0; begin < count; begin += at_once) {
      const std::size_t size = count - begin < at_once ? count - begin : at_once;
      bool heard[at_once] = {};
      IDEM_TRY {
        pipeline(calls + begin, results + begin, heard, size, deadline);
      }
      IDEM_CATCH_ALL {}  // those without an answer are tried again below
      // First where a server has said something: one that says nothing may take all the time that there is.
      for (const bool those : {true, false}) {
        for (std::size_t i = 0; i < size; ++i) {
          Answered& result = results[begin + i];
          if (heard[i] != those || result.answered || result.foreign || boot_micros() >= deadline) continue;
          const bool maybe = result.maybe;
          const std::int64_t sent_at = result.sent_at;
          result = run(calls[begin + i], deadline);
          if (maybe) result.sent_at = sent_at;
          result.maybe = result.maybe || maybe;
        }
      }
    }
  }

  /// A plain command for a server, already written to `request`. The reply isn't looked at. Throws nothing.
  Sent ask(Node& node, Request& request, std::int64_t deadline) noexcept {
    return node.channel().call(request, deadline);
  }

  /// A plain command that only reads and whose key has this digest, until a server says something that isn't passing.
  /// False where none does in time. `write(Request&)` appends it. Throws what that throws.
  template <class Write>
  bool ask(const Digest& key, Request& request, std::int64_t deadline, Write write) {
    Route route(nodes_, key, deadline);
    for (;;) {
      Trouble trouble = Trouble::passing;
      Reason why;
      if (route.find(why)) {
        begin(request, route);
        write(request);
        const Sent sent = route.call(request);
        if (sent == Sent::answered) {
          const ReplyNode root = request.reply.root();
          trouble = root.type == ReplyType::error ? trouble_of(root.text) : Trouble::final;
          if (trouble == Trouble::final || trouble == Trouble::foreign) return true;
        } else if (request.refused) {
          return false;
        }
      } else if (route.is_refused()) {
        return false;
      }
      if (!route.again(trouble, request.reply.root().text)) return false;
    }
  }

 private:
  static constexpr std::size_t at_once = 32;

  static void begin(Request& request, const Route& route) {
    request.command.clear();
    request.asks = route.asks();
    if (request.asks) Command(request.command, 1).arg("ASKING");
  }

  void write(Request& request, const Call& call, const Route& route, bool whole) const {
    Decimal now;
    if (clock_) now.set(std::int64_t{clock_.now().time_since_epoch().count()});
    begin(request, route);
    const Scripts& scripts = route.node().has_flags() ? with_flags_ : plain_;
    call.write(request.command, scripts, whole, prefix_, clock_ ? now.view() : std::string_view{});
    request.writes = call.writes;
  }

  void attempt_until(const Call& call, std::int64_t deadline, bool whole, Answered& result) {
    Route route(nodes_, call.key, deadline);
    for (;;) {
      Request request;
      Trouble trouble = Trouble::passing;
      if (route.find(result.why)) {
        write(request, call, route, whole);
        if (!result.maybe) result.sent_at = boot_micros();
        const Sent sent = route.call(request);
        trouble = take(sent, request, result);
        if (result.answered || result.foreign || trouble == Trouble::final) return;
        if (trouble == Trouble::forgotten) {
          if (whole) return;  // it was just told
          whole = true;
          continue;
        }
      } else if (route.is_refused()) {
        return;
      }
      if (!route.again(trouble, request.reply.root().text)) return;
    }
  }

  /// Passing where it isn't answered yet.
  Trouble take(Sent sent, Request& request, Answered& result) noexcept {
    if (sent != Sent::answered) {
      result.maybe = result.maybe || sent == Sent::unknown;
      result.why = request.why;
      return request.refused ? Trouble::final : Trouble::passing;
    }
    const ReplyNode root = request.reply.root();
    const bool is_array =
        root.type == ReplyType::array && root.children >= 1 && request.reply[1].type == ReplyType::integer;
    if (is_array || (root.type == ReplyType::string && !root.text.empty())) {
      result.number = is_array ? request.reply[1].integer : std::int64_t{static_cast<std::uint8_t>(root.text[0])};
      result.replicas = request.replicas;
      result.reply = std::move(request.reply);
      result.answered = true;
      return Trouble::final;
    }
    if (root.type != ReplyType::error) {
      result.why = Reason("the server gave an answer that no script gives");
      return Trouble::final;
    }
    const Trouble trouble = trouble_of(root.text);
    result.foreign = trouble == Trouble::foreign;
    // The code and the server's words; none of a record's, since no script puts them there.
    result.why = words_of(root.text);
    return trouble;
  }

  struct Batch {
    Request requests[at_once];
    NodeRef nodes[at_once];
    enum class Place : std::uint8_t { unsent = 0, submitted = 1, settled = 2 } places[at_once] = {};
    // What was submitted must not outlive its place.
    ~Batch() {
      for (std::size_t i = 0; i < at_once; ++i) {
        if (places[i] == Place::submitted) static_cast<void>(nodes[i]->channel().leave(requests[i]));
      }
    }
  };

  void pipeline(const Call* calls, Answered* results, bool* heard, std::size_t size, std::int64_t deadline) {
    const auto batch = std::make_unique<Batch>();
    for (std::size_t i = 0; i < size; ++i) {
      Route route(nodes_, calls[i].key, deadline);
      if (!route.find(results[i].why)) continue;
      write(batch->requests[i], calls[i], route, false);
      batch->nodes[i] = route.ref();
      results[i].sent_at = boot_micros();
      batch->nodes[i]->channel().submit(batch->requests[i]);
      batch->places[i] = Batch::Place::submitted;
    }
    std::int64_t servers = 0;
    for (std::size_t i = 0; i < size; ++i) servers += is_first(*batch, i) ? 1 : 0;
    for (std::size_t first = 0; first < size; ++first) {
      if (batch->places[first] != Batch::Place::submitted) continue;
      // A server that says nothing leaves the others their share of the time.
      const std::int64_t now = boot_micros();
      const std::int64_t until = now + (deadline - now) / servers--;
      const NodeRef node = batch->nodes[first];
      for (std::size_t i = first; i < size; ++i) {
        if (batch->places[i] != Batch::Place::submitted || !(batch->nodes[i] == node)) continue;
        Sent sent = node->channel().await(batch->requests[i], until);
        if (sent == Sent::pending) sent = node->channel().leave(batch->requests[i]);
        batch->places[i] = Batch::Place::settled;
        heard[i] = sent == Sent::answered;
        take(sent, batch->requests[i], results[i]);
      }
    }
  }

  static bool is_first(const Batch& batch, std::size_t at) noexcept {
    if (batch.places[at] == Batch::Place::unsent) return false;
    for (std::size_t i = 0; i < at; ++i) {
      if (batch.places[i] != Batch::Place::unsent && batch.nodes[i] == batch.nodes[at]) return false;
    }
    return true;
  }

  // Made with the store and not with the first call: a child that was forked while a thread makes them would wait for
  // that thread for ever.
  const Scripts with_flags_{true};
  const Scripts plain_{false};
  Admission admission_;
  Nodes nodes_;
  const std::string prefix_;
  const Clock clock_;
};

}  // namespace detail::redis
IDEM_END_NAMESPACE
