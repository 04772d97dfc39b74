// Waiting for a run that somebody else has begun, on any machine.
#pragma once

#include <idem/detail/background_thread.hpp>
#include <idem/detail/boot_clock.hpp>
#include <idem/detail/cancellation.hpp>
#include <idem/detail/chrono.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/fork_guard.hpp>
#include <idem/detail/process.hpp>
#include <idem/detail/random.hpp>
#include <idem/detail/redis/errands.hpp>
#include <idem/detail/redis/link_settings.hpp>
#include <idem/detail/redis/reason.hpp>
#include <idem/detail/redis/subscription.hpp>
#include <idem/detail/redis/waiting_room.hpp>
#include <idem/detail/sha256.hpp>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <mutex>
#include <string>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>  // pipe

IDEM_BEGIN_NAMESPACE
namespace detail::redis {

/// A pipe by which a thread that waits for a socket is woken.
class WakePipe {
 public:
  /// False where there is none to be had.
  bool open() noexcept {
    if (reader_.get() >= 0) return true;
    int ends[2] = {-1, -1};
    if (::pipe(ends) != 0) return false;
    for (const int end : ends) {
      ::fcntl(end, F_SETFD, FD_CLOEXEC);
      ::fcntl(end, F_SETFL, O_NONBLOCK);
    }
    // Who is to be closed in children is closed here, too, where that can't be arranged.
    const bool kept = reader_.set(ends[0]) == 0;
    return writer_.set(ends[1]) == 0 && kept;
  }
  int fd() const noexcept { return reader_.get(); }

  void wake() const noexcept {
    const NoCancellation shield;
    const int errno_before = errno;
    // A pipe that is full wakes as well.
    if (::write(writer_.get(), "", 1) < 0) errno = errno_before;
  }
  void drain() const noexcept {
    char buffer[64];
    while (::read(reader_.get(), buffer, sizeof buffer) > 0) {
    }
  }

 private:
  ForkClosed reader_;
  ForkClosed writer_;
};

/// Waiters sleep until a message on a second connection wakes them; one of each run's looks at the record now and then,
/// so that a lost message, a publisher that died and a connection that is down cost time only. The connection and its
/// thread are there from the first waiter on.
///
/// Times are those of boot_micros(). Thread safety: all functions from any number of threads, but for the destructor.
/// In a child of fork(3) it may be destroyed and nothing else.
template <LookingEngine Engine>
class Listener {
 public:
  /// REQUIRES: the engine outlives it. May throw std::bad_alloc.
  Listener(Engine& engine, LinkSettings settings, std::string prefix)
      : core_(new Core(engine, std::move(settings), std::move(prefix))) {}
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;
  /// REQUIRES: nobody waits.
  ~Listener() {
    // A child has no such thread, and whatever it held when the child was made is held there for ever.
    if (generation_ == process_generation()) delete core_;
  }

  /// Returns when the record may have changed from a running one with this epoch, or at the deadline. Changes nothing.
  /// A cancellation point.
  void wait(const Digest& key, std::uint64_t epoch, std::int64_t deadline) { core_->wait(key, epoch, deadline); }

  /// How many wait now.
  std::size_t waiting() const noexcept {
    const std::lock_guard lock(core_->mutex);
    return core_->room.waiting();
  }

 private:
  using Room = WaitingRoom;

  // Microseconds.
  static constexpr std::int64_t longest_nap = 60'000'000;
  static constexpr std::int64_t longest_look = 5'000'000;
  static constexpr std::int64_t shortest_pause = 20'000;
  static constexpr std::int64_t longest_pause = 1'000'000;
  static constexpr std::int64_t pause_when_refused = 30'000'000;

  struct Core {
    Core(Engine& with, LinkSettings settings, std::string prefix)
        : engine(with), subscription(std::move(settings), std::move(prefix)) {}
    Core(const Core&) = delete;
    Core& operator=(const Core&) = delete;
    ~Core() {
      {
        const std::lock_guard lock(mutex);
        stopping = true;
      }
      if (thread.there()) pipe.wake();
      thread.join();
    }

    /// In the room for as long as it lives, also where its thread is cancelled.
    class Waiting {
     public:
      explicit Waiting(Core& core) noexcept : core_(core) {}
      Waiting(const Waiting&) = delete;
      Waiting& operator=(const Waiting&) = delete;
      ~Waiting() {
        if (waiter.entry == nullptr) return;
        const std::lock_guard lock(core_.mutex);
        core_.room.leave(waiter);
        core_.send_requests();
      }

      Room::Waiter waiter;

     private:
      Core& core_;
    };

    void wait(const Digest& key, std::uint64_t epoch, std::int64_t deadline) {
      Waiting waiting(*this);
      Room::Waiter& waiter = waiting.waiter;
      std::unique_lock lock(mutex);
      if (!room.enter(waiter, key, epoch, boot_micros())) return;
      // Where there is no thread, looking alone has to do.
      if (!thread.there() && pipe.open()) {
        thread.start([](void* core) { static_cast<Core*>(core)->listen(); }, this);
      }
      send_requests();
      for (;;) {
        const std::int64_t now = boot_micros();
        const Room::Step step = room.step(waiter, now, deadline);
        if (step.kind == Room::Step::Kind::over) return;
        if (step.kind == Room::Step::Kind::look) {
          const NoCancellation shield;
          lock.unlock();
          const Look found = engine.look(key, epoch, (std::min)(deadline, now + longest_look));
          lock.lock();
          room.looked(waiter, found, boot_micros());
          send_requests();
          continue;
        }
        waiter.wake.wait_for(lock, std::chrono::microseconds((std::min)(step.until - now, longest_nap)));
      }
    }

    /// REQUIRES: the lock is held.
    void send_requests() noexcept {
      if (room.has_requests() && thread.there()) pipe.wake();
    }

    /// The thread's.
    void listen() noexcept {
      std::int64_t pause = shortest_pause;
      while (!is_over()) {
        if (!subscription.connected()) {
          if (!is_wanted()) {
            sleep(-1, forever);
            continue;
          }
          const Shaken shaken = connect();
          if (shaken != Shaken::good) {
            nap(shaken == Shaken::refused ? pause_when_refused : pause);
            pause = (std::min)(pause * 2, longest_pause);
            continue;
          }
        }
        const Subscription::Said::Kind end = converse(pause);
        subscription.close();
        {
          const std::lock_guard lock(mutex);
          room.link_lost(boot_micros());
        }
        if (end == Subscription::Said::Kind::nothing) return;
        nap(end == Subscription::Said::Kind::refused ? pause_when_refused : pause);
        pause = (std::min)(pause * 2, longest_pause);
      }
    }

    /// Until the connection is broken or refused; `nothing` when all is over.
    Subscription::Said::Kind converse(std::int64_t& pause) noexcept {
      using Kind = Subscription::Said::Kind;
      for (;;) {
        if (is_over()) return Kind::nothing;
        if (!ask() || !subscription.send() || boot_micros() >= subscription.patience()) return Kind::broken;
        sleep(subscription.fd(), subscription.patience());
        if (!subscription.receive()) return Kind::broken;
        for (;;) {
          const Subscription::Said said = subscription.next();
          if (said.kind == Kind::nothing) break;
          if (said.kind == Kind::broken || said.kind == Kind::refused) return said.kind;
          pause = shortest_pause;
          const std::lock_guard lock(mutex);
          if (said.kind == Kind::message) {
            room.changed(said.key);
          } else {
            room.subscribed(said.key, boot_micros());
          }
        }
      }
    }

    /// What waiters have asked for meanwhile. False where there is no memory for it.
    bool ask() noexcept {
      const std::lock_guard lock(mutex);
      Digest key;
      bool subscribe = false;
      IDEM_TRY {
        while (room.take_request(key, subscribe)) subscription.ask(key, subscribe);
      }
      IDEM_CATCH_ALL {
        return false;
      }
      return true;
    }

    Shaken connect() noexcept {
      IDEM_TRY {
        Reason why;
        return subscription.connect(why);
      }
      IDEM_CATCH_ALL {
        subscription.close();
        return Shaken::lost;
      }
    }

    /// For a while, unless all is over before. With a jitter, so that not all processes come back to a server at once.
    void nap(std::int64_t span) noexcept {
      std::uint32_t random = 0;
      static_cast<void>(random_bytes(&random, sizeof random));
      const std::int64_t until = boot_micros() + span / 2 + random % (span / 2);
      while (!is_over() && boot_micros() < until) sleep(-1, until);
    }

    /// Until the socket has something, the pipe was written to, or the time has come; at most for a minute.
    void sleep(int fd, std::int64_t until) noexcept {
      const std::int64_t left = (std::min)((std::max)(until - boot_micros(), std::int64_t{0}), longest_nap);
      pollfd asked[2] = {{pipe.fd(), POLLIN, 0}, {fd, POLLIN, 0}};
      if (subscription.has_more()) asked[1].events = POLLIN | POLLOUT;
      ::poll(asked, fd < 0 ? 1 : 2, static_cast<int>((left + 999) / 1000));
      if ((asked[0].revents & POLLIN) != 0) pipe.drain();
    }

    bool is_over() noexcept {
      const std::lock_guard lock(mutex);
      return stopping;
    }
    bool is_wanted() noexcept {
      const std::lock_guard lock(mutex);
      return room.has_topics();
    }

    static constexpr std::int64_t forever = (std::numeric_limits<std::int64_t>::max)();

    Engine& engine;
    std::mutex mutex;
    Room room;
    bool stopping = false;
    WakePipe pipe;
    BackgroundThread thread;
    Subscription subscription;  // the thread's own
  };

  Core* const core_;
  const std::uint64_t generation_ = process_generation();
};

}  // namespace detail::redis
IDEM_END_NAMESPACE
