// What the memory benchmark measures idem against.
#pragma once

#include <tbb/concurrent_hash_map.h>

#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>

#include "invoice.hpp"

namespace bench {

/// The guard people write by hand: look up under the lock, run outside of it, insert under it. Two callers that meet
/// both run the function. It neither expires nor bounds what it keeps.
///
/// Thread safety: calls may come from many threads.
class HandwrittenGuard {
 public:
  Invoice operator()(int user_id, double amount) {
    std::string key = text_key(user_id, amount);
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      const auto found = results_.find(key);
      if (found != results_.end()) {
        return found->second;
      }
    }
    const Invoice invoice = create_invoice(user_id, amount);
    const std::lock_guard<std::mutex> lock(mutex_);
    return results_.emplace(std::move(key), invoice).first->second;
  }

 private:
  std::mutex mutex_;
  std::unordered_map<std::string, Invoice> results_;
};

/// The same over oneTBB's concurrent_hash_map: duplicates share an element's lock, and a first call holds it alone
/// while the function runs, so that callers that meet run it once. It neither expires nor bounds what it keeps, and a
/// function that throws would leave an empty result behind.
///
/// Thread safety: calls may come from many threads.
class TbbGuard {
 public:
  Invoice operator()(int user_id, double amount) {
    std::string key = text_key(user_id, amount);
    {
      Results::const_accessor found;
      if (results_.find(found, key)) {
        return found->second;
      }
    }
    Results::accessor result;
    if (results_.emplace(result, std::move(key), Invoice{})) {
      result->second = create_invoice(user_id, amount);
    }
    return result->second;
  }

 private:
  using Results = tbb::concurrent_hash_map<std::string, Invoice>;
  Results results_;
};

}  // namespace bench
