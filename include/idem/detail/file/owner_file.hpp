// By which others know, without any clock, whether a store object and its process still live.
#pragma once

#include <idem/detail/cancellation.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/file/fork_guard.hpp>
#include <idem/detail/file/id.hpp>
#include <idem/detail/file/os.hpp>
#include <idem/detail/random.hpp>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include <dirent.h>  // readdir
#include <fcntl.h>   // O_DIRECTORY
#include <unistd.h>  // unlinkat

IDEM_BEGIN_NAMESPACE
namespace detail::file {

namespace owner_impl {

inline constexpr char prefix[] = "owner.";
inline constexpr std::size_t prefix_size = sizeof prefix - 1;
inline constexpr std::size_t name_size = prefix_size + 32;

/// "owner." and 32 digits, in lower case so that no two names are one in directories that ignore case.
struct Name {
  char text[name_size + 1];

  explicit Name(const Id128& id) noexcept {
    constexpr char digits[] = "0123456789abcdef";
    std::memcpy(text, prefix, prefix_size);
    char* to = text + prefix_size;
    for (const std::uint8_t byte : id.bytes) {
      *to++ = digits[byte >> 4];
      *to++ = digits[byte & 15u];
    }
    *to = '\0';
  }
};

inline int digit_value(char digit) noexcept {
  if (digit >= '0' && digit <= '9') return digit - '0';
  if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
  return -1;
}

/// False where a file of this name is nobody's owner file.
inline bool parse(const char* name, Id128& out) noexcept {
  if (std::strlen(name) != name_size || std::memcmp(name, prefix, prefix_size) != 0) return false;
  for (std::size_t i = 0; i < sizeof out.bytes; ++i) {
    const int high = digit_value(name[prefix_size + 2 * i]);
    const int low = digit_value(name[prefix_size + 2 * i + 1]);
    if (high < 0 || low < 0) return false;
    out.bytes[i] = static_cast<std::uint8_t>(high * 16 + low);
  }
  return true;
}

/// Entries of a directory. Each has a position of its own, unlike copies of one descriptor.
class Entries {
 public:
  explicit Entries(int directory) noexcept {
    Fd own = open_at(directory, ".", O_RDONLY | O_DIRECTORY);
    if (!own) return;
    stream_ = ::fdopendir(own.get());
    if (stream_ != nullptr) own.release();
  }
  ~Entries() {
    if (stream_ != nullptr) ::closedir(stream_);
  }
  Entries(const Entries&) = delete;
  Entries& operator=(const Entries&) = delete;

  explicit operator bool() const noexcept { return stream_ != nullptr; }

  /// Null at the end, errno being zero then, or where it can't be read.
  const char* next() noexcept {
    errno = 0;
    // On machines of 32 bits the plain function fails at the first file whose inode number has more.
#if defined(__GLIBC__) && defined(__USE_LARGEFILE64)
    const auto* const entry = ::readdir64(stream_);
#else
    const auto* const entry = ::readdir(stream_);
#endif
    return entry == nullptr ? nullptr : entry->d_name;
  }

 private:
  DIR* stream_ = nullptr;
};

}  // namespace owner_impl

/// The file "owner.<32 hexadecimal digits>", empty and under an exclusive flock(2) for as long as the store object
/// lives. The name is random, so that no later process, however like the earlier one (the same host name, the same
/// process id in a container), is taken for it. Records in progress name the file.
///
/// Thread safety: `id` and `held` from any thread, the rest from one at a time.
class OwnerFile {
 public:
  OwnerFile() = default;
  OwnerFile(const OwnerFile&) = delete;
  OwnerFile& operator=(const OwnerFile&) = delete;

  /// REQUIRES: the store's lock is held, so that nobody sees the file before it is locked and takes its owner for dead.
  Problem create(int directory, bool group) noexcept {
    const NoCancellation shield;
    Id128 id;
    if (!random_bytes(id.bytes, sizeof id.bytes) || id.empty()) {
      return {"gets no name: the system has no random bytes", 0, known_file(owner_impl::prefix)};
    }
    const owner_impl::Name name(id);
    Fd file;
    if (Problem problem = open_file(directory, name.text, Creation::exclusive, group, file)) return problem;
    Problem problem;
    const Locked locked = try_lock(file.get(), true, problem);
    if (locked != Locked::obtained) {
      ::unlinkat(directory, name.text, 0);
      if (locked == Locked::held) problem = {"was locked by somebody else as soon as it was there"};
      problem.file = known_file(name.text);
      return problem;
    }
    // A child must not keep alive what its parent claimed.
    problem = descriptor_.set(static_cast<Fd&&>(file));
    if (problem) {
      ::unlinkat(directory, name.text, 0);
      return problem;
    }
    id_ = id;
    return {};
  }

  /// Zero before `create`.
  const Id128& id() const noexcept { return id_; }

  /// False before `create`, after `remove`, and in a child of the process that created it.
  bool held() const noexcept { return descriptor_.get() >= 0; }

  /// The clean end: what still names this owner is in doubt from now on. In a child only forgets it.
  void remove(int directory) noexcept {
    const NoCancellation shield;
    // Before the descriptor is closed: a name without a lock would be left behind where the process dies in between.
    if (held()) ::unlinkat(directory, owner_impl::Name(id_).text, 0);
    descriptor_.close();
    id_ = {};
  }

 private:
  ForkClosed descriptor_;
  Id128 id_ = {};
};

enum class Alive : std::uint8_t {
  yes = 1,
  no = 2,      ///< For ever: names aren't used twice.
  unknown = 3  ///< `problem` says why; for instance, there was no descriptor to be had.
};

/// Whether somebody holds this owner file. The owner is dead only where a shared lock was obtained or no such file is
/// there; the mere zero, which names nobody, counts as dead. Descriptors that a descendant kept by other ways than
/// fork(3) (clone(2) without the C library) keep an owner alive.
/// REQUIRES: the store's lock is held, or a record names the owner; otherwise a file may be seen between its creation
/// and its locking.
inline Alive probe_owner(int directory, const Id128& owner, Problem& problem) noexcept {
  if (owner.empty()) return Alive::no;
  const NoCancellation shield;
  const owner_impl::Name name(owner);
  Fd file;
  problem = open_file(directory, name.text, Creation::never, true, file);
  if (problem) {
    if (problem.error != ENOENT) return Alive::unknown;
    problem = {};
    return Alive::no;
  }
  switch (try_lock(file.get(), false, problem)) {
    case Locked::obtained:
      return Alive::no;  // closing the descriptor frees it
    case Locked::held:
      return Alive::yes;
    case Locked::failed:
      break;
  }
  return Alive::unknown;
}

struct OwnerSweep {
  std::size_t alive = 0;    ///< Files of owners that live or may live, this one's too.
  std::size_t removed = 0;  ///< Files of the dead, which are gone now.
};

/// Unlinks the owner files of the dead. They do no harm, but each owner that was killed leaves one. What can't be
/// judged and whatever else is in the directory stays. REQUIRES: the store's lock is held.
inline Problem sweep_owners(int directory, OwnerSweep& out) noexcept {
  const NoCancellation shield;
  out = {};
  owner_impl::Entries entries(directory);
  if (!entries) return {"cannot be read", errno};
  while (const char* const name = entries.next()) {
    Id128 id;
    if (!owner_impl::parse(name, id)) continue;
    Problem ignored;
    if (probe_owner(directory, id, ignored) != Alive::no) {
      ++out.alive;
    } else if (::unlinkat(directory, name, 0) == 0) {
      ++out.removed;
    } else if (errno != ENOENT) {
      return {"of a process that ended cannot be removed", errno, known_file(name)};
    }
  }
  if (errno != 0) return {"cannot be read", errno};
  return {};
}

}  // namespace detail::file
IDEM_END_NAMESPACE
