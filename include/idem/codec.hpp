// codec<T>: values to bytes and back, for keys and results. docs/encoding.md describes the bytes.
//
// What it does not do: it doesn't follow raw pointers, it keeps no identity (two shared_ptr to one object become two
// objects), and a result comes back as the type it was stored as, not as a class derived from it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include <idem/codec/decode.hpp>
#include <idem/codec/encode.hpp>
#include <idem/codec/reader.hpp>
#include <idem/codec/refusal.hpp>
#include <idem/codec/tags.hpp>
#include <idem/codec/writer.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/shape.hpp>

IDEM_BEGIN_NAMESPACE

// The codec of every type that idem knows. A specialisation by the program goes before it.
template <class T, class Enable>
struct codec : detail::BuiltinCodec {
  static void encode(Writer& out, const T& value) { detail::encode_value(out, value); }
  template <class U = T>
  static U decode(Reader& in) {
    return detail::decode_value<U>(in);
  }
  static constexpr std::string_view shape = detail::shape_of<T>;
};

namespace detail {

// Kinds that contain no other values needn't be counted.
template <class T>
inline constexpr bool is_leaf =
    kind_of<T> == Kind::boolean || kind_of<T> == Kind::integer || kind_of<T> == Kind::floating ||
    kind_of<T> == Kind::enumeration || kind_of<T> == Kind::string || kind_of<T> == Kind::string_view ||
    kind_of<T> == Kind::c_string || kind_of<T> == Kind::char_array || kind_of<T> == Kind::unit ||
    kind_of<T> == Kind::duration || kind_of<T> == Kind::time_point;

template <class T>
struct Access {
  static IDEM_ALWAYS_INLINE void write(Writer& out, const T& value) {
    if constexpr (result_refusal<T> != Refusal::none) require_key_part<T>();
    if constexpr (is_leaf<T>) {
      encode_value(out, value);
    } else {
      write_nested(out, value);
    }
  }

  // A template, so that nothing is said about arrays, which can't be returned.
  template <class U = T>
  static U read(Reader& in) {
    require_storable<T>();
    if constexpr (is_leaf<T>) {
      return decode_value<T>(in);
    } else {
      if (in.depth_ == max_depth) in.fail("values nested more than 128 levels deep");
      const Level level(in.depth_);
      if constexpr (kind_of<T> == Kind::custom) {
        return read_custom(in);
      } else {
        return decode_value<T>(in);
      }
    }
  }

 private:
  // Counted down also where a codec of the program throws.
  class Level {
   public:
    explicit Level(unsigned& depth) noexcept : depth_(depth) { ++depth_; }
    ~Level() { --depth_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    unsigned& depth_;
  };

  static void write_nested(Writer& out, const T& value) {
    if (out.depth_ == max_depth) {
      out.refuse("values nested more than 128 levels deep");
      return;
    }
    const Level level(out.depth_);
    if constexpr (kind_of<T> == Kind::custom) {
      const std::size_t begin = out.begin_custom();
      codec<T>::encode(out, value);
      out.end_custom(begin);
    } else {
      encode_value(out, value);
    }
  }

  // The codec sees its own bytes only, and has to take them all.
  template <class U = T>
  static U read_custom(Reader& in) {
    const std::uint8_t* const end = in.end_;
    std::size_t size = 0;
    if (in.expect(Tag::custom)) {
      if (const std::uint8_t* const place = in.take_raw(4)) size = load_le32(place);
      if (size > in.remaining()) {
        in.fail("a length beyond the end of the bytes");
        size = 0;
      }
    }
    in.end_ = in.at_ + size;
    const Restore restore{in, end};
    return U(codec<T>::decode(in));
  }

  struct Restore {
    Reader& in;
    const std::uint8_t* end;
    ~Restore() {
      if (in.at_ != in.end_) in.fail("a codec left bytes over");
      in.end_ = end;
      if (!in.ok()) in.at_ = end;
    }
  };
};

/// Writes one argument of a call. Unlike an array inside a value, an array of characters is a string literal here and
/// loses the zero at its end.
template <class T>
inline void write_part(Writer& out, const T& value) {
  require_key_part<T>();
  if constexpr (kind_of<T> == Kind::char_array) {
    std::size_t size = std::extent_v<T>;
    if (value[size - 1] == std::remove_extent_t<T>{}) --size;
    for (std::size_t i = 0; i < size; ++i) {
      // A buffer that isn't full: what follows is left over from something else.
      if (value[i] == std::remove_extent_t<T>{}) {
        out.refuse(
            "a character array with a zero inside; hand over a std::string or a std::string_view of what counts");
        break;
      }
    }
    encode_text(out, Tag::string, value, size);
  } else {
    out.write(value);
  }
}

/// Whether a result stored with this shape is one of today's T with fields added at the end; then `count` is how many
/// fields it has. All of T's when the shapes are equal.
template <class T, class... Field>
constexpr bool find_stored_fields(std::uint64_t stored_shape, std::size_t& count, Types<Field...>) noexcept {
  FingerprintSink sink;
  sink.put('{');
  count = 0;
  const auto matches = [&] {
    FingerprintSink closed = sink;
    closed.put('}');
    return closed.finish() == stored_shape;
  };
  [[maybe_unused]] const auto matches_with = [&]<class Next>(Types<Next>) {
    if (count != 0) sink.put(',');
    ShapeOf<false, T>::template put<Next>(sink);
    ++count;
    return matches();
  };
  return matches() || (matches_with(Types<Field>{}) || ...);
}

/// Decodes a result that was stored with the shape of fingerprint `stored_shape` into `slot` (an std::optional<T> or
/// something with the same emplace()). Fields that were added to T since have their defaults. False when the bytes are
/// no T, or don't end with it; the reader then says why.
template <class T, class Slot>
inline bool decode_result(Reader& in, std::uint64_t stored_shape, Slot& slot) {
  require_storable<T>();
  struct Make {
    Reader& in;
    std::size_t count;
    // Lets emplace() make the value in place, so that T needn't be movable.
    operator T() const {
      if constexpr (kind_of<T> == Kind::record || kind_of<T> == Kind::fields) {
        return decode_record<T>(in, count);
      } else {
        return in.template read<T>();
      }
    }
  };
  std::size_t count = 0;
  bool fits = stored_shape == shape_fingerprint<T>();
  if constexpr (kind_of<T> == Kind::record || kind_of<T> == Kind::fields) {
    count = Children<T>::size;
    if (!fits) fits = find_stored_fields<T>(stored_shape, count, Children<T>{});
  }
  if (!fits) {
    in.fail("another shape");
    return false;
  }
  slot.emplace(Make{in, count});
  if (in.ok() && !in.at_end()) in.fail("bytes left over after the value");
  return in.ok();
}

}  // namespace detail
IDEM_END_NAMESPACE
