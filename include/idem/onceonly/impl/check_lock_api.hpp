// check-lock as it is sent, and what its answer means to those who don't want an exception.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/duration.hpp>
#include <idem/onceonly/check_lock_result.hpp>
#include <idem/onceonly/impl/answer.hpp>
#include <idem/onceonly/impl/session.hpp>
#include <idem/onceonly/json.hpp>
#include <idem/onceonly/transport.hpp>
#include <idem/options.hpp>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <utility>

IDEM_BEGIN_NAMESPACE
namespace onceonly {
namespace impl {

/// The ttl as the wire has it. Throws std::invalid_argument for one that makes no sense.
inline std::optional<std::int64_t> wire_ttl(const std::optional<Duration>& ttl, const char* what) {
  if (!ttl.has_value() || ttl->is_forever()) return std::nullopt;
  idem::detail::check_span(*ttl, false, what);
  return seconds_of(*ttl);
}

inline Call check_lock_call(const std::string& key, const std::optional<std::int64_t>& ttl,
                            const CheckLockOptions& options) {
  Json body = Json::object();
  body["key"] = key;
  if (ttl.has_value()) body["ttl"] = *ttl;
  if (options.metadata.has_value()) body["metadata"] = *options.metadata;
  Call call = post_call("/check-lock", std::move(body));
  call.request_id = options.request_id.value_or("");
  return call;
}

/// What check-lock says. Nothing fails open here.
struct LockTold {
  enum class Kind : std::uint8_t { locked, duplicate, down, refused };
  Kind kind = Kind::down;
  CheckLockResult result = {};  ///< Of locked and duplicate.
  std::string message = {};     ///< Of down and refused.
  bool maybe_own = false;       ///< The lock may be the caller's, by a request whose answer was lost.
};

/// `ttl`: forever is as long as the wire can say, since leaving it out would leave it to the plan.
inline LockTold lock_at(Session& session, const std::string& key, Duration ttl, std::optional<Json> metadata) {
  constexpr std::int64_t longest = (std::numeric_limits<std::int32_t>::max)();
  const std::int64_t seconds = ttl.is_forever() ? longest : (std::min)(seconds_of(ttl), longest);
  const Call call = check_lock_call(key, seconds, {std::nullopt, std::move(metadata), std::nullopt});
  LockTold told;
  const Response response = session.exchange(call, &told.maybe_own);
  if (response.failure != TransportFailure::none) {
    told.maybe_own = true;
    told.message = "no answer from the OnceOnly service: " + response.message;
    return told;
  }
  const bool success = response.status >= 200 && response.status < 300;
  if (success && !locked_in(object_in(response), response).has_value()) {
    // Of something between here and the service, perhaps: not a reason to call the work done.
    told.kind = LockTold::Kind::refused;
    told.maybe_own = true;
    told.message = "the OnceOnly service's answer doesn't say whether the lock was had";
    return told;
  }
  if (success || response.status == 409) {
    told.result = read_check_lock(response, key, seconds, std::nullopt);
    told.kind = told.result.locked ? LockTold::Kind::locked : LockTold::Kind::duplicate;
    return told;
  }
  told.kind = response.status >= 500 ? LockTold::Kind::down : LockTold::Kind::refused;
  told.maybe_own = told.maybe_own || told.kind == LockTold::Kind::down;
  told.message = refusal_in(response, session.secrets_of(call));
  return told;
}

}  // namespace impl
}  // namespace onceonly
IDEM_END_NAMESPACE
