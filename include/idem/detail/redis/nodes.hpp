// Where commands go: to one server, to the primary that sentinels name, or to the nodes of a cluster.
#pragma once

#include <idem/detail/boot_clock.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/redis/admission.hpp>
#include <idem/detail/redis/channel.hpp>
#include <idem/detail/redis/cluster.hpp>
#include <idem/detail/redis/link_settings.hpp>
#include <idem/detail/redis/node.hpp>
#include <idem/detail/redis/reason.hpp>
#include <idem/detail/redis/request.hpp>
#include <idem/detail/redis/sentinel_watch.hpp>
#include <idem/detail/redis/sentinels.hpp>
#include <idem/detail/redis/trouble.hpp>
#include <idem/detail/sha256.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <time.h>  // nanosleep

IDEM_BEGIN_NAMESPACE
namespace detail::redis {

/// Where to ask for the servers. Both empty: there is one, at LinkSettings::endpoint.
struct Places {
  std::vector<Endpoint> sentinels = {};
  std::string master_name = {};
  std::string sentinel_username = {};
  std::string sentinel_password = {};
  std::vector<Endpoint> cluster_nodes = {};
};

/// Sleeps for so many microseconds; false where the deadline comes first.
inline bool rest_until(std::int64_t deadline, std::int64_t micros) noexcept {
  const std::int64_t left = deadline - boot_micros();
  if (left <= 0) return false;
  const std::int64_t span = micros < left ? micros : left;
  timespec time = {};
  time.tv_sec = span / 1'000'000;
  time.tv_nsec = span % 1'000'000 * 1000;
  ::nanosleep(&time, nullptr);
  return boot_micros() < deadline;
}

/// Thread safety: every member from any thread, but for construction and destruction.
class Nodes {
 public:
  /// REQUIRES: the admission outlives it.
  Nodes(const LinkSettings& link, const Places& places, Admission& admission, std::string_view prefix)
      : link_(link),
        sentinels_(make_sentinels(link, places)),
        one_(link, admission, sentinels_.get()),
        cluster_(places.cluster_nodes.empty()
                     ? nullptr
                     : std::make_unique<Cluster>(link, places.cluster_nodes, admission, prefix)),
        watch_(sentinels_ == nullptr ? nullptr : std::make_unique<SentinelWatch>(*sentinels_, one_.channel())) {}
  Nodes(const Nodes&) = delete;
  Nodes& operator=(const Nodes&) = delete;

  /// Null where there is no cluster.
  Cluster* cluster() const noexcept { return cluster_.get(); }

  /// The one that is there where there is no cluster.
  Node& one() noexcept {
    if (watch_ != nullptr) watch_->start();
    return one_;
  }

  /// All servers that hold records, as of now or, where nobody tells in time, as far as is known; with `whole`, whether
  /// that is all of them. May throw std::bad_alloc.
  std::vector<NodeRef> all(std::int64_t deadline, bool& whole, Reason& why) {
    whole = true;
    if (cluster_ == nullptr) return {NodeRef::uncounted(one())};
    for (;;) {
      std::uint32_t round = 0;
      cluster_->owner(0, round);
      const Shaken learned = cluster_->learn(round, deadline, why);
      std::vector<NodeRef> primaries = cluster_->primaries(whole);
      if (!whole && learned == Shaken::good) why = Reason("no node of the cluster has some of the slots");
      if (!primaries.empty() || learned == Shaken::refused || !rest_until(deadline, 10'000)) return primaries;
    }
  }

  /// For another connection, on which messages are heard: a cluster's nodes tell each other what is published, so that
  /// any will do, another one after each attempt. REQUIRES: this object outlives the connection.
  LinkSettings listening() noexcept {
    LinkSettings link = link_;
    if (sentinels_ != nullptr) {
      link.locate = [](void* self, std::int64_t deadline, Endpoint& to, Reason& why) noexcept {
        return static_cast<Nodes*>(self)->sentinels_->locate(deadline, to, why);
      };
    } else if (cluster_ != nullptr) {
      link.locate = [](void* self, std::int64_t, Endpoint& to, Reason& why) noexcept {
        IDEM_TRY {
          static_cast<Nodes*>(self)->cluster_->any(to);
          return true;
        }
        IDEM_CATCH_ALL {
          why = Reason("no memory for a server's address");
          return false;
        }
      };
    }
    link.locate_context = this;
    return link;
  }

 private:
  static std::unique_ptr<Sentinels> make_sentinels(const LinkSettings& link, const Places& places) {
    if (places.sentinels.empty()) return nullptr;
    LinkSettings asked = link;
    asked.username = places.sentinel_username;
    asked.password = places.sentinel_password;
    asked.database = 0;
    return std::make_unique<Sentinels>(places.sentinels, asked, places.master_name);
  }

  const LinkSettings link_;
  const std::unique_ptr<Sentinels> sentinels_;
  Node one_;
  const std::unique_ptr<Cluster> cluster_;
  const std::unique_ptr<SentinelWatch> watch_;  // ends first
};

/// The way of one command to the server that has its key, and what it's tried again after. For one thread. The deadline
/// is one of boot_micros().
class Route {
 public:
  Route(Nodes& nodes, const Digest& key, std::int64_t deadline) noexcept
      : cluster_(nodes.cluster()), deadline_(deadline) {
    if (cluster_ == nullptr) {
      node_ = NodeRef::uncounted(nodes.one());
    } else {
      slot_ = cluster_->slot_of(key);
    }
  }
  Route(const Route&) = delete;
  Route& operator=(const Route&) = delete;

  /// False, with the reason, where nobody knows who has the key.
  bool find(Reason& why) noexcept {
    if (node_) return true;
    node_ = cluster_->owner(slot_, round_);
    if (node_) return true;
    const Shaken learned = cluster_->learn(round_, deadline_, why);
    refused_ = learned == Shaken::refused;
    if (learned != Shaken::good) return false;
    node_ = cluster_->owner(slot_, round_);
    if (!node_) why = Reason("no node of the cluster has the key's slot");
    return static_cast<bool>(node_);
  }
  /// Of a failed `find`: trying again won't help.
  bool is_refused() const noexcept { return refused_; }

  /// REQUIRES: it was found.
  Node& node() const noexcept { return *node_; }
  const NodeRef& ref() const noexcept { return node_; }
  /// Whether ASKING has to stand before the command.
  bool asks() const noexcept { return asks_; }

  Sent call(Request& request) noexcept {
    if (cluster_ == nullptr) [[likely]]
      return node_->channel().call(request, deadline_);
    return cluster_->call(*node_, slot_, request, deadline_);
  }

  /// After what isn't an answer: waits where that helps, and turns to who may know better. False where it's final or
  /// the deadline comes first.
  bool again(Trouble trouble, std::string_view error) noexcept {
    const bool redirected = trouble == Trouble::moved || trouble == Trouble::asked;
    // Nobody named the cluster's nodes.
    if (redirected && cluster_ == nullptr) return false;
    if (redirected && follow(trouble, error) && ++hops_ <= most_hops) return boot_micros() < deadline_;
    if (trouble == Trouble::demoted && node_) node_->channel().drop("the server isn't the primary any more");
    // Nodes that send each other's callers to and fro are no reason to hurry.
    if (cluster_ != nullptr && turn_elsewhere() && ++hops_ <= most_hops) return boot_micros() < deadline_;
    const std::int64_t pause = pause_;
    pause_ = pause * 2 < longest_pause ? pause * 2 : longest_pause;
    return rest_until(deadline_, pause);
  }

 private:
  // Microseconds.
  static constexpr std::int64_t first_pause = 2'000;
  static constexpr std::int64_t longest_pause = 200'000;
  static constexpr unsigned most_hops = 5;

  bool follow(Trouble trouble, std::string_view error) noexcept {
    IDEM_TRY {
      Endpoint to;
      std::uint32_t slot = 0;
      if (!read_redirect(error, node_->endpoint().host, slot, to) || slot != slot_) return false;
      asks_ = trouble == Trouble::asked;
      if (asks_) {
        node_ = cluster_->at(to);
      } else {
        node_ = cluster_->moved(slot_, to);
        cluster_->refresh(round_, deadline_, to);
      }
      return static_cast<bool>(node_);
    }
    IDEM_CATCH_ALL {
      return false;
    }
  }

  /// Whether another node has the slot now.
  bool turn_elsewhere() noexcept {
    const NodeRef before = node_;
    Reason why;
    if (cluster_->learn(round_, deadline_, why) == Shaken::refused) refused_ = true;
    node_ = cluster_->owner(slot_, round_);
    asks_ = false;
    return node_ && !(node_ == before);
  }

  Cluster* const cluster_;
  const std::int64_t deadline_;
  NodeRef node_;
  std::int64_t pause_ = first_pause;
  std::uint32_t round_ = 0;
  unsigned hops_ = 0;
  std::uint16_t slot_ = 0;
  bool asks_ = false;
  bool refused_ = false;
};

}  // namespace detail::redis
IDEM_END_NAMESPACE
