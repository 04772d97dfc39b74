// What goes through all records of a store: clear, purge, for_each and stats.
#include <idem/redis_store.hpp>
#include <idem/testing/recording_observer.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <cstddef>
#include <set>
#include <stdexcept>
#include <string>

#include "support/redis_world.hpp"

namespace {

using namespace redis_world;
using idem::Key;

/// Copies a record under `count` other names, on the server.
void multiply(RedisServer& server, const std::string& record, const std::string& prefix, int count) {
  server.command({"EVAL",
                  "for i=1,ARGV[2] do local s=redis.sha1hex(i) "
                  "redis.call('SET',ARGV[1]..s..string.sub(redis.sha1hex(s),1,24),ARGV[3]) end",
                  "0", prefix, std::to_string(count), record});
}

}  // namespace

TEST_CASE("RLU-14: clear goes through a hundred thousand records in small steps, and takes nothing but records") {
  constexpr int count = 100'000;
  RedisServer& server = common_server();
  RedisStore store(options_for(server, "all:"));
  const Key key = idem::make_key("many", 0);
  const Reply claimed = claim(store, key);
  REQUIRE(store.complete(key, outcome(claimed.record.owner, "x", idem::forever)).answer == Answer::ok);
  multiply(server, server.command({"GET", name_of(key, "all:")}).text, "all:", count);
  const Key running = idem::make_key("many", 1);
  REQUIRE(claim(store, running).answer == Answer::acquired);
  // What only looks like a record's name.
  server.command({"SET", "all:", "kept"});
  server.command({"SET", "all:short", "kept"});
  server.command({"SET", name_of(key, "all:").substr(0, 67) + "G", "kept"});
  server.command({"SET", name_of(key, "all:") + "0", "kept"});
  server.command({"SET", name_of(key, "other:"), server.command({"GET", name_of(key, "all:")}).text});
  server.reset_statistics();

  CHECK(store.clear() == count + 1);
  CHECK(server.command({"DBSIZE"}).integer == 6);
  CHECK(store.find(running).answer == Answer::running);
  CHECK(server.calls("keys") == 0);
  CHECK(server.calls("flushall") == 0);
  CHECK(server.calls("flushdb") == 0);
  CHECK(server.calls("scan") >= 2 * count / 1024);
  CHECK(store.clear() == 0);
}

TEST_CASE("RLU-14: a prefix of signs that mean something in patterns stands for itself") {
  RedisServer& server = common_server();
  const char* const prefixes[] = {"*", "a?c:", "[ab]:", "a\\:", "a*:", "abc:", "a:", "b:", "^", "[", "]", "\\", "a-z:"};
  int number = 0;
  for (const char* const prefix : prefixes) {
    RedisStore store(options_for(server, prefix));
    const Key key = idem::make_key("own", ++number);
    REQUIRE(store.complete(key, outcome(claim(store, key).record.owner, "x")).answer == Answer::ok);
  }
  number = 0;
  for (const char* const prefix : prefixes) {
    CAPTURE(std::string(prefix));
    RedisStore store(options_for(server, prefix));
    const Key key = idem::make_key("own", ++number);
    std::string shown;
    store.for_each([&](const idem::RecordView& view) { shown += view.text; });
    CHECK(shown == key.text());
    CHECK(store.stats().records == 1);
    CHECK(store.clear() == 1);
    CHECK(store.find(key).answer == Answer::absent);
  }
  CHECK(server.command({"DBSIZE"}).integer == 0);
}

TEST_CASE("for_each may use the store, and an exception of its function's passes through it") {
  RedisServer& server = common_server();
  RedisStore store(options_for(server));
  for (int i = 0; i < 100; ++i) {
    const Key key = idem::make_key("each", i);
    REQUIRE(store.complete(key, outcome(claim(store, key).record.owner, "x")).answer == Answer::ok);
  }
  std::set<std::string> seen;
  store.for_each([&](const idem::RecordView& view) {
    if (seen.empty()) CHECK(claim(store, idem::make_key("meanwhile", 1)).answer == Answer::acquired);
    if (view.status == idem::Status::completed) seen.insert(std::string(view.text));
  });
  CHECK(seen.size() == 100);
  int calls = 0;
  CHECK_THROWS_AS(store.for_each([&](const idem::RecordView&) {
    if (++calls == 3) throw std::runtime_error("enough");
  }),
                  std::runtime_error);
  CHECK(calls == 3);
  // What was on its way then is nobody else's answer.
  for (int i = 0; i < 100; ++i) CHECK(text_of(store.find(idem::make_key("each", i))) == "x");
}

TEST_CASE("a server that isn't there isn't an empty one") {
  RedisServer server;
  const idem::testing::RecordingObserver events;
  RedisOptions options = options_for(server);
  options.timeout = 50ms;
  options.on_event = events;
  RedisStore store(options);
  REQUIRE(claim(store, idem::make_key("there", 1)).answer == Answer::acquired);
  CHECK(store.stats().available);
  CHECK(store.stats().running == 1);
  CHECK(store.purge({}).complete);
  server.kill();
  CHECK_FALSE(store.stats().available);
  CHECK_FALSE(store.purge({}).complete);
  CHECK(store.clear() == 0);
  std::size_t shown = 0;
  const std::size_t told = events.kinds().size();
  store.for_each([&](const idem::RecordView&) { ++shown; });
  CHECK(shown == 0);
  REQUIRE(events.kinds().size() == told + 1);
  CHECK(events.events().back().message.find("not all records were gone through: ") == 0);
}

TEST_CASE("HIR-09: a server whose SCAN never ends is left, and that not all was seen is told") {
  RedisServer& server = common_server();
  // Each cursor is the one after the last of a circle of so many.
  for (const int circle : {1, 2, 7, 100}) {
    CAPTURE(circle);
    std::atomic<int> scans{0};
    Between between(server, [&](const RespCommand& command) -> Between::Verdict {
      if (command[0] != "SCAN") return {};
      // A test that goes on for ever would say nothing.
      const int next = ++scans > 2000 ? 0 : 1 + scans % circle;
      return {.answer = "*2\r\n" + support::bulk(std::to_string(next)) + "*0\r\n"};
    });
    const idem::testing::RecordingObserver events;
    RedisOptions options = between.options();
    options.on_event = events;
    RedisStore store(options);
    std::size_t told = 0;
    const auto gone_through = [&](auto sweep) {
      scans = 0;
      sweep();
      CHECK(scans < 2000);
      std::size_t warnings = 0;
      for (const auto& event : events.events()) {
        if (event.message.find("SCAN comes to no end") != std::string::npos) ++warnings;
      }
      CHECK(warnings == ++told);
    };
    gone_through([&] { CHECK_FALSE(store.stats().available); });
    gone_through([&] { CHECK_FALSE(store.purge({}).complete); });
    gone_through([&] { CHECK(store.clear() == 0); });
    gone_through([&] { store.for_each([](const idem::RecordView&) {}); });
  }
}

TEST_CASE("T-39 T-40: purge takes doubts only by an age that can be meant, and never what runs") {
  RedisServer& server = common_server();
  RedisStore store(options_for(server));
  const Key doubt = idem::make_key("purge", 1);
  REQUIRE(store.abandon(doubt, claim(store, doubt).record.owner).answer == Answer::ok);
  const Key running = idem::make_key("purge", 2);
  REQUIRE(claim(store, running).answer == Answer::acquired);
  for (const idem::Duration age : {idem::Duration(1h), idem::Duration(-1s), idem::Duration(idem::forever),
                                   idem::Duration((std::chrono::hours::max)())}) {
    const idem::PurgeResult result = store.purge({.in_doubt_older_than = age});
    CHECK(result.in_doubt == 0);
    CHECK(result.complete);
  }
  CHECK(store.find(doubt).answer == Answer::in_doubt);
  CHECK(store.purge({.in_doubt_older_than = idem::Duration(0s)}).in_doubt == 1);
  CHECK(store.find(doubt).answer == Answer::absent);
  CHECK(store.find(running).answer == Answer::running);
}
