// How a transition of the protocol is carried out on a record of the memory store.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/memory_core.hpp>
#include <idem/detail/memory_entry.hpp>
#include <idem/detail/memory_reclaim.hpp>
#include <idem/detail/memory_table.hpp>
#include <idem/duration.hpp>
#include <idem/key.hpp>
#include <idem/payload.hpp>
#include <idem/protocol.hpp>
#include <idem/store.hpp>

#include <atomic>
#include <cstdint>
#include <string_view>

IDEM_BEGIN_NAMESPACE
namespace detail {

inline constexpr const char* no_memory_for_record = "there is no memory for the record";

/// A payload's end: the reader that it was for counts itself out.
inline void leave_memory(void* count, const Payload&) noexcept {
  Readers::leave(*static_cast<Readers::Count*>(count));
}

/// False, for the caller's convenience. A message for which there is no memory is left out.
inline bool answer_unavailable(Reply& reply, std::string_view message) {
  reply.answer = Answer::unavailable;
  IDEM_TRY {
    reply.message = message;
  }
  IDEM_CATCH_UNWIND
  IDEM_CATCH_ALL {}
  return false;
}

/// A key's shard under its lock, and how a transition is carried out there.
struct MemoryScene {
  MemoryCore& core;
  MemoryShard& shard;
  std::uint32_t hash;
  TimePoint now;
  MemoryShard::Found found;

  const Record* record() const noexcept { return found.entry != nullptr ? &found.entry->record : nullptr; }

  /// Writes a record that has no new payload.
  void write(const Record& next) noexcept {
    found.entry->record = next;
    changed();
  }
  void changed() noexcept {
    found.entry->wake_waiters();
    if (found.entry->record.state != State::in_progress) shard.publish(*found.entry);
  }

  /// False where the store is full, and then nothing has changed. There are no leases, since the process proves that
  /// its threads live.
  bool claim(Reply& answer, const Key& key, const ClaimRequest& request) {
    const protocol::ClaimRuling ruling = protocol::judge_claim(record(), request, now, false, shard.last_epoch + 1);
    answer.answer = ruling.answer;
    if (ruling.change != protocol::Change::write) {
      if (record() != nullptr) answer.record = *record();
      if (ruling.answer == Answer::completed || ruling.answer == Answer::failed) tell_payload(answer);
      if (ruling.answer == Answer::unavailable) {
        answer_unavailable(answer, "the claim has no owner, or the epochs are used up");
      }
      return true;
    }
    if (!ruling.anew) {
      answer.record = *record();
      protocol::acquire(found.entry->record, ruling, request, forever, now);
      changed();
    } else if (bool full = false; !insert(key, ruling, request, answer, full)) {
      return !full;
    }
    // Worked out twice rather than copied: what has just been written piece by piece can't be copied before each piece
    // has left the processor's store buffer.
    protocol::acquire(answer.record, ruling, request, forever, now);
    shard.last_epoch = ruling.epoch;
    return true;
  }

  /// A new record: of a key that had none, or only one that has expired. On failure nothing has changed.
  bool insert(const Key& key, const protocol::ClaimRuling& ruling, const ClaimRequest& request, Reply& answer,
              bool& full) {
    // Sweeping may have taken the expired record.
    if (shard.sweep_some(now)) found = shard.find(hash, key.bytes());
    const bool replaces = found.entry != nullptr;
    if (!replaces && !shard.make_place()) return answer_unavailable(answer, no_memory_for_record);
    MemoryEntry* const entry = MemoryEntry::make(key.bytes());
    if (entry == nullptr) return answer_unavailable(answer, no_memory_for_record);
    const bool known = shard.use_domain(*entry, KeyBuilder::domain(key));
    if (!known || (!replaces && !core.admit(shard))) {
      full = known;
      if (known) shard.undo_domain(*entry);
      MemoryEntry::free(entry);
      return answer_unavailable(answer, no_memory_for_record);
    }
    protocol::acquire(entry->record, ruling, request, forever, now);
    if (entry->record.state != State::in_progress) shard.publish(*entry);
    if (replaces) {
      shard.replace(found, entry);
    } else {
      shard.link(hash, entry);
    }
    return true;
  }

  /// Records an outcome.
  void finish(Reply& answer, const FinishRequest& request, State state, KeptSource& source) noexcept {
    const protocol::Ruling ruling = protocol::judge_finish(record(), request.owner, state);
    answer.answer = ruling.answer;
    // Copied before it is changed, and both changed alike: copying what has just been written piece by piece waits
    // until each piece has left the processor's store buffer.
    if (record() != nullptr) answer.record = *record();
    if (ruling.change == protocol::Change::write) {
      protocol::finish_at(answer.record, state, now, request.ttl);
      protocol::finish_at(found.entry->record, state, now, request.ttl);
      found.entry->keep(source);
      changed();
    }
    if (ruling.answer == Answer::ok) answer.payload = Payload(found.entry->kind, nullptr, nullptr);
  }

  void resolve(Reply& answer, const protocol::Transition& change, KeptSource& source) noexcept {
    if (change.change == protocol::Change::write) found.entry->keep(source);
    tell(answer, change);
    if (change.answer == Answer::ok) answer.payload = Payload(found.entry->kind, nullptr, nullptr);
  }

  // Not inlined: a transition that is taken apart into registers is put together again piece by piece.
  IDEM_NOINLINE void tell(Reply& answer, const protocol::Transition& change) noexcept {
    answer.answer = change.answer;
    answer.record = change.next;
    if (change.change == protocol::Change::write) {
      write(change.next);
    } else if (change.change == protocol::Change::erase) {
      shard.unlink(found);
    } else if (change.answer == Answer::completed || change.answer == Answer::failed) {
      tell_payload(answer);
    }
  }
  void tell_payload(Reply& answer) noexcept {
    if (found.entry == nullptr || !found.entry->published.load(std::memory_order_relaxed)) return;
    answer.payload = found.entry->payload();
    answer.payload.hold(&core.readers.enter(), &leave_memory);
  }
};

}  // namespace detail
IDEM_END_NAMESPACE
