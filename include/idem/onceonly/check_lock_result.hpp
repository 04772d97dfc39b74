// What check_lock gives, and how it is read from an answer.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/duration.hpp>
#include <idem/onceonly/impl/answer.hpp>
#include <idem/onceonly/json.hpp>
#include <idem/onceonly/transport.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

IDEM_BEGIN_NAMESPACE
namespace onceonly {

struct CheckLockOptions {
  std::optional<Duration> ttl = {};  ///< In whole seconds, rounded up; unset or idem::forever: the plan's default.
  std::optional<Json> metadata = {};
  std::optional<std::string> request_id = {};
};

struct CheckLockResult {
  bool locked = false;     ///< The caller is the first one.
  bool duplicate = false;  ///< Somebody was before.
  std::string key = {};
  std::int64_t ttl = 0;  ///< Seconds; what was asked for where the answer doesn't say.
  std::optional<std::string> first_seen_at = {};
  std::optional<std::string> request_id = {};  ///< "fail-open" where the service couldn't be reached.
  int status_code = 0;                         ///< 0 where the service couldn't be reached.
  Json raw = Json::object();

  bool should_proceed() const noexcept { return locked && !duplicate; }
  /// The service couldn't be reached: nobody holds a lock.
  bool failed_open() const noexcept { return status_code == 0; }
};

namespace impl {

/// Whole seconds, rounded up, as the wire has them.
inline std::int64_t seconds_of(Duration span) noexcept {
  constexpr std::int64_t second = 1'000'000'000;
  return span.nanoseconds() / second + (span.nanoseconds() % second > 0 ? 1 : 0);
}

/// `locked` or `duplicate` out of a text in any case; nothing else says anything.
inline std::optional<bool> locked_by(const std::optional<std::string>& text) {
  if (!text.has_value()) return std::nullopt;
  std::string word;
  for (const char c : *text) {
    if (c != ' ' && c != '\t') word += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  }
  if (word == "locked") return true;
  if (word == "duplicate") return false;
  return std::nullopt;
}

inline std::optional<std::string> header_of(const Response& response, std::string_view name) {
  const std::string* value = response.header(name);
  return value == nullptr ? std::nullopt : std::optional(*value);
}

/// Whether the lock was had, by a success: the body's status says so, else the header, else the body's `success`.
inline std::optional<bool> locked_in(const Json& body, const Response& response) {
  std::optional<bool> locked = locked_by(text_of(body, "status"));
  if (!locked.has_value()) locked = locked_by(header_of(response, "X-OnceOnly-Status"));
  return locked.has_value() ? locked : flag_of(body, "success");
}

/// Of a success or a 409. Where a success doesn't say that the lock was had, it wasn't.
inline CheckLockResult read_check_lock(const Response& response, const std::string& key, std::int64_t ttl,
                                       const std::optional<Json>& metadata) {
  CheckLockResult result;
  result.key = key;
  result.ttl = ttl;
  result.status_code = response.status;
  result.request_id = header_of(response, "X-Request-Id");
  if (response.status == 409) {
    result.duplicate = true;
    Json detail = detail_in(response);
    result.first_seen_at = text_of(detail, "first_seen_at");
    if (!detail.is_null()) result.raw["detail"] = std::move(detail);
  } else {
    result.raw = object_in(response);
    result.locked = locked_in(result.raw, response).value_or(false);
    result.duplicate = !result.locked;
    if (std::optional<std::string> own = text_of(result.raw, "key"); own.has_value()) result.key = std::move(*own);
    result.ttl = integer_of(result.raw, "ttl").value_or(ttl);
    result.first_seen_at = text_of(result.raw, "first_seen_at");
    if (std::optional<std::string> id = text_of(result.raw, "request_id"); id.has_value() && !result.request_id)
      result.request_id = std::move(id);
  }
  if (metadata.has_value() && !result.raw.contains("metadata")) result.raw["metadata"] = *metadata;
  return result;
}

inline CheckLockResult failed_open(const char* reason, const std::string& key, std::int64_t ttl,
                                   const std::optional<Json>& metadata) {
  CheckLockResult result;
  result.locked = true;
  result.key = key;
  result.ttl = ttl;
  result.request_id = "fail-open";
  result.raw = Json{{"fail_open", true}, {"reason", reason}};
  if (metadata.has_value()) result.raw["metadata"] = *metadata;
  return result;
}

}  // namespace impl
}  // namespace onceonly
IDEM_END_NAMESPACE
