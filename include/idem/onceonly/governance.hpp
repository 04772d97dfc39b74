// client.gov: what agents may do, the tools they do it with, and what they did.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/onceonly/calls.hpp>
#include <idem/onceonly/governance_results.hpp>
#include <idem/onceonly/impl/answer.hpp>
#include <idem/onceonly/impl/session.hpp>
#include <idem/onceonly/json.hpp>

#include <cstdint>
#include <future>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

IDEM_BEGIN_NAMESPACE
namespace onceonly {

/// Thread safety: every member from any thread. Errors: see ClientCalls.
class GovernanceCalls : public impl::Calls {
 public:
  using Calls::Calls;

  /// Sets an agent's policy. The agent is `agent_id`, or the policy's own where that is left out.
  Policy upsert_policy(const Json& policy, const std::optional<std::string>& agent_id = {}) const {
    if (!policy.is_object()) idem::detail::raise(std::invalid_argument("idem: a policy has to be an object"));
    std::string agent = agent_id.value_or("");
    if (agent.empty()) agent = impl::text_of(policy, "agent_id").value_or("");
    if (agent.empty()) idem::detail::raise(std::invalid_argument("idem: upsert_policy needs an agent_id"));
    Json body = policy;
    body["agent_id"] = agent;
    Json answer = post("/policies/" + segment(agent), body);
    return impl::read_policy(std::move(answer), agent, &body);
  }
  std::future<Policy> upsert_policy_async(Json policy, std::optional<std::string> agent_id = {}) const {
    return on_thread(*this, [policy = std::move(policy), agent_id = std::move(agent_id)](const GovernanceCalls& self) {
      return self.upsert_policy(policy, agent_id);
    });
  }

  /// Templates: strict, moderate, permissive, read_only, support_bot.
  Policy policy_from_template(const std::string& agent_id, const std::string& template_name,
                              const std::optional<Json>& overrides = {}) const {
    Json body{{"agent_id", agent_id}, {"template", template_name}};
    body["overrides"] = overrides.value_or(Json::object());
    Json answer = post("/policies/" + segment(agent_id) + "/from-template", body);
    return impl::read_policy(std::move(answer), agent_id, &body);
  }
  std::future<Policy> policy_from_template_async(std::string agent_id, std::string template_name,
                                                 std::optional<Json> overrides = {}) const {
    return on_thread(*this, [agent_id = std::move(agent_id), template_name = std::move(template_name),
                             overrides = std::move(overrides)](const GovernanceCalls& self) {
      return self.policy_from_template(agent_id, template_name, overrides);
    });
  }

  std::vector<Policy> list_policies() const {
    std::vector<Policy> policies;
    for (Json& one : impl::list_in(get("/policies")))
      policies.push_back(impl::read_policy(std::move(one), "", nullptr));
    return policies;
  }
  std::future<std::vector<Policy>> list_policies_async() const {
    return on_thread(*this, [](const GovernanceCalls& self) { return self.list_policies(); });
  }

  Policy get_policy(const std::string& agent_id) const {
    return impl::read_policy(get("/policies/" + segment(agent_id)), agent_id, nullptr);
  }
  std::future<Policy> get_policy_async(std::string agent_id) const {
    return on_thread(
        *this, [agent_id = std::move(agent_id)](const GovernanceCalls& self) { return self.get_policy(agent_id); });
  }

  /// `tool`: name, url, auth {type: "hmac_sha256", secret} and what else the service knows. The secret reaches no
  /// error's text.
  Json create_tool(const Json& tool) const {
    impl::Call call = impl::post_call("/tools", tool);
    call.secrets = secrets_in(tool);
    return session().call(call);
  }
  std::future<Json> create_tool_async(Json tool) const {
    return on_thread(*this, [tool = std::move(tool)](const GovernanceCalls& self) { return self.create_tool(tool); });
  }

  std::vector<Json> list_tools(const std::string& scope = "global") const {
    const Json list = impl::list_in(get("/tools", {{"scope_id", scope}}));
    return std::vector<Json>(list.begin(), list.end());
  }
  std::future<std::vector<Json>> list_tools_async(std::string scope = "global") const {
    return on_thread(*this, [scope = std::move(scope)](const GovernanceCalls& self) { return self.list_tools(scope); });
  }

  Json get_tool(const std::string& name, const std::string& scope = "global") const {
    return get(tool_path(name), {{"scope_id", scope}});
  }
  std::future<Json> get_tool_async(std::string name, std::string scope = "global") const {
    return on_thread(*this, [name = std::move(name), scope = std::move(scope)](const GovernanceCalls& self) {
      return self.get_tool(name, scope);
    });
  }

  Json toggle_tool(const std::string& name, bool enabled, const std::string& scope = "global") const {
    impl::Call call = impl::post_call(tool_path(name) + "/toggle", Json{{"enabled", enabled}});
    call.query = {{"scope_id", scope}};
    return session().call(call);
  }
  std::future<Json> toggle_tool_async(std::string name, bool enabled, std::string scope = "global") const {
    return on_thread(*this, [name = std::move(name), enabled, scope = std::move(scope)](const GovernanceCalls& self) {
      return self.toggle_tool(name, enabled, scope);
    });
  }

  Json delete_tool(const std::string& name, const std::string& scope = "global") const {
    impl::Call call = impl::get_call(tool_path(name), {{"scope_id", scope}});
    call.method = "DELETE";
    return session().call(call);
  }
  std::future<Json> delete_tool_async(std::string name, std::string scope = "global") const {
    return on_thread(*this, [name = std::move(name), scope = std::move(scope)](const GovernanceCalls& self) {
      return self.delete_tool(name, scope);
    });
  }

  /// The kill switch: none of the agent's tools is called any more.
  AgentStatus disable_agent(const std::string& agent_id, const std::string& reason = "") const {
    return switch_agent(agent_id, "/disable", reason);
  }
  std::future<AgentStatus> disable_agent_async(std::string agent_id, std::string reason = "") const {
    return on_thread(*this, [agent_id = std::move(agent_id), reason = std::move(reason)](const GovernanceCalls& self) {
      return self.disable_agent(agent_id, reason);
    });
  }
  AgentStatus enable_agent(const std::string& agent_id, const std::string& reason = "") const {
    return switch_agent(agent_id, "/enable", reason);
  }
  std::future<AgentStatus> enable_agent_async(std::string agent_id, std::string reason = "") const {
    return on_thread(*this, [agent_id = std::move(agent_id), reason = std::move(reason)](const GovernanceCalls& self) {
      return self.enable_agent(agent_id, reason);
    });
  }

  std::vector<AgentLogItem> agent_logs(const std::string& agent_id, std::int64_t limit = 100) const {
    std::vector<AgentLogItem> items;
    for (Json& one : impl::list_in(get(agent_path(agent_id) + "/logs", {{"limit", std::to_string(limit)}}))) {
      if (one.is_object()) items.push_back(impl::read_log_item(std::move(one), agent_id));
    }
    return items;
  }
  std::future<std::vector<AgentLogItem>> agent_logs_async(std::string agent_id, std::int64_t limit = 100) const {
    return on_thread(*this, [agent_id = std::move(agent_id), limit](const GovernanceCalls& self) {
      return self.agent_logs(agent_id, limit);
    });
  }

  /// `period`: hour, day or week.
  AgentMetrics agent_metrics(const std::string& agent_id, const std::string& period = "day") const {
    return impl::read_agent_metrics(get(agent_path(agent_id) + "/metrics", {{"period", period}}), agent_id, period);
  }
  std::future<AgentMetrics> agent_metrics_async(std::string agent_id, std::string period = "day") const {
    return on_thread(*this, [agent_id = std::move(agent_id), period = std::move(period)](const GovernanceCalls& self) {
      return self.agent_metrics(agent_id, period);
    });
  }

 private:
  static std::string segment(const std::string& agent_id) { return impl::path_segment(agent_id, "an agent's id"); }
  static std::string agent_path(const std::string& agent_id) { return "/agents/" + segment(agent_id); }
  static std::string tool_path(const std::string& name) {
    return "/tools/" + impl::path_segment(name, "a tool's name");
  }

  /// Every text in `auth` but its type.
  static std::vector<std::string> secrets_in(const Json& tool) {
    std::vector<std::string> secrets;
    const Json* auth = impl::member_of(tool, "auth");
    if (auth == nullptr || !auth->is_object()) return secrets;
    for (const auto& member : auth->items()) {
      if (member.key() != "type" && member.value().is_string())
        secrets.push_back(member.value().get_ref<const std::string&>());
    }
    return secrets;
  }

  AgentStatus switch_agent(const std::string& agent_id, const char* how, const std::string& reason) const {
    Json body = Json::object();
    if (!reason.empty()) body["reason"] = reason;
    return impl::read_agent_status(post(agent_path(agent_id) + how, std::move(body)), agent_id);
  }
};

}  // namespace onceonly
IDEM_END_NAMESPACE
