// Why something could not be done, in words that need no memory.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/error_text.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>  // memcpy
#include <string_view>

IDEM_BEGIN_NAMESPACE
namespace detail::redis {

/// A short text; what doesn't fit is left out. Never holds a password. Not safe for use by several threads at once.
class Reason {
 public:
  Reason() noexcept { text_[0] = '\0'; }
  explicit Reason(std::string_view text) noexcept : Reason() { add(text); }
  Reason(const Reason& other) noexcept { assign(other); }
  Reason& operator=(const Reason& other) noexcept {
    if (this != &other) assign(other);
    return *this;
  }

  bool empty() const noexcept { return size_ == 0; }
  std::string_view view() const noexcept { return std::string_view(text_, size_); }
  const char* c_str() const noexcept { return text_; }
  void clear() noexcept {
    size_ = 0;
    text_[0] = '\0';
  }

  /// Control characters, which a server may have put there, become spaces.
  Reason& add(std::string_view more) noexcept {
    for (const char c : more) {
      if (size_ == sizeof text_ - 1) break;
      text_[size_++] = static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? ' ' : c;
    }
    text_[size_] = '\0';
    return *this;
  }

  Reason& add(std::uint64_t number) noexcept {
    char digits[20];
    char* const end = digits + sizeof digits;
    char* first = end;
    do {
      *--first = static_cast<char>('0' + number % 10);
      number /= 10;
    } while (number != 0);
    return add(std::string_view(first, static_cast<std::size_t>(end - first)));
  }

  /// ": Connection refused"
  Reason& add_errno(int error) noexcept {
    char buffer[128] = {};
    return add(": ").add(error_text(error, buffer));
  }

 private:
  void assign(const Reason& other) noexcept {
    size_ = other.size_;
    std::memcpy(text_, other.text_, size_ + std::size_t{1});
  }

  std::uint8_t size_ = 0;
  char text_[255];
};

}  // namespace detail::redis
IDEM_END_NAMESPACE
