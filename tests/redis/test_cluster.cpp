// RFT-05 to RFT-07, RFT-09, RFT-15, T-15: records in a Redis Cluster, whose slots move and whose nodes die.
#include <idem/clock.hpp>
#include <idem/detail/redis/address.hpp>
#include <idem/detail/redis/key_slot.hpp>
#include <idem/idempotent.hpp>
#include <idem/key.hpp>
#include <idem/redis_store.hpp>
#include <idem/testing/conformance.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "support/redis_failover.hpp"
#include "support/resp_server.hpp"

namespace {

using namespace std::chrono_literals;
using idem::Answer;
using idem::Clock;
using idem::RedisOptions;
using idem::RedisStore;
using idem::Verdict;
using support::Counted;
using support::options_of;
using support::RedisCluster;
using support::RedisLoad;
using Replicas = support::RedisCluster::Replicas;

/// With replicas, for tests that don't leave them as they were.
support::Ahead<RedisCluster>& clusters() {
  static support::Ahead<RedisCluster> ahead(3, [] { return std::make_unique<RedisCluster>(); });
  return ahead;
}
/// Without.
support::Ahead<RedisCluster>& small_clusters() {
  static support::Ahead<RedisCluster> ahead(1, [] { return std::make_unique<RedisCluster>(Replicas::none); });
  return ahead;
}

/// For tests that leave it as it was.
RedisCluster& shared_cluster() {
  static const std::unique_ptr<RedisCluster> cluster = [] {
    auto taken = small_clusters().take();
    clusters().prepare();
    return taken;
  }();
  static RedisCluster& serving = cluster->await_service();
  return serving;
}

/// The digest's place in the cluster is the same for a key of the store with this prefix.
int slot_of(RedisCluster& cluster, const std::string& prefix, const idem::Key& key) {
  char digits[idem::detail::redis::digest_digits];
  idem::detail::redis::write_digest(key.digest(), digits);
  return cluster.slot_of(prefix + std::string(digits, sizeof digits));
}

/// Its replica hears nothing any more from a primary that wants a password which only clients know.
void cut_off_replica(RedisCluster& cluster, std::size_t primary) {
  cluster[primary].command({"CONFIG", "SET", "requirepass", "secret"});
  cluster[primary].command({"CLIENT", "KILL", "TYPE", "replica"});
  support::wait_until("the replica is cut off",
                      [&] { return cluster[primary].info("replication", "connected_slaves") == "0"; });
}

/// A number whose call's record is on that primary, of those from `first` on.
int number_on(RedisCluster& cluster, std::size_t primary, const std::string& prefix, RedisStore& store, int first) {
  Counted none;
  const auto guard = none.guard(store);
  while (RedisCluster::first_owner(slot_of(cluster, prefix, guard.key(first))) != primary) ++first;
  return first;
}

}  // namespace

TEST_CASE("a key's slot is what a cluster says it is, also where the prefix names the part that counts") {
  using idem::detail::redis::crc16;
  using idem::detail::redis::hashed_part;
  using idem::detail::redis::KeySlots;
  using idem::detail::redis::slot_of_key;
  static_assert(crc16("123456789") == 0x31C3);
  static_assert(slot_of_key("foo{hash_tag}") == 2515 && slot_of_key("{}123456789") == crc16("{}123456789") % 16384);
  support::RedisServer server(
      {.arguments = {"--cluster-enabled", "yes", "--cluster-port", std::to_string(support::RedisServer::free_port())}});
  for (const std::string prefix : {"idem:", "{shop}:", "a{}b{c}:", "{a", "x}y{z}", "{{a}}", ""}) {
    idem::Digest digest = {};
    for (int i = 0; i < 20; ++i) {
      digest.bytes[i] = static_cast<std::uint8_t>(37 * i + 11);
      char digits[idem::detail::redis::digest_digits];
      idem::detail::redis::write_digest(digest, digits);
      const std::string key = prefix + std::string(digits, sizeof digits);
      const auto slot = static_cast<std::uint16_t>(server.command({"CLUSTER", "KEYSLOT", key}).integer);
      CHECK_MESSAGE(KeySlots(prefix).of(digest) == slot, key);
      CHECK(slot_of_key(key) == slot);
    }
  }
}

TEST_CASE("addresses that servers tell are taken only where they can be one") {
  using idem::detail::redis::Endpoint;
  using idem::detail::redis::read_address;
  using idem::detail::redis::read_redirect;
  Endpoint to;
  std::uint32_t slot = 0;
  CHECK(read_redirect("MOVED 3999 127.0.0.1:6381", "asked", slot, to));
  CHECK((slot == 3999 && to.host == "127.0.0.1" && to.port == 6381));
  CHECK((read_redirect("ASK 1 ::1:7000", "asked", slot, to) && to.host == "::1" && to.port == 7000));
  CHECK((read_redirect("MOVED 1 :7000", "asked", slot, to) && to.host == "asked"));
  CHECK((read_redirect("MOVED 1 ?:7000", "asked", slot, to) && to.host == "asked"));
  for (const char* const wrong :
       {"MOVED", "MOVED 1", "MOVED 1 ", "MOVED x a:1", "MOVED 16384 a:1", "MOVED 1 a", "MOVED 1 a:0", "MOVED 1 a:65536",
        "MOVED 1 a b:1", "MOVED 1 /tmp/x:1", "MOVED 1 a\n:1", "MOVED 1 a:1 ", "MOVED 1 a:1x", "MOVED -1 a:1"}) {
    CHECK_FALSE_MESSAGE(read_redirect(wrong, "asked", slot, to), wrong);
  }
  CHECK((read_address("db1", 6379, to) && to.host == "db1" && to.port == 6379));
  CHECK((read_address("db1:7000", 6379, to) && to.host == "db1" && to.port == 7000));
  CHECK((read_address("[::1]:7000", 6379, to) && to.host == "::1" && to.port == 7000));
  CHECK((read_address("[::1]", 6379, to) && to.port == 6379));
  for (const char* const wrong : {"", ":1", "a:", "a:0", "a:b", "::1", "[::1", "[::1]7000", "a b", "redis://a:1"}) {
    CHECK_FALSE_MESSAGE(read_address(wrong, 6379, to), wrong);
  }
}

TEST_CASE("options that contradict each other are refused") {
  const auto refused = [](auto change) {
    RedisOptions options;
    change(options);
    CHECK_THROWS_AS(RedisStore{options}, std::invalid_argument);
  };
  refused([](RedisOptions& o) { o.cluster_nodes = {"a b"}; });
  refused([](RedisOptions& o) { o.sentinels = {"a:b"}, o.master_name = "m"; });
  refused([](RedisOptions& o) { o.sentinels = {"a"}; });
  refused([](RedisOptions& o) { o.master_name = "m"; });
  refused([](RedisOptions& o) { o.sentinels = {"a"}, o.master_name = "m", o.cluster_nodes = {"b"}; });
  refused([](RedisOptions& o) { o.cluster_nodes = {"b"}, o.database = 1; });
  refused([](RedisOptions& o) { o.cluster_nodes = {"b"}, o.unix_socket = "/tmp/s"; });
  RedisOptions plain;
  plain.sentinels = {"a", "[::1]:26380", "10.0.0.3:26379"};
  plain.master_name = "m";
  CHECK_NOTHROW(RedisStore{plain});
}

TEST_CASE("T-15: a store in a Redis Cluster keeps every store's promises") {
  RedisCluster& cluster = shared_cluster();
  int cases = 0;
  Clock used;
  const auto open = [&](const Clock& clock) {
    RedisOptions options = options_of(cluster, "case " + std::to_string(cases) + ":");
    options.clock = clock;
    return RedisStore(options);
  };
  std::size_t skipped = 0;
  idem::testing::check_conformance(
      [&](const Clock& clock) {
        ++cases;
        used = clock;
        return open(clock);
      },
      [&](const idem::testing::ConformanceResult& result) {
        if (result.skipped) ++skipped;
        CHECK_MESSAGE(result.passed, result.id, ": ", result.promise, ": ", result.detail);
      },
      [&](RedisStore&) { return open(used); });
  CHECK(skipped == 1);  // the one about objects
}

TEST_CASE("what goes through all records goes through all nodes") {
  RedisCluster& cluster = shared_cluster();
  RedisStore store(options_of(cluster, "all:"));
  Counted counted;
  const auto guard = counted.guard(store);
  for (int i = 0; i < 200; ++i) REQUIRE(guard.try_call(i).verdict() == Verdict::executed);
  for (std::size_t i = 0; i < cluster.size(); ++i) CHECK(cluster[i].command({"DBSIZE"}).integer > 20);
  CHECK(store.stats().records == 200);
  std::size_t seen = 0;
  store.for_each([&](const idem::RecordView&) { ++seen; });
  CHECK(seen == 200);
  CHECK(store.purge({}).complete);
  CHECK(store.clear() == 200);
  CHECK(store.stats().records == 0);
  CHECK(store.stats().available);
  // One command is one round trip also here.
  for (std::size_t i = 0; i < cluster.size(); ++i) cluster[i].reset_statistics();
  for (int i = 200; i < 300; ++i) REQUIRE(guard.try_call(i).verdict() == Verdict::executed);
  for (int i = 200; i < 300; ++i) REQUIRE(guard.try_call(i).verdict() == Verdict::replayed);
  long long scripts = 0;
  for (std::size_t i = 0; i < cluster.size(); ++i) scripts += cluster[i].calls("evalsha") + cluster[i].calls("eval");
  CHECK(scripts == 300);
}

TEST_CASE("a user who may do no more than the guarantees say is enough for a cluster") {
  RedisCluster& cluster = shared_cluster();
  for (std::size_t i = 0; i < cluster.size(); ++i) {
    cluster[i].command({"ACL",
                        "SETUSER",
                        "idem",
                        "on",
                        ">secret",
                        "resetkeys",
                        "resetchannels",
                        "~acl:*",
                        "&acl:wake:*",
                        "-@all",
                        "+eval",
                        "+evalsha",
                        "+get",
                        "+set",
                        "+setrange",
                        "+getrange",
                        "+del",
                        "+time",
                        "+publish",
                        "+subscribe",
                        "+unsubscribe",
                        "+scan",
                        "+ping",
                        "+wait",
                        "+select",
                        "+info",
                        "+role",
                        "+config|get",
                        "+client|setname",
                        "+cluster|slots",
                        "+asking"});
  }
  RedisOptions options = options_of(cluster, "acl:");
  options.username = "idem";
  options.password = "secret";
  RedisStore store(options);
  CHECK_MESSAGE(store.open().answer == Answer::ok, store.open().message);
  Counted counted;
  const auto guard = counted.guard(store);
  const int slot = slot_of(cluster, "acl:", guard.key(1));
  const std::size_t from = RedisCluster::first_owner(slot);
  const std::size_t to = (from + 1) % RedisCluster::primaries;
  cluster.begin_move(slot, from, to);
  CHECK(guard.try_call(1).verdict() == Verdict::executed);  // at the one it moves to
  cluster.end_move(slot, from, to);
  CHECK(guard.try_call(1).verdict() == Verdict::replayed);
  CHECK(store.clear() == 1);
  cluster.begin_move(slot, to, from);
  cluster.end_move(slot, to, from);
}

TEST_CASE("RFT-07: a slot that moves under load repeats no call and forgets none") {
  RedisCluster& cluster = shared_cluster();
  const std::string prefix = "{moving}:";
  const int slot = cluster.slot_of(prefix);
  std::size_t from = RedisCluster::first_owner(slot);
  RedisOptions options = options_of(cluster, prefix);
  options.cluster_nodes = {support::address_of(cluster[0])};
  RedisLoad load(options);
  REQUIRE(load.progresses(500));
  for (int round = 0; round < 3; ++round) {  // once around
    const std::size_t to = (from + 1) % RedisCluster::primaries;
    cluster.begin_move(slot, from, to);
    REQUIRE(load.progresses(100));
    // New keys are claimed at the one, old ones found at the other, until the last has moved.
    while (cluster.move_keys(slot, from, to, 50) != 0) {
    }
    REQUIRE(load.progresses(100));
    CHECK(cluster.move_keys(slot, from, to, 10) == 0);
    cluster.end_move(slot, from, to);
    REQUIRE(load.progresses(200));
    from = to;
  }
  load.stop();
  const RedisLoad::Tally tally = load.tally();
  CHECK(tally.keys > 500);
  CHECK(tally.repeated == 0);
  CHECK(tally.forgotten == 0);
  CHECK(tally.unfinished == 0);
  CHECK(tally.unknown == 0);
  CHECK_MESSAGE(tally.unavailable == 0, load.last_error());
}

TEST_CASE("RFT-09, RFT-15: a primary killed under load repeats no call where a replica had each claim") {
  const std::unique_ptr<RedisCluster> own = clusters().take();
  RedisCluster& cluster = own->await_service();
  RedisOptions options = options_of(cluster);
  options.min_replicas = 1;
  options.replica_timeout = 100ms;
  RedisLoad load(options);
  REQUIRE(load.progresses(500));
  cluster[1].kill();
  cluster.await_failover_of(1);
  // Its replica has none of its own now, so that calls on its slots are refused, and others go on.
  REQUIRE(load.progresses(50));
  for (std::size_t i = RedisCluster::primaries; i < cluster.size(); ++i) {
    if (i == 4) continue;
    CHECK(cluster[i].calls("evalsha") + cluster[i].calls("eval") + cluster[i].calls("scan") == 0);
  }
  cluster[1].start();
  support::wait_until("the old primary follows the new one", [&] {
    return support::info_or_nothing(cluster[1], "replication", "master_link_status") == "up";
  });
  REQUIRE(load.progresses(1000));
  load.stop();
  const RedisLoad::Tally tally = load.tally();
  CHECK(tally.repeated == 0);
  CHECK(tally.forgotten == 0);
  CHECK(tally.unknown == 0);
  MESSAGE("killed, min_replicas=1: ", support::summary(load, tally));
}

TEST_CASE("RFT-05: a primary that hangs is left for its replica, and isn't believed when it wakes") {
  const std::unique_ptr<RedisCluster> own = clusters().take();
  RedisCluster& cluster = own->await_service();
  RedisOptions options = options_of(cluster);
  options.min_replicas = 1;
  options.replica_timeout = 100ms;
  RedisLoad load(options);
  REQUIRE(load.progresses(500));
  cluster[0].pause();
  cluster.await_failover_of(0);
  REQUIRE(load.progresses(50));
  cluster[0].resume();
  support::wait_until("it follows the new one", [&] {
    return support::info_or_nothing(cluster[0], "replication", "master_link_status") == "up";
  });
  REQUIRE(load.progresses(1000));
  load.stop();
  const RedisLoad::Tally tally = load.tally();
  CHECK(tally.repeated == 0);
  CHECK(tally.forgotten == 0);
  CHECK(tally.unknown == 0);
  MESSAGE("hung, min_replicas=1: ", support::summary(load, tally));
}

TEST_CASE(
    "RFT-05, RFT-06: a failover forgets what the replica hadn't got, and with min_replicas no such call has run") {
  const std::unique_ptr<RedisCluster> own = clusters().take();
  RedisCluster& cluster = own->await_service();
  RedisOptions options = options_of(cluster);
  options.password = "secret";  // where none is asked for, any will do
  options.timeout = 3s;
  RedisStore trusting(options);
  options.min_replicas = 1;
  options.replica_timeout = 50ms;
  RedisStore careful(options);
  Counted counted;
  const auto trusting_guard = counted.guard(trusting);
  const auto careful_guard = counted.guard(careful);
  const int first = number_on(cluster, 2, "idem:", trusting, 0);
  const int second = number_on(cluster, 2, "idem:", trusting, first + 1);
  const int third = number_on(cluster, 2, "idem:", trusting, second + 1);

  REQUIRE(careful_guard.try_call(first).verdict() == Verdict::executed);
  cut_off_replica(cluster, 2);
  // It has run, and the replica doesn't know.
  REQUIRE(trusting_guard.try_call(second).verdict() == Verdict::executed);
  CHECK(counted.runs == 2);
  // It doesn't run.
  const auto refused = careful_guard.try_call(third);
  CHECK(refused.verdict() == Verdict::unavailable);
  CHECK(refused.error().message.find("min_replicas") != std::string::npos);
  CHECK(counted.runs == 2);
  cluster[2].kill();
  cluster.await_failover_of(2);

  // Who only goes through all records finds the new primary, too, once the nodes have told each other.
  support::wait_until("all records are found", [&] { return careful.stats().available; });
  CHECK(trusting_guard.try_call(first).verdict() == Verdict::replayed);
  CHECK(trusting_guard.try_call(second).verdict() == Verdict::executed);  // a second time
  CHECK(trusting_guard.try_call(third).verdict() == Verdict::executed);   // the first time
  CHECK(counted.runs == 4);
}

TEST_CASE(
    "RFT-07: without a node that serves the slot a call ends by its deadline, and goes on where one serves in time") {
  const std::unique_ptr<RedisCluster> own = small_clusters().take();
  RedisCluster& cluster = own->await_service();
  RedisOptions options = options_of(cluster);
  options.timeout = 300ms;
  options.connect_timeout = 100ms;
  RedisStore hasty(options);
  options.timeout = 20s;
  RedisStore patient(options);
  Counted counted;
  REQUIRE(counted.guard(hasty).try_call(0).verdict() == Verdict::executed);
  REQUIRE(counted.guard(patient).try_call(0).verdict() == Verdict::replayed);
  const int slot = slot_of(cluster, "idem:", counted.guard(hasty).key(1));
  const std::size_t owner = RedisCluster::first_owner(slot);

  // The slot is nobody's.
  for (std::size_t i = 0; i < cluster.size(); ++i) cluster[i].command({"CLUSTER", "DELSLOTS", std::to_string(slot)});
  const auto refused = counted.guard(hasty).try_call(1);
  CHECK(refused.verdict() == Verdict::unavailable);
  CHECK_FALSE(refused.error().message.empty());
  std::thread caller([&] { CHECK(counted.guard(patient).try_call(1).verdict() == Verdict::executed); });
  cluster[owner].command({"CLUSTER", "ADDSLOTS", std::to_string(slot)});
  caller.join();
  CHECK(counted.runs == 2);

  // All hang.
  for (std::size_t i = 0; i < cluster.size(); ++i) cluster[i].pause();
  CHECK(counted.guard(hasty).try_call(2).verdict() == Verdict::unavailable);
  CHECK(counted.guard(hasty).try_call(3).verdict() == Verdict::unavailable);
  CHECK_FALSE(hasty.stats().available);
  for (std::size_t i = 0; i < cluster.size(); ++i) cluster[i].resume();
  std::thread other([&] { CHECK(counted.guard(patient).try_call(4).verdict() == Verdict::executed); });
  other.join();

  // All are down.
  for (std::size_t i = 0; i < cluster.size(); ++i) cluster[i].kill();
  CHECK(counted.guard(hasty).try_call(5).verdict() == Verdict::unavailable);
  CHECK_FALSE(hasty.stats().available);
  CHECK_FALSE(hasty.purge({}).complete);
  options.timeout = 300ms;
  RedisStore late(options);
  CHECK(late.open().answer == Answer::unavailable);
  CHECK(counted.runs == 3);
}

TEST_CASE(
    "RFT-07: nodes that send each other's callers to and fro hold up a call until its deadline, and are asked seldom") {
  std::atomic<int> ports[2] = {0, 0};
  std::atomic<int> scripts{0};
  std::atomic<int> maps{0};
  std::atomic<int> slot{0};
  std::atomic<const char*> code{"MOVED"};
  const auto node = [&](std::size_t self) {
    return [&, self](support::RespConnection& connection) {
      for (auto command = connection.next(); !command.empty(); command = connection.next()) {
        const std::string other = std::to_string(ports[1 - self]);
        if (command[0] == "CLUSTER") {
          ++maps;
          connection.send("*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n" + support::bulk("127.0.0.1") + ":" + other + "\r\n");
        } else if (command[0] == "ASKING") {
          connection.send("+OK\r\n");
        } else {
          ++scripts;
          connection.send("-" + std::string(code) + " " + std::to_string(slot) + " 127.0.0.1:" + other + "\r\n");
        }
      }
    };
  };
  support::RespServer first(node(0));
  support::RespServer second(node(1));
  ports[0] = first.port();
  ports[1] = second.port();
  RedisOptions options;
  options.cluster_nodes = {"127.0.0.1:" + std::to_string(first.port())};
  options.timeout = 400ms;
  RedisStore store(options);
  Counted counted;
  const auto guard = counted.guard(store);
  char digits[idem::detail::redis::digest_digits];
  idem::detail::redis::write_digest(guard.key(1).digest(), digits);
  slot = idem::detail::redis::slot_of_key("idem:" + std::string(digits, sizeof digits));
  for (const char* const each : {"MOVED", "ASK"}) {
    code = each;
    const auto outcome = guard.try_call(1);
    CHECK(outcome.verdict() == Verdict::unavailable);
    CHECK_MESSAGE(outcome.error().message.find(each) != std::string::npos, outcome.error().message);
  }
  code = "MOVED";
  slot = (slot + 1) % RedisCluster::slots;  // another key's
  CHECK(guard.try_call(1).verdict() == Verdict::unavailable);
  CHECK(counted.runs == 0);
  // In 1.2 seconds. No time is asserted, but what would be a thousand times as many.
  CHECK(scripts < 1000);
  CHECK(maps < 300);
}

TEST_CASE("a server that is no node of a cluster, and one that isn't told how to log in, say so") {
  support::RedisServer single;
  RedisOptions options;
  options.cluster_nodes = {support::address_of(single)};
  RedisStore store(options);
  const idem::Reply reply = store.open();
  CHECK(reply.answer == Answer::unavailable);
  CHECK_MESSAGE(reply.message.find("cluster") != std::string::npos, reply.message);
}

TEST_CASE("RFT-07: a node of a cluster that is taken for one server says what it is") {
  RedisCluster& cluster = shared_cluster();
  RedisOptions options;
  options.port = cluster[0].port();
  RedisStore store(options);
  Counted counted;
  const auto guard = counted.guard(store);
  const auto outcome = guard.try_call(number_on(cluster, 1, "idem:", store, 0));
  CHECK(outcome.verdict() == Verdict::unavailable);
  CHECK_MESSAGE(outcome.error().message.find("MOVED") != std::string::npos, outcome.error().message);
  CHECK(counted.runs == 0);
}
