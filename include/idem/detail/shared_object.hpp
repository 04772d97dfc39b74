// An object of any type whose owners are counted.
#pragma once

#include <idem/detail/config.hpp>

#include <cstddef>
#include <utility>

IDEM_BEGIN_NAMESPACE
namespace detail {

/// What std::shared_ptr<void> does for the handles of idem. Each type that std::shared_ptr owns takes the compiler more
/// time than a whole header of idem, which is too much for types that every program has and few use.
/// Thread safety: that of std::shared_ptr.
class SharedObject {
 public:
  SharedObject() noexcept = default;

  template <class T, class... A>
  static SharedObject make(A&&... arguments) {
    SharedObject made;
    made.held_ = new HeldAs<T>(std::forward<A>(arguments)...);
    return made;
  }

  SharedObject(const SharedObject& other) noexcept : held_(other.held_) {
    // The builtins rather than <atomic>: see KeyDomain.
    if (held_ != nullptr) __atomic_fetch_add(&held_->owners, 1, __ATOMIC_RELAXED);
  }
  SharedObject(SharedObject&& other) noexcept : held_(other.held_) { other.held_ = nullptr; }
  SharedObject& operator=(SharedObject other) noexcept {
    Held* const mine = held_;
    held_ = other.held_;
    other.held_ = mine;
    return *this;
  }
  ~SharedObject() {
    if (held_ != nullptr && __atomic_fetch_sub(&held_->owners, 1, __ATOMIC_ACQ_REL) == 1) held_->destroy(held_);
  }

  /// nullptr where there is none.
  void* get() const noexcept { return held_ == nullptr ? nullptr : held_->object; }

  /// REQUIRES: there is one, and it's a T.
  template <class T>
  T& as() const noexcept {
    return *static_cast<T*>(held_->object);
  }

 private:
  struct Held {
    void* object;
    void (*destroy)(Held*) noexcept;
    std::size_t owners = 1;
  };
  template <class T>
  struct HeldAs : Held {
    template <class... A>
    explicit HeldAs(A&&... arguments)
        : Held{__builtin_addressof(value), [](Held* held) noexcept { delete static_cast<HeldAs*>(held); }},
          value(std::forward<A>(arguments)...) {}
    T value;
  };

  Held* held_ = nullptr;
};

}  // namespace detail
IDEM_END_NAMESPACE
