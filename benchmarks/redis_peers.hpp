// What the Redis benchmark measures idem against, and idem itself. All threads of a peer are threads of one process.
//
// The peers are given the key as it is, make no random owner, and look at no more of an answer than they need. They end
// the program where something fails.
#pragma once

#include <hiredis/hiredis.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <idem/detail/bytes.hpp>
#include <idem/detail/endian.hpp>
#include <idem/detail/redis/answers.hpp>
#include <idem/detail/redis/record.hpp>
#include <idem/detail/redis/scripts.hpp>
#include <idem/idempotent.hpp>
#include <idem/redis_store.hpp>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

#include "caller.hpp"
#include "invoice.hpp"

namespace bench {

// idem

inline auto make_guard(idem::RedisStore& store) {
  return idem::idempotent<"create_invoice">(create_invoice, store);
}

/// Through the guard, as a program would: key, SHA-256, owner, encoding and decoding are part of the time.
class IdemPeer : public Peer {
 public:
  explicit IdemPeer(std::uint16_t port) : IdemPeer(options(port)) {}
  explicit IdemPeer(const idem::RedisOptions& options) : store_(options), guard_(make_guard(store_)) {
    const idem::Reply opened = store_.open();
    if (opened.answer != idem::Answer::ok) give_up("idem", opened.message.c_str());
  }

  std::unique_ptr<Caller> caller() override { return std::make_unique<Thread>(guard_); }

 private:
  using Guard = decltype(make_guard(std::declval<idem::RedisStore&>()));

  struct Thread : Caller {
    explicit Thread(const Guard& shared) : guard(shared) {}
    Invoice pair(int user_id, double amount) override { return guard(user_id, amount); }
    Invoice duplicate(int user_id, double amount) override { return guard(user_id, amount); }
    const Guard& guard;
  };

  static idem::RedisOptions options(std::uint16_t port) {
    idem::RedisOptions options;
    options.port = port;
    return options;
  }

  idem::RedisStore store_;
  Guard guard_;
};

// hiredis

class Words {
 public:
  Words& operator<<(std::string_view word) {
    data_[count_] = word.data();
    sizes_[count_++] = word.size();
    return *this;
  }

 private:
  friend class Connection;
  static constexpr std::size_t most = 12;
  const char* data_[most] = {};
  std::size_t sizes_[most] = {};
  std::size_t count_ = 0;
};

/// Not for several threads at once.
class Connection {
 public:
  struct Free {
    void operator()(redisReply* reply) const { ::freeReplyObject(reply); }
  };
  using Answer = std::unique_ptr<redisReply, Free>;

  explicit Connection(std::uint16_t port) : context_(::redisConnect("127.0.0.1", port)) {
    require(context_ != nullptr, "hiredis");
    if (context_->err != 0) give_up("hiredis", context_->errstr);
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection() { ::redisFree(context_); }

  Answer call(Words& words) {
    Answer answer(static_cast<redisReply*>(
        ::redisCommandArgv(context_, static_cast<int>(words.count_), words.data_, words.sizes_)));
    if (answer == nullptr) give_up("hiredis", context_->errstr);
    if (answer->type == REDIS_REPLY_ERROR) give_up("the server", answer->str);
    return answer;
  }

 private:
  redisContext* context_;
};

/// One that all threads take turns at.
struct SharedConnection {
  explicit SharedConnection(std::uint16_t port) : connection(port) {}
  Connection::Answer call(Words& words) {
    const std::lock_guard<std::mutex> lock(mutex);
    return connection.call(words);
  }
  std::mutex mutex;
  Connection connection;
};

inline std::string_view text_of(const redisReply& reply) {
  return {reply.str, reply.len};
}

/// The scripts that idem calls, with the arguments that idem gives them.
template <class Link>
class ScriptCaller : public Caller {
 public:
  explicit ScriptCaller(std::unique_ptr<Link> own, Link* shared)
      : own_(std::move(own)), link_(shared != nullptr ? *shared : *own_) {}

  Invoice pair(int user_id, double amount) override {
    const idem::Ownership owner{owner_of(user_id), claim(user_id)};
    const Invoice invoice = create_invoice(user_id, amount);
    complete(user_id, owner, invoice);
    return invoice;
  }

  Invoice duplicate(int user_id, double) override {
    const auto answer = call_claim(user_id);
    const std::string_view record = record_of(*answer, idem::Answer::completed, "not completed");
    Invoice invoice = {};
    std::memcpy(&invoice, record.data() + record.size() - sizeof invoice, sizeof invoice);
    return invoice;
  }

  /// The epoch.
  std::uint64_t claim(int user_id) {
    const auto answer = call_claim(user_id);
    const std::string_view record = record_of(*answer, idem::Answer::acquired, "not acquired");
    return idem::detail::load_le64(reinterpret_cast<const std::uint8_t*>(record.data()) +
                                   idem::detail::redis::value_at::epoch);
  }

  void complete(int user_id, const idem::Ownership& owner, const Invoice& invoice) {
    namespace redis = idem::detail::redis;
    const redis::OwnerBytes bytes(owner);
    idem::Source source;
    source.kind = idem::PayloadKind::value;
    source.data = reinterpret_cast<const std::uint8_t*>(&invoice);
    source.size = sizeof invoice;
    const redis::Outcome outcome(digest_of(user_id), owner.token, idem::State::completed, source, 1 << 20);
    const std::string key = key_of(user_id);
    Words words;
    words << "EVALSHA" << scripts().finish.name() << "1" << key << "" << bytes.all() << outcome.state()
          << outcome.kind() << ttl << outcome.sizes() << outcome.payload() << ttl_millis;
    const auto answer = link_.call(words);
    record_of(*answer, idem::Answer::ok, "not recorded");
  }

  static idem::OwnerToken owner_of(int user_id) { return {static_cast<std::uint64_t>(user_id) + 1, 1}; }

  static const idem::detail::redis::Scripts& scripts() {
    static const idem::detail::redis::Scripts all(true);
    return all;
  }
  static void load(Connection& connection) {
    for (const auto* const script : {&scripts().claim, &scripts().finish}) {
      Words words;
      words << "SCRIPT"
            << "LOAD" << script->text;
      connection.call(words);
    }
  }

 private:
  static constexpr std::string_view lease = "30000000";   // microseconds
  static constexpr std::string_view ttl = "86400000000";  // likewise
  static constexpr std::string_view ttl_millis = "86400001";

  /// What stands behind the answer's number.
  static std::string_view record_of(const redisReply& reply, idem::Answer wanted, const char* otherwise) {
    const std::string_view text = text_of(reply);
    if (text.empty() || text[0] != static_cast<char>(wanted)) give_up("scripts", otherwise);
    return text.substr(1);
  }

  static std::string key_of(int user_id) {
    char text[80];
    std::snprintf(text, sizeof text, "bare:%064x", static_cast<unsigned>(user_id));
    return text;
  }
  static idem::Digest digest_of(int user_id) {
    idem::Digest digest = {};
    idem::detail::store_le32(digest.bytes, static_cast<std::uint32_t>(user_id));
    return digest;
  }

  Connection::Answer call_claim(int user_id) {
    namespace redis = idem::detail::redis;
    const std::string key = key_of(user_id);
    std::uint8_t head[redis::first_part];
    idem::detail::Bytes tail;
    idem::ClaimRequest request;
    request.owner = owner_of(user_id);
    redis::write_claim(head, tail, {}, "create_invoice", 1, request);
    Words words;
    words << "EVALSHA" << scripts().claim.name() << "1" << key << ""
          << std::string_view(reinterpret_cast<const char*>(head), sizeof head) << redis::view(tail) << lease << ""
          << ""
          << ""
          << "";
    return link_.call(words);
  }

  std::unique_ptr<Link> own_;
  Link& link_;
};

class ConnectionsPeer : public Peer {
 public:
  explicit ConnectionsPeer(std::uint16_t port) : port_(port) {
    Connection connection(port);
    ScriptCaller<Connection>::load(connection);
  }
  std::unique_ptr<Caller> caller() override {
    return std::make_unique<ScriptCaller<Connection>>(std::make_unique<Connection>(port_), nullptr);
  }

 private:
  std::uint16_t port_;
};

class MutexPeer : public Peer {
 public:
  explicit MutexPeer(std::uint16_t port) : shared_(port) { ScriptCaller<Connection>::load(shared_.connection); }
  std::unique_ptr<Caller> caller() override {
    return std::make_unique<ScriptCaller<SharedConnection>>(nullptr, &shared_);
  }

 private:
  SharedConnection shared_;
};

/// For orientation: what programs do that guard calls by hand. Who comes too late overwrites another's outcome, and a
/// claim whose owner died lapses, so that the call is repeated.
class SetPeer : public Peer {
 public:
  explicit SetPeer(std::uint16_t port) : port_(port) {}
  std::unique_ptr<Caller> caller() override { return std::make_unique<Thread>(port_); }

  struct Thread : Caller {
    explicit Thread(std::uint16_t port) : connection(port) {}
    Invoice pair(int user_id, double amount) override {
      const std::string key = key_of(user_id);
      claim(key);
      const Invoice invoice = create_invoice(user_id, amount);
      complete(key, invoice);
      return invoice;
    }
    Invoice duplicate(int user_id, double) override {
      const std::string key = key_of(user_id);
      Words words;
      words << "SET" << key << token << "NX"
            << "GET"
            << "PX"
            << "30000";
      const auto answer = connection.call(words);
      Invoice invoice = {};
      if (answer->type != REDIS_REPLY_STRING || text_of(*answer).size() != sizeof invoice) give_up("SET", "no result");
      std::memcpy(&invoice, answer->str, sizeof invoice);
      return invoice;
    }
    void claim(const std::string& key) {
      Words words;
      words << "SET" << key << token << "NX"
            << "PX"
            << "30000";
      if (connection.call(words)->type != REDIS_REPLY_STATUS) give_up("SET", "not set");
    }
    void complete(const std::string& key, const Invoice& invoice) {
      Words words;
      words << "SET" << key << std::string_view(reinterpret_cast<const char*>(&invoice), sizeof invoice) << "PX"
            << "86400000";
      connection.call(words);
    }
    static std::string key_of(int user_id) {
      char text[80];
      std::snprintf(text, sizeof text, "set:%064x", static_cast<unsigned>(user_id));
      return text;
    }
    static constexpr std::string_view token = "0123456789abcdef0123456789abcdef";
    Connection connection;
  };

 private:
  std::uint16_t port_;
};

}  // namespace bench
