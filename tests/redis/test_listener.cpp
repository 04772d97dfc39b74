// T-20, T-23, RFT-14, MEM-05, HIR-07: waiting for a run that somebody else has begun.
#include <doctest/doctest.h>

#include "support/process_support.hpp"
#include "support/redis_server.hpp"

#include <idem/detail/boot_clock.hpp>
#include <idem/detail/redis/call.hpp>
#include <idem/detail/redis/listener.hpp>
#include <idem/detail/redis/waiting_room.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

using idem::Digest;
using idem::detail::boot_micros;
using process_support::Child;
using process_support::eventually;
using support::RedisServer;
namespace redis = idem::detail::redis;
using redis::Look;
using redis::WaitingRoom;
using Kind = redis::WaitingRoom::Step::Kind;

namespace {

constexpr std::int64_t second = 1'000'000;
constexpr std::int64_t never = (std::numeric_limits<std::int64_t>::max)();

Digest digest(int number) {
  Digest made;
  std::memcpy(made.bytes, &number, sizeof number);
  return made;
}

const std::string prefix = "idem:";

std::string channel(int number) {
  char digits[redis::digest_digits];
  redis::write_digest(digest(number), digits);
  return prefix + "wake:" + std::string(digits, sizeof digits);
}

/// Sends all that the room has to say, and confirms it.
int confirm(WaitingRoom& room, std::int64_t now) {
  int count = 0;
  Digest key;
  bool subscribe = false;
  while (room.take_request(key, subscribe)) {
    ++count;
    if (subscribe) room.subscribed(key, now);
  }
  return count;
}

constexpr Look running{Look::Result::running, 3600 * second};

/// What all waiters do at this time; gives how many of them looked.
int step_all(WaitingRoom& room, std::vector<WaitingRoom::Waiter>& waiters, std::int64_t now, const Look& found) {
  int looks = 0;
  for (WaitingRoom::Waiter& waiter : waiters) {
    if (waiter.entry == nullptr) continue;
    switch (room.step(waiter, now, never).kind) {
      case Kind::look:
        ++looks;
        room.looked(waiter, found, now);
        break;
      case Kind::over:
        room.leave(waiter);
        break;
      case Kind::sleep:
        break;
    }
  }
  return looks;
}

std::size_t waiting(const std::vector<WaitingRoom::Waiter>& waiters) {
  std::size_t count = 0;
  for (const WaitingRoom::Waiter& waiter : waiters) count += waiter.entry != nullptr ? 1 : 0;
  return count;
}

}  // namespace

TEST_CASE("RFT-14: ten thousand who wait for one run look as often as one, and all are woken by one message") {
  WaitingRoom room;
  std::vector<WaitingRoom::Waiter> waiters(10'000);
  for (WaitingRoom::Waiter& waiter : waiters) REQUIRE(room.enter(waiter, digest(1), 7, 0));
  CHECK(step_all(room, waiters, 0, running) == 0);  // the first look comes after the subscription
  CHECK(confirm(room, 0) == 1);
  CHECK(step_all(room, waiters, 0, running) == 1);
  int looks = 0;
  for (std::int64_t now = 0; now < 60 * second; now += second / 10) looks += step_all(room, waiters, now, running);
  CHECK(looks >= 14);
  CHECK(looks <= 30);
  room.changed(digest(1));
  step_all(room, waiters, 60 * second, running);
  CHECK(waiting(waiters) == 0);
  CHECK(confirm(room, 60 * second) == 1);  // UNSUBSCRIBE
  CHECK_FALSE(room.has_topics());
}

TEST_CASE("RFT-14: while there are no messages one of them looks a few times a second, and finds the end") {
  WaitingRoom room;
  std::vector<WaitingRoom::Waiter> waiters(100);
  for (WaitingRoom::Waiter& waiter : waiters) REQUIRE(room.enter(waiter, digest(1), 7, 0));
  int looks = 0;
  for (std::int64_t now = 0; now < 60 * second; now += second / 100) looks += step_all(room, waiters, now, running);
  CHECK(looks >= 59);
  CHECK(looks <= 300);
  for (std::int64_t now = 60 * second; now <= 62 * second; now += second / 10) {
    step_all(room, waiters, now, {Look::Result::changed, 0});
  }
  CHECK(waiting(waiters) == 0);
}

TEST_CASE("a dead owner's waiters look when its lease ends, and a look without an answer is made again soon") {
  WaitingRoom room;
  std::vector<WaitingRoom::Waiter> waiters(3);
  for (WaitingRoom::Waiter& waiter : waiters) REQUIRE(room.enter(waiter, digest(1), 7, 0));
  confirm(room, 0);
  CHECK(step_all(room, waiters, 0, {Look::Result::running, 300'000}) == 1);
  CHECK(step_all(room, waiters, 300'000, running) == 0);
  CHECK(step_all(room, waiters, 305'000, {Look::Result::no_answer, 0}) == 1);
  CHECK(step_all(room, waiters, 305'000 + 199'999, running) == 0);
  CHECK(step_all(room, waiters, 305'000 + second, {Look::Result::changed, 0}) == 1);
  CHECK(step_all(room, waiters, 306'000 + second, running) == 0);
  CHECK(waiting(waiters) == 0);
}

TEST_CASE("RFT-14: a run whose lease never ends is looked at as seldom as any other") {
  WaitingRoom room;
  std::vector<WaitingRoom::Waiter> waiters(3);
  for (WaitingRoom::Waiter& waiter : waiters) REQUIRE(room.enter(waiter, digest(1), 7, 0));
  confirm(room, 0);
  int looks = 0;
  for (std::int64_t now = 0; now < 10 * second; now += second / 100) {
    looks += step_all(room, waiters, now, {Look::Result::running, never});
  }
  CHECK(looks >= 3);
  CHECK(looks <= 6);
  for (WaitingRoom::Waiter& waiter : waiters) room.leave(waiter);
}

TEST_CASE("T-20: who gives up waiting leaves the others alone, and another one looks from then on") {
  WaitingRoom room;
  std::vector<WaitingRoom::Waiter> waiters(3);
  for (WaitingRoom::Waiter& waiter : waiters) REQUIRE(room.enter(waiter, digest(1), 7, 0));
  confirm(room, 0);
  CHECK(room.step(waiters[0], 0, second).kind == Kind::look);
  room.looked(waiters[0], running, 0);
  CHECK(room.step(waiters[0], 0, second).until == second);
  CHECK(room.step(waiters[1], 0, never).until == never);
  CHECK(room.step(waiters[0], second, second).kind == Kind::over);
  room.leave(waiters[0]);
  const WaitingRoom::Step next = room.step(waiters[2], second, never);
  CHECK(next.kind == Kind::sleep);
  CHECK(next.until <= 4 * second);
  CHECK(room.step(waiters[1], second, never).until == never);
  CHECK_FALSE(room.has_requests());
  CHECK(room.step(waiters[2], 4 * second, never).kind == Kind::look);
  room.looked(waiters[2], {Look::Result::changed, 0}, 4 * second);
  step_all(room, waiters, 4 * second, running);
  CHECK(waiting(waiters) == 0);
}

TEST_CASE("T-23: who waits for another run of the key isn't woken by what a look at the first one found") {
  WaitingRoom room;
  std::vector<WaitingRoom::Waiter> first(2);
  std::vector<WaitingRoom::Waiter> second_run(2);
  for (WaitingRoom::Waiter& waiter : first) REQUIRE(room.enter(waiter, digest(1), 7, 0));
  for (WaitingRoom::Waiter& waiter : second_run) REQUIRE(room.enter(waiter, digest(1), 8, 0));
  CHECK(confirm(room, 0) == 1);
  CHECK(step_all(room, first, 0, {Look::Result::changed, 0}) == 1);
  CHECK(step_all(room, second_run, 0, running) == 1);
  step_all(room, first, 0, running);
  CHECK(waiting(first) == 0);
  CHECK(waiting(second_run) == 2);
  CHECK(confirm(room, 0) == 0);
  room.changed(digest(2));
  step_all(room, second_run, 0, running);
  CHECK(waiting(second_run) == 2);
  for (WaitingRoom::Waiter& waiter : second_run) room.leave(waiter);
}

TEST_CASE("MEM-05: who comes back after a change waits anew and knows nothing of what was before") {
  WaitingRoom room;
  std::vector<WaitingRoom::Waiter> waiters(2);
  for (WaitingRoom::Waiter& waiter : waiters) REQUIRE(room.enter(waiter, digest(1), 7, 0));
  confirm(room, 0);
  room.changed(digest(1));
  CHECK(room.step(waiters[0], 0, never).kind == Kind::over);
  room.leave(waiters[0]);
  REQUIRE(room.enter(waiters[0], digest(1), 7, 0));
  // UNSUBSCRIBE and SUBSCRIBE cancel each other; the server still knows of the key.
  CHECK(confirm(room, 0) == 0);
  CHECK(room.step(waiters[0], 0, never).kind == Kind::look);
  room.looked(waiters[0], running, 0);
  CHECK(room.step(waiters[0], 0, never).kind == Kind::sleep);
  CHECK(room.step(waiters[1], 0, never).kind == Kind::over);
  room.leave(waiters[1]);
  CHECK(room.step(waiters[0], 0, never).kind == Kind::sleep);
  room.leave(waiters[0]);
  CHECK(room.waiting() == 0);
  CHECK(confirm(room, 0) == 1);  // UNSUBSCRIBE
  CHECK_FALSE(room.has_topics());
}

TEST_CASE("a subscription counts from its own confirmation on, not from that of one before") {
  WaitingRoom room;
  WaitingRoom::Waiter waiter;
  Digest key;
  bool subscribe = false;
  REQUIRE(room.enter(waiter, digest(1), 7, 0));
  REQUIRE(room.take_request(key, subscribe));
  CHECK(subscribe);
  room.leave(waiter);
  REQUIRE(room.take_request(key, subscribe));
  CHECK_FALSE(subscribe);
  REQUIRE(room.enter(waiter, digest(1), 8, 0));
  REQUIRE(room.take_request(key, subscribe));
  CHECK(subscribe);
  room.subscribed(key, 0);
  CHECK(room.step(waiter, 0, never).kind == Kind::sleep);
  room.subscribed(key, 0);
  CHECK(room.step(waiter, 0, never).kind == Kind::look);
  // One that comes while a look is under way makes another look.
  room.link_lost(0);
  REQUIRE(room.take_request(key, subscribe));
  room.subscribed(key, 1);
  room.looked(waiter, running, 2);
  CHECK(room.step(waiter, 2, never).kind == Kind::look);
  room.looked(waiter, running, 2);
  CHECK(room.step(waiter, 2, never).kind == Kind::sleep);
  room.leave(waiter);
  REQUIRE(room.take_request(key, subscribe));
  CHECK_FALSE(room.has_topics());
}

TEST_CASE("when the connection is lost everybody looks again, and all keys are subscribed to again") {
  WaitingRoom room;
  std::vector<WaitingRoom::Waiter> waiters(20);
  for (int i = 0; i < 20; ++i) REQUIRE(room.enter(waiters[static_cast<std::size_t>(i)], digest(i), 7, 0));
  CHECK(confirm(room, 0) == 20);
  CHECK(step_all(room, waiters, 0, running) == 20);
  room.leave(waiters[0]);  // whose UNSUBSCRIBE needn't be sent any more
  room.link_lost(second);
  CHECK(step_all(room, waiters, second + 200'000, running) == 19);
  CHECK(confirm(room, 2 * second) == 19);
  CHECK(step_all(room, waiters, 2 * second, running) == 19);
  for (WaitingRoom::Waiter& waiter : waiters) {
    if (waiter.entry != nullptr) room.leave(waiter);
  }
  room.link_lost(3 * second);
  CHECK(confirm(room, 3 * second) == 0);
  CHECK_FALSE(room.has_topics());
}

namespace {

/// Says what the test says of every record, and counts.
struct FakeEngine {
  std::atomic<int> looks{0};
  std::atomic<bool> changed{false};

  Look look(const Digest&, std::uint64_t, std::int64_t) noexcept {
    looks.fetch_add(1);
    return changed ? Look{Look::Result::changed, 0} : running;
  }
};

redis::LinkSettings link_to(const std::string& socket) {
  redis::LinkSettings settings;
  settings.endpoint.unix_socket = socket;
  return settings;
}

struct Scene {
  FakeEngine engine;
  std::optional<redis::Listener<FakeEngine>> listener;
  std::vector<std::thread> threads;
  std::atomic<int> returned{0};

  explicit Scene(const std::string& socket) { listener.emplace(engine, link_to(socket), prefix); }
  ~Scene() { join(); }

  void join() {
    engine.changed = true;
    for (std::thread& thread : threads) thread.join();
    threads.clear();
  }
  void wait(int key, std::int64_t deadline = never) {
    threads.emplace_back([this, key, deadline] {
      listener->wait(digest(key), 7, deadline);
      returned.fetch_add(1);
    });
  }
};

bool subscribed(RedisServer& server, int key) {
  return server.command({"PUBSUB", "NUMSUB", channel(key)}).elements.at(1).integer == 1;
}

}  // namespace

TEST_CASE("a message wakes all who wait for its key, and nobody else") {
  RedisServer server;
  Scene scene(server.unix_socket());
  const std::int64_t began = boot_micros();
  for (int i = 0; i < 50; ++i) scene.wait(1);
  scene.wait(2);
  REQUIRE(eventually([&] { return scene.listener->waiting() == 51; }));
  REQUIRE(eventually([&] { return scene.engine.looks >= 2 && subscribed(server, 1) && subscribed(server, 2); }));
  server.command({"PUBLISH", channel(1), ""});
  CHECK(eventually([&] { return scene.returned == 50; }));
  CHECK(scene.listener->waiting() == 1);
  // One of each key's looks: a few times at first, and then at most every 200 ms.
  CHECK(scene.engine.looks <= 2 * (3 + (boot_micros() - began) / 200'000));
  server.command({"PUBLISH", channel(3), ""});
  CHECK(eventually([&] { return !subscribed(server, 1); }));
  CHECK(scene.returned == 50);
  server.command({"PUBLISH", channel(2), ""});
  CHECK(eventually([&] { return scene.returned == 51; }));
  CHECK(eventually([&] { return server.command({"PUBSUB", "CHANNELS"}).elements.empty(); }));
}

TEST_CASE("a lost connection is made again, and messages wake as before") {
  RedisServer server;
  Scene scene(server.unix_socket());
  scene.wait(1);
  REQUIRE(eventually([&] { return scene.engine.looks >= 1 && subscribed(server, 1); }));
  for (int round = 0; round < 3; ++round) {
    const int looks = scene.engine.looks;
    server.command({"CLIENT", "KILL", "TYPE", "pubsub"});
    REQUIRE(eventually([&] { return scene.engine.looks > looks && subscribed(server, 1); }));
  }
  server.restart();
  REQUIRE(eventually([&] { return subscribed(server, 1); }));
  server.command({"PUBLISH", channel(1), ""});
  CHECK(eventually([&] { return scene.returned == 1; }));
}

TEST_CASE("where no connection can be had, or the user may not subscribe, the end is found by looking") {
  RedisServer server({.arguments = {"--acl-pubsub-default", "resetchannels"}});
  server.command({"ACL", "SETUSER", "default", "resetchannels"});
  for (const std::string& socket : {std::string("/nowhere/at/all"), server.unix_socket()}) {
    Scene scene(socket);
    for (int i = 0; i < 10; ++i) scene.wait(1);
    REQUIRE(eventually([&] { return scene.engine.looks >= 2; }));
    CHECK(scene.returned == 0);
    scene.engine.changed = true;
    CHECK(eventually([&] { return scene.returned == 10; }));
  }
}

TEST_CASE("garbage from the server costs the connection, and nothing else") {
  const support::Directory directory;
  const std::string path = directory / "socket";
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  const int server = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  REQUIRE(::bind(server, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  REQUIRE(::listen(server, 8) == 0);
  std::atomic<int> connections{0};
  std::thread garbage([&] {
    for (int fd = -1; (fd = ::accept(server, nullptr, nullptr)) >= 0;) {
      connections.fetch_add(1);
      const std::string sent = "*3\r\n$9\r\nsubscribe\r\n$3\r\nabc\r\n:1\r\n\x01\xff garbage\r\n";
      static_cast<void>(::send(fd, sent.data(), sent.size(), MSG_NOSIGNAL));
      ::close(fd);
    }
  });
  {
    Scene scene(path);
    scene.wait(1);
    CHECK(eventually([&] { return connections >= 3 && scene.engine.looks >= 2; }));
    CHECK(scene.returned == 0);
  }
  ::shutdown(server, SHUT_RDWR);
  garbage.join();
  ::close(server);
}

TEST_CASE("T-20: a deadline ends waiting, and asks nothing of the store") {
  RedisServer server;
  Scene scene(server.unix_socket());
  scene.wait(1);
  REQUIRE(eventually([&] { return scene.engine.looks >= 1 && subscribed(server, 1); }));
  const std::int64_t deadline = boot_micros() + 20'000;
  scene.listener->wait(digest(1), 7, deadline);
  CHECK(boot_micros() >= deadline);
  scene.listener->wait(digest(1), 7, 0);
  CHECK(scene.returned == 0);
  CHECK(subscribed(server, 1));
  server.command({"PUBLISH", channel(1), ""});
}

TEST_CASE("MEM-03: cancelled waiters are gone without a trace, also the one who looks") {
  RedisServer server;
  Scene scene(server.unix_socket());
  for (int round = 0; round < 10; ++round) {
    pthread_t threads[3];
    for (pthread_t& thread : threads) {
      REQUIRE(::pthread_create(
                  &thread, nullptr,
                  [](void* with) -> void* {
                    static_cast<Scene*>(with)->listener->wait(digest(1), 7, never);
                    return nullptr;
                  },
                  &scene) == 0);
    }
    REQUIRE(eventually([&] { return scene.listener->waiting() == 3; }));
    const int looks = scene.engine.looks;
    REQUIRE(eventually([&] { return scene.engine.looks > looks || subscribed(server, 1); }));
    for (const pthread_t thread : threads) {
      CHECK(::pthread_cancel(thread) == 0);
      void* result = nullptr;
      CHECK(::pthread_join(thread, &result) == 0);
      CHECK(result == PTHREAD_CANCELED);
    }
    CHECK(scene.listener->waiting() == 0);
  }
  CHECK(eventually([&] { return server.command({"PUBSUB", "CHANNELS"}).elements.empty(); }));
}

TEST_CASE("HIR-07: a child that was forked while others wait may destroy the listener, and its parent goes on") {
  RedisServer server;
  Scene scene(server.unix_socket());
  scene.wait(1);
  REQUIRE(eventually([&] { return scene.engine.looks >= 1 && subscribed(server, 1); }));
  for (int round = 0; round < 10; ++round) {
    Child child([&] {
      scene.listener.reset();
      return 0;
    });
    CHECK(child.wait() == 0);
  }
  CHECK(subscribed(server, 1));
  server.command({"PUBLISH", channel(1), ""});
  CHECK(eventually([&] { return scene.returned == 1; }));
}
