// Which of the kinds of docs/encoding.md a type is of, and why a type can't be a key or a result.
//
// Types of the standard library are known by their members, so that a header for keys needn't include <chrono>,
// <variant>, <filesystem> and the containers. What looks like one of them is treated as one.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

#include <idem/codec/reader.hpp>
#include <idem/codec/writer.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/fields.hpp>
#include <idem/detail/type_name.hpp>

IDEM_BEGIN_NAMESPACE
namespace detail {

// The base of the codecs that idem has; a specialisation by the user doesn't have it.
struct BuiltinCodec {};

enum class Kind : std::uint8_t {
  none,
  custom,
  boolean,
  integer,
  floating,
  enumeration,
  string,
  string_view,
  c_string,
  char_array,
  c_array,
  std_array,
  sequence,
  view,
  tuple,
  set,
  map,
  optional,
  smart_pointer,
  variant,
  expected,
  unit,
  duration,
  time_point,
  path,
  error_code,
  fields,
  record
};

template <class T, class... Other>
inline constexpr bool is_one_of = (std::is_same_v<T, Other> || ...);

// --- Scalars and strings --------------------------------------------------------------------------------------------

#ifdef __SIZEOF_INT128__
__extension__ using Wide = __int128;
__extension__ using UnsignedWide = unsigned __int128;
template <class T>
inline constexpr bool is_wide = std::is_same_v<T, Wide> || std::is_same_v<T, UnsignedWide>;
#else
template <class>
inline constexpr bool is_wide = false;
#endif

template <class T>
inline constexpr bool is_integer = (std::is_integral_v<T> && !std::is_same_v<T, bool>) || is_wide<T>;

template <class T>
inline constexpr bool is_narrow_char = std::is_same_v<T, char> || std::is_same_v<T, char8_t>;
template <class T>
inline constexpr bool is_other_char =
    std::is_same_v<T, wchar_t> || std::is_same_v<T, char16_t> || std::is_same_v<T, char32_t>;

// An integer of one byte; many of them in a row are packed in exact form.
template <class T>
inline constexpr bool is_octet = is_integer<T> && sizeof(T) == 1;

template <class T>
struct StringOf {
  using character = void;
  static constexpr bool view = false;
};
template <class C, class Traits, class Allocator>
struct StringOf<std::basic_string<C, Traits, Allocator>> {
  using character = C;
  static constexpr bool view = false;
};
template <class C, class Traits>
struct StringOf<std::basic_string_view<C, Traits>> {
  using character = C;
  static constexpr bool view = true;
};

// --- Classes, known by their members --------------------------------------------------------------------------------

template <class T>
concept IsDuration = requires(const T& d) {
  typename T::rep;
  T::period::num;
  T::period::den;
  d.count();
  T::zero();
};

template <class T>
concept IsTimePoint = requires(const T& t) {
  typename T::clock;
  requires IsDuration<typename T::duration>;
  { t.time_since_epoch() } -> std::same_as<typename T::duration>;
};

// Only the clock that has to do with the calendar converts to time_t.
template <class T>
concept IsSystemTime = IsTimePoint<T> && requires(const typename T::clock::time_point& t) {
  T::clock::to_time_t(t);
  requires !T::clock::is_steady;
};

template <class T>
concept IsPath = requires(const T& p) {
  typename T::string_type;
  T::preferred_separator;
  p.native();
  p.generic_u8string();
  p.lexically_normal();
};

template <class T>
concept IsErrorCode = requires(const T& e) {
  e.category().name();
  { e.value() } -> std::same_as<int>;
  e.message();
  T(1, e.category());
};

template <class>
struct AlternativesOf {
  using types = void;
};
template <template <class...> class V, class... A>
struct AlternativesOf<V<A...>> {
  using types = Types<A...>;
};

template <class T>
concept IsVariant = requires(const T& v) {
  { v.index() } -> std::same_as<std::size_t>;
  { v.valueless_by_exception() } -> std::same_as<bool>;
  typename AlternativesOf<T>::types;
};

template <class T>
concept IsExpected = requires(const T& e) {
  typename T::value_type;
  typename T::error_type;
  typename T::unexpected_type;
  e.has_value();
  e.error();
};

template <class T>
concept IsOptional = !IsExpected<T> && requires(T& o, const T& c) {
  typename T::value_type;
  { c.has_value() } -> std::same_as<bool>;
  *c;
  o.reset();
};

template <class T>
concept IsSmartPointer = requires(T& p, const T& c) {
  typename T::element_type;
  c.get();
  *c;
  p.reset();
  p.reset(c.get());
};

template <class T>
concept IsTuple = requires { std::tuple_size<T>::value; };

template <class T>
concept IsStdArray = IsTuple<T> && requires(const T& a) {
  typename T::value_type;
  a.begin();
  a.data();
};

// A class whose elements are of its own type (a JSON value, a path) is no container of values.
template <class T>
concept IsRange = requires(const T& c) {
  typename T::value_type;
  c.begin();
  c.end();
  { c.size() } -> std::convertible_to<std::size_t>;
} && !std::is_same_v<typename T::value_type, T>;

template <class T>
concept IsMap = IsRange<T> && requires(T& c) {
  typename T::key_type;
  typename T::mapped_type;
  c.clear();
};

template <class T>
concept IsSet = IsRange<T> && !IsMap<T> && requires(T& c) {
  requires std::is_same_v<typename T::key_type, typename T::value_type>;
  c.clear();
};

template <class T>
concept IsSequence = IsRange<T> && !IsMap<T> && !IsSet<T> && requires(T& c, typename T::value_type&& v) {
  c.clear();
  c.push_back(static_cast<typename T::value_type&&>(v));
};

template <class T>
concept IsSpan = IsRange<T> && requires(const T& s) {
  typename T::element_type;
  s.data();
  s.subspan(0);
};

template <class T>
constexpr bool is_unit() noexcept {
  if constexpr (std::is_empty_v<T> && std::is_aggregate_v<T>) {
    return type_name<T>.starts_with("std::") && type_name<T>.ends_with("::monostate");
  } else {
    return false;
  }
}

struct CallProbe {
  void operator()();
};
template <class T>
struct CallScope {
  struct Derived : T, CallProbe {};
};

// Whether T has an operator(), be it a template or overloaded: a second one in another base makes its name ambiguous.
template <class T>
constexpr bool is_function_object() noexcept {
  if constexpr (!std::is_class_v<T>) {
    return false;
  } else if constexpr (std::is_final_v<T> || std::is_polymorphic_v<T>) {
    return requires { &T::operator(); };
  } else {
    return !requires { &CallScope<T>::Derived::operator(); };
  }
}

template <class T>
constexpr Kind kind_of_class() noexcept {
  using Character = typename StringOf<T>::character;
  if constexpr (!std::is_void_v<Character>) {
    if constexpr (!is_narrow_char<Character>) return Kind::none;
    return StringOf<T>::view ? Kind::string_view : Kind::string;
  } else if constexpr (has_fields<T>) {
    return can_call_fields<T> ? Kind::fields : Kind::none;
  } else if constexpr (IsDuration<T>) {
    return Kind::duration;
  } else if constexpr (IsTimePoint<T>) {
    return Kind::time_point;
  } else if constexpr (IsPath<T>) {
    return Kind::path;
  } else if constexpr (IsErrorCode<T>) {
    return Kind::error_code;
  } else if constexpr (IsVariant<T>) {
    return Kind::variant;
  } else if constexpr (IsExpected<T>) {
    return Kind::expected;
  } else if constexpr (IsOptional<T>) {
    return Kind::optional;
  } else if constexpr (IsSmartPointer<T>) {
    return Kind::smart_pointer;
  } else if constexpr (IsStdArray<T>) {
    return Kind::std_array;
  } else if constexpr (IsTuple<T>) {
    return Kind::tuple;
  } else if constexpr (IsMap<T>) {
    return Kind::map;
  } else if constexpr (IsSet<T>) {
    return Kind::set;
  } else if constexpr (IsSequence<T>) {
    return Kind::sequence;
  } else if constexpr (IsSpan<T>) {
    return Kind::view;
  } else if constexpr (is_unit<T>()) {
    return Kind::unit;
  } else if constexpr (std::is_aggregate_v<T>) {
    if constexpr (has_bases<T>) {
      return Kind::none;
    } else if constexpr (field_count<T> > max_fields || (field_count<T> == 0 && !std::is_empty_v<T>)) {
      return Kind::none;
    } else if constexpr (field_count<T> == 0 && is_function_object<T>()) {
      return Kind::none;
    } else {
      return Kind::record;
    }
  } else {
    return Kind::none;
  }
}

template <class T>
constexpr Kind find_kind() noexcept {
  if constexpr (std::is_bounded_array_v<T>) {
    return is_narrow_char<std::remove_cv_t<std::remove_extent_t<T>>> ? Kind::char_array : Kind::c_array;
  } else if constexpr (std::is_void_v<T> || std::is_function_v<T> || std::is_reference_v<T> ||
                       std::is_unbounded_array_v<T>) {
    return Kind::none;
  } else if constexpr (!requires { sizeof(T); }) {
    return Kind::none;
  } else if constexpr (!std::is_base_of_v<BuiltinCodec, codec<T>>) {
    return Kind::custom;
  } else if constexpr (std::is_same_v<T, bool>) {
    return Kind::boolean;
  } else if constexpr (is_integer<T>) {
    return Kind::integer;
  } else if constexpr (std::is_same_v<T, float> || std::is_same_v<T, double>) {
    return Kind::floating;
  } else if constexpr (std::is_enum_v<T>) {
    return Kind::enumeration;
  } else if constexpr (std::is_same_v<T, const char*> || std::is_same_v<T, const char8_t*>) {
    return Kind::c_string;
  } else if constexpr (std::is_class_v<T>) {
    return kind_of_class<T>();
  } else {
    return Kind::none;
  }
}

/// The kind of T. REQUIRES: T has no const or volatile.
template <class T>
inline constexpr Kind kind_of = find_kind<T>();

// --- What a value consists of ---------------------------------------------------------------------------------------

template <class T>
constexpr auto find_children() noexcept {
  constexpr Kind kind = kind_of<T>;
  if constexpr (kind == Kind::enumeration) {
    return Types<std::underlying_type_t<T>>{};
  } else if constexpr (kind == Kind::c_array) {
    return Types<std::remove_cv_t<std::remove_extent_t<T>>>{};
  } else if constexpr (kind == Kind::std_array || kind == Kind::sequence || kind == Kind::set || kind == Kind::view) {
    return Types<std::remove_cv_t<typename T::value_type>>{};
  } else if constexpr (kind == Kind::map) {
    return Types<typename T::key_type, typename T::mapped_type>{};
  } else if constexpr (kind == Kind::tuple) {
    return []<std::size_t... i>(std::index_sequence<i...>) {
      return Types<typename PlainType<std::tuple_element_t<i, T>>::type...>{};
    }(std::make_index_sequence<std::tuple_size<T>::value>{});
  } else if constexpr (kind == Kind::optional) {
    return Types<std::remove_cv_t<typename T::value_type>>{};
  } else if constexpr (kind == Kind::smart_pointer) {
    return Types<std::remove_cv_t<typename T::element_type>>{};
  } else if constexpr (kind == Kind::variant) {
    return plain_types(typename AlternativesOf<T>::types{});
  } else if constexpr (kind == Kind::expected) {
    if constexpr (std::is_void_v<typename T::value_type>) {
      return Types<typename T::error_type>{};
    } else {
      return Types<std::remove_cv_t<typename T::value_type>, typename T::error_type>{};
    }
  } else if constexpr (kind == Kind::duration) {
    return Types<typename T::rep>{};
  } else if constexpr (kind == Kind::time_point) {
    return Types<typename T::duration>{};
  } else if constexpr (kind == Kind::fields) {
    return ElementTypes<FieldsTuple<T>>{};
  } else if constexpr (kind == Kind::record) {
    return FieldTypes<T>{};
  } else {
    return Types<>{};
  }
}

/// Types<...> of the values inside a T.
template <class T>
using Children = decltype(find_children<T>());

}  // namespace detail
IDEM_END_NAMESPACE
