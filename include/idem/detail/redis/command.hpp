// A command of the Redis protocol (RESP 2) as bytes.
#pragma once

#include <idem/detail/bytes.hpp>
#include <idem/detail/config.hpp>

#include <cstddef>
#include <cstdint>
#include <string_view>

IDEM_BEGIN_NAMESPACE
namespace detail::redis {

/// Appends one command to `out`: an array of strings, each with its length before it, so that an argument may hold any
/// bytes. REQUIRES: as many arguments follow as were announced. Only an allocation can throw; what was appended so far
/// then has to be dropped. Not safe for use by several threads at once.
class Command {
 public:
  /// `arguments`: with the command's name.
  Command(Bytes& out, std::size_t arguments) : out_(out) { header('*', arguments); }
  Command(const Command&) = delete;
  Command& operator=(const Command&) = delete;

  Command& arg(const void* data, std::size_t size) {
    header('$', size);
    out_.append(data, size);
    out_.append("\r\n", 2);
    return *this;
  }
  Command& arg(std::string_view text) { return arg(text.data(), text.size()); }

  /// In decimal.
  Command& number(std::int64_t value) {
    char digits[20];
    char* const end = digits + sizeof digits;
    const auto bits = static_cast<std::uint64_t>(value);
    char* first = write(value < 0 ? std::uint64_t{0} - bits : bits, end);
    if (value < 0) *--first = '-';
    return arg(first, static_cast<std::size_t>(end - first));
  }

 private:
  static char* write(std::uint64_t value, char* end) noexcept {
    do {
      *--end = static_cast<char>('0' + value % 10);
      value /= 10;
    } while (value != 0);
    return end;
  }

  void header(char type, std::size_t count) {
    char line[24];
    char* const end = line + sizeof line;
    end[-1] = '\n';
    end[-2] = '\r';
    char* first = write(count, end - 2);
    *--first = type;
    out_.append(first, static_cast<std::size_t>(end - first));
  }

  Bytes& out_;
};

}  // namespace detail::redis
IDEM_END_NAMESPACE
