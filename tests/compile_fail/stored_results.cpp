// SER-07, T-56: a result that would dangle or come back as something else is refused with its own sentence.
// expect [int&]: a reference can't be a stored result
// expect [const char*]: a raw pointer can't be a stored result
// expect [std::string_view]: a view dangles; return std::string
// expect [std::span<const int>]: a view dangles; return std::string
// expect [std::vector<std::string_view>]: a view dangles; return std::string
// expect [std::reference_wrapper<int>]: a reference_wrapper can't be a stored result
// expect [Callable]: a function, lambda or function object can't be a stored result
// expect [long double]: wide strings and long double can't be a stored result
// expect [std::chrono::steady_clock::time_point]: of the clocks only system_clock's times can be a stored result
// expect [Closed]: this type can't be a stored result yet
#include <idem/codec.hpp>

#include <chrono>
#include <functional>
#include <memory>
#include <span>
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
class Closed {
 public:
  explicit Closed(int id) : id_(id) {}
  int id() const { return id_; }

 private:
  int id_;
};

#ifdef IDEM_CORRECTED
using Result = std::vector<std::unique_ptr<Plain>>;
#else
using Result = IDEM_CASE;
#endif

int main() {
  idem::detail::require_storable<Result>();
}
