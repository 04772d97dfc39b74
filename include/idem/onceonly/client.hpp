// Client: the OnceOnly service from C++.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/onceonly/ai.hpp>
#include <idem/onceonly/calls.hpp>
#include <idem/onceonly/client_options.hpp>
#include <idem/onceonly/error.hpp>
#include <idem/onceonly/governance.hpp>
#include <idem/onceonly/impl/session.hpp>
#include <idem/onceonly/json.hpp>

#include <memory>
#include <utility>

IDEM_BEGIN_NAMESPACE
namespace onceonly {

/// A client of the OnceOnly service, with a pool of connections and threads of its own. Every call has a form that
/// blocks and one that gives a std::future (`_async`).
///
///     onceonly::Client client{{.api_key = "once_live_…"}};
///     if (client.check_lock("order:123", {.ttl = 300s}).should_proceed()) charge();
///
/// Closing it (`close()`, or its end) interrupts what it is doing, drops asynchronous calls that haven't begun, and
/// waits for those that have; a function that run_fn_async is running is waited for. Calls on a closed client, also
/// through guards and copies of `ai` and `gov`, throw TransportError.
///
/// Thread safety: every member but the end from any thread. Movable; what was moved from can only be destroyed.
class Client : public ClientCalls {
 public:
  /// Throws std::invalid_argument where there is no API key or an option makes no sense.
  explicit Client(ClientOptions options = {}) : Client(std::make_shared<impl::Session>(std::move(options))) {}
  Client(Client&&) noexcept = default;
  Client& operator=(Client&&) = delete;
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  ~Client() { close(); }

  void close() noexcept {
    if (shared_session() != nullptr) shared_session()->close();
  }

  AiCalls ai;           ///< Jobs, tools, and work of the caller's own under a lease.
  GovernanceCalls gov;  ///< Policies, tools and agents.

 private:
  explicit Client(std::shared_ptr<impl::Session> session) : ClientCalls(session), ai(session), gov(session) {}
};

}  // namespace onceonly
IDEM_END_NAMESPACE
