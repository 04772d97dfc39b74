// Built without exceptions, without RTTI and without both.
#include "all_headers.hpp"
#include "use.hpp"

int main() { return second_call_is_replayed() ? 0 : 1; }
