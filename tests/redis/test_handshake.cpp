// HIR-15, SEC-06, SEC-08: what is said on a new connection, and what is made of the answers.
#include "support/channel_support.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

using namespace channel_support;

namespace {

/// Says what `refuses` says to the commands of the greeting, where it says something, and notes them all.
class Greeter {
 public:
  explicit Greeter(std::function<std::string(const RespCommand&)> refuses, int major = 7)
      : server_([this, refuses, major](RespConnection& connection) {
          for (;;) {
            const RespCommand command = connection.next_of_all();
            if (command.empty()) return;
            {
              std::string line;
              for (const std::string& word : command) line += (line.empty() ? "" : " ") + word;
              const std::lock_guard guard(mutex_);
              said_.push_back(line);
            }
            std::string answer = refuses(command);
            if (answer.empty()) answer = support::answer_to_greeting(command, major);
            if (answer.empty()) answer = bulk(command.back());
            connection.send(answer);
          }
        }) {}

  LinkSettings settings() const { return settings_for(server_.port()); }
  std::vector<std::string> said() {
    const std::lock_guard guard(mutex_);
    return said_;
  }
  /// Those before the questions that all connections ask.
  std::vector<std::string> login() {
    std::vector<std::string> result = said();
    for (std::size_t i = 0; i < result.size(); ++i) {
      if (result[i] == "TIME") result.resize(i);
    }
    return result;
  }

 private:
  std::mutex mutex_;
  std::vector<std::string> said_;
  RespServer server_;
};

std::string nothing_special(const RespCommand&) {
  return {};
}

using Lines = std::vector<std::string>;

}  // namespace

TEST_CASE("HIR-15: HELLO logs in and names the connection at once, and the server's facts are read") {
  Greeter server(nothing_special);
  LinkSettings settings = server.settings();
  settings.username = "worker";
  settings.password = "s3cret";
  settings.client_name = "idem";
  settings.database = 3;
  Channel channel(settings);
  CHECK(channel.connections() == 0);
  CHECK(echoes(channel, "hello"));
  CHECK(channel.connections() == 1);
  CHECK(server.login() == Lines{"HELLO 2 AUTH worker s3cret SETNAME idem", "SELECT 3"});
  const ServerFacts facts = channel.facts();
  REQUIRE(facts.version);
  CHECK(facts.version->major == 7);
  CHECK(facts.version->patch == 1);
  CHECK(facts.role == Role::primary);
  CHECK(facts.run_id == "0123abcd");
  CHECK(facts.mode == "standalone");
  CHECK(facts.maxmemory == 1'048'576u);
  CHECK(facts.maxmemory_policy == "noeviction");
  CHECK(facts.aof_enabled == true);
  CHECK(facts.loading == false);
  CHECK(facts.appendfsync == "everysec");
  CHECK(facts.save == "3600 1");
  CHECK(facts.connected_replicas == 2u);
  REQUIRE(facts.server_minus_boot);
  // What the server said was true at some time between now and the beginning.
  CHECK(*facts.server_minus_boot + boot_micros() >= 1'700'000'000'250'000);
  CHECK(*facts.server_minus_boot <= 1'700'000'000'250'000);
}

TEST_CASE("HIR-15: a password without a user is the default user's; without either there is no AUTH") {
  Greeter server(nothing_special);
  LinkSettings settings = server.settings();
  {
    Channel channel(settings);
    CHECK(echoes(channel, "a"));
    CHECK(server.login() == Lines{"HELLO 2"});
  }
  Greeter other(nothing_special);
  settings = other.settings();
  settings.password = "s3cret";
  Channel channel(settings);
  CHECK(echoes(channel, "a"));
  CHECK(other.login() == Lines{"HELLO 2 AUTH default s3cret"});
}

TEST_CASE("HIR-15: a server that is too old for HELLO is greeted the old way") {
  Greeter server(nothing_special, 5);
  LinkSettings settings = server.settings();
  settings.password = "s3cret";
  settings.client_name = "idem";
  settings.database = 1;
  Channel channel(settings);
  CHECK(echoes(channel, "a"));
  CHECK(server.login() ==
        Lines{"HELLO 2 AUTH default s3cret SETNAME idem", "AUTH s3cret", "CLIENT SETNAME idem", "SELECT 1"});
  REQUIRE(channel.facts().version);
  CHECK(channel.facts().version->major == 5);
}

TEST_CASE("SEC-08: whatever a user may not ask leaves a fact unknown, and the connection good") {
  Greeter server([](const RespCommand& command) -> std::string {
    return command[0] == "ECHO" || command[0] == "AUTH" ? ""
                                                        : "-NOPERM this user has no permissions to run the command\r\n";
  });
  LinkSettings settings = server.settings();
  settings.username = "worker";
  settings.password = "s3cret";
  settings.client_name = "idem";
  Channel channel(settings);
  CHECK(echoes(channel, "a"));
  REQUIRE_FALSE(server.login().empty());
  CHECK(server.login().back() == "CLIENT SETNAME idem");
  const ServerFacts facts = channel.facts();
  CHECK_FALSE(facts.version);
  CHECK(facts.role == Role::unknown);
  CHECK_FALSE(facts.run_id);
  CHECK_FALSE(facts.maxmemory_policy);
  CHECK_FALSE(facts.appendfsync);
  CHECK_FALSE(facts.save);
  CHECK_FALSE(facts.server_minus_boot);
}

TEST_CASE("HIR-09: a time that can't be one is no time") {
  for (const char* const seconds : {"253402300800", "999999999999999999", "9223372036854", "-1", ""}) {
    CAPTURE(seconds);
    Greeter server([seconds](const RespCommand& command) -> std::string {
      return command[0] == "TIME" ? "*2\r\n" + bulk(seconds) + bulk("0") : "";
    });
    Channel channel(server.settings());
    CHECK(echoes(channel, "a"));
    CHECK_FALSE(channel.facts().server_minus_boot);
  }
}

TEST_CASE("SEC-08: HELLO tells version and role where INFO and ROLE are forbidden") {
  Greeter server([](const RespCommand& command) -> std::string {
    return command[0] == "INFO" || command[0] == "ROLE" ? "-NOPERM no\r\n" : "";
  });
  Channel channel(server.settings());
  CHECK(echoes(channel, "a"));
  REQUIRE(channel.facts().version);
  CHECK(channel.facts().version->major == 7);
  CHECK(channel.facts().role == Role::primary);
  CHECK_FALSE(channel.facts().run_id);
}

TEST_CASE("SEC-06: a refused login or database is told at once, and never with the password") {
  struct Case {
    const char* command;
    const char* answer;
    int major;
  };
  for (const Case& each :
       {Case{"HELLO", "-WRONGPASS invalid username-password pair or user is disabled.\r\n", 7},
        Case{"HELLO", "-NOAUTH HELLO must be called with the client already authenticated\r\n", 7},
        Case{"AUTH", "-ERR unknown command `AUTH`, with args beginning with: `s3cret`, \r\n", 5},
        Case{"AUTH", "-ERR invalid password\r\n", 5}, Case{"SELECT", "-ERR DB index is out of range\r\n", 7}}) {
    CAPTURE(each.answer);
    Greeter server([&](const RespCommand& command) { return command[0] == each.command ? each.answer : ""; },
                   each.major);
    LinkSettings settings = server.settings();
    settings.password = "s3cret";
    settings.database = 99;
    Channel channel(settings);
    Request request;
    write_echo(request, "a");
    CHECK(channel.call(request, soon()) == Sent::not_sent);
    CHECK(request.why.view().find(": the server refused") != std::string_view::npos);
    CHECK(request.why.view().find("s3cret") == std::string_view::npos);
    REQUIRE_FALSE(server.said().empty());
    CHECK(server.said().back().find("ECHO") == std::string::npos);
  }
}

TEST_CASE("SEC-06: a server that wants a password says so where none was given") {
  // Before Redis 6 each command is answered by this.
  Greeter server([](const RespCommand&) { return "-NOAUTH Authentication required.\r\n"; }, 5);
  Channel channel(server.settings());
  Request request;
  write_echo(request, "a");
  CHECK(channel.call(request, soon()) == Sent::not_sent);
  CHECK(request.why.view().find("NOAUTH") != std::string_view::npos);
}

TEST_CASE("HIR-15: a server that is loading is asked again") {
  std::atomic<int> selects{0};
  Greeter server([&](const RespCommand& command) {
    return command[0] == "SELECT" && selects++ < 2 ? "-LOADING Redis is loading the dataset in memory\r\n" : "";
  });
  LinkSettings settings = server.settings();
  settings.database = 1;
  Channel channel(settings);
  CHECK(echoes(channel, "a"));
  CHECK(selects == 3);
  CHECK(channel.connections() == 1);
}

TEST_CASE("HIR-15: every connection logs in, selects and is named before its first command") {
  std::mutex mutex;
  std::vector<std::string> firsts;
  RespServer server([&](RespConnection& connection) {
    std::string words;
    for (RespCommand command = connection.next_of_all(); !command.empty(); command = connection.next_of_all()) {
      words += command[0] + " ";
      const std::string answer = support::answer_to_greeting(command);
      if (answer.empty()) {
        connection.send(bulk(command[1]));
        break;  // and the connection ends after each
      }
      connection.send(answer);
    }
    const std::lock_guard guard(mutex);
    firsts.push_back(words);
  });
  LinkSettings settings = settings_for(server.port());
  settings.password = "s3cret";
  settings.database = 2;
  Channel channel(settings);
  for (int i = 0; i < 3; ++i) {
    // The end of the last connection may be seen only when something is sent.
    CHECK(process_support::eventually([&] { return echoes(channel, "a"); }));
  }
  CHECK(channel.connections() >= 3);
  const std::lock_guard guard(mutex);
  for (const std::string& words : firsts) CHECK(words.find("HELLO SELECT TIME ROLE INFO CONFIG CONFIG ") == 0);
}

TEST_CASE("HIR-09: garbage instead of a greeting is no connection, and no command follows it") {
  std::atomic<bool> heard{false};
  RespServer server([&](RespConnection& connection) {
    connection.next_of_all();
    connection.send("HTTP/1.1 400 Bad Request\r\n\r\n");
    heard = heard || !connection.next_of_all().empty();
  });
  Channel channel(settings_for(server.port()));
  Request request;
  write_echo(request, "a");
  // On a busy machine the time may be over before the garbage has come.
  CHECK(process_support::eventually([&] {
    CHECK(channel.call(request, in_millis(100)) == Sent::not_sent);
    return request.why.view().find("isn't the Redis protocol") != std::string_view::npos;
  }));
  CHECK_FALSE(heard);
  CHECK(channel.connections() == 0);
}
