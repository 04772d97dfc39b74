// A webhook that is delivered more than once: check-lock lets one delivery through.
#include <idem/onceonly/client.hpp>

#include <chrono>
#include <cstdio>
#include <exception>
#include <string>

namespace onceonly = idem::onceonly;
using namespace std::chrono_literals;

int main() {
  try {
    const onceonly::Client client;  // ONCEONLY_API_KEY and ONCEONLY_BASE_URL
    const std::string deliveries[] = {"evt_1", "evt_2", "evt_1", "evt_3", "evt_2", "evt_1"};
    int handled = 0;
    for (const std::string& id : deliveries) {
      const onceonly::CheckLockResult lock =
          client.check_lock("webhook:" + id, {.ttl = 24h, .metadata = onceonly::Json{{"source", "shop"}}});
      if (lock.should_proceed()) {
        ++handled;
        // With fail_open, the default, a service that can't be reached lets everything through, and says so here.
        std::printf("%s: handled%s\n", id.c_str(), lock.failed_open() ? ", without a lock" : "");
      } else {
        std::printf("%s: a duplicate, first seen before\n", id.c_str());
      }
    }
    std::printf("%d of %zu deliveries were handled\n", handled, std::size(deliveries));
    return handled == 3 ? 0 : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
