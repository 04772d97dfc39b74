// What the tests of the connection to a Redis server share.
#pragma once

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

/// Answers each ECHO with its argument until the client is gone.
inline void echo_all(RespConnection& connection) {
  for (;;) {
    const RespCommand command = connection.next();
    if (command.empty()) return;
    connection.send(bulk(command[1]));
  }
}

}  // namespace channel_support
