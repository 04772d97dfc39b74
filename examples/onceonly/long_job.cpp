// A job that the service runs: started once under its key, waited for by whoever asks.
#include <idem/onceonly/client.hpp>

#include <chrono>
#include <cstdio>
#include <exception>
#include <future>

namespace onceonly = idem::onceonly;
using namespace std::chrono_literals;
using onceonly::Json;

int main() {
  try {
    const onceonly::Client client;
    const onceonly::RunAndWaitOptions options{.ttl = 60s,
                                              .metadata = Json{{"report", "march"}, {"job_ms", 300}},
                                              .run_id = "run_9",
                                              .timeout = 30s,
                                              .poll_min = 50ms,
                                              .poll_max = 200ms};
    // Two callers, one job: the second one attaches to the first one's.
    std::future<onceonly::AiResult> first = client.ai.run_and_wait_async("report:march", options);
    std::future<onceonly::AiResult> second = client.ai.run_and_wait_async("report:march", options);
    const onceonly::AiResult a = first.get();
    const onceonly::AiResult b = second.get();
    std::printf("first:  %s %s\n", a.status.c_str(), a.result.value_or(Json()).dump().c_str());
    std::printf("second: %s %s\n", b.status.c_str(), b.result.value_or(Json()).dump().c_str());
    std::printf("paid for: %s\n", client.usage("ai").dump().c_str());
    return a.ok && b.ok && a.result == b.result ? 0 : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
