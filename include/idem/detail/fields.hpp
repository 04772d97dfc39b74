// The fields of aggregates and of classes with idem_fields, without a macro by the user.
#pragma once

#include <concepts>
#include <cstddef>
#include <type_traits>
#include <utility>  // declval, index_sequence, tuple_size

#include <idem/codec/bindings.hpp>
#include <idem/detail/config.hpp>

IDEM_BEGIN_NAMESPACE
namespace detail {

// --- How many fields an aggregate has -------------------------------------------------------------------------------

// Converts to whatever a field needs. Like the other types here it is only used unevaluated.
struct Anything {
  template <class U>
  operator U() const noexcept;
};

template <std::size_t>
using AnythingAt = Anything;

// Converts to bases of T only.
template <class T>
struct AnyBaseOf {
  template <class U>
    requires(std::is_base_of_v<U, T> && !std::is_same_v<U, T>)
  operator U() const noexcept;
};

// Converts to nothing: what can be made of it can be made of everything.
struct Nothing {};

template <class T>
inline constexpr bool has_bases = requires { T{AnyBaseOf<T>{}}; } && !requires { T{Nothing{}}; };

template <class T, std::size_t count>
constexpr std::size_t count_by_braces() noexcept {
  if constexpr (count > max_fields || !takes_braces<T, count + 1>()) {
    return count;
  } else {
    return count_by_braces<T, count + 1>();
  }
}

template <class T, std::size_t... before, std::size_t... inside, std::size_t... after>
constexpr bool takes_nested(std::index_sequence<before...>, std::index_sequence<inside...>,
                            std::index_sequence<after...>) noexcept {
  return requires { T{AnythingAt<before>{}..., {AnythingAt<inside>{}...}, AnythingAt<after>{}...}; };
}

template <class T, std::size_t before, std::size_t inside, std::size_t after>
inline constexpr bool takes = takes_nested<T>(std::make_index_sequence<before>{}, std::make_index_sequence<inside>{},
                                              std::make_index_sequence<after>{});

template <class T, std::size_t... i>
constexpr bool takes_flat(std::index_sequence<i...>) noexcept {
  return requires { T{AnythingAt<i>{}...}; };
}

// The most initializers that T takes without inner braces: an array counts for each of its elements.
template <class T, std::size_t count>
constexpr std::size_t count_flat() noexcept {
  if constexpr (count == 0 || takes_flat<T>(std::make_index_sequence<count>{})) {
    return count;
  } else {
    return count_flat<T, count - 1>();
  }
}

// How many of `total` initializers belong to the field that begins at `position`. Braces around those of an array leave
// room for just the initializers of the fields behind it, braces around those of anything else for one less than now.
template <class T, std::size_t total, std::size_t position, std::size_t size = 2>
constexpr std::size_t flat_size_at() noexcept {
  if constexpr (takes<T, position, 1, total - position - 1> || takes<T, position, 0, total - position - 1> ||
                position + size > total) {
    return 1;
  } else if constexpr (takes<T, position, size, total - position - size> &&
                       !takes<T, position, size, total - position - 1>) {
    return size;
  } else {
    return flat_size_at<T, total, position, size + 1>();
  }
}

template <class T, std::size_t total, std::size_t position = 0>
constexpr std::size_t count_from_flat() noexcept {
  if constexpr (position >= total) {
    return 0;
  } else {
    return 1 + count_from_flat<T, total, position + flat_size_at<T, total, position>()>();
  }
}

template <class T>
constexpr std::size_t count_fields() noexcept {
  if constexpr (takes_braces<T, 0>()) {
    // Every field has a default, so braces find them all unless one has only a default member initializer.
    constexpr std::size_t count = count_by_braces<T, 0>();
    if constexpr (count > max_fields || !takes_braces<T, count, Anything>()) return count;
  }
  constexpr std::size_t most = sizeof(T) * 8 < 96 ? sizeof(T) * 8 : 96;
  return count_from_flat<T, count_flat<T, most>()>();
}

/// The number of fields of an aggregate class without bases; an array is one field. More than `max_fields` means just
/// that.
template <class T>
inline constexpr std::size_t field_count = count_fields<T>();

struct DeclaredTypes {
  template <class Declared, class... V>
  constexpr Declared operator()(Declared declared, V&...) const noexcept {
    return declared;
  }
};

template <class T>
constexpr auto declared_types() noexcept {
  if constexpr (field_count<T> == 0 || field_count<T> > max_fields) {
    return Types<>{};
  } else {
    return decltype(bind_fields<field_count<T>>(std::declval<const T&>(), DeclaredTypes{})){};
  }
}

template <class T>
struct PlainType {
  using type = std::remove_cv_t<T>;
};
template <class T>
struct PlainType<T&> {
  using type = T&;  // stays visible: it has no encoding
};
template <class T>
struct PlainType<T&&> {
  using type = T&&;
};

template <class... T>
constexpr Types<typename PlainType<T>::type...> plain_types(Types<T...>) noexcept {
  return {};
}

/// Types<...> of the fields of an aggregate, without const.
template <class T>
using FieldTypes = decltype(plain_types(declared_types<T>()));

// --- idem_fields ----------------------------------------------------------------------------------------------------

namespace fields_probe {

struct NoFields {};

// Exactly as good a match as `friend auto idem_fields(auto& self)`. Where both are found the call is ambiguous, which
// shows that the friend is there without asking for its return type, that is without compiling its body for the type
// at hand.
template <class T>
NoFields idem_fields(T&);

template <class T>
struct Scope {
  // Argument-dependent lookup finds the friends of T for an object of T, but also those of the class around T and of
  // T's template arguments, whose idem_fields is not meant for T. For a class derived from T, in a class of ours, it
  // finds T's own and those of T's bases only.
  struct Derived : T {};
};

template <class T>
constexpr bool found_by(const T*) noexcept {
  return !requires(const T& value) {
    { idem_fields(value) } -> std::same_as<NoFields>;
  };
}

template <class T>
constexpr bool has_typed() noexcept {
  return requires(T& value) { requires !std::is_same_v<decltype(idem_fields(value)), NoFields>; } ||
         requires(const T& value) { requires !std::is_same_v<decltype(idem_fields(value)), NoFields>; };
}

template <class T>
constexpr bool has() noexcept {
  if constexpr (!std::is_class_v<T>) {
    return false;
  } else if constexpr (has_typed<T>()) {
    return true;
  } else if constexpr (std::is_final_v<T> || std::is_polymorphic_v<T>) {
    return found_by(static_cast<const T*>(nullptr));
  } else {
    return found_by(static_cast<const typename Scope<T>::Derived*>(nullptr));
  }
}

}  // namespace fields_probe

namespace fields_call {

void idem_fields() = delete;  // so that the name below means a function, found by its argument

template <class T>
concept Callable = requires(T& value) { idem_fields(value); };

template <class T>
constexpr auto call(T& value) {
  return idem_fields(value);
}

}  // namespace fields_call

/// Whether T declares idem_fields: as a hidden friend, or as a function in its namespace.
template <class T>
inline constexpr bool has_fields = fields_probe::has<T>();

/// Whether calling it works; it does not where the class around T has one as well, as both match.
template <class T>
inline constexpr bool can_call_fields = fields_call::Callable<T>;

/// The tuple of references that idem_fields returns.
template <class T>
constexpr auto fields_of(T& value) {
  if constexpr (std::is_const_v<T> && !fields_call::Callable<T>) {
    // Written for T& alone. Nothing is changed by it.
    return fields_call::call(const_cast<std::remove_const_t<T>&>(value));
  } else {
    return fields_call::call(value);
  }
}

template <class Tuple, std::size_t... i>
constexpr auto element_types(std::index_sequence<i...>) noexcept {
  return Types<std::remove_cvref_t<std::tuple_element_t<i, Tuple>>...>{};
}

template <class Tuple>
using ElementTypes = decltype(element_types<Tuple>(std::make_index_sequence<std::tuple_size<Tuple>::value>{}));

template <class T>
using FieldsTuple = decltype(fields_of(std::declval<T&>()));

}  // namespace detail
IDEM_END_NAMESPACE
