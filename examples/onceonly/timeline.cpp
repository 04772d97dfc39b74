// What happened in a run that failed: steps are told as events, and read back as a timeline.
#include <idem/onceonly/client.hpp>

#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string>

namespace onceonly = idem::onceonly;
using onceonly::Json;

int main() {
  try {
    const onceonly::Client client;
    const std::string run = "run_42";
    try {
      client.post_event({.run_id = run, .type = "step", .status = "ok", .step = "fetch", .data = Json{{"rows", 120}}});
      client.ai.run_tool({.agent_id = "reports", .tool = "pdf.render", .args = Json{{"rows", 120}}, .run_id = run});
      client.ai.run_fn("mail:" + run, []() -> Json { throw std::runtime_error("the mail server is away"); });
    } catch (const std::runtime_error& error) {
      client.post_event({.run_id = run, .type = "step", .status = "failed", .step = "mail", .message = error.what()});
    }

    const Json timeline = client.run_timeline(run);
    for (const Json& event : timeline.at("events")) {
      std::printf("%-5s %-10s %-9s %s\n", event.value("type", "").c_str(),
                  event.value("step", event.value("tool", "")).c_str(), event.value("status", "").c_str(),
                  event.value("message", "").c_str());
    }
    const onceonly::AiResult mail = client.ai.result("mail:" + run);
    std::printf("the run is %s; its mail: %s, %s\n", timeline.value("status", "").c_str(), mail.status.c_str(),
                mail.error_code.value_or("").c_str());
    return timeline.at("events").size() == 3 && mail.status == "failed" ? 0 : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
