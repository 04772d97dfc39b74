// Values to bytes. docs/encoding.md describes the bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include <idem/codec/kinds.hpp>
#include <idem/codec/numbers.hpp>
#include <idem/codec/sorter.hpp>
#include <idem/codec/writer.hpp>
#include <idem/detail/config.hpp>

IDEM_BEGIN_NAMESPACE
namespace detail {

// --- Numbers --------------------------------------------------------------------------------------------------------

template <class T>
inline void encode_integer(Writer& out, T value) {
  if constexpr (sizeof(T) <= 8) {
    if (std::is_signed_v<T> && value < static_cast<T>(0)) {
      out.put_tag_u64(Tag::negative, ~static_cast<std::uint64_t>(static_cast<std::int64_t>(value)));
    } else {
      out.put_tag_u64(Tag::non_negative, static_cast<std::uint64_t>(value));
    }
  } else {
    const bool negative = static_cast<T>(-1) < static_cast<T>(0) && value < static_cast<T>(0);
    const T magnitude = negative ? static_cast<T>(~value) : value;  // of -1 it is 0
    const auto low = static_cast<std::uint64_t>(magnitude);
    const auto high = static_cast<std::uint64_t>(magnitude >> 64);
    if (high == 0) {
      out.put_tag_u64(negative ? Tag::negative : Tag::non_negative, low);
    } else {
      out.put_tag_u64(negative ? Tag::negative_wide : Tag::non_negative_wide, low);
      out.put_u64(high);
    }
  }
}

template <class T>
inline void encode_floating(Writer& out, const T& value) {
  std::uint64_t bits = double_bits(value);
  if (out.form() == Form::key) {
    const std::uint64_t magnitude = bits & 0x7fffffffffffffffu;
    if (magnitude == 0) bits = 0;
    if (magnitude > 0x7ff0000000000000u) out.refuse("NaN can't be part of a key: it doesn't equal itself");
  }
  out.put_tag_u64(Tag::floating, bits);
}

inline void encode_text(Writer& out, Tag tag, const void* data, std::size_t size) {
  out.put_head(tag, size);
  out.put_raw(data, size);
}

template <class C>
inline void encode_c_string(Writer& out, const C* text) {
  if (text == nullptr) {
    out.refuse("a null C string can't be part of a key");
    return;
  }
  std::size_t size = 0;
  while (text[size] != C{}) ++size;
  encode_text(out, Tag::string, text, size);
}

inline std::uint64_t greatest_common_divisor(std::uint64_t a, std::uint64_t b) noexcept {
  while (b != 0) {
    const std::uint64_t rest = a % b;
    a = b;
    b = rest;
  }
  return a;
}

struct Product {
  std::uint64_t low;
  std::uint64_t high;
};

// The 128 bits of a product, by halves as in school, for machines without such an integer.
inline Product multiply(std::uint64_t a, std::uint64_t b) noexcept {
  const std::uint64_t a_low = a & 0xffffffffu;
  const std::uint64_t a_high = a >> 32;
  const std::uint64_t b_low = b & 0xffffffffu;
  const std::uint64_t b_high = b >> 32;
  const std::uint64_t low = a_low * b_low;
  const std::uint64_t middle = a_high * b_low + (low >> 32);
  const std::uint64_t other = a_low * b_high + (middle & 0xffffffffu);
  return {(other << 32) | (low & 0xffffffffu), a_high * b_high + (middle >> 32) + (other >> 32)};
}

/// `count` times numerator/denominator seconds, as a reduced fraction. REQUIRES: the ratio is reduced.
inline void encode_seconds(Writer& out, bool negative, std::uint64_t count, std::uint64_t numerator,
                           std::uint64_t denominator) {
  const std::uint64_t divisor = greatest_common_divisor(denominator, count);
  Product seconds = multiply(count / divisor, numerator);
  if (negative) {  // as for integers, one less; here it isn't zero
    if (seconds.low == 0) --seconds.high;
    --seconds.low;
  }
  out.put_tag(Tag::duration);
  if (seconds.high == 0) {
    out.put_tag_u64(negative ? Tag::negative : Tag::non_negative, seconds.low);
  } else {
    out.put_tag_u64(negative ? Tag::negative_wide : Tag::non_negative_wide, seconds.low);
    out.put_u64(seconds.high);
  }
  out.put_u64(denominator / divisor);
}

template <class T>
inline void encode_duration(Writer& out, const T& value) {
  using Count = typename T::rep;
  const Count count = value.count();
  if (out.form() == Form::exact) {
    out.put_tag(Tag::ticks);
    out.write(count);
  } else if constexpr (std::is_integral_v<Count>) {
    const bool negative = std::is_signed_v<Count> && count < static_cast<Count>(0);
    const auto bits = static_cast<std::uint64_t>(count);
    encode_seconds(out, negative, negative ? std::uint64_t{0} - bits : bits,
                   static_cast<std::uint64_t>(T::period::num), static_cast<std::uint64_t>(T::period::den));
  } else {
    out.refuse("a duration that counts in floating point can't be part of a key");
  }
}

// --- Containers -----------------------------------------------------------------------------------------------------

template <class Element, class Iterator>
inline void encode_elements(Writer& out, Iterator begin, std::size_t size) {
  if constexpr (is_octet<Element>) {
    if (out.form() == Form::exact) {
      out.put_head(Tag::octets, size);
      if constexpr (std::is_pointer_v<Iterator>) {
        out.put_raw(begin, size);
      } else {
        for (std::size_t i = 0; i < size; ++i, ++begin) out.put_byte(static_cast<std::uint8_t>(*begin));
      }
      return;
    }
  }
  out.put_head(Tag::sequence, size);
  for (std::size_t i = 0; i < size && out.ok(); ++i, ++begin) {
    const Element& element = *begin;  // vector<bool> gives a value here
    out.write(element);
  }
}

template <class T>
inline void encode_range(Writer& out, const T& range) {
  using Element = std::remove_cv_t<typename T::value_type>;
  const auto size = static_cast<std::size_t>(range.size());
  if constexpr (requires { { range.data() } -> std::same_as<const Element*>; }) {
    encode_elements<Element, const Element*>(out, range.data(), size);
  } else {
    encode_elements<Element>(out, range.begin(), size);
  }
}

template <class T>
inline void encode_sorted(Writer& out, const T& container) {
  constexpr bool is_map = kind_of<T> == Kind::map;
  const auto size = static_cast<std::size_t>(container.size());
  out.put_head(is_map ? Tag::map : Tag::set, size);
  Sorter sorter(out, size);
  for (const auto& entry : container) {
    if (!out.ok()) return;
    sorter.begin_entry();
    if constexpr (is_map) {
      out.write(entry.first);
      out.write(entry.second);
    } else {
      out.write(entry);
    }
  }
  sorter.finish();
}

template <class T, std::size_t... i>
inline void encode_tuple(Writer& out, const T& value, std::index_sequence<i...>) {
  (out.write(get<i>(value)), ...);
}

template <class T, std::size_t... i>
inline void encode_variant(Writer& out, const T& value, std::index_sequence<i...>) {
  if (value.valueless_by_exception()) {
    out.refuse("a variant without a value has no encoding");
    return;
  }
  out.put_head(Tag::variant, value.index());
  static_cast<void>(((value.index() == i && (out.write(*get_if<i>(&value)), true)) || ...));
}

// Equal paths have equal bytes: the libraries compare names, so it doesn't count how many separators are between two.
// Their generic forms don't agree about that.
template <class String>
inline void encode_generic_path(Writer& out, const String& text, std::size_t root) {
  String once;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool repeated = i > root && text[i] == '/' && text[i - 1] == '/';
    if (!repeated) once += text[i];
  }
  encode_text(out, Tag::path, once.data(), once.size());
}

template <class T>
inline void encode_path(Writer& out, const T& value) {
  if constexpr (sizeof(typename T::value_type) != 1) {
    const auto text = value.generic_u8string();
    if (out.form() == Form::exact) {
      encode_text(out, Tag::path, text.data(), text.size());
    } else {
      encode_generic_path(out, text, 1);  // two separators in front begin the name of a host
    }
  } else if (out.form() == Form::exact) {
    encode_text(out, Tag::path, value.native().data(), value.native().size());
  } else {
    encode_generic_path(out, value.native(), 0);
  }
}

template <class T>
inline void encode_error_code(Writer& out, const T& value) {
  const char* const name = value.category().name();
  std::size_t size = 0;
  while (name[size] != '\0') ++size;
  out.put_tag(Tag::error_code);
  encode_text(out, Tag::string, name, size);
  encode_integer(out, static_cast<std::int64_t>(value.value()));
}

struct EncodeFields {
  Writer& out;
  template <class... D, class... V>
  void operator()(Types<D...>, const V&... fields) const {
    (out.write(fields), ...);
  }
};

/// Encodes a value of a kind that idem knows.
template <class T>
inline void encode_value(Writer& out, const T& value) {
  constexpr Kind kind = kind_of<T>;
  if constexpr (kind == Kind::boolean) {
    out.put_tag(Tag::boolean);
    out.put_byte(value ? 1 : 0);
  } else if constexpr (kind == Kind::integer) {
    encode_integer(out, number_of(value));
  } else if constexpr (kind == Kind::floating) {
    encode_floating(out, value);
  } else if constexpr (kind == Kind::enumeration) {
    out.put_tag(Tag::enumeration);
    out.write(static_cast<std::underlying_type_t<T>>(value));
  } else if constexpr (kind == Kind::string || kind == Kind::string_view) {
    encode_text(out, Tag::string, value.data(), value.size());
  } else if constexpr (kind == Kind::c_string) {
    encode_c_string(out, value);
  } else if constexpr (kind == Kind::char_array) {
    encode_text(out, Tag::string, value, std::extent_v<T>);
  } else if constexpr (kind == Kind::c_array) {
    using Element = std::remove_cv_t<std::remove_extent_t<T>>;
    encode_elements<Element, const Element*>(out, value, std::extent_v<T>);
  } else if constexpr (kind == Kind::std_array || kind == Kind::sequence || kind == Kind::view) {
    encode_range(out, value);
  } else if constexpr (kind == Kind::set || kind == Kind::map) {
    encode_sorted(out, value);
  } else if constexpr (kind == Kind::tuple) {
    out.put_head(Tag::sequence, std::tuple_size<T>::value);
    encode_tuple(out, value, std::make_index_sequence<std::tuple_size<T>::value>{});
  } else if constexpr (kind == Kind::optional) {
    out.put_tag(value.has_value() ? Tag::present : Tag::absent);
    if (value.has_value()) out.template write<std::remove_cv_t<typename T::value_type>>(*value);
  } else if constexpr (kind == Kind::smart_pointer) {
    out.put_tag(value.get() != nullptr ? Tag::present : Tag::absent);
    if (value.get() != nullptr) out.template write<std::remove_cv_t<typename T::element_type>>(*value);
  } else if constexpr (kind == Kind::variant) {
    encode_variant(out, value, std::make_index_sequence<Children<T>::size>{});
  } else if constexpr (kind == Kind::expected) {
    out.put_head(Tag::variant, value.has_value() ? 0 : 1);
    if (!value.has_value()) {
      out.write(value.error());
    } else if constexpr (std::is_void_v<typename T::value_type>) {
      out.put_tag(Tag::unit);
    } else {
      out.write(*value);
    }
  } else if constexpr (kind == Kind::unit) {
    out.put_tag(Tag::unit);
  } else if constexpr (kind == Kind::duration) {
    encode_duration(out, value);
  } else if constexpr (kind == Kind::time_point) {
    out.put_tag(Tag::time_point);
    encode_duration(out, value.time_since_epoch());
  } else if constexpr (kind == Kind::path) {
    encode_path(out, value);
  } else if constexpr (kind == Kind::error_code) {
    encode_error_code(out, value);
  } else if constexpr (kind == Kind::fields) {
    const auto fields = fields_of(value);
    constexpr std::size_t count = std::tuple_size<std::remove_const_t<decltype(fields)>>::value;
    out.put_head(Tag::record, count);
    encode_tuple(out, fields, std::make_index_sequence<count>{});
  } else if constexpr (kind == Kind::record) {  // otherwise require_key_part() has spoken
    out.put_head(Tag::record, field_count<T>);
    if constexpr (field_count<T> != 0) bind_fields<field_count<T>>(value, EncodeFields{out});
  }
}

}  // namespace detail
IDEM_END_NAMESPACE
