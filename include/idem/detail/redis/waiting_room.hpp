// Who waits for which run to end, and who of them looks after the record.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/random.hpp>
#include <idem/detail/redis/digest_hash.hpp>
#include <idem/detail/redis/errands.hpp>
#include <idem/detail/sha256.hpp>

#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <unordered_map>

IDEM_BEGIN_NAMESPACE
namespace detail::redis {

/// Waiting apart from threads, the clock and the connection. All who wait for one run share an entry; one of them, the
/// leader, looks at the record now and then, and the others only sleep, so that ten thousand cost the server as much as
/// one. A message about the key, or a look that finds a change, wakes all of the entry, which is forgotten at that
/// moment: who comes back to wait once more begins a new one.
///
/// Not thread-safe: whoever has it calls with a lock, and waiters sleep with that lock. Times are those of
/// boot_micros().
class WaitingRoom {
 public:
  struct Entry;
  struct Topic;

  /// One who waits; lives on the stack.
  struct Waiter {
    Entry* entry = nullptr;
    Waiter* before = nullptr;
    Waiter* after = nullptr;
    std::condition_variable wake = {};
  };

  struct Step {
    enum class Kind : std::uint8_t {
      over = 1,  ///< The record may have changed, or it's too late.
      look = 2,  ///< Ask what the record is like, and call `looked`.
      sleep = 3
    };
    Kind kind = Kind::over;
    std::int64_t until = 0;  ///< Of sleep.
  };

  WaitingRoom() noexcept {
    if (!random_bytes(&random_, sizeof random_)) random_ = 0;
    random_ |= 1;
  }
  WaitingRoom(const WaitingRoom&) = delete;
  WaitingRoom& operator=(const WaitingRoom&) = delete;

  /// False where there is no memory, and then nobody waits.
  bool enter(Waiter& waiter, const Digest& key, std::uint64_t epoch, std::int64_t now) noexcept {
    Topic* topic = nullptr;
    IDEM_TRY {
      topic = &topics_.try_emplace(key).first->second;
      topic->key = key;
      Entry* entry = topic->entries;
      while (entry != nullptr && entry->epoch != epoch) entry = entry->next;
      if (entry == nullptr) {
        entry = new Entry;
        entry->topic = topic;
        entry->epoch = epoch;
        entry->next = topic->entries;
        topic->entries = entry;
        // What happens before the subscription is confirmed is told to nobody, so that the first look comes after it.
        entry->next_look = topic->confirmed() ? now : now + brief_pause();
      }
      waiter.entry = entry;
    }
    IDEM_CATCH_ALL {
      if (topic != nullptr) drop_if_idle(*topic);
      return false;
    }
    waiter.before = waiter.entry->last;
    waiter.after = nullptr;  // it may have been in another entry's list before
    (waiter.before != nullptr ? waiter.before->after : waiter.entry->first) = &waiter;
    waiter.entry->last = &waiter;
    ++waiting_;
    update(*topic);
    return true;
  }

  /// REQUIRES: it has entered.
  void leave(Waiter& waiter) noexcept {
    Entry& entry = *waiter.entry;
    --waiting_;
    (waiter.before != nullptr ? waiter.before->after : entry.first) = waiter.after;
    (waiter.after != nullptr ? waiter.after->before : entry.last) = waiter.before;
    waiter.entry = nullptr;
    if (entry.leader == &waiter) entry.leader = nullptr;
    if (entry.first != nullptr) {
      // The role passes on to one who may sleep for long; also where one who was woken for it leaves without taking it.
      if (entry.leader == nullptr && entry.topic != nullptr) entry.first->wake.notify_one();
      return;
    }
    if (entry.topic != nullptr) detach(entry);
    delete &entry;
  }

  /// What a waiter is to do. REQUIRES: it has entered.
  Step step(Waiter& waiter, std::int64_t now, std::int64_t deadline) noexcept {
    Entry& entry = *waiter.entry;
    if (entry.topic == nullptr || now >= deadline) return {Step::Kind::over, 0};
    if (entry.leader == nullptr) entry.leader = &waiter;
    if (entry.leader != &waiter) return {Step::Kind::sleep, deadline};
    if (entry.next_look > now) return {Step::Kind::sleep, (std::min)(deadline, entry.next_look)};
    entry.next_look = never_yet;
    return {Step::Kind::look, 0};
  }

  /// What the leader has found.
  void looked(Waiter& waiter, const Look& found, std::int64_t now) noexcept {
    Entry& entry = *waiter.entry;
    if (entry.topic == nullptr) return;
    if (found.result == Look::Result::changed) return over(entry);
    // Confirmed while the look was under way: it may have come too early.
    if (entry.next_look != never_yet) return;
    std::int64_t pause = brief_pause();
    if (found.result == Look::Result::running) {
      if (entry.topic->confirmed()) pause = jittered(2'000'000, 2'000'000);
      // In this order, since a lease without an end has all the time that can be counted left.
      pause = (std::min)(pause - after_lease, (std::max)(found.lease_left, std::int64_t{0})) + after_lease;
    }
    entry.next_look = now + pause;
  }

  /// A message: whatever ran with this key has ended.
  void changed(const Digest& key) noexcept {
    const auto at = topics_.find(key);
    if (at == topics_.end()) return;
    // The topic goes with its last entry, unless the server knows it.
    for (Entry* entry = at->second.entries; entry != nullptr;) {
      Entry* const next = entry->next;
      over(*entry);
      entry = next;
    }
  }

  /// The server has confirmed one SUBSCRIBE.
  void subscribed(const Digest& key, std::int64_t now) noexcept {
    const auto at = topics_.find(key);
    if (at == topics_.end() || at->second.unconfirmed == 0) return;
    Topic& topic = at->second;
    if (--topic.unconfirmed != 0 || !topic.asked) return drop_if_idle(topic);
    for (Entry* entry = topic.entries; entry != nullptr; entry = entry->next) look_at(*entry, now);
  }

  /// The connection is gone, and what was told meanwhile with it: everybody looks again, though not at one moment.
  void link_lost(std::int64_t now) noexcept {
    for (auto at = topics_.begin(); at != topics_.end();) {
      Topic& topic = at->second;
      ++at;  // the topic may go
      topic.asked = false;
      topic.unconfirmed = 0;
      for (Entry* entry = topic.entries; entry != nullptr; entry = entry->next) {
        look_at(*entry, now + jittered(0, 200'000));
      }
      update(topic);
    }
  }

  /// Something is to be sent: take_request gives it.
  bool has_requests() const noexcept { return pending_ != nullptr; }
  bool has_topics() const noexcept { return !topics_.empty(); }
  /// How many have entered and not left.
  std::size_t waiting() const noexcept { return waiting_; }

  /// What is to be said to the server next; false where that is nothing.
  bool take_request(Digest& key, bool& subscribe) noexcept {
    while (pending_ != nullptr) {
      Topic& topic = *pending_;
      pending_ = topic.next_pending;
      topic.pending = false;
      const bool wanted = topic.entries != nullptr;
      if (wanted == topic.asked) {
        drop_if_idle(topic);
        continue;
      }
      key = topic.key;
      subscribe = wanted;
      topic.asked = wanted;
      if (wanted) ++topic.unconfirmed;
      drop_if_idle(topic);
      return true;
    }
    return false;
  }

  struct Entry {
    Topic* topic = nullptr;  // none once the record may have changed
    std::uint64_t epoch = 0;
    std::int64_t next_look = 0;
    Waiter* leader = nullptr;
    Waiter* first = nullptr;
    Waiter* last = nullptr;
    Entry* next = nullptr;  // of the topic
  };

  /// A key that is waited for, or that the server has still to be told of.
  struct Topic {
    Digest key = {};
    Entry* entries = nullptr;
    bool asked = false;           // the last thing said was SUBSCRIBE
    std::size_t unconfirmed = 0;  // SUBSCRIBEs without an answer
    bool pending = false;
    Topic* next_pending = nullptr;

    bool confirmed() const noexcept { return asked && unconfirmed == 0; }
  };

 private:
  // Microseconds.
  static constexpr std::int64_t after_lease = 5'000;
  static constexpr std::int64_t never_yet = (std::numeric_limits<std::int64_t>::max)();

  /// While messages can't be counted on.
  std::int64_t brief_pause() noexcept { return jittered(200'000, 800'000); }

  std::int64_t jittered(std::int64_t least, std::int64_t more) noexcept {
    random_ ^= random_ << 13;  // xorshift64, by George Marsaglia
    random_ ^= random_ >> 7;
    random_ ^= random_ << 17;
    return least + static_cast<std::int64_t>(random_ % static_cast<std::uint64_t>(more));
  }

  void look_at(Entry& entry, std::int64_t at) noexcept {
    entry.next_look = at;
    Waiter* const leader = entry.leader != nullptr ? entry.leader : entry.first;
    if (leader != nullptr) leader->wake.notify_one();
  }

  /// Wakes all, and forgets the entry; the last one who leaves deletes it.
  void over(Entry& entry) noexcept {
    detach(entry);
    for (Waiter* waiter = entry.first; waiter != nullptr; waiter = waiter->after) waiter->wake.notify_one();
  }

  void detach(Entry& entry) noexcept {
    Topic& topic = *entry.topic;
    Entry** link = &topic.entries;
    while (*link != &entry) link = &(*link)->next;
    *link = entry.next;
    entry.topic = nullptr;
    update(topic);
  }

  /// The server has to be told, or the topic goes.
  void update(Topic& topic) noexcept {
    if ((topic.entries != nullptr) == topic.asked || topic.pending) return drop_if_idle(topic);
    topic.pending = true;
    topic.next_pending = pending_;
    pending_ = &topic;
  }

  void drop_if_idle(Topic& topic) noexcept {
    if (topic.entries == nullptr && !topic.asked && topic.unconfirmed == 0 && !topic.pending) {
      const Digest key = topic.key;
      topics_.erase(key);
    }
  }

  std::unordered_map<Digest, Topic, DigestHash> topics_;
  Topic* pending_ = nullptr;
  std::size_t waiting_ = 0;
  std::uint64_t random_ = 1;
};

}  // namespace detail::redis
IDEM_END_NAMESPACE
