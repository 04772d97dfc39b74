// expect: a view dangles
// T-56: a view would outlive what it looks at; refused on every store.
#include <idem/idempotent.hpp>

#include <string>
#include <string_view>

#ifdef IDEM_CORRECTED
using Result = std::string;
#else
using Result = std::string_view;
#endif

int main() {
  auto greet_once = idem::idempotent<"greet">([](int) { return Result{"hello"}; });
  static_cast<void>(greet_once(1));
}
