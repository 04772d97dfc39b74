// KEY-06, KEY-09: what can't say which call is meant is refused with its own sentence, however deep it stands.
// expect [const int*]: a raw pointer can't be part of a key
// expect [std::vector<void*>]: a raw pointer can't be part of a key
// expect [std::reference_wrapper<int>]: a reference_wrapper can't be part of a key
// expect [int (*)(int)]: a function pointer or member pointer can't be part of a key
// expect [int Plain::*]: a function pointer or member pointer can't be part of a key
// expect [Callable]: a function object or lambda can't be part of a key
// expect [std::wstring]: a string of wchar_t, char16_t or char32_t can't be part of a key
// expect [std::u16string_view]: a string of wchar_t, char16_t or char32_t can't be part of a key
// expect [long double]: long double can't be part of a key
// expect [std::chrono::steady_clock::time_point]: a time of steady_clock can't be part of a key
// expect [std::chrono::duration<double>]: a duration that counts in floating point can't be part of a key
// expect [Derived]: a struct with base classes can't be taken apart by itself
// expect [Either]: a union can't be part of a key
// expect [Closed]: this type can't be part of a key yet
// expect [std::optional<Closed>]: this type can't be part of a key yet
#include <idem/codec.hpp>

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

struct Plain {
  int id;
  std::string name;
};
struct Callable {
  int operator()(int i) const { return i; }
};
struct Derived : Plain {
  int more;
};
union Either {
  int a;
  float b;
};
class Closed {
 public:
  explicit Closed(int id) : id_(id) {}
  int id() const { return id_; }

 private:
  int id_;
};

#ifdef IDEM_CORRECTED
using Part = std::vector<std::optional<Plain>>;
#else
using Part = IDEM_CASE;
#endif

int main() {
  idem::detail::require_key_part<Part>();
}
