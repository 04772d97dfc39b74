// What a finished record carries beside the record: handed to a store (Source) and handed out by it (Payload).
#pragma once

#include <idem/detail/config.hpp>

#include <cstddef>
#include <cstdint>
#include <new>
#include <type_traits>
#include <typeinfo>
#include <utility>

IDEM_BEGIN_NAMESPACE

/// Zero is reserved. The numbers are part of the record format.
enum class PayloadKind : std::uint8_t {
  nothing = 1,  ///< By choice, only that it finished is kept.
  lost = 2,     ///< It finished, but its result couldn't be kept.
  value = 3,    ///< What the function returned.
  failure = 4,  ///< What the function threw.
};

/// How a store that keeps objects handles a type that it knows nothing else about.
struct ObjectType {
  std::size_t size;
  std::size_t alignment;
  bool trivial;  ///< Its bytes are its value: it may be copied by memcpy and needs no destructor.
  void (*copy)(void* to, const void* from);
  void (*destroy)(void* object) noexcept;
  const std::type_info* info;  ///< nullptr without run-time type information.
};

namespace detail {

#if IDEM_RTTI
template <class T>
inline constexpr const std::type_info* type_info_of = &typeid(T);
#else
template <class T>
inline constexpr const std::type_info* type_info_of = nullptr;
#endif

template <class T>
constexpr ObjectType make_object_type() noexcept {
  return {sizeof(T),
          alignof(T),
          std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>,
          [](void* to, const void* from) { ::new (to) T(*static_cast<const T*>(from)); },
          [](void* object) noexcept { static_cast<T*>(object)->~T(); },
          type_info_of<T>};
}

}  // namespace detail

/// The description of T. Two shared objects may each have one of their own, so that equality is by `same_type`.
template <class T>
inline constexpr ObjectType object_type = detail::make_object_type<T>();

inline bool same_type(const ObjectType& a, const ObjectType& b) noexcept {
  return &a == &b || (a.info != nullptr && b.info != nullptr && *a.info == *b.info);
}

/// What is to be kept with an outcome: an object for stores that keep objects, bytes for stores that keep bytes. Refers
/// to what its maker owns; a store copies it before the call that it was handed to returns.
struct Source {
  PayloadKind kind = PayloadKind::nothing;
  const ObjectType* type = nullptr;  ///< Of `object`; nullptr where there is none.
  const void* object = nullptr;
  const std::uint8_t* data = nullptr;
  std::size_t size = 0;
};

/// What was kept with an outcome, valid for as long as this lives. Move-only.
/// Thread safety: a plain value; what it points to doesn't change.
///
/// A store may hold memory back until the payload is gone, so that it's meant to be short-lived; `detach` makes a copy
/// that isn't the store's.
class Payload {
 public:
  using Drop = void (*)(void* holder, const Payload& payload) noexcept;

  Payload() noexcept = default;
  Payload(PayloadKind kind, const ObjectType* type, const void* object) noexcept
      : kind_(kind), type_(type), object_(object) {}
  Payload(PayloadKind kind, const std::uint8_t* data, std::size_t size) noexcept
      : kind_(kind), object_(data), size_(size) {}

  Payload(Payload&& other) noexcept { take(other); }
  Payload& operator=(Payload&& other) noexcept {
    if (this != &other) {
      let_go();
      take(other);
    }
    return *this;
  }
  Payload(const Payload&) = delete;
  Payload& operator=(const Payload&) = delete;
  ~Payload() { let_go(); }

  PayloadKind kind() const noexcept { return kind_; }
  /// The object, where it is one of type T; else nullptr.
  template <class T>
  const T* object() const noexcept {
    if (type_ == nullptr || !same_type(*type_, object_type<T>)) return nullptr;
    return static_cast<const T*>(object_);
  }
  bool holds_object() const noexcept { return type_ != nullptr; }
  const std::uint8_t* data() const noexcept {
    return type_ == nullptr ? static_cast<const std::uint8_t*>(object_) : nullptr;
  }
  std::size_t size() const noexcept { return size_; }

  /// `drop(holder, payload)` is called once, when the payload ends. It must not throw.
  void hold(void* holder, Drop drop) noexcept {
    holder_ = holder;
    drop_ = drop;
  }

  /// A copy that keeps nothing of the store's back. Throws what copying the object throws.
  Payload detach() const {
    Payload copy;
    copy.kind_ = kind_;
    copy.type_ = type_;
    copy.size_ = size_;
    const std::size_t bytes = type_ != nullptr ? type_->size : size_;
    if (object_ == nullptr || bytes == 0) return copy;
    const std::align_val_t alignment{type_ != nullptr ? type_->alignment : alignof(std::max_align_t)};
    void* memory = ::operator new(bytes, alignment);
    if (type_ != nullptr) {
      Undo undo{memory, alignment};
      type_->copy(memory, object_);
      undo.memory = nullptr;
    } else {
      const auto* from = static_cast<const std::uint8_t*>(object_);
      auto* to = static_cast<std::uint8_t*>(memory);
      for (std::size_t i = 0; i < bytes; ++i) to[i] = from[i];
    }
    copy.object_ = memory;
    copy.hold(memory, [](void* held, const Payload& payload) noexcept {
      if (payload.type_ != nullptr) payload.type_->destroy(held);
      ::operator delete (
          held, std::align_val_t{payload.type_ != nullptr ? payload.type_->alignment : alignof(std::max_align_t)});
    });
    return copy;
  }

 private:
  struct Undo {
    void* memory;
    std::align_val_t alignment;
    ~Undo() {
      if (memory != nullptr) ::operator delete(memory, alignment);
    }
  };

  void let_go() noexcept {
    if (drop_ != nullptr) drop_(holder_, *this);
  }
  // Member by member: each type that std::swap is given takes the compiler as long as all of this.
  void take(Payload& other) noexcept {
    kind_ = other.kind_;
    type_ = other.type_;
    object_ = other.object_;
    size_ = other.size_;
    holder_ = other.holder_;
    drop_ = other.drop_;
    other.kind_ = PayloadKind::nothing;
    other.type_ = nullptr;
    other.object_ = nullptr;
    other.size_ = 0;
    other.holder_ = nullptr;
    other.drop_ = nullptr;
  }

  PayloadKind kind_ = PayloadKind::nothing;
  const ObjectType* type_ = nullptr;
  const void* object_ = nullptr;
  std::size_t size_ = 0;
  void* holder_ = nullptr;
  Drop drop_ = nullptr;
};

IDEM_END_NAMESPACE
