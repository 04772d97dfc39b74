// The leases that a RemoteStore holds, and what it knows of keys that it left in doubt.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/detail/sha256.hpp>
#include <idem/duration.hpp>
#include <idem/onceonly/impl/digest_hash.hpp>
#include <idem/protocol.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

IDEM_BEGIN_NAMESPACE
namespace onceonly {
namespace impl {

/// One key. Its mutex is held for the whole of an operation, so that those of one key follow each other.
struct LeaseEntry {
  std::mutex mutex = {};
  Digest digest = {};
  std::string text = {};  ///< As the service knows the key.
  bool known = false;     ///< The rest says something.
  Record record = {};     ///< In progress. Abandoned: in doubt, whoever holds the lease.
  std::string lease_id = {};
  std::int64_t version = 0;     ///< Of the lease, as the service counts; 0 where it doesn't say.
  std::int64_t sure_until = 0;  ///< By boot_micros(): the service can't have ended the lease before.
  std::int64_t renew_at = 0;    ///< The same clock: when a keeper acts.
  Duration lease = {};
  bool watched = false;       ///< A keeper renews it.
  bool release_owed = false;  ///< A keeper gives it back.
  std::atomic<bool> in_hand{false};  ///< Without the mutex: a keeper is at it, or about to be.
};

/// Entries by digest, made when they're asked for and dropped when they say nothing.
/// Thread safety: every member from any thread.
class LeaseTable {
 public:
  /// An entry with its mutex held.
  class Locked {
   public:
    Locked(LeaseTable& table, std::shared_ptr<LeaseEntry> entry)
        : table_(table), entry_(std::move(entry)), lock_(entry_->mutex) {}
    /// Without it where somebody else has it.
    Locked(LeaseTable& table, std::shared_ptr<LeaseEntry> entry, std::try_to_lock_t)
        : table_(table), entry_(std::move(entry)), lock_(entry_->mutex, std::try_to_lock) {}
    Locked(const Locked&) = delete;
    Locked& operator=(const Locked&) = delete;
    ~Locked() {
      if (!lock_.owns_lock()) return;
      const bool useless = !entry_->known;
      lock_.unlock();
      if (useless) table_.drop(entry_);
    }
    explicit operator bool() const noexcept { return lock_.owns_lock(); }
    LeaseEntry& operator*() const noexcept { return *entry_; }
    LeaseEntry* operator->() const noexcept { return entry_.get(); }

   private:
    LeaseTable& table_;
    std::shared_ptr<LeaseEntry> entry_;
    std::unique_lock<std::mutex> lock_;
  };

  Locked lock(const Digest& digest, std::string text) {
    std::shared_ptr<LeaseEntry> entry;
    {
      const std::lock_guard lock(mutex_);
      std::shared_ptr<LeaseEntry>& found = entries_[digest];
      if (found == nullptr) {
        found = std::make_shared<LeaseEntry>();
        found->digest = digest;
        found->text = std::move(text);
      }
      entry = found;
    }
    return Locked(*this, std::move(entry));
  }
  Locked try_lock(const std::shared_ptr<LeaseEntry>& entry) { return Locked(*this, entry, std::try_to_lock); }

  std::vector<std::shared_ptr<LeaseEntry>> all() const {
    const std::lock_guard lock(mutex_);
    std::vector<std::shared_ptr<LeaseEntry>> entries;
    entries.reserve(entries_.size());
    for (const auto& [digest, entry] : entries_) entries.push_back(entry);
    return entries;
  }

  /// Drops what says nothing, and doubts whose last lease ended before `long_ago` of boot_micros(): the service knows
  /// them by itself.
  void sweep(std::int64_t long_ago) {
    const std::lock_guard lock(mutex_);
    for (auto at = entries_.begin(); at != entries_.end();) {
      // Copies are made under this mutex alone: where there is none, nobody else gets at it.
      const bool useless = at->second.use_count() == 1 && says_nothing(*at->second, long_ago);
      at = useless ? entries_.erase(at) : std::next(at);
    }
  }

 private:
  static bool says_nothing(LeaseEntry& entry, std::int64_t long_ago) {
    const std::unique_lock lock(entry.mutex, std::try_to_lock);
    if (!lock.owns_lock()) return false;
    const bool left = entry.record.abandoned && !entry.watched && !entry.release_owed;
    return !entry.known || (left && entry.sure_until < long_ago);
  }

  /// Unless somebody else has it: copies are made under this mutex alone.
  void drop(std::shared_ptr<LeaseEntry>& entry) {
    const std::lock_guard lock(mutex_);
    const auto found = entries_.find(entry->digest);
    const bool alone = found != entries_.end() && found->second == entry && entry.use_count() == 2;
    if (alone && says_nothing(*entry, 0)) entries_.erase(found);
    entry.reset();
  }

  mutable std::mutex mutex_;
  std::unordered_map<Digest, std::shared_ptr<LeaseEntry>, DigestHash> entries_;
};

}  // namespace impl
}  // namespace onceonly
IDEM_END_NAMESPACE
