// FaultyStore: any store, with failures where a test wants them.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/random.hpp>
#include <idem/detail/watch_list.hpp>
#include <idem/duration.hpp>
#include <idem/key.hpp>
#include <idem/payload.hpp>
#include <idem/protocol.hpp>
#include <idem/store.hpp>
#include <idem/testing/gate.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

IDEM_BEGIN_NAMESPACE
namespace testing {

enum class Operation : std::uint8_t { claim, renew, complete, fail, release, abandon, resolve, find, erase };
inline constexpr std::size_t operations = 9;

enum class Fault : std::uint8_t {
  unavailable = 1,  ///< The operation isn't carried out: the store can't be reached.
  lost_answer = 2,  ///< It is carried out, but the caller is told that the store can't be reached.
  corrupt = 3,      ///< The record can't be read.
  stale = 4,        ///< For an owner's operations: somebody else has taken over.
};

inline constexpr std::size_t always = static_cast<std::size_t>(-1);

/// A store around another one, in which a test makes operations fail, stop, or find a key in a state of its choice.
///
///     idem::testing::FaultyStore store{idem::MemoryStore{}};
///     auto charge_once = idem::idempotent<"charge">(charge, {}, store);
///     store.inject(Operation::complete, Fault::unavailable, always);    // the outcome can't be recorded
///     store.put_in_doubt(charge_once.key(order));                       // an earlier run left nobody knows what
///
/// Without any of this it behaves as the store it is made of. A release or an abandonment that fails is remembered,
/// carried out before the next operation that finds the store working again, and until then its key is answered
/// `in_doubt`: what every store promises. A handle: copies are one store.
///
/// Thread safety: every member from any thread. It must live as long as the store inside is used by others.
template <Store S>
class FaultyStore {
 public:
  static constexpr Keeps keeps = S::keeps;

  explicit FaultyStore(S store) : FaultyStore(std::make_shared<S>(std::move(store))) {}
  explicit FaultyStore(std::shared_ptr<S> store) : shared_(std::make_shared<Shared>(std::move(store))) {}

  /// The store inside, for looking at it past all faults.
  S& inner() const noexcept { return *shared_->store; }

  // What fails.

  /// Makes `times` calls of the operation fail, the first of them `after` calls from now.
  void inject(Operation operation, Fault fault, std::size_t times = 1, std::size_t after = 0) const {
    const std::lock_guard lock(shared_->mutex);
    shared_->rules.push_back(Rule{operation, fault, times, after});
  }
  /// Makes every operation fail.
  void go_down() const {
    for (std::size_t i = 0; i < operations; ++i) inject(static_cast<Operation>(i), Fault::unavailable, always);
  }
  /// Ends all faults.
  void recover() const {
    const std::lock_guard lock(shared_->mutex);
    shared_->rules.clear();
  }
  /// Stops the next call of the operation before it is carried out, until the gate is opened.
  Gate stop_before(Operation operation) const { return add_gate(operation, true); }
  /// The same after it was carried out and before its caller is answered.
  Gate stop_after(Operation operation) const { return add_gate(operation, false); }

  std::size_t calls(Operation operation) const {
    const std::lock_guard lock(shared_->mutex);
    return shared_->calls[static_cast<std::size_t>(operation)];
  }
  /// Releases and abandonments that couldn't be carried out yet.
  std::size_t pending() const {
    const std::lock_guard lock(shared_->mutex);
    return shared_->pending.size();
  }

  // What a call finds.

  /// Somebody runs the call: others meet a live owner. False where the key isn't free.
  bool put_running(const Key& key) const { return acquire(key, false).epoch != 0; }
  /// An earlier run ended without anybody knowing its effect. False where the key isn't free.
  bool put_in_doubt(const Key& key) const {
    const Ownership owner = acquire(key, false);
    return owner.epoch != 0 && inner().abandon(key, owner).answer == Answer::ok;
  }
  /// The running owner is taken for dead and somebody else takes over: what it does from now on is stale. False where
  /// nobody runs.
  bool take_over(const Key& key) const {
    const Reply found = inner().find(key);
    if (found.answer != Answer::running && found.answer != Answer::in_doubt) return false;
    inner().abandon(key, found.record.owner);
    if (traits().liveness == Liveness::lease) shared_->watches.tell(Ownership{found.record.owner.token, 0});
    return acquire(key, true).epoch != 0;
  }

  // The store.

  StoreTraits traits() const { return inner().traits(); }
  TimePoint now() const { return inner().now(); }

  /// Says nothing while a fault waits for a claim, or the key has something pending.
  Peeked peek(const Key& key, const Digest* fingerprint)
    requires requires(S& store) { store.peek(key, fingerprint); }
  {
    bool silent = false;
    {
      const std::lock_guard lock(shared_->mutex);
      silent = shared_->find_pending(key) != shared_->pending.end();
      for (const Rule& rule : shared_->rules) silent = silent || rule.operation == Operation::claim;
      for (const Stop& stop : shared_->stops) silent = silent || stop.operation == Operation::claim;
    }
    // Asked once more, since clang 14 compiles this even where the condition isn't met.
    if constexpr (requires(S& store) { store.peek(key, fingerprint); }) {
      if (!silent) return inner().peek(key, fingerprint);
    }
    return {};
  }

  Reply claim(const Key& key, const ClaimRequest& request, LeaseWatch* watch) {
    carry_out_pending();
    {
      const std::lock_guard lock(shared_->mutex);
      const auto pending = shared_->find_pending(key);
      if (pending != shared_->pending.end()) {
        // The claimer itself asks again: it is told what it acquired.
        if (!(pending->owner.token == request.owner)) return answer(Answer::in_doubt, pending->owner);
        shared_->pending.erase(pending);
      }
    }
    // The watch is called by way of one that lives as long as this store: the store inside may learn late, or never,
    // that the caller is done.
    LeaseWatch* const relay = watch == nullptr ? nullptr : add_watch(key, request.owner, watch);
    Ownership acquired;
    Reply reply = run(Operation::claim, [&] {
      Reply real = inner().claim(key, request, relay);
      if (real.answer == Answer::acquired) acquired = real.record.owner;
      return real;
    });
    if (reply.answer != Answer::acquired) {
      end_watch(request.owner);
      // Acquired, and the caller doesn't know: the key has to be given back.
      if (acquired.epoch != 0) remember(key, acquired, true);
    }
    return reply;
  }

  Reply renew(const Key& key, const Ownership& owner, Duration lease) {
    carry_out_pending();
    return run(Operation::renew, [&] { return inner().renew(key, owner, lease); });
  }
  Reply complete(const Key& key, const FinishRequest& request) {
    carry_out_pending();
    Reply reply = run(Operation::complete, [&] { return inner().complete(key, request); });
    end_watch(request.owner.token);
    return reply;
  }
  Reply fail(const Key& key, const FinishRequest& request) {
    carry_out_pending();
    Reply reply = run(Operation::fail, [&] { return inner().fail(key, request); });
    end_watch(request.owner.token);
    return reply;
  }
  Reply release(const Key& key, const Ownership& owner) {
    carry_out_pending();
    Reply reply = run(Operation::release, [&] { return inner().release(key, owner); });
    if (reply.answer == Answer::unavailable) remember(key, owner, true);
    end_watch(owner.token);
    return reply;
  }
  Reply abandon(const Key& key, const Ownership& owner) {
    carry_out_pending();
    Reply reply = run(Operation::abandon, [&] { return inner().abandon(key, owner); });
    if (reply.answer == Answer::unavailable) remember(key, owner, false);
    end_watch(owner.token);
    return reply;
  }
  Reply resolve(const Key& key, const Resolution& found, std::string_view note) {
    carry_out_pending();
    return run(Operation::resolve, [&] { return inner().resolve(key, found, note); });
  }
  Reply find(const Key& key) {
    carry_out_pending();
    return run(Operation::find, [&] { return inner().find(key); });
  }
  Reply erase(const Key& key) {
    carry_out_pending();
    return run(Operation::erase, [&] { return inner().erase(key); });
  }

  void wait(const Key& key, std::uint64_t epoch, TimePoint deadline) { inner().wait(key, epoch, deadline); }
  template <class Each>
  void for_each(Each&& each) {
    inner().for_each(std::forward<Each>(each));
  }
  PurgeResult purge(const PurgeOptions& options) { return inner().purge(options); }
  std::size_t clear() { return inner().clear(); }
  StoreStats stats() { return inner().stats(); }

 private:
  struct Rule {
    Operation operation;
    Fault fault;
    std::size_t times;
    std::size_t after;
  };
  struct Stop {
    Operation operation;
    bool before;
    Gate gate;
  };
  struct Pending {
    Key key;
    Ownership owner;
    bool release;
  };

  struct Relay final : LeaseWatch {
    Relay(idem::detail::WatchList& list, OwnerToken owner) noexcept : watches(list), token(owner) {}
    void lost() noexcept override { watches.tell(Ownership{token, 0}); }
    void renewed(TimePoint until) noexcept override { watches.renewed(Ownership{token, 0}, until); }
    void sure_until(std::int64_t boot_micros) noexcept override {
      watches.sure_until(Ownership{token, 0}, boot_micros);
    }

    idem::detail::WatchList& watches;
    OwnerToken token;
  };

  struct Shared {
    explicit Shared(std::shared_ptr<S> inner) : store(std::move(inner)) {}

    typename std::vector<Pending>::iterator find_pending(const Key& key) {
      auto at = pending.begin();
      while (at != pending.end() && !(at->key == key)) ++at;
      return at;
    }

    // Before the store, which may call a relay until it ends.
    idem::detail::WatchList watches;
    std::vector<std::unique_ptr<Relay>> relays;
    std::shared_ptr<S> store;
    std::mutex mutex;
    std::vector<Rule> rules;
    std::vector<Stop> stops;
    std::vector<Pending> pending;
    std::array<std::size_t, operations> calls = {};
  };

  static Reply answer(Answer answer, const Ownership& owner) {
    Reply reply;
    reply.answer = answer;
    reply.record.owner = owner;
    if (answer == Answer::unavailable) reply.message = "a fault that a test asked for";
    if (answer == Answer::corrupt) reply.message = "damage that a test asked for";
    return reply;
  }

  LeaseWatch* add_watch(const Key& key, OwnerToken token, LeaseWatch* watch) const {
    shared_->watches.add(key.digest(), Ownership{token, 0}, watch);
    const std::lock_guard lock(shared_->mutex);
    shared_->relays.push_back(std::make_unique<Relay>(shared_->watches, token));
    return shared_->relays.back().get();
  }
  void end_watch(OwnerToken token) const { shared_->watches.end(Ownership{token, 0}); }

  Gate add_gate(Operation operation, bool before) const {
    const std::lock_guard lock(shared_->mutex);
    shared_->stops.push_back(Stop{operation, before, Gate{}});
    return shared_->stops.back().gate;
  }

  void stop_at(Operation operation, bool before) const {
    std::unique_lock lock(shared_->mutex);
    for (auto at = shared_->stops.begin(); at != shared_->stops.end(); ++at) {
      if (at->operation != operation || at->before != before) continue;
      const Gate gate = at->gate;
      shared_->stops.erase(at);
      lock.unlock();
      gate.pass();
      return;
    }
  }

  /// The fault of this call, if it has one.
  Fault next_fault(Operation operation) const {
    const std::lock_guard lock(shared_->mutex);
    ++shared_->calls[static_cast<std::size_t>(operation)];
    Fault fault{};
    for (auto at = shared_->rules.begin(); at != shared_->rules.end();) {
      if (at->operation != operation) {
        ++at;
      } else if (at->after != 0) {
        --at->after;
        ++at;
      } else {
        if (fault == Fault{}) {
          fault = at->fault;
          if (at->times != always) --at->times;
        }
        at = at->times == 0 ? shared_->rules.erase(at) : at + 1;
      }
    }
    return fault;
  }

  template <class Do>
  Reply run(Operation operation, Do&& carry_out) const {
    stop_at(operation, true);
    const Fault fault = next_fault(operation);
    Reply reply;
    switch (fault) {
      case Fault::unavailable: reply = answer(Answer::unavailable, {}); break;
      case Fault::corrupt: reply = answer(Answer::corrupt, {}); break;
      case Fault::stale: reply = answer(Answer::stale, {}); break;
      case Fault::lost_answer:
        carry_out();
        reply = answer(Answer::unavailable, {});
        break;
      default: reply = carry_out();
    }
    stop_at(operation, false);
    return reply;
  }

  void remember(const Key& key, const Ownership& owner, bool release) const {
    const std::lock_guard lock(shared_->mutex);
    for (const Pending& pending : shared_->pending) {
      if (pending.owner == owner && pending.key == key) return;
    }
    shared_->pending.push_back(Pending{key, owner, release});
  }

  /// Tries once more what couldn't be carried out.
  void carry_out_pending() const {
    std::vector<Pending> due;
    {
      const std::lock_guard lock(shared_->mutex);
      if (shared_->pending.empty()) return;
      due = shared_->pending;
    }
    for (const Pending& pending : due) {
      const Operation operation = pending.release ? Operation::release : Operation::abandon;
      if (next_fault(operation) != Fault{}) continue;
      const Reply reply =
          pending.release ? inner().release(pending.key, pending.owner) : inner().abandon(pending.key, pending.owner);
      if (reply.answer == Answer::unavailable) continue;
      const std::lock_guard lock(shared_->mutex);
      for (auto at = shared_->pending.begin(); at != shared_->pending.end(); ++at) {
        if (!(at->owner == pending.owner) || !(at->key == pending.key)) continue;
        shared_->pending.erase(at);
        break;
      }
    }
  }

  Ownership acquire(const Key& key, bool take_over) const {
    ClaimRequest request;
    request.owner = idem::detail::new_owner_token();
    request.take_over = take_over;
    const Reply reply = inner().claim(key, request, nullptr);
    return reply.answer == Answer::acquired ? reply.record.owner : Ownership{};
  }

  std::shared_ptr<Shared> shared_;
};

}  // namespace testing
IDEM_END_NAMESPACE
