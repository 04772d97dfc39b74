// Whether all servers that hold records can be used.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/redis/command.hpp>
#include <idem/detail/redis/nodes.hpp>
#include <idem/detail/redis/reason.hpp>
#include <idem/detail/redis/reply_tree.hpp>
#include <idem/detail/redis/request.hpp>
#include <idem/detail/redis/runner.hpp>

#include <cstdint>
#include <string_view>

IDEM_BEGIN_NAMESPACE
namespace detail::redis {

/// Connects to each of them, where that hasn't been done, and asks it. False, with the reason, where one can't be used.
/// A user who may not ask can use it all the same. May throw std::bad_alloc.
inline bool reach_all(Runner& runner, std::int64_t until, Reason& why) {
  why = Reason("no server is known");
  bool whole = false;
  for (const NodeRef& node : runner.nodes().all(until, whole, why)) {
    Request request;
    Command(request.command, 1).arg("PING");
    if (runner.ask(*node, request, until) != Sent::answered) {
      why = request.why;
      return false;
    }
    const ReplyNode said = request.reply.root();
    if (said.type == ReplyType::error && said.text.substr(0, 6) != "NOPERM") {
      why = Reason(said.text);
      return false;
    }
  }
  return whole;
}

}  // namespace detail::redis
IDEM_END_NAMESPACE
