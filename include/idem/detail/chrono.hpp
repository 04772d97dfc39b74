// The durations, clocks and literals of <chrono>.
//
// libstdc++ 12 to 14 keep them apart from the calendars and streams of <chrono>, in the header by which their own
// <mutex> and <condition_variable> have them; <chrono> would add a tenth to what including idem costs. Elsewhere it is
// <chrono>.
// Whoever writes dates or prints durations includes <chrono>, as always.
#pragma once

#include <idem/detail/config.hpp>

#if IDEM_SMALL_CHRONO
#include <bits/chrono.h>
#else
#include <chrono>
#endif
