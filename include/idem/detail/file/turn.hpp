// Whose turn it is among the threads of one process, with a deadline.
#pragma once

#include <idem/detail/chrono.hpp>
#include <idem/detail/config.hpp>

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>

IDEM_BEGIN_NAMESPACE
namespace detail::file {

/// A lock that gives up at a deadline. Not std::timed_mutex, whose waiting ThreadSanitizer doesn't see with g++ 12.
class Turn {
 public:
  /// False where it wasn't to be had within `micros` microseconds.
  bool take(std::int64_t micros) {
    std::unique_lock lock(mutex_);
    if (taken_) {
      const auto deadline = std::chrono::steady_clock::now() + std::chrono::microseconds(micros);
      ++waiting_;
      const bool free = free_.wait_until(lock, deadline, [this] { return !taken_; });
      --waiting_;
      if (!free) return false;
    }
    taken_ = true;
    return true;
  }

  void give_back() noexcept {
    bool waited_for = false;
    {
      const std::lock_guard lock(mutex_);
      taken_ = false;
      waited_for = waiting_ != 0;
    }
    if (waited_for) free_.notify_one();
  }

 private:
  std::mutex mutex_;
  std::condition_variable free_;
  bool taken_ = false;
  std::size_t waiting_ = 0;
};

}  // namespace detail::file
IDEM_END_NAMESPACE
