// An observer that remembers what it was told.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/event.hpp>

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

IDEM_BEGIN_NAMESPACE
namespace testing {

/// An event, as a value.
struct RecordedEvent {
  EventKind kind = EventKind::claimed;
  std::string key = {};  ///< Key::text().
  std::uint64_t epoch = 0;
  std::uint32_t attempt = 0;
  std::string message = {};
};

/// Goes into `observe(...)` or a store's `.on_event`. A handle: copies share what they remember.
///
///     idem::testing::RecordingObserver seen;
///     auto charge_once = idem::idempotent<"charge">(charge, {}, idem::observe(seen));
///     charge_once(order);
///     assert(seen.count(idem::EventKind::completed) == 1);
///
/// Thread safety: every member from any thread.
class RecordingObserver {
 public:
  RecordingObserver() : shared_(std::make_shared<Shared>()) {}

  void operator()(const Event& event) const {
    RecordedEvent copy{event.kind, event.key.text(), event.epoch, event.attempt, std::string(event.message)};
    const std::lock_guard lock(shared_->mutex);
    shared_->events.push_back(std::move(copy));
    shared_->changed.notify_all();
  }

  std::vector<RecordedEvent> events() const {
    const std::lock_guard lock(shared_->mutex);
    return shared_->events;
  }

  /// Their kinds in the order in which they came.
  std::vector<EventKind> kinds() const {
    const std::lock_guard lock(shared_->mutex);
    std::vector<EventKind> kinds;
    kinds.reserve(shared_->events.size());
    for (const RecordedEvent& event : shared_->events) kinds.push_back(event.kind);
    return kinds;
  }

  std::size_t count(EventKind kind) const {
    const std::lock_guard lock(shared_->mutex);
    return shared_->count(kind);
  }

  /// Waits until there have been `count` events of this kind, so that a test knows how far another thread is. False
  /// when that took longer than `limit`.
  bool wait_for(EventKind kind, std::size_t count = 1, std::chrono::seconds limit = std::chrono::seconds(30)) const {
    std::unique_lock lock(shared_->mutex);
    return shared_->changed.wait_for(lock, limit, [&] { return shared_->count(kind) >= count; });
  }

  void clear() const {
    const std::lock_guard lock(shared_->mutex);
    shared_->events.clear();
  }

 private:
  struct Shared {
    std::size_t count(EventKind kind) const {
      std::size_t found = 0;
      for (const RecordedEvent& event : events) found += event.kind == kind ? 1 : 0;
      return found;
    }

    std::mutex mutex;
    std::condition_variable changed;
    std::vector<RecordedEvent> events;
  };

  std::shared_ptr<Shared> shared_;
};

}  // namespace testing
IDEM_END_NAMESPACE
