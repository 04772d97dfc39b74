#include "use.hpp"
#include "all_headers.hpp"

namespace two_units {
bool used_in_b();
bool used_in_b() { return second_call_is_replayed(); }
}  // namespace two_units
