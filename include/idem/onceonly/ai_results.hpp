// What the calls of `client.ai` give.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/onceonly/json.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

IDEM_BEGIN_NAMESPACE
namespace onceonly {

/// A job that was started or met.
struct AiRun {
  bool ok = false;
  std::string status = {};
  std::string key = {};
  std::optional<std::string> lease_id = {};
  std::int64_t version = 0;
  std::optional<std::int64_t> ttl = {};
  std::optional<std::int64_t> ttl_left = {};
  std::optional<std::string> first_seen_at = {};
  std::optional<std::int64_t> charged = {};
  std::optional<std::int64_t> usage = {};
  std::optional<std::int64_t> limit = {};
  std::optional<std::int64_t> retry_after_sec = {};
  std::optional<std::string> done_at = {};
  std::optional<std::string> error_code = {};
  std::optional<std::string> result_hash = {};
  std::optional<Json> result = {};
  Json raw = Json::object();
};

/// How a job stands.
struct AiStatus {
  bool ok = false;
  std::string status = {};
  std::string key = {};
  std::optional<std::string> lease_id = {};
  std::int64_t version = 0;
  std::optional<std::int64_t> ttl_left = {};
  std::optional<std::string> first_seen_at = {};
  std::optional<std::string> done_at = {};
  std::optional<std::string> result_hash = {};
  std::optional<std::string> error_code = {};
  std::optional<std::int64_t> retry_after_sec = {};
  Json raw = Json::object();

  bool finished() const noexcept { return status == "completed" || status == "failed"; }
};

/// How a job ended, or that it hasn't.
struct AiResult {
  bool ok = false;
  std::string status = {};  ///< completed, failed or in_progress.
  std::string key = {};
  std::optional<Json> result = {};
  std::optional<std::string> result_hash = {};
  std::optional<std::string> error_code = {};
  std::optional<std::string> done_at = {};
  Json raw = Json::object();
};

/// What became of a tool's call.
struct AiToolResult {
  bool ok = false;
  bool allowed = false;
  std::string decision = {};  ///< executed, blocked or dedup.
  std::optional<std::string> policy_reason = {};
  std::optional<std::string> risk_level = {};
  std::optional<Json> result = {};
  Json raw = Json::object();
};

namespace impl {

/// Any of the descriptions of a job: the members that it has.
template <class Described>
Described read_job(Json raw) {
  Described job;
  job.ok = flag_of(raw, "ok").value_or(false);
  job.status = text_of(raw, "status").value_or("");
  job.key = text_of(raw, "key").value_or("");
  job.done_at = text_of(raw, "done_at");
  job.error_code = text_of(raw, "error_code");
  job.result_hash = text_of(raw, "result_hash");
  if constexpr (requires { job.lease_id; }) {
    job.lease_id = text_of(raw, "lease_id");
    job.version = integer_of(raw, "version").value_or(0);
    job.ttl_left = integer_of(raw, "ttl_left");
    job.first_seen_at = text_of(raw, "first_seen_at");
    job.retry_after_sec = integer_of(raw, "retry_after_sec");
  }
  if constexpr (requires { job.charged; }) {
    job.ttl = integer_of(raw, "ttl");
    job.charged = integer_of(raw, "charged");
    job.usage = integer_of(raw, "usage");
    job.limit = integer_of(raw, "limit");
  }
  if constexpr (requires { job.result; }) job.result = object_of(raw, "result");
  job.raw = std::move(raw);
  return job;
}

inline AiToolResult read_ai_tool_result(Json raw) {
  AiToolResult result;
  result.ok = flag_of(raw, "ok").value_or(false);
  result.allowed = flag_of(raw, "allowed").value_or(false);
  result.decision = text_of(raw, "decision").value_or("");
  result.policy_reason = text_of(raw, "policy_reason");
  result.risk_level = text_of(raw, "risk_level");
  result.result = object_of(raw, "result");
  result.raw = std::move(raw);
  return result;
}

inline AiResult unsuccessful(const std::string& key, std::string status, const char* error_code) {
  AiResult result;
  result.status = std::move(status);
  result.key = key;
  result.error_code = error_code;
  return result;
}

}  // namespace impl
}  // namespace onceonly
IDEM_END_NAMESPACE
