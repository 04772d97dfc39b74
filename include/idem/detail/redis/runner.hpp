// Calls scripts until they are answered: names what the server forgot, waits out what passes, and says what is final.
#pragma once

#include <idem/clock.hpp>
#include <idem/detail/boot_clock.hpp>
#include <idem/detail/bytes.hpp>
#include <idem/detail/cancellation.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/redis/admission.hpp>
#include <idem/detail/redis/call.hpp>
#include <idem/detail/redis/channel.hpp>
#include <idem/detail/redis/link_settings.hpp>
#include <idem/detail/redis/reason.hpp>
#include <idem/detail/redis/reply_tree.hpp>
#include <idem/detail/redis/scripts.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include <time.h>  // nanosleep

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

/// What an error of the server means.
enum class Trouble : std::uint8_t {
  final = 1,     ///< Trying again won't help before somebody changes something.
  passing = 2,   ///< It may be over in a moment.
  forgotten = 3, ///< The server doesn't know the script.
  demoted = 4,   ///< Another server is the primary now.
  foreign = 5,   ///< The key holds another type.
};

inline Trouble trouble_of(std::string_view error) noexcept {
  const auto begins = [error](std::string_view code) { return error.substr(0, code.size()) == code; };
  if (begins("NOSCRIPT")) return Trouble::forgotten;
  for (const std::string_view code : {"LOADING", "BUSY", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN"}) {
    if (begins(code)) return Trouble::passing;
  }
  if (begins("READONLY") || begins("UNBLOCKED")) return Trouble::demoted;
  // Before Redis 7 what a command says within a script stands behind where it stood.
  if (begins("WRONGTYPE")) return Trouble::foreign;
  if (begins("ERR Error running script")) {
    if (error.find("WRONGTYPE") != std::string_view::npos) return Trouble::foreign;
    if (error.find("READONLY") != std::string_view::npos) return Trouble::demoted;
  }
  return Trouble::final;
}

/// Thread safety: every member from any thread.
class Runner {
 public:
  Runner(LinkSettings link, const AdmissionTerms& terms, std::string prefix, Clock clock)
      : admission_(terms), channel_(guarded(std::move(link))), prefix_(std::move(prefix)), clock_(std::move(clock)) {}
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  Channel& channel() noexcept { return channel_; }
  Admission& admission() noexcept { return admission_; }
  const std::string& prefix() const noexcept { return prefix_; }
  const Clock& clock() const noexcept { return clock_; }

  /// Tries until the script answers, an error is final, or the deadline has passed. Throws nothing.
  Answered run(const Call& call, std::int64_t deadline) noexcept {
    const NoCancellation shield;
    Answered result;
    IDEM_TRY { attempt_until(call, deadline, result); }
    IDEM_CATCH_ALL {
      result.answered = false;
      result.why = Reason("there is no memory for what is said to the server");
    }
    return result;
  }

  /// All of them in one pipeline, those that need another try one by one. REQUIRES: `results` has as many. Throws
  /// nothing.
  void run_all(const Call* calls, Answered* results, std::size_t count, std::int64_t deadline) noexcept {
    const NoCancellation shield;
    constexpr std::size_t at_once = 32;
    for (std::size_t begin = 0; begin < count; begin += at_once) {
      const std::size_t size = count - begin < at_once ? count - begin : at_once;
      IDEM_TRY { pipeline(calls + begin, results + begin, size, deadline); }
      IDEM_CATCH_ALL {}  // those without an answer are tried again below
      for (std::size_t i = begin; i < begin + size; ++i) {
        if (results[i].answered || results[i].foreign || boot_micros() >= deadline) continue;
        const bool maybe = results[i].maybe;
        const std::int64_t sent_at = results[i].sent_at;
        results[i] = run(calls[i], deadline);
        if (maybe) results[i].sent_at = sent_at;
        results[i].maybe = results[i].maybe || maybe;
      }
    }
  }

  /// A plain command, already written to `request`. The reply isn't looked at. Throws nothing.
  Sent ask(Request& request, std::int64_t deadline) noexcept { return channel_.call(request, deadline); }

 private:
  static constexpr std::int64_t first_pause = 2'000;
  static constexpr std::int64_t longest_pause = 200'000;

  /// From Redis 7 on scripts have flags. A server that was never reached gets a name that only a new one can know.
  const Scripts& scripts() const {
    static const Scripts with_flags(true);
    static const Scripts plain(false);
    return admission_.has_flags() ? with_flags : plain;
  }

  void write(Request& request, const Call& call, bool whole) const {
    Decimal now;
    if (clock_) now.set(std::int64_t{clock_.now().time_since_epoch().count()});
    request.command.clear();
    call.write(request.command, scripts(), whole, prefix_, clock_ ? now.view() : std::string_view{});
    request.writes = call.writes;
  }

  void attempt_until(const Call& call, std::int64_t deadline, Answered& result) {
    bool whole = false;
    std::int64_t pause = first_pause;
    for (;;) {
      Request request;
      write(request, call, whole);
      if (!result.maybe) result.sent_at = boot_micros();
      const Sent sent = channel_.call(request, deadline);
      const Trouble trouble = take(sent, request, result);
      if (result.answered || result.foreign || trouble == Trouble::final) return;
      if (trouble == Trouble::forgotten) {
        if (whole) return;  // it was just told
        whole = true;
        continue;
      }
      if (trouble == Trouble::demoted) channel_.drop("the server isn't the primary any more");
      if (!rest(pause, deadline)) return;
      pause = pause * 2 < longest_pause ? pause * 2 : longest_pause;
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
    const bool is_array = root.type == ReplyType::array && root.children >= 1 &&
                          request.reply[1].type == ReplyType::integer;
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
    result.why = Reason("the server said: ").add(root.text);
    return trouble;
  }

  void pipeline(const Call* calls, Answered* results, std::size_t size, std::int64_t deadline) {
    struct Batch {
      Request requests[32];
      Channel* channel = nullptr;
      std::size_t submitted = 0;
      std::size_t settled = 0;
      // What was submitted must not outlive its place.
      ~Batch() {
        for (; settled < submitted; ++settled) static_cast<void>(channel->leave(requests[settled]));
      }
    };
    Batch* const batch = new Batch;
    struct Owner {
      Batch* held;
      ~Owner() { delete held; }
    } const owner{batch};
    batch->channel = &channel_;
    for (std::size_t i = 0; i < size; ++i) {
      write(batch->requests[i], calls[i], false);
      results[i].sent_at = boot_micros();
      channel_.submit(batch->requests[i]);
      batch->submitted = i + 1;
    }
    for (std::size_t i = 0; i < size; ++i) {
      Sent sent = channel_.await(batch->requests[i], deadline);
      if (sent == Sent::pending) sent = channel_.leave(batch->requests[i]);
      batch->settled = i + 1;
      take(sent, batch->requests[i], results[i]);
    }
  }

  /// False where the deadline comes first.
  static bool rest(std::int64_t micros, std::int64_t deadline) noexcept {
    const std::int64_t left = deadline - boot_micros();
    if (left <= 0) return false;
    const std::int64_t span = micros < left ? micros : left;
    timespec time = {};
    time.tv_sec = span / 1'000'000;
    time.tv_nsec = span % 1'000'000 * 1000;
    ::nanosleep(&time, nullptr);
    return boot_micros() < deadline;
  }

  LinkSettings guarded(LinkSettings link) noexcept {
    link.gate = [](void* admission, const ServerFacts& facts, Reason& why) noexcept {
      return static_cast<Admission*>(admission)->admit(facts, why);
    };
    link.gate_context = &admission_;
    return link;
  }

  Admission admission_;
  Channel channel_;
  const std::string prefix_;
  const Clock clock_;
};

}  // namespace detail::redis
IDEM_END_NAMESPACE
