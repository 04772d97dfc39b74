// What the tests of the encoding share: bytes as text, and random numbers that are the same everywhere.
#pragma once

#include <idem/codec.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <type_traits>

namespace codec_test {

inline std::string hex(const idem::detail::Bytes& bytes) {
  static const char digits[] = "0123456789abcdef";
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    text += digits[bytes.data()[i] >> 4];
    text += digits[bytes.data()[i] & 15];
  }
  return text;
}

template <class T>
idem::detail::Bytes encoded(const T& value, idem::Form form) {
  idem::detail::Bytes bytes;
  idem::Writer out(bytes, form);
  out.write(value);
  return out.ok() ? bytes : idem::detail::Bytes("refused", 7);
}

template <class T>
std::string key_hex(const T& value) {
  return hex(encoded(value, idem::Form::key));
}

template <class T>
std::string exact_hex(const T& value) {
  return hex(encoded(value, idem::Form::exact));
}

/// What the bytes stand for, if they are a T and nothing else.
template <class T>
std::optional<T> decoded(const std::uint8_t* data, std::size_t size) {
  idem::Reader in(data, size);
  std::optional<T> slot;
  if (!idem::detail::decode_result<T>(in, idem::detail::shape_fingerprint<T>(), slot)) return std::nullopt;
  return slot;
}

template <class T>
std::optional<T> decoded(const idem::detail::Bytes& bytes) {
  return decoded<T>(bytes.data(), bytes.size());
}

/// Whether the value comes back, told by its bytes (NaN doesn't equal itself, and a unique_ptr equals nothing else).
template <class T>
bool comes_back(const T& value) {
  const idem::detail::Bytes bytes = encoded(value, idem::Form::exact);
  const std::optional<T> back = decoded<T>(bytes);
  return back.has_value() && encoded(*back, idem::Form::exact) == bytes;
}

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators").
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t operator()() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  std::uint64_t below(std::uint64_t limit) { return (*this)() % limit; }

 private:
  std::uint64_t state_;
};

}  // namespace codec_test
