// Reader: where codecs get values from.
#pragma once

#include <cstddef>
#include <cstdint>

#include <idem/codec/tags.hpp>
#include <idem/codec/writer.hpp>  // declares codec
#include <idem/detail/config.hpp>
#include <idem/detail/endian.hpp>

IDEM_BEGIN_NAMESPACE

/// Reads values in the canonical encoding out of bytes that nobody vouches for. It never reads past their end, accepts
/// only what Writer writes, and by itself never throws: after the first failure every read gives zeros and empty
/// values. Used by one thread at a time; the bytes have to outlive it.
class Reader {
 public:
  Reader(const std::uint8_t* data, std::size_t size) noexcept : at_(data), end_(data + size) {}
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  /// Reads a value by the codec of T. Look at ok() before use.
  template <class T>
  T read() {
    return detail::Access<T>::read(*this);
  }

  /// Says that the bytes are no value. The first reason wins. REQUIRES: `why` lives for ever.
  void fail(const char* why) noexcept {
    if (error_ == nullptr) error_ = why;
    at_ = end_;
  }

  bool ok() const noexcept { return error_ == nullptr; }
  const char* error() const noexcept { return error_; }
  std::size_t remaining() const noexcept { return static_cast<std::size_t>(end_ - at_); }
  bool at_end() const noexcept { return at_ == end_; }

  // The counterparts of Writer's parts. Each gives zero, or nullptr, when there isn't enough left.

  const std::uint8_t* take_raw(std::size_t size) noexcept {
    if (size > remaining()) {
      fail("the bytes end inside a value");
      return nullptr;
    }
    const std::uint8_t* const place = at_;
    at_ += size;
    return place;
  }
  std::uint8_t take_byte() noexcept {
    const std::uint8_t* const place = take_raw(1);
    return place == nullptr ? std::uint8_t{0} : *place;
  }
  std::uint64_t take_u64() noexcept {
    const std::uint8_t* const place = take_raw(8);
    return place == nullptr ? 0 : detail::load_le64(place);
  }
  std::uint64_t take_varint() noexcept {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const std::uint8_t byte = take_byte();
      if (shift == 63 && byte > 1) break;
      value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
      if ((byte & 0x80) == 0) {
        if (byte == 0 && shift != 0) break;  // the same number has a shorter form
        return ok() ? value : 0;
      }
    }
    fail("a length that no writer writes");
    return 0;
  }
  detail::Tag take_tag() noexcept { return static_cast<detail::Tag>(take_byte()); }
  bool expect(detail::Tag tag) noexcept {
    if (take_tag() == tag && ok()) return true;
    fail("a value of another kind");
    return false;
  }
  /// A number of values or of bytes to come. More than there are bytes left is refused, since each takes one at least.
  std::size_t take_count() noexcept {
    const std::uint64_t count = take_varint();
    if (count <= remaining()) return static_cast<std::size_t>(count);
    fail("a length beyond the end of the bytes");
    return 0;
  }
  /// What is to be read next.
  const std::uint8_t* position() const noexcept { return at_; }

 private:
  template <class T>
  friend struct detail::Access;

  const std::uint8_t* at_;
  const std::uint8_t* end_;
  const char* error_ = nullptr;
  unsigned depth_ = 0;
};

IDEM_END_NAMESPACE
