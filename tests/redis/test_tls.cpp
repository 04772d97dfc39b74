// HIR-17 and what else there is to TLS: the store through it, and whatever is wrong with it refused.
#include "support/channel_support.hpp"
#include "support/process_support.hpp"
#include "support/redis_server.hpp"
#include "support/tcp_proxy.hpp"
#include "support/tls_files.hpp"

#include <idem/detail/redis/subscription.hpp>
#include <idem/make_key.hpp>
#include <idem/redis_store.hpp>
#include <idem/testing/conformance.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <poll.h>

using namespace channel_support;
using namespace std::chrono_literals;
using idem::Answer;
using idem::RedisOptions;
using idem::RedisStore;
using idem::Reply;
using process_support::Child;
using process_support::eventually;
using support::RedisServer;
using support::TcpProxy;
using Way = support::TcpProxy::Way;

static_assert(IDEM_REDIS_TLS == 1);

namespace {

constexpr int many = 32;

const support::TlsFiles& files() {
  return support::tls_files();
}

support::RedisServerOptions server_options(const std::string& certificate = "server", const std::string& clients = "no") {
  support::RedisServerOptions options;
  options.tls = true;
  options.arguments = files().server_arguments(certificate, clients);
  return options;
}

RedisOptions options_for(std::uint16_t port) {
  RedisOptions options;
  options.port = port;
  options.tls = true;
  options.tls_ca_file = files().pem("authority");
  options.password = "";
  options.timeout = 20s;
  options.connect_timeout = 20s;
  return options;
}

LinkSettings tls_settings_for(std::uint16_t port) {
  LinkSettings settings = settings_for(port);
  settings.tls = true;
  settings.tls_ca_file = files().pem("authority");
  return settings;
}

Reply claim(RedisStore& store, const idem::Key& key) {
  idem::ClaimRequest request;
  request.owner = idem::detail::new_owner_token();
  request.lease = 1h;
  return store.claim(key, request, nullptr);
}

Reply complete(RedisStore& store, const idem::Key& key, const Reply& claimed, const std::string& text) {
  idem::FinishRequest request;
  request.owner = claimed.record.owner;
  request.source.kind = idem::PayloadKind::value;
  request.source.data = reinterpret_cast<const std::uint8_t*>(text.data());
  request.source.size = text.size();
  return store.complete(key, request);
}

bool holds(const Reply& reply, const std::string& text) {
  return reply.answer == Answer::completed &&
         std::string(reinterpret_cast<const char*>(reply.payload.data()), reply.payload.size()) == text;
}

/// One call from its claim to its duplicate.
bool runs_once(RedisStore& store, const idem::Key& key, const std::string& text) {
  const Reply claimed = claim(store, key);
  if (claimed.answer != Answer::acquired) return false;
  return complete(store, key, claimed, text).answer == Answer::ok && holds(claim(store, key), text);
}

/// Of so many bytes, no two of them alike for long.
std::string text_of(std::size_t size, std::uint32_t seed) {
  std::string text(size, '\0');
  for (char& c : text) {
    seed = seed * 1664525 + 1013904223;
    c = static_cast<char>(seed >> 24);
  }
  return text;
}

/// What an operation is told, where it's told that there is no store.
std::string complaint(const RedisOptions& options) {
  RedisStore store(options);
  const Reply reply = claim(store, idem::make_key("charge", 1));
  return reply.answer == Answer::unavailable ? reply.message : "it was not refused";
}

#define CHECK_HAS(text, part) CHECK_MESSAGE((text).find(part) != std::string::npos, text)

/// Notes all bytes that it is sent, and answers the first with `answer`.
class Eavesdropper {
 public:
  explicit Eavesdropper(std::string answer) : answer_(std::move(answer)), thread_([this] { run(); }) {}
  Eavesdropper(const Eavesdropper&) = delete;
  Eavesdropper& operator=(const Eavesdropper&) = delete;
  ~Eavesdropper() {
    stopped_ = true;
    ::shutdown(listening_.fd(), SHUT_RDWR);
    thread_.join();
  }

  std::uint16_t port() const { return listening_.port(); }
  /// One for each connection.
  std::vector<std::string> heard() {
    const std::lock_guard guard(mutex_);
    return heard_;
  }

 private:
  void run() {
    while (!stopped_) {
      const int fd = ::accept4(listening_.fd(), nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) continue;
      {
        const std::lock_guard guard(mutex_);
        heard_.emplace_back();
      }
      while (!stopped_) {
        if (!support::is_readable_within(fd, 5)) continue;
        char buffer[4096];
        const ssize_t got = ::recv(fd, buffer, sizeof buffer, 0);
        if (got <= 0) break;
        const std::lock_guard guard(mutex_);
        if (heard_.back().empty()) support::send_all(fd, answer_);
        heard_.back().append(buffer, static_cast<std::size_t>(got));
      }
      ::close(fd);
    }
  }

  const std::string answer_;
  std::mutex mutex_;
  std::vector<std::string> heard_;
  std::atomic<bool> stopped_{false};
  support::Listening listening_;
  std::thread thread_;
};

}  // namespace

TEST_CASE("T-15: a store keeps every store's promises through TLS") {
  RedisServer server(server_options());
  int cases = 0;
  idem::Clock used;
  const auto open = [&](const idem::Clock& clock) {
    RedisOptions options = options_for(server.port());
    options.prefix = "case " + std::to_string(cases) + ":";
    options.clock = clock;
    return RedisStore(options);
  };
  idem::testing::check_conformance(
      [&](const idem::Clock& clock) {
        ++cases;
        used = clock;
        return open(clock);
      },
      [](const idem::testing::ConformanceResult& result) {
        CHECK_MESSAGE(result.passed, result.id, ": ", result.promise, ": ", result.detail);
      },
      [&](RedisStore&) { return open(used); });
  CHECK(cases > 10);
}

TEST_CASE("TLS: both versions, by name and by address, with and without a client's certificate") {
  for (const char* const version : {"TLSv1.2", "TLSv1.3"}) {
    support::RedisServerOptions with = server_options("server", "yes");
    with.arguments.push_back("--tls-protocols");
    with.arguments.push_back(version);
    RedisServer asking(with);
    with = server_options();
    with.arguments.push_back("--tls-protocols");
    with.arguments.push_back(version);
    RedisServer trusting(with);
    for (const char* const host : {"127.0.0.1", "localhost"}) {
      RedisOptions options = options_for(trusting.port());
      options.host = host;
      RedisStore anonymous(options);
      CHECK(runs_once(anonymous, idem::make_key("charge", host), "done"));
      options.port = asking.port();
      options.tls_cert_file = files().pem("client");
      options.tls_key_file = files().key("client");
      RedisStore known(options);
      CHECK(runs_once(known, idem::make_key("charge", host), "done"));
    }
  }
}

TEST_CASE("HIR-06: thirty-two threads share one connection through TLS, with payloads of all sizes") {
  RedisServer server(server_options());
  RedisStore store(options_for(server.port()));
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int thread = 0; thread < many; ++thread) {
    threads.emplace_back([&, thread] {
      for (int round = 0; round < 20; ++round) {
        const auto seed = static_cast<std::uint32_t>(thread * 100 + round);
        const std::size_t size = round % 4 == 0 ? 100'000 + seed * 10 : seed % 700;
        if (!runs_once(store, idem::make_key("charge", thread, round), text_of(size, seed))) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
  // The other one is that of the test.
  CHECK(server.info("clients", "connected_clients") == "2");
}

TEST_CASE("TLS: payloads of the size of a TLS record and far larger ones come through, whatever the network takes") {
  RedisServer server(server_options());
  TcpProxy proxy(server.port());
  RedisStore store(options_for(proxy.port()));
  for (const std::size_t size : {16'000u, 16'383u, 16'384u, 16'385u, 65'536u, 200'000u, 6'000'000u}) {
    CHECK(runs_once(store, idem::make_key("charge", size), text_of(size, static_cast<std::uint32_t>(size))));
  }
  // The proxy takes nothing for a while, so that what is sent gets stuck at any place.
  const std::string large = text_of(8'000'000, 1);
  const Reply claimed = claim(store, idem::make_key("charge", "stuck"));
  proxy.hold(Way::to_server);
  Reply completed;
  std::thread sender([&] { completed = complete(store, idem::make_key("charge", "stuck"), claimed, large); });
  // Others wait behind it.
  std::vector<std::thread> others;
  std::atomic<int> right{0};
  for (int i = 0; i < 4; ++i) {
    others.emplace_back([&, i] { right += runs_once(store, idem::make_key("charge", "behind", i), text_of(50'000, 7)); });
  }
  ::poll(nullptr, 0, 100);
  proxy.slow_down(Way::to_server, 7'777, 20);
  proxy.release(Way::to_server);
  sender.join();
  for (std::thread& other : others) other.join();
  CHECK(completed.answer == Answer::ok);
  CHECK(right == 4);
  CHECK(holds(claim(store, idem::make_key("charge", "stuck")), large));
  CHECK(proxy.connections() == 1);
}

TEST_CASE("TLS: what was reported as sent arrives though nothing more is sent, and what wasn't can be sent later") {
  RedisServer server(server_options());
  TcpProxy proxy(server.port());
  idem::detail::redis::Wire wire;
  idem::detail::redis::Reason why;
  const LinkSettings settings = tls_settings_for(proxy.port());
  REQUIRE(wire.connect(settings.endpoint, settings, soon(), why) == idem::detail::redis::Shaken::good);
  const int small = 50'000;
  ::setsockopt(wire.fd(), SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
  Bytes commands;
  const std::string word = text_of(1000, 1);
  constexpr std::size_t count = 20'000;
  for (std::size_t i = 0; i < count; ++i) Command(commands, 2).arg("ECHO").arg(word);
  const std::size_t size_of_command = commands.size() / count;
  const std::size_t size_of_reply = bulk(word).size();
  std::size_t sent = 0, come = 0;
  const auto send = [&] {
    const std::ptrdiff_t taken = wire.send(commands.data() + sent, commands.size() - sent, why);
    REQUIRE(taken >= 0);
    sent += static_cast<std::size_t>(taken);
    return taken;
  };
  const std::uint64_t before = proxy.bytes(Way::to_server);
  while (sent < commands.size()) {
    proxy.hold(Way::to_server);
    while (sent < commands.size() && send() > 0) {
    }
    proxy.release(Way::to_server);
    // Receiving would send, too. Encrypted it's a little more, by less than what is encrypted at once.
    REQUIRE(eventually([&] { return proxy.bytes(Way::to_server) - before >= sent; }));
    const std::int64_t deadline = soon();
    while (come / size_of_reply < sent / size_of_command) {
      REQUIRE(boot_micros() < deadline);
      char buffer[16384];
      const std::ptrdiff_t got = wire.receive(buffer, sizeof buffer, boot_micros(), deadline, why);
      REQUIRE(got >= 0);
      come += static_cast<std::size_t>(got);
    }
  }
  CHECK(come == count * size_of_reply);
}

TEST_CASE("HIR-03: TLS that comes byte by byte is understood") {
  RedisServer server(server_options());
  TcpProxy proxy(server.port());
  proxy.slow_down(Way::to_client, 1, 0);
  proxy.slow_down(Way::to_server, 1, 0);
  RedisStore store(options_for(proxy.port()));
  CHECK(runs_once(store, idem::make_key("charge", 1), text_of(500, 1)));
  CHECK(proxy.connections() == 1);
}

TEST_CASE("TLS: what was read ahead is given out without anything more having to come") {
  RedisServer server(server_options());
  idem::detail::redis::Subscription subscription(tls_settings_for(server.port()), "idem:");
  idem::detail::redis::Reason why;
  REQUIRE(subscription.connect(why) == idem::detail::redis::Shaken::good);
  constexpr int keys = 2000;
  for (int i = 0; i < keys; ++i) subscription.ask(idem::make_key("charge", i).digest(), true);
  while (subscription.has_more()) REQUIRE(subscription.send());
  // All replies are there to be read, far more than a read takes at once.
  CHECK(eventually([&] {
    return server.command({"PUBSUB", "CHANNELS"}).elements.size() == keys;
  }));
  int subscribed = 0;
  while (subscribed < keys) {
    pollfd asked = {subscription.fd(), POLLIN, 0};
    REQUIRE(::poll(&asked, 1, 10'000) == 1);
    REQUIRE(subscription.receive());
    while (subscription.next().kind == idem::detail::redis::Subscription::Said::Kind::subscribed) ++subscribed;
  }
  CHECK(subscribed == keys);
}

TEST_CASE("TLS: who waits for a running call is woken by a message through TLS") {
  RedisServer server(server_options());
  RedisStore store(options_for(server.port()));
  const idem::Key key = idem::make_key("charge", 1);
  const Reply claimed = claim(store, key);
  REQUIRE(claimed.answer == Answer::acquired);
  std::thread waiter([&] { store.wait(key, claimed.record.owner.epoch, store.now() + 1h); });
  CHECK(eventually([&] { return server.command({"PUBSUB", "CHANNELS"}).elements.size() == 1; }));
  CHECK(complete(store, key, claimed, "done").answer == Answer::ok);
  waiter.join();
}

TEST_CASE("HIR-15: after the server has gone and come again, so does TLS, and nobody dies of SIGPIPE") {
  RedisServer server(server_options());
  RedisOptions options = options_for(server.port());
  options.timeout = 100ms;
  RedisStore store(options);
  REQUIRE(eventually([&] { return claim(store, idem::make_key("charge", 0)).answer == Answer::acquired; }));
  server.kill();
  const Reply refused = claim(store, idem::make_key("charge", 1));
  CHECK(refused.answer == Answer::unavailable);
  server.start();
  CHECK(eventually([&] { return claim(store, idem::make_key("charge", 2)).answer == Answer::acquired; }));
}

TEST_CASE("HIR-07: a child of fork has TLS of its own and leaves its parent's alone") {
  RedisServer server(server_options());
  RedisStore store(options_for(server.port()));
  Channel channel(tls_settings_for(server.port()));
  REQUIRE(claim(store, idem::make_key("charge", 0)).answer == Answer::acquired);
  REQUIRE(echoes(channel, "before"));
  Child child([&] {
    // The parent's connection can't be used here, and its end sends nothing.
    if (echo(channel, "child") != Sent::not_sent) return 1;
    channel.~Channel();
    return runs_once(store, idem::make_key("charge", "child"), "done") ? 0 : 2;
  });
  CHECK(child.wait() == 0);
  CHECK(runs_once(store, idem::make_key("charge", "parent"), "done"));
  CHECK(echoes(channel, "after"));
  CHECK(channel.connections() == 1);
}

TEST_CASE("HIR-17: whom the client has no reason to trust is sent nothing, and operations are unavailable") {
  RedisServer server(server_options());
  RedisOptions options = options_for(server.port());
  SUBCASE("an authority that isn't trusted") {
    options.tls_ca_file = files().pem("stranger");
    CHECK_HAS(complaint(options), "the server's certificate isn't good");
  }
  SUBCASE("an authority that the system doesn't know") {
    options.tls_ca_file.clear();
    CHECK_HAS(complaint(options), "the server's certificate isn't good");
  }
  CHECK(server.calls("hello") == 0);
  CHECK(server.calls("auth") == 0);
}

TEST_CASE("HIR-17: a certificate that is made out to somebody else is refused, be it a name or an address") {
  RedisServer server(server_options("elsewhere"));
  RedisOptions options = options_for(server.port());
  // Its certificate has the address as if it were a name.
  CHECK_HAS(complaint(options), "IP address mismatch");
  options.host = "localhost";
  CHECK_HAS(complaint(options), "ostname mismatch");
  CHECK(server.calls("hello") == 0);
}

TEST_CASE("HIR-17: a certificate that has expired is refused") {
  RedisServer server(server_options("expired"));
  CHECK_HAS(complaint(options_for(server.port())), "certificate has expired");
  CHECK(server.calls("hello") == 0);
}

TEST_CASE("HIR-17: a server that wants a certificate of the client's refuses who has none, or a stranger's") {
  RedisServer server(server_options("server", "yes"));
  RedisOptions options = options_for(server.port());
  CHECK_HAS(complaint(options), "certificate required");
  options.tls_cert_file = files().pem("stranger");
  options.tls_key_file = files().key("stranger");
  CHECK_HAS(complaint(options), "unknown ca");
  CHECK(server.calls("hello") == 0);
}

TEST_CASE("HIR-17: a port without TLS is sent nothing but the first message of TLS") {
  RedisServer server;
  RedisOptions options = options_for(server.port());
  options.password = "s3cret";
  options.timeout = 300ms;
  CHECK(complaint(options) != "it was not refused");
  CHECK(server.calls("hello") == 0);
  CHECK(server.calls("auth") == 0);

  for (const char* const answer : {"-ERR unknown command\r\n", "+OK\r\n", ""}) {
    Eavesdropper ear(answer);
    options.port = ear.port();
    // On a busy machine the time may be over before anything was said.
    std::string why;
    CHECK(eventually([&] {
      why = complaint(options);
      return !ear.heard().empty() && (*answer == '\0' || why.find("is it TLS at all?") != std::string::npos);
    }));
    if (*answer == '\0') CHECK_HAS(why, "in time");
    const std::vector<std::string> heard = ear.heard();
    REQUIRE_FALSE(heard.empty());
    for (const std::string& bytes : heard) {
      REQUIRE_FALSE(bytes.empty());
      CHECK(bytes[0] == '\x16');  // a message of TLS' handshake
      CHECK(bytes.find("s3cret") == std::string::npos);
      CHECK(bytes.find("HELLO") == std::string::npos);
    }
  }
}

TEST_CASE("HIR-17: files that aren't what they should be are named, and nobody is asked for a passphrase") {
  Eavesdropper ear("");
  RedisOptions options = options_for(ear.port());
  SUBCASE("no file of authorities") {
    options.tls_ca_file = files() / "nowhere";
    CHECK_HAS(complaint(options), "tls_ca_file can't be used: No such file");
  }
  SUBCASE("a file of authorities without any") {
    options.tls_ca_file = files().key("authority");
    CHECK_HAS(complaint(options), "tls_ca_file can't be used");
  }
  SUBCASE("no certificate") {
    options.tls_cert_file = files() / "nowhere";
    CHECK_HAS(complaint(options), "tls_cert_file can't be used");
  }
  SUBCASE("a key behind a passphrase") {
    options.tls_cert_file = files().pem("client");
    options.tls_key_file = files().key("locked");
    CHECK_HAS(complaint(options), "tls_key_file can't be used");
  }
  SUBCASE("another certificate's key") {
    options.tls_cert_file = files().pem("client");
    options.tls_key_file = files().key("server");
    CHECK_HAS(complaint(options), "tls_key_file can't be used");
  }
  SUBCASE("no key at all") {
    options.tls_cert_file = files().pem("client");
    CHECK_HAS(complaint(options), "tls_key_file can't be used");
  }
  CHECK(ear.heard().empty());
}

TEST_CASE("HIR-03: a server that takes its time over TLS costs no more than the time there is") {
  RedisServer server(server_options());
  TcpProxy proxy(server.port());
  RedisOptions options = options_for(proxy.port());
  options.timeout = 200ms;
  proxy.hold(Way::to_client);
  CHECK_HAS(complaint(options), "in time");
  proxy.release(Way::to_client);
  // Also once TLS is agreed upon.
  options.timeout = 20s;
  Channel channel(tls_settings_for(proxy.port()));
  REQUIRE(echoes(channel, "a"));
  proxy.hold(Way::to_client);
  CHECK(echo_in_vain(channel, "b", 50) == Sent::unknown);
  proxy.release(Way::to_client);
  CHECK(echoes(channel, "c"));
  CHECK(channel.connections() == 1);
}

TEST_CASE("HIR-01: bytes that were changed on their way cost the connection") {
  RedisServer server(server_options());
  // Says what the server says, but for one bit of an answer.
  std::atomic<bool> spoils{false};
  support::Listening listening;
  std::thread between([&] {
    for (int connection = 0; connection < 2; ++connection) {
      const int client = ::accept4(listening.fd(), nullptr, nullptr, SOCK_CLOEXEC);
      const int behind = support::connect_to(server.port(), {});
      for (bool open = true; open;) {
        pollfd asked[2] = {{client, POLLIN, 0}, {behind, POLLIN, 0}};
        ::poll(asked, 2, -1);
        for (int from = 0; from < 2 && open; ++from) {
          if (asked[from].revents == 0) continue;
          char buffer[65536];
          const ssize_t got = ::recv(asked[from].fd, buffer, sizeof buffer, 0);
          if (got <= 0) {
            open = false;
            break;
          }
          if (from == 1 && spoils.exchange(false)) buffer[got - 1] ^= 1;
          open = support::send_all(asked[1 - from].fd, {buffer, static_cast<std::size_t>(got)});
        }
      }
      ::close(client);
      ::close(behind);
    }
  });
  {
    Channel channel(tls_settings_for(listening.port()));
    CHECK(echoes(channel, "a"));
    spoils = true;
    Request request;
    write_echo(request, "b");
    CHECK(channel.call(request, soon()) == Sent::unknown);
    CHECK_HAS(std::string(request.why.view()), "TLS with the server broke");
    CHECK(echoes(channel, "c"));
    CHECK(channel.connections() == 2);
  }
  between.join();
}
