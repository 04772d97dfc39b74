// The page of memory that the processes of a store share. docs/format.md says what each byte is for.
#pragma once

#include <idem/detail/cancellation.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/file/fork_guard.hpp>
#include <idem/detail/file/futex.hpp>
#include <idem/detail/file/id.hpp>
#include <idem/detail/file/mapping.hpp>
#include <idem/detail/file/os.hpp>
#include <idem/detail/sha256.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

IDEM_BEGIN_NAMESPACE
namespace detail::file {

inline constexpr const char* page_name = "page";
inline constexpr std::size_t page_size = 16384;
inline constexpr std::uint64_t page_version = 1;

namespace page_impl {

// Where each word begins. Words that are written by different people at different times have cache lines of their own.
inline constexpr std::size_t at_magic = 0;
inline constexpr std::size_t at_version = 8;
inline constexpr std::size_t at_store = 16;
inline constexpr std::size_t at_boot = 32;
inline constexpr std::size_t at_device = 48;
inline constexpr std::size_t at_inode = 56;
inline constexpr std::size_t at_sequence = 128;
inline constexpr std::size_t at_time = 136;
inline constexpr std::size_t at_durable_sequence = 192;
inline constexpr std::size_t at_durable_end = 200;
inline constexpr std::size_t at_directory = 208;
inline constexpr std::size_t at_poisoned = 216;
inline constexpr std::size_t at_lock = 256;
inline constexpr std::size_t at_holder = 264;
inline constexpr std::size_t at_bells = 4096;
inline constexpr std::size_t bell_stride = 32;
inline constexpr std::size_t bell_count = 256;

static_assert(at_bells + bell_count * bell_stride <= page_size);

/// "idem-pag" where bytes are little-endian. A page of a machine of the other order doesn't have it.
inline constexpr std::uint64_t magic = 0x6761702d6d656469u;

// Words are in the machine's own order and used by several processes at once.
using Word = std::atomic<std::uint64_t>;
static_assert(Word::is_always_lock_free && sizeof(Word) == 8);

}  // namespace page_impl

/// The file `page`, mapped. What it says is true or recognisably missing, never misleading: it is a hint that saves
/// readers the lock and sleepers the polling, and whoever holds the store's lock can make it anew at any time.
///
/// Thread safety: everything but `open` may be called by several threads and processes at once.
/// REQUIRES: everything but `open` and `describes` is called after `open` succeeded.
class SharedPage {
 public:
  SharedPage() = default;
  SharedPage(const SharedPage&) = delete;
  SharedPage& operator=(const SharedPage&) = delete;

  /// Opens the file below `directory`, creates it where it's missing, and maps it. Needs no lock. Called once: others
  /// may look at what is mapped.
  Problem open(int directory, bool group) noexcept {
    const NoCancellation shield;
    Fd file;
    if (Problem problem = open_file(directory, page_name, Creation::if_missing, group, file)) return problem;
    FileStatus status = {};
    if (Problem problem = status_of(file.get(), status)) return problem;
    if (status.size < page_size) {
      // Where there is no fallocate(2) this writes zeros, maybe over what another process that opens it too has already
      // put there. That page then has no magic and is made anew. For the same reason it isn't initialised: nobody syncs
      // it.
      if (Problem problem = allocate(file.get(), status.size, page_size, false)) return problem;
    }
    Mapping map;
    if (Problem problem = map.map(file.get(), page_size, true)) return problem;
    if (Problem problem = file_.set(static_cast<Fd&&>(file))) return problem;
    map_ = static_cast<Mapping&&>(map);
    return {};
  }

  /// Whether the page is one of this version, of this store, of this boot of the machine, and in the file that is in
  /// the directory (a copy of a directory has yet to get on disk, whatever the page that was copied along says). One
  /// system call, which `same_file` saves who knows that the file hasn't been removed or replaced since the last time.
  bool describes(const Id128& store, bool same_file = false) const noexcept {
    FileStatus status = {};
    if (same_file ? detached_.load(std::memory_order_acquire) || map_.damaged() : !look(status)) return false;
    return load(page_impl::at_magic) == page_impl::magic && load(page_impl::at_version) == page_version &&
           same(page_impl::at_store, store) && same(page_impl::at_boot, boot_id()) &&
           (same_file || (load(page_impl::at_device) == status.device && load(page_impl::at_inode) == status.inode));
  }

  /// Makes the page anew: nothing is known to be appended or durable, it is poisoned as told, no time was seen; all who
  /// sleep are woken. Where the file was deleted, or cut under the mapping, the words serve this process alone from now
  /// on: then `describes` stays false and `sequence` zero, so that readers take the lock.
  /// REQUIRES: the store's lock is held.
  void rebuild(const Id128& store, bool poisoned = false) noexcept {
    using namespace page_impl;
    FileStatus status = {};
    if (!status_of(file_.get(), status) && status.size < page_size && status.links != 0) {
      static_cast<void>(allocate(file_.get(), status.size, page_size, false));  // `look` says whether it did
    }
    put(at_magic, 0);
    for (std::size_t offset = at_version; offset < at_lock; offset += sizeof(Word)) {
      if (offset != at_poisoned) put(offset, 0);  // not for a moment
    }
    look(status);
    put(at_version, page_version);
    put_id(at_store, store);
    put_id(at_boot, boot_id());
    put(at_device, status.device);
    put(at_inode, status.inode);
    put(at_poisoned, poisoned ? 1 : 0);
    put(at_magic, magic);
    // Counts go on from whatever they were: one that went back could be a sleeper's ticket.
    wake_all();
  }

  /// The sequence number of the last frame appended; 0 where there is none, and where that isn't known. An index that
  /// holds another number, or none, isn't known to be complete.
  std::uint64_t sequence() const noexcept {
    if (detached_.load(std::memory_order_acquire)) return 0;
    const std::uint64_t found = load(page_impl::at_sequence);
    return map_.damaged() ? 0 : found;  // asked after the load, which may be what finds the damage
  }
  /// REQUIRES: the store's lock is held.
  void publish(std::uint64_t sequence) noexcept { put(page_impl::at_sequence, sequence); }

  /// All frames up to this sequence number are on disk. 0: none is known to be.
  std::uint64_t durable_sequence() const noexcept { return load(page_impl::at_durable_sequence); }
  /// Never lowers it.
  void durable(std::uint64_t sequence) noexcept {
    Word& word = at(page_impl::at_durable_sequence);
    std::uint64_t seen = word.load();
    while (seen < sequence && !word.compare_exchange_weak(seen, sequence)) {
    }
  }

  /// All bytes of this generation's journal before this offset are on disk. 0 where the page is about another one.
  std::uint64_t durable_end(std::uint64_t generation) const noexcept {
    const std::uint64_t found = load(page_impl::at_durable_end);
    return same_generation(found, generation) ? found & offset_mask : 0;
  }
  /// Never lowers it; does nothing where the page is about another generation.
  void durable_end(std::uint64_t generation, std::uint64_t end) noexcept {
    Word& word = at(page_impl::at_durable_end);
    const std::uint64_t wanted = end_word(generation, end);
    std::uint64_t seen = word.load();
    while (same_generation(seen, generation) && seen < wanted && !word.compare_exchange_weak(seen, wanted)) {
    }
  }
  /// From now on the page is about this journal, whatever it was about. REQUIRES: the store's lock is held.
  void start_generation(std::uint64_t generation, std::uint64_t end, bool directory_synced) noexcept {
    put(page_impl::at_directory, directory_synced ? generation : 0);
    put(page_impl::at_durable_end, end_word(generation, end));
  }

  /// Whether the name `journal` is known to stand for this generation or a later one also after a power loss.
  bool directory_synced(std::uint64_t generation) const noexcept {
    return generation != 0 && load(page_impl::at_directory) >= generation;
  }
  void directory_is_synced(std::uint64_t generation) noexcept {
    Word& word = at(page_impl::at_directory);
    std::uint64_t seen = word.load();
    while (seen < generation && !word.compare_exchange_weak(seen, generation)) {
    }
  }

  /// A sync failed, so that what is on disk isn't known. No other word than 1 says so: also a page that is made anew is
  /// asked, and that may hold anything.
  bool poisoned() const noexcept { return load(page_impl::at_poisoned) == 1; }
  void poison(bool yes) noexcept { put(page_impl::at_poisoned, yes ? 1 : 0); }

  /// The highest time, in microseconds since 1970-01-01 00:00 UTC, that anybody's clock was seen at. 0: none.
  std::int64_t time() const noexcept { return static_cast<std::int64_t>(load(page_impl::at_time)); }
  /// Never lowers it. Times before 1970 aren't kept.
  void time_seen(std::int64_t micros) noexcept {
    Word& word = at(page_impl::at_time);
    std::uint64_t seen = word.load();
    while (static_cast<std::int64_t>(seen) < micros &&
           !word.compare_exchange_weak(seen, static_cast<std::uint64_t>(micros))) {
    }
  }

  /// To be taken before looking whether there is something to wait for, and handed to `sleep` where there is.
  std::uint32_t ticket(const Digest& key) const noexcept { return bell_of(key).ticket(); }
  /// Ends the sleep of all who wait for this key, and of some who wait for others. A system call only where somebody
  /// sleeps.
  void wake(const Digest& key) noexcept { bell_of(key).ring(all_sleepers); }
  void wake_all() noexcept {
    for (std::size_t i = 0; i < page_impl::bell_count; ++i) bell(i).ring(all_sleepers);
  }
  /// Returns when `wake` was called after the ticket was taken, after `micros` microseconds, or for no reason.
  void sleep(const Digest& key, std::uint32_t ticket, std::int64_t micros) const noexcept {
    bell_of(key).sleep(ticket, micros);
  }

  /// Where those sleep who wait for the store's lock. For StoreLock.
  Bell lock_bell() const noexcept { return Bell(half(page_impl::at_lock), half(page_impl::at_lock + 4)); }
  /// The process that holds the store's lock, for messages: 0 where none is known. It may be dead, and its number means
  /// nothing in another pid namespace.
  std::int64_t lock_holder() const noexcept { return static_cast<std::int64_t>(load(page_impl::at_holder)); }
  void lock_holder(std::int64_t process) noexcept {
    at(page_impl::at_holder).store(static_cast<std::uint64_t>(process), std::memory_order_relaxed);
  }

 private:
  using Word = page_impl::Word;

  static constexpr unsigned offset_bits = 48;
  static constexpr std::uint64_t offset_mask = (std::uint64_t{1} << offset_bits) - 1;

  static std::uint64_t end_word(std::uint64_t generation, std::uint64_t end) noexcept {
    return (generation << offset_bits) | (end < offset_mask ? end : offset_mask);
  }
  static bool same_generation(std::uint64_t word, std::uint64_t generation) noexcept {
    return word >> offset_bits == (generation & 0xffff) && word != 0;
  }

  // The bytes came into being in another process or in the kernel; std::atomic of these sizes is nothing but its value.
  Word& at(std::size_t offset) const noexcept { return *reinterpret_cast<Word*>(map_.data() + offset); }
  std::atomic<std::uint32_t>& half(std::size_t offset) const noexcept {
    return *reinterpret_cast<std::atomic<std::uint32_t>*>(map_.data() + offset);
  }
  std::uint64_t load(std::size_t offset) const noexcept { return at(offset).load(); }
  void put(std::size_t offset, std::uint64_t value) noexcept { at(offset).store(value); }

  bool same(std::size_t offset, const Id128& id) const noexcept {
    const std::uint64_t words[2] = {load(offset), load(offset + 8)};
    return std::memcmp(words, id.bytes, sizeof words) == 0;
  }
  void put_id(std::size_t offset, const Id128& id) noexcept {
    std::uint64_t words[2];
    std::memcpy(words, id.bytes, sizeof words);
    put(offset, words[0]);
    put(offset + 8, words[1]);
  }

  Bell bell(std::size_t index) const noexcept {
    const std::size_t offset = page_impl::at_bells + index * page_impl::bell_stride;
    return Bell(half(offset), half(offset + 4));
  }
  // Any byte of a digest is as good as another.
  Bell bell_of(const Digest& key) const noexcept { return bell(key.bytes[16]); }

  /// Whether what is mapped is what others see who open the file by its name.
  bool look(FileStatus& status) const noexcept {
    const bool good = map_.data() != nullptr && !map_.damaged() && !status_of(file_.get(), status) &&
                      status.links != 0 && status.size >= page_size;
    detached_.store(!good, std::memory_order_release);
    return good;
  }

  ForkClosed file_;
  Mapping map_;
  mutable std::atomic<bool> detached_{false};
};

}  // namespace detail::file
IDEM_END_NAMESPACE
