// HIR-01 to HIR-05, HIR-08, HIR-11, HIR-12: one connection, its deadlines, and what becomes of commands when it ends.
#include "support/channel_support.hpp"
#include "support/process_support.hpp"
#include "support/tcp_proxy.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <unistd.h>

using namespace channel_support;
using process_support::Child;
using process_support::eventually;
using support::TcpProxy;
using Way = support::TcpProxy::Way;

namespace {

/// The sockets that this process has open.
std::vector<int> sockets() {
  std::vector<int> result;
  for (int fd = 0; fd < 1024; ++fd) {
    int type = 0;
    socklen_t size = sizeof type;
    if (::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0) result.push_back(fd);
  }
  return result;
}

/// Those to this port.
std::vector<int> sockets_to(std::uint16_t port) {
  std::vector<int> result;
  for (const int fd : sockets()) {
    sockaddr_in peer = {};
    socklen_t size = sizeof peer;
    if (::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) == 0 && ntohs(peer.sin_port) == port) {
      result.push_back(fd);
    }
  }
  return result;
}

/// Whether this process has taken from its connection to this port all that has come.
bool has_read_all(std::uint16_t port) {
  for (const int fd : sockets_to(port)) {
    int unread = 0;
    if (::ioctl(fd, FIONREAD, &unread) != 0 || unread != 0) return false;
  }
  return true;
}

/// Tries in vain again and again, on a busy machine perhaps often before there is time for an attempt to connect, until
/// the reason holds this.
bool fails_with(Channel& channel, std::string_view reason) {
  Request request;
  write_echo(request, "a");
  return eventually([&] {
    CHECK(channel.call(request, in_millis(20)) == Sent::not_sent);
    return request.why.view().find(reason) != std::string_view::npos;
  });
}

}  // namespace

TEST_CASE("HIR-01: a reply that comes after its caller has left is dropped in its place") {
  std::atomic<bool> go{false};
  RespServer server([&](RespConnection& connection) {
    if (!echo_until(connection, "late")) return;
    CHECK(eventually([&] { return go.load(); }));
    connection.send(bulk("late"));
    echo_all(connection);
  });
  Channel channel(settings_for(server.port()));
  leave_unanswered(channel, "late");
  // Two more that leave, while the first reply is still owed.
  CHECK(echo_in_vain(channel, "later") == Sent::unknown);
  CHECK(echo_in_vain(channel, "later still") == Sent::unknown);
  go = true;
  CHECK(echoes(channel, "next"));
  CHECK(echoes(channel, "and so on"));
  CHECK(channel.connections() == 1);
}

TEST_CASE("HIR-01: a reply in two pieces, between which its caller leaves, is dropped as one") {
  std::atomic<bool> half{false}, go{false};
  RespServer server([&](RespConnection& connection) {
    if (!echo_until(connection, "late")) return;
    connection.send("*2\r\n$5\r\nhel");
    half = true;
    CHECK(eventually([&] { return go.load(); }));
    connection.send("lo\r\n:1\r\n");
    echo_all(connection);
  });
  Channel channel(settings_for(server.port()));
  REQUIRE(echoes(channel, "first"));
  Request request;
  write_echo(request, "late");
  channel.submit(request);
  CHECK(eventually([&] {
    CHECK(channel.await(request, in_millis(10)) == Sent::pending);
    return half && has_read_all(server.port());
  }));
  CHECK(channel.leave(request) == Sent::unknown);
  go = true;
  CHECK(echoes(channel, "next"));
  CHECK(channel.connections() == 1);
}

TEST_CASE("HIR-01: after any error the connection is another one") {
  for (const std::string_view bad :
       {"garbage\r\n", "$3\r\nabcXY", ":x\r\n", "*2147483647\r\n", "$9223372036854775807\r\n",
        "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n", "$1000001\r\n"}) {
    CAPTURE(bad);
    RespServer server([&](RespConnection& connection) {
      if (connection.number() == 0) {
        connection.next();
        connection.send(bad);
        connection.swallow();
      }
      echo_all(connection);
    });
    LinkSettings settings = settings_for(server.port());
    settings.max_reply_bytes = 1'000'000;
    Channel channel(settings);
    Request request;
    write_echo(request, "a");
    CHECK(channel.call(request, soon()) == Sent::unknown);
    CHECK(request.why.view().find("the server sent ") == 0);
    CHECK(echoes(channel, "b"));
    CHECK(channel.connections() == 2);
  }
}

TEST_CASE("HIR-01: a reply to nothing ends the connection and reaches nobody") {
  RespServer server([&](RespConnection& connection) {
    if (connection.number() == 0) {
      connection.next();
      connection.send("+yours\r\n+nobody's\r\n");
      connection.swallow();
    }
    echo_all(connection);
  });
  Channel channel(settings_for(server.port()));
  Request request;
  write_echo(request, "a");
  CHECK(channel.call(request, soon()) == Sent::answered);
  CHECK(request.reply.root().text == "yours");
  CHECK(echoes(channel, "b"));
  CHECK(channel.connections() == 2);
}

TEST_CASE("HIR-02: after a reconnect a black hole costs a deadline like any other") {
  RespServer server(echo_all);
  TcpProxy proxy(server.port());
  LinkSettings settings = settings_for(proxy.port());
  settings.timeout = 60'000;
  settings.connect_timeout = 60'000;
  Channel channel(settings);
  CHECK(eventually([&] { return echoes(channel, "a"); }));
  const std::uint64_t first = channel.connections();
  proxy.cut();
  CHECK(eventually([&] { return echoes(channel, "b") && channel.connections() > first; }));
  const std::uint64_t second = channel.connections();
  proxy.hold(Way::to_client);
  const std::int64_t began = boot_micros();
  CHECK(echo_in_vain(channel, "c", 80) == Sent::unknown);
  // Nothing came for a whole timeout: the connection is given up, and a new one isn't answered either.
  const int tried = proxy.connections();
  CHECK(eventually([&] {
    const Sent sent = echo(channel, "d", in_millis(80));
    CHECK(sent != Sent::answered);
    return sent == Sent::not_sent && proxy.connections() > tried;
  }));
  CHECK(channel.connections() == second);
  CHECK(boot_micros() - began < 15'000'000);  // each was over at its deadline, though nothing came
  proxy.release(Way::to_client);
  CHECK(eventually([&] { return echoes(channel, "e"); }));
}

TEST_CASE("HIR-03: the deadline is for all of a reply, however slowly it drips") {
  RespServer server([&](RespConnection& connection) {
    if (!echo_until(connection, "a")) return;
    connection.send("$100000\r\n");
    while (connection.send("x")) ::usleep(2000);
  });
  LinkSettings settings = settings_for(server.port());
  settings.timeout = 100'000;
  Channel channel(settings);
  leave_unanswered(channel, "a");
  const std::uint64_t before = channel.connections();
  // The drops that come aren't progress: after a whole timeout without a reply the connection goes. Where the machine
  // is so busy that it's over already, what comes now is sent on the next one.
  const Sent sent = echo(channel, "b");
  CHECK((sent == Sent::unknown || channel.connections() > before));
  CHECK(eventually([&] { return echoes(channel, "c"); }));
  CHECK(channel.connections() > before);
}

TEST_CASE("HIR-03: a connection that is owed a reply for too long gets no more commands") {
  std::atomic<int> heard{0}, silent{0};
  RespServer server([&](RespConnection& connection) {
    if (!echo_until(connection, "a")) return;
    ++silent;
    while (!connection.next().empty()) ++heard;
    --silent;
  });
  LinkSettings settings = settings_for(server.port());
  settings.timeout = 100'000;
  Channel channel(settings);
  leave_unanswered(channel, "a");
  ::usleep(100'000);
  // It is never sent on that connection.
  CHECK(eventually([&] { return echoes(channel, "b"); }));
  CHECK(eventually([&] { return silent == 0; }));
  CHECK(heard == 0);
}

TEST_CASE("HIR-04: a peer that goes in the middle of a large command ends no process, whatever SIGPIPE does") {
  for (const bool by_default : {true, false}) {
    Child child([by_default] {
      ::signal(SIGPIPE, by_default ? SIG_DFL : SIG_IGN);
      RespServer server([&](RespConnection& connection) {
        if (connection.number() < 3) {
          // Some of the command has come, and more of it is on its way.
          connection.next_greeting();
          connection.hears_within(10'000);
          connection.reset();
          return;
        }
        echo_all(connection);
      });
      Channel channel(settings_for(server.port()));
      const std::string large(8 << 20, 'x');
      for (int i = 0; i < 100; ++i) {
        if (echoes(channel, large)) return channel.connections() == 4 ? 0 : 1;
      }
      return 2;
    });
    CHECK(child.wait() == 0);
  }
}

TEST_CASE("HIR-04: a large command that nobody reads has a deadline like any other") {
  RespServer server([&](RespConnection& connection) {
    if (!echo_until(connection, "read no more")) return;
    connection.send(bulk("read no more"));
    while (!connection.is_gone()) ::usleep(1000);
  });
  LinkSettings settings = settings_for(server.port());
  settings.timeout = 1'000'000;
  Channel channel(settings);
  leave_unanswered(channel, std::string(8 << 20, 'x'), "read no more", 100);
  const std::uint64_t before = channel.connections();
  // What was queued behind it, and not sent, is sent on the next connection, where on a busy machine the reply may be
  // late.
  const Sent sent = echo(channel, "a");
  CHECK((sent == Sent::answered || sent == Sent::unknown));
  CHECK(channel.connections() > before);
  CHECK(eventually([&] { return echoes(channel, "b"); }));
}

TEST_CASE("HIR-04: large commands and large replies pass each other") {
  RespServer server(echo_all);
  Channel channel(settings_for(server.port()));
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&channel, i] {
      const std::string large(2 << 20, static_cast<char>('a' + i));
      for (int round = 0; round < 3; ++round) CHECK(echoes(channel, large));
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(channel.connections() == 1);
}

TEST_CASE("HIR-05: where nobody listens, and where a path or a name leads nowhere, the reason is told") {
  const support::SilentPort nobody;
  Channel channel(settings_for(nobody.port()));
  CHECK(fails_with(channel, "not sent in time: 127.0.0.1:" + std::to_string(nobody.port()) +
                                ": the server can't be reached: Connection refused"));
  LinkSettings settings;
  settings.endpoint.unix_socket = "/nowhere/at/all";
  Channel nowhere(settings);
  CHECK(fails_with(nowhere, "not sent in time: /nowhere/at/all: the server can't be reached: No such file or directory"));
  settings.endpoint.unix_socket = std::string(200, 'x');
  Channel too_long(settings);
  CHECK(fails_with(too_long, "too long"));
  CHECK(nowhere.connections() == 0);
  // A deadline that has passed sends nothing.
  Request request;
  write_echo(request, "a");
  CHECK(channel.call(request, boot_micros() - 1) == Sent::not_sent);
}

TEST_CASE("HIR-08: no program that is started has the socket, and it is never a standard stream") {
  RespServer server(echo_all);
  Child child([&] {
    ::close(0);
    Channel channel(settings_for(server.port()));
    if (!echoes(channel, "a")) return 1;
    const std::vector<int> found = sockets_to(server.port());
    if (found.size() != 1 || found[0] < 3) return 2;
    return (::fcntl(found[0], F_GETFD) & FD_CLOEXEC) != 0 ? 0 : 3;
  });
  CHECK(child.wait() == 0);
}

TEST_CASE("HIR-11: signals neither end a wait nor make it longer") {
  std::atomic<bool> go{false};
  // The server's threads get none of them.
  sigset_t alarm, others;
  ::sigemptyset(&alarm);
  ::sigaddset(&alarm, SIGALRM);
  ::pthread_sigmask(SIG_BLOCK, &alarm, &others);
  RespServer server([&](RespConnection& connection) {
    for (RespCommand command = connection.next(); !command.empty(); command = connection.next()) {
      ::usleep(30'000);
      if (command[1] == "late") CHECK(eventually([&] { return go.load(); }));
      connection.send(bulk(command[1]));
    }
  });
  ::pthread_sigmask(SIG_SETMASK, &others, nullptr);
  struct sigaction interrupting = {}, before = {};
  interrupting.sa_handler = [](int) {};
  ::sigaction(SIGALRM, &interrupting, &before);
  const itimerval often = {{0, 500}, {0, 500}}, never = {};
  ::setitimer(ITIMER_REAL, &often, nullptr);
  {
    Channel channel(settings_for(server.port()));
    CHECK(echoes(channel, "a"));
    CHECK(echoes(channel, "a"));
    leave_unanswered(channel, "late");
    go = true;
    CHECK(channel.connections() == 1);
    LinkSettings settings = settings_for(1);
    settings.endpoint.host = "127.0.0.1";
    Channel nowhere(settings);
    CHECK(echo(nowhere, "a", in_millis(30)) == Sent::not_sent);
  }
  ::setitimer(ITIMER_REAL, &never, nullptr);
  ::sigaction(SIGALRM, &before, nullptr);
}

TEST_CASE("HIR-12: all addresses of a name are tried") {
  // "localhost" has an address of the sixth version first on many machines, where this server doesn't listen.
  RespServer server(echo_all);
  LinkSettings settings = settings_for(server.port());
  settings.endpoint.host = "localhost";
  Channel channel(settings);
  CHECK(echoes(channel, "a"));
  settings.endpoint.host = "no-such-host.invalid";
  Channel nowhere(settings);
  CHECK(fails_with(nowhere, "the host's name could not be looked up"));
}

TEST_CASE("HIR-02: queued commands survive a connection that can't be made, and are sent on the next one") {
  RespServer server(echo_all);
  TcpProxy proxy(server.port());
  proxy.refuse(true);
  Channel channel(settings_for(proxy.port()));
  std::thread other([&] { CHECK(echoes(channel, "a")); });
  CHECK(eventually([&] { return proxy.connections() >= 2; }));
  proxy.refuse(false);
  other.join();
  CHECK(channel.connections() == 1);
}

TEST_CASE("HIR-02: a connection that ended while nobody used it isn't written to") {
  std::atomic<bool> ended{false};
  RespServer server([&](RespConnection& connection) {
    if (connection.number() != 0) return echo_all(connection);
    connection.send(bulk(connection.next()[1]));
    connection.end();
    ended = true;
  });
  Channel channel(settings_for(server.port()));
  CHECK(echoes(channel, "a"));
  CHECK(eventually([&] { return ended.load(); }));
  ::usleep(60'000);
  CHECK(echoes(channel, "b"));
  CHECK(channel.connections() == 2);
}

TEST_CASE("HIR-01: many commands submitted at once go together and are answered in their order") {
  std::atomic<bool> together{false};
  RespServer server([&](RespConnection& connection) {
    std::string replies;
    for (int i = 0; i < 100; ++i) replies += bulk(connection.next()[1]);
    together = true;
    connection.send(replies);
    echo_all(connection);
  });
  Channel channel(settings_for(server.port()));
  std::vector<Request> requests(100);
  for (int i = 0; i < 100; ++i) {
    write_echo(requests[static_cast<std::size_t>(i)], std::to_string(i));
    channel.submit(requests[static_cast<std::size_t>(i)]);
  }
  for (int i = 99; i >= 0; --i) {
    Request& request = requests[static_cast<std::size_t>(i)];
    CHECK(channel.await(request, soon()) == Sent::answered);
    CHECK(request.reply.root().text == std::to_string(i));
    CHECK(channel.leave(request) == Sent::answered);
  }
  CHECK(together);
}

TEST_CASE("HIR-01: a command that was never sent is taken out of the queue") {
  RespServer server(echo_all);
  Channel channel(settings_for(server.port()));
  Request request, other;
  write_echo(request, "a");
  write_echo(other, "b");
  channel.submit(request);
  channel.submit(other);
  CHECK(channel.leave(request) == Sent::not_sent);
  CHECK(channel.await(other, soon()) == Sent::answered);
  CHECK(other.reply.root().text == "b");
}

TEST_CASE("RFT-06: with replicas asked for, one WAIT follows each batch that writes, and its number is told") {
  std::atomic<int> waits{0};
  RespServer server([&](RespConnection& connection) {
    for (;;) {
      const RespCommand command = connection.next();
      if (command.empty()) return;
      if (command[0] != "WAIT") {
        connection.send(bulk(command[1]));
      } else {
        CHECK(command == RespCommand{"WAIT", "2", "1500"});
        connection.send(++waits == 3 ? "-ERR WAIT cannot be used with replica instances\r\n" : ":1\r\n");
      }
    }
  });
  LinkSettings settings = settings_for(server.port());
  settings.min_replicas = 2;
  settings.replica_timeout = 1'500'000;
  Channel channel(settings);
  Request write, read, write_too;
  write.writes = write_too.writes = true;
  write_echo(write, "w");
  write_echo(read, "r");
  write_echo(write_too, "x");
  for (Request* request : {&write, &read, &write_too}) channel.submit(*request);
  for (Request* request : {&write, &read, &write_too}) CHECK(channel.await(*request, soon()) == Sent::answered);
  CHECK(write.replicas == 1);
  CHECK(write_too.replicas == 1);
  CHECK(write.reply.root().text == "w");
  CHECK(write_too.reply.root().text == "x");
  CHECK(read.replicas == 0);
  CHECK(waits == 1);
  CHECK(channel.call(read, soon()) == Sent::answered);
  CHECK(waits == 1);
  CHECK(channel.call(write, soon()) == Sent::answered);
  CHECK(waits == 2);
  // A WAIT that fails says that nobody has it, and why.
  CHECK(channel.call(write, soon()) == Sent::answered);
  CHECK(write.replicas == 0);
  CHECK(write.why.view() == "WAIT failed: ERR WAIT cannot be used with replica instances");
}

TEST_CASE("RFT-06: a write whose WAIT is lost with the connection is unknown, though its own reply had come") {
  RespServer server([&](RespConnection& connection) {
    connection.next();
    connection.send("+OK\r\n");
    connection.next();
  });
  LinkSettings settings = settings_for(server.port());
  settings.min_replicas = 1;
  Channel channel(settings);
  Request write;
  write.writes = true;
  write_echo(write, "w");
  CHECK(channel.call(write, soon()) == Sent::unknown);
  CHECK(write.replicas == 0);
}

TEST_CASE("RFT-06: where there is always a WAIT on its way, what was answered before is forgotten all the same") {
  idem::detail::redis::Outstanding outstanding;
  Request request;
  const auto batch = [&] {
    outstanding.reserve(2);
    outstanding.push({&request, false});
    outstanding.push({nullptr, true});
  };
  batch();
  for (int i = 0; i < 1000; ++i) {
    batch();
    outstanding.advance();
    CHECK(outstanding[outstanding.first()].request == &request);
    outstanding.advance();
    CHECK(outstanding.end() - outstanding.first() == 2);
  }
}

TEST_CASE("T-12: a command that was given up with its connection isn't carried out once the network is back") {
  std::atomic<bool> given_up{false};
  std::atomic<bool> over{false};
  std::atomic<bool> arrived{false};
  RespServer server([&](RespConnection& connection) {
    connection.next_greeting();
    // The network, which has taken all of it and delivers nothing.
    while (!given_up && !over) ::sched_yield();
    arrived = !connection.next_of_all().empty();
    over = true;
  });
  Channel channel(settings_for(server.port()));
  CHECK(echo(channel, std::string(std::size_t{1} << 20, 'x'), in_millis(300)) == Sent::unknown);
  channel.close();
  given_up = true;
  CHECK(eventually([&] { return over.load(); }));
  CHECK(!arrived);
}

TEST_CASE("HIR-01: a closed channel answers all at once, and sends nothing more") {
  std::atomic<bool> sent{false};
  RespServer server([&](RespConnection& connection) {
    // The other one may be queued still.
    for (RespCommand command = connection.next(); !command.empty() && command[1] != "a"; command = connection.next()) {
    }
    sent = true;
    connection.swallow();
  });
  LinkSettings settings = settings_for(server.port());
  // Longer than what `eventually` waits for.
  settings.timeout = 100'000'000;
  Channel channel(settings);
  std::atomic<int> answered{0};
  std::thread waiting([&] {
    CHECK(echo(channel, "a", in_millis(100'000)) == Sent::unknown);
    ++answered;
  });
  std::thread waiting_too([&] {
    CHECK(echo(channel, "b", in_millis(100'000)) != Sent::answered);
    ++answered;
  });
  CHECK(eventually([&] { return sent.load(); }));
  channel.close();
  CHECK(eventually([&] { return answered == 2; }));
  waiting.join();
  waiting_too.join();
  CHECK(echo(channel, "c") == Sent::not_sent);
  channel.close();
}
