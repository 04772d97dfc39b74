// expect: the callable can't be called with these arguments
// Of a callable with many signatures only the call itself shows that none fits.
#include <idem/idempotent.hpp>

#include <string>

struct Overloaded {
  int operator()(int value) const { return value; }
  int operator()(const std::string& value) const { return static_cast<int>(value.size()); }
};

int main() {
  auto once = idem::idempotent<"overloaded">(Overloaded{});
#ifdef IDEM_CORRECTED
  static_cast<void>(once(1));
#else
  static_cast<void>(once(1, 2));
#endif
}
