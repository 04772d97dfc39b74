// What an operation that can't be done, or that finds a finished record, answers.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/file/core.hpp>
#include <idem/detail/file/journal.hpp>
#include <idem/detail/file/os.hpp>
#include <idem/payload.hpp>
#include <idem/protocol.hpp>
#include <idem/store.hpp>

#include <cerrno>
#include <cstdint>
#include <string>
#include <string_view>

IDEM_BEGIN_NAMESPACE
namespace detail::file {

/// What `act` says; that there is no memory where it throws.
template <class Act>
Problem attempt(Act act) {
  IDEM_TRY {
    return act();
  }
  IDEM_CATCH_UNWIND
  IDEM_CATCH_ALL {
    return {"there is no memory"};
  }
}

inline void refuse(Reply& reply, Answer answer, std::string_view why) {
  reply.answer = answer;
  reply.payload = {};
  IDEM_TRY {
    reply.message = why;
  }
  IDEM_CATCH_UNWIND
  IDEM_CATCH_ALL {}
}

inline void refuse(Reply& reply, const Problem& problem, const FileCore& core) {
  reply.answer = Answer::unavailable;
  reply.payload = {};
  IDEM_TRY {
    reply.message = describe(problem, core.settings.path);
    const std::int64_t holder = problem.what == held_too_long ? core.lock.kept_out_by() : 0;
    if (holder != 0) reply.message += "; it is process " + std::to_string(holder);
  }
  IDEM_CATCH_UNWIND
  IDEM_CATCH_ALL {}
}

inline void fill(Reply& reply, const protocol::Transition& seen, const Found& found) {
  reply.answer = seen.answer;
  reply.record = seen.next;
  if (seen.answer != Answer::completed && seen.answer != Answer::failed) return;
  reply.payload = Payload(found.stored.kind, found.stored.payload, found.stored.payload_size).detach();
}

/// Nobody knows whether the key is among what was lost.
inline void refuse_damaged(Reply& reply, const FileCore& core) {
  IDEM_TRY {
    reply.answer = Answer::corrupt;
    reply.message = describe({"is damaged, and what became of this key may be among what is lost; see verify(), then "
                              "restore a backup or call repair(); the damage is at offset ",
                              0, journal_name},
                             core.settings.path) +
                    std::to_string(core.state.damage.offset);
  }
  IDEM_CATCH_UNWIND
  IDEM_CATCH_ALL {}
}

inline bool is_full(const Problem& problem) noexcept {
  return problem.error == ENOSPC || problem.error == EDQUOT || problem.error == EFBIG || problem.error == 0;
}

}  // namespace detail::file
IDEM_END_NAMESPACE
