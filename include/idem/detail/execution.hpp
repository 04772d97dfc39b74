// A guarded call from its key to its outcome, for a caller that blocks.
#pragma once

#include <idem/context.hpp>
#include <idem/detail/acquisition.hpp>
#include <idem/detail/answering.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/guard_state.hpp>
#include <idem/detail/invocation.hpp>
#include <idem/detail/running.hpp>
#include <idem/outcome.hpp>

#include <concepts>
#include <cstring>
#include <type_traits>
#include <utility>

IDEM_BEGIN_NAMESPACE
namespace detail {

/// One call. `A` are the parameter types of the arguments.
template <class State, class R, class... A>
class Execution {
 public:
  using Store = typename State::Store;
  using Keeping = typename State::template Keeping<R>;
  static_assert(Keeping::check());

  explicit Execution(const State& state) noexcept : state_(state) {}

  /// Makes key and fingerprint once, before anything can change the arguments. First of all.
  void prepare(const std::remove_reference_t<A>&... arguments) {
    IDEM_TRY {
      error_ = state_.template make_key<A...>(key_, state_.domain().borrow(), arguments...);
      if (error_ == nullptr)
        has_fingerprint_ = state_.template make_fingerprint<A...>(fingerprint_, key_, error_, arguments...);
    }
    IDEM_CATCH_UNWIND
    IDEM_CATCH_ALL {
      error_ = threw;
    }
  }

  /// The path of most duplicates: puts the stored result into `slot` where the store can give it without a lock and
  /// nobody wants to hear of it. False says nothing, and leaves the slot empty.
  bool replay(Slot<R>& slot, Facts* facts) {
    if constexpr (can_peek && State::keeps_result && !State::template has<extra::duplicate_value>) {
      if (error_ != nullptr || !state_.observers().empty() || options().on_duplicate == OnDuplicate::raise)
        return false;
      const Peeked seen = state_.store().peek(key_, fingerprint());
      if (seen.answer != Answer::completed || seen.payload.kind() != PayloadKind::value) return false;
      IDEM_TRY {
        if (!Keeping::restore(seen.payload, key_, state_.seal(), slot)) return false;
      }
      IDEM_CATCH_UNWIND
      IDEM_CATCH_ALL {
        return false;
      }
      if (facts != nullptr) *facts = Facts(*seen.record);
      return true;
    }
    static_cast<void>(slot), static_cast<void>(facts);
    return false;
  }

  /// Runs the protocol. Afterwards the outcome is complete but for its key: `take_key()`. Throws nothing but the end of
  /// a cancelled thread.
  void run(Outcome<R>& outcome, A&&... arguments) {
    if (error_ == nullptr && state_.previous()) {
      IDEM_TRY {
        error_ = state_.template make_key<A...>(previous_key_, state_.previous().borrow(), arguments...);
      }
      IDEM_CATCH_UNWIND
      IDEM_CATCH_ALL {
        error_ = threw;
      }
    }
    if (error_ != nullptr) {
      key_ = Key();
      Answers(state_, outcome).no_key(error_);
      return;
    }
    go(outcome, arguments...);
  }
  Key&& take_key() noexcept { return std::move(key_); }

 private:
  using Answers = Answering<State, R, A...>;
  using Step = typename Acquisition<Store>::Step;

  static constexpr bool can_peek = requires(Store & store, const Key& key) {
    { store.peek(key, nullptr) } -> std::same_as<Peeked>;
  };
  static constexpr const char* threw = "making the key threw an exception";

  const Options& options() const noexcept { return state_.options(); }
  const Digest* fingerprint() const noexcept { return has_fingerprint_ ? &fingerprint_ : nullptr; }

  Terms terms() const noexcept {
    Terms terms;
    terms.ttl = options().ttl;
    terms.lease = options().lease;
    terms.fingerprint = fingerprint();
    switch (options().on_duplicate) {
      case OnDuplicate::return_stored:
        terms.wait = options().wait_timeout;
        break;
      case OnDuplicate::wait:
        terms.wait = options().wait_limit;
        break;
      case OnDuplicate::raise:
        break;
    }
    terms.take_over = State::template has<extra::recovery> || options().on_in_doubt == OnInDoubt::rerun;
    return terms;
  }

  /// With two secrets a call has two keys, and other processes may claim it under either. Whoever has claimed one looks
  /// under the other before running, and goes there where the call is known, so that of two callers at most one runs.
  void go(Outcome<R>& outcome, A&... arguments) {
    Terms terms = this->terms();
    if (!state_.previous()) {
      static_cast<void>(ended_under(outcome, key_, nullptr, terms, arguments...));
      return;
    }
    const Key* key = &key_;
    const Key* other = &previous_key_;
    const TimePoint until = later(state_.store().now(), terms.wait);
    while (!ended_under(outcome, *key, other, terms, arguments...)) {
      std::swap(key, other);
      const TimePoint now = state_.store().now();
      if (until != (TimePoint::max)()) terms.wait = until > now ? Duration(until - now) : Duration();
    }
  }

  /// Goes about one key. False where the call is to be sought under the other one, and nothing is held.
  bool ended_under(Outcome<R>& outcome, const Key& key, const Key* other, const Terms& terms, A&... arguments) {
    LeaseState lease;
    Acquisition<Store> acquisition(state_.store(), key, terms, state_.observers(), &lease);
    Step step = acquisition.begin();
    while (step == Step::wait) {
      acquisition.wait();
      step = acquisition.again();
    }
    OutcomeAccess::waited(outcome, acquisition.waited(), options().on_duplicate != OnDuplicate::raise);
    if (step == Step::answered) {
      answered(outcome, key, acquisition, lease, arguments...);
      return true;
    }
    Run<Store> run(state_.store(), key, acquisition.reply().record, state_.observers());
    if (other != nullptr) {
      Reply found = look_under(*other, key, terms.wait, lease);
      if (found.answer != Answer::absent) {
        run.release();
        const bool waited_enough = found.answer == Answer::running && !moves_on(found, key, *other);
        if (!waited_enough && found.answer != Answer::unavailable) return false;
        acquisition.reply() = std::move(found);
        answered(outcome, *other, acquisition, lease, arguments...);
        return true;
      }
    }
    Invocation<State, R, A...>(state_, outcome).run(run, key, lease, arguments...);
    return true;
  }

  /// What is known of the call under `other`, while `key` is held; absent: this caller may run. Who doesn't move on waits
  /// until the other one has, or is done.
  Reply look_under(const Key& other, const Key& key, Duration wait, const LeaseState& lease) {
    const TimePoint until = later(state_.store().now(), wait);
    for (;;) {
      Reply found = state_.store().find(other);
      // Without its claim this caller mustn't run; it's to begin anew.
      if (found.answer == Answer::absent && lease.is_lost()) found.answer = Answer::stale;
      if (found.answer != Answer::running || moves_on(found, key, other) || state_.store().now() >= until) return found;
      state_.store().wait(other, found.record.owner.epoch, until);
    }
  }

  /// Whether a caller that holds `key` gives it back for one that runs under `other`. If two that have met under both
  /// keys both did, both might run in the end; if neither did, none would. So the one with the smaller digest stays.
  static bool moves_on(const Reply& running, const Key& key, const Key& other) noexcept {
    if (running.answer != Answer::running) return false;
    // Only a claim under the other key tells that the call would wait for itself.
    if (RunningFrame::on_this_stack(running.record.owner.token)) return true;
    const Digest held = key.digest();
    const Digest met = other.digest();
    return std::memcmp(held.bytes, met.bytes, sizeof held.bytes) > 0;
  }

  void answered(Outcome<R>& outcome, const Key& key, Acquisition<Store>& acquisition, LeaseState& lease,
                A&... arguments) {
    if (acquisition.reply().answer == Answer::unavailable) {
      store_failed(outcome, key, acquisition.reply(), lease, arguments...);
    } else {
      Answers(state_, outcome).tell_answer(acquisition, key, arguments...);
    }
  }

  void store_failed(Outcome<R>& outcome, const Key& key, const Reply& reply, LeaseState& lease, A&... arguments) {
    if (options().on_store_error == OnStoreError::run_unguarded) {
      Invocation<State, R, A...>(state_, outcome).run_unguarded(key, reply, lease, arguments...);
    } else {
      Answers(state_, outcome).unavailable(key, reply);
    }
  }

  const State& state_;
  const char* error_ = nullptr;  ///< Why there is no key.
  bool has_fingerprint_ = false;
  Key key_;
  Digest fingerprint_;
  Key previous_key_;
};

}  // namespace detail
IDEM_END_NAMESPACE
