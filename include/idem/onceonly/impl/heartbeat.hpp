// Extends a lease while something runs.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/duration.hpp>
#include <idem/onceonly/impl/quiet_thread.hpp>
#include <idem/onceonly/transport.hpp>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>

IDEM_BEGIN_NAMESPACE
namespace onceonly {
namespace impl {

/// Calls `beat(cancellation)` on a thread of its own every so often. What it throws is dropped. After `stop`, and the
/// end, it isn't called any more, and a call that was going on has returned: its cancellation is requested, so that
/// this doesn't wait for an answer.
class Heartbeat {
 public:
  template <class Beat>
  Heartbeat(Duration every, const Cancellation* outer, Beat beat) : cancellation_(outer) {
    const auto pause =
        (std::min)(std::chrono::nanoseconds(every.nanoseconds()), std::chrono::nanoseconds(std::chrono::hours(24)));
    thread_ = quiet_thread([this, pause, beat = std::move(beat)]() mutable {
      std::unique_lock lock(mutex_);
      for (;;) {
        if (wakes_.wait_for(lock, pause, [this] { return stopped_; })) return;
        lock.unlock();
        IDEM_TRY {
          beat(cancellation_);
        }
        IDEM_CATCH_ALL {}
        lock.lock();
      }
    });
  }
  Heartbeat(const Heartbeat&) = delete;
  Heartbeat& operator=(const Heartbeat&) = delete;
  ~Heartbeat() { stop(); }

  void stop() noexcept {
    {
      const std::lock_guard lock(mutex_);
      stopped_ = true;
    }
    cancellation_.request();
    wakes_.notify_all();
    if (thread_.joinable()) thread_.join();
  }

 private:
  Cancellation cancellation_;
  std::mutex mutex_;
  std::condition_variable wakes_;
  bool stopped_ = false;
  std::thread thread_;
};

}  // namespace impl
}  // namespace onceonly
IDEM_END_NAMESPACE
