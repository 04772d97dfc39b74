// Options of a RemoteStore.
#pragma once

#include <idem/clock.hpp>
#include <idem/detail/config.hpp>
#include <idem/duration.hpp>
#include <idem/event.hpp>

#include <chrono>
#include <string>

IDEM_BEGIN_NAMESPACE
namespace extra {
struct rerun_consent;  // of extras.hpp, which no store includes
}  // namespace extra

namespace onceonly {

struct RemoteStoreOptions {
  std::string prefix = "idem:";  ///< Before each key's text, as the service sees it.
  /// How long a lease is kept on a key in doubt, which others see as running meanwhile. Whole seconds.
  Duration doubt_lease = std::chrono::seconds(5);
  Duration poll_min = std::chrono::milliseconds(100);  ///< Between two looks of who waits for a run elsewhere, growing
  Duration poll_max = std::chrono::seconds(2);         ///< up to this.
  EventHandler on_event = {};                          ///< Told what was done by hand (resolved and forgotten).
  Clock clock = {};  ///< For deadlines of waiting. The service judges leases by its own.
};

struct AllowUndetectedReruns {
  using idem_extra = extra::rerun_consent;
  constexpr AllowUndetectedReruns operator()() const noexcept {
    return {};
  }  // so that it may be written as a call, too
};

/// For a guard on a store that can't always tell a key that was left in doubt from one that is free: such a call runs
/// again without anybody being told.
inline constexpr AllowUndetectedReruns allow_undetected_reruns{};

}  // namespace onceonly
IDEM_END_NAMESPACE
