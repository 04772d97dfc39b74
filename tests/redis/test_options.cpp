// Where a RedisStore's server is, as URLs say it.
#include <idem/redis_options.hpp>

#include <doctest/doctest.h>

#include <stdexcept>
#include <string>

namespace {

using idem::RedisOptions;

std::string refusal(const std::string& url) {
  try {
    static_cast<void>(RedisOptions::from_url(url));
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return {};
}

}  // namespace

TEST_CASE("a redis URL says where the server is, who asks, and which database is meant") {
  const RedisOptions all = RedisOptions::from_url("redis://shop:se%20cr%25et@redis.example:6380/3");
  CHECK(all.username == "shop");
  CHECK(all.password == "se cr%et");
  CHECK(all.host == "redis.example");
  CHECK(all.port == 6380);
  CHECK(all.database == 3);
  CHECK(all.unix_socket.empty());
  CHECK_FALSE(all.tls);

  const RedisOptions none = RedisOptions::from_url("redis://");
  CHECK(none.host == "127.0.0.1");
  CHECK(none.port == 6379);
  CHECK(none.database == 0);
  CHECK(none.username.empty());
  CHECK(none.prefix == "idem:");

  CHECK(RedisOptions::from_url("redis://host/").database == 0);
  CHECK(RedisOptions::from_url("rediss://host").tls);
  CHECK(RedisOptions::from_url("redis://:only@host").password == "only");
  CHECK(RedisOptions::from_url("redis://:only@host").username.empty());
  CHECK(RedisOptions::from_url("redis://user@host").username == "user");
  CHECK(RedisOptions::from_url("redis://user@host").password.empty());
  CHECK(RedisOptions::from_url("redis://[::1]").host == "::1");
  CHECK(RedisOptions::from_url("redis://a:b@[fe80::1]:1/2").port == 1);
}

TEST_CASE("a password in a URL may hold what nobody encoded") {
  const RedisOptions options = RedisOptions::from_url("redis://me:p@ss:w@rd@host:1");
  CHECK(options.username == "me");
  CHECK(options.password == "p@ss:w@rd");
  CHECK(options.host == "host");
}

TEST_CASE("a URL may name a unix socket, with a user and a database") {
  CHECK(RedisOptions::from_url("unix:///run/redis.sock").unix_socket == "/run/redis.sock");
  CHECK(RedisOptions::from_url("redis+unix:///run/redis.sock").unix_socket == "/run/redis.sock");
  const RedisOptions options = RedisOptions::from_url("unix:///run/a%20b%3F?db=7");
  CHECK(options.unix_socket == "/run/a b?");
  CHECK(options.database == 7);
  const RedisOptions user = RedisOptions::from_url("unix://me:p%40ss@/run/redis.sock?db=1");
  CHECK(user.unix_socket == "/run/redis.sock");
  CHECK(user.username == "me");
  CHECK(user.password == "p@ss");
}

TEST_CASE("RFT-01: strict() of what a URL says keeps what it says, and is like any other options") {
  RedisOptions options = RedisOptions::from_url("redis://shop:secret@redis.example:6380/3").strict();
  CHECK(options.unsafe_server == idem::UnsafeServer::refuse);
  CHECK(options.host == "redis.example");
  CHECK(options.port == 6380);
  CHECK(options.database == 3);
  CHECK(options.username == "shop");
  CHECK(options.password == "secret");
  const auto lax = RedisOptions::from_url("redis://redis.example");
  CHECK(lax.unsafe_server == idem::UnsafeServer::warn);
  CHECK(lax.strict().host == "redis.example");
  options = lax;
  CHECK(options.port == 6379);
  CHECK(RedisOptions::strict().host == "127.0.0.1");
  CHECK(RedisOptions::strict().unsafe_server == idem::UnsafeServer::refuse);
  const RedisOptions designated{.host = "other", .unsafe_server = idem::UnsafeServer::refuse};
  CHECK(designated.host == "other");
}

TEST_CASE("SEC-06: a URL that can't be meant is refused, in words that hold nothing of it") {
  for (const char* const url : {
           "",
           "s3cr3t",
           "http://me:s3cr3t@host",
           "REDIS://me:s3cr3t@host",
           "redis:/me:s3cr3t@host",
           "redis://me:s3cr3t@host:65536",
           "redis://me:s3cr3t@host:0",
           "redis://me:s3cr3t@host:-1",
           "redis://me:s3cr3t@host:+1",
           "redis://me:s3cr3t@host: 1",
           "redis://me:s3cr3t@host:1x",
           "redis://me:s3cr3t@host:99999999999999999999",
           "redis://me:s3cr3t@host/-1",
           "redis://me:s3cr3t@host/one",
           "redis://me:s3cr3t@host/99999999999",
           "redis://me:s3cr3t@host/1/2",
           "redis://me:s3cr3t@host?db=1",
           "redis://me:s3cr3t@host#1",
           "redis://me:s3/cr3t@host",
           "redis://me:s3?s3cr3t@host",
           "redis://me:s3cr3t%@host",
           "redis://me:s3cr3t%1@host",
           "redis://me:s3cr3t%zz@host",
           "redis://me:s3cr3t%-1@host",
           "redis://me:s3cr3t@[::1",
           "redis://me:s3cr3t@[::1]1",
           "redis://me:s3cr3t@[]",
           // A host or a path would end there for the system, and not for who reads the URL.
           "redis://me:s3cr3t@good%00.s3cr3t",
           "unix:///run/good%00s3cr3t",
           "unix://",
           "unix://?db=1",
           "unix://s3cr3t",
           "unix://me:s3cr3t@",
           "unix://me:s3cr3t@run/redis.sock",
           "unix:///run/redis.sock?db=s3cr3t",
           "unix:///run/redis.sock?password=s3cr3t",
       }) {
    CAPTURE(url);
    const std::string words = refusal(url);
    CHECK(words.substr(0, 6) == "idem: ");
    CHECK(words.find("s3") == std::string::npos);
  }
}
