// What the tests of the connection to a Redis server share.
#pragma once

#include "process_support.hpp"
#include "resp_server.hpp"

#include <doctest/doctest.h>

#include <idem/detail/redis/channel.hpp>

#include <cstdint>
#include <string>
#include <string_view>

namespace channel_support {

using idem::detail::boot_micros;
using idem::detail::Bytes;
using idem::detail::redis::Channel;
using idem::detail::redis::Command;
using idem::detail::redis::Endpoint;
using idem::detail::redis::LinkSettings;
using idem::detail::redis::ReplyType;
using idem::detail::redis::Request;
using idem::detail::redis::Role;
using idem::detail::redis::Sent;
using idem::detail::redis::ServerFacts;
using support::bulk;
using support::RespCommand;
using support::RespConnection;
using support::RespServer;

inline LinkSettings settings_for(std::uint16_t port) {
  LinkSettings settings;
  settings.endpoint.port = port;
  settings.connect_timeout = 20'000'000;
  settings.timeout = 20'000'000;
  return settings;
}

/// Long enough for whatever has to happen.
inline std::int64_t soon() {
  return boot_micros() + 20'000'000;
}
inline std::int64_t in_millis(std::int64_t millis) {
  return boot_micros() + millis * 1000;
}

inline void write_echo(Request& request, std::string_view text) {
  request.command.clear();
  Command(request.command, 2).arg("ECHO").arg(text);
}

/// Whether the server says the same.
inline bool echoes(Channel& channel, std::string_view text, std::int64_t until = soon()) {
  Request request;
  write_echo(request, text);
  return channel.call(request, until) == Sent::answered && request.reply.root().text == text;
}

inline Sent echo(Channel& channel, std::string_view text, std::int64_t until = soon()) {
  Request request;
  write_echo(request, text);
  return channel.call(request, until);
}

/// How an ECHO ends that nobody answers, by a deadline so short that it's soon over. On a busy machine it may be over
/// before anything is sent; then it's tried again, so that this is never `not_sent`. REQUIRES: there is a connection.
inline Sent echo_in_vain(Channel& channel, std::string_view text, std::int64_t millis = 10) {
  Sent sent = Sent::not_sent;
  CHECK(process_support::eventually([&] {
    sent = echo(channel, text, in_millis(millis));
    return sent != Sent::not_sent;
  }));
  return sent;
}

/// Connects, by an ECHO that is answered, sends one that nobody answers, and leaves it at its deadline. On a busy machine
/// this may take several attempts: the connection's timeout can be over before the deadline is looked at.
inline void leave_unanswered(Channel& channel, std::string_view text, std::string_view answered = "first",
                             std::int64_t millis = 10) {
  Request request;
  REQUIRE(process_support::eventually([&] {
    if (!echoes(channel, answered)) return false;
    write_echo(request, text);
    const Sent sent = channel.call(request, in_millis(millis));
    CHECK(sent != Sent::answered);
    return sent == Sent::unknown && request.why.view() == "no reply in time";
  }));
}

/// Answers each ECHO with its argument until this one comes, which has no answer yet. False where the client is gone.
inline bool echo_until(RespConnection& connection, std::string_view text) {
  for (;;) {
    const RespCommand command = connection.next();
    if (command.empty()) return false;
    if (command[1] == text) return true;
    connection.send(bulk(command[1]));
  }
}

/// Answers each ECHO with its argument until the client is gone.
inline void echo_all(RespConnection& connection) {
  for (;;) {
    const RespCommand command = connection.next();
    if (command.empty()) return;
    connection.send(bulk(command[1]));
  }
}

}  // namespace channel_support
