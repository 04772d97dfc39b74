// The work that every guard of the benchmarks guards.
#pragma once

#include <cstdint>
#include <string>

namespace bench {

struct Invoice {
  int id;
  double amount;
};

/// How often create_invoice ran on this thread. A count per thread, because one shared by all would make the threads of
/// the first calls wait for each other inside the function.
inline constinit thread_local std::uint64_t runs = 0;

inline Invoice create_invoice(int user_id, double amount) {
  ++runs;
  return Invoice{user_id + 1, amount};
}

/// The key as programs build it that have no library for it. `to_string` keeps six decimals, so it would take two
/// amounts that differ less for one call; idem's key does not.
inline std::string text_key(int user_id, double amount) {
  return "create_invoice:" + std::to_string(user_id) + ":" + std::to_string(amount);
}

}  // namespace bench
