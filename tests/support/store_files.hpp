// What tests of a store's files share: operations in a line each, and directories as bytes.
#pragma once

#include <doctest/doctest.h>

#include <idem/detail/file/frame.hpp>
#include <idem/detail/file/journal.hpp>
#include <idem/detail/file/page.hpp>
#include <idem/detail/random.hpp>
#include <idem/file_store.hpp>
#include <idem/make_key.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "directory.hpp"

namespace store_files {

namespace file = idem::detail::file;
using idem::Answer;
using idem::Durability;
using idem::FileStore;
using idem::FileStoreOptions;
using idem::Ownership;
using idem::Reply;

inline constexpr std::size_t sector = 512;

/// A generator whose numbers are the same everywhere (xorshift64*, Vigna 2016).
class Dice {
 public:
  explicit Dice(std::uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 1) {}
  std::uint64_t next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545f4914f6cdd1du;
  }
  std::size_t below(std::size_t limit) {
    const std::uint64_t rest = (next() >> 16) % limit;
    return static_cast<std::size_t>(rest);
  }

 private:
  std::uint64_t state_;
};

/// A directory in memory where there is one to be had: what a disk keeps is the tests' own model, and hundreds of real
/// syncs would take long.
struct Directory : support::Directory {
  Directory() : support::Directory(::access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp") {}
};

// Operations.

inline idem::Key key_of(std::string_view name) {
  return idem::make_key("billing.charge", std::string(name));
}

inline Reply claim(FileStore& store, std::string_view name, bool take_over = false, std::uint64_t fingerprint = 0) {
  idem::ClaimRequest request;
  request.owner = idem::detail::new_owner_token();
  request.take_over = take_over;
  const idem::Digest digest = idem::detail::sha256(&fingerprint, sizeof fingerprint);
  if (fingerprint != 0) request.fingerprint = &digest;
  return store.claim(key_of(name), request);
}

inline idem::FinishRequest outcome(const Ownership& owner, std::string_view payload,
                                   idem::Duration ttl = idem::forever) {
  idem::FinishRequest request;
  request.owner = owner;
  request.ttl = ttl;
  request.source.kind = idem::PayloadKind::value;
  request.source.data = reinterpret_cast<const std::uint8_t*>(payload.data());
  request.source.size = payload.size();
  return request;
}

inline std::string payload_of(const Reply& reply) {
  if (reply.payload.size() == 0) return {};
  return {reinterpret_cast<const char*>(reply.payload.data()), reply.payload.size()};
}

inline Ownership claimed(FileStore& store, std::string_view name) {
  const Reply reply = claim(store, name);
  REQUIRE_MESSAGE(reply.answer == Answer::acquired, name, ": ", reply.message);
  return reply.record.owner;
}

inline Ownership completed(FileStore& store, std::string_view name, std::string_view payload,
                           idem::Duration ttl = idem::forever) {
  const Ownership owner = claimed(store, name);
  const Reply reply = store.complete(key_of(name), outcome(owner, payload, ttl));
  REQUIRE_MESSAGE(reply.answer == Answer::ok, name, ": ", reply.message);
  return owner;
}

inline FileStoreOptions with(Durability durability) {
  return {.durability = durability};
}

/// What doesn't work of a claim, a completion and a replay of a new key; empty where all of them do.
inline std::string trouble(FileStore& store, std::string_view name) {
  const Reply taken = claim(store, name);
  if (taken.answer != Answer::acquired) return "claim: " + std::to_string(int(taken.answer)) + " " + taken.message;
  const Reply done = store.complete(key_of(name), outcome(taken.record.owner, "fine"));
  if (done.answer != Answer::ok) return "complete: " + std::to_string(int(done.answer)) + " " + done.message;
  const Reply found = claim(store, name);
  if (found.answer != Answer::completed || payload_of(found) != "fine") return "replay: " + found.message;
  return {};
}

// Files.

using Content = std::vector<std::uint8_t>;

inline Content read(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return Content(std::istreambuf_iterator<char>(in), {});
}

/// How often the journal was rewritten, and one.
inline std::uint64_t generation_of(const Directory& place) {
  const Content journal = read(place / "journal");
  file::JournalHeader header;
  const char* why = nullptr;
  REQUIRE(file::decode_header(journal.data(), journal.size(), header, why));
  return header.generation;
}

/// Over what is there, so that it stays the same file.
inline void write(const std::string& path, const Content& content) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  REQUIRE(fd >= 0);
  REQUIRE(!file::write_all(fd, content.data(), content.size(), 0));
  struct stat status = {};
  REQUIRE(::fstat(fd, &status) == 0);
  if (static_cast<std::uint64_t>(status.st_size) != content.size()) {
    REQUIRE(::ftruncate(fd, static_cast<off_t>(content.size())) == 0);
  }
  ::close(fd);
}

inline void write_at(const std::string& path, std::uint64_t offset, const void* data, std::size_t size) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  REQUIRE(fd >= 0);
  REQUIRE(!file::write_all(fd, data, size, offset));
  ::close(fd);
}

inline bool exists(const std::string& path) {
  struct stat status = {};
  return ::lstat(path.c_str(), &status) == 0;
}

inline std::uint64_t word_at(const Content& bytes, std::size_t offset) {
  std::uint64_t word = 0;
  std::memcpy(&word, bytes.data() + offset, sizeof word);
  return word;
}

/// What the page says of up to where the journal is on disk.
inline std::uint64_t durable_end(const Content& page) {
  return word_at(page, file::page_impl::at_durable_end) & ((std::uint64_t{1} << 48) - 1);
}

struct Place {
  std::uint64_t offset;
  file::Frame frame;  ///< Refers to the journal that was read.
};

/// All frames from the beginning on.
inline std::vector<Place> frames_of(const Content& journal) {
  file::JournalHeader header;
  const char* why = nullptr;
  REQUIRE(file::decode_header(journal.data(), journal.size(), header, why));
  const file::FrameSeal seal(header);
  std::vector<Place> places;
  std::uint64_t last = 0;
  file::Frame frame;
  for (std::uint64_t at = file::journal_header_size;
       file::read_frame(journal.data(), journal.size(), at, last, seal, frame) == file::Read::frame; at += frame.size) {
    places.push_back({at, frame});
    last = frame.sequence;
  }
  return places;
}

inline std::uint64_t end_of(const std::vector<Place>& places) {
  return places.empty() ? file::journal_header_size : places.back().offset + places.back().frame.size;
}

/// Shorter, so that copies cost little; a store lets it grow again.
inline Content without_preallocated(Content journal, std::uint64_t end) {
  journal.resize((end + 8191) / 4096 * 4096);
  return journal;
}

}  // namespace store_files
