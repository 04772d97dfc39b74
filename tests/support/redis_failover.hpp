// What the tests of servers that act together share: how to find them, calls that are counted, and what came of a load.
#pragma once

#include "redis_groups.hpp"
#include "redis_load.hpp"

#include <idem/idempotent.hpp>
#include <idem/redis_store.hpp>

#include <atomic>
#include <chrono>
#include <string>
#include <utility>

namespace support {

/// With time for a failover.
inline idem::RedisOptions patient_options(std::string prefix) {
  idem::RedisOptions options;
  options.prefix = std::move(prefix);
  options.timeout = std::chrono::seconds(10);
  options.connect_timeout = std::chrono::milliseconds(300);
  return options;
}

inline idem::RedisOptions options_of(const RedisCluster& cluster, std::string prefix = "idem:") {
  idem::RedisOptions options = patient_options(std::move(prefix));
  options.cluster_nodes = cluster.addresses();
  return options;
}

inline idem::RedisOptions options_of(const SentinelGroup& group, std::string prefix = "idem:") {
  idem::RedisOptions options = patient_options(std::move(prefix));
  options.sentinels = group.sentinels();
  options.master_name = SentinelGroup::name;
  return options;
}

/// Calls of a function that counts its runs.
struct Counted {
  std::atomic<int> runs{0};
  auto guard(idem::RedisStore& store) {
    return idem::idempotent<"count">([this](int number) { return ++runs, number; }, store);
  }
};

/// For the log of a test.
inline std::string summary(const RedisLoad& load, const RedisLoad::Tally& tally) {
  const auto with = [](long count, const char* what) { return std::to_string(count) + what; };
  return with(tally.keys, " keys, ") + with(tally.repeated, " repeated, ") + with(tally.forgotten, " forgotten, ") +
         with(tally.unfinished, " in doubt, ") + with(tally.unavailable, " unavailable, longest gap ") +
         with(load.longest_gap(), " ms");
}

}  // namespace support
