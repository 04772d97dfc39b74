// Which process this is, in a few nanoseconds, right also after fork.
#pragma once

#include <idem/detail/config.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>

#if defined(_WIN32)
#include <process.h>  // _getpid
#else
#include <pthread.h>  // pthread_atfork
#include <unistd.h>   // getpid
#if defined(__linux__)
#include <sys/mman.h>  // a page that the kernel erases in children

#include <new>  // placement new into that page
#endif
#endif

IDEM_BEGIN_NAMESPACE
namespace detail {

#if defined(_WIN32)

// A process here is never a copy of another one.
inline std::uint64_t process_generation() noexcept { return 1; }
inline std::int64_t process_id() noexcept { return _getpid(); }

#else

// The word holds the generation: its upper half counts along the line of ancestors, its lower half is the process id.
// It is zero before the first use and, by the kernel or by an atfork handler, in every new child. The count stays as it
// was in the parent, so that a child's generation differs from that of every ancestor even where the process id is the
// same: a number used again, or the first process of another pid namespace.
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

struct ProcessState {
  std::atomic<std::atomic<std::uint64_t>*> word{nullptr};
  std::atomic<std::uint32_t> count{0};
  std::atomic<std::uint64_t> word_without_page{0};
};

inline constinit ProcessState process_state;

inline std::uint64_t make_generation() noexcept {
  const std::uint64_t count = process_state.count.fetch_add(1, std::memory_order_relaxed) + std::uint64_t{1};
  return (count << 32) | static_cast<std::uint32_t>(::getpid());
}

#if defined(__linux__)

// madvise(2), MADV_WIPEONFORK, Linux 4.14. It holds also for children made by clone(2) without the C library.
inline std::atomic<std::uint64_t>* make_wiped_word() noexcept {
#if defined(MADV_WIPEONFORK)
  const long page = ::sysconf(_SC_PAGESIZE);
  if (page <= 0) return nullptr;
  const std::size_t size = static_cast<std::size_t>(page);
  void* memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  // Emulators exist that accept all advice and follow none. They are known by accepting advice that doesn't exist.
  if (::madvise(memory, size, MADV_WIPEONFORK) == 0 && ::madvise(memory, size, -1) != 0) {
    return ::new (memory) std::atomic<std::uint64_t>(0);
  }
  ::munmap(memory, size);
#endif
  return nullptr;
}

inline void discard_wiped_word(std::atomic<std::uint64_t>* word) noexcept {
  ::munmap(word, static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)));
}

#else

inline std::atomic<std::uint64_t>* make_wiped_word() noexcept { return nullptr; }
inline void discard_wiped_word(std::atomic<std::uint64_t>*) noexcept {}

#endif

/// The word, or null where nothing can tell a child that it is one.
IDEM_COLD inline std::atomic<std::uint64_t>* find_generation_word() noexcept {
  std::atomic<std::uint64_t>* const wiped = make_wiped_word();
  std::atomic<std::uint64_t>* word = wiped;
  if (word == nullptr) {
    const auto forget = []() noexcept { process_state.word_without_page.store(0, std::memory_order_relaxed); };
    // Threads that meet here register it twice, which does no harm.
    if (::pthread_atfork(nullptr, nullptr, forget) != 0) return nullptr;
    word = &process_state.word_without_page;
  }
  std::atomic<std::uint64_t>* expected = nullptr;
  if (!process_state.word.compare_exchange_strong(expected, word, std::memory_order_acq_rel,
                                                  std::memory_order_acquire)) {
    if (wiped != nullptr) discard_wiped_word(wiped);
    return expected;
  }
  return word;
}

IDEM_COLD inline std::uint64_t find_generation() noexcept {
  std::atomic<std::uint64_t>* word = process_state.word.load(std::memory_order_acquire);
  if (word == nullptr) word = find_generation_word();
  // Without a word every question is answered anew, so that nobody relies on an earlier answer.
  if (word == nullptr) return make_generation();
  std::uint64_t generation = word->load(std::memory_order_relaxed);
  if (generation != 0) return generation;
  const std::uint64_t mine = make_generation();
  return word->compare_exchange_strong(generation, mine, std::memory_order_relaxed) ? mine : generation;
}

/// A number, never zero, that is the same throughout the life of a process and another one in each of its children and
/// their descendants. What is kept together with it can be told to be inherited. Means nothing to other processes, and
/// each copy of this variable (one per shared library where symbols are hidden) counts by itself. Safe from any thread;
/// async-signal-safe after the first call.
inline std::uint64_t process_generation() noexcept {
  if (std::atomic<std::uint64_t>* word = process_state.word.load(std::memory_order_acquire)) [[likely]] {
    if (const std::uint64_t generation = word->load(std::memory_order_relaxed); generation != 0) [[likely]] {
      return generation;
    }
  }
  return find_generation();
}

/// getpid(2) without its system call. A number names a process only as long as it lives, and only in its pid namespace.
/// Safe from any thread; async-signal-safe after the first call.
inline std::int64_t process_id() noexcept { return static_cast<std::int64_t>(process_generation() & 0xffffffffu); }

#endif

}  // namespace detail
IDEM_END_NAMESPACE
