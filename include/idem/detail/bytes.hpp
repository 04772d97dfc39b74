// A growable byte buffer that keeps short contents in itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>  // operator new, the only thing here that can fail

#include <idem/detail/config.hpp>

IDEM_BEGIN_NAMESPACE
namespace detail {

/// Bytes, appended at the end. Up to `inline_capacity` of them live in the object, so that the key of an ordinary call
/// is built without an allocation. Not safe for use by several threads at once. Only an allocation can throw; the
/// buffer is then as it was.
class Bytes {
 public:
  static constexpr std::size_t inline_capacity = 96;

  Bytes() noexcept : data_(inline_) {}
  Bytes(const void* data, std::size_t size) : Bytes() { append(data, size); }
  Bytes(const Bytes& other) : Bytes() { append(other.data_, other.size_); }
  Bytes(Bytes&& other) noexcept : Bytes() { take(other); }
  Bytes& operator=(const Bytes& other) {
    if (this != &other) {
      clear();
      append(other.data_, other.size_);
    }
    return *this;
  }
  Bytes& operator=(Bytes&& other) noexcept {
    if (this != &other) {
      release();
      take(other);
    }
    return *this;
  }
  ~Bytes() { release(); }

  const std::uint8_t* data() const noexcept { return data_; }
  std::uint8_t* data() noexcept { return data_; }
  std::size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }

  /// Makes the buffer `size` bytes longer and returns where the new bytes, not yet written, begin.
  IDEM_ALWAYS_INLINE std::uint8_t* extend(std::size_t size) {
    if (size > capacity_ - size_) grow(size);
    std::uint8_t* const place = data_ + size_;
    size_ += size;
    return place;
  }

  /// `data` may not point into this buffer.
  IDEM_ALWAYS_INLINE void append(const void* data, std::size_t size) {
    std::uint8_t* const place = extend(size);
    if (size != 0) std::memcpy(place, data, size);
  }

  IDEM_ALWAYS_INLINE void push(std::uint8_t byte) { *extend(1) = byte; }

  void reserve(std::size_t capacity) {
    if (capacity > capacity_) grow(capacity - size_);
  }

  /// Drops everything past the first `size` bytes. REQUIRES: size <= size().
  void truncate(std::size_t size) noexcept { size_ = size; }

  /// Keeps what was allocated, for the next contents.
  void clear() noexcept { size_ = 0; }

  friend bool operator==(const Bytes& a, const Bytes& b) noexcept {
    return a.size_ == b.size_ && std::memcmp(a.data_, b.data_, a.size_) == 0;
  }

 private:
  // Never inlined: the callers' fast paths carry one compare and one call for it.
  IDEM_NOINLINE void grow(std::size_t more) {
    const std::size_t needed = size_ + more;
    std::size_t capacity = capacity_ * 2;
    if (capacity < needed) capacity = needed;
    // A size that doesn't fit in size_t has wrapped; operator new then refuses what can't exist.
    if (needed < size_) capacity = static_cast<std::size_t>(-1) / 2;
    auto* const data = static_cast<std::uint8_t*>(::operator new(capacity));
    std::memcpy(data, data_, size_);
    release();
    data_ = data;
    capacity_ = capacity;
  }

  void release() noexcept {
    if (data_ != inline_) ::operator delete(data_);
  }

  void take(Bytes& other) noexcept {
    if (other.data_ == other.inline_) {
      data_ = inline_;
      capacity_ = inline_capacity;
      std::memcpy(inline_, other.inline_, other.size_);
    } else {
      data_ = other.data_;
      capacity_ = other.capacity_;
    }
    size_ = other.size_;
    other.data_ = other.inline_;
    other.size_ = 0;
    other.capacity_ = inline_capacity;
  }

  std::uint8_t* data_;
  std::size_t size_ = 0;
  std::size_t capacity_ = inline_capacity;
  std::uint8_t inline_[inline_capacity];
};

}  // namespace detail
IDEM_END_NAMESPACE
