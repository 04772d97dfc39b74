// <windows.h> and its like define short names as macros. The standard headers come first, for they need not stand that;
// idem's do.
#include "standard_headers.hpp"

#define min(a, b) (((a) < (b)) ? (a) : (b))
#define max(a, b) (((a) > (b)) ? (a) : (b))
#define near
#define far
#define small char
#define interface struct
#define IN
#define OUT
#define CONST const
#define VOID void
#define TRUE 1
#define FALSE 0
#define ERROR 0
#define NO_ERROR 0
#define DELETE 0x00010000L
#define IGNORE 0
#define INFINITE 0xFFFFFFFF
#define OPTIONAL
#define STRICT 1
#define ABSOLUTE 1
#define DIFFERENCE 11
#define DOMAIN 1
#define EVENT_MAX 1
#define GetObject GetObjectA
#define GetMessage GetMessageA
#define SendMessage SendMessageA
#define Yield()
// of <sys/sysmacros.h>, as old <sys/types.h> brought it in
#undef major
#undef minor
#define major(device) 0
#define minor(device) 0

#include "all_headers.hpp"
#include "use.hpp"

int main() {
  return second_call_is_replayed() ? 0 : 1;
}
