// A place where a thread stops until a test lets it pass.
#pragma once

#include <idem/detail/config.hpp>

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>

IDEM_BEGIN_NAMESPACE
namespace testing {

/// Forces an order on threads without sleeping: one calls `pass`, the test waits until it got there, does what is to
/// happen meanwhile, and opens. A handle: copies are one gate.
/// Thread safety: every member from any thread.
class Gate {
 public:
  Gate() : shared_(std::make_shared<Shared>()) {}

  /// Waits until the gate is open.
  void pass() const {
    std::unique_lock lock(shared_->mutex);
    shared_->reached = true;
    shared_->changed.notify_all();
    shared_->changed.wait(lock, [&] { return shared_->open; });
  }

  /// Waits until somebody stands at the gate or has passed it. False when that took longer than `limit`.
  bool wait_until_reached(std::chrono::seconds limit = std::chrono::seconds(30)) const {
    std::unique_lock lock(shared_->mutex);
    return shared_->changed.wait_for(lock, limit, [&] { return shared_->reached; });
  }

  void open() const {
    const std::lock_guard lock(shared_->mutex);
    shared_->open = true;
    shared_->changed.notify_all();
  }

 private:
  struct Shared {
    std::mutex mutex;
    std::condition_variable changed;
    bool reached = false;
    bool open = false;
  };

  std::shared_ptr<Shared> shared_;
};

}  // namespace testing
IDEM_END_NAMESPACE
