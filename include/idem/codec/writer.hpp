// Writer: where codecs put values.
#pragma once

#include <cstddef>
#include <cstdint>

#include <idem/codec/tags.hpp>
#include <idem/detail/bytes.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/endian.hpp>

IDEM_BEGIN_NAMESPACE

/// How values of type T become bytes and back. idem knows the types of docs/encoding.md; specialise it for your own:
///
///     template <>
///     struct idem::codec<Money> {
///       static constexpr std::string_view shape = "money";            // change it when the encoding changes
///       static void encode(idem::Writer& out, const Money& m) { out.write(m.cents()); }
///       static Money decode(idem::Reader& in) { return Money(in.read<long long>()); }   // for results only
///     };
///
/// `encode` may throw or call Writer::refuse(); in a key the function is then not run, in a result it was run and its
/// value isn't kept. `decode` may call Reader::fail().
template <class T, class Enable = void>
struct codec;

namespace detail {
template <class T>
struct Access;  // writes and reads one value with its depth counted
struct Sorter;  // puts the entries of a set or map in the order of their bytes
}

/// Writes values in the canonical encoding. Used by one thread at a time. Nothing here throws but the allocation of
/// memory; what can't be encoded is remembered, and encoding goes on harmlessly.
class Writer {
 public:
  /// Appends to `out`, at most `limit` bytes.
  Writer(detail::Bytes& out, Form form, std::size_t limit = static_cast<std::size_t>(-1)) noexcept
      : out_(out),
        end_(limit > static_cast<std::size_t>(-1) - out.size() ? static_cast<std::size_t>(-1) : out.size() + limit),
        form_(form) {}
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  Form form() const noexcept { return form_; }

  /// Writes `value` by its codec.
  template <class T>
  void write(const T& value) {
    detail::Access<T>::write(*this, value);
  }

  /// Says that there is no encoding. The first reason wins. REQUIRES: `why` lives for ever and contains nothing of the
  /// value, since it ends up in errors and logs.
  void refuse(const char* why) noexcept {
    if (error_ == nullptr) error_ = why;
  }

  bool ok() const noexcept { return error_ == nullptr; }
  /// Why there is no encoding; nullptr when there is one.
  const char* error() const noexcept { return error_; }
  /// Whether the limit was passed.
  bool too_large() const noexcept { return too_large_; }

  // The parts that the codecs of idem are made of. A codec of your own is better off with write() alone: it gives every
  // value a tag and a length, so that two different values can't have the same bytes.

  void put_byte(std::uint8_t byte) {
    if (has_room(1)) out_.push(byte);
  }
  void put_raw(const void* data, std::size_t size) {
    if (has_room(size)) out_.append(data, size);
  }
  /// Eight bytes, least significant first.
  void put_u64(std::uint64_t value) {
    if (has_room(8)) detail::store_le64(out_.extend(8), value);
  }
  /// LEB128: seven bits a byte, least significant first, without needless bytes.
  void put_varint(std::uint64_t value) {
    while (value >= 0x80) {
      put_byte(static_cast<std::uint8_t>(value | 0x80));
      value >>= 7;
    }
    put_byte(static_cast<std::uint8_t>(value));
  }
  void put_tag(detail::Tag tag) { put_byte(static_cast<std::uint8_t>(tag)); }
  void put_tag_u64(detail::Tag tag, std::uint64_t value) {
    if (!has_room(9)) return;
    std::uint8_t* const place = out_.extend(9);
    place[0] = static_cast<std::uint8_t>(tag);
    detail::store_le64(place + 1, value);
  }
  /// A tag and a length or count.
  void put_head(detail::Tag tag, std::uint64_t count) {
    if (count < 0x80 && has_room(2)) {
      std::uint8_t* const place = out_.extend(2);
      place[0] = static_cast<std::uint8_t>(tag);
      place[1] = static_cast<std::uint8_t>(count);
    } else {
      put_tag(tag);
      put_varint(count);
    }
  }

 private:
  template <class T>
  friend struct detail::Access;
  friend struct detail::Sorter;

  // What a custom value takes is known when it is written: its length is put in front of it then.
  std::size_t begin_custom() {
    put_tag(detail::Tag::custom);
    if (has_room(4)) detail::store_le32(out_.extend(4), 0);
    return out_.size();
  }
  void end_custom(std::size_t begin) noexcept {
    if (too_large_) return;
    const std::uint64_t size = out_.size() - begin;
    if (size > 0xffffffffu) refuse("a value of a codec of the program's own takes 4 GiB or more");
    detail::store_le32(out_.data() + begin - 4, static_cast<std::uint32_t>(size & 0xffffffffu));
  }

  IDEM_ALWAYS_INLINE bool has_room(std::size_t size) noexcept {
    if (size <= end_ - out_.size()) return true;
    overflow();
    return false;
  }
  IDEM_COLD void overflow() noexcept {
    too_large_ = true;
    end_ = out_.size();  // so that nothing shorter is written after what was left out
    refuse("the encoded value is larger than allowed");
  }

  detail::Bytes& out_;
  std::size_t end_;
  const char* error_ = nullptr;
  unsigned depth_ = 0;
  Form form_;
  bool too_large_ = false;
};

IDEM_END_NAMESPACE
