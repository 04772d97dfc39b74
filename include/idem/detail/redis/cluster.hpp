// The nodes of a cluster: which one has which slot, and how to find out.
#pragma once

#include <idem/detail/boot_clock.hpp>
#include <idem/detail/bytes.hpp>
#include <idem/detail/cancellation.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/futex.hpp>
#include <idem/detail/redis/address.hpp>
#include <idem/detail/redis/admission.hpp>
#include <idem/detail/redis/command.hpp>
#include <idem/detail/redis/inquiry.hpp>
#include <idem/detail/redis/key_slot.hpp>
#include <idem/detail/redis/link_settings.hpp>
#include <idem/detail/redis/node.hpp>
#include <idem/detail/redis/reason.hpp>
#include <idem/detail/redis/reply_tree.hpp>
#include <idem/detail/redis/request.hpp>
#include <idem/detail/redis/slot_map.hpp>
#include <idem/detail/redis/trouble.hpp>
#include <idem/detail/sha256.hpp>

#include <algorithm>  // min
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

IDEM_BEGIN_NAMESPACE
namespace detail::redis {

/// Thread safety: every member from any thread, but for construction and destruction. Deadlines are those of
/// boot_micros().
class Cluster {
 public:
  /// `seeds`: nodes that may know the others. REQUIRES: the admission outlives it.
  Cluster(LinkSettings link, std::vector<Endpoint> seeds, Admission& admission, std::string_view prefix)
      : link_(std::move(link)), slots_(prefix), admission_(admission), seeds_(std::move(seeds)) {
    link_.patient = false;
    std::memset(owner_, 0xff, sizeof owner_);
    turn_ = static_cast<std::size_t>(boot_micros());
  }
  Cluster(const Cluster&) = delete;
  Cluster& operator=(const Cluster&) = delete;

  std::uint16_t slot_of(const Digest& key) const noexcept { return slots_.of(key); }

  /// Who has the slot, as far as is known. `round` is what `learn` wants to know then.
  NodeRef owner(std::uint16_t slot, std::uint32_t& round) noexcept {
    const std::lock_guard guard(mutex_);
    round = rounds_.load(std::memory_order_relaxed);
    return owner_[slot] == nobody ? NodeRef() : nodes_[owner_[slot]].node;
  }

  /// All that have slots, and whether every slot has one. May throw std::bad_alloc.
  std::vector<NodeRef> primaries(bool& whole) {
    const std::lock_guard guard(mutex_);
    std::vector<NodeRef> all;
    whole = true;
    for (const std::uint16_t owner : owner_) whole = whole && owner != nobody;
    for (const Member& member : nodes_) {
      if (member.has_slots) all.push_back(member.node);
    }
    return all;
  }

  /// A node said that this one has the slot now. Nothing where there are too many. May throw std::bad_alloc.
  NodeRef moved(std::uint16_t slot, const Endpoint& to) {
    const std::lock_guard guard(mutex_);
    const std::size_t at = place_of(to);
    if (at == most_nodes) return {};
    owner_[slot] = static_cast<std::uint16_t>(at);
    nodes_[at].has_slots = true;
    return nodes_[at].node;
  }

  /// The node at that place, for what is there already of a slot that is on its way. Likewise.
  NodeRef at(const Endpoint& place) {
    const std::lock_guard guard(mutex_);
    const std::size_t at = place_of(place);
    return at == most_nodes ? NodeRef() : nodes_[at].node;
  }

  /// Asks who has which slot, unless somebody has done so since `round`, or did a moment ago, or is about it: then it
  /// waits a while for that. All but `good` with the reason; `refused` where no node will tell. `first`: whom to ask
  /// first, or null.
  Shaken learn(std::uint32_t round, std::int64_t deadline, Reason& why, const Endpoint* first = nullptr) noexcept {
    if (rounds_.load(std::memory_order_acquire) != round) return Shaken::good;
    const NoCancellation shield;
    if (learning_.exchange(true, std::memory_order_acquire)) {
      const std::int64_t left = deadline - boot_micros();
      if (left > 0) futex_impl::wait(&rounds_, round, (std::min)(left, longest_wait), FutexScope::own_process);
      if (rounds_.load(std::memory_order_acquire) != round) return Shaken::good;
      why = Reason("the nodes of the cluster don't tell in time who has which slot");
      return Shaken::lost;
    }
    // What the last one found out can hardly have changed.
    if (boot_micros() >= next_) {
      learned_ = ask_around(deadline, first, learned_why_);
      next_ = boot_micros() + shortest_interval;
    }
    const Shaken result = learned_;
    why = learned_why_;
    learning_.store(false, std::memory_order_release);
    rounds_.fetch_add(1, std::memory_order_release);
    futex_impl::wake(&rounds_, all_sleepers, FutexScope::own_process);
    return result;
  }
  /// The same, but for waiting for others.
  void refresh(std::uint32_t round, std::int64_t deadline, const Endpoint& first) noexcept {
    Reason why;
    if (!learning_.load(std::memory_order_relaxed)) learn(round, deadline, why, &first);
  }

  /// Says it to the owner of the key, and gives it up early where another node becomes the owner meanwhile.
  Sent call(Node& node, std::uint16_t slot, Request& request, std::int64_t deadline) noexcept {
    Channel& channel = node.channel();
    channel.submit(request);
    for (;;) {
      const std::int64_t until = (std::min)(deadline, boot_micros() + link_.connect_timeout);
      const Sent sent = channel.await(request, until);
      if (sent != Sent::pending) return sent;
      if (boot_micros() >= deadline) return channel.leave(request);
      // It hangs, or the network does.
      std::uint32_t round = 0;
      NodeRef owner = this->owner(slot, round);
      Reason why;
      if (owner.get() == &node) {
        learn(round, (std::min)(deadline, boot_micros() + link_.connect_timeout), why);
        owner = this->owner(slot, round);
      }
      if (owner.get() != &node) return channel.leave(request);
    }
  }

  /// Any primary: another one each time. For what all of them tell. Where none is known, a seed. Only an allocation can
  /// throw.
  void any(Endpoint& to) {
    const std::lock_guard guard(mutex_);
    const std::size_t turn = turn_++;
    std::size_t count = 0;
    for (const Member& member : nodes_) count += member.has_slots ? 1 : 0;
    std::size_t at = count == 0 ? 0 : turn % count;
    for (const Member& member : nodes_) {
      if (!member.has_slots || at-- != 0) continue;
      to = member.node->endpoint();
      return;
    }
    to = seeds_[turn % seeds_.size()];
  }

 private:
  struct Member {
    NodeRef node;
    bool has_slots = false;
  };

  // Microseconds.
  static constexpr std::int64_t longest_wait = 100'000;
  static constexpr std::int64_t shortest_interval = 50'000;
  static constexpr std::uint16_t nobody = 0xffff;
  static constexpr std::size_t most_nodes = 4096;

  // most_nodes where there is no room. REQUIRES: the lock.
  std::size_t place_of(const Endpoint& endpoint) {
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      if (nodes_[i].node->endpoint() == endpoint) return i;
    }
    if (nodes_.size() >= most_nodes) return most_nodes;
    nodes_.push_back({make(endpoint), false});
    return nodes_.size() - 1;
  }

  NodeRef make(const Endpoint& endpoint) {
    LinkSettings link = link_;
    link.endpoint = endpoint;
    return NodeRef::counted(*new Node(link, admission_));
  }

  Shaken ask_around(std::int64_t deadline, const Endpoint* first, Reason& why) noexcept {
    IDEM_TRY {
      const std::vector<Endpoint> places = candidates(first);
      const auto map = std::make_unique<SlotMap>();
      Shaken result = Shaken::refused;
      Reason last("there was no time");
      for (const Endpoint& place : places) {
        const std::int64_t now = boot_micros();
        if (now >= deadline) {
          result = Shaken::lost;
          break;
        }
        const Shaken asked = ask(place, share_of(now, deadline, link_.connect_timeout), *map, last);
        if (asked == Shaken::good) {
          install(*map);
          why.clear();
          return Shaken::good;
        }
        name_place(last, place);
        if (asked == Shaken::lost) result = Shaken::lost;
      }
      why = Reason("no node of the cluster tells who has which slot; the last one that was asked: ");
      why.add(last.view());
      return result;
    }
    IDEM_CATCH_ALL {
      why = Reason("no memory for the map of the cluster");
      return Shaken::lost;
    }
  }

  // In another order each time, so that nothing depends on one of them.
  std::vector<Endpoint> candidates(const Endpoint* first) {
    const std::lock_guard guard(mutex_);
    std::vector<Endpoint> places;
    const auto add = [&places](const Endpoint& place) {
      for (const Endpoint& known : places) {
        if (known == place) return;
      }
      places.push_back(place);
    };
    if (first != nullptr) add(*first);
    const std::size_t turn = turn_++;
    for (std::size_t i = 0; i < known_.size(); ++i) add(known_[(turn + i) % known_.size()]);
    for (std::size_t i = 0; i < seeds_.size(); ++i) add(seeds_[(turn + i) % seeds_.size()]);
    return places;
  }

  Shaken ask(const Endpoint& place, std::int64_t deadline, SlotMap& map, Reason& why) const {
    Inquiry inquiry(link_);
    if (const Shaken shaken = inquiry.connect(place, deadline, why); shaken != Shaken::good) return shaken;
    Bytes command;
    Command(command, 2).arg("CLUSTER").arg("SLOTS");
    ReplyTree reply;
    if (!inquiry.send(command, deadline, why) || !inquiry.receive(reply, deadline, why)) return Shaken::lost;
    if (map.read(reply, place.host, why)) return Shaken::good;
    const bool is_error = reply.root().type == ReplyType::error;
    return is_error && trouble_of(reply.root().text) == Trouble::final ? Shaken::refused : Shaken::lost;
  }

  void install(const SlotMap& map) {
    std::vector<Member> members;
    std::vector<Endpoint> known;
    std::vector<NodeRef> gone;
    members.reserve(map.primaries.size());
    known.reserve(map.primaries.size() + map.others.size());
    const std::lock_guard guard(mutex_);
    for (const Endpoint& primary : map.primaries) {
      NodeRef node;
      for (const Member& member : nodes_) {
        if (member.node->endpoint() == primary) node = member.node;
      }
      members.push_back({node ? std::move(node) : make(primary), true});
      known.push_back(primary);
    }
    for (const Endpoint& other : map.others) known.push_back(other);
    for (const Member& member : nodes_) {
      bool stays = false;
      for (const Member& other : members) stays = stays || other.node == member.node;
      if (!stays && member.has_slots) gone.push_back(member.node);
    }
    nodes_.swap(members);
    known_.swap(known);
    std::memcpy(owner_, map.owner, sizeof owner_);
    // An old primary that doesn't know yet that it's none any more must not be believed. Who waits for it turns to the
    // new one; where that was a mistake, to the same one again.
    for (const NodeRef& node : gone) node->channel().close();
  }

  LinkSettings link_;
  const KeySlots slots_;
  Admission& admission_;
  const std::vector<Endpoint> seeds_;

  std::atomic<std::uint32_t> rounds_{0};  // of learning, good or not; others sleep on it
  std::atomic<bool> learning_{false};
  // Of who learns.
  std::int64_t next_ = 0;
  Shaken learned_ = Shaken::lost;
  Reason learned_why_;

  std::mutex mutex_;
  std::vector<Member> nodes_;
  std::uint16_t owner_[cluster_slots];  // a place in nodes_
  std::vector<Endpoint> known_;         // all nodes of the last map
  std::size_t turn_ = 0;
};

}  // namespace detail::redis
IDEM_END_NAMESPACE
