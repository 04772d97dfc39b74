// The threads that carry out a client's asynchronous calls.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/process.hpp>
#include <idem/onceonly/impl/quiet_thread.hpp>

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <future>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

IDEM_BEGIN_NAMESPACE
namespace onceonly {
namespace impl {

/// Threads that are started when there is something to do and nobody free, up to a limit, and end with `close`.
/// Thread safety: every member from any thread.
class Pool {
 public:
  explicit Pool(std::size_t limit) : state_(std::make_shared<State>()) { state_->limit = limit == 0 ? 1 : limit; }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  ~Pool() { close(); }

  /// Runs `call()` on some thread. Where the pool is closed before it has begun, the future has the error
  /// `std::future_errc::broken_promise`.
  template <class Call>
  std::future<std::invoke_result_t<Call&>> run(Call call) {
    auto task = std::make_unique<TaskOf<Call>>(std::move(call));
    auto future = task->work.get_future();
    if (inherited()) return future;
    State& state = *state_;
    std::unique_ptr<Task> nobodys;
    {
      const std::lock_guard lock(state.mutex);
      if (state.closed) return future;  // the task ends here, and breaks its promise
      state.waiting.push_back(std::move(task));
      if (state.waiting.size() > state.idle && state.threads.size() < state.limit) {
        IDEM_TRY {
          state.threads.push_back(quiet_thread([shared = state_] { work(shared); }));
        }
        IDEM_CATCH_ALL {
          // No further thread is to be had: those that are there do it, and without any nobody would.
          if (state.threads.empty()) {
            nobodys = std::move(state.waiting.back());
            state.waiting.pop_back();
          }
        }
      }
    }
    state.changed.notify_one();
    return future;
  }

  /// In a child of fork there are no such threads, and nobody knows who holds the mutex.
  bool inherited() const noexcept { return idem::detail::process_generation() != generation_; }

  /// Drops what hasn't begun.
  void stop() noexcept {
    if (inherited()) return;
    std::deque<std::unique_ptr<Task>> dropped;
    {
      const std::lock_guard lock(state_->mutex);
      state_->closed = true;
      dropped.swap(state_->waiting);
    }
    state_->changed.notify_all();
  }
  /// The same, and waits for what has begun; not for its own thread, where it's called on one of the pool's.
  void close() noexcept {
    if (inherited()) {
      // Kept for ever: the end of a condition variable waits for those who wait for it.
      if (state_ != nullptr) static_cast<void>(new (std::nothrow) std::shared_ptr<State>(state_));
      return;
    }
    stop();
    std::vector<std::thread> threads;
    {
      const std::lock_guard lock(state_->mutex);
      threads.swap(state_->threads);
    }
    for (std::thread& thread : threads) {
      if (thread.get_id() == std::this_thread::get_id()) {
        thread.detach();
      } else {
        thread.join();
      }
    }
  }

 private:
  struct Task {
    virtual ~Task() = default;
    virtual void run() = 0;
  };
  template <class Call>
  struct TaskOf final : Task {
    explicit TaskOf(Call&& call) : work(std::move(call)) {}
    void run() override { work(); }
    std::packaged_task<std::invoke_result_t<Call&>()> work;
  };

  /// Outlives the pool for as long as a thread needs it.
  struct State {
    std::size_t limit = 1;
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<std::unique_ptr<Task>> waiting;
    std::vector<std::thread> threads;
    std::size_t idle = 0;
    bool closed = false;
  };

  static void work(const std::shared_ptr<State>& state) {
    std::unique_lock lock(state->mutex);
    for (;;) {
      ++state->idle;
      state->changed.wait(lock, [&] { return state->closed || !state->waiting.empty(); });
      --state->idle;
      if (state->closed) return;
      std::unique_ptr<Task> task = std::move(state->waiting.front());
      state->waiting.pop_front();
      lock.unlock();
      task->run();
      task.reset();
      lock.lock();
    }
  }

  std::shared_ptr<State> state_;
  std::uint64_t generation_ = idem::detail::process_generation();
};

}  // namespace impl
}  // namespace onceonly
IDEM_END_NAMESPACE
