// client.ai: jobs that the service runs, tools that it allows, and work of the caller's own under a lease.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/duration.hpp>
#include <idem/onceonly/ai_options.hpp>
#include <idem/onceonly/ai_results.hpp>
#include <idem/onceonly/calls.hpp>
#include <idem/onceonly/impl/heartbeat.hpp>
#include <idem/onceonly/impl/session.hpp>
#include <idem/onceonly/json.hpp>
#include <idem/options.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <exception>
#include <future>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

IDEM_BEGIN_NAMESPACE
namespace onceonly {

/// Thread safety: every member from any thread. Errors: see ClientCalls.
class AiCalls : public impl::Calls {
 public:
  using Calls::Calls;

  /// Starts a job, or meets the one that has this key.
  AiRun run(const std::string& key, const RunOptions& options = {}) const {
    Json body{{"key", key}};
    impl::add_member(body, "ttl", impl::wire_ttl(options.ttl, "RunOptions::ttl"));
    impl::add_member(body, "metadata", with_run_id(options.metadata, options.run_id, "RunOptions::metadata"));
    return impl::read_job<AiRun>(post("/ai/run", std::move(body)));
  }
  std::future<AiRun> run_async(std::string key, RunOptions options = {}) const {
    return on_thread(*this, [key = std::move(key), options = std::move(options)](const AiCalls& self) {
      return self.run(key, options);
    });
  }

  /// Has an agent's tool called, as far as its policy allows. The call has no key: with `max_retries_429` it's the
  /// service alone that tells a repetition from a second call.
  AiToolResult run_tool(const RunToolOptions& options) const {
    if (options.agent_id.empty() || options.tool.empty())
      idem::detail::raise(std::invalid_argument("idem: run_tool needs RunToolOptions::agent_id and ::tool"));
    Json body{{"agent_id", options.agent_id}, {"tool", options.tool}};
    impl::add_member(body, "args", with_run_id(options.args, options.run_id, "RunToolOptions::args"));
    impl::add_member(body, "spend_usd", options.spend_usd);
    return impl::read_ai_tool_result(post("/ai/run", std::move(body)));
  }
  std::future<AiToolResult> run_tool_async(RunToolOptions options) const {
    return on_thread(*this, [options = std::move(options)](const AiCalls& self) { return self.run_tool(options); });
  }

  AiStatus status(const std::string& key) const { return impl::read_job<AiStatus>(get("/ai/status", {{"key", key}})); }
  std::future<AiStatus> status_async(std::string key) const {
    return on_thread(*this, [key = std::move(key)](const AiCalls& self) { return self.status(key); });
  }

  AiResult result(const std::string& key) const { return impl::read_job<AiResult>(get("/ai/result", {{"key", key}})); }
  std::future<AiResult> result_async(std::string key) const {
    return on_thread(*this, [key = std::move(key)](const AiCalls& self) { return self.result(key); });
  }

  /// Waits until a job has ended, and gives how; ok is false and error_code "timeout" where it hasn't by then. Between
  /// two looks it sleeps as long as the service says. Extends the lease meanwhile where it's given one; that this fails
  /// is no error.
  AiResult wait(const std::string& key, const WaitOptions& options = {}) const {
    idem::detail::check_span(options.timeout, true, "WaitOptions::timeout");
    idem::detail::check_span(options.poll_min, true, "WaitOptions::poll_min");
    idem::detail::check_span(options.poll_max, true, "WaitOptions::poll_max");
    idem::detail::check_span(options.extend_every, true, "WaitOptions::extend_every");
    const std::optional<std::int64_t> ttl = impl::wire_ttl(options.ttl, "WaitOptions::ttl");
    const TimePoint deadline = later(session().now(), options.timeout);
    TimePoint extend_at = session().now();
    for (;;) {
      const AiStatus found = status(key);
      if (found.finished()) return result(key);
      const TimePoint now = session().now();
      if (now >= deadline) return impl::unsuccessful(key, "failed", "timeout");
      if (options.auto_extend && options.lease_id.has_value() && now >= extend_at) {
        extend_quietly(key, *options.lease_id, ttl, nullptr);
        extend_at = later(now, options.extend_every);
      }
      Duration pause = between(found.retry_after_sec, options.poll_min, options.poll_max);
      if (deadline - now < std::chrono::hours(24)) pause = (std::min)(pause, Duration(deadline - now));
      if (!session().pause(pause))
        idem::detail::raise(TransportError("idem: the client was closed", TransportFailure::cancelled));
    }
  }
  std::future<AiResult> wait_async(std::string key, WaitOptions options = {}) const {
    return on_thread(*this, [key = std::move(key), options = std::move(options)](const AiCalls& self) {
      return self.wait(key, options);
    });
  }

  /// `run`, then `wait` with the lease of that run.
  AiResult run_and_wait(const std::string& key, const RunAndWaitOptions& options = {}) const {
    const AiRun started = run(key, {options.ttl, options.metadata, options.run_id});
    return wait(key, {options.timeout, options.poll_min, options.poll_max, options.auto_extend, options.extend_every,
                      started.lease_id, options.ttl});
  }
  std::future<AiResult> run_and_wait_async(std::string key, RunAndWaitOptions options = {}) const {
    return on_thread(*this, [key = std::move(key), options = std::move(options)](const AiCalls& self) {
      return self.run_and_wait(key, options);
    });
  }
  /// With an agent and a tool it is `run_tool`, which answers when the tool has run.
  AiToolResult run_and_wait(const RunToolOptions& options) const { return run_tool(options); }
  std::future<AiToolResult> run_and_wait_async(RunToolOptions options) const {
    return run_tool_async(std::move(options));
  }

  /// Runs `fn()` here, at most once for this key while the service remembers it, and gives the service's result. What
  /// it gives is made JSON (UTF-8, put right where it isn't); what isn't an object becomes `{"value": …}`, void and
  /// null no result. Who doesn't get the lease waits for who has it.
  ///
  /// The lease is extended while fn runs and not after this returns. Where fn throws, `fail(error_code)` is reported
  /// and the exception thrown on. Where fn ran and what it gives can't be made JSON, the key is completed without a
  /// result and that exception thrown. Where fn ran and `complete` fails, its error is thrown: fn isn't run again here,
  /// the lease ends by itself, and what the service makes of the key then is its affair.
  template <class F>
  AiResult run_fn(const std::string& key, F&& fn, const RunFnOptions& options = {}) const {
    idem::detail::check_span(options.extend_every, false, "RunFnOptions::extend_every");
    const std::optional<std::int64_t> ttl = impl::wire_ttl(options.ttl, "RunFnOptions::ttl");
    const Json leased = lease(key, {options.ttl, options.metadata});
    const std::string found = impl::text_of(leased, "status").value_or("");
    if (found == "acquired") {
      const std::string lease_id = impl::text_of(leased, "lease_id").value_or("");
      if (lease_id.empty()) return impl::unsuccessful(key, "failed", "missing_lease_id");
      return run_leased(key, lease_id, ttl, in_time(options, impl::integer_of(leased, "ttl")), fn, options);
    }
    if (found == "completed" || found == "failed") return result(key);
    if (!options.wait_on_conflict)
      return impl::unsuccessful(key, found.empty() ? "in_progress" : found, "not_acquired");
    WaitOptions waiting;
    waiting.timeout = options.timeout;
    waiting.poll_min = options.poll_min;
    waiting.poll_max = options.poll_max;
    return wait(key, waiting);
  }
  template <class F>
  std::future<AiResult> run_fn_async(std::string key, F fn, RunFnOptions options = {}) const {
    return on_thread(*this, [key = std::move(key), fn = std::move(fn), options = std::move(options)](
                                const AiCalls& self) mutable { return self.run_fn(key, fn, options); });
  }

  /// Asks for a lease: `status` says whether it's `acquired`, and then `lease_id` which it is.
  Json lease(const std::string& key, const LeaseOptions& options = {}) const {
    Json body{{"key", key}};
    impl::add_member(body, "ttl", impl::wire_ttl(options.ttl, "LeaseOptions::ttl"));
    impl::add_member(body, "metadata", options.metadata);
    return post("/ai/lease", std::move(body));
  }
  std::future<Json> lease_async(std::string key, LeaseOptions options = {}) const {
    return on_thread(*this, [key = std::move(key), options = std::move(options)](const AiCalls& self) {
      return self.lease(key, options);
    });
  }

  Json extend(const std::string& key, const std::string& lease_id, const ExtendOptions& options = {}) const {
    return extend(key, lease_id, impl::wire_ttl(options.ttl, "ExtendOptions::ttl"), nullptr);
  }
  std::future<Json> extend_async(std::string key, std::string lease_id, ExtendOptions options = {}) const {
    return on_thread(*this, [key = std::move(key), lease_id = std::move(lease_id), options](const AiCalls& self) {
      return self.extend(key, lease_id, options);
    });
  }

  Json complete(const std::string& key, const std::string& lease_id, const CompleteOptions& options = {}) const {
    Json body{{"key", key}, {"lease_id", lease_id}};
    impl::add_member(body, "result", options.result);
    impl::add_member(body, "result_hash", options.result_hash);
    return post("/ai/complete", std::move(body));
  }
  std::future<Json> complete_async(std::string key, std::string lease_id, CompleteOptions options = {}) const {
    return on_thread(*this, [key = std::move(key), lease_id = std::move(lease_id), options = std::move(options)](
                                const AiCalls& self) { return self.complete(key, lease_id, options); });
  }

  Json fail(const std::string& key, const std::string& lease_id, const std::string& error_code,
            const FailOptions& options = {}) const {
    Json body{{"key", key}, {"lease_id", lease_id}, {"error_code", error_code}};
    impl::add_member(body, "error_hash", options.error_hash);
    return post("/ai/fail", std::move(body));
  }
  std::future<Json> fail_async(std::string key, std::string lease_id, std::string error_code,
                               FailOptions options = {}) const {
    return on_thread(*this, [key = std::move(key), lease_id = std::move(lease_id), error_code = std::move(error_code),
                             options = std::move(options)](const AiCalls& self) {
      return self.fail(key, lease_id, error_code, options);
    });
  }

  /// Gives the lease back: nothing happened.
  Json cancel(const std::string& key, const std::string& lease_id, const CancelOptions& options = {}) const {
    Json body{{"key", key}, {"lease_id", lease_id}};
    impl::add_member(body, "reason", options.reason);
    return post("/ai/cancel", std::move(body));
  }
  std::future<Json> cancel_async(std::string key, std::string lease_id, CancelOptions options = {}) const {
    return on_thread(*this, [key = std::move(key), lease_id = std::move(lease_id), options = std::move(options)](
                                const AiCalls& self) { return self.cancel(key, lease_id, options); });
  }

 private:
  Json extend(const std::string& key, const std::string& lease_id, const std::optional<std::int64_t>& ttl,
              const Cancellation* cancellation) const {
    Json body{{"key", key}, {"lease_id", lease_id}};
    impl::add_member(body, "ttl", ttl);
    impl::Call call = impl::post_call("/ai/extend", std::move(body));
    call.patience.cancellation = cancellation;
    return session().call(call);
  }
  void extend_quietly(const std::string& key, const std::string& lease_id, const std::optional<std::int64_t>& ttl,
                      const Cancellation* cancellation) const {
    IDEM_TRY {
      extend(key, lease_id, ttl, cancellation);
    }
    IDEM_CATCH_UNWIND
    IDEM_CATCH_ALL {}
  }

  static std::optional<Json> with_run_id(const std::optional<Json>& object, const std::optional<std::string>& run_id,
                                         const char* what) {
    if (!run_id.has_value()) return object;
    std::string id = impl::required_text(*run_id, "the run id");
    Json with = object.value_or(Json::object());
    if (with.is_null()) with = Json::object();
    if (!with.is_object())
      idem::detail::raise(std::invalid_argument(std::string("idem: a run id needs an object as ") + what));
    with["run_id"] = std::move(id);
    return with;
  }

  static Duration between(const std::optional<std::int64_t>& asked, Duration least, Duration most) noexcept {
    if (most < least) most = least;
    if (!asked.has_value()) return least;
    // Longer than a day makes no difference, and can't overflow.
    const Duration wanted = std::chrono::seconds((std::max)(std::int64_t{0}, (std::min)(*asked, std::int64_t{86400})));
    return (std::min)((std::max)(wanted, least), most);
  }

  /// How often a lease is extended: early enough that it doesn't end before, however long that's asked for. `granted`:
  /// by the service, in seconds.
  static Duration in_time(const RunFnOptions& options, const std::optional<std::int64_t>& granted) noexcept {
    Duration every = (std::min)(options.extend_every, third_of(options.ttl));
    if (granted.has_value() && *granted > 0 && *granted < 86400)
      every = (std::min)(every, third_of(std::chrono::seconds(*granted)));
    return every;
  }
  static Duration third_of(Duration span) noexcept { return std::chrono::nanoseconds(span.nanoseconds() / 3); }

  template <class F>
  AiResult run_leased(const std::string& key, const std::string& lease_id, const std::optional<std::int64_t>& ttl,
                      Duration extend_every, F& fn, const RunFnOptions& options) const {
    std::optional<Json> outcome;
    {
      bool ran = false;
      impl::Heartbeat heartbeat(extend_every, &session().closed(),
                                [&](const Cancellation& cancellation) { extend(key, lease_id, ttl, &cancellation); });
      IDEM_TRY {
        outcome = called(fn, ran);
      }
      IDEM_CATCH_UNWIND
      IDEM_CATCH_ALL {
        heartbeat.stop();
        end_quietly(key, lease_id, ran ? nullptr : &options.error_code);
#if IDEM_EXCEPTIONS
        std::rethrow_exception(std::current_exception());
#endif
      }
    }
    complete(key, lease_id, {outcome, std::nullopt});
    return completed(key, std::move(outcome));
  }

  /// Completed without a result where there's no error code.
  void end_quietly(const std::string& key, const std::string& lease_id, const std::string* error_code) const {
    IDEM_TRY {
      if (error_code == nullptr) {
        complete(key, lease_id);
      } else {
        fail(key, lease_id, *error_code);
      }
    }
    IDEM_CATCH_UNWIND
    IDEM_CATCH_ALL {}
  }

  /// `ran`: whatever is thrown from then on isn't fn's.
  template <class F>
  static std::optional<Json> called(F& fn, bool& ran) {
    if constexpr (std::is_void_v<std::invoke_result_t<F&>>) {
      fn();
      ran = true;
      return std::nullopt;
    } else {
      auto&& given = fn();
      ran = true;
      Json value = encodable(std::forward<decltype(given)>(given));
      if (value.is_null()) return std::nullopt;
      if (value.is_object()) return value;
      Json wrapped = Json::object();
      wrapped["value"] = std::move(value);
      return wrapped;
    }
  }

  /// A text that isn't UTF-8 would keep what has happened from being reported.
  static Json encodable(Json value) {
    IDEM_TRY {
      static_cast<void>(value.dump());
      return value;
    }
    IDEM_CATCH_UNWIND
    IDEM_CATCH_ALL {}
    return Json::parse(value.dump(-1, ' ', false, Json::error_handler_t::replace), nullptr, false);
  }

  /// What the service has of it; its own copy where that can't be fetched, since it is complete in any case.
  AiResult completed(const std::string& key, std::optional<Json> outcome) const {
    IDEM_TRY {
      return result(key);
    }
    IDEM_CATCH_UNWIND
    IDEM_CATCH_ALL {}
    AiResult own;
    own.ok = true;
    own.status = "completed";
    own.key = key;
    own.result = std::move(outcome);
    return own;
  }
};

}  // namespace onceonly
IDEM_END_NAMESPACE
