// A side effect of one's own, at most once on all machines: by run_fn, and by a guard whose store is the service.
#include <idem/idem.hpp>
#include <idem/onceonly/client.hpp>
#include <idem/onceonly/remote_store.hpp>

#include <chrono>
#include <cstdio>
#include <exception>
#include <string>

namespace onceonly = idem::onceonly;
using namespace std::chrono_literals;
using onceonly::Json;

int main() {
  try {
    const onceonly::Client client;
    int sent = 0;
    const auto send = [&sent](const std::string& to) {
      ++sent;
      std::printf("mail to %s\n", to.c_str());
      return Json{{"message_id", "m_" + std::to_string(sent)}};
    };

    // The lease is extended while the function runs; everybody gets the first one's result.
    for (int i = 0; i < 2; ++i) {
      const onceonly::AiResult result = client.ai.run_fn("mail:ann", [&] { return send("ann"); }, {.ttl = 300s});
      std::printf("run_fn: %s %s\n", result.status.c_str(), result.result.value_or(Json()).dump().c_str());
    }

    // The same as a guard, with idem's options: what a crash in between means is told, not guessed.
    onceonly::RemoteStore store{client};
    auto send_once = idem::idempotent<"mail.send">([&](const std::string& to) { return send(to).dump(); }, {.ttl = 24h}, store);
    for (int i = 0; i < 2; ++i) {
      const idem::Outcome<std::string> outcome = send_once.try_call("bob");
      std::printf("guard: %.*s %s\n", static_cast<int>(idem::name_of(outcome.verdict()).size()),
                  idem::name_of(outcome.verdict()).data(), outcome.value().c_str());
    }
    return sent == 2 ? 0 : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
