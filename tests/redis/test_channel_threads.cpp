// HIR-06, HIR-07: many threads on one connection, and children of a process that has one.
#include "support/channel_support.hpp"
#include "support/process_support.hpp"
#include "support/tcp_proxy.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include <unistd.h>

using namespace channel_support;
using process_support::Child;
using process_support::eventually;
using support::TcpProxy;
using Way = support::TcpProxy::Way;

namespace {

constexpr int many = 32;

template <class Run>
void on_threads(int count, Run&& run) {
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) threads.emplace_back([&run, i] { run(i); });
  for (std::thread& thread : threads) thread.join();
}

std::string word(int thread, int round) {
  return std::to_string(thread) + "/" + std::to_string(round);
}

}  // namespace

TEST_CASE("HIR-06: thirty-two threads on one connection each get their own replies") {
  RespServer server(echo_all);
  Channel channel(settings_for(server.port()));
  std::atomic<int> wrong{0};
  on_threads(many, [&](int thread) {
    for (int round = 0; round < 200; ++round) {
      if (!echoes(channel, word(thread, round))) ++wrong;
    }
  });
  CHECK(wrong == 0);
  CHECK(channel.connections() == 1);
}

TEST_CASE("HIR-06: whoever drives and leaves hands the role on") {
  // The first command's reply is the last to come, and its caller has long left.
  std::atomic<int> left{0};
  RespServer server([&](RespConnection& connection) {
    connection.send(bulk(connection.next()[1]));
    std::string replies;
    for (int i = 0; i < many; ++i) replies += bulk(connection.next()[1]);
    CHECK(eventually([&] { return left == many / 2; }));
    connection.send(replies);
    echo_all(connection);
  });
  Channel channel(settings_for(server.port()));
  REQUIRE(echoes(channel, "first"));
  on_threads(many, [&](int thread) {
    if (thread % 2 == 0) {
      CHECK(echo_in_vain(channel, "short", 300) == Sent::unknown);
      ++left;
    } else {
      CHECK(echoes(channel, word(thread, 0)));
    }
    CHECK(echoes(channel, word(thread, 1)));
  });
  CHECK(channel.connections() == 1);
}

TEST_CASE("HIR-01: no reply ever reaches another command, though callers leave and connections end at any time") {
  RespServer server(echo_all);
  TcpProxy proxy(server.port());
  LinkSettings settings = settings_for(proxy.port());
  settings.timeout = 50'000;
  Channel channel(settings);
  std::atomic<int> wrong{0}, right{0};
  std::atomic<bool> over{false};
  std::thread trouble([&] {
    // On a busy machine until something was answered in between.
    for (int round = 0; round < 40 || (right == 0 && round < 10'000); ++round) {
      ::usleep(3000);
      if (round % 4 == 0) proxy.cut();
      if (round % 4 == 1) proxy.hold(Way::to_client);
      if (round % 4 == 2) proxy.release(Way::to_client);
      if (round % 4 == 3) proxy.cut_at_next(Way::to_client);
    }
    proxy.release(Way::to_client);
    over = true;
  });
  on_threads(8, [&](int thread) {
    Request request;
    for (int round = 0; !over || round < 10; ++round) {
      const std::string mine = word(thread, round);
      write_echo(request, mine);
      const Sent sent = channel.call(request, in_millis(thread % 3 == 0 ? 1 : 1000));
      if (sent == Sent::pending) ++wrong;
      if (sent != Sent::answered) continue;
      ++right;
      if (request.reply.root().text != mine) ++wrong;
    }
  });
  trouble.join();
  CHECK(wrong == 0);
  CHECK(right > 0);
  CHECK(eventually([&] { return echoes(channel, "in the end"); }));
}

TEST_CASE("RFT-06: writes and reads of many threads are answered with the WAIT of their batch") {
  RespServer server([&](RespConnection& connection) {
    for (RespCommand command = connection.next(); !command.empty(); command = connection.next()) {
      connection.send(command[0] == "WAIT" ? ":1\r\n" : bulk(command[1]));
    }
  });
  LinkSettings settings = settings_for(server.port());
  settings.min_replicas = 1;
  Channel channel(settings);
  std::atomic<int> wrong{0};
  on_threads(8, [&](int thread) {
    Request request;
    request.writes = thread % 2 == 0;
    for (int round = 0; round < 200; ++round) {
      const std::string mine = word(thread, round);
      write_echo(request, mine);
      if (channel.call(request, soon()) != Sent::answered || request.reply.root().text != mine) ++wrong;
      if (request.replicas != (request.writes ? 1u : 0u)) ++wrong;
    }
  });
  CHECK(wrong == 0);
  CHECK(channel.connections() == 1);
}

TEST_CASE("HIR-07: a child sends nothing on its parent's connection, whatever it does, and the parent goes on") {
  std::atomic<int> heard{0};
  RespServer server([&](RespConnection& connection) {
    for (RespCommand command = connection.next(); !command.empty(); command = connection.next()) {
      ++heard;
      connection.send(bulk(command[1]));
    }
  });
  LinkSettings settings = settings_for(server.port());
  auto* const channel = new Channel(settings);
  CHECK(echoes(*channel, "a"));
  Child child([&] {
    if (echo(*channel, "from the child") != Sent::not_sent) return 1;
    delete channel;
    // It has connections of its own.
    Channel own(settings);
    return echoes(own, "of its own") ? 0 : 2;
  });
  CHECK(child.wait() == 0);
  CHECK(heard == 2);
  CHECK(echoes(*channel, "b"));
  CHECK(channel->connections() == 1);
  delete channel;
}

TEST_CASE("HIR-07: children made while other threads use the connection leave it alone") {
  RespServer server(echo_all);
  Channel channel(settings_for(server.port()));
  std::atomic<bool> over{false};
  std::atomic<int> wrong{0};
  std::thread busy([&] {
    on_threads(4, [&](int thread) {
      for (int round = 0; !over; ++round) {
        if (!echoes(channel, word(thread, round))) ++wrong;
      }
    });
  });
  for (int i = 0; i < 20; ++i) {
    Child child([&] { return echo(channel, "child") == Sent::not_sent ? 0 : 1; });
    CHECK(child.wait() == 0);
  }
  over = true;
  busy.join();
  CHECK(wrong == 0);
  CHECK(channel.connections() == 1);
}
