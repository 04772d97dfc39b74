// The same small use of idem for programs that differ in how they are built.
#pragma once

#include <idem/idem.hpp>

struct Receipt {
  int id;
  double amount;
};

inline int charged = 0;

inline Receipt charge(int id, double amount) {
  ++charged;
  return Receipt{id, amount};
}

// True if of two equal calls the first ran and the second was answered from the record. Without exceptions, so that it
// builds with -fno-exceptions too.
inline bool second_call_is_replayed() {
  charged = 0;
  auto charge_once = idem::idempotent<"charge">(charge, {.ttl = std::chrono::minutes{5}});
  const auto first = charge_once.try_call(7, 12.5);
  const auto again = charge_once.try_call(7, 12.5);
  return charged == 1 && first.verdict() == idem::Verdict::executed && again.verdict() == idem::Verdict::replayed &&
         again.has_value() && again.value().id == 7;
}
