// The calls of a OnceOnly client that belong to no group.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/onceonly/check_lock_result.hpp>
#include <idem/onceonly/impl/check_lock_api.hpp>
#include <idem/onceonly/impl/session.hpp>
#include <idem/onceonly/json.hpp>

#include <cstdint>
#include <future>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

IDEM_BEGIN_NAMESPACE
namespace onceonly {

struct UpdateNotificationsOptions {
  std::optional<bool> email = {};
  std::optional<bool> tool_error = {};
  std::optional<bool> run_failure = {};
};

struct EventsOptions {
  std::int64_t limit = 50;
  std::int64_t offset = 0;
};

struct RunTimelineOptions {
  std::int64_t limit = 200;
  std::int64_t offset = 0;
};

struct PostEventOptions {
  std::string run_id = {};  ///< Must not be blank.
  std::string type = {};    ///< Must not be blank.
  std::optional<std::int64_t> ts = {};
  std::optional<std::string> status = {};
  std::optional<std::int64_t> duration_ms = {};
  std::optional<std::string> step = {};
  std::optional<std::string> tool = {};
  std::optional<std::string> req_id = {};
  std::optional<std::string> lease_id = {};
  std::optional<std::string> agent_id = {};
  std::optional<std::string> message = {};
  std::optional<Json> data = {};
  std::optional<Json> extra = {};  ///< An object whose members are merged into the body.
};

namespace impl {

/// Without blanks around it. Throws std::invalid_argument where nothing is left.
inline std::string required_text(std::string_view text, const char* what) {
  constexpr std::string_view blank = " \t\r\n\f\v";
  const std::size_t first = text.find_first_not_of(blank);
  if (first == std::string_view::npos)
    idem::detail::raise(std::invalid_argument(std::string("idem: ") + what + " can't be blank"));
  return std::string(text.substr(first, text.find_last_not_of(blank) - first + 1));
}

template <class T>
void add_member(Json& body, const char* name, const std::optional<T>& value) {
  if (value.has_value()) body[name] = *value;
}

/// What every group of calls is: a handle to the session.
class Calls {
 public:
  explicit Calls(std::shared_ptr<Session> session) noexcept : session_(std::move(session)) {}

  /// For stores and extras, which outlive the client that they were made with as closed ones.
  friend const std::shared_ptr<Session>& session_of(const Calls& calls) noexcept { return calls.session_; }

 protected:
  Session& session() const noexcept { return *session_; }
  const std::shared_ptr<Session>& shared_session() const noexcept { return session_; }

  Json get(std::string path, std::vector<Header> query = {}) const {
    return session().call(get_call(std::move(path), std::move(query)));
  }
  Json post(std::string path, Json body) const { return session().call(post_call(std::move(path), std::move(body))); }

  /// `call(self)` on a thread of the client's, with a copy of the handle that outlives the caller's.
  template <class Self, class F>
  static auto on_thread(const Self& self, F call) {
    return self.session().later([self, call = std::move(call)]() mutable { return call(self); });
  }

 private:
  std::shared_ptr<Session> session_;
};

}  // namespace impl

/// The part of `Client` that handles are made of: everything but `ai` and `gov`.
/// Thread safety: every member from any thread. Errors: see error.hpp; what is refused before it's sent throws
/// std::invalid_argument. An `_async` twin throws the same out of its future, and std::future_error (broken_promise)
/// where the client was closed before the call began.
class ClientCalls : public impl::Calls {
 public:
  using Calls::Calls;

  /// First one wins: `locked`, or `duplicate` where somebody was before.
  CheckLockResult check_lock(const std::string& key, const CheckLockOptions& options = {}) const {
    const std::optional<std::int64_t> ttl = impl::wire_ttl(options.ttl, "CheckLockOptions::ttl");
    const impl::Call call = impl::check_lock_call(key, ttl, options);
    const Response response = session().exchange(call);
    const bool open = session().options().fail_open;
    const std::int64_t seconds = ttl.value_or(0);
    if (response.failure != TransportFailure::none) {
      if (!open || response.failure == TransportFailure::cancelled) impl::raise_failure(response);
      return impl::failed_open(response.failure == TransportFailure::timeout ? "timeout" : "request_error", key,
                               seconds, options.metadata);
    }
    if (response.status >= 500 && open) return impl::failed_open("api_5xx", key, seconds, options.metadata);
    if (response.status != 409 && (response.status < 200 || response.status >= 300))
      impl::raise_status(response, session().secrets_of(call), true);
    return impl::read_check_lock(response, key, seconds, options.metadata);
  }

  std::future<CheckLockResult> check_lock_async(std::string key, CheckLockOptions options = {}) const {
    return on_thread(*this, [key = std::move(key), options = std::move(options)](const ClientCalls& self) {
      return self.check_lock(key, options);
    });
  }

  Json me() const { return get("/me"); }
  std::future<Json> me_async() const {
    return on_thread(*this, [](const ClientCalls& self) { return self.me(); });
  }

  /// At least one of the options has to be set.
  Json update_notifications(const UpdateNotificationsOptions& options) const {
    Json body = Json::object();
    impl::add_member(body, "email_notifications_enabled", options.email);
    impl::add_member(body, "tool_error_notifications_enabled", options.tool_error);
    impl::add_member(body, "run_failure_notifications_enabled", options.run_failure);
    if (body.empty())
      idem::detail::raise(std::invalid_argument("idem: update_notifications needs at least one option"));
    return post("/me/notifications", std::move(body));
  }
  std::future<Json> update_notifications_async(UpdateNotificationsOptions options) const {
    return on_thread(*this, [options](const ClientCalls& self) { return self.update_notifications(options); });
  }

  Json usage(const std::string& kind = "make") const { return get("/usage", {{"kind", kind}}); }
  std::future<Json> usage_async(std::string kind = "make") const {
    return on_thread(*this, [kind = std::move(kind)](const ClientCalls& self) { return self.usage(kind); });
  }

  Json usage_all() const { return get("/usage/all"); }
  std::future<Json> usage_all_async() const {
    return on_thread(*this, [](const ClientCalls& self) { return self.usage_all(); });
  }

  std::vector<Json> events(EventsOptions options = {}) const {
    const Json list = impl::list_in(
        get("/events", {{"limit", std::to_string(options.limit)}, {"offset", std::to_string(options.offset)}}));
    return std::vector<Json>(list.begin(), list.end());
  }
  std::future<std::vector<Json>> events_async(EventsOptions options = {}) const {
    return on_thread(*this, [options](const ClientCalls& self) { return self.events(options); });
  }

  /// Days as the service writes them: "2026-03-02".
  Json metrics(const std::string& from_day, const std::string& to_day) const {
    return get("/metrics", {{"from_day", from_day}, {"to_day", to_day}});
  }
  std::future<Json> metrics_async(std::string from_day, std::string to_day) const {
    return on_thread(*this, [from_day = std::move(from_day), to_day = std::move(to_day)](const ClientCalls& self) {
      return self.metrics(from_day, to_day);
    });
  }

  Json post_event(const PostEventOptions& event) const {
    Json body = Json::object();
    body["run_id"] = impl::required_text(event.run_id, "PostEventOptions::run_id");
    body["type"] = impl::required_text(event.type, "PostEventOptions::type");
    impl::add_member(body, "ts", event.ts);
    impl::add_member(body, "status", event.status);
    impl::add_member(body, "duration_ms", event.duration_ms);
    impl::add_member(body, "step", event.step);
    impl::add_member(body, "tool", event.tool);
    impl::add_member(body, "req_id", event.req_id);
    impl::add_member(body, "lease_id", event.lease_id);
    impl::add_member(body, "agent_id", event.agent_id);
    impl::add_member(body, "message", event.message);
    impl::add_member(body, "data", event.data);
    if (event.extra.has_value()) {
      if (!event.extra->is_object())
        idem::detail::raise(std::invalid_argument("idem: PostEventOptions::extra has to be an object"));
      body.update(*event.extra);
    }
    return post("/events", std::move(body));
  }
  std::future<Json> post_event_async(PostEventOptions event) const {
    return on_thread(*this, [event = std::move(event)](const ClientCalls& self) { return self.post_event(event); });
  }

  Json run_timeline(const std::string& run_id, RunTimelineOptions options = {}) const {
    const std::string run = impl::path_segment(impl::required_text(run_id, "the run id"), "the run id");
    return get("/runs/" + run, {{"limit", std::to_string(options.limit)}, {"offset", std::to_string(options.offset)}});
  }
  std::future<Json> run_timeline_async(std::string run_id, RunTimelineOptions options = {}) const {
    return on_thread(*this, [run_id = std::move(run_id), options](const ClientCalls& self) {
      return self.run_timeline(run_id, options);
    });
  }
};

}  // namespace onceonly
IDEM_END_NAMESPACE
