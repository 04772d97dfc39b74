// The errands of the threads behind a store, run as scripts.
#pragma once

#include <idem/clock.hpp>
#include <idem/detail/boot_clock.hpp>
#include <idem/detail/cancellation.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/endian.hpp>
#include <idem/detail/redis/call.hpp>
#include <idem/detail/redis/errands.hpp>
#include <idem/detail/redis/record.hpp>
#include <idem/detail/redis/runner.hpp>
#include <idem/protocol.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string_view>

IDEM_BEGIN_NAMESPACE
namespace detail::redis {

/// How much sooner than the server an owner takes its lease for ended: two clocks that nobody sets may differ in speed
/// by a good deal less than a hundredth.
constexpr std::int64_t lease_margin(std::int64_t lease) noexcept { return lease / 100 + 1'000; }

/// By which the keeper judges: boot_micros(), or a clock of the user's, which wakes nobody, so that it's asked again
/// and again.
class LeaseClock {
 public:
  explicit LeaseClock(const Clock& injected) noexcept : injected_(injected) {}

  bool is_boot() const noexcept { return !injected_; }
  std::int64_t now() const noexcept {
    return injected_ ? std::int64_t{injected_.now().time_since_epoch().count()} : boot_micros();
  }
  std::int64_t longest_nap() const noexcept { return injected_ ? 1'000 : 1'000'000; }

 private:
  Clock injected_;
};

/// Times that it's given and gives are those of a LeaseClock. Thread safety: every member from any thread.
class ErrandRunner {
 public:
  explicit ErrandRunner(Runner& runner) noexcept : runner_(runner), clock_(runner.clock()) {}

  const LeaseClock& clock() const noexcept { return clock_; }

  void renew(Renewal* batch, std::size_t count, std::int64_t until) noexcept {
    const NoCancellation shield;
    constexpr std::size_t at_once = 32;
    IDEM_TRY {
      for (std::size_t begin = 0; begin < count; begin += at_once) {
        some(batch + begin, count - begin < at_once ? count - begin : at_once, until);
      }
    }
    IDEM_CATCH_ALL {}  // those without an answer are tried again
  }

  bool pay(const Owed& owed, std::int64_t until) noexcept {
    const OwnerBytes owner(owed.owner);
    Call call{&Scripts::give_up, owed.key};
    call.with(owed.owner.epoch == 0 ? owner.token() : owner.all())
        .with(owed.kind == Owed::Kind::release ? "1" : std::string_view{});
    const Answered answer = runner_.run(call, deadline(until));
    return answer.answered || answer.foreign;
  }

  Look look(const Digest& key, std::uint64_t epoch, std::int64_t until) noexcept {
    std::uint8_t bytes[8];
    store_le64(bytes, epoch);
    Call call{&Scripts::watch, key};
    call.writes = false;
    call.with({reinterpret_cast<const char*>(bytes), sizeof bytes});
    const Answered answer = runner_.run(call, until);
    if (answer.foreign) return {Look::Result::changed, 0};
    if (!answer.answered) return {Look::Result::no_answer, 0};
    if (answer.number != 1) return {Look::Result::changed, 0};
    const std::int64_t left = answer.second();
    return {Look::Result::running, left < 0 ? (std::numeric_limits<std::int64_t>::max)() : left};
  }

 private:
  void some(Renewal* batch, std::size_t count, std::int64_t until) {
    struct Work {
      Call calls[32];
      Answered answers[32];
      std::uint8_t owners[32][24];
      Decimal leases[32];
    };
    struct Owner {
      Work* held;
      ~Owner() { delete held; }
    } const owner{new Work};
    Work& work = *owner.held;
    for (std::size_t i = 0; i < count; ++i) {
      const OwnerBytes bytes(batch[i].owner);
      std::memcpy(work.owners[i], bytes.bytes, sizeof bytes.bytes);
      work.leases[i].set(batch[i].lease);
      work.calls[i] = Call{&Scripts::renew, batch[i].key};
      work.calls[i]
          .with({reinterpret_cast<const char*>(work.owners[i]), sizeof work.owners[i]})
          .with(work.leases[i].view());
    }
    const std::int64_t begun = clock_.now();
    runner_.run_all(work.calls, work.answers, count, deadline(until));
    for (std::size_t i = 0; i < count; ++i) {
      const Answered& answer = work.answers[i];
      Renewal& renewal = batch[i];
      renewal.result = Renewal::Result::no_answer;
      // Whatever else is there, it isn't this owner's record.
      if (answer.foreign) renewal.result = Renewal::Result::stale;
      if (!answer.answered) continue;
      renewal.result = Renewal::Result::stale;
      if (answer.number != static_cast<std::int64_t>(Answer::ok)) continue;
      StoredRecord stored;
      const char* why = nullptr;
      const std::string_view head = answer.value();
      if (!decode_head(reinterpret_cast<const std::uint8_t*>(head.data()), head.size(), stored, why)) continue;
      renewal.result = Renewal::Result::renewed;
      renewal.valid_until = (clock_.is_boot() ? answer.sent_at : begun) + renewal.lease - lease_margin(renewal.lease);
      renewal.lease_until = stored.record.lease_until;
    }
  }

  /// By boot_micros().
  std::int64_t deadline(std::int64_t until) const noexcept {
    return clock_.is_boot() ? until : boot_micros() + (until - clock_.now());
  }

  Runner& runner_;
  const LeaseClock clock_;
};

}  // namespace detail::redis
IDEM_END_NAMESPACE
