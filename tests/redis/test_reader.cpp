// HIR-05, HIR-09, HIR-10: what a server may send, and what becomes of what it may not.
#include <doctest/doctest.h>

#include <idem/detail/redis/reader.hpp>

#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <string_view>

using idem::detail::redis::ReplyReader;
using idem::detail::redis::ReplyTree;
using idem::detail::redis::ReplyType;
using Next = ReplyReader::Next;

namespace {

/// The tree in words.
std::string told(const ReplyTree& tree) {
  std::string result;
  for (std::size_t i = 0; i < tree.size(); ++i) {
    switch (tree[i].type) {
      case ReplyType::status:
        result += "+" + std::string(tree[i].text);
        break;
      case ReplyType::error:
        result += "-" + std::string(tree[i].text);
        break;
      case ReplyType::integer:
        result += ":" + std::to_string(tree[i].integer);
        break;
      case ReplyType::string:
        result += "$" + std::string(tree[i].text);
        break;
      case ReplyType::nil:
        result += "nil";
        break;
      case ReplyType::array:
        result += "*" + std::to_string(tree[i].children);
        break;
    }
    result += ' ';
  }
  return result;
}

/// What a reader with these limits makes of one reply.
std::string read(std::string_view bytes, std::size_t max_bytes = 1000, std::size_t max_nodes = 100) {
  ReplyReader reader(max_bytes, max_nodes);
  ReplyTree tree;
  reader.feed(bytes.data(), bytes.size());
  const Next next = reader.next(tree);
  if (next == Next::more) return "more";
  if (next == Next::broken) {
    // Once broken, always broken.
    reader.feed("+OK\r\n", 5);
    CHECK(reader.next(tree) == Next::broken);
    return std::string("broken: ") + reader.why();
  }
  return told(tree);
}

std::string nested(int depth) {
  std::string result;
  for (int i = 0; i < depth; ++i) result += "*1\r\n";
  return result + ":1\r\n";
}

}  // namespace

TEST_CASE("HIR-09: every type of reply is read, as one value or nested") {
  CHECK(read("+OK\r\n") == "+OK ");
  CHECK(read("-ERR no\r\n") == "-ERR no ");
  CHECK(read(":-9223372036854775807\r\n") == ":-9223372036854775807 ");
  CHECK(read("$5\r\na\r\nbc\r\n") == "$a\r\nbc ");
  CHECK(read("$0\r\n\r\n") == "$ ");
  CHECK(read("$-1\r\n") == "nil ");
  CHECK(read("*-1\r\n") == "nil ");
  CHECK(read("*0\r\n") == "*0 ");
  CHECK(read("*3\r\n:1\r\n*2\r\n$1\r\na\r\n$-1\r\n+b\r\n") == "*3 :1 *2 $a nil +b ");
  CHECK(read(nested(7)) == "*1 *1 *1 *1 *1 *1 *1 :1 ");
}

TEST_CASE("HIR-09: a tree says where the value after another one stands, and moves with all it has") {
  ReplyReader reader(1000, 100);
  const std::string bytes =
      "*4\r\n*2\r\n*1\r\n:1\r\n$3\r\nabc\r\n*0\r\n:2\r\n$200\r\n" + std::string(200, 'z') + "\r\n";
  reader.feed(bytes.data(), bytes.size());
  ReplyTree first;
  REQUIRE(reader.next(first) == Next::reply);
  const ReplyTree tree = static_cast<ReplyTree&&>(first);
  CHECK(tree.size() == 8);
  CHECK(tree.after(0) == 8);
  CHECK(tree.after(1) == 5);
  CHECK(tree.after(2) == 4);
  CHECK(tree.after(4) == 5);
  CHECK(tree.after(5) == 6);
  CHECK(tree[7].text == std::string(200, 'z'));
  CHECK(tree[4].text == "abc");
  CHECK(ReplyTree().root().type == ReplyType::nil);
}

TEST_CASE("HIR-09: replies that come a byte at a time, or many at once, are the same") {
  const std::string bytes = "+OK\r\n*2\r\n$3\r\na\nb\r\n:7\r\n$-1\r\n-ERR x\r\n*1\r\n*0\r\n";
  const std::string all = "+OK |*2 $a\nb :7 |nil |-ERR x |*1 *0 |";
  for (std::size_t piece = 1; piece <= bytes.size(); ++piece) {
    ReplyReader reader(1000, 100);
    std::string seen;
    for (std::size_t at = 0; at < bytes.size(); at += piece) {
      const std::string_view part = std::string_view(bytes).substr(at, piece);
      reader.feed(part.data(), part.size());
      ReplyTree tree;
      while (reader.next(tree) == Next::reply) seen += told(tree) + "|";
    }
    CHECK(seen == all);
  }
}

TEST_CASE("HIR-09: what isn't the protocol breaks the connection") {
  for (const std::string_view bytes : {":x\r\n", "garbage\r\n", "HTTP/1.1 200 OK\r\n", "$x\r\n", "*x\r\n", "$-2\r\n",
                                       "*-2\r\n", "\r\n", "$3\r\nabcXY", "$3\r\nabc\n\r", "*2\r\n:1\r\n?\r\n",
                                       "*1\r\n$3\r\nabcde", ":99999999999999999999\r\n", "$99999999999999999999\r\n"}) {
    CAPTURE(bytes);
    CHECK(read(bytes).substr(0, 7) == "broken:");
  }
  // Types of the protocol's third version were never asked for.
  for (const std::string_view bytes :
       {"%1\r\n+a\r\n+b\r\n", "~1\r\n+a\r\n", ">1\r\n+a\r\n", "#t\r\n", ",1.5\r\n", "_\r\n"}) {
    CAPTURE(bytes);
    CHECK(read(bytes).substr(0, 7) == "broken:");
  }
}

TEST_CASE("HIR-09: arrays of more values than allowed, or too deep, break it before they come") {
  CHECK(read("*2147483647\r\n") == "broken: a reply of more values than are allowed");
  CHECK(read("*100\r\n") == "broken: a reply of more values than are allowed");
  CHECK(read("*99\r\n") == "more");
  CHECK(read("*2\r\n*49\r\n" + [] {
          std::string all;
          for (int i = 0; i < 49; ++i) all += ":1\r\n";
          return all;
        }() + "*49\r\n") == "broken: a reply of more values than are allowed");
  CHECK(read("*9223372036854775807\r\n").substr(0, 7) == "broken:");
  CHECK(read(nested(8)).substr(0, 7) == "broken:");
  CHECK(read(nested(100)).substr(0, 7) == "broken:");
}

TEST_CASE("HIR-10: strings longer than allowed break it as soon as their length is there") {
  CHECK(read("$1001\r\n") == "broken: a reply longer than what is allowed");
  CHECK(read("$1001\r\nab") == "broken: a reply longer than what is allowed");
  CHECK(read("$9223372036854775807\r\n").substr(0, 7) == "broken:");
  CHECK(read("*2\r\n:1\r\n$4294967296\r\n").substr(0, 7) == "broken:");
  CHECK(read("$1000\r\n") == "more");
  CHECK(read("$1000\r\n" + std::string(1000, 'a') + "\r\n") == "$" + std::string(1000, 'a') + " ");
  CHECK(read("*2\r\n$600\r\n" + std::string(600, 'a') + "\r\n$600\r\n" + std::string(600, 'a') + "\r\n") ==
        "broken: a reply longer than what is allowed");
  // A line that never ends.
  CHECK(read("+" + std::string(70'000, 'a'), 1 << 20) == "broken: a line longer than what is allowed");
  CHECK(read("$" + std::string(70'000, '1'), 1 << 20) == "broken: a line longer than what is allowed");
}

TEST_CASE("HIR-09: random bytes and random changes of good ones never do more than break it") {
  std::mt19937 random(7);
  const std::string good = "*3\r\n$5\r\nhello\r\n*2\r\n:12\r\n-ERR a\r\n$-1\r\n+OK\r\n";
  for (int round = 0; round < 20'000; ++round) {
    std::string bytes = good;
    for (int change = 0; change < 3; ++change) {
      bytes[random() % bytes.size()] = "*$:+-0123456789\r\nab"[random() % 19];
    }
    ReplyReader reader(100, 20);
    reader.feed(bytes.data(), bytes.size());
    ReplyTree tree;
    int replies = 0;
    while (reader.next(tree) == Next::reply) ++replies;
    CHECK(replies <= 20);
    CHECK(tree.size() <= 20);
  }
}
