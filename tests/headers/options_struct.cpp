// A designated initialiser that names one field draws no warning: every field has a default.
#include <idem/file_store.hpp>
#include <idem/idem.hpp>
#include <idem/redis_options.hpp>

#include "use.hpp"

int main() {
  using namespace std::chrono_literals;
  const idem::Options by_ttl{.ttl = 1min};
  const idem::Options by_scope{.scope = "tenant"};
  const idem::MemoryStoreOptions store{.max_entries = 10};
  const idem::FileStoreOptions files{.durability = idem::Durability::process};
  const idem::RedisOptions redis{.host = "db"};
  const idem::ClaimOptions claim{.ttl = 1min};
  const idem::KeySpec key{.name = "webhook"};
  static_cast<void>(claim);
  static_cast<void>(redis);
  static_cast<void>(files);
  return by_ttl.version == 1 && by_scope.scope == "tenant" && store.max_entries == 10 && !std::string{key.name}.empty()
             ? 0
             : 1;
}
