// Several redis-servers that act together: a cluster, and a primary with replicas and sentinels. No doctest here
// either: what goes wrong is thrown.
#pragma once

#include "redis_server.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace support {

/// Waits until `so` says true; throws where that takes so long that it will never be.
template <class Condition>
void wait_until(const char* what, Condition so) {
  const auto end_of_patience = std::chrono::steady_clock::now() + std::chrono::seconds(50);
  while (!so()) {
    if (std::chrono::steady_clock::now() > end_of_patience) {
      throw std::runtime_error(std::string("redis: waited in vain: ") + what);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

inline std::string address_of(const RedisServer& server) {
  return "127.0.0.1:" + std::to_string(server.port());
}

/// INFO's field, or nothing while the server doesn't answer.
inline std::string info_or_nothing(RedisServer& server, const char* section, const char* field) {
  try {
    return server.info(section, field);
  } catch (const std::runtime_error&) {
    return {};
  }
}

/// Groups of servers for one test after the other: while a test uses one, the next one gets ready. Not for several
/// threads at once.
template <class Group>
class Ahead {
 public:
  /// `count`: how many are made in advance, one at a time.
  Ahead(std::size_t count, std::function<std::unique_ptr<Group>()> make) : left_(count), make_(std::move(make)) {}

  void prepare() {
    if (next_ != nullptr || left_ == 0) return;
    --left_;
    next_ = make_();
  }
  std::unique_ptr<Group> take() {
    std::unique_ptr<Group> taken = next_ != nullptr ? std::move(next_) : make_();
    prepare();
    return taken;
  }

 private:
  std::size_t left_;
  std::function<std::unique_ptr<Group>()> make_;
  std::unique_ptr<Group> next_;
};

/// Three primaries and as many replicas: server 3 is the replica of server 0, and so on.
class RedisCluster {
 public:
  static constexpr std::size_t primaries = 3;
  static constexpr int slots = 16384;

  enum class Replicas { none, one_each };

  /// Starts the servers, and returns before they are in service: see `await_service`. `each`: of all of them.
  explicit RedisCluster(Replicas replicas = Replicas::one_each, const RedisServerOptions& each = {})
      : count_(replicas == Replicas::none ? primaries : 2 * primaries) {
    for (std::size_t i = 0; i < count_; ++i) start(each);
    for (std::size_t i = 0; i < count_; ++i) ids_.push_back((*this)[i].command({"CLUSTER", "MYID"}).text);
    for (std::size_t i = 0; i < count_; ++i) {
      (*this)[i].command({"CLUSTER", "SET-CONFIG-EPOCH", std::to_string(i + 1)});
      if (i < primaries) {
        (*this)[i].command(
            {"CLUSTER", "ADDSLOTSRANGE", std::to_string(first_slot(i)), std::to_string(first_slot(i + 1) - 1)});
      }
    }
    // All with all: gossip would take longer.
    for (std::size_t i = 0; i < count_; ++i) {
      for (std::size_t j = i + 1; j < count_; ++j) {
        const std::string port = std::to_string((*this)[j].port());
        (*this)[i].command({"CLUSTER", "MEET", "127.0.0.1", port, std::to_string(bus_ports_[j])});
      }
    }
    wait_until("all nodes know each other", [&] {
      for (std::size_t i = 0; i < count_; ++i) {
        if ((*this)[i].command({"CLUSTER", "SLOTS"}).elements.size() != primaries) return false;
        for (const std::string& id : ids_) {
          if ((*this)[i].command({"CLUSTER", "NODES"}).text.find(id) == std::string::npos) return false;
        }
      }
      return true;
    });
    for (std::size_t i = primaries; i < count_; ++i) (*this)[i].command({"CLUSTER", "REPLICATE", ids_[i - primaries]});
  }

  /// A new node serves only two seconds after its start.
  RedisCluster& await_service() {
    wait_until("the cluster is in service", [&] {
      for (std::size_t i = 0; i < count_; ++i) {
        if ((*this)[i].command({"CLUSTER", "INFO"}).text.find("cluster_state:ok") == std::string::npos) return false;
        if (i >= primaries && (*this)[i].info("replication", "master_link_status") != "up") return false;
        // A node that hasn't heard of a replica yet wouldn't tell it to anybody.
        std::size_t told = 0;
        for (const RedisReply& range : (*this)[i].command({"CLUSTER", "SLOTS"}).elements)
          told += range.elements.size() - 2;
        if (told != count_) return false;
      }
      return true;
    });
    // Not before: on a busy machine a replica would take over from a primary that it hardly knows.
    for (std::size_t i = 0; i < count_; ++i) (*this)[i].command({"CONFIG", "SET", "cluster-replica-no-failover", "no"});
    return *this;
  }

  RedisServer& operator[](std::size_t at) { return *servers_[at]; }
  std::size_t size() const { return count_; }
  const std::string& id(std::size_t at) const { return ids_[at]; }

  std::vector<std::string> addresses() const {
    std::vector<std::string> all;
    for (const auto& server : servers_) all.push_back(address_of(*server));
    return all;
  }

  /// The first of the slots that the n-th primary had at the beginning.
  static int first_slot(std::size_t primary) { return static_cast<int>(primary) * slots / static_cast<int>(primaries); }
  static std::size_t first_owner(int slot) {
    std::size_t owner = 0;
    while (slot >= first_slot(owner + 1)) ++owner;
    return owner;
  }

  int slot_of(const std::string& key) {
    return static_cast<int>((*this)[0].command({"CLUSTER", "KEYSLOT", key}).integer);
  }

  void begin_move(int slot, std::size_t from, std::size_t to) {
    const std::string number = std::to_string(slot);
    (*this)[to].command({"CLUSTER", "SETSLOT", number, "IMPORTING", ids_[from]});
    (*this)[from].command({"CLUSTER", "SETSLOT", number, "MIGRATING", ids_[to]});
  }
  /// Moves up to so many keys of a slot; returns how many there were.
  std::size_t move_keys(int slot, std::size_t from, std::size_t to, int count) {
    const RedisReply keys =
        (*this)[from].command({"CLUSTER", "GETKEYSINSLOT", std::to_string(slot), std::to_string(count)});
    if (keys.elements.empty()) return 0;
    std::vector<std::string> words{"MIGRATE", "127.0.0.1", std::to_string((*this)[to].port()), "", "0", "5000", "KEYS"};
    for (const RedisReply& key : keys.elements) words.push_back(key.text);
    (*this)[from].command(words);
    return keys.elements.size();
  }
  void end_move(int slot, std::size_t from, std::size_t to) {
    for (const std::size_t node : {to, from}) {
      (*this)[node].command({"CLUSTER", "SETSLOT", std::to_string(slot), "NODE", ids_[to]});
    }
  }

  /// Waits until another node says that it has that one's slots.
  void await_failover_of(std::size_t primary) {
    RedisServer& replica = (*this)[primary + primaries];
    wait_until("a replica takes over", [&] {
      return info_or_nothing(replica, "replication", "role") == "master" &&
             replica.command({"CLUSTER", "INFO"}).text.find("cluster_state:ok") != std::string::npos;
    });
  }

 private:
  void start(const RedisServerOptions& each) {
    for (int attempt = 0;; ++attempt) {
      const std::uint16_t bus = RedisServer::free_port();
      RedisServerOptions options = each;
      options.arguments.insert(options.arguments.end(),
                               {"--cluster-enabled", "yes", "--cluster-port", std::to_string(bus),
                                "--cluster-node-timeout", "600", "--cluster-replica-validity-factor", "0",
                                "--cluster-replica-no-failover", "yes", "--repl-ping-replica-period", "1"});
      if (each.tls) {
        options.arguments.insert(options.arguments.end(), {"--tls-cluster", "yes", "--tls-replication", "yes"});
      }
      try {
        servers_.push_back(std::make_unique<RedisServer>(options));
        bus_ports_.push_back(bus);
        return;
      } catch (const std::runtime_error&) {
        if (attempt == 5) throw;
      }
    }
  }

  std::size_t count_;
  std::vector<std::unique_ptr<RedisServer>> servers_;
  std::vector<std::uint16_t> bus_ports_;
  std::vector<std::string> ids_;
};

/// One primary, two replicas, and three sentinels that know it as "records".
class SentinelGroup {
 public:
  static constexpr const char* name = "records";

  /// Starts all, and returns before the sentinels know each other: see `await_order`. `each`: of servers and sentinels.
  explicit SentinelGroup(const std::string& sentinel_password = {}, RedisServerOptions each = {}) {
    if (each.tls) each.arguments.insert(each.arguments.end(), {"--tls-replication", "yes"});
    RedisServerOptions server = each;
    server.arguments.insert(server.arguments.end(), {"--repl-ping-replica-period", "1"});
    servers_.push_back(std::make_unique<RedisServer>(server));
    server.arguments.insert(server.arguments.end(),
                            {"--replicaof", "127.0.0.1 " + std::to_string(servers_[0]->port())});
    for (int i = 0; i < 2; ++i) servers_.push_back(std::make_unique<RedisServer>(server));
    for (int i = 0; i < 3; ++i) {
      RedisServerOptions options = each;
      options.arguments.insert(options.arguments.begin(), "--sentinel");
      options.password = sentinel_password;
      if (!sentinel_password.empty()) {
        options.arguments.insert(options.arguments.begin(), {"--requirepass", sentinel_password});
      }
      sentinels_.push_back(std::make_unique<RedisServer>(options));
      RedisServer& sentinel = *sentinels_.back();
      if (!sentinel_password.empty())
        sentinel.command({"SENTINEL", "CONFIG", "SET", "sentinel-pass", sentinel_password});
      // They look at each other and at the servers every few seconds. Before Redis 7 nobody can make them hurry.
      sentinel.ask({"SENTINEL", "DEBUG", "INFO-PERIOD", "200", "PUBLISH-PERIOD", "100"});
      sentinel.command({"SENTINEL", "MONITOR", name, "127.0.0.1", std::to_string(servers_[0]->port()), "2"});
      sentinel.command({"SENTINEL", "SET", name, "down-after-milliseconds", "500", "failover-timeout", "2000"});
    }
  }

  /// Until all sentinels know each other and the replicas, and these are in step.
  SentinelGroup& await_order() {
    wait_until("the sentinels know each other", [&] {
      for (const auto& sentinel : sentinels_) {
        const RedisReply master = sentinel->command({"SENTINEL", "MASTER", name});
        if (field(master, "num-other-sentinels") != "2" || field(master, "num-slaves") != "2") return false;
        for (const RedisReply& replica : sentinel->command({"SENTINEL", "REPLICAS", name}).elements) {
          if (field(replica, "master-link-status") != "ok") return false;
        }
      }
      return true;
    });
    // A failover is judged by these, too.
    for (const auto& sentinel : sentinels_) {
      sentinel->ask({"SENTINEL", "DEBUG", "INFO-PERIOD", "10000", "PUBLISH-PERIOD", "2000"});
    }
    return *this;
  }

  RedisServer& server(std::size_t at) { return *servers_[at]; }
  RedisServer& sentinel(std::size_t at) { return *sentinels_[at]; }

  std::vector<std::string> sentinels() const {
    std::vector<std::string> all;
    for (const auto& sentinel : sentinels_) all.push_back(address_of(*sentinel));
    return all;
  }

  /// Which server most sentinels name, once they agree.
  std::size_t primary() {
    std::size_t found = servers_.size();
    wait_until("the sentinels agree", [&] {
      std::vector<std::size_t> votes(servers_.size(), 0);
      for (const auto& sentinel : sentinels_) {
        if (!sentinel->running()) continue;
        const RedisReply place = sentinel->command({"SENTINEL", "GET-MASTER-ADDR-BY-NAME", name});
        for (std::size_t i = 0; i < servers_.size(); ++i) {
          if (place.elements.at(1).text == std::to_string(servers_[i]->port()) && ++votes[i] == 2) found = i;
        }
      }
      return found != servers_.size();
    });
    return found;
  }
  /// Waits until the sentinels name another one than this, and it knows that it is the primary.
  std::size_t await_failover_of(std::size_t old) {
    wait_until("another server is the primary", [&] { return has_failed_over(old); });
    return primary();
  }
  /// Has a sentinel bring it about, again where it gave up since something took too long.
  std::size_t fail_over(std::size_t old) {
    wait_until("another server is the primary", [&] {
      if (has_failed_over(old)) return true;
      sentinels_[0]->ask({"SENTINEL", "FAILOVER", name});
      return false;
    });
    return primary();
  }

  static std::string field(const RedisReply& pairs, const std::string& wanted) {
    for (std::size_t i = 0; i + 1 < pairs.elements.size(); i += 2) {
      if (pairs.elements[i].text == wanted) return pairs.elements[i + 1].text;
    }
    return {};
  }

 private:
  bool has_failed_over(std::size_t old) {
    const std::size_t now = primary();
    return now != old && info_or_nothing(*servers_[now], "replication", "role") == "master";
  }

  std::vector<std::unique_ptr<RedisServer>> servers_;
  std::vector<std::unique_ptr<RedisServer>> sentinels_;
};

}  // namespace support
