// Why a type can't be part of a key, or can't be a result, in a sentence for whoever meets the compile error.
#pragma once

#include <cstdint>
#include <type_traits>

#include <idem/codec/kinds.hpp>
#include <idem/detail/config.hpp>

IDEM_BEGIN_NAMESPACE
namespace detail {

enum class Purpose : std::uint8_t { key, result };

enum class Refusal : std::uint8_t {
  none,
  reference,
  raw_pointer,
  reference_wrapper,
  function,
  function_object,
  wide_string,
  long_double,
  steady_clock,
  other_clock,
  floating_duration,
  odd_duration,
  base_classes,
  too_many_fields,
  union_type,
  unlike_fields,
  view,
  c_string,
  no_decode,
  no_shape,
  no_default,
  custom_deleter,
  incomplete,
  no_codec
};


// Why a type of no kind has none.
template <class T>
constexpr Refusal why_no_kind() noexcept {
  if constexpr (std::is_reference_v<T>) {
    return Refusal::reference;
  } else if constexpr (std::is_function_v<T> ||
                       (std::is_pointer_v<T> && std::is_function_v<std::remove_pointer_t<T>>) ||
                       std::is_member_pointer_v<T>) {
    return Refusal::function;
  } else if constexpr (std::is_pointer_v<T> || std::is_null_pointer_v<T>) {
    return Refusal::raw_pointer;
  } else if constexpr (std::is_same_v<T, long double>) {
    return Refusal::long_double;
  } else if constexpr (std::is_void_v<T> || !requires { sizeof(T); }) {
    return Refusal::incomplete;
  } else if constexpr (std::is_union_v<T>) {
    return Refusal::union_type;
  } else if constexpr (!std::is_class_v<T>) {
    return Refusal::no_codec;
  } else if constexpr (!std::is_void_v<typename StringOf<T>::character>) {
    return Refusal::wide_string;
  } else if constexpr (has_fields<T>) {
    return Refusal::unlike_fields;
  } else if constexpr (type_name<T>.starts_with("std::") && type_name<T>.ends_with("::reference_wrapper")) {
    return Refusal::reference_wrapper;
  } else if constexpr (is_function_object<T>()) {
    return Refusal::function_object;
  } else if constexpr (std::is_aggregate_v<T>) {
    if constexpr (has_bases<T>) return Refusal::base_classes;
    return Refusal::too_many_fields;
  } else {
    return Refusal::no_codec;
  }
}

// The pointer is deleted by what made it only if that is `delete`.
template <class T>
constexpr bool has_own_deleter() noexcept {
  if constexpr (requires { typename T::deleter_type; }) {
    return !(type_name<typename T::deleter_type>.starts_with("std::") &&
             type_name<typename T::deleter_type>.ends_with("::default_delete"));
  } else {
    return false;
  }
}

// What T itself, without its parts, speaks against.
template <Purpose purpose, class T>
constexpr Refusal own_refusal() noexcept {
  constexpr Kind kind = kind_of<T>;
  constexpr bool result = purpose == Purpose::result;
  if constexpr (kind == Kind::none) {
    return why_no_kind<T>();
  } else if constexpr (kind == Kind::custom) {
    if constexpr (!requires(Writer& out, const T& value) { codec<T>::encode(out, value); }) return Refusal::no_codec;
    if constexpr (result) {
      if constexpr (!requires(Reader& in) { T(codec<T>::decode(in)); }) return Refusal::no_decode;
      if constexpr (!requires { std::string_view(codec<T>::shape); }) return Refusal::no_shape;
    }
  } else if constexpr (kind == Kind::duration) {
    if constexpr (!std::is_arithmetic_v<typename T::rep> || std::is_same_v<typename T::rep, long double>) {
      return Refusal::odd_duration;
    } else if constexpr (std::is_floating_point_v<typename T::rep> && !result) {
      return Refusal::floating_duration;
    }
  } else if constexpr (kind == Kind::time_point) {
    if constexpr (!IsSystemTime<T>) {
      if constexpr (requires { requires T::clock::is_steady; }) return Refusal::steady_clock;
      return Refusal::other_clock;
    }
  } else if constexpr (result) {
    if constexpr (kind == Kind::string_view || kind == Kind::view) {
      return Refusal::view;
    } else if constexpr (kind == Kind::c_string) {
      return Refusal::c_string;
    } else if constexpr (kind == Kind::fields || kind == Kind::std_array) {
      if constexpr (!std::is_default_constructible_v<T>) return Refusal::no_default;
    } else if constexpr (kind == Kind::smart_pointer) {
      if constexpr (has_own_deleter<T>()) return Refusal::custom_deleter;
    }
  }
  return Refusal::none;
}

template <Purpose purpose, class T, class... Path>
constexpr Refusal find_refusal() noexcept;

template <Purpose purpose, class... Path, class... Child>
constexpr Refusal find_in(Types<Path...>, Types<Child...>) noexcept {
  Refusal found = Refusal::none;
  // The first reason of the first part that has one.
  static_cast<void>(((found = find_refusal<purpose, Child, Path...>(), found == Refusal::none) && ...));
  return found;
}

// `Path` is the classes with fields that T is inside of: a class that contains itself (a tree) is accepted when the
// rest of it is.
template <Purpose purpose, class T, class... Path>
constexpr Refusal find_refusal() noexcept {
  if constexpr (is_one_of<T, Path...>) {
    return Refusal::none;
  } else if constexpr (own_refusal<purpose, T>() != Refusal::none) {
    return own_refusal<purpose, T>();
  } else if constexpr (kind_of<T> == Kind::record || kind_of<T> == Kind::fields) {
    return find_in<purpose>(Types<Path..., T>{}, Children<T>{});
  } else {
    return find_in<purpose>(Types<Path...>{}, Children<T>{});
  }
}

template <class T>
inline constexpr Refusal key_refusal = find_refusal<Purpose::key, T>();
template <class T>
inline constexpr Refusal result_refusal = find_refusal<Purpose::result, T>();

/// Fails to compile, with a sentence, where T (without const and reference) can't be part of a key.
template <class T>
constexpr void require_key_part() noexcept {
  constexpr Refusal why = key_refusal<std::remove_cvref_t<T>>;
  static_assert(why != Refusal::reference,
                "idem: a class with a reference member can't be part of a key, since two references to equal values "
                "differ. Say with key_by(f) or key_from<i...> what identifies the call.");
  static_assert(why != Refusal::raw_pointer,
                "idem: a raw pointer can't be part of a key: an address says nothing about the value and changes with "
                "every run. Say with key_by(f) or key_from<i...> what identifies the call.");
  static_assert(why != Refusal::reference_wrapper,
                "idem: a reference_wrapper can't be part of a key: what it refers to may change. Say with key_by(f) or "
                "key_from<i...> what identifies the call.");
  static_assert(why != Refusal::function,
                "idem: a function pointer or member pointer can't be part of a key: its address changes with every "
                "build. Say with key_by(f) or key_from<i...> what identifies the call.");
  static_assert(why != Refusal::function_object,
                "idem: a function object or lambda can't be part of a key: it has no value to compare. Say with "
                "key_by(f) or key_from<i...> what identifies the call.");
  static_assert(why != Refusal::wide_string,
                "idem: a string of wchar_t, char16_t or char32_t can't be part of a key: its bytes differ between "
                "platforms. Give a UTF-8 string, or say with key_by(f) or key_from<i...> what identifies the call.");
  static_assert(why != Refusal::long_double,
                "idem: long double can't be part of a key: its bytes differ between platforms. Use double, or say with "
                "key_by(f) or key_from<i...> what identifies the call.");
  static_assert(why != Refusal::steady_clock,
                "idem: a time of steady_clock can't be part of a key: the clock starts anew with every boot. Use "
                "system_clock, or say with key_by(f) or key_from<i...> what identifies the call.");
  static_assert(why != Refusal::other_clock,
                "idem: of the clocks only system_clock's times can be part of a key. Convert it, or say with key_by(f) "
                "or key_from<i...> what identifies the call.");
  static_assert(why != Refusal::floating_duration,
                "idem: a duration that counts in floating point can't be part of a key: equal times may differ in the "
                "last bit. Use duration_cast, or say with key_by(f) or key_from<i...> what identifies the call.");
  static_assert(why != Refusal::odd_duration,
                "idem: a duration can be part of a key when it counts in a built-in integer. Use duration_cast, or say "
                "with key_by(f) or key_from<i...> what identifies the call.");
  static_assert(why != Refusal::base_classes,
                "idem: a struct with base classes can't be taken apart by itself. Give it idem_fields or a codec<T>, "
                "or say with key_by(f) or key_from<i...> what identifies the call.");
  static_assert(why != Refusal::too_many_fields,
                "idem: a struct can be taken apart by itself when it has up to 32 fields, none of them something that "
                "can't be initialised. Give it idem_fields or a codec<T>, or say with key_by(f) or key_from<i...> what "
                "identifies the call.");
  static_assert(why != Refusal::union_type,
                "idem: a union can't be part of a key: nothing says which member is alive. Use std::variant, give it a "
                "codec<T>, or say with key_by(f) or key_from<i...> what identifies the call.");
  static_assert(why != Refusal::unlike_fields,
                "idem: the idem_fields of this class can't be called: the class around it, or one of its template "
                "arguments, has an idem_fields that takes anything as well. Write them with the class's own name as "
                "parameter type: idem_fields(const T& self).");
  static_assert(why != Refusal::incomplete,
                "idem: a type that isn't complete here can't be part of a key. Include its definition, or say with "
                "key_by(f) or key_from<i...> what identifies the call.");
  static_assert(why != Refusal::no_codec,
                "idem: this type can't be part of a key yet. Give it `friend auto idem_fields(T& self) { return "
                "std::tie(self.a, self.b); }`, specialise idem::codec<T>, or say with key_by(f) or key_from<i...> what "
                "identifies the call.");
  static_assert(why == Refusal::none || why == Refusal::reference || why == Refusal::raw_pointer ||
                    why == Refusal::reference_wrapper || why == Refusal::function || why == Refusal::function_object ||
                    why == Refusal::wide_string || why == Refusal::long_double || why == Refusal::steady_clock ||
                    why == Refusal::other_clock || why == Refusal::floating_duration || why == Refusal::odd_duration ||
                    why == Refusal::base_classes || why == Refusal::too_many_fields || why == Refusal::union_type ||
                    why == Refusal::unlike_fields || why == Refusal::incomplete || why == Refusal::no_codec,
                "idem: this type can't be part of a key. Say with key_by(f) or key_from<i...> what identifies the "
                "call.");
}

/// Fails to compile, with a sentence, where T can't be a result that a store of bytes keeps.
template <class T>
constexpr void require_storable() noexcept {
  static_assert(!std::is_reference_v<T>,
                "idem: a reference can't be a stored result: a replay has nothing to refer to. Return a value, or use "
                "without_result.");
  if constexpr (!std::is_reference_v<T>) {
    constexpr Refusal why = result_refusal<std::remove_cv_t<T>>;
    static_assert(why != Refusal::reference,
                  "idem: a class with a reference member can't be a stored result: a replay has nothing to refer to. "
                  "Return a value, or use without_result.");
    static_assert(why != Refusal::raw_pointer && why != Refusal::c_string,
                  "idem: a raw pointer can't be a stored result: it dangles in a replay. Return a value (std::string "
                  "for text, std::unique_ptr for an object), or use without_result.");
    static_assert(why != Refusal::view,
                  "idem: a view can't be a stored result: a view dangles; return std::string or std::vector, or use "
                  "without_result.");
    static_assert(why != Refusal::reference_wrapper,
                  "idem: a reference_wrapper can't be a stored result: it dangles in a replay. Return a value, or use "
                  "without_result.");
    static_assert(why != Refusal::function && why != Refusal::function_object,
                  "idem: a function, lambda or function object can't be a stored result. Return a value, or use "
                  "without_result.");
    static_assert(why != Refusal::wide_string && why != Refusal::long_double,
                  "idem: wide strings and long double can't be a stored result: their bytes differ between platforms. "
                  "Return UTF-8 or double, or use without_result.");
    static_assert(why != Refusal::steady_clock && why != Refusal::other_clock,
                  "idem: of the clocks only system_clock's times can be a stored result: the others mean nothing after "
                  "a restart. Return a time of system_clock, or use without_result.");
    static_assert(why != Refusal::odd_duration,
                  "idem: a duration can be a stored result when it counts in a built-in integer, float or double. Use "
                  "duration_cast, or use without_result.");
    static_assert(why != Refusal::base_classes,
                  "idem: a struct with base classes can't be taken apart by itself, so it can't be a stored result "
                  "yet. Give it idem_fields or a codec<T>, or use without_result.");
    static_assert(why != Refusal::too_many_fields,
                  "idem: a struct can be taken apart by itself when it has up to 32 fields, none of them something "
                  "that can't be initialised. Give it idem_fields or a codec<T>, or use without_result.");
    static_assert(why != Refusal::union_type,
                  "idem: a union can't be a stored result: nothing says which member is alive. Use std::variant, give "
                  "it a codec<T>, or use without_result.");
    static_assert(why != Refusal::unlike_fields,
                  "idem: the idem_fields of this class can't be called: the class around it, or one of its template "
                  "arguments, has an idem_fields that takes anything as well. Write them with the class's own name as "
                  "parameter type, for T& and for const T&.");
    static_assert(why != Refusal::no_decode,
                  "idem: the codec<T> of a stored result needs `static T decode(idem::Reader&)`. Add it, or use "
                  "without_result.");
    static_assert(why != Refusal::no_shape,
                  "idem: the codec<T> of a stored result needs `static constexpr std::string_view shape`, to be "
                  "changed when the encoding changes. Add it, or use without_result.");
    static_assert(why != Refusal::no_default,
                  "idem: a class with idem_fields, or the elements of a std::array, must be default constructible to "
                  "be a stored result. Give it a default constructor or a codec<T>, or use without_result.");
    static_assert(why != Refusal::custom_deleter,
                  "idem: a unique_ptr with a deleter of its own can't be a stored result: a replay makes its object "
                  "with new. Return a plain unique_ptr, give it a codec<T>, or use without_result.");
    static_assert(why != Refusal::incomplete && why != Refusal::no_codec && why != Refusal::floating_duration,
                  "idem: this type can't be a stored result yet. Give it `friend auto idem_fields(T& self) { return "
                  "std::tie(self.a, self.b); }`, specialise idem::codec<T>, or use without_result.");
  }
}

}  // namespace detail

/// T, without const and reference, can be part of a key, together with all it contains.
template <class T>
concept KeyPart = detail::key_refusal<std::remove_cvref_t<T>> == detail::Refusal::none;

/// T can be a result that a store of bytes keeps: it has an encoding and comes back from it.
template <class T>
concept Storable = !std::is_reference_v<T> && detail::result_refusal<std::remove_cv_t<T>> == detail::Refusal::none;

IDEM_END_NAMESPACE
