// What the tests of a RedisStore share: a server for those that leave nothing behind, claims by hand, the bytes on the
// server, and somebody between the store and its server.
#pragma once

#include "redis_server.hpp"
#include "resp_server.hpp"

#include <idem/make_key.hpp>
#include <idem/redis_store.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace redis_world {

using namespace std::chrono_literals;
using idem::Answer;
using idem::RedisOptions;
using idem::RedisStore;
using idem::Reply;
using support::RedisReply;
using support::RedisServer;
using support::RespCommand;

/// One for all tests that need no other, emptied.
inline RedisServer& common_server() {
  static RedisServer server;
  if (!server.running()) server.start();
  server.command({"FLUSHALL"});
  return server;
}

inline RedisOptions options_for(const RedisServer& server, std::string prefix = "idem:") {
  RedisOptions options;
  options.unix_socket = server.unix_socket();
  options.prefix = std::move(prefix);
  return options;
}

inline idem::ClaimRequest new_claim(idem::Duration lease = 1h) {
  idem::ClaimRequest request;
  request.owner = idem::detail::new_owner_token();
  request.lease = lease;
  return request;
}
inline Reply claim(RedisStore& store, const idem::Key& key, idem::Duration lease = 1h) {
  return store.claim(key, new_claim(lease), nullptr);
}
inline Reply take_over(RedisStore& store, const idem::Key& key, idem::Duration lease = 1h) {
  idem::ClaimRequest request = new_claim(lease);
  request.take_over = true;
  return store.claim(key, request, nullptr);
}

/// Refers to `text`.
inline idem::FinishRequest outcome(const idem::Ownership& owner, std::string_view text, idem::Duration ttl = 1h) {
  idem::FinishRequest request;
  request.owner = owner;
  request.ttl = ttl;
  request.source.kind = idem::PayloadKind::value;
  request.source.data = reinterpret_cast<const std::uint8_t*>(text.data());
  request.source.size = text.size();
  return request;
}
inline std::string text_of(const Reply& reply) {
  return {reinterpret_cast<const char*>(reply.payload.data()), reply.payload.size()};
}

/// Under which name the server has a key's record.
inline std::string name_of(const idem::Key& key, const std::string& prefix = "idem:") {
  char digits[idem::detail::redis::digest_digits];
  idem::detail::redis::write_digest(key.digest(), digits);
  return prefix + std::string(digits, sizeof digits);
}

/// Says to a server what the store says, but for what a test has it do with some commands.
class Between {
 public:
  enum class Do {
    forward,    // as if it weren't there
    lose_reply, // the server carries it out, then the connection breaks
    drop,       // the connection breaks before the server hears of it
  };
  struct Verdict {
    Do act = Do::forward;
    std::string answer = {};  // RESP, in the server's place
  };
  /// Asked for every command, those of the greeting included, by several threads at once.
  using Judge = std::function<Verdict(const RespCommand&)>;

  Between(const RedisServer& server, Judge judge)
      : path_(server.unix_socket()), judge_(std::move(judge)), proxy_([this](support::RespConnection& link) { run(link); }) {}

  RedisOptions options() const {
    RedisOptions options;
    options.port = proxy_.port();
    return options;
  }
  int connections() const { return proxy_.connections(); }
  /// All scripts that were called, by name or by text, in order.
  std::vector<RespCommand> calls() const {
    const std::lock_guard guard(mutex_);
    return calls_;
  }

  static bool is_script(const RespCommand& command) { return command[0] == "EVALSHA" || command[0] == "EVAL"; }
  static bool is_script(const RespCommand& command, idem::detail::redis::Script idem::detail::redis::Scripts::*which) {
    static const idem::detail::redis::Scripts scripts(true);
    const idem::detail::redis::Script& script = scripts.*which;
    return (command[0] == "EVALSHA" && command[1] == script.name()) || (command[0] == "EVAL" && command[1] == script.text);
  }

 private:
  void run(support::RespConnection& link) {
    support::RedisClient server(path_);
    for (;;) {
      const RespCommand command = link.next_of_all();
      if (command.empty()) return;
      if (is_script(command)) {
        const std::lock_guard guard(mutex_);
        calls_.push_back(command);
      }
      const Verdict verdict = judge_(command);
      if (verdict.act == Do::drop) return;
      if (!verdict.answer.empty()) {
        if (!link.send(verdict.answer)) return;
        continue;
      }
      const std::string reply = written(server.command(command));
      if (verdict.act == Do::lose_reply || !link.send(reply)) return;
    }
  }

  static std::string written(const RedisReply& reply) {
    switch (reply.type) {
      case REDIS_REPLY_INTEGER:
        return ":" + std::to_string(reply.integer) + "\r\n";
      case REDIS_REPLY_STATUS:
        return "+" + reply.text + "\r\n";
      case REDIS_REPLY_ERROR:
        return "-" + reply.text + "\r\n";
      case REDIS_REPLY_STRING:
        return support::bulk(reply.text);
      case REDIS_REPLY_ARRAY: {
        std::string all = "*" + std::to_string(reply.elements.size()) + "\r\n";
        for (const RedisReply& element : reply.elements) all += written(element);
        return all;
      }
      default:
        return "$-1\r\n";
    }
  }

  const std::string path_;
  const Judge judge_;
  mutable std::mutex mutex_;
  std::vector<RespCommand> calls_;
  support::RespServer proxy_;  // last: its threads use the others
};

}  // namespace redis_world
