// Bytes to values. Only what encode.hpp writes in exact form is accepted, so that what was read writes the same bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include <idem/codec/decode_scalars.hpp>
#include <idem/codec/kinds.hpp>
#include <idem/codec/numbers.hpp>
#include <idem/codec/reader.hpp>
#include <idem/codec/sorter.hpp>
#include <idem/codec/writer.hpp>
#include <idem/detail/config.hpp>

IDEM_BEGIN_NAMESPACE
namespace detail {

// --- Containers -----------------------------------------------------------------------------------------------------

// Nothing is reserved for a count that the bytes claim: a container grows with what is really there.
template <class T>
inline T decode_sequence(Reader& in) {
  using Element = std::remove_cv_t<typename T::value_type>;
  T container{};
  if constexpr (is_octet<Element>) {
    if (!in.expect(Tag::octets)) return container;
    const std::size_t size = in.take_count();
    const std::uint8_t* const data = in.take_raw(size);
    if (data == nullptr) return container;
    if constexpr (requires { container.resize(size); container.data(); }) {
      container.resize(size);
      if (size != 0) std::memcpy(container.data(), data, size);
    } else {
      for (std::size_t i = 0; i < size; ++i) container.push_back(static_cast<Element>(data[i]));
    }
  } else {
    if (!in.expect(Tag::sequence)) return container;
    const std::size_t size = in.take_count();
    for (std::size_t i = 0; i < size && in.ok(); ++i) container.push_back(in.template read<Element>());
  }
  return container;
}

// Arrays can't be returned, so they are read into place.
template <class T>
inline void decode_into(Reader& in, T& place) {
  if constexpr (kind_of<T> == Kind::char_array) {
    if (!in.expect(Tag::string)) return;
    if (in.take_count() != std::extent_v<T>) return in.fail("an array of another length");
    if (const std::uint8_t* const data = in.take_raw(std::extent_v<T>)) std::memcpy(place, data, sizeof place);
  } else if constexpr (kind_of<T> == Kind::c_array || kind_of<T> == Kind::std_array) {
    using Element = std::remove_cvref_t<decltype(place[0])>;
    constexpr std::size_t size = sizeof(T) / sizeof(Element);
    if constexpr (is_octet<Element>) {
      if (!in.expect(Tag::octets)) return;
      if (in.take_count() != size) return in.fail("an array of another length");
      if (const std::uint8_t* const data = in.take_raw(size)) std::memcpy(&place[0], data, size);
    } else {
      if (!in.expect(Tag::sequence)) return;
      if (in.take_count() != size) return in.fail("an array of another length");
      for (std::size_t i = 0; i < size && in.ok(); ++i) decode_into(in, place[i]);
    }
  } else {
    place = in.template read<T>();
  }
}

// Bytes are read in ascending order, so that a container has one encoding.
class EntryOrder {
 public:
  // Whether the entry from `begin` to `end` may follow the one before it.
  bool accepts(const std::uint8_t* begin, const std::uint8_t* end, bool repeats) noexcept {
    const auto size = static_cast<std::size_t>(end - begin);
    const int order = last_ == nullptr ? -1 : compare_bytes(last_, last_size_, begin, size);
    last_ = begin;
    last_size_ = size;
    return order < 0 || (repeats && order == 0);
  }

 private:
  const std::uint8_t* last_ = nullptr;
  std::size_t last_size_ = 0;
};

template <class T>
inline T decode_set(Reader& in) {
  T container{};
  if (!in.expect(Tag::set)) return container;
  constexpr bool unique = requires(typename T::key_type&& key) { container.insert(std::move(key)).second; };
  const std::size_t size = in.take_count();
  EntryOrder order;
  for (std::size_t i = 0; i < size && in.ok(); ++i) {
    const std::uint8_t* const begin = in.position();
    auto key = in.template read<typename T::key_type>();
    if (!in.ok()) break;
    if (!order.accepts(begin, in.position(), !unique)) {
      in.fail("the entries of a set out of order");
    } else if constexpr (unique) {
      if (!container.insert(std::move(key)).second) in.fail("the same entry twice");
    } else {
      container.insert(std::move(key));
    }
  }
  return container;
}

template <class T>
inline T decode_map(Reader& in) {
  T container{};
  if (!in.expect(Tag::map)) return container;
  using Key = typename T::key_type;
  using Mapped = typename T::mapped_type;
  constexpr bool unique = requires(Key&& key, Mapped&& mapped) {
    container.emplace(std::move(key), std::move(mapped)).second;
  };
  const std::size_t size = in.take_count();
  EntryOrder order;
  for (std::size_t i = 0; i < size && in.ok(); ++i) {
    const std::uint8_t* const begin = in.position();
    Key key = in.template read<Key>();
    const std::uint8_t* const key_end = in.position();
    Mapped mapped = in.template read<Mapped>();
    if (!in.ok()) break;
    if (!order.accepts(begin, unique ? key_end : in.position(), !unique)) {
      in.fail("the entries of a map out of order");
    } else if constexpr (unique) {
      if (!container.emplace(std::move(key), std::move(mapped)).second) in.fail("the same key twice");
    } else {
      container.emplace(std::move(key), std::move(mapped));
    }
  }
  return container;
}

inline void expect_count(Reader& in, Tag tag, std::size_t count) noexcept {
  if (in.expect(tag) && in.take_count() != count) in.fail("another number of values");
}

template <class T, class... Element>
inline T decode_tuple(Reader& in, Types<Element...>) {
  expect_count(in, Tag::sequence, sizeof...(Element));
  return T{in.template read<Element>()...};  // braces: from left to right
}

template <class T, class... A, std::size_t... i>
inline T decode_variant(Reader& in, Types<A...>, std::index_sequence<i...>) {
  using Make = T (*)(Reader&);
  constexpr Make make[] = {+[](Reader& from) { return T(std::in_place_index<i>, from.template read<A>()); }...};
  std::uint64_t index = 0;
  if (in.expect(Tag::variant)) index = in.take_varint();
  if (index >= sizeof...(A)) {
    in.fail("an alternative that the variant doesn't have");
    index = 0;
  }
  return make[index](in);
}

template <class T>
inline T decode_expected(Reader& in) {
  std::uint64_t index = 0;
  if (in.expect(Tag::variant)) index = in.take_varint();
  if (index == 1) return T(typename T::unexpected_type(in.template read<typename T::error_type>()));
  if (index != 0) in.fail("an alternative that the expected doesn't have");
  if constexpr (std::is_void_v<typename T::value_type>) {
    in.expect(Tag::unit);
    return T{};
  } else {
    return T(std::in_place, in.template read<std::remove_cv_t<typename T::value_type>>());
  }
}

inline bool decode_presence(Reader& in) noexcept {
  const Tag tag = in.take_tag();
  if (tag != Tag::present && tag != Tag::absent) in.fail("a value of another kind");
  return tag == Tag::present;
}

template <class T>
inline T decode_ticks(Reader& in) {
  in.expect(Tag::ticks);
  return T(in.template read<typename T::rep>());
}

// The category is one of the two that exist everywhere. They are found without <system_error>: one is the category of
// an error_code made of nothing, the other that of the condition which every system maps its first error to.
template <class T>
inline bool find_category(T& code, const std::uint8_t* name, std::size_t size) noexcept {
  const auto matches = [&](const auto& category) {
    const char* const known = category.name();
    return compare_bytes(reinterpret_cast<const std::uint8_t*>(known), std::char_traits<char>::length(known), name,
                         size) == 0;
  };
  if (matches(code.category())) return true;
  if constexpr (requires { T{}.default_error_condition(); }) {
    const auto condition = T(1, T{}.category()).default_error_condition();
    if (!matches(condition.category())) return false;
    code.assign(0, condition.category());
    return true;
  } else {
    return false;
  }
}

template <class T>
inline T decode_error_code(Reader& in) {
  T code{};
  if (!in.expect(Tag::error_code) || !in.expect(Tag::string)) return code;
  const std::size_t size = in.take_count();
  const std::uint8_t* const name = in.take_raw(size);
  const int value = decode_integer<int>(in);
  if (!in.ok()) return code;
  if (find_category(code, name, size)) {
    code.assign(value, code.category());
  } else {
    in.fail("an error category that isn't known here");
  }
  return code;
}

// --- Classes with fields --------------------------------------------------------------------------------------------

struct DecodeFirst {
  Reader& in;
  std::size_t count;
  template <class... D, class... V>
  void operator()(Types<D...>, V&... fields) const {
    std::size_t i = 0;
    static_cast<void>(((i++ < count && (decode_into(in, fields), true)) && ...));
  }
};

template <class T, std::size_t... i>
inline void decode_tied(Reader& in, std::size_t count, T& tied, std::index_sequence<i...>) {
  static_cast<void>(((i < count && (decode_into(in, get<i>(tied)), true)) && ...));
}

template <class T, class... Read>
concept MadeOf = requires(Read&&... fields) { T{static_cast<Read&&>(fields)...}; };

// Initializers are left out on purpose, and a field may be a bit-field, which can't be asked for its width.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#pragma GCC diagnostic ignored "-Wconversion"
template <class T, class... First>
inline T make_record(Reader& in, Types<First...>) {
  return T{in.template read<First>()...};
}
#pragma GCC diagnostic pop

// The first `count` fields are read, the others have what their initializers say.
template <class T, class... Read, class Next, class... Rest>
inline T decode_fields(Reader& in, std::size_t count, Types<Read...> read, Types<Next, Rest...>) {
  if (count != sizeof...(Read)) return decode_fields<T>(in, count, Types<Read..., Next>{}, Types<Rest...>{});
  if constexpr (MadeOf<T, Read...>) {
    return make_record<T>(in, read);
  } else {
    // What was added has no default. The reader has failed when the value is looked at.
    in.fail("another shape");
    return make_record<T>(in, Types<Read..., Next, Rest...>{});
  }
}
template <class T, class... Read>
inline T decode_fields(Reader& in, std::size_t, Types<Read...> read, Types<>) {
  return make_record<T>(in, read);
}

template <class... T>
constexpr bool has_array(Types<T...>) noexcept {
  return (std::is_array_v<T> || ...);
}

/// Reads a record of `count` fields, the first ones of T. REQUIRES: count is not above T's number of fields.
template <class T>
inline T decode_record(Reader& in, std::size_t count) {
  expect_count(in, Tag::record, count);
  if constexpr (kind_of<T> == Kind::fields) {
    T value{};
    auto tied = fields_of(value);
    decode_tied(in, count, tied, std::make_index_sequence<std::tuple_size<decltype(tied)>::value>{});
    return value;
  } else if constexpr (field_count<T> == 0) {
    return T{};
  } else if constexpr (has_array(Children<T>{})) {
    T value{};
    bind_fields<field_count<T>>(value, DecodeFirst{in, count});
    return value;
  } else {
    return decode_fields<T>(in, count, Types<>{}, Children<T>{});
  }
}

/// Decodes a value of a kind that idem knows.
template <class T>
inline T decode_value(Reader& in) {
  constexpr Kind kind = kind_of<T>;
  if constexpr (kind == Kind::boolean) {
    in.expect(Tag::boolean);
    const std::uint8_t byte = in.take_byte();
    if (byte > 1) in.fail("a bool that is neither true nor false");
    return byte == 1;
  } else if constexpr (kind == Kind::integer) {
    using Number = decltype(number_of(T{}));
    return static_cast<T>(decode_integer<Number>(in));
  } else if constexpr (kind == Kind::floating) {
    return decode_floating<T>(in);
  } else if constexpr (kind == Kind::enumeration) {
    in.expect(Tag::enumeration);
    return static_cast<T>(in.template read<std::underlying_type_t<T>>());
  } else if constexpr (kind == Kind::string) {
    return decode_string<T>(in, Tag::string);
  } else if constexpr (kind == Kind::std_array) {
    T value{};
    if constexpr (std::tuple_size<T>::value == 0) {
      in.expect(is_octet<typename T::value_type> ? Tag::octets : Tag::sequence);
      if (in.take_count() != 0) in.fail("an array of another length");
    } else {
      decode_into(in, value);
    }
    return value;
  } else if constexpr (kind == Kind::sequence) {
    return decode_sequence<T>(in);
  } else if constexpr (kind == Kind::set) {
    return decode_set<T>(in);
  } else if constexpr (kind == Kind::map) {
    return decode_map<T>(in);
  } else if constexpr (kind == Kind::tuple) {
    return decode_tuple<T>(in, Children<T>{});
  } else if constexpr (kind == Kind::optional) {
    if (!decode_presence(in)) return T{};
    return T(in.template read<std::remove_cv_t<typename T::value_type>>());
  } else if constexpr (kind == Kind::smart_pointer) {
    using Element = std::remove_cv_t<typename T::element_type>;
    if (!decode_presence(in)) return T{};
    return T(new Element(in.template read<Element>()));
  } else if constexpr (kind == Kind::variant) {
    return decode_variant<T>(in, Children<T>{}, std::make_index_sequence<Children<T>::size>{});
  } else if constexpr (kind == Kind::expected) {
    return decode_expected<T>(in);
  } else if constexpr (kind == Kind::unit) {
    in.expect(Tag::unit);
    return T{};
  } else if constexpr (kind == Kind::duration) {
    return decode_ticks<T>(in);
  } else if constexpr (kind == Kind::time_point) {
    in.expect(Tag::time_point);
    return T(decode_ticks<typename T::duration>(in));
  } else if constexpr (kind == Kind::path) {
    if constexpr (sizeof(typename T::value_type) != 1) {
      return T(decode_string<std::u8string>(in, Tag::path));
    } else {
      return T(decode_string<typename T::string_type>(in, Tag::path));
    }
  } else if constexpr (kind == Kind::error_code) {
    return decode_error_code<T>(in);
  } else if constexpr (kind == Kind::record || kind == Kind::fields) {  // otherwise require_storable() has spoken
    constexpr std::size_t count = Children<T>::size;
    return decode_record<T>(in, count);
  }
}

}  // namespace detail
IDEM_END_NAMESPACE
