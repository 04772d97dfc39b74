// Files mapped into memory that may be shortened by others, or fail to be read, without killing the program.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/file/descriptor.hpp>
#include <idem/detail/file/problem.hpp>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <new>

#include <signal.h>  // sigaction, siginfo_t
#include <sys/mman.h>
#include <unistd.h>

IDEM_BEGIN_NAMESPACE
namespace detail::file {

// One per mapped range, read by the signal handler at any moment. Nodes are used again and never freed. `version` is
// odd while a node is changed; a reader that saw two different versions, or an odd one, saw no range.
struct MappedRange {
  std::atomic<std::uint32_t> version{0};
  std::atomic<std::uintptr_t> begin{0};
  std::atomic<std::size_t> size{0};  // bytes, whole pages; 0 while it stands for no range
  std::atomic<bool> writable{false};
  std::atomic<bool> damaged{false};
  std::atomic<bool> used{true};
  MappedRange* next = nullptr;

  /// Describes a range. Called only by whoever has taken the node.
  void set(std::uintptr_t at, std::size_t length, bool may_write) noexcept {
    const std::uint32_t before = version.load(std::memory_order_relaxed);
    version.store(before + 1, std::memory_order_relaxed);
    begin.store(at, std::memory_order_release);
    size.store(length, std::memory_order_release);
    writable.store(may_write, std::memory_order_release);
    version.store(before + 2, std::memory_order_release);
  }

  bool holds(std::uintptr_t address) const noexcept {
    const std::uint32_t before = version.load(std::memory_order_acquire);
    const std::uintptr_t at = begin.load(std::memory_order_acquire);
    const std::size_t length = size.load(std::memory_order_acquire);
    if (address < at || address - at >= length) return false;
    return before % 2 == 0 && version.load(std::memory_order_relaxed) == before;
  }
};

// What the signal handler reads. All of it is atomic and none of it takes a lock.
struct BusState {
  std::atomic<MappedRange*> first{nullptr};
  std::atomic<std::size_t> page{0};  // bytes
  std::atomic<bool> installed{false};
  std::atomic<std::uintptr_t> previous{0};     // handler that was there before
  std::atomic<bool> previous_has_info{false};  // it takes three arguments
};

static_assert(std::atomic<std::uintptr_t>::is_always_lock_free && std::atomic<bool>::is_always_lock_free);

inline constinit BusState bus_state;

/// Puts a page of zeros where `address` is, if that is in a range of ours.
inline bool mend_page(std::uintptr_t address) noexcept {
  const std::size_t page = bus_state.page.load(std::memory_order_relaxed);
  for (MappedRange* range = bus_state.first.load(std::memory_order_acquire); range != nullptr; range = range->next) {
    if (!range->holds(address)) continue;
    const int protection = range->writable.load(std::memory_order_relaxed) ? PROT_READ | PROT_WRITE : PROT_READ;
    void* const place = reinterpret_cast<void*>(address - address % page);
    range->damaged.store(true, std::memory_order_release);
    // A system call only, hence safe in a signal handler although POSIX doesn't list it.
    return call_mmap(place, page, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1) != MAP_FAILED;
  }
  return false;
}

/// Hands a signal that isn't ours to whom it was for.
inline void pass_bus_signal(int signal, siginfo_t* info, void* context) {
  const std::uintptr_t previous = bus_state.previous.load(std::memory_order_relaxed);
  const bool ignored = previous == reinterpret_cast<std::uintptr_t>(SIG_IGN);
  const bool by_kernel = info->si_code > 0;
  if (previous != reinterpret_cast<std::uintptr_t>(SIG_DFL) && !ignored) {
    if (bus_state.previous_has_info.load(std::memory_order_relaxed)) {
      reinterpret_cast<void (*)(int, siginfo_t*, void*)>(previous)(signal, info, context);
    } else {
      reinterpret_cast<void (*)(int)>(previous)(signal);
    }
    return;
  }
  if (ignored && !by_kernel) return;
  // What the system does by itself: the access is made again and ends the program now; a signal that somebody sent
  // comes again once this handler has returned.
  struct ::sigaction action = {};
  action.sa_handler = SIG_DFL;
  ::sigaction(signal, &action, nullptr);
  if (!by_kernel) ::raise(signal);
}

inline void on_bus_signal(int signal, siginfo_t* info, void* context) {
  const int errno_before = errno;
  const bool mended = info->si_code > 0 && mend_page(reinterpret_cast<std::uintptr_t>(info->si_addr));
  if (!mended) pass_bus_signal(signal, info, context);
  errno = errno_before;
}

/// Installs the handler at the first call. Threads that meet here find and write the same.
inline Problem install_bus_handler() noexcept {
  if (bus_state.installed.load(std::memory_order_acquire)) return {};
  const long page = ::sysconf(_SC_PAGESIZE);
  if (page <= 0) return {"cannot be mapped: the page size is unknown", errno};
  bus_state.page.store(static_cast<std::size_t>(page), std::memory_order_relaxed);
  struct ::sigaction before = {};
  if (::sigaction(SIGBUS, nullptr, &before) != 0) return {"cannot be mapped: no handler for SIGBUS", errno};
  const bool has_info = (before.sa_flags & SA_SIGINFO) != 0;
  if (!has_info || before.sa_sigaction != on_bus_signal) {
    bus_state.previous_has_info.store(has_info, std::memory_order_relaxed);
    bus_state.previous.store(has_info ? reinterpret_cast<std::uintptr_t>(before.sa_sigaction)
                                      : reinterpret_cast<std::uintptr_t>(before.sa_handler),
                             std::memory_order_relaxed);
    struct ::sigaction action = {};
    action.sa_sigaction = on_bus_signal;
    action.sa_mask = before.sa_mask;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
    if (::sigaction(SIGBUS, &action, nullptr) != 0) return {"cannot be mapped: no handler for SIGBUS", errno};
  }
  bus_state.installed.store(true, std::memory_order_release);
  return {};
}

/// A node of the list for the caller alone; null without memory.
inline MappedRange* take_mapped_range() noexcept {
  for (MappedRange* range = bus_state.first.load(std::memory_order_acquire); range != nullptr; range = range->next) {
    bool expected = false;
    if (!range->used.load(std::memory_order_relaxed) &&
        range->used.compare_exchange_strong(expected, true, std::memory_order_acquire, std::memory_order_relaxed)) {
      range->damaged.store(false, std::memory_order_relaxed);
      return range;
    }
  }
  MappedRange* const range = new (std::nothrow) MappedRange;
  if (range == nullptr) return nullptr;
  range->next = bus_state.first.load(std::memory_order_relaxed);
  while (!bus_state.first.compare_exchange_weak(range->next, range, std::memory_order_release,
                                                std::memory_order_relaxed)) {
  }
  return range;
}

/// A part of a file in memory, from its beginning, shared with all who map or write the file.
///
/// Touching a mapped page that the file no longer has, or that can't be read, brings SIGBUS (mmap(2)). A handler for
/// the whole process, installed with the first mapping, puts a page of zeros in its place and marks the mapping
/// damaged: readers see zeros from then on, and what they write there reaches nobody. All other bus errors go to the
/// handler that was there before, or end the program as they always did.
///
/// Limits: a handler that somebody installs afterwards must call the one it finds, or a bus error ends the program
/// again; so does one while SIGBUS is blocked in the thread, or where the system has no memory for the page. System
/// calls given mapped memory don't raise the signal but fail with EFAULT. A library that holds this code must not be
/// unloaded once it has mapped anything.
///
/// Children of fork inherit the mapping. data, size and damaged may be called from any thread; map and unmap need the
/// object for themselves.
class Mapping {
 public:
  Mapping() noexcept = default;
  Mapping(Mapping&& other) noexcept : range_(other.range_), data_(other.data_), size_(other.size_) { other.forget(); }
  Mapping& operator=(Mapping&& other) noexcept {
    if (this != &other) {
      unmap();
      range_ = other.range_;
      data_ = other.data_;
      size_ = other.size_;
      other.forget();
    }
    return *this;
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() { unmap(); }

  /// Maps the first `size` bytes of `fd`, also those that the file doesn't have yet: they can be read once it has
  /// grown. What was mapped before is unmapped. The descriptor isn't needed afterwards. Nothing is mapped after a
  /// problem.
  [[nodiscard]] Problem map(int fd, std::uint64_t size, bool writable) noexcept {
    unmap();
    if (const Problem problem = install_bus_handler()) return problem;
    const std::size_t page = bus_state.page.load(std::memory_order_relaxed);
    if (size == 0) return {"cannot be mapped: it is empty", 0};
    if (size > (std::numeric_limits<std::size_t>::max)() / 2) return {"cannot be mapped: too long for memory", EFBIG};
    MappedRange* const range = take_mapped_range();
    if (range == nullptr) return {"cannot be mapped", ENOMEM};
    const std::uint64_t whole = size;
    const std::size_t length = static_cast<std::size_t>(whole);
    void* const memory = call_mmap(nullptr, length, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd);
    if (memory == MAP_FAILED) {
      const int error = errno;
      range->used.store(false, std::memory_order_release);
      return {"cannot be mapped", error};
    }
    range->set(reinterpret_cast<std::uintptr_t>(memory), (length + page - 1) / page * page, writable);
    range_ = range;
    data_ = static_cast<std::uint8_t*>(memory);
    size_ = length;
    return {};
  }

  /// Null where nothing is mapped.
  std::uint8_t* data() const noexcept { return data_; }
  /// Bytes mapped, as given to map.
  std::size_t size() const noexcept { return size_; }

  /// Whether a page was replaced by zeros since map. Without meaning for what was read after the answer.
  bool damaged() const noexcept { return range_ != nullptr && range_->damaged.load(std::memory_order_acquire); }

  /// REQUIRES: nobody uses the memory any more. Keeps errno.
  void unmap() noexcept {
    if (range_ == nullptr) return;
    const int errno_before = errno;
    range_->set(0, 0, false);
    ::munmap(data_, size_);
    range_->used.store(false, std::memory_order_release);
    forget();
    errno = errno_before;
  }

 private:
  void forget() noexcept {
    range_ = nullptr;
    data_ = nullptr;
    size_ = 0;
  }

  MappedRange* range_ = nullptr;
  std::uint8_t* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace detail::file
IDEM_END_NAMESPACE
