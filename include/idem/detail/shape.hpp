// The shape of a type: what its values consist of, as text that doesn't depend on names, compiler or platform.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include <idem/codec/kinds.hpp>
#include <idem/detail/config.hpp>

IDEM_BEGIN_NAMESPACE
namespace detail {

// Sinks: one counts, one keeps, one hashes.

struct CountingSink {
  std::size_t size = 0;
  constexpr void put(char) noexcept { ++size; }
};

template <std::size_t n>
struct KeepingSink {
  char text[n + 1] = {};
  std::size_t size = 0;
  constexpr void put(char c) noexcept { text[size++] = c; }
};

/// FNV-1a of 64 bits (draft-eastlake-fnv), then the finaliser of MurmurHash3, so that short texts differ in all bits.
struct FingerprintSink {
  std::uint64_t state = 0xcbf29ce484222325;
  constexpr void put(char c) noexcept {
    state ^= static_cast<unsigned char>(c);
    state *= 0x100000001b3;
  }
  constexpr std::uint64_t finish() const noexcept {
    std::uint64_t h = state;
    h ^= h >> 33;
    h *= 0xff51afd7ed558ccd;
    h ^= h >> 33;
    h *= 0xc4ceb9fe1a85ec53;
    h ^= h >> 33;
    return h;
  }
};

template <class Sink>
constexpr void put_text(Sink& out, std::string_view text) noexcept {
  for (const char c : text) out.put(c);
}

template <class Sink>
constexpr void put_number(Sink& out, std::uint64_t number) noexcept {
  if (number >= 10) put_number(out, number / 10);
  out.put(static_cast<char>('0' + number % 10));
}

template <class T>
constexpr std::string_view character_shape() noexcept {
  if constexpr (std::is_same_v<T, char>) {
    return "c";
  } else if constexpr (std::is_same_v<T, char8_t>) {
    return "c8";
  } else if constexpr (std::is_same_v<T, char16_t>) {
    return "c16";
  } else if constexpr (std::is_same_v<T, char32_t>) {
    return "c32";
  } else if constexpr (std::is_same_v<T, wchar_t>) {
    return "w";
  } else {
    return {};
  }
}

// int32_t and its like have one shape on every platform; the other type of the same width carries a mark, so that
// overloads for both don't meet.
template <class T>
inline constexpr bool is_fixed_width =
    is_one_of<T, std::int8_t, std::int16_t, std::int32_t, std::int64_t, std::uint8_t, std::uint16_t, std::uint32_t,
              std::uint64_t> ||
    is_wide<T>;

template <class T, class Sink>
constexpr void put_integer_shape(Sink& out, bool mark) noexcept {
  if constexpr (!character_shape<T>().empty()) {
    put_text(out, character_shape<T>());
  } else {
    out.put(static_cast<T>(-1) < static_cast<T>(0) ? 'i' : 'u');
    put_number(out, sizeof(T) * 8);
    if (mark && !is_fixed_width<T>) out.put('\'');
  }
}

template <bool named, class... Path>
struct ShapeOf {
  template <class T, class Sink>
  static constexpr void put(Sink& out) noexcept {
    constexpr Kind kind = kind_of<T>;
    if constexpr (is_one_of<T, Path...>) {
      // How many classes further out the same class is found: the shape of a tree has an end.
      std::size_t distance = 0;
      static_cast<void>(((distance = std::is_same_v<T, Path> ? 1 : distance + (distance != 0 ? 1 : 0)), ...));
      out.put('^');
      put_number(out, distance);
    } else if constexpr (kind == Kind::none) {
      put_unknown<T>(out);
    } else if constexpr (kind == Kind::custom) {
      if constexpr (requires { std::string_view(codec<T>::shape); }) {
        put_text(out, codec<T>::shape);
        put_name<T>(out);
      } else {
        put_unknown<T>(out);
      }
    } else if constexpr (kind == Kind::boolean) {
      out.put('b');
    } else if constexpr (kind == Kind::integer) {
      put_integer_shape<T>(out, true);
    } else if constexpr (kind == Kind::floating) {
      put_text(out, sizeof(T) == 4 ? "f32" : "f64");
    } else if constexpr (kind == Kind::enumeration) {
      out.put('e');
      put_list<ShapeOf>(out, '(', ',', ')', Children<T>{});
      put_name<T>(out);
    } else if constexpr (kind == Kind::string || kind == Kind::string_view) {
      put_text(out, std::is_same_v<typename StringOf<T>::character, char8_t> ? "s8" : "s");
    } else if constexpr (kind == Kind::c_string) {
      put_text(out, std::is_same_v<T, const char8_t*> ? "s8" : "s");
    } else if constexpr (kind == Kind::char_array) {
      put_text(out, std::is_same_v<std::remove_cv_t<std::remove_extent_t<T>>, char8_t> ? "s8*" : "s*");
      put_number(out, std::extent_v<T>);
    } else if constexpr (kind == Kind::c_array || kind == Kind::std_array) {
      out.put('[');
      put_list<ShapeOf>(out, '\0', ',', '*', Children<T>{});
      if constexpr (kind == Kind::c_array) {
        put_number(out, std::extent_v<T>);
      } else {
        put_number(out, std::tuple_size<T>::value);
      }
      out.put(']');
    } else if constexpr (kind == Kind::sequence || kind == Kind::view) {
      put_list<ShapeOf>(out, '[', ',', ']', Children<T>{});
    } else if constexpr (kind == Kind::set) {
      out.put('#');
      put_list<ShapeOf>(out, '[', ',', ']', Children<T>{});
    } else if constexpr (kind == Kind::map) {
      out.put('#');
      put_list<ShapeOf>(out, '[', ':', ']', Children<T>{});
    } else if constexpr (kind == Kind::tuple) {
      put_list<ShapeOf>(out, '(', ',', ')', Children<T>{});
    } else if constexpr (kind == Kind::optional) {
      put_list<ShapeOf>(out, '?', ',', '\0', Children<T>{});
    } else if constexpr (kind == Kind::smart_pointer) {
      put_list<ShapeOf>(out, '*', ',', '\0', Children<T>{});
    } else if constexpr (kind == Kind::variant) {
      put_list<ShapeOf>(out, '<', '|', '>', Children<T>{});
    } else if constexpr (kind == Kind::expected && Children<T>::size == 1) {
      put_text(out, "<n!");  // no value but that there is one
      put_list<ShapeOf>(out, '\0', '!', '>', Children<T>{});
    } else if constexpr (kind == Kind::expected) {
      put_list<ShapeOf>(out, '<', '!', '>', Children<T>{});
    } else if constexpr (kind == Kind::unit) {
      out.put('n');
    } else if constexpr (kind == Kind::duration) {
      put_duration<T>(out);
    } else if constexpr (kind == Kind::time_point) {
      out.put('t');
      // What system_clock counts in differs between standard libraries; in a key it doesn't matter.
      if constexpr (!named || !std::is_same_v<typename T::duration, typename T::clock::duration>) {
        put_duration<typename T::duration>(out);
      }
    } else if constexpr (kind == Kind::path) {
      out.put('p');
    } else if constexpr (kind == Kind::error_code) {
      put_text(out, "ec");
    } else {
      static_assert(kind == Kind::fields || kind == Kind::record);
      put_list<ShapeOf<named, Path..., T>>(out, '{', ',', '}', Children<T>{});
      put_name<T>(out);
    }
  }

  template <class Inner, class Sink, class First, class... Rest>
  static constexpr void put_list(Sink& out, char open, [[maybe_unused]] char separator, char close,
                                 Types<First, Rest...>) noexcept {
    if (open != '\0') out.put(open);
    Inner::template put<First>(out);
    (put_one<Inner, Rest>(out, separator), ...);
    if (close != '\0') out.put(close);
  }
  template <class Inner, class Sink>
  static constexpr void put_list(Sink& out, char open, char, char close, Types<>) noexcept {
    out.put(open);
    out.put(close);
  }
  template <class Inner, class T, class Sink>
  static constexpr void put_one(Sink& out, char separator) noexcept {
    out.put(separator);
    Inner::template put<T>(out);
  }

 private:
  template <class T, class Sink>
  static constexpr void put_duration(Sink& out) noexcept {
    out.put('d');
    out.put('(');
    put_number(out, static_cast<std::uint64_t>(T::period::num));
    out.put('/');
    put_number(out, static_cast<std::uint64_t>(T::period::den));
    out.put(',');
    // chrono::seconds counts in long with one library and in long long with the other: no mark.
    if constexpr (std::is_integral_v<typename T::rep>) {
      put_integer_shape<typename T::rep>(out, false);
    } else {
      put<typename T::rep>(out);
    }
    out.put(')');
  }

  template <class T, class Sink>
  static constexpr void put_name(Sink& out) noexcept {
    if constexpr (named) {
      out.put(':');
      put_text(out, type_name<T>);
    }
  }

  // No codec: only as the parameter of an overload that doesn't enter the key.
  template <class T, class Sink>
  static constexpr void put_unknown(Sink& out) noexcept {
    if constexpr (std::is_pointer_v<T> && !std::is_function_v<std::remove_pointer_t<T>>) {
      put_text(out, std::is_const_v<std::remove_pointer_t<T>> ? "&const " : "&");
      put<std::remove_cv_t<std::remove_pointer_t<T>>>(out);
    } else if constexpr (std::is_same_v<T, long double>) {
      put_text(out, "long double");
    } else if constexpr (std::is_void_v<T>) {
      put_text(out, "void");
    } else {
      put_text(out, "?:");
      put_text(out, type_name<T>);
    }
  }
};

template <bool named, class T>
constexpr auto keep_shape() noexcept {
  constexpr std::size_t size = [] {
    CountingSink sink;
    ShapeOf<named>::template put<T>(sink);
    return sink.size;
  }();
  KeepingSink<size> sink;
  ShapeOf<named>::template put<T>(sink);
  return sink;
}

template <bool named, class T>
inline constexpr auto kept_shape = keep_shape<named, T>();

/// What values of T consist of; docs/encoding.md explains the letters.
template <class T>
inline constexpr std::string_view shape_of{kept_shape<false, T>.text, kept_shape<false, T>.size};

/// The same with the qualified names of classes and enumerations, without const and reference: what tells overloads
/// apart. Types without a codec have one too.
template <class T>
inline constexpr std::string_view parameter_shape{kept_shape<true, std::remove_cvref_t<T>>.text,
                                                  kept_shape<true, std::remove_cvref_t<T>>.size};

/// The fingerprint of a shape, as records carry it.
template <class T>
constexpr std::uint64_t shape_fingerprint() noexcept {
  FingerprintSink sink;
  ShapeOf<false>::template put<T>(sink);
  return sink.finish();
}

}  // namespace detail
IDEM_END_NAMESPACE
