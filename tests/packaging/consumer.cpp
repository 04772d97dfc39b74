// What a user of idem writes first; built by each of the projects beside this file.
#include <idem/idem.hpp>

#include <cstdio>

namespace shop {
struct Receipt {
  int id;
  double amount;
};
int charged = 0;
Receipt charge(int id, double amount) {
  ++charged;
  return Receipt{id, amount};
}
}  // namespace shop

int main() {
  auto charge_once = idem::idempotent<shop::charge>({.ttl = std::chrono::minutes{5}});
  charge_once(1, 9.5);
  const shop::Receipt again = charge_once(1, 9.5);
  std::printf("charged %d time(s), receipt %d\n", shop::charged, again.id);
  return shop::charged == 1 && again.id == 1 ? 0 : 1;
}
