// What the calls of `client.gov` give.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/onceonly/json.hpp>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

IDEM_BEGIN_NAMESPACE
namespace onceonly {

/// What an agent may do.
struct Policy {
  std::string agent_id = {};
  Json policy = Json::object();
  std::optional<std::int64_t> max_actions_per_hour = {};
  std::optional<double> max_spend_usd_per_day = {};
  std::optional<std::vector<std::string>> allowed_tools = {};
  std::optional<std::vector<std::string>> blocked_tools = {};
  std::optional<std::map<std::string, std::int64_t>> max_calls_per_tool = {};
  std::optional<Json> pricing_rules = {};
  Json raw = Json::object();
};

struct AgentStatus {
  std::string agent_id = {};
  bool is_enabled = false;
  std::optional<std::string> disabled_reason = {};
  std::optional<std::string> disabled_at = {};
  Json raw = Json::object();
};

/// One action of an agent, as the audit log has it.
struct AgentLogItem {
  Json ts = nullptr;  ///< As the service writes it: a text or a number.
  std::string agent_id = {};
  std::optional<std::string> tool = {};
  bool allowed = true;
  std::string decision = {};
  std::string policy_reason = {};
  std::string reason = {};
  std::optional<std::string> args_hash = {};
  std::optional<std::string> risk_level = {};
  double spend_usd = 0;
  Json raw = Json::object();
};

struct AgentMetrics {
  std::string agent_id = {};
  std::string period = {};
  std::int64_t total_actions = 0;
  std::int64_t blocked_actions = 0;
  double total_spend_usd = 0;
  std::vector<Json> top_tools = {};
  Json raw = Json::object();
};

namespace impl {

inline std::optional<std::vector<std::string>> texts_of(const Json& object, const char* name) {
  const Json* list = member_of(object, name);
  if (list == nullptr || !list->is_array()) return std::nullopt;
  std::vector<std::string> texts;
  for (const Json& one : *list) {
    if (!one.is_string()) return std::nullopt;
    texts.push_back(one.get_ref<const std::string&>());
  }
  return texts;
}

inline std::optional<std::map<std::string, std::int64_t>> counts_of(const Json& object, const char* name) {
  const Json* members = member_of(object, name);
  if (members == nullptr || !members->is_object()) return std::nullopt;
  std::map<std::string, std::int64_t> counts;
  for (const auto& member : members->items()) {
    const std::optional<std::int64_t> count = integer_of(*members, member.key().c_str());
    if (!count.has_value()) return std::nullopt;
    counts[member.key()] = *count;
  }
  return counts;
}

/// The policy is the body's where that is an object, else what was sent, else the body.
inline Policy read_policy(Json raw, const std::string& agent_id, const Json* sent) {
  Policy read;
  read.agent_id = text_of(raw, "agent_id").value_or(agent_id);
  if (std::optional<Json> own = object_of(raw, "policy"); own.has_value()) {
    read.policy = std::move(*own);
  } else if (sent != nullptr) {
    read.policy = *sent;
  } else if (raw.is_object()) {
    read.policy = raw;
  }
  if (read.agent_id.empty()) read.agent_id = text_of(read.policy, "agent_id").value_or("");
  read.max_actions_per_hour = integer_of(read.policy, "max_actions_per_hour");
  read.max_spend_usd_per_day = number_of(read.policy, "max_spend_usd_per_day");
  read.allowed_tools = texts_of(read.policy, "allowed_tools");
  read.blocked_tools = texts_of(read.policy, "blocked_tools");
  read.max_calls_per_tool = counts_of(read.policy, "max_calls_per_tool");
  if (const Json* rules = member_of(read.policy, "pricing_rules"); rules != nullptr) read.pricing_rules = *rules;
  read.raw = std::move(raw);
  return read;
}

inline AgentStatus read_agent_status(Json raw, const std::string& agent_id) {
  AgentStatus read;
  read.agent_id = text_of(raw, "agent_id").value_or(agent_id);
  std::optional<bool> enabled = flag_of(raw, "is_enabled");
  if (!enabled.has_value()) enabled = flag_of(raw, "enabled");
  read.is_enabled = enabled.value_or(false);
  read.disabled_reason = text_of(raw, "disabled_reason");
  read.disabled_at = text_of(raw, "disabled_at");
  read.raw = std::move(raw);
  return read;
}

inline AgentLogItem read_log_item(Json raw, const std::string& agent_id) {
  AgentLogItem read;
  if (const Json* ts = member_of(raw, "ts"); ts != nullptr) read.ts = *ts;
  read.agent_id = text_of(raw, "agent_id").value_or(agent_id);
  read.tool = text_of(raw, "tool");
  read.allowed = flag_of(raw, "allowed").value_or(true);
  read.decision = text_of(raw, "decision").value_or("");
  if (read.decision.empty()) read.decision = read.allowed ? "allowed" : "blocked";
  const std::string reason = text_of(raw, "reason").value_or("");
  read.policy_reason = text_of(raw, "policy_reason").value_or("");
  if (read.policy_reason.empty()) read.policy_reason = reason;
  read.reason = reason.empty() ? read.policy_reason : reason;
  read.args_hash = text_of(raw, "args_hash");
  read.risk_level = text_of(raw, "risk_level");
  read.spend_usd = number_of(raw, "spend_usd").value_or(0);
  read.raw = std::move(raw);
  return read;
}

inline AgentMetrics read_agent_metrics(Json raw, const std::string& agent_id, const std::string& period) {
  AgentMetrics read;
  read.agent_id = text_of(raw, "agent_id").value_or(agent_id);
  read.period = text_of(raw, "period").value_or(period);
  read.total_actions = integer_of(raw, "total_actions").value_or(0);
  read.blocked_actions = integer_of(raw, "blocked_actions").value_or(0);
  read.total_spend_usd = number_of(raw, "total_spend_usd").value_or(0);
  if (const Json* tools = member_of(raw, "top_tools"); tools != nullptr && tools->is_array())
    read.top_tools.assign(tools->begin(), tools->end());
  read.raw = std::move(raw);
  return read;
}

}  // namespace impl
}  // namespace onceonly
IDEM_END_NAMESPACE
