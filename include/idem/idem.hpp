// Everything of idem that needs only the standard library and, for FileStore, POSIX.
//
// What idem does: a call that was made before with the same key isn't made again; its caller gets the stored result.
// What it doesn't promise: that an effect happens exactly once. A process that dies between the start of the function
// and the record of its outcome leaves a call whose effect is unknown; the next caller is told so.
#pragma once

#include <idem/any_store.hpp>
#include <idem/claim.hpp>
#include <idem/counters.hpp>
#if !defined(_WIN32)
#include <idem/file_store.hpp>
#endif
#include <idem/idempotent.hpp>
#include <idem/make_key.hpp>
#include <idem/memory_store.hpp>
