// What the OnceOnly client throws. None of these texts holds the API key or a tool's secret, even where the service
// sends it back.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/shared_object.hpp>
#include <idem/onceonly/json.hpp>
#include <idem/onceonly/transport.hpp>

#include <chrono>
#include <optional>
#include <stdexcept>
#include <string>

IDEM_BEGIN_NAMESPACE
namespace onceonly {

/// Base of everything that a call throws, but for std::invalid_argument, which says that nothing was sent.
/// Thread safety: immutable; copies share what they refer to.
class Error : public std::runtime_error {
 public:
  Error(const std::string& message, int status_code, Json detail = nullptr,
        std::optional<std::chrono::milliseconds> retry_after = std::nullopt)
      : std::runtime_error(message),
        detail_(idem::detail::SharedObject::make<Json>(std::move(detail))),
        retry_after_(retry_after),
        status_code_(status_code) {}

  /// Of the answer; 0 where there was none.
  int status_code() const noexcept { return status_code_; }
  /// `detail` of the answer's body where it has one, else the whole body; null where it isn't JSON.
  const Json& detail() const noexcept { return detail_.as<const Json>(); }
  /// What the answer says in `Retry-After`, in seconds.
  std::optional<std::chrono::milliseconds> retry_after() const noexcept { return retry_after_; }

 private:
  idem::detail::SharedObject detail_;
  std::optional<std::chrono::milliseconds> retry_after_;
  int status_code_;
};

/// 401, or a 403 that is about the API key.
class UnauthorizedError : public Error {
  using Error::Error;
};
/// 402: the plan's limit is reached.
class OverLimitError : public Error {
  using Error::Error;
};
/// 422: the service didn't understand the request.
class ValidationError : public Error {
  using Error::Error;
};
/// 429, after the retries.
class RateLimitError : public Error {
  using Error::Error;
};
/// Any other status that isn't a success.
class ApiError : public Error {
  using Error::Error;
};

/// There was no answer. Whether the request was carried out is unknown.
class TransportError : public Error {
 public:
  TransportError(const std::string& message, TransportFailure failure) : Error(message, 0), failure_(failure) {}
  TransportFailure failure() const noexcept { return failure_; }

 private:
  TransportFailure failure_;
};

}  // namespace onceonly
IDEM_END_NAMESPACE
