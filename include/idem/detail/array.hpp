// A growable array of plain values.
#pragma once

#include <cstddef>
#include <cstring>
#include <new>  // operator new, the only thing here that can fail
#include <type_traits>

#include <idem/detail/config.hpp>

IDEM_BEGIN_NAMESPACE
namespace detail {

/// What idem needs of std::vector for types that may be copied by their bytes; <vector> itself takes the compiler an
/// eighth of what including <string>, <unordered_map> and <functional> does. Nothing is allocated before the first
/// element. Only an allocation can throw; the array is then as it was. Not safe for use by several threads at once.
template <class T>
class Array {
  static_assert(std::is_trivially_copyable_v<T> && alignof(T) <= __STDCPP_DEFAULT_NEW_ALIGNMENT__);

 public:
  Array() noexcept = default;
  Array(const Array& other) : Array() {
    for (const T& element : other) push(element);
  }
  Array(Array&& other) noexcept : data_(other.data_), size_(other.size_), capacity_(other.capacity_) {
    other.data_ = nullptr;
    other.size_ = 0;
    other.capacity_ = 0;
  }
  Array& operator=(Array other) noexcept {
    T* const mine = data_;
    data_ = other.data_;
    other.data_ = mine;
    size_ = other.size_;
    capacity_ = other.capacity_;
    return *this;
  }
  ~Array() { ::operator delete(data_); }

  T* data() noexcept { return data_; }
  std::size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }

  T& operator[](std::size_t at) noexcept { return data_[at]; }
  const T& operator[](std::size_t at) const noexcept { return data_[at]; }
  T* begin() noexcept { return data_; }
  T* end() noexcept { return data_ + size_; }
  const T* begin() const noexcept { return data_; }
  const T* end() const noexcept { return data_ + size_; }

  void push(const T& element) {
    const T copy = element;  // it may be one of this array
    if (size_ == capacity_) grow();
    data_[size_++] = copy;
  }

  /// Removes one by moving the last one into its place. REQUIRES: at < size().
  void remove(std::size_t at) noexcept { data_[at] = data_[--size_]; }

  /// Keeps what was allocated, for the next contents.
  void clear() noexcept { size_ = 0; }

 private:
  void grow() {
    constexpr std::size_t most = static_cast<std::size_t>(-1) / 2;
    const std::size_t capacity = capacity_ == 0 ? 16 : capacity_ * 2;
    // operator new refuses what can't exist.
    auto* const data = static_cast<T*>(::operator new(capacity > most / sizeof(T) ? most : capacity * sizeof(T)));
    if (size_ != 0) std::memcpy(data, data_, size_ * sizeof(T));
    ::operator delete(data_);
    data_ = data;
    capacity_ = capacity;
  }

  T* data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t capacity_ = 0;
};

}  // namespace detail
IDEM_END_NAMESPACE
