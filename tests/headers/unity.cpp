// Both translation units of two_units as one, as a unity build would have them.
#include "two_units_a.cpp"
#include "two_units_b.cpp"
