// HIR-17: where TLS is wanted and there is none, nothing is said.
#include "support/channel_support.hpp"
#include "support/loopback.hpp"

#include <idem/make_key.hpp>
#include <idem/redis_store.hpp>

#include <doctest/doctest.h>

#include <stdexcept>

using namespace channel_support;

TEST_CASE("HIR-17: a program without TLS that is to use it sends nothing, and every operation says why") {
  support::Listening server;
  idem::RedisOptions options;
  options.port = server.port();
  options.password = "s3cret";
  options.tls = true;
  idem::RedisStore store(options);
  const idem::Reply reply = store.find(idem::make_key("charge", 1));
  CHECK(reply.answer == idem::Answer::unavailable);
  CHECK(reply.message.find("without TLS") != std::string::npos);
  CHECK_FALSE(support::is_readable_within(server.fd(), 0));  // not even a connection was made
}

TEST_CASE("HIR-17: files for TLS without TLS are a mistake, and so is a key without its certificate") {
  idem::RedisOptions options;
  options.tls_ca_file = "authority.pem";
  CHECK_THROWS_AS(idem::RedisStore{options}, std::invalid_argument);
  options.tls = true;
  CHECK_NOTHROW(idem::RedisStore{options});
  options.tls_key_file = "client.key";
  CHECK_THROWS_AS(idem::RedisStore{options}, std::invalid_argument);
}
