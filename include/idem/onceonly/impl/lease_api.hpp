// The lease calls of the OnceOnly service as a store needs them: told apart by what they mean, without exceptions.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/duration.hpp>
#include <idem/onceonly/impl/answer.hpp>
#include <idem/onceonly/impl/session.hpp>
#include <idem/onceonly/json.hpp>
#include <idem/onceonly/transport.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

IDEM_BEGIN_NAMESPACE
namespace onceonly {
namespace impl {

/// What an answer about a lease means.
enum class Meaning : std::uint8_t {
  done,       ///< The operation was carried out.
  acquired,   ///< The lease is the caller's.
  running,    ///< Somebody holds a lease.
  lapsed,     ///< A lease ended without an outcome.
  completed,  ///< There is an outcome.
  failed,
  absent,     ///< The service knows nothing of the key.
  not_held,   ///< The lease named isn't the key's (any more).
  too_large,  ///< The service doesn't take that much.
  refused,    ///< The service answered, and won't: a wrong key, a limit, something unknown.
  down,       ///< No answer, or that of a broken service. Whether it was carried out is unknown.
};

struct Told {
  Meaning meaning = Meaning::down;
  Json body = Json::object();
  std::string message = {};            ///< Of refused and down.
  std::optional<TimePoint> date = {};  ///< The service's own time, to the second.
};

/// `2026-03-02T12:34:56.789Z`, also with an offset, as microseconds; nothing for anything else.
inline std::optional<TimePoint> time_in(std::string_view text) {
  std::size_t at = 0;
  const auto number = [&](std::size_t digits) -> std::int64_t {
    std::int64_t value = 0;
    for (std::size_t i = 0; i < digits; ++i, ++at) {
      if (at >= text.size() || text[at] < '0' || text[at] > '9') return -1;
      value = value * 10 + (text[at] - '0');
    }
    return value;
  };
  const auto skip = [&](std::string_view any) {
    const bool there = at < text.size() && any.find(text[at]) != std::string_view::npos;
    if (there) ++at;
    return there;
  };
  std::int64_t part[6];
  const std::string_view behind[6] = {"-", "-", "Tt ", ":", ":", ""};
  for (std::size_t i = 0; i < 6; ++i) {
    part[i] = number(i == 0 ? 4 : 2);
    if (part[i] < 0 || (i < 5 && !skip(behind[i]))) return std::nullopt;
  }
  if (part[1] < 1 || part[1] > 12 || part[2] < 1 || part[2] > 31 || part[3] > 23 || part[4] > 59 || part[5] > 60)
    return std::nullopt;
  std::int64_t micros = 0;
  if (skip(".")) {
    std::int64_t digit = 100'000;
    for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at, digit /= 10)
      micros += (text[at] - '0') * digit;
  }
  std::int64_t offset = 0;
  if (at < text.size() && (text[at] == '+' || text[at] == '-')) {
    const std::int64_t sign = text[at++] == '-' ? -1 : 1;
    const std::int64_t hours = number(2);
    skip(":");
    const std::int64_t minutes = number(2);
    if (hours < 0 || minutes < 0) return std::nullopt;
    offset = sign * (hours * 60 + minutes) * 60;
  } else {
    skip("Zz");
  }
  if (at != text.size()) return std::nullopt;
  // Days since 1970 of the proleptic Gregorian calendar, counted in years that begin in March.
  const std::int64_t year = part[0] - (part[1] <= 2 ? 1 : 0);
  const std::int64_t month = (part[1] + 9) % 12;
  const std::int64_t days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + part[2] - 719469;
  const std::int64_t seconds = ((days * 24 + part[3]) * 60 + part[4]) * 60 + part[5] - offset;
  return TimePoint(std::chrono::microseconds(seconds * 1'000'000 + micros));
}

/// The header `Date` (RFC 9110): `Sun, 06 Nov 1994 08:49:37 GMT`.
inline std::optional<TimePoint> date_in(const std::string* header) {
  if (header == nullptr || header->size() < 29) return std::nullopt;
  constexpr std::string_view months = "JanFebMarAprMayJunJulAugSepOctNovDec";
  const std::size_t month = months.find(header->substr(8, 3));
  if (month == std::string_view::npos || month % 3 != 0) return std::nullopt;
  const std::string number = std::to_string(month / 3 + 101).substr(1);
  return time_in(header->substr(12, 4) + "-" + number + "-" + header->substr(5, 2) + "T" + header->substr(17, 8) + "Z");
}

/// Thread safety: every member from any thread.
class LeaseApi {
 public:
  explicit LeaseApi(std::shared_ptr<Session> session) noexcept : session_(std::move(session)) {}

  Session& session() const noexcept { return *session_; }

  Told lease(const std::string& key, std::int64_t ttl, Json metadata) const {
    Json body{{"key", key}, {"ttl", ttl}};
    body["metadata"] = std::move(metadata);
    Told told = state(post("/ai/lease", std::move(body)));
    if (told.meaning == Meaning::acquired && text_of(told.body, "lease_id").value_or("").empty())
      told = {Meaning::refused, std::move(told.body), "the service granted a lease without an id", std::nullopt};
    return told;
  }
  Told extend(const std::string& key, const std::string& lease_id, std::int64_t ttl,
              const Patience& patience = {}) const {
    return own(post("/ai/extend", Json{{"key", key}, {"lease_id", lease_id}, {"ttl", ttl}}, patience), "in_progress");
  }
  Told complete(const std::string& key, const std::string& lease_id, Json result, std::string hash) const {
    Json body{{"key", key}, {"lease_id", lease_id}, {"result_hash", std::move(hash)}};
    body["result"] = std::move(result);
    return own(post("/ai/complete", std::move(body)), "completed");
  }
  Told fail(const std::string& key, const std::string& lease_id, const char* error_code) const {
    return own(post("/ai/fail", Json{{"key", key}, {"lease_id", lease_id}, {"error_code", error_code}}), "failed");
  }
  Told cancel(const std::string& key, const std::string& lease_id, const char* reason,
              const Patience& patience = {}) const {
    return own(post("/ai/cancel", Json{{"key", key}, {"lease_id", lease_id}, {"reason", reason}}, patience),
               "cancelled");
  }
  Told status(const std::string& key) const { return state(get("/ai/status", key)); }
  Told result(const std::string& key) const { return state(get("/ai/result", key)); }

 private:
  Response get(const char* path, const std::string& key) const {
    return session_->exchange(get_call(path, {{"key", key}}));
  }
  Response post(const char* path, Json body, const Patience& patience = {}) const {
    Call call = post_call(path, std::move(body));
    call.patience = patience;
    return session_->exchange(call);
  }

  /// What isn't a success.
  Told trouble(const Response& response) const {
    Told told;
    if (response.failure != TransportFailure::none) {
      told.message = "no answer from the OnceOnly service: " + response.message;
      // What can't be read says as little as what didn't come; but asking again would give the same.
      if (response.failure == TransportFailure::too_large) told.meaning = Meaning::refused;
      return told;
    }
    told.meaning = response.status >= 500 ? Meaning::down : Meaning::refused;
    told.message = refusal_in(response, session_->secrets_of(Call{}));
    return told;
  }

  static bool good(const Response& response) noexcept {
    return response.failure == TransportFailure::none && response.status >= 200 && response.status < 300;
  }

  /// Of operations of a lease's holder. `afterwards`: how the key stands when it was carried out. Who answers without
  /// an object isn't the service, and whoever says that it isn't ok has to be asked how the key stands.
  Told own(const Response& response, std::string_view afterwards) const {
    if (good(response)) {
      const Json body = parse_json(response.body);
      if (!body.is_object() && response.status != 204)
        return {Meaning::down, Json::object(), "the OnceOnly service's answer isn't a JSON object", {}};
      const bool done = flag_of(body, "ok").value_or(true) || text_of(body, "status") == afterwards;
      return {
          done ? Meaning::done : Meaning::not_held, Json::object(), "the OnceOnly service says that it isn't ok", {}};
    }
    Told told = trouble(response);
    if (response.status == 409 || response.status == 404 || response.status == 410) told.meaning = Meaning::not_held;
    if (response.status == 413 || response.status == 422) told.meaning = Meaning::too_large;
    return told;
  }

  /// Of what tells how a key stands.
  Told state(const Response& response) const {
    if (!good(response)) {
      Told told = trouble(response);
      if (response.status == 404) told.meaning = Meaning::absent;
      return told;
    }
    Told told{Meaning::refused, object_in(response), {}, date_in(response.header("Date"))};
    const std::string status = text_of(told.body, "status").value_or("");
    if (status == "acquired") {
      told.meaning = Meaning::acquired;
    } else if (status == "completed") {
      told.meaning = Meaning::completed;
    } else if (status == "failed") {
      told.meaning = Meaning::failed;
    } else if (status == "in_progress" || status == "running" || status == "locked" || status == "leased") {
      told.meaning = integer_of(told.body, "ttl_left").value_or(1) > 0 ? Meaning::running : Meaning::lapsed;
    } else if (status == "expired" || status == "lapsed" || status == "abandoned" || status == "stale") {
      told.meaning = Meaning::lapsed;
    } else if (status == "cancelled" || status == "canceled" || status == "not_found" || status == "released") {
      told.meaning = Meaning::absent;
    } else {
      // Taken for nothing that it might not be.
      told.message = "the OnceOnly service answered with a status that idem doesn't know";
    }
    return told;
  }

  std::shared_ptr<Session> session_;
};

}  // namespace impl
}  // namespace onceonly
IDEM_END_NAMESPACE
