// A thread that tries something again and again until it is done, and is there only for that long.
#pragma once

#include <idem/detail/background_thread.hpp>
#include <idem/detail/chrono.hpp>
#include <idem/detail/config.hpp>

#include <condition_variable>
#include <mutex>

IDEM_BEGIN_NAMESPACE
namespace detail::file {

/// Thread safety: `start` from any thread. Children of fork have no such thread: each makes an object of its own.
class Retrier {
 public:
  /// Tries until then; false where it wants to be called again.
  using Step = bool (*)(void* subject);

  Retrier() = default;
  Retrier(const Retrier&) = delete;
  Retrier& operator=(const Retrier&) = delete;
  /// Waits for a try that is under way.
  ~Retrier() {
    {
      const std::lock_guard guard(mutex_);
      stopped_ = true;
    }
    wake_.notify_all();
    thread_.join();
  }

  /// From now on `step(subject)` is called, at first soon and then once a second, until it says true. Where no thread
  /// is to be had nothing happens: whoever comes by next does what is to be done.
  void start(void* subject, Step step) {
    const std::lock_guard guard(mutex_);
    asked_ = true;
    if (running_ || stopped_) return;
    thread_.join();  // it has ended, or is about to
    subject_ = subject;
    step_ = step;
    running_ = thread_.start([](void* self) { static_cast<Retrier*>(self)->run(); }, this);
  }

 private:
  void run() {
    auto pause = std::chrono::milliseconds(20);
    std::unique_lock guard(mutex_);
    for (;;) {
      wake_.wait_until(guard, std::chrono::steady_clock::now() + pause, [this] { return stopped_; });
      if (stopped_) return;
      asked_ = false;
      guard.unlock();
      const bool done = step_(subject_);
      guard.lock();
      if (done && !asked_) {
        running_ = false;
        return;
      }
      pause = pause * 2 < std::chrono::milliseconds(1000) ? pause * 2 : std::chrono::milliseconds(1000);
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  BackgroundThread thread_;
  void* subject_ = nullptr;
  Step step_ = nullptr;
  bool asked_ = false;  // since the last try began
  bool running_ = false;
  bool stopped_ = false;
};

}  // namespace detail::file
IDEM_END_NAMESPACE
