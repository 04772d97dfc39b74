// HIR-13: commands are written by lengths, never by a format.
#include <doctest/doctest.h>

#include <idem/detail/redis/command.hpp>

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

using idem::detail::Bytes;
using idem::detail::redis::Command;

namespace {

std::string text(const Bytes& bytes) {
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

}  // namespace

TEST_CASE("HIR-13: a command is an array of strings, each with its length, whatever is in them") {
  Bytes out;
  Command(out, 4).arg("SET").arg(std::string_view("a\0%s\r\n", 6)).arg("").arg(std::string(12, 'x'));
  CHECK(text(out) ==
        "*4\r\n$3\r\nSET\r\n$6\r\na" + std::string(1, '\0') + "%s\r\n\r\n$0\r\n\r\n$12\r\nxxxxxxxxxxxx\r\n");
}

TEST_CASE("HIR-13: numbers are written in decimal, the extremes too") {
  Bytes out;
  Command(out, 4)
      .number(0)
      .number(-1)
      .number((std::numeric_limits<std::int64_t>::max)())
      .number((std::numeric_limits<std::int64_t>::min)());
  CHECK(text(out) == "*4\r\n$1\r\n0\r\n$2\r\n-1\r\n$19\r\n9223372036854775807\r\n$20\r\n-9223372036854775808\r\n");
}

TEST_CASE("HIR-13: commands are appended to what is there") {
  Bytes out;
  Command(out, 1).arg("TIME");
  Command(out, 1).arg("PING");
  CHECK(text(out) == "*1\r\n$4\r\nTIME\r\n*1\r\n$4\r\nPING\r\n");
}
