// CurlTransport against servers that answer with anything, and against what else goes on in a process.
#include <doctest/doctest.h>

#include <atomic>
#include <future>
#include <string_view>
#include <thread>

#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "raw_server.hpp"
#include "support.hpp"

namespace {

using namespace std::chrono_literals;
using namespace onceonly_support;
using idem::onceonly::CurlTransport;
using idem::onceonly::TransportError;

ClientOptions of(const RawServer& server) {
  ClientOptions made;
  made.api_key = secret_key;
  made.base_url = server.url();
  made.timeout = 30s;
  made.fail_open = false;
  return made;
}

TransportFailure failure_of(const Client& client) {
  try {
    client.check_lock("k");
  } catch (const TransportError& error) {
    return error.failure();
  }
  return TransportFailure::none;
}

std::size_t open_files() {
  std::size_t open = 0;
  for (int file = 0; file < 1024; ++file) open += ::fcntl(file, F_GETFD) != -1 ? 1u : 0u;
  return open;
}

#if defined(__GLIBC__) && LIBCURL_VERSION_NUM >= 0x075700
#define ONCEONLY_SLOW_NAMES 1
std::atomic<bool> answers_names{false};
#endif

}  // namespace

#if defined(ONCEONLY_SLOW_NAMES)
/// Instead of the C library's: one name isn't answered for a long time.
extern "C" int getaddrinfo(const char* node, const char* service, const addrinfo* hints, addrinfo** found) {
  if (node != nullptr && std::string_view(node) == "slow.test") {
    while (!answers_names) std::this_thread::sleep_for(1ms);
    return EAI_AGAIN;
  }
  static const auto real = reinterpret_cast<decltype(&::getaddrinfo)>(::dlsym(RTLD_NEXT, "getaddrinfo"));
  return real(node, service, hints, found);
}

TEST_CASE("a name that isn't found in time ends the request at its timeout, not when it is found") {
  std::promise<void> over;
  std::thread patience([&over] {
    over.get_future().wait_for(10s);
    answers_names = true;
  });
  ClientOptions quick;
  quick.api_key = secret_key;
  quick.base_url = "http://slow.test/v1";
  quick.timeout = 50ms;
  quick.fail_open = false;
  CHECK(failure_of(Client(quick)) == TransportFailure::timeout);
  CHECK_FALSE(answers_names);
  over.set_value();
  patience.join();
}
#endif

TEST_CASE("a request whose answer is lost is not sent again by libcurl, also not over a kept connection") {
  const RawServer server([](const RawServer::Connection& connection, std::size_t number) {
    return number == 1 && connection.send(RawServer::json(R"({"status":"locked"})"));
  });
  const Client client(of(server));
  CHECK(client.check_lock("first").locked);
  CHECK(failure_of(client) == TransportFailure::network);
  CHECK(server.requests() == 2);
}

TEST_CASE("SEC: answers that aren't HTTP, or not all of it, are no answers") {
  const std::string ok = "HTTP/1.1 200 OK\r\n";
  for (const std::string& bytes : {
           std::string(R"({"status":"locked"})"),                                   // as HTTP/0.9 has it
           std::string("\r\n\r\n"),
           ok + "Content-Length: 100\r\n\r\n{\"status\":\"locked\"}",               // cut off
           ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
           ok + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}",
           ok + "Transfer-Encoding: chunked\r\n\r\nzz\r\n{\"status\":\"locked\"}\r\n0\r\n\r\n",
           ok + "Content-Length: -1\r\n\r\n{\"status\":\"locked\"}",
           ok + "X: " + std::string(1'000'000, 'x') + "\r\n\r\n{}",
           std::string("HTTP/1.1 100 Continue\r\n\r\n"),
       }) {
    CAPTURE(bytes.substr(0, 80));
    const RawServer server([&bytes](const RawServer::Connection& connection, std::size_t) {
      connection.send(bytes);
      return false;
    });
    CHECK(failure_of(Client(of(server))) == TransportFailure::network);
    CHECK(server.requests() == 1);
  }
}

TEST_CASE("an interim answer's headers aren't those of the answer") {
  const RawServer server([](const RawServer::Connection& connection, std::size_t) {
    return connection.send("HTTP/1.1 103 Early Hints\r\nX-OnceOnly-Status: locked\r\n\r\n") &&
           connection.send(RawServer::json("{}"));
  });
  CHECK(Client(of(server)).check_lock("k").duplicate);
}

TEST_CASE("an answer that trickles in ends at the timeout all the same") {
  const RawServer server([](const RawServer::Connection& connection, std::size_t) {
    bool there = connection.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
    while (there) {
      std::this_thread::sleep_for(1ms);
      there = connection.send(" ");
    }
    return false;
  });
  ClientOptions quick = of(server);
  quick.timeout = 50ms;
  CHECK(failure_of(Client(quick)) == TransportFailure::timeout);
}

TEST_CASE("a broken pipe under a transfer doesn't end the program") {
  const pthread_t sending = ::pthread_self();
  const RawServer server([sending](const RawServer::Connection& connection, std::size_t) {
    ::pthread_kill(sending, SIGPIPE);  // what a TLS library does that writes without MSG_NOSIGNAL
    return connection.send(RawServer::json(R"({"status":"locked"})"));
  });
  CHECK(Client(of(server)).check_lock("k").locked);
  sigset_t pending;
  sigset_t blocked;
  REQUIRE(::sigpending(&pending) == 0);
  REQUIRE(::pthread_sigmask(SIG_BLOCK, nullptr, &blocked) == 0);
  CHECK(::sigismember(&pending, SIGPIPE) == 0);
  CHECK(::sigismember(&blocked, SIGPIPE) == 0);
}

TEST_CASE("a child of fork neither sends over its parent's connections nor closes them") {
  const RawServer server([](const RawServer::Connection& connection, std::size_t) {
    return connection.send(RawServer::json(R"({"status":"locked"})"));
  });
  auto transport = std::make_shared<CurlTransport>();
  ClientOptions sharing = of(server);
  sharing.transport = transport;
  auto client = std::make_unique<Client>(sharing);
  CHECK(client->check_lock("k").locked);
  const pid_t child = ::fork();
  if (child == 0) {
    // A connection that is encrypted would be written to when it's closed.
    const std::size_t before = open_files();
    client.reset();
    const bool silent = failure_of(Client(sharing)) == TransportFailure::cancelled;
    sharing.transport = {};
    transport.reset();
    ::_exit(silent && open_files() == before ? 0 : 1);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  CHECK(client->check_lock("k").locked);
}

#if IDEM_FORCED_UNWIND
TEST_CASE("a thread that is cancelled gets its answer first") {
  std::atomic<bool> cancelled{false};
  const RawServer server([&cancelled](const RawServer::Connection& connection, std::size_t) {
    while (!cancelled) std::this_thread::yield();
    return connection.send(RawServer::json(R"({"status":"locked"})"));
  });
  const Client client(of(server));
  bool locked = false;
  std::thread thread([&] {
    locked = client.check_lock("k").locked;
    ::pthread_testcancel();
    locked = false;
  });
  while (server.requests() == 0) std::this_thread::yield();
  ::pthread_cancel(thread.native_handle());
  cancelled = true;
  thread.join();
  CHECK(locked);
}
#endif
