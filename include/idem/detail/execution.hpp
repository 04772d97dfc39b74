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
#include <cstring>  // memcmp
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
  static_assert(
      ((std::is_reference_v<A> || std::is_nothrow_destructible_v<A>)&&...),
      "idem: a parameter whose destructor throws would make a call fail after its effect; take it by reference");

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
      const Peeked seen = state_.store().peek(key_, has_fingerprint_ ? &fingerprint_ : nullptr);
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
    if (error_ != nullptr) {
      key_ = Key();
      Answers(state_, outcome).no_key(error_);
      return;
    }
    if (state_.previous()) {
      run_with_previous(outcome, arguments...);
      return;
    }
    LeaseState lease;
    Waiting waiting;
    const Terms terms = terms_for(has_fingerprint_ ? &fingerprint_ : nullptr);
    Way way(state_.store(), key_, terms, state_.observers(), &lease, waiting);
    if (!acquire(way, outcome, waiting, lease, key_, arguments...)) return;
    Run<Store> run(state_.store(), key_, way.reply().record, state_.observers());
    const RunningFrame frame(run.record().owner);
    Invocation<State, R, A...>(state_, outcome).run(run, nullptr, lease, arguments...);
  }
  Key&& take_key() noexcept { return std::move(key_); }

 private:
  using Answers = Answering<State, R, A...>;
  using Way = Acquisition<Store>;
  using Step = typename Way::Step;

  static constexpr bool can_peek = requires(Store & store, const Key& key) {
    { store.peek(key, nullptr) } -> std::same_as<Peeked>;
  };
  static constexpr const char* threw = "making the key threw an exception";

  const Options& options() const noexcept { return state_.options(); }

  Terms terms_for(const Digest* fingerprint) const noexcept {
    Terms terms;
    terms.lease = options().lease;
    terms.ttl = options().ttl;
    terms.fingerprint = fingerprint;
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

  /// Blocks until the key is the caller's. False where it's answered instead, and the caller told.
  bool acquire(Way& way, Outcome<R>& outcome, const Waiting& waiting, LeaseState& lease, const Key& key,
               A&... arguments) {
    Step step = way.claim();
    while (step == Step::wait) {
      way.wait();
      step = way.claim();
    }
    OutcomeAccess::waited(outcome, waiting.waited, options().on_duplicate != OnDuplicate::raise);
    if (step == Step::run) return true;
    tell(way, outcome, lease, key, arguments...);
    return false;
  }

  void tell(Way& way, Outcome<R>& outcome, LeaseState& lease, const Key& key, A&... arguments) {
    if (way.reply().answer == Answer::unavailable && !way.gave_up()) {
      store_failed(outcome, key, way.reply(), lease, arguments...);
    } else {
      Answers(state_, outcome).tell_answer(way, key, arguments...);
    }
  }

  /// With a previous secret a call has two keys. Who knows both has to hold both to run, acquired in the order of their
  /// digests, so that all who know both meet at the same one first; who knows one of them meets them there. The outcome
  /// is recorded under both.
  void run_with_previous(Outcome<R>& outcome, A&... arguments) {
    Key previous;
    Digest fingerprints[2];
    bool compares[2] = {has_fingerprint_, false};
    IDEM_TRY {
      error_ = state_.template make_key<A...>(previous, state_.previous().borrow(), arguments...);
      fingerprints[0] = fingerprint_;
      compares[1] = state_.template make_fingerprint<A...>(fingerprints[1], previous, error_, arguments...);
    }
    IDEM_CATCH_UNWIND
    IDEM_CATCH_ALL {
      error_ = threw;
    }
    if (error_ != nullptr) {
      Answers(state_, outcome).no_key(error_);
      return;
    }
    const Key* const keys[2] = {&key_, &previous};
    Terms terms[2] = {terms_for(compares[0] ? &fingerprints[0] : nullptr),
                      terms_for(compares[1] ? &fingerprints[1] : nullptr)};
    const Digest digests[2] = {key_.digest(), previous.digest()};
    const int first = before(digests[1], digests[0]) ? 1 : 0;
    const int second = 1 - first;

    Waiting waiting;
    for (;;) {
      // Whoever holds both keys for a moment must not hide from others that the call has been made.
      int finished = -1;
      std::uint64_t epoch = 0;
      for (int i = 0; i < 2 && finished < 0; ++i) {
        const Reply found = state_.store().find(*keys[i]);
        if (found.answer == Answer::completed || found.answer == Answer::failed) finished = i;
        if (found.record.owner.epoch > epoch) epoch = found.record.owner.epoch;
      }
      terms[0].epoch_above = terms[1].epoch_above = epoch;
      LeaseState lease;
      const int start = finished < 0 ? first : finished;
      Way way(state_.store(), *keys[start], terms[start], state_.observers(), &lease, waiting);
      if (!acquire(way, outcome, waiting, lease, *keys[start], arguments...)) {
        if (outcome.verdict() == Verdict::in_doubt) spread_doubt(*keys[1 - start], terms[1 - start]);
        return;
      }
      Run<Store> run(state_.store(), *keys[start], way.reply().record, state_.observers());
      const RunningFrame frame(run.record().owner);
      if (start != first) {
        // It expired in this very moment.
        run.release();
        continue;
      }
      Way other_way(state_.store(), *keys[second], terms[second], state_.observers(), &lease, waiting);
      const Step step = other_way.claim();
      if (step == Step::run) {
        Run<Store> other(state_.store(), *keys[second], other_way.reply().record, state_.observers());
        const RunningFrame other_frame(other.record().owner);
        const bool mine_first = first == 0;
        Invocation<State, R, A...>(state_, outcome)
            .run(mine_first ? run : other, mine_first ? &other : &run, lease, arguments...);
        return;
      }
      if (step == Step::answered && other_way.reply().answer == Answer::in_doubt) {
        run.abandon("the call is in doubt under its other key");
      } else {
        run.release();
      }
      if (step == Step::wait) {
        other_way.wait();
        continue;
      }
      OutcomeAccess::waited(outcome, waiting.waited, options().on_duplicate != OnDuplicate::raise);
      tell(other_way, outcome, lease, *keys[second], arguments...);
      return;
    }
  }

  /// A call that is in doubt under one of its keys is so under both, so that nobody who knows only the other one runs
  /// it.
  void spread_doubt(const Key& key, const Terms& terms) {
    Terms at_once = terms;
    at_once.wait = Duration();
    at_once.take_over = false;
    LeaseState lease;
    Waiting waiting;
    Way way(state_.store(), key, at_once, state_.observers(), &lease, waiting);
    if (way.claim() == Step::run) {
      Run<Store>(state_.store(), key, way.reply().record, state_.observers())
          .abandon("the call is in doubt under its other key");
    }
  }

  static bool before(const Digest& a, const Digest& b) noexcept {
    return std::memcmp(a.bytes, b.bytes, sizeof a.bytes) < 0;
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
};

}  // namespace detail
IDEM_END_NAMESPACE
