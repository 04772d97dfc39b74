// What a user of idem's store in Redis writes first, as far as it goes without a server.
#include <hiredis/read.h>
#include <idem/idem.hpp>

#include <cstdio>

int main() {
  redisReader* const reader = redisReaderCreateWithFunctions(nullptr);
  const bool made = reader != nullptr;
  redisReaderFree(reader);
  std::printf("%s\n", made ? "linked" : "no memory");
  return made ? 0 : 1;
}
