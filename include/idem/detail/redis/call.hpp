// One call of a script, as it's said to the server.
#pragma once

#include <idem/detail/bytes.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/redis/command.hpp>
#include <idem/detail/redis/scripts.hpp>
#include <idem/detail/sha256.hpp>
#include <idem/duration.hpp>

#include <cstddef>
#include <cstdint>
#include <string_view>

IDEM_BEGIN_NAMESPACE
namespace detail::redis {

inline constexpr std::size_t digest_digits = 64;

inline void write_digest(const Digest& digest, char* to) noexcept {
  static constexpr char digits[] = "0123456789abcdef";
  for (const std::uint8_t byte : digest.bytes) {
    *to++ = digits[byte >> 4];
    *to++ = digits[byte & 15];
  }
}

/// The digest of 64 lower-case hexadecimal digits; false where they are none.
inline bool read_digest(std::string_view text, Digest& digest) noexcept {
  if (text.size() != digest_digits) return false;
  const auto value = [](char digit) {
    if (digit >= '0' && digit <= '9') return digit - '0';
    return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : 256;
  };
  for (std::size_t i = 0; i < sizeof digest.bytes; ++i) {
    const int byte = value(text[2 * i]) * 16 + value(text[2 * i + 1]);
    if (byte > 255) return false;
    digest.bytes[i] = static_cast<std::uint8_t>(byte);
  }
  return true;
}

/// A number in decimal, where it stands.
class Decimal {
 public:
  Decimal() noexcept = default;
  explicit Decimal(std::int64_t value) noexcept { set(value); }

  void set(std::int64_t value) noexcept {
    const auto bits = static_cast<std::uint64_t>(value);
    std::uint64_t left = value < 0 ? std::uint64_t{0} - bits : bits;
    begin_ = sizeof text_;
    do {
      text_[--begin_] = static_cast<char>('0' + left % 10);
      left /= 10;
    } while (left != 0);
    if (value < 0) text_[--begin_] = '-';
  }
  std::string_view view() const noexcept { return {text_ + begin_, sizeof text_ - begin_}; }

 private:
  char text_[20] = {};
  std::size_t begin_ = sizeof text_;
};

/// A span as the scripts take it: microseconds, rounded up; nothing for ever, and for what doubles can't count.
class Span {
 public:
  explicit Span(Duration span) noexcept : micros_(micros(span)) {
    if (micros_ == never) return;
    number_.set(micros_);
    millis_.set(micros_ / 1000 + (micros_ % 1000 > 0 ? 1 : 0) + 1);
  }
  std::string_view view() const noexcept { return micros_ == never ? std::string_view{} : number_.view(); }
  /// Milliseconds, a little more: for a server that is to forget by itself, and not too early.
  std::string_view millis() const noexcept { return micros_ == never ? std::string_view{} : millis_.view(); }
  bool is_forever() const noexcept { return micros_ == never; }
  /// REQUIRES: not for ever.
  std::int64_t micros() const noexcept { return micros_; }

 private:
  static constexpr std::int64_t never = -1;
  static constexpr std::int64_t longest = std::int64_t{1} << 52;

  static std::int64_t micros(Duration span) noexcept {
    if (span.is_forever() || span.overflowed()) return never;
    const std::int64_t nanos = span.nanoseconds() < 0 ? 0 : span.nanoseconds();
    const std::int64_t whole = nanos / 1000 + (nanos % 1000 > 0 ? 1 : 0);
    return whole > longest ? never : whole;
  }

  std::int64_t micros_;
  Decimal number_;
  Decimal millis_;
};

/// A script, its key, and its arguments after the time. Refers to what its maker owns.
struct Call {
  static constexpr std::size_t most_arguments = 8;

  Script Scripts::*script = nullptr;
  Digest key = {};
  bool writes = true;  ///< With min_replicas, replicas are waited for.
  std::size_t count = 0;
  std::string_view arguments[most_arguments] = {};

  /// REQUIRES: fewer than `most_arguments` so far.
  Call& with(std::string_view argument) noexcept {
    arguments[count++] = argument;
    return *this;
  }

  /// Appends it, by the script's name or with its `whole` text. `now` is empty where the server's clock judges. Only an
  /// allocation throws.
  void write(Bytes& out, const Scripts& scripts, bool whole, std::string_view prefix, std::string_view now) const {
    const Script& called = scripts.*script;
    Command command(out, 5 + count);
    command.arg(whole ? "EVAL" : "EVALSHA").arg(whole ? std::string_view(called.text) : called.name()).arg("1");
    Bytes name(prefix.data(), prefix.size());
    write_digest(key, reinterpret_cast<char*>(name.extend(digest_digits)));
    command.arg(name.data(), name.size()).arg(now);
    for (std::size_t i = 0; i < count; ++i) command.arg(arguments[i]);
  }
};

}  // namespace detail::redis
IDEM_END_NAMESPACE
