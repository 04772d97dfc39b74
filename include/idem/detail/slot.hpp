// A place for something that a function returns.
#pragma once

#include <idem/detail/config.hpp>

#include <memory>
#include <new>
#include <type_traits>
#include <utility>

IDEM_BEGIN_NAMESPACE
namespace detail {

/// A place for a result: a value, a reference, or nothing but that there was one.
///
/// `emplace_from` puts what a function returns right into its place: no move of it can throw after the effect and be
/// taken for a failure of the function.
template <class R>
class Slot {
 public:
  Slot() noexcept {}
  Slot(const Slot& other) requires std::is_copy_constructible_v<R> {
    if (other.full_) emplace(other.value_);
  }
  Slot(Slot&& other) noexcept(std::is_nothrow_move_constructible_v<R>) {
    if (other.full_) emplace(std::move(other.value_));
  }
  Slot& operator=(const Slot& other) requires std::is_copy_constructible_v<R> {
    if (this != &other) {
      reset();
      if (other.full_) emplace(other.value_);
    }
    return *this;
  }
  Slot& operator=(Slot&& other) noexcept(std::is_nothrow_move_constructible_v<R>) {
    if (this != &other) {
      reset();
      if (other.full_) emplace(std::move(other.value_));
    }
    return *this;
  }
  ~Slot() { reset(); }

  bool has_value() const noexcept { return full_; }
  R& operator*() noexcept { return value_; }
  const R& operator*() const noexcept { return value_; }

  /// REQUIRES: empty.
  template <class... A>
  R& emplace(A&&... arguments) {
    ::new (const_cast<std::remove_const_t<R>*>(std::addressof(value_))) R(std::forward<A>(arguments)...);
    full_ = true;
    return value_;
  }
  /// REQUIRES: empty.
  template <class F>
  void emplace_from(F&& function) {
    ::new (const_cast<std::remove_const_t<R>*>(std::addressof(value_))) R(std::forward<F>(function)());
    full_ = true;
  }
  void reset() noexcept {
    if (full_) value_.~R();
    full_ = false;
  }

 private:
  union {
    R value_;
  };
  bool full_ = false;
};
template <class R>
struct Slot<R&> {
  R* pointer = nullptr;
  bool has_value() const noexcept { return pointer != nullptr; }
  R& operator*() const noexcept { return *pointer; }
  void reset() noexcept { pointer = nullptr; }
  template <class F>
  void emplace_from(F&& function) {
    pointer = std::addressof(std::forward<F>(function)());
  }
};
template <>
struct Slot<void> {
  bool full = false;
  bool has_value() const noexcept { return full; }
  void reset() noexcept { full = false; }
  void emplace() noexcept { full = true; }
  template <class F>
  void emplace_from(F&& function) {
    std::forward<F>(function)();
    full = true;
  }
};

}  // namespace detail
IDEM_END_NAMESPACE
