// The tests' own redis-server: what the others lean on.
#include <doctest/doctest.h>

#include "support/process_support.hpp"
#include "support/redis_server.hpp"

#include <atomic>
#include <chrono>
#include <fstream>
#include <string>

#include <poll.h>

using namespace std::chrono_literals;
using process_support::Child;
using process_support::eventually;
using process_support::Shared;
using support::RedisClient;
using support::RedisServer;

TEST_CASE("a server answers at its port and at its socket, and keeps nothing when it is killed") {
  RedisServer server;
  CHECK(RedisClient(server.port()).command({"SET", "a", "1"}).text == "OK");
  CHECK(RedisClient(server.unix_socket()).command({"GET", "a"}).text == "1");
  CHECK(server.info("persistence", "aof_enabled") == "0");
  server.restart();
  CHECK(server.command({"GET", "a"}).is_nil());
  CHECK(server.ask({"NO", "SUCH"}).is_error());
  CHECK_THROWS(server.command({"NO", "SUCH"}));
}

TEST_CASE("a server that appends always has at its restart what it had answered") {
  RedisServer server({.arguments = {"--appendonly", "yes", "--appendfsync", "always"}});
  server.command({"SET", "a", "1"});
  const auto port = server.port();
  server.kill();
  CHECK_FALSE(server.running());
  CHECK_THROWS(server.command({"GET", "a"}));
  server.start();
  CHECK(server.port() == port);
  CHECK(server.command({"GET", "a"}).text == "1");
}

TEST_CASE("commands are counted by name") {
  RedisServer server;
  server.command({"SET", "a", "1"});
  server.reset_statistics();
  CHECK(server.calls("get") == 0);
  for (int i = 0; i < 3; ++i) server.command({"GET", "a"});
  CHECK(server.calls("get") == 3);
  CHECK(server.cpu_seconds() > 0);
}

TEST_CASE("a server behind a password, and a replica of it") {
  RedisServer server({.arguments = {"--requirepass", "secret"}, .password = "secret"});
  CHECK(RedisClient(server.port()).command({"GET", "a"}).is_error());
  server.command({"SET", "a", "1"});
  RedisServer replica(
      {.arguments = {"--replicaof", "127.0.0.1 " + std::to_string(server.port()), "--masterauth", "secret"}});
  CHECK(eventually([&] { return replica.ask({"GET", "a"}).text == "1"; }));
}

TEST_CASE("a paused server answers nothing until it is resumed") {
  RedisServer server;
  server.pause();
  Shared<std::atomic<int>> answered;
  Child asker([&] {
    RedisClient(server.port()).command({"PING"});
    *answered = 1;
    return 0;
  });
  ::poll(nullptr, 0, 20);
  CHECK(*answered == 0);
  server.resume();
  CHECK(asker.wait() == 0);
  CHECK(*answered == 1);
}

TEST_CASE("a server ends with the process that started it, even if that is killed") {
  Shared<std::atomic<pid_t>> pid;
  const support::Directory above;
  Child owner([&] {
    RedisServer server({.above = above.path()});
    *pid = server.pid();
    ::pause();
    return 0;
  });
  REQUIRE(eventually([&] { return *pid != 0; }));
  REQUIRE(::kill(*pid, 0) == 0);
  owner.kill(SIGKILL);
  owner.wait();
  // Whoever adopts it may take a while to reap it; a zombie still counts as there.
  CHECK(eventually([&] {
    std::ifstream stat("/proc/" + std::to_string(pid->load()) + "/stat");
    std::string number, name, state;
    return !(stat >> number >> name >> state) || state == "Z";
  }));
}

TEST_CASE("TIM-03 a server's clock can be stepped, and stays so when it is restarted") {
  if (!RedisServer::can_step_clock()) return;
  RedisServer server({.steppable_clock = true});
  const auto now = [&] { return std::stoll(server.command({"TIME"}).elements.at(0).text); };
  const long long before = now();
  server.set_clock_off(2h);
  CHECK(now() >= before + 7200);
  CHECK(now() < before + 7300);
  server.restart();
  CHECK(now() >= before + 7200);
  server.set_clock_off(-2h);
  CHECK(now() < before - 7100);
}
