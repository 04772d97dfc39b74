// What carries a request to the OnceOnly service and its answer back.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/duration.hpp>

#include <atomic>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

IDEM_BEGIN_NAMESPACE
namespace onceonly {

struct Header {
  std::string name = {};
  std::string value = {};
};

/// Says that nobody waits for an answer any more. Thread safety: every member from any thread.
class Cancellation {
 public:
  /// Also asked for when `outer` is. REQUIRES: it outlives this.
  explicit Cancellation(const Cancellation* outer = nullptr) noexcept : outer_(outer) {}
  Cancellation(const Cancellation&) = delete;
  Cancellation& operator=(const Cancellation&) = delete;

  void request() noexcept { requested_.store(true); }
  bool requested() const noexcept { return requested_.load() || (outer_ != nullptr && outer_->requested()); }

 private:
  std::atomic<bool> requested_{false};
  const Cancellation* outer_;
};

/// One HTTP request, ready to be sent: everything in it is encoded, and no header holds a line break.
struct Request {
  std::string method = {};
  std::string url = {};
  std::vector<Header> headers = {};  ///< Among them `Authorization`, which belongs in no log.
  std::string body = {};
  Duration timeout = std::chrono::seconds(5);  ///< For all of it, from the name's resolution to the last byte.
  std::size_t max_response_bytes = 8u << 20;   ///< Of headers and body together.
  const Cancellation* cancellation = nullptr;  ///< Looked at every now and then.
};

/// Why there is no answer.
enum class TransportFailure : std::uint8_t {
  none = 0,       ///< There is one.
  timeout = 1,    ///< It didn't come in time. Whether the request was carried out is unknown.
  network = 2,    ///< It couldn't be had otherwise. Unknown, too.
  too_large = 3,  ///< It is larger than max_response_bytes.
  cancelled = 4,  ///< Nobody waits for it any more.
};

/// What came back: a status from 100 on with `failure` none, or no status and a failure.
struct Response {
  int status = 0;
  std::vector<Header> headers = {};
  std::string body = {};
  TransportFailure failure = TransportFailure::none;
  std::string message = {};  ///< Of a failure: what happened. Holds no part of the request.

  /// The value of a header, whose name is compared without regard to case; nullptr where there is none.
  const std::string* header(std::string_view name) const noexcept {
    const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
    for (const Header& one : headers) {
      if (one.name.size() != name.size()) continue;
      bool same = true;
      for (std::size_t i = 0; i < name.size() && same; ++i) same = lower(one.name[i]) == lower(name[i]);
      if (same) return &one.value;
    }
    return nullptr;
  }
};

/// A transport promises:
///
///  1. `send` may be called from any number of threads at once; it returns when the answer is there or can't be had.
///  2. It sends the request once. Repeating is the client's affair, and a redirection an answer like any other:
///     following it would hand the key to somebody else.
///  3. It gives up at the timeout, and soon after the cancellation is requested, where there is one.
///  4. It keeps no more than max_response_bytes of an answer.
///  5. An answer that can't be had is told by `failure`, not by an exception; one that it throws all the same counts as
///  a
///     network failure, and its text is dropped, since it may hold the key.
template <class T>
concept Transport = requires(T& transport, const Request& request) {
  { transport.send(request) } -> std::same_as<Response>;
};

/// A handle to any transport: made from an rvalue (owned) or a std::shared_ptr (shared). Copies refer to the same one.
/// Empty by default, which stands for the client's own choice. Thread safety: that of the transport.
class AnyTransport {
 public:
  AnyTransport() noexcept = default;

  template <class T>
  requires(!std::same_as<std::remove_cvref_t<T>, AnyTransport> && Transport<std::remove_cvref_t<T>>)
      AnyTransport(T&& transport)  // NOLINT: conversion is the point
      : AnyTransport(std::make_shared<std::remove_cvref_t<T>>(std::forward<T>(transport))) {}
  template <Transport T>
  AnyTransport(std::shared_ptr<T> transport)  // NOLINT: conversion is the point
      : send_([](void* object, const Request& request) { return static_cast<T*>(object)->send(request); }),
        transport_(std::move(transport)) {}

  explicit operator bool() const noexcept { return transport_ != nullptr; }

  /// REQUIRES: not empty.
  Response send(const Request& request) const {
    IDEM_TRY {
      Response response = send_(transport_.get(), request);
      if (response.failure == TransportFailure::none && response.status < 100) {
        response.failure = TransportFailure::network;
        response.message = "the transport gave no answer";
      }
      return response;
    }
    IDEM_CATCH_UNWIND
    IDEM_CATCH_ALL {}
    Response none;
    none.failure = TransportFailure::network;
    none.message = "the transport threw an exception";
    return none;
  }

 private:
  Response (*send_)(void*, const Request&) = nullptr;
  std::shared_ptr<void> transport_;
};

}  // namespace onceonly
IDEM_END_NAMESPACE
