// The main function of the unit tests; every tests/test_*.cpp is linked to it.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>
