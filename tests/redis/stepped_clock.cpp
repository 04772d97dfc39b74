// Loaded into a redis-server (LD_PRELOAD) so that a test can step its wall clock: the number of microseconds in the
// file that IDEM_STEPPED_CLOCK names is added to the time. libfaketime can't do this, since jemalloc asks for the time
// before libfaketime is ready. Called before anything is initialised, so that nothing here allocates or waits.
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <ctime>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

namespace {

/// The shared number; null until there is an environment to ask.
const std::atomic<std::int64_t>* offset() {
  static std::atomic<const std::atomic<std::int64_t>*> mapped{nullptr};
  const std::atomic<std::int64_t>* found = mapped.load();
  if (found != nullptr || environ == nullptr) return found;
  const char* const path = std::getenv("IDEM_STEPPED_CLOCK");
  if (path == nullptr) return nullptr;
  const int file = ::open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return nullptr;
  void* const memory = ::mmap(nullptr, sizeof(std::int64_t), PROT_READ, MAP_SHARED, file, 0);
  ::close(file);
  if (memory == MAP_FAILED) return nullptr;
  found = static_cast<const std::atomic<std::int64_t>*>(memory);
  mapped.store(found);
  return found;
}

int read_clock(clockid_t clock, timespec& time) {
  const long result = ::syscall(SYS_clock_gettime, clock, &time);
  if (result != 0 || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)) return static_cast<int>(result);
  const std::atomic<std::int64_t>* const stepped = offset();
  if (stepped == nullptr) return 0;
  const std::int64_t nanoseconds = time.tv_nsec + stepped->load() % 1'000'000 * 1000;
  time.tv_sec += stepped->load() / 1'000'000 + nanoseconds / 1'000'000'000;
  time.tv_nsec = nanoseconds % 1'000'000'000;
  if (time.tv_nsec < 0) {
    time.tv_nsec += 1'000'000'000;
    --time.tv_sec;
  }
  return 0;
}

}  // namespace

extern "C" {

int clock_gettime(clockid_t clock, timespec* time) noexcept {
  return read_clock(clock, *time);
}

int gettimeofday(timeval* __restrict time, void* __restrict) noexcept {
  timespec now = {};
  const int result = read_clock(CLOCK_REALTIME, now);
  time->tv_sec = now.tv_sec;
  time->tv_usec = now.tv_nsec / 1000;
  return result;
}

time_t time(time_t* to) noexcept {
  timespec now = {};
  read_clock(CLOCK_REALTIME, now);
  if (to != nullptr) *to = now.tv_sec;
  return now.tv_sec;
}

}  // extern "C"
