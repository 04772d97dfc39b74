// What the OnceOnly service does, apart from HTTP: a request's parts in, an answer out. Keys, leases and jobs are kept by
// idem's own stores.
#pragma once

#include <idem/claim.hpp>
#include <idem/clock.hpp>
#include <idem/duration.hpp>
#include <idem/make_key.hpp>
#include <idem/memory_store.hpp>
#include <idem/testing/lease_store.hpp>

#include <nlohmann/json.hpp>

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace onceonly_server {

using Json = nlohmann::json;

struct Asked {
  std::string method = {};
  std::string path = {};  ///< Behind /v1, decoded.
  std::vector<std::string> segments = {};  ///< Of the path, each decoded by itself.
  std::map<std::string, std::string> query = {};
  std::string api_key = {};
  std::string request_id = {};
  Json body = nullptr;  ///< Discarded where it isn't JSON, null where there is none.
};

struct Told {
  int status = 200;
  Json body = Json::object();
  std::map<std::string, std::string> headers = {};
};

/// How a registered tool is called: address, body and headers in, its answer's body or nothing out.
using CallTool = std::function<std::optional<std::string>(const std::string& url, const std::string& body,
                                                          const std::map<std::string, std::string>& headers)>;

/// Keys that the service knows say by their name what they are for: once_… works; once_disabled, once_forbidden and
/// once_suspended are 403 of a kind each; once_free has no governance (403, feature_not_available); once_tiny may do three
/// paid actions (402). Any other key is 401.
///
/// A job (POST /ai/run with a key) is done after metadata.job_ms (default: at once) and gives metadata as its result, or
/// fails with metadata.job_error. Tools that aren't registered echo their arguments; registered ones are called at their
/// url, signed by HMAC-SHA-256 over timestamp, a dot and the body.
///
/// Thread safety: every member from any thread.
class Service {
 public:
  Service();

  Told answer(const Asked& asked);

  /// Moves the service's clock on.
  void advance(idem::Duration span);
  /// So many requests in each window of the clock; 429 with Retry-After beyond. Zero: no limit.
  void limit_rate(std::uint64_t requests, idem::Duration window);
  void call_tools_by(CallTool call) { call_tool_ = std::move(call); }

 private:
  struct Job {
    idem::TimePoint done_at = {};
    idem::Ownership owner = {};
    Json result = nullptr;
    std::string error = {};
  };
  struct Action {
    idem::TimePoint at = {};
    Json entry = Json::object();
    bool executed = false;
    double spend = 0;
  };
  struct Agent {
    Json policy = nullptr;
    bool enabled = true;
    Json disabled_reason = nullptr;
    Json disabled_at = nullptr;
    std::vector<Action> actions = {};
  };

  idem::TimePoint now() const;
  Told refused(const Asked& asked);
  Told route(const Asked& asked);
  Told check_lock(const Asked& asked);
  Told ai(const Asked& asked, const std::string& what);
  Told lease(const Asked& asked);
  Told run_job(const Asked& asked);
  Told run_tool(const Asked& asked);
  Told with_lease(const Asked& asked, const std::string& what);
  Told look(const Asked& asked, bool whole);
  Told policies(const Asked& asked);
  Told tools(const Asked& asked);
  Told agents(const Asked& asked);
  Told events(const Asked& asked);
  Told usage(const Asked& asked);
  void settle(const std::string& key);
  std::optional<std::string> blocked(Agent& agent, const std::string& tool, double spend) const;
  Json executed(const std::string& tool, const Json& args, bool& good);
  bool charge(const Asked& asked, const char* kind);
  Json described(const std::string& key, const idem::Reply& reply, bool whole);

  mutable std::mutex mutex_;
  std::atomic<std::int64_t> offset_{0};
  idem::MemoryStore locks_;
  idem::MemoryStore calls_;
  idem::testing::LeaseStore leases_;
  std::map<std::string, Job> jobs_;
  std::map<std::string, Agent> agents_;
  std::map<std::pair<std::string, std::string>, Json> tools_;
  std::deque<Json> events_;
  std::map<std::string, std::map<std::string, std::int64_t>> usage_;
  Json notifications_ = {{"email_notifications_enabled", true},
                         {"tool_error_notifications_enabled", true},
                         {"run_failure_notifications_enabled", true}};
  std::uint64_t rate_limit_ = 0;
  idem::Duration rate_window_ = {};
  std::uint64_t rate_used_ = 0;
  idem::TimePoint rate_since_ = {};
  CallTool call_tool_ = {};
};

/// UTC with microseconds, as RFC 3339 writes it.
std::string written(idem::TimePoint time);

}  // namespace onceonly_server
