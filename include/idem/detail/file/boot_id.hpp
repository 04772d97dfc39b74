// The name of this boot of the machine.
#pragma once

#include <idem/detail/cancellation.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/file/descriptor.hpp>
#include <idem/detail/file/id.hpp>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include <fcntl.h>
#include <unistd.h>

IDEM_BEGIN_NAMESPACE
namespace detail::file {

/// Reads 32 hexadecimal digits, dashes between them ignored; empty where `text` is anything else.
inline Id128 parse_id(const char* text, std::size_t size) noexcept {
  Id128 id;
  std::size_t digits = 0;
  for (std::size_t i = 0; i < size; ++i) {
    const char c = text[i];
    int value = 0;
    if (c == '-') continue;
    if (c >= '0' && c <= '9') {
      value = c - '0';
    } else if (c >= 'a' && c <= 'f') {
      value = c - 'a' + 10;
    } else {
      return {};
    }
    if (digits == 32) return {};
    std::uint8_t& byte = id.bytes[digits / 2];
    byte = static_cast<std::uint8_t>(byte * 16 + value);
    ++digits;
  }
  return digits == 32 ? id : Id128{};
}

inline Id128 read_boot_id() noexcept {
#if defined(__linux__)
  const NoCancellation shield;
  const int errno_before = errno;
  Id128 id;
  char text[64];
  if (const Fd fd = open_at(AT_FDCWD, "/proc/sys/kernel/random/boot_id", O_RDONLY)) {
    ssize_t size = 0;
    do {
      size = ::read(fd.get(), text, sizeof text);
    } while (size < 0 && errno == EINTR);
    if (size > 0 && text[size - 1] == '\n') --size;
    if (size > 0) id = parse_id(text, static_cast<std::size_t>(size));
  }
  errno = errno_before;
  return id;
#else
  return {};
#endif
}

/// Names the time since the machine was started: another one after each restart (random(4), boot_id), the same in all
/// of its containers. Empty where the system doesn't say. Read once, then kept. Keeps errno. Safe from any thread.
inline Id128 boot_id() noexcept {
  struct Kept {
    std::atomic<bool> known{false};
    std::atomic<std::uint64_t> halves[2] = {};
  };
  static constinit Kept kept;
  Id128 id;
  std::uint64_t halves[2];
  static_assert(sizeof halves == sizeof id.bytes);
  if (!kept.known.load(std::memory_order_acquire)) {
    // Threads that meet here read the same.
    id = read_boot_id();
    std::memcpy(halves, id.bytes, sizeof halves);
    kept.halves[0].store(halves[0], std::memory_order_relaxed);
    kept.halves[1].store(halves[1], std::memory_order_relaxed);
    kept.known.store(true, std::memory_order_release);
    return id;
  }
  halves[0] = kept.halves[0].load(std::memory_order_relaxed);
  halves[1] = kept.halves[1].load(std::memory_order_relaxed);
  std::memcpy(id.bytes, halves, sizeof halves);
  return id;
}

}  // namespace detail::file
IDEM_END_NAMESPACE
