#include <parent.hpp>

int main() {
  parent::charge_once(5);
  parent::charge_once(5);
  return parent::times_charged() == 1 ? 0 : 1;
}
