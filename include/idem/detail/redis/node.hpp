// A server that holds records, and the connection to it.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/redis/admission.hpp>
#include <idem/detail/redis/channel.hpp>
#include <idem/detail/redis/link_settings.hpp>
#include <idem/detail/redis/reason.hpp>
#include <idem/detail/redis/sentinels.hpp>
#include <idem/detail/redis/server_facts.hpp>

#include <atomic>
#include <cstdint>
#include <utility>

IDEM_BEGIN_NAMESPACE
namespace detail::redis {

/// Thread safety: every member from any thread, but for construction and destruction.
class Node {
 public:
  /// With `sentinels` it's wherever they say. REQUIRES: they and the admission outlive it.
  Node(const LinkSettings& link, Admission& admission, Sentinels* sentinels = nullptr)
      : admission_(admission), sentinels_(sentinels), endpoint_(link.endpoint), channel_(guarded(link)) {}
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  Channel& channel() noexcept { return channel_; }
  bool is_always_there() const noexcept { return sentinels_ == nullptr; }
  /// Of a server that is always at the same place.
  const Endpoint& endpoint() const noexcept { return endpoint_; }

  /// Whether scripts may have flags. A server that was never reached gets a name that only a new one can know.
  bool has_flags() const noexcept { return server_.has_flags.load(std::memory_order_relaxed); }

 private:
  friend class NodeRef;

  LinkSettings guarded(LinkSettings link) noexcept {
    link.gate = [](void* self, const ServerFacts& facts, Reason& why) noexcept {
      Node& node = *static_cast<Node*>(self);
      return node.admission_.admit(facts, node.server_, why);
    };
    link.gate_context = this;
    if (sentinels_ != nullptr) {
      link.locate = [](void* self, std::int64_t deadline, Endpoint& to, Reason& why) noexcept {
        return static_cast<Node*>(self)->locate(deadline, to, why);
      };
      link.locate_context = this;
    }
    return link;
  }

  // One thread at a time connects.
  bool locate(std::int64_t deadline, Endpoint& to, Reason& why) noexcept {
    if (!sentinels_->locate(deadline, to, why)) return false;
    IDEM_TRY {
      sentinels_->use(to);
      // Another server is none that was started anew.
      if (!(to == endpoint_)) server_.run_id.clear();
      endpoint_ = to;
    }
    IDEM_CATCH_ALL {
      why = Reason("no memory for a server's address");
      return false;
    }
    return true;
  }

  Admission& admission_;
  Sentinels* const sentinels_;
  Acquaintance server_;
  Endpoint endpoint_;
  std::atomic<std::uint32_t> refs_{0};
  Channel channel_;
};

/// Keeps a node of a cluster for as long as somebody uses it, also when it isn't one any more. Not safe for use by
/// several threads at once.
class NodeRef {
 public:
  NodeRef() noexcept = default;
  /// One that is there for as long as the store is needn't be counted.
  static NodeRef uncounted(Node& node) noexcept {
    NodeRef ref;
    ref.node_ = &node;
    return ref;
  }
  /// REQUIRES: somebody has a counted one at the moment, or it's new.
  static NodeRef counted(Node& node) noexcept {
    NodeRef ref;
    ref.node_ = &node;
    ref.counted_ = true;
    node.refs_.fetch_add(1, std::memory_order_relaxed);
    return ref;
  }
  NodeRef(const NodeRef& other) noexcept : node_(other.node_), counted_(other.counted_) {
    if (counted_) node_->refs_.fetch_add(1, std::memory_order_relaxed);
  }
  NodeRef(NodeRef&& other) noexcept : node_(other.node_), counted_(other.counted_) {
    other.node_ = nullptr;
    other.counted_ = false;
  }
  NodeRef& operator=(NodeRef other) noexcept {
    std::swap(node_, other.node_);
    std::swap(counted_, other.counted_);
    return *this;
  }
  ~NodeRef() {
    if (counted_ && node_->refs_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete node_;
  }

  explicit operator bool() const noexcept { return node_ != nullptr; }
  Node* get() const noexcept { return node_; }
  Node* operator->() const noexcept { return node_; }
  Node& operator*() const noexcept { return *node_; }
  friend bool operator==(const NodeRef& a, const NodeRef& b) noexcept { return a.node_ == b.node_; }

 private:
  Node* node_ = nullptr;
  bool counted_ = false;
};

}  // namespace detail::redis
IDEM_END_NAMESPACE
