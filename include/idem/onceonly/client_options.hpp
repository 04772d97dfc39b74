// Options of a OnceOnly client.
#pragma once

#include <idem/clock.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/shared_object.hpp>
#include <idem/duration.hpp>
#include <idem/onceonly/transport.hpp>

#include <chrono>
#include <concepts>
#include <cstddef>
#include <string>
#include <type_traits>
#include <utility>

IDEM_BEGIN_NAMESPACE
namespace onceonly {

/// A handle to what stands for sleeping, made from anything callable with an idem::Duration: for tests. Empty by
/// default, which stands for sleeping until the time is over or the client is closed. Thread safety: a plain value; the
/// callable is called from many threads at once and must not throw.
class Pause {
 public:
  Pause() noexcept = default;

  template <class F>
  requires(!std::same_as<std::remove_cvref_t<F>, Pause> && std::invocable<std::remove_cvref_t<F>&, Duration>)
      Pause(F&& pause)  // NOLINT: conversion is the point
      : pause_(idem::detail::SharedObject::make<std::remove_cvref_t<F>>(std::forward<F>(pause))),
        call_([](void* object, Duration span) { (*static_cast<std::remove_cvref_t<F>*>(object))(span); }) {}

  explicit operator bool() const noexcept { return call_ != nullptr; }
  /// REQUIRES: not empty.
  void operator()(Duration span) const { call_(pause_.get(), span); }

 private:
  idem::detail::SharedObject pause_;
  void (*call_)(void*, Duration) = nullptr;
};

/// Every field has a default, and their order is part of the interface.
struct ClientOptions {
  /// Empty: the environment's ONCEONLY_API_KEY. Where that is empty, too, no client is made (std::invalid_argument).
  std::string api_key = {};
  /// Empty: the environment's ONCEONLY_BASE_URL, else https://api.onceonly.tech/v1. A URL without a path gets /v1.
  std::string base_url = {};
  Duration timeout = std::chrono::seconds(5);  ///< Of one HTTP request, the connection included.
  std::string user_agent = {};                 ///< Empty: the library's name and version.
  /// check_lock answers "locked" where the service can't be reached: the work is done, and may be done twice. Off: it
  /// throws TransportError or ApiError. Concerns nothing but check_lock.
  bool fail_open = true;
  /// How often a request is sent once more after 429, 500, 502, 503, 504, or no answer at all.
  unsigned max_retries_429 = 0;
  /// Waits before that are `Retry-After` where the answer has it (one of more than a minute isn't waited for), else
  /// min(retry_max_backoff, retry_backoff × 2^attempt).
  Duration retry_backoff = std::chrono::milliseconds(500);
  Duration retry_max_backoff = std::chrono::seconds(5);
  AnyTransport transport = {};  ///< Empty: a CurlTransport of the client's own.

  std::size_t max_async_calls = 16;           ///< Threads for `_async` calls; further ones wait for their turn.
  std::size_t max_response_bytes = 8u << 20;  ///< Larger answers are refused.
  Pause pause = {};                           ///< Instead of sleeping between retries and polls.
  Clock clock = {};                           ///< By which `ai.wait` sees its timeout; by default the monotonic one.
};

}  // namespace onceonly
IDEM_END_NAMESPACE
