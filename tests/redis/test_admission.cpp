// Which servers a store uses, what it says about them, and what it needs to be allowed there.
#include <idem/idem.hpp>
#include <idem/redis_store.hpp>
#include <idem/testing/recording_observer.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <cstddef>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "support/process_support.hpp"
#include "support/redis_world.hpp"

namespace {

using namespace redis_world;
using Events = idem::testing::RecordingObserver;
using idem::EventKind;
using idem::Key;
using process_support::eventually;

/// What a store says about a server, all in one.
std::string warnings(RedisOptions options) {
  const Events events;
  options.on_event = events;
  RedisStore store(options);
  // Told once, however often it is asked.
  CHECK(store.open().answer == Answer::ok);
  CHECK(store.open().answer == Answer::ok);
  const Key key = idem::make_key("warned", 1);
  CHECK(store.release(key, claim(store, key).record.owner).answer == Answer::ok);
  std::string all;
  for (const auto& event : events.events()) all += event.message + "\n";
  CHECK(events.count(EventKind::store_warning) == events.kinds().size());
  return all;
}
std::string refusal(RedisOptions options) {
  options.unsafe_server = idem::UnsafeServer::refuse;
  RedisStore store(options);
  const Reply opened = store.open();
  if (opened.answer == Answer::ok) return {};
  const Reply claimed = claim(store, idem::make_key("refused", 1));
  CHECK(claimed.answer == Answer::unavailable);
  CHECK(claimed.message == opened.message);
  return opened.message;
}
bool holds(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

/// Whether it is refused for this reason, and never done. On a busy machine the time may be over before the server has
/// been asked, so that it's tried until the reason is this one.
template <class Operation>
bool refused_for(std::string_view reason, Operation&& operation) {
  return eventually([&] {
    const Reply reply = operation();
    CHECK(reply.answer == Answer::unavailable);
    return holds(reply.message, reason);
  });
}

/// Whether a key can be had. On a busy machine the first answers may come too late.
bool can_claim(RedisStore& store, const std::string& name) {
  int number = 0;
  return eventually([&] { return claim(store, idem::make_key(name, ++number)).answer == Answer::acquired; });
}

/// As the README has it, but for +wait, which min_replicas needs, and +select, which another database needs.
const std::vector<std::string>& needed_commands() {
  static const std::vector<std::string> commands = {"+evalsha", "+eval",    "+get",  "+set",       "+setrange",
                                                    "+getrange", "+del",    "+time", "+scan",      "+info",
                                                    "+publish", "+subscribe", "+unsubscribe"};
  return commands;
}

void make_user(RedisServer& server, const std::vector<std::string>& commands) {
  std::vector<std::string> line{"ACL",           "SETUSER",      "shop",    "reset", "on", ">s3cr3t",
                                "resetchannels", "&idem:wake:*", "~idem:*", "-@all"};
  line.insert(line.end(), commands.begin(), commands.end());
  server.command(line);
}

/// What the server's log says that was forbidden.
std::set<std::string> logged(RedisServer& server) {
  std::set<std::string> all;
  for (const RedisReply& entry : server.command({"ACL", "LOG", "100"}).elements) {
    for (std::size_t i = 0; i + 1 < entry.elements.size(); i += 2) {
      if (entry.elements[i].text == "object") all.insert(entry.elements[i + 1].text);
    }
  }
  return all;
}

/// Does all that a store can do as this user, who lacks this command. Says what the server forbade.
std::set<std::string> forbidden(RedisServer& server, const std::string& lacks = {}) {
  server.command({"FLUSHALL"});
  server.command({"SCRIPT", "FLUSH"});
  server.command({"ACL", "LOG", "RESET"});
  RedisOptions options = options_for(server);
  options.username = "shop";
  options.password = "s3cr3t";
  std::set<std::string> all;
  {
    RedisStore store(options);
    RedisStore other(options);
    const auto expect = [&](const char* what, bool is_so) {
      if (!is_so) all.insert(std::string("failed: ") + what);
    };
    const Key key = idem::make_key("allowed", 1);
    expect("open", store.open().answer == Answer::ok);
    const Reply claimed = claim(store, key);
    expect("claim", claimed.answer == Answer::acquired);
    const idem::Ownership owner = claimed.record.owner;
    expect("renew", store.renew(key, owner, 2h).answer == Answer::ok);
    expect("find", store.find(key).answer == Answer::running);
    if (claimed.answer == Answer::acquired) {
      std::atomic<bool> completed{false};
      std::thread waiter([&] {
        while (!completed) other.wait(key, owner.epoch, other.now() + 300ms);
      });
      // It waits, told by the record and by the server, or it can't.
      expect("wait", eventually([&] {
        const bool marked = server.ask({"GETRANGE", name_of(key), "7", "7"}).text == "\1";
        const bool subscribed = !server.command({"PUBSUB", "CHANNELS"}).elements.empty();
        return (marked && subscribed) || logged(server).count(lacks) == 1;
      }));
      expect("complete", store.complete(key, outcome(owner, "x")).answer == Answer::ok);
      completed = true;
      waiter.join();
    }
    expect("replay", text_of(claim(other, key)) == "x");
    expect("erase", store.erase(key).answer == Answer::ok);
    expect("abandon", store.abandon(key, claim(store, key).record.owner).answer == Answer::ok);
    expect("purge", store.purge({.in_doubt_older_than = idem::Duration(0s)}).in_doubt == 1);
    expect("release", store.release(key, claim(store, key).record.owner).answer == Answer::ok);
    idem::ClaimRequest at_once = new_claim();
    at_once.complete_at_once = true;
    expect("at once", store.claim(key, at_once, nullptr).answer == Answer::acquired);
    std::size_t shown = 0;
    store.for_each([&](const idem::RecordView&) { ++shown; });
    expect("for_each", shown == 1);
    expect("stats", store.stats().completed == 1);
    expect("clear", store.clear() == 1);
  }
  all.merge(logged(server));
  return all;
}

}  // namespace

TEST_CASE("RFT-01: a server that may lose records is warned of once, or refused where that is asked for") {
  RedisServer& server = common_server();
  CHECK(holds(warnings(options_for(server)), "append-only file"));
  CHECK_FALSE(holds(warnings(options_for(server)), "evicts"));
  CHECK(holds(refusal(options_for(server)), "append-only file"));

  RedisServer safe({.arguments = {"--appendonly", "yes"}});
  CHECK(warnings(options_for(safe)) == "");
  CHECK(refusal(options_for(safe)) == "");
  CHECK(RedisOptions::strict().unsafe_server == idem::UnsafeServer::refuse);
  safe.command({"CONFIG", "SET", "maxmemory", "1gb"});
  CHECK(warnings(options_for(safe)) == "");
  for (const char* const policy : {"allkeys-lru", "allkeys-random", "volatile-lru", "volatile-ttl"}) {
    CAPTURE(std::string(policy));
    safe.command({"CONFIG", "SET", "maxmemory-policy", policy});
    CHECK(holds(warnings(options_for(safe)), "evicts keys at maxmemory"));
    CHECK(holds(refusal(options_for(safe)), "noeviction"));
  }
  // A server without a limit evicts nothing.
  safe.command({"CONFIG", "SET", "maxmemory", "0"});
  CHECK(warnings(options_for(safe)) == "");
}

TEST_CASE("RFT-01 RLU-15: a server that is older than the scripts need is refused, and says so at once") {
  std::atomic<int> scripts{0};
  support::RespServer server([&](support::RespConnection& link) {
    for (RespCommand command = link.next(4); !command.empty(); command = link.next(4)) {
      ++scripts;
      link.send("-ERR Write commands not allowed after non deterministic commands\r\n");
    }
  });
  RedisOptions options;
  options.port = server.port();
  RedisStore store(options);
  CHECK(holds(store.open().message, "older than Redis 5"));
  CHECK(claim(store, idem::make_key("old", 1)).answer == Answer::unavailable);
  CHECK(scripts == 0);
}

TEST_CASE("HIR-15: who can't be connected to is named, by host and port or by path, and never with a password") {
  RedisOptions options;
  options.password = "s3cr3t";
  options.timeout = 200ms;
  const auto complaint = [&] {
    RedisStore store(options);
    const Reply opened = store.open();
    CHECK(opened.answer == Answer::unavailable);
    // The reason comes through, however long the name is.
    CHECK_FALSE(holds(opened.message, "s3cr3t"));
    const Reply claimed = claim(store, idem::make_key("nobody", 1));
    CHECK_FALSE(holds(claimed.message, "s3cr3t"));
    return opened.message + "\n" + claimed.message;
  };
  options.port = RedisServer::free_port();
  const std::string address = "127.0.0.1:" + std::to_string(options.port);
  CHECK(holds(complaint(), address + ": the server can't be reached: Connection refused"));
  options.host = "localhost";
  CHECK(holds(complaint(), "localhost:" + std::to_string(options.port) + ": the server can't be reached"));
  options.host = std::string(200, 'a') + ".invalid";
  CHECK(holds(complaint(), "could not be looked up"));
  // Somebody took a URL for a host.
  options.host = "redis://:s3cr3t@redis.example:6379";
  CHECK(holds(complaint(), "could not be looked up"));
  options.host = "127.0.0.1";
  options.unix_socket = "/nowhere/socket";
  CHECK(holds(complaint(), "/nowhere/socket: the server can't be reached: No such file"));
  options.unix_socket.clear();
  options.sentinels = {address};
  options.sentinel_password = "s3cr3t";
  options.master_name = "records";
  CHECK(holds(complaint(), "the last one that was asked: " + address + ": the server can't be reached"));
  options.sentinels.clear();
  options.master_name.clear();
  options.cluster_nodes = {address};
  CHECK(holds(complaint(), "the last one that was asked: " + address + ": the server can't be reached"));
}

TEST_CASE("HIR-15: a server that is there but can't be used is named, too") {
  RedisServer server({.arguments = {"--requirepass", "right s3cr3t"}, .password = "right s3cr3t"});
  RedisOptions options;
  options.port = server.port();
  options.password = "wrong s3cr3t";
  RedisStore store(options);
  const Reply opened = store.open();
  CHECK(holds(opened.message, "127.0.0.1:" + std::to_string(server.port()) + ": the server refused to log in"));
  CHECK_FALSE(holds(opened.message, "s3cr3t"));
}

TEST_CASE("SEC-08: open() says which right is missing, whoever has told the server the scripts, and leaves nothing behind") {
  RedisServer& server = common_server();
  {
    RedisStore others(options_for(server));
    REQUIRE(others.open().answer == Answer::ok);
    CHECK(server.command({"DBSIZE"}).integer == 0);
  }
  RedisOptions options = options_for(server);
  options.username = "shop";
  options.password = "s3cr3t";
  for (const char* const right : {"+evalsha", "+eval", "+get", "+set", "+setrange", "+getrange", "+del", "+time"}) {
    CAPTURE(std::string(right));
    std::vector<std::string> rest;
    for (const std::string& command : needed_commands()) {
      if (command != right) rest.push_back(command);
    }
    make_user(server, rest);
    for (const bool flushed : {false, true}) {
      if (flushed) server.command({"SCRIPT", "FLUSH"});
      RedisStore store(options);
      const Reply opened = store.open();
      CHECK(opened.answer == Answer::unavailable);
      CHECK_MESSAGE(holds(opened.message, right + 1), opened.message);
      CHECK(holds(opened.message, server.unix_socket() + ": "));
      // What it can't remove is gone by itself.
      for (const RedisReply& key : server.command({"KEYS", "*"}).elements) {
        const long long left = server.command({"PTTL", key.text}).integer;
        CHECK(left != -1);  // for ever; -2: gone meanwhile
        CHECK(left <= 20'000);
      }
      server.command({"FLUSHALL"});
    }
  }
  make_user(server, needed_commands());
  RedisStore store(options);
  const Reply opened = store.open();
  CHECK_MESSAGE(opened.answer == Answer::ok, opened.message);
  CHECK(opened.message.empty());
  options.prefix = "other:";
  RedisStore outside(options);
  CHECK(outside.open().answer == Answer::unavailable);
  CHECK(server.command({"DBSIZE"}).integer == 0);
}

TEST_CASE("RFT-02: open() says that a server is full, that it can't save, and that it has too few replicas") {
  RedisServer server;
  RedisOptions options = options_for(server);
  RedisStore store(options);
  REQUIRE(store.open().answer == Answer::ok);
  server.command({"CONFIG", "SET", "maxmemory", "1"});
  CHECK(holds(store.open().message, "the server is full"));
  server.command({"CONFIG", "SET", "maxmemory", "0"});
  CHECK(store.open().answer == Answer::ok);
  server.command({"CONFIG", "SET", "min-replicas-to-write", "1"});
  CHECK(holds(store.open().message, "NOREPLICAS"));
  server.command({"CONFIG", "SET", "min-replicas-to-write", "0"});
  options.min_replicas = 1;
  options.replica_timeout = 10ms;
  RedisStore careful(options);
  const Reply refused = careful.open();
  CHECK(refused.answer == Answer::unavailable);
  CHECK(holds(refused.message, "min_replicas"));
  CHECK(server.command({"DBSIZE"}).integer <= 1);
}

TEST_CASE("RFT-09: neither a replica nor a former primary is claimed from") {
  RedisServer& primary = common_server();
  RedisServer replica({.arguments = {"--replicaof", "127.0.0.1 " + std::to_string(primary.port())}});
  RedisOptions options = options_for(replica);
  options.timeout = 200ms;
  RedisStore store(options);
  const Key key = idem::make_key("replica", 1);
  CHECK(refused_for("is a replica", [&] { return store.open(); }));
  CHECK(refused_for("is a replica", [&] { return claim(store, key); }));
  CHECK(refused_for("is a replica", [&] { return store.find(key); }));
  CHECK(refused_for("is a replica", [&] { return store.erase(key); }));
  // It becomes a primary, and then it isn't any more while a store is connected.
  replica.command({"REPLICAOF", "NO", "ONE"});
  CHECK(eventually([&] { return claim(store, key).answer == Answer::acquired; }));
  replica.command({"REPLICAOF", "127.0.0.1", std::to_string(primary.port())});
  int runs = 0;
  const auto pay = idem::idempotent<"pay">([&](int) { ++runs; }, store);
  int number = 0;
  // What it knew it may still tell, and nothing is run by that: it refuses what a run would have to write.
  const Reply known = claim(store, key);
  CHECK((known.answer == Answer::running || known.answer == Answer::unavailable));
  const Reply taken = redis_world::take_over(store, key);
  CHECK((taken.answer == Answer::running || taken.answer == Answer::unavailable));
  CHECK(eventually([&] {
    const auto outcome_of_pay = pay.try_call(++number);
    REQUIRE(outcome_of_pay.verdict() == idem::Verdict::unavailable);
    return holds(outcome_of_pay.error().message, "is a replica");
  }));
  CHECK(runs == 0);
}

TEST_CASE("RFT-13: a server that was started anew without a file is told of, and not claimed from where that is asked") {
  RedisServer server;
  for (const bool pauses : {false, true}) {
    CAPTURE(pauses);
    const Events events;
    RedisOptions options = options_for(server);
    options.pause_after_restart = pauses;
    options.restart_pause = 1h;
    if (pauses) options.timeout = 300ms;
    options.on_event = events;
    RedisStore store(options);
    REQUIRE(can_claim(store, "restart"));
    for (int restarts = 1; restarts <= 2; ++restarts) {
      server.restart();
      int number = 0;
      const auto claim_next = [&] { return claim(store, idem::make_key("restarted", restarts, ++number)); };
      if (pauses) {
        CHECK(refused_for("restart_pause", claim_next));
      } else {
        CHECK(claim_next().answer == Answer::acquired);
      }
      std::size_t told = 0;
      for (const auto& event : events.events()) told += holds(event.message, "started anew") ? 1U : 0U;
      CHECK(told == static_cast<std::size_t>(restarts));
    }
  }
  // The pause ends.
  RedisOptions options = options_for(server);
  options.pause_after_restart = true;
  options.restart_pause = 100ms;
  options.timeout = 50ms;
  RedisStore store(options);
  REQUIRE(can_claim(store, "pause"));
  server.restart();
  CHECK(can_claim(store, "paused"));
}

TEST_CASE("RFT-13: a restart that forgot nothing is no event") {
  RedisServer server({.arguments = {"--appendonly", "yes"}});
  const Events events;
  RedisOptions options = options_for(server);
  options.pause_after_restart = true;
  options.restart_pause = 1h;
  options.on_event = events;
  RedisStore store(options);
  const Key key = idem::make_key("restart", 1);
  REQUIRE(claim(store, key).answer == Answer::acquired);
  server.restart();
  CHECK(claim(store, key).answer == Answer::running);
  CHECK(events.kinds().empty());
}

TEST_CASE("SEC-08: a user of the prefix, its channels and a few commands can do all, and no command of these is idle") {
  RedisServer& server = common_server();
  make_user(server, needed_commands());
  // Nice to know, and nothing is lost without.
  const std::set<std::string> optional = {"role", "config|get", "ping"};
  for (const std::string& object : forbidden(server)) CHECK_MESSAGE(optional.count(object) == 1, object);

  for (const std::string& left_out : needed_commands()) {
    // Said when it suits the listener; what it would end ends with the connection, too.
    if (left_out == "+unsubscribe") continue;
    std::vector<std::string> rest;
    for (const std::string& command : needed_commands()) {
      if (command != left_out) rest.push_back(command);
    }
    make_user(server, rest);
    CHECK_MESSAGE(forbidden(server, left_out.substr(1)).count(left_out.substr(1)) == 1, left_out);
  }
}

TEST_CASE("SEC-08: a user who may not ask what the server is set up as is told what wasn't checked") {
  RedisServer& server = common_server();
  make_user(server, {"+evalsha", "+eval", "+get", "+set", "+setrange", "+getrange", "+del", "+time", "+scan"});
  RedisOptions options = options_for(server);
  options.username = "shop";
  options.password = "s3cr3t";
  const std::string said = warnings(options);
  CHECK(holds(said, "doesn't tell its eviction policy"));
  CHECK(holds(said, "doesn't tell whether it keeps an append-only file"));
  CHECK(!refusal(options).empty());
  // Of others' keys such a user sees nothing, whatever the prefix says.
  options.prefix = "other:";
  RedisStore outside(options);
  CHECK(claim(outside, idem::make_key("outside", 1)).answer == Answer::unavailable);
}

TEST_CASE("SEC-06: a password is in no error, no name and no list of the server's") {
  RedisServer server({.arguments = {"--requirepass", "right s3cr3t"}, .password = "right s3cr3t"});
  RedisOptions options = options_for(server);
  const auto refused_with = [&](const std::string& user, const std::string& password) {
    options.username = user;
    options.password = password;
    RedisStore store(options);
    const Reply opened = store.open();
    CHECK(opened.answer == Answer::unavailable);
    CHECK_FALSE(holds(opened.message, "s3cr3t"));
    return opened.message;
  };
  CHECK(holds(refused_with("", ""), "NOAUTH"));
  CHECK(holds(refused_with("", "wrong s3cr3t"), "WRONGPASS"));
  CHECK(holds(refused_with("nobody", "right s3cr3t"), "WRONGPASS"));
  options.username.clear();
  options.password = "right s3cr3t";
  RedisStore store(options);
  CHECK(store.open().answer == Answer::ok);
  const std::string clients = server.command({"CLIENT", "LIST"}).text;
  CHECK(holds(clients, "name=idem"));
  CHECK_FALSE(holds(clients, "s3cr3t"));
  for (const RedisReply& entry : server.command({"SLOWLOG", "GET", "100"}).elements) {
    for (const RedisReply& part : entry.elements) CHECK_FALSE(holds(part.text, "s3cr3t"));
  }
  options.database = 99;
  RedisStore elsewhere(options);
  CHECK(holds(elsewhere.open().message, "refused the database"));
}

TEST_CASE("SEC-06: a server that repeats what it was sent doesn't get the password into an error") {
  for (const bool knows_hello : {true, false}) {
    support::RespServer server([&](support::RespConnection& link) {
      for (;;) {
        const RespCommand command = link.next_of_all();
        if (command.empty()) return;
        std::string said = command[0] == "HELLO" && knows_hello ? "-WRONGPASS" : "-ERR unknown command";
        said += " `" + command[0] + "`, with args beginning with: ";
        for (const std::string& word : command) said += "`" + word + "`, ";
        link.send(said + "\r\n");
      }
    });
    RedisOptions options;
    options.port = server.port();
    options.password = "s3cr3t";
    options.timeout = 300ms;
    RedisStore store(options);
    for (const Reply& reply : {store.open(), claim(store, idem::make_key("echo", 1))}) {
      CHECK(reply.answer == Answer::unavailable);
      CHECK(!reply.message.empty());
      CHECK_FALSE(holds(reply.message, "s3cr3t"));
    }
  }
}

TEST_CASE("options that can't be meant are refused when the store is made") {
  const auto refused = [](auto change) {
    RedisOptions options;
    change(options);
    CHECK_THROWS_AS(RedisStore{options}, std::invalid_argument);
  };
  refused([](RedisOptions& options) { options.prefix.clear(); });
  refused([](RedisOptions& options) { options.prefix = std::string(257, 'p'); });
  refused([](RedisOptions& options) { options.host.clear(); });
  refused([](RedisOptions& options) { options.host = std::string("host\0.evil", 10); });
  refused([](RedisOptions& options) { options.unix_socket = std::string("/run/\0x", 7); });
  refused([](RedisOptions& options) { options.port = 0; });
  refused([](RedisOptions& options) { options.timeout = 0s; });
  refused([](RedisOptions& options) { options.connect_timeout = -1s; });
  refused([](RedisOptions& options) { options.replica_timeout = 0s; });
  refused([](RedisOptions& options) { options.restart_pause = 0s; });
  refused([](RedisOptions& options) { options.max_reply_bytes = 4096; });
  RedisStore far({.timeout = idem::forever});
  CHECK(far.traits().liveness == idem::Liveness::lease);
}

TEST_CASE("open says why there is no connection, and the first operation comes to the same") {
  RedisOptions options;
  options.unix_socket = "/nonexistent/redis.sock";
  options.timeout = 50ms;
  RedisStore store(options);
  CHECK(refused_for("No such file", [&] { return store.open(); }));
  CHECK(refused_for("No such file", [&] { return store.find(idem::make_key("none", 1)); }));
  RedisStore moved = std::move(store);
  CHECK(moved.open().answer == Answer::unavailable);
  CHECK(holds(store.open().message, "moved from"));
  CHECK(store.clear() == 0);
  CHECK_FALSE(store.stats().available);
}

TEST_CASE("RFT-06: with min_replicas a claim that too few replicas have is given back; an outcome stays, unrecorded") {
  RedisServer& primary = common_server();
  primary.command({"CONFIG", "SET", "repl-diskless-sync-delay", "0"});
  RedisOptions options = options_for(primary);
  options.min_replicas = 1;
  options.replica_timeout = 100ms;
  RedisStore others(options_for(primary));
  const auto given_back = [&](const Key& key) {
    return eventually([&] { return others.find(key).answer == Answer::absent; });
  };
  {
    const Events events;
    RedisOptions alone = options;
    alone.on_event = events;
    RedisStore store(alone);
    int runs = 0;
    const auto pay = idem::idempotent<"pay">([&](int) { ++runs; }, store);
    const auto refused = pay.try_call(1);
    CHECK(refused.verdict() == idem::Verdict::unavailable);
    CHECK(holds(refused.error().message, "min_replicas"));
    CHECK(runs == 0);
    CHECK(given_back(pay.key(1)));
    std::string said;
    for (const auto& event : events.events()) said += event.message;
    CHECK(holds(said, "fewer replicas than min_replicas"));
  }
  RedisServer replica({.arguments = {"--replicaof", "127.0.0.1 " + std::to_string(primary.port())}});
  options.replica_timeout = 300ms;
  RedisStore store(options);
  const Key first = idem::make_key("replicas", 1);
  CHECK(eventually([&] { return claim(store, first).answer == Answer::acquired; }));
  CHECK(replica.command({"EXISTS", name_of(first)}).integer == 1);

  int runs = 0;
  const auto pay = idem::idempotent<"pay">(
      [&](int number) {
        // In the middle of the call the replica falls behind.
        replica.pause();
        return ++runs, number;
      },
      idem::Options{.wait_timeout = 0s}, store);
  idem::Verdict verdict = pay.try_call(2).verdict();
  CHECK(eventually([&] { return runs == 1 || (verdict = pay.try_call(2).verdict(), runs == 1); }));
  CHECK(verdict == idem::Verdict::unrecorded);
  // It stays, and is replayed.
  CHECK(others.find(pay.key(2)).answer == Answer::completed);

  // The replica is cut off when the next claim comes.
  const Key key = idem::make_key("replicas", 3);
  CHECK(claim(store, key).answer == Answer::unavailable);
  CHECK(given_back(key));
  replica.resume();
  CHECK(pay.try_call(2).verdict() == idem::Verdict::replayed);
  CHECK(runs == 1);
}

TEST_CASE("RFT-05 T-67 T-68: what a replica hadn't got is forgotten when it is promoted; min_replicas had refused it") {
  RedisServer primary({.arguments = {"--repl-diskless-sync-delay", "0"}});
  RedisServer replica({.arguments = {"--replicaof", "127.0.0.1 " + std::to_string(primary.port())}});
  RedisOptions options = options_for(primary);
  options.min_replicas = 1;
  options.replica_timeout = 2s;
  const Key known = idem::make_key("failover", 1);
  {
    RedisStore careful(options);
    REQUIRE(eventually([&] { return claim(careful, known).answer == Answer::acquired; }));
  }
  replica.command({"REPLICAOF", "NO", "ONE"});  // the link is cut
  const Key key = idem::make_key("failover", 2);
  options.replica_timeout = 20ms;
  options.timeout = 500ms;  // what is owed to a server that is gone isn't tried for longer
  {
    RedisStore careful(options);
    CHECK(claim(careful, key).answer == Answer::unavailable);
    RedisStore careless(options_for(primary));
    CHECK(eventually([&] { return claim(careless, key).answer == Answer::acquired; }));
    primary.kill();
  }
  RedisStore promoted(options_for(replica));
  CHECK(claim(promoted, known).answer == Answer::running);
  CHECK(claim(promoted, key).answer == Answer::acquired);
}
