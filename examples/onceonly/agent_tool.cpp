// An agent that may spend 10 dollars a day on one tool: its policy stops the third payment, not its own code.
#include <idem/onceonly/client.hpp>

#include <cstdio>
#include <exception>
#include <string>

namespace onceonly = idem::onceonly;
using onceonly::Json;

int main() {
  try {
    const onceonly::Client client;
    client.gov.upsert_policy(Json{{"agent_id", "billing"},
                                  {"max_actions_per_hour", 200},
                                  {"max_spend_usd_per_day", 10.0},
                                  {"allowed_tools", {"stripe.charge", "mail.send"}}});
    const auto charge = [&client](const char* invoice, const char* tool = "stripe.charge") {
      const onceonly::AiToolResult result = client.ai.run_tool(
          {.agent_id = "billing", .tool = tool, .args = Json{{"invoice", invoice}}, .spend_usd = 4.0, .run_id = "run_7"});
      std::printf("%s by %s: %s%s%s\n", invoice, tool, result.decision.c_str(), result.policy_reason ? ", " : "",
                  result.policy_reason.value_or("").c_str());
      return result.decision;
    };
    bool good = charge("in_1") == "executed";
    good = charge("in_1") == "dedup" && good;  // the agent tries again: nothing is charged twice
    good = charge("in_2") == "executed" && good;
    good = charge("in_3") == "blocked" && good;
    good = charge("in_4", "shell.exec") == "blocked" && good;
    client.gov.disable_agent("billing", "looking into in_4");
    good = charge("in_5") == "blocked" && good;

    const onceonly::AgentMetrics metrics = client.gov.agent_metrics("billing", "day");
    std::printf("%lld actions, %lld blocked, %.2f dollars spent\n", static_cast<long long>(metrics.total_actions),
                static_cast<long long>(metrics.blocked_actions), metrics.total_spend_usd);
    return good && metrics.blocked_actions == 3 ? 0 : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
