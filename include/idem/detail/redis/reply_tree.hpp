// What a Redis server has answered to one command.
#pragma once

#include <idem/detail/bytes.hpp>
#include <idem/detail/config.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

IDEM_BEGIN_NAMESPACE
namespace detail::redis {

enum class ReplyType : std::uint8_t { status = 1, error = 2, integer = 3, string = 4, nil = 5, array = 6 };

/// One value of a reply.
struct ReplyNode {
  ReplyType type = ReplyType::nil;
  std::uint32_t children = 0;  // of an array; they follow it
  std::int64_t integer = 0;    // of an integer
  std::string_view text;       // of a status, an error, or a string; lives as long as the tree isn't changed
};

/// A reply with everything in it, flattened: each array stands before its children, these in their order with what is
/// in them. Up to six values and 96 bytes of text are kept without an allocation. Not safe for use by several threads
/// at once. Only an allocation can throw.
class ReplyTree {
 public:
  /// How many values it has, at every depth together; none before there is a reply.
  std::size_t size() const noexcept { return nodes_.size() / sizeof(Node); }
  bool empty() const noexcept { return nodes_.empty(); }

  /// REQUIRES: index < size().
  ReplyNode operator[](std::size_t index) const noexcept {
    const Node node = get(index);
    ReplyNode result;
    result.type = node.type;
    if (node.type == ReplyType::array) {
      result.children = node.count;
    } else if (node.type == ReplyType::integer) {
      result.integer = node.value;
    } else if (node.type != ReplyType::nil) {
      const auto* const all = reinterpret_cast<const char*>(text_.data());
      result.text = std::string_view(all + node.value, node.count);
    }
    return result;
  }

  /// The first value, which is all of the reply unless it is an array; nil where there is no reply.
  ReplyNode root() const noexcept { return empty() ? ReplyNode{} : (*this)[0]; }

  /// Where the value after this one with all its children stands; size() after the last one. REQUIRES: index < size().
  std::size_t after(std::size_t index) const noexcept {
    for (std::uint64_t open = 1; open != 0; ++index) {
      const Node node = get(index);
      open += node.type == ReplyType::array ? std::uint64_t{node.count} : 0;
      --open;
    }
    return index;
  }

  std::size_t text_size() const noexcept { return text_.size(); }

  /// Keeps what was allocated, for the next reply.
  void clear() noexcept {
    nodes_.clear();
    text_.clear();
  }

  // What the reader builds it with, in the order above. Strings are at most 4 GiB - 1 long.
  void add_text(ReplyType type, const void* data, std::size_t size) {
    const std::size_t at = text_.size();
    text_.append(data, size);
    put({type, static_cast<std::uint32_t>(size), static_cast<std::int64_t>(at)});
  }
  void add_integer(std::int64_t value) { put({ReplyType::integer, 0, value}); }
  void add_nil() { put({ReplyType::nil, 0, 0}); }
  void add_array(std::uint32_t children) { put({ReplyType::array, children, 0}); }

 private:
  struct Node {
    ReplyType type;
    std::uint32_t count;  // of children or of bytes
    std::int64_t value;   // the integer, or where the text begins
  };

  Node get(std::size_t index) const noexcept {
    Node node;
    std::memcpy(&node, nodes_.data() + index * sizeof node, sizeof node);
    return node;
  }
  void put(const Node& node) { nodes_.append(&node, sizeof node); }

  Bytes nodes_;
  Bytes text_;
};

}  // namespace detail::redis
IDEM_END_NAMESPACE
