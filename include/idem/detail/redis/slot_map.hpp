// What a node of a cluster says of who has which slot.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/redis/address.hpp>
#include <idem/detail/redis/key_slot.hpp>
#include <idem/detail/redis/link_settings.hpp>
#include <idem/detail/redis/reason.hpp>
#include <idem/detail/redis/reply_tree.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

IDEM_BEGIN_NAMESPACE
namespace detail::redis {

/// An answer to CLUSTER SLOTS. Not safe for use by several threads at once.
class SlotMap {
 public:
  std::vector<Endpoint> primaries;
  std::vector<Endpoint> others;        // their replicas
  std::uint16_t owner[cluster_slots];  // a place in `primaries`; 0xffff: nobody

  /// False, with the reason, where the node knows of no slot or its answer can't be meant. `speaker`: the host that was
  /// asked, since a node may not know its own name. Only an allocation can throw.
  bool read(const ReplyTree& reply, std::string_view speaker, Reason& why) {
    primaries.clear();
    others.clear();
    std::memset(owner, 0xff, sizeof owner);
    const ReplyNode root = reply.root();
    if (root.type == ReplyType::error) return fail(why, root.text);
    if (root.type != ReplyType::array) return fail(why, "its answer can't be read");
    if (root.children == 0) return fail(why, "it knows of no slots");
    std::size_t at = 1;
    for (std::uint32_t i = 0; i < root.children; ++i) {
      const std::size_t end = reply.after(at);
      if (!read_range(reply, at, speaker)) return fail(why, "its answer can't be read");
      at = end;
    }
    return true;
  }

 private:
  static constexpr std::size_t most = 4096;  // addresses

  static bool fail(Reason& why, std::string_view text) noexcept {
    why = Reason(text);
    return false;
  }

  /// First slot, last slot, then the primary and its replicas: host, port, and more.
  bool read_range(const ReplyTree& reply, std::size_t at, std::string_view speaker) {
    const ReplyNode range = reply[at];
    if (range.type != ReplyType::array || range.children < 3) return false;
    const ReplyNode first = reply[at + 1];
    const ReplyNode last = reply[at + 2];
    if (first.type != ReplyType::integer || last.type != ReplyType::integer) return false;
    if (first.integer < 0 || last.integer < first.integer || last.integer >= std::int64_t{cluster_slots}) return false;
    std::size_t place = at + 3;
    for (std::uint32_t i = 2; i < range.children; ++i) {
      Endpoint endpoint;
      if (!read_node(reply, place, speaker, endpoint)) return false;
      place = reply.after(place);
      std::vector<Endpoint>& list = i == 2 ? primaries : others;
      std::size_t known = 0;
      while (known < list.size() && !(list[known] == endpoint)) ++known;
      if (known == list.size()) {
        if (known == most) return false;
        list.push_back(endpoint);
      }
      if (i != 2) continue;
      for (auto slot = first.integer; slot <= last.integer; ++slot) owner[slot] = static_cast<std::uint16_t>(known);
    }
    return true;
  }

  static bool read_node(const ReplyTree& reply, std::size_t at, std::string_view speaker, Endpoint& to) {
    const ReplyNode node = reply[at];
    if (node.type != ReplyType::array || node.children < 2) return false;
    std::string_view host = reply[at + 1].text;
    const ReplyNode port = reply[at + 2];
    if (host.empty() || host == "?") host = speaker;
    if (!is_host(host) || port.type != ReplyType::integer || port.integer < 1 || port.integer > 65535) return false;
    to.host.assign(host);
    to.port = static_cast<std::uint16_t>(port.integer);
    to.unix_socket.clear();
    return true;
  }
};

}  // namespace detail::redis
IDEM_END_NAMESPACE
