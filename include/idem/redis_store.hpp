// RedisStore: records on a Redis server, shared by all machines that use it. Needs hiredis.
//
// What it doesn't promise: nothing about a server that evicts keys or that restarts without an append-only file; and a
// failover to a replica forgets what that replica hadn't got: docs/guarantees.md has the numbers. An owner proves that
// it lives by a lease: one that is stopped for longer is in doubt.
#pragma once

#include <idem/clock.hpp>
#include <idem/detail/boot_clock.hpp>
#include <idem/detail/bytes.hpp>
#include <idem/detail/chrono.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/random.hpp>
#include <idem/detail/redis/answers.hpp>
#include <idem/detail/redis/call.hpp>
#include <idem/detail/redis/reach.hpp>
#include <idem/detail/redis/record.hpp>
#include <idem/detail/redis/scan.hpp>
#include <idem/detail/redis/session.hpp>
#include <idem/detail/redis/settings.hpp>
#include <idem/duration.hpp>
#include <idem/event.hpp>
#include <idem/key.hpp>
#include <idem/payload.hpp>
#include <idem/protocol.hpp>
#include <idem/redis_options.hpp>
#include <idem/store.hpp>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>

#include <time.h>  // nanosleep

IDEM_BEGIN_NAMESPACE

/// One key for each record, on a Redis server, on the primary that Sentinel names, or in a cluster;
/// docs/redis-format.md describes it. A claim is one round trip, an outcome one more, a duplicate one. All threads
/// share one connection to each server, on which their commands are sent together; who waits for a running call is
/// woken by a message on another one. A thread of the store's own renews leases.
///
/// Nothing is connected before the first operation, and an operation that gets no answer within `RedisOptions::timeout`
/// is `unavailable` with the reason, so that service resumes by itself.
///
/// Thread safety: everything but moving and destruction may be done from many threads at once. Movable until first
/// used. A child process may use its parent's object: it gets connections of its own. Not for signal handlers.
class RedisStore {
 public:
  static constexpr Keeps keeps = Keeps::bytes;

  /// Throws std::invalid_argument where an option can't be meant, and std::bad_alloc.
  explicit RedisStore(RedisOptions options = {})
      : sessions_(new detail::redis::Sessions(detail::redis::settings_of(options), options.on_event)) {}

  RedisStore(RedisStore&& other) noexcept : sessions_(other.sessions_) { other.sessions_ = nullptr; }
  RedisStore& operator=(RedisStore&& other) noexcept {
    if (this == &other) return *this;
    delete sessions_;
    sessions_ = other.sessions_;
    other.sessions_ = nullptr;
    return *this;
  }
  /// What could not be given back yet gets one more try, for up to `RedisOptions::timeout`.
  ~RedisStore() { delete sessions_; }

  StoreTraits traits() const noexcept {
    const bool injected = sessions_ != nullptr && static_cast<bool>(sessions_->settings.clock);
    return {.keeps = keeps,
            .liveness = Liveness::lease,
            .survives_process = true,
            .clock = injected ? ClockOwner::process : ClockOwner::server};
  }

  /// Counts time in which the machine sleeps, since leases go on meanwhile. About the server's time.
  TimePoint now() const noexcept {
    if (sessions_ == nullptr) return TimePoint{};
    const Clock& clock = sessions_->settings.clock;
    return clock ? clock.now() : at(detail::boot_micros());
  }

  Reply claim(const Key& key, const ClaimRequest& request, LeaseWatch* watch) {
    if (Reply refused; refuses(key, refused)) return refused;
    if (!request.owner) return unavailable("a claim needs an owner");
    Session& session = sessions_->current();
    const Digest digest = key.digest();
    Reply reply;
    IDEM_TRY {
      if (session.keeper.owes(digest)) {
        reply.answer = Answer::in_doubt;
        reply.record.abandoned = true;
        return reply;
      }
      const detail::redis::Span lease(request.lease);
      const detail::redis::Span ttl(request.ttl);
      detail::Bytes tail;
      std::uint8_t head[detail::redis::first_part];
      detail::redis::write_claim(head, tail, digest, key.name(), key.version(), request);
      std::uint8_t above[8];
      detail::store_le64(above, request.epoch_above);
      detail::redis::Call call{&Scripts::claim, digest};
      call.with(bytes(head)).with(detail::redis::view(tail)).with(lease.view()).with(request.take_over ? "1" : "");
      call.with(request.epoch_above != 0 ? bytes(above) : std::string_view{}).with(ttl.view()).with(ttl.millis());
      // By a clock of the user's, too, a claim counts from before it was sent.
      const TimePoint before = now();
      Answered answered = session.runner.run(call, deadline());
      detail::redis::fill_claim(reply, answered, digest, request.owner);
      if (detail::redis::may_stand(reply, answered)) give_back(session, digest, request, reply);
      if (reply.answer == Answer::acquired) held(session, reply, answered, lease, before, request, digest, watch);
    }
    IDEM_CATCH_UNWIND
    IDEM_CATCH_ALL {
      // Whatever was told of the claim: if it reached the server, it's given back.
      reply = unavailable("out of memory");
      give_back(session, digest, request, reply);
    }
    report(session);
    return reply;
  }

  Reply renew(const Key& key, const Ownership& owner, Duration span) {
    const detail::redis::OwnerBytes bytes(owner);
    const detail::redis::Span lease(span);
    detail::redis::Call call{&Scripts::renew};
    return run(key, call.with(bytes.all()).with(lease.view()));
  }

  /// Where the result is larger than an answer may be, the call is completed all the same, and the reply's payload is
  /// of the kind `lost`. After `unavailable` it isn't known whether the outcome will be found.
  Reply complete(const Key& key, const FinishRequest& request) { return finish(key, request, State::completed); }
  /// The same for a failure that is kept.
  Reply fail(const Key& key, const FinishRequest& request) { return finish(key, request, State::failed); }

  Reply release(const Key& key, const Ownership& owner) { return give_up(key, owner, Owed::Kind::release); }
  Reply abandon(const Key& key, const Ownership& owner) { return give_up(key, owner, Owed::Kind::abandon); }

  Reply resolve(const Key& key, const Resolution& found, std::string_view note) {
    if (Reply refused; refuses(key, refused)) return refused;
    const OwnerToken resolver = detail::new_owner_token();
    if (!resolver) return unavailable("the system has no random bytes for an owner token");
    if (found.state == State::in_progress) return unavailable("a doubt is resolved by an outcome");
    const detail::redis::OwnerBytes bytes_of({resolver, 0});
    std::uint8_t expected[8];
    detail::store_le64(expected, found.expected_epoch);
    const detail::redis::Span ttl(found.ttl);
    const detail::redis::Outcome outcome(key.digest(), resolver, found.state, found.source, most_payload(key));
    detail::redis::Call call{&Scripts::resolve};
    call.with(found.expected_epoch != 0 ? bytes(expected) : std::string_view{}).with(bytes_of.token());
    call.with(outcome.state()).with(outcome.kind()).with(ttl.view()).with(outcome.sizes()).with(outcome.payload());
    call.with(ttl.millis());
    Reply reply = run(key, call);
    // Told twice, since the first answer was lost, it finds itself.
    if (reply.answer == Answer::stale && reply.record.owner.token == resolver) reply.answer = Answer::ok;
    if (reply.answer == Answer::ok) {
      reply.payload = outcome.lost();
      tell(EventKind::resolved, key, reply.record, note);
    }
    return reply;
  }

  Reply find(const Key& key) {
    detail::redis::Call call{&Scripts::find};
    call.writes = false;
    return run(key, call);
  }

  Reply erase(const Key& key) {
    detail::redis::Call call{&Scripts::erase};
    Reply reply = run(key, call);
    if (reply.answer == Answer::ok) tell(EventKind::forgotten, key, reply.record, {});
    return reply;
  }

  void wait(const Key& key, std::uint64_t epoch, TimePoint deadline) {
    if (sessions_ == nullptr || !key.valid()) return;
    Session& session = sessions_->current();
    const Digest digest = key.digest();
    const Clock& clock = sessions_->settings.clock;
    if (!clock) {
      session.listener.wait(digest, epoch, boot(deadline));
      return;
    }
    // A clock of the user's wakes nobody, so that it's asked again and again.
    while (clock.now() < deadline) {
      const std::int64_t soon = detail::boot_micros() + sessions_->settings.timeout;
      if (session.errands.look(digest, epoch, soon).result != detail::redis::Look::Result::running) return;
      const timespec pause{0, 1'000'000};
      ::nanosleep(&pause, nullptr);
    }
  }

  /// Calls `each(const RecordView&)` for every record that hasn't expired and can be read, without a lock: it may use
  /// the store. Records made or erased meanwhile may be shown or not, and one may be shown twice while the server's
  /// table shrinks (SCAN); in a cluster, those whose slot moves from node to node meanwhile may be shown twice or not
  /// at all, here and to `purge`, `clear` and `stats`. What keeps any of these from its end is told to `on_event`.
  /// Throws what `each` throws, and std::bad_alloc.
  template <class Each>
  void for_each(Each&& each) {
    visit([&](const detail::StoredRecord& stored, Status status) {
      if (status == Status::absent) return;
      const std::string text = detail::text_of(stored);
      each(RecordView{text, stored.record, status});
    });
  }

  PurgeResult purge(const PurgeOptions& options) {
    PurgeResult result;
    // A span that can't be meant is no choice to lose the only trace of a run.
    const bool doubts = options.in_doubt_older_than && !options.in_doubt_older_than->overflowed() &&
                        options.in_doubt_older_than->nanoseconds() >= 0;
    const detail::redis::Span age(doubts ? *options.in_doubt_older_than : forever);
    result.complete = sweep(
        [&](detail::redis::Call& call) {
          call.script = &Scripts::purge;
          call.with(age.view());
        },
        [&](const Answered& answered) {
          result.expired += answered.number == 1 ? 1 : 0;
          result.in_doubt += answered.number == 2 ? 1 : 0;
        });
    return result;
  }

  /// Of keys with this store's prefix only. Gives the number of records removed.
  std::size_t clear() {
    std::size_t removed = 0;
    sweep([](detail::redis::Call& call) { call.script = &Scripts::erase; },
          [&](const Answered& answered) { removed += answered.number == static_cast<int>(Answer::ok) ? 1 : 0; });
    return removed;
  }

  /// Looks at every record. Expired ones are gone by themselves.
  StoreStats stats() {
    StoreStats stats;
    IDEM_TRY {
      stats.available = visit([&](const detail::StoredRecord& stored, Status status) {
        ++stats.records;
        stats.bytes += detail::redis::value_head + stored.name.size() + stored.payload_size;
        detail::count_status(stats, stored.record, status);
      });
    }
    IDEM_CATCH_UNWIND
    IDEM_CATCH_ALL {
      stats.available = false;
    }
    return stats;
  }

  // What only a store on a server has.

  /// Connects now rather than with the first operation, and makes and removes a record at each server: ok, or
  /// unavailable with what would keep a claim from being made, such as a right that is missing. What is wrong with the
  /// server's settings goes to `on_event`, or is the reason where RedisOptions::unsafe_server refuses it.
  [[nodiscard]] Reply open() {
    if (sessions_ == nullptr) return unavailable("this store was moved from");
    Session& session = sessions_->current();
    Reply reply;
    IDEM_TRY {
      detail::redis::Reason why;
      detail::redis::Reach reach(session.runner, sessions_->settings.link.min_replicas, deadline());
      reply.answer = reach.all(why) ? Answer::ok : Answer::unavailable;
      reply.message = why.view();
    }
    IDEM_CATCH_UNWIND
    IDEM_CATCH_ALL {
      reply = unavailable("out of memory");
    }
    report(session);
    return reply;
  }

 private:
  using Scripts = detail::redis::Scripts;
  using Session = detail::redis::Session;
  using Answered = detail::redis::Answered;
  using Owed = detail::redis::Owed;

  template <std::size_t N>
  static std::string_view bytes(const std::uint8_t (&array)[N]) noexcept {
    return {reinterpret_cast<const char*>(array), N};
  }
  static Owed owed(const Digest& key, const Ownership& owner, Owed::Kind kind) noexcept { return {key, owner, kind}; }

  /// What completes at once can't be given back, so that nobody has to wait for that.
  static void give_back(Session& session, const Digest& key, const ClaimRequest& request, Reply& reply) {
    const Owed debt = owed(key, {request.owner, 0}, Owed::Kind::release);
    if (!request.complete_at_once) return static_cast<void>(session.keeper.owe(debt));
    IDEM_TRY { reply.message += "; the key may be locked all the same, and whoever asks again is a duplicate then"; }
    IDEM_CATCH_UNWIND
    IDEM_CATCH_ALL {}
  }

  static Reply unavailable(std::string_view why) {
    Reply reply;
    detail::redis::refuse(reply, Answer::unavailable, why);
    return reply;
  }

  bool refuses(const Key& key, Reply& reply) const {
    if (sessions_ == nullptr) {
      reply = unavailable("this store was moved from");
    } else if (!key.valid()) {
      reply = unavailable("the key is empty");
    } else {
      return false;
    }
    return true;
  }

  std::int64_t deadline() const noexcept { return detail::boot_micros() + sessions_->settings.timeout; }
  TimePoint at(std::int64_t boot) const noexcept {
    return TimePoint{std::chrono::microseconds{sessions_->clock_offset() + boot}};
  }
  std::int64_t boot(TimePoint moment) const noexcept {
    if (moment == (TimePoint::max)()) return (std::numeric_limits<std::int64_t>::max)();
    return std::int64_t{moment.time_since_epoch().count()} - sessions_->clock_offset();
  }
  std::size_t most_payload(const Key& key) const noexcept {
    return detail::redis::most_payload(sessions_->settings.link.max_reply_bytes, key.name().size());
  }

  /// What follows from a claim that succeeded: it lasts as long as its lease, and is renewed.
  void held(Session& session, Reply& reply, const Answered& answered, const detail::redis::Span& lease,
            TimePoint before, const ClaimRequest& request, const Digest& digest, LeaseWatch* watch) {
    const Ownership owner = reply.record.owner;
    if (answered.replicas < sessions_->settings.link.min_replicas) {
      if (request.complete_at_once) return static_cast<void>(reply = unavailable(detail::redis::too_few_replicas));
      session.keeper.owe(owed(digest, owner, Owed::Kind::release));
      reply = unavailable("fewer replicas than min_replicas asks for have the claim, so that it was given back");
      return;
    }
    if (lease.is_forever() || request.complete_at_once) return;
    // Counted from before the request was sent, by whichever clock judges.
    const bool injected = static_cast<bool>(sessions_->settings.clock);
    const std::int64_t sent_at = injected ? std::int64_t{before.time_since_epoch().count()} : answered.sent_at;
    const std::int64_t sure = sent_at + lease.micros() - detail::redis::lease_margin(lease.micros());
    reply.valid_until = injected ? TimePoint{std::chrono::microseconds{sure}} : at(sure);
    if (watch == nullptr) return;
    if (!session.keeper.add(digest, owner, lease.micros(), sure, watch)) {
      session.keeper.owe(owed(digest, owner, Owed::Kind::release));
      reply = unavailable("the lease can't be kept: there is no memory or no thread for that");
    }
  }

  Reply run(const Key& key, detail::redis::Call& call) {
    if (Reply refused; refuses(key, refused)) return refused;
    Session& session = sessions_->current();
    call.key = key.digest();
    Reply reply;
    Answered answered = session.runner.run(call, deadline());
    IDEM_TRY {
      detail::redis::fill(reply, answered, call.key);
    }
    IDEM_CATCH_UNWIND
    IDEM_CATCH_ALL {
      reply = unavailable("out of memory");
    }
    if (reply.answer == Answer::ok && call.writes && answered.replicas < sessions_->settings.link.min_replicas) {
      reply = unavailable(detail::redis::too_few_replicas);
    }
    report(session);
    return reply;
  }

  Reply finish(const Key& key, const FinishRequest& request, State state) {
    if (Reply refused; refuses(key, refused)) return refused;
    const detail::redis::OwnerBytes owner(request.owner);
    const detail::redis::Span ttl(request.ttl);
    const detail::redis::Outcome outcome(key.digest(), request.owner.token, state, request.source, most_payload(key));
    sessions_->current().keeper.settle(request.owner);
    detail::redis::Call call{&Scripts::finish};
    call.with(owner.all()).with(outcome.state()).with(outcome.kind()).with(ttl.view());
    Reply reply = run(key, call.with(outcome.sizes()).with(outcome.payload()).with(ttl.millis()));
    if (reply.answer == Answer::ok) reply.payload = outcome.lost();
    sessions_->current().keeper.end(request.owner);
    return reply;
  }

  Reply give_up(const Key& key, const Ownership& owner, Owed::Kind kind) {
    if (Reply refused; refuses(key, refused)) return refused;
    Session& session = sessions_->current();
    session.keeper.settle(owner);
    const detail::redis::OwnerBytes bytes_of(owner);
    detail::redis::Call call{&Scripts::give_up};
    Reply reply = run(key, call.with(bytes_of.all()).with(kind == Owed::Kind::release ? "1" : std::string_view{}));
    session.keeper.end(owner);
    if (reply.answer == Answer::unavailable) session.keeper.owe(owed(key.digest(), owner, kind));
    return reply;
  }

  /// False where the server didn't answer to the end.
  template <class See>
  bool visit(See see) {
    if (sessions_ == nullptr) return false;
    const bool complete = each_node([&](detail::redis::Scan& scan) { return scan.records(see); });
    report(sessions_->current());
    return complete;
  }

  /// `go(Scan&)` for every server that holds records.
  template <class Go>
  bool each_node(Go go) {
    detail::redis::Runner& runner = sessions_->current().runner;
    detail::redis::Reason why;
    bool whole = false;
    for (const detail::redis::NodeRef& node : runner.nodes().all(deadline(), whole, why)) {
      detail::redis::Scan scan(runner, node, sessions_->settings.timeout);
      if (go(scan)) continue;
      why = scan.why();
      whole = false;
      break;
    }
    if (!whole) warn(detail::redis::Reason("not all records were gone through: ").add(why.view()).view());
    return whole;
  }

  template <class Prepare, class See>
  bool sweep(Prepare prepare, See see) {
    if (sessions_ == nullptr) return false;
    Session& session = sessions_->current();
    bool complete = false;
    IDEM_TRY {
      complete = each_node([&](detail::redis::Scan& scan) { return scan.calls(prepare, see); });
    }
    IDEM_CATCH_UNWIND
    IDEM_CATCH_ALL {}
    report(session);
    return complete;
  }

  /// Tells what the last connect has found out about the server.
  void report(Session& session) const {
    if (!session.runner.admission().has_news()) return;
    session.runner.admission().take_news([this](std::string_view text) { warn(text); });
  }
  void warn(std::string_view text) const {
    sessions_->on_event(Event{EventKind::store_warning, Key(), 0, 0, text});
  }
  void tell(EventKind kind, const Key& key, const Record& record, std::string_view message) const {
    sessions_->on_event(Event{kind, key, record.owner.epoch, record.attempt, message});
  }

  detail::redis::Sessions* sessions_;
};

static_assert(Store<RedisStore>);

IDEM_END_NAMESPACE
