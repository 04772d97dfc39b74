// The durations, clocks and literals of <chrono>.
//
// libstdc++ keeps them apart from the calendars and streams of <chrono>, in the header by which its own <mutex> and
// <condition_variable> have them; <chrono> would add a tenth to what including idem costs. Elsewhere it is <chrono>.
// Whoever writes dates or prints durations includes <chrono>, as always.
#pragma once

#include <idem/detail/config.hpp>

#if defined(__GLIBCXX__) && __has_include(<bits/chrono.h>)
#include <bits/chrono.h>
#else
#include <chrono>
#endif
