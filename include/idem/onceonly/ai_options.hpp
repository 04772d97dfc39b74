// Options of the calls of `client.ai`.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/duration.hpp>
#include <idem/onceonly/json.hpp>

#include <chrono>
#include <optional>
#include <string>

IDEM_BEGIN_NAMESPACE
namespace onceonly {

struct RunOptions {
  std::optional<Duration> ttl = {};
  std::optional<Json> metadata = {};
  std::optional<std::string> run_id = {};  ///< Goes into the metadata. Must not be blank.
};

struct RunToolOptions {
  std::string agent_id = {};  ///< Must not be empty.
  std::string tool = {};      ///< Must not be empty.
  std::optional<Json> args = {};
  std::optional<double> spend_usd = {};
  std::optional<std::string> run_id = {};  ///< Goes into the arguments. Must not be blank.
};

struct WaitOptions {
  Duration timeout = std::chrono::seconds(60);
  Duration poll_min = std::chrono::milliseconds(500);  ///< Between two looks at the status, at least and at most; the
  Duration poll_max = std::chrono::seconds(5);         ///< service says how long within these.
  bool auto_extend = true;                             ///< Extends the lease, where there is a lease_id.
  Duration extend_every = std::chrono::seconds(30);
  std::optional<std::string> lease_id = {};
  std::optional<Duration> ttl = {};  ///< Of the extended lease.
};

struct RunAndWaitOptions {
  std::optional<Duration> ttl = {};
  std::optional<Json> metadata = {};
  std::optional<std::string> run_id = {};
  Duration timeout = std::chrono::seconds(60);
  Duration poll_min = std::chrono::milliseconds(500);
  Duration poll_max = std::chrono::seconds(5);
  bool auto_extend = true;
  Duration extend_every = std::chrono::seconds(30);
};

struct RunFnOptions {
  Duration ttl = std::chrono::seconds(300);  ///< Of the lease; extended while the function runs.
  std::optional<Json> metadata = {};
  Duration extend_every = std::chrono::seconds(30);  ///< Never later than a third of the lease.
  bool wait_on_conflict = true;                      ///< For whoever holds the lease; otherwise `not_acquired` at once.
  Duration timeout = std::chrono::seconds(60);       ///< Of this waiting.
  Duration poll_min = std::chrono::milliseconds(500);
  Duration poll_max = std::chrono::seconds(5);
  std::string error_code = "fn_error";  ///< What is reported where the function throws.
};

struct LeaseOptions {
  std::optional<Duration> ttl = {};
  std::optional<Json> metadata = {};
};

struct ExtendOptions {
  std::optional<Duration> ttl = {};
};

struct CompleteOptions {
  std::optional<Json> result = {};
  std::optional<std::string> result_hash = {};
};

struct FailOptions {
  std::optional<std::string> error_hash = {};
};

struct CancelOptions {
  std::optional<std::string> reason = {};
};

}  // namespace onceonly
IDEM_END_NAMESPACE
