// What a user of idem's store in Redis writes first, as far as it goes without a server.
#include <idem/idem.hpp>
#include <idem/redis_store.hpp>

#include <chrono>
#include <cstdio>

int main() {
  using namespace std::chrono_literals;
  idem::RedisStore store({.unix_socket = "there-is-no-server", .timeout = 10ms});
  auto charge_once = idem::idempotent<"charge">([](int id) { return id; }, store);
  const auto outcome = charge_once.try_call(1);
  std::printf("%s\n", outcome.error().message.c_str());
  return outcome.verdict() == idem::Verdict::unavailable ? 0 : 1;
}
