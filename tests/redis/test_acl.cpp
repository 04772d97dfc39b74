// The user that the README tells to make.
#include <doctest/doctest.h>

#include "support/redis_world.hpp"

#include <idem/idem.hpp>
#include <idem/redis_store.hpp>

#include <atomic>
#include <chrono>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using idem::Answer;
using idem::Verdict;
using support::RedisClient;
using support::RedisServer;

namespace {

/// The words of the README's line.
std::vector<std::string> acl_line() {
  std::string path = __FILE__;
  path.replace(path.rfind("tests/"), std::string::npos, "README.md");
  std::ifstream readme(path);
  std::string line;
  while (std::getline(readme, line) && line.compare(0, 12, "ACL SETUSER ") != 0) {
  }
  std::istringstream text(line);
  std::vector<std::string> words;
  for (std::string word; text >> word;) words.push_back(word);
  REQUIRE(words.size() > 4);
  return words;
}

idem::RedisOptions as_user(const RedisServer& server) {
  idem::RedisOptions options;
  options.port = server.port();
  options.username = "idem";
  options.password = "PASSWORD";
  return options;
}

}  // namespace

TEST_CASE("SEC-08 the user of the README's line is enough for everything a RedisStore does") {
  RedisServer server({.arguments = {"--appendonly", "yes"}});
  server.command(acl_line());
  std::vector<std::string> warnings;
  idem::RedisOptions options = as_user(server);
  options.on_event = [&](const idem::Event& event) {
    if (event.kind == idem::EventKind::store_warning) warnings.emplace_back(event.message);
  };
  idem::RedisStore store(options);
  const idem::Reply opened = store.open();
  CHECK_MESSAGE(opened.answer == Answer::ok, opened.message);
  CHECK_MESSAGE(warnings.empty(), warnings.front());

  std::atomic<int> running{0};
  const auto slow = idem::idempotent<"slow">(
      [&](int number) {
        running = 1;
        while (running != 2) std::this_thread::yield();
        return number;
      },
      {.lease = 30s}, store);
  std::thread first([&] { CHECK(slow(1) == 1); });
  while (running != 1) std::this_thread::yield();
  std::thread second([&] { CHECK(slow.try_call(1).verdict() == Verdict::replayed); });
  // Until the second one waits: it has marked the record.
  const auto mark = [&] { return server.command({"GETRANGE", "idem:" + slow.key(1).text().substr(std::string("slow@1:").size()), "7", "7"}).text; };
  while (mark() != std::string(1, '\1')) std::this_thread::yield();
  running = 2;
  first.join();
  second.join();

  // As the store's thread renews.
  const idem::Key held = idem::make_key("held", 1);
  const idem::Reply claimed = redis_world::claim(store, held);
  CHECK(claimed.answer == Answer::acquired);
  CHECK(store.renew(held, claimed.record.owner, 2h).answer == Answer::ok);
  CHECK(store.release(held, claimed.record.owner).answer == Answer::ok);

  const auto failing = idem::idempotent<"failing">(
      [](int) -> int { throw std::runtime_error("refused"); }, {.on_failure = idem::OnFailure::in_doubt}, store);
  CHECK(failing.try_call(1).verdict() == Verdict::failed);
  CHECK(failing.try_call(1).verdict() == Verdict::in_doubt);
  CHECK(idem::resolve(store, failing.key(1), 1h, "looked", 7) == Answer::ok);
  CHECK(failing(1) == 7);
  CHECK(failing.forget(1));
  std::size_t records = 0;
  store.for_each([&](const idem::RecordView&) { ++records; });
  CHECK(records == 1);
  CHECK(store.stats().available);
  CHECK(store.purge({}).complete);
  CHECK(store.clear() == 1);
  // It was refused nothing, not even what would only have made it slower.
  CHECK(server.command({"ACL", "LOG"}).elements.empty());
  CHECK(server.command({"DBSIZE"}).integer == 0);
}

TEST_CASE("SEC-08 the user of the README's line can touch nothing else") {
  RedisServer server;
  server.command(acl_line());
  RedisClient client(server.port());
  REQUIRE_FALSE(client.command({"AUTH", "idem", "PASSWORD"}).is_error());
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
           {"SET", "other", "1"}, {"PUBLISH", "other", "1"}, {"SUBSCRIBE", "other"}, {"FLUSHALL"}, {"KEYS", "*"},
           {"CONFIG", "SET", "appendonly", "no"}, {"SHUTDOWN", "NOSAVE"}, {"ACL", "LIST"},
           {"EVAL", "return redis.call('GET',KEYS[1])", "1", "other"}}) {
    CAPTURE(words.front());
    CHECK(client.command(words).is_error());
  }
  idem::RedisOptions options = as_user(server);
  options.prefix = "other:";
  idem::RedisStore store(options);
  const auto guard = idem::idempotent<"pay">([](int number) { return number; }, store);
  CHECK(guard.try_call(1).verdict() == Verdict::unavailable);
}
