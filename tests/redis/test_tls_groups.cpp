// HIR-17: TLS to the primary that Sentinel names, to the sentinels, and to the nodes of a cluster.
#include <idem/detail/redis/key_slot.hpp>
#include <idem/idempotent.hpp>
#include <idem/redis_store.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/redis_failover.hpp"
#include "support/tls_files.hpp"

namespace {

using namespace std::chrono_literals;
using idem::Answer;
using idem::RedisOptions;
using idem::RedisStore;
using idem::Verdict;
using support::Counted;
using support::RedisCluster;
using support::RedisServer;
using support::RedisServerOptions;
using support::SentinelGroup;

RedisServerOptions with_tls(const std::string& certificate = "server", std::vector<std::string> before = {}) {
  RedisServerOptions options;
  options.tls = true;
  options.arguments = std::move(before);
  for (std::string& argument : support::tls_files().server_arguments(certificate)) {
    options.arguments.push_back(std::move(argument));
  }
  return options;
}
RedisServerOptions sentinel_with_tls(const std::string& certificate = "server") {
  RedisServerOptions options = with_tls(certificate, {"--sentinel"});
  options.arguments.insert(options.arguments.end(), {"--tls-replication", "yes"});
  return options;
}

RedisOptions trusting(RedisOptions options) {
  options.tls = true;
  options.tls_ca_file = support::tls_files().pem("authority");
  return options;
}
RedisOptions by_sentinel(const RedisServer& sentinel) {
  RedisOptions options = trusting(support::patient_options("idem:"));
  options.sentinels = {support::address_of(sentinel)};
  options.master_name = SentinelGroup::name;
  // On a busy machine TLS may take its time.
  options.connect_timeout = 5s;
  return options;
}
void monitor(RedisServer& sentinel, const std::string& host, std::uint16_t port) {
  sentinel.command({"SENTINEL", "MONITOR", SentinelGroup::name, host, std::to_string(port), "1"});
}

/// Made early, since new nodes serve only after two seconds. The nodes of this one listen without TLS, too.
RedisCluster& two_ports() {
  static RedisCluster cluster(RedisCluster::Replicas::none, with_tls());
  static const bool done = [] {
    for (std::size_t i = 0; i < cluster.size(); ++i) {
      cluster[i].command({"CONFIG", "SET", "port", std::to_string(RedisServer::free_port())});
    }
    return true;
  }();
  static_cast<void>(done);
  return cluster;
}
/// Their certificates have a name and no address.
RedisCluster& only_named() {
  static RedisCluster cluster(RedisCluster::Replicas::none, with_tls("named"));
  return cluster;
}

#define CHECK_HAS(text, part) CHECK_MESSAGE((text).find(part) != std::string::npos, text)

}  // namespace

TEST_CASE("HIR-17, RFT-09: with TLS to sentinels and servers calls go on at the new primary, through TLS") {
  SentinelGroup group({}, with_tls());
  two_ports();
  only_named();
  group.await_order();
  RedisOptions options = trusting(support::options_of(group));
  options.connect_timeout = 2s;
  RedisStore store(options);
  const idem::Reply opened = store.open();
  REQUIRE_MESSAGE(opened.answer == Answer::ok, opened.message);
  Counted counted;
  const auto guard = counted.guard(store);
  REQUIRE(guard.try_call(1).verdict() == Verdict::executed);
  group.fail_over(0);
  for (int i = 2; i < 20; ++i) REQUIRE(guard.try_call(i).verdict() == Verdict::executed);
  CHECK(guard.try_call(1).verdict() == Verdict::replayed);
  CHECK(counted.runs == 19);
}

TEST_CASE("HIR-17: what Sentinel names has to have a certificate for the address that it's named by") {
  RedisServer primary(with_tls("elsewhere"));
  RedisServer sentinel(sentinel_with_tls());
  monitor(sentinel, "127.0.0.1", primary.port());
  primary.reset_statistics();
  RedisOptions options = by_sentinel(sentinel);
  RedisStore store(options);
  const idem::Reply refused = store.open();
  CHECK(refused.answer == Answer::unavailable);
  CHECK_HAS(refused.message, support::address_of(primary) + ": ");
  CHECK_HAS(refused.message, "IP address mismatch");
  CHECK(primary.calls("evalsha") + primary.calls("role") == 0);
}

TEST_CASE("HIR-17: a primary that is announced by its name is verified by that") {
  RedisServer primary(with_tls("named"));
  RedisServer sentinel(sentinel_with_tls());
  sentinel.command({"SENTINEL", "CONFIG", "SET", "resolve-hostnames", "yes"});
  sentinel.command({"SENTINEL", "CONFIG", "SET", "announce-hostnames", "yes"});
  monitor(sentinel, "localhost", primary.port());
  RedisStore store(by_sentinel(sentinel));
  const idem::Reply opened = store.open();
  CHECK_MESSAGE(opened.answer == Answer::ok, opened.message);
  sentinel.command({"SENTINEL", "CONFIG", "SET", "announce-hostnames", "no"});
  RedisStore other(by_sentinel(sentinel));
  CHECK_HAS(other.open().message, "mismatch");
}

TEST_CASE("HIR-17: a sentinel without TLS, or with another's certificate, is neither asked nor believed") {
  RedisServer primary(with_tls());
  RedisServer plain({.arguments = {"--sentinel"}});
  RedisServer elsewhere(sentinel_with_tls("elsewhere"));
  for (RedisServer* const sentinel : {&plain, &elsewhere}) {
    monitor(*sentinel, "127.0.0.1", primary.port());
    RedisOptions options = by_sentinel(*sentinel);
    options.sentinel_password = "s3cret";
    options.timeout = 1s;
    options.connect_timeout = 1s;
    RedisStore store(options);
    const idem::Reply refused = store.open();
    CHECK(refused.answer == Answer::unavailable);
    CHECK_HAS(refused.message, "no sentinel says where the primary is");
    CHECK_HAS(refused.message, support::address_of(*sentinel) + ": ");
    CHECK(refused.message.find("s3cret") == std::string::npos);
  }
  CHECK(primary.calls("evalsha") == 0);
}

TEST_CASE("HIR-17, RFT-07: with TLS all nodes of a cluster are found, slots are followed, and waiters are woken") {
  RedisCluster& cluster = two_ports();
  cluster.await_service();
  RedisOptions options = trusting(support::options_of(cluster));
  options.cluster_nodes.resize(1);
  options.connect_timeout = 2s;
  RedisStore store(options);
  const idem::Reply opened = store.open();
  REQUIRE_MESSAGE(opened.answer == Answer::ok, opened.message);
  Counted counted;
  const auto guard = counted.guard(store);
  for (int i = 0; i < 60; ++i) REQUIRE(guard.try_call(i).verdict() == Verdict::executed);
  for (std::size_t i = 0; i < cluster.size(); ++i) CHECK(cluster[i].command({"DBSIZE"}).integer > 0);
  CHECK(store.stats().records == 60);

  const auto slot_of = [&](int number) {
    char digits[idem::detail::redis::digest_digits];
    idem::detail::redis::write_digest(guard.key(number).digest(), digits);
    return cluster.slot_of("idem:" + std::string(digits, sizeof digits));
  };
  const int slot = slot_of(60);
  const std::size_t from = RedisCluster::first_owner(slot);
  const std::size_t to = (from + 1) % RedisCluster::primaries;
  cluster.begin_move(slot, from, to);
  CHECK(guard.try_call(60).verdict() == Verdict::executed);  // ASK
  cluster.end_move(slot, from, to);
  CHECK(guard.try_call(60).verdict() == Verdict::replayed);  // MOVED
  CHECK(counted.runs == 61);

  std::atomic<bool> goes{false};
  const auto slow = idem::idempotent<"slow">(
      [&](int number) {
        while (!goes) std::this_thread::yield();
        return number;
      },
      store);
  std::thread first([&] { CHECK(slow.try_call(1).verdict() == Verdict::executed); });
  support::wait_until("it runs", [&] { return store.find(slow.key(1)).answer == Answer::running; });
  std::thread second([&] { CHECK(slow.try_call(1).verdict() == Verdict::replayed); });
  goes = true;
  first.join();
  second.join();
}

TEST_CASE("HIR-17: the nodes of a cluster are verified by what they are announced as, a name or an address") {
  RedisCluster& cluster = only_named();
  cluster.await_service();
  RedisOptions options = trusting(support::options_of(cluster));
  options.connect_timeout = 2s;
  options.cluster_nodes = {"localhost:" + std::to_string(cluster[0].port())};
  {
    RedisStore store(options);
    const idem::Reply refused = store.open();
    CHECK(refused.answer == Answer::unavailable);
    CHECK_HAS(refused.message, "IP address mismatch");
    for (std::size_t i = 0; i < cluster.size(); ++i) CHECK(cluster[i].calls("evalsha") == 0);
  }
  for (std::size_t i = 0; i < cluster.size(); ++i) {
    cluster[i].command({"CONFIG", "SET", "cluster-announce-hostname", "localhost"});
    cluster[i].command({"CONFIG", "SET", "cluster-preferred-endpoint-type", "hostname"});
  }
  RedisStore store(options);
  idem::Reply opened;
  // The nodes have to tell each other first.
  support::wait_until("all nodes have their names", [&] { return (opened = store.open()).answer == Answer::ok; });
  Counted counted;
  const auto guard = counted.guard(store);
  for (int i = 0; i < 30; ++i) REQUIRE(guard.try_call(i).verdict() == Verdict::executed);
  CHECK(store.clear() == 30);
}
