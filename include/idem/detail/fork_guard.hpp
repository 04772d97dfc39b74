// Descriptors that a forked child must not keep: a lock lives as long as any copy of what it was taken through, and so
// does a connection.
#pragma once

#include <idem/detail/cancellation.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/process.hpp>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <new>

#include <pthread.h>  // pthread_atfork
#include <unistd.h>

IDEM_BEGIN_NAMESPACE
namespace detail {

// One per descriptor, found by the handler in a child. Nodes are used again and never freed, so that the handler can
// walk the list whatever the other threads were doing when the process was copied.
struct ForkNode {
  std::atomic<int> fd{-1};
  std::atomic<bool> used{true};
  ForkNode* next = nullptr;
};

struct ForkList {
  std::atomic<ForkNode*> first{nullptr};
  std::atomic<bool> registered{false};
};

inline constinit ForkList fork_list;

/// Closes a descriptor, if it is one. Never tried again: after EINTR the number may already be somebody else's. Keeps
/// errno.
inline void close_quietly(int fd) noexcept {
  if (fd < 0) return;
  const NoCancellation shield;
  const int errno_before = errno;
  ::close(fd);
  errno = errno_before;
}

inline void close_in_child() noexcept {
  for (ForkNode* node = fork_list.first.load(std::memory_order_acquire); node != nullptr; node = node->next) {
    close_quietly(node->fd.exchange(-1, std::memory_order_relaxed));
  }
}

/// A node of the list for the caller alone; null without memory.
inline ForkNode* take_fork_node() noexcept {
  for (ForkNode* node = fork_list.first.load(std::memory_order_acquire); node != nullptr; node = node->next) {
    bool expected = false;
    if (!node->used.load(std::memory_order_relaxed) &&
        node->used.compare_exchange_strong(expected, true, std::memory_order_acquire, std::memory_order_relaxed)) {
      return node;
    }
  }
  ForkNode* const node = new (std::nothrow) ForkNode;
  if (node == nullptr) return nullptr;
  node->next = fork_list.first.load(std::memory_order_relaxed);
  while (
      !fork_list.first.compare_exchange_weak(node->next, node, std::memory_order_release, std::memory_order_relaxed)) {
  }
  return node;
}

/// Owns a descriptor that is closed in every child of fork(3), before fork returns there. Children made by clone(2) or
/// _Fork(3) keep it until they end or start a program, but get() hides it from those with a memory of their own. A
/// child made at the very moment at which another thread takes or closes the descriptor may keep it too. What such a
/// copy locks is still given up by `unlock` in the parent. Not thread-safe, but other threads may fork at any time.
class ForkClosed {
 public:
  ForkClosed() noexcept = default;
  ForkClosed(ForkClosed&& other) noexcept : node_(other.node_), generation_(other.generation_) {
    other.node_ = nullptr;
  }
  ForkClosed& operator=(ForkClosed&& other) noexcept {
    if (this != &other) {
      close();
      node_ = other.node_;
      generation_ = other.generation_;
      other.node_ = nullptr;
    }
    return *this;
  }
  ForkClosed(const ForkClosed&) = delete;
  ForkClosed& operator=(const ForkClosed&) = delete;
  ~ForkClosed() { close(); }

  /// Takes `fd` over; what was held before is closed. Zero, or an errno where that fails: `fd` is then closed.
  [[nodiscard]] int set(int fd) noexcept {
    close();
    if (!fork_list.registered.load(std::memory_order_acquire)) {
      // Threads that meet here register it twice, which does no harm.
      if (const int error = ::pthread_atfork(nullptr, nullptr, close_in_child)) {
        close_quietly(fd);
        return error;
      }
      fork_list.registered.store(true, std::memory_order_release);
    }
    node_ = take_fork_node();
    if (node_ == nullptr) {
      close_quietly(fd);
      return ENOMEM;
    }
    generation_ = process_generation();
    node_->fd.store(fd, std::memory_order_release);
    return 0;
  }

  /// The descriptor; -1 where there is none, and in a child of the process that set it.
  int get() const noexcept {
    if (node_ == nullptr) return -1;
    const int fd = node_->fd.load(std::memory_order_relaxed);
    return fd >= 0 && generation_ == process_generation() ? fd : -1;
  }

  /// Closes the descriptor without giving up a lock of which there are copies. Keeps errno.
  void close() noexcept {
    if (node_ == nullptr) return;
    // The handler must not close the number once it may be somebody else's, so it is taken out first.
    close_quietly(node_->fd.exchange(-1, std::memory_order_relaxed));
    node_->used.store(false, std::memory_order_release);
    node_ = nullptr;
  }

 private:
  ForkNode* node_ = nullptr;
  std::uint64_t generation_ = 0;  // of the process that set it
};

}  // namespace detail
IDEM_END_NAMESPACE
