// KEY-07: a name that another compiler, file or version would spell differently names no call.
// expect(g++) [twice<int>]: an instance of a template is spelled differently by different compilers
// expect [&Box<int>::open]: an instance of a template is spelled differently by different compilers
// expect [hidden]: a function in an anonymous namespace shares its name with others
// expect [&Hidden::open]: a function in an anonymous namespace shares its name with others
// expect [[](int value) { return value; }]: a lambda or function object has no name of its own
// expect [Doubled{}]: a lambda or function object has no name of its own
#include <idem/idempotent.hpp>

template <class T>
T twice(T value) {
  return value + value;
}
template <class T>
struct Box {
  static T open(T value) { return value; }
};
struct Doubled {
  int operator()(int value) const { return 2 * value; }
};
namespace {
int hidden(int value) {
  return value;
}
struct Hidden {
  static int open(int value) { return value; }
};
}  // namespace

int main() {
#ifdef IDEM_CORRECTED
  static_cast<void>(idem::idempotent<"twice">(twice<int>)(1));
  static_cast<void>(idem::idempotent<"open">(&Box<int>::open)(1));
  static_cast<void>(idem::idempotent<"hidden">(hidden)(1));
  static_cast<void>(idem::idempotent<"hidden.open">(&Hidden::open)(1));
  static_cast<void>(idem::idempotent<"doubled">(Doubled{})(1));
#else
  auto once = idem::idempotent<IDEM_CASE>();
  static_cast<void>(once(1));
#endif
}
