// expect: a struct can be taken apart by itself when it has up to 32 fields
// A larger one is never cut short in silence.
#include <idem/idempotent.hpp>

#include <tuple>

struct Wide {
  int a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16, a17, a18, a19, a20, a21, a22, a23, a24,
      a25, a26, a27, a28, a29, a30, a31, a32, a33;
#ifdef IDEM_CORRECTED
  friend auto idem_fields(auto& self) {
    return std::tie(self.a1, self.a33);
  }
#endif
};

int main() {
  auto once = idem::idempotent<"wide">([](const Wide& wide) { return wide.a33; });
  static_cast<void>(once(Wide{}));
}
