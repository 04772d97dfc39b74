// The index: right whatever is put in and taken out, and small.
#include <idem/detail/file/index.hpp>
#include <idem/detail/file/journal.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include "support/store_files.hpp"

namespace file_index {

using namespace store_files;
using file::FileIndex;
using file::Held;
using file::IndexTable;

/// Keys with their tags; the offset of a place says whose it is, as the journal does.
struct Model {
  struct Entry {
    std::uint64_t tag;
    std::uint64_t key;
    Held held;
  };

  IndexTable table;
  std::map<std::pair<std::uint64_t, std::uint64_t>, std::uint64_t> places;  ///< Of tag and key.
  std::map<std::uint64_t, Entry> journal;                                   ///< What stands at an offset.
  std::uint64_t next_offset = 4096;

  auto same(std::uint64_t key) const {
    return [this, key](std::uint64_t offset) { return journal.at(offset).key == key; };
  }

  void put(std::uint64_t tag, std::uint64_t key, Held held) {
    const std::uint64_t offset = next_offset;
    next_offset += 8;
    journal[offset] = {tag, key, held};
    REQUIRE(table.reserve());
    const file::Place before = table.put(tag, {offset, held}, same(key));
    const auto known = places.find({tag, key});
    REQUIRE(before.offset == (known == places.end() ? 0 : known->second));
    places[{tag, key}] = offset;
  }

  void remove(std::uint64_t tag, std::uint64_t key) {
    const file::Place before = table.remove(tag, same(key));
    const auto known = places.find({tag, key});
    REQUIRE(before.offset == (known == places.end() ? 0 : known->second));
    if (known != places.end()) places.erase(known);
  }

  void check_all() const {
    REQUIRE(table.size() == places.size());
    std::size_t seen = 0;
    table.for_each([&](file::Place place) {
      ++seen;
      const Entry& entry = journal.at(place.offset);
      REQUIRE(places.at({entry.tag, entry.key}) == place.offset);
      REQUIRE(place.held == entry.held);
    });
    REQUIRE(seen == places.size());
    for (const auto& [key, offset] : places) {
      const file::Place found = table.find(key.first, same(key.second));
      REQUIRE(found.offset == offset);
      REQUIRE(found.held == journal.at(offset).held);
    }
  }
};

/// Bytes that are allocated now; 0 where that can't be asked.
std::size_t allocated() {
#if defined(__GLIBC__) && (__GLIBC__ > 2 || __GLIBC_MINOR__ >= 33)
  const struct mallinfo2 info = ::mallinfo2();
  return info.uordblks + info.hblkhd;
#else
  return 0;
#endif
}

/// A journal of this many completed records, claims included, written without a store.
std::uint64_t write_journal(const std::string& path, std::size_t records) {
  file::JournalHeader header;
  header.store = file::new_id();
  header.journal = file::new_id();
  header.generation = 1;
  header.snapshot_end = file::journal_header_size;
  Content bytes(file::journal_header_size);
  file::encode_header(bytes.data(), header);
  const file::FrameSeal seal(header);
  std::FILE* const out = std::fopen(path.c_str(), "wb");
  REQUIRE(out != nullptr);
  REQUIRE(std::fwrite(bytes.data(), 1, bytes.size(), out) == bytes.size());
  std::uint64_t end = bytes.size();
  std::uint64_t sequence = 0;
  idem::detail::Bytes frame;
  const std::string payload(40, 'p');
  for (std::size_t i = 0; i < records; ++i) {
    idem::detail::StoredRecord stored;
    stored.key = idem::detail::sha256(&i, sizeof i);
    stored.name = "billing.charge";
    stored.version = 1;
    stored.record.attempt = 1;
    for (int finished = 0; finished < 2; ++finished) {
      ++sequence;
      if (finished == 0) stored.record.owner = {{i + 1, ~std::uint64_t{i}}, sequence};
      if (finished != 0) {
        stored.record.state = idem::State::completed;
        stored.kind = idem::PayloadKind::value;
        stored.payload = reinterpret_cast<const std::uint8_t*>(payload.data());
        stored.payload_size = payload.size();
      }
      frame.clear();
      REQUIRE(file::put_record_frame(frame, stored));
      file::Frame head;
      head.sequence = sequence;
      head.durable_end = end;
      file::finish_frame(frame, 0, seal, end, head);
      REQUIRE(std::fwrite(frame.data(), 1, frame.size(), out) == frame.size());
      end += frame.size();
    }
  }
  REQUIRE(std::fclose(out) == 0);
  REQUIRE(::chmod(path.c_str(), 0600) == 0);
  REQUIRE(::truncate(path.c_str(), static_cast<off_t>((end + 4095) / 4096 * 4096)) == 0);
  return end;
}

}  // namespace file_index

using namespace file_index;

TEST_CASE("the index holds what a map holds, whatever is put in, replaced and taken out") {
  Dice dice(11);
  // Few homes, so that searches run long and over the table's end; few tags, so that different keys have the same one.
  for (const std::uint64_t tags : {std::uint64_t{4}, std::uint64_t{24}, std::uint64_t{1000}}) {
    Model model;
    for (int step = 0; step < 6000; ++step) {
      const std::uint64_t number = dice.below(static_cast<std::size_t>(tags));
      const std::uint64_t tag = number % 3 == 0 ? ~number : number * (tags == 1000 ? 0x9e3779b97f4a7c15u : 1u);
      const std::uint64_t key = dice.below(12);
      const bool growing = step / 1500 % 2 == 0;
      if (dice.below(4) < (growing ? 3u : 1u)) {
        model.put(tag, key, static_cast<Held>(1 + dice.below(3)));
      } else {
        model.remove(tag, key);
      }
      if (step % 500 == 0) model.check_all();
    }
    model.check_all();
  }
}

TEST_CASE(
    "keys whose 64-bit tags are equal are told apart, and one that can't be read is taken for neither's absence") {
  // Two digests that agree in all bits that the index keeps, and in which table they are in.
  std::uint8_t first[32];
  std::uint8_t second[32];
  for (std::size_t i = 0; i < 32; ++i) first[i] = second[i] = static_cast<std::uint8_t>(i + 1);
  second[31] = 0xff;
  REQUIRE(FileIndex::tag_of(first) == FileIndex::tag_of(second));

  Directory place;
  file::JournalHeader header;
  header.store = file::new_id();
  header.journal = file::new_id();
  header.generation = 1;
  header.snapshot_end = file::journal_header_size;
  Content bytes(file::journal_header_size);
  file::encode_header(bytes.data(), header);
  const file::FrameSeal seal(header);
  for (const std::uint8_t* digest : {first, second}) {
    idem::detail::StoredRecord stored;
    std::memcpy(stored.key.bytes, digest, 32);
    stored.record.attempt = 1;
    stored.record.owner = {{1, 2}, 1};
    idem::detail::Bytes frame;
    REQUIRE(file::put_record_frame(frame, stored));
    file::Frame head;
    head.sequence = bytes.size();
    file::finish_frame(frame, 0, seal, bytes.size(), head);
    bytes.insert(bytes.end(), frame.data(), frame.data() + frame.size());
  }
  bytes.resize(8192);
  write(place / "journal", bytes);
  const int directory = ::open(place.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  file::JournalFile journal;
  std::uint64_t size = 0;
  REQUIRE(!file::open_journal(directory, "journal", false, 1, journal, size));
  ::close(directory);

  const auto index = std::make_unique<FileIndex>();
  file::JournalState state;
  state.allocated = size;
  file::Read stop = file::Read::frame;
  REQUIRE(!file::read_frames(*index, state, journal, stop));
  CHECK(index->size() == 2);
  CHECK(state.running == 2);
  const auto find = [&](const std::uint8_t* digest) {
    return index->table_of(digest)
        .find(FileIndex::tag_of(digest), file::SameDigest{journal.data(), digest, &journal.seal, state.end})
        .offset;
  };
  CHECK(find(first) == 4096);
  CHECK(find(second) > 4096);
  std::uint8_t third[32];
  std::memcpy(third, first, 32);
  third[30] ^= 1;
  CHECK(find(third) == 0);
  const Content zeros(frames_of(bytes)[0].frame.size);
  write_at(place / "journal", 4096, zeros.data(), zeros.size());
  CHECK(find(first) == 4096);
}

TEST_CASE("a record takes at most 64 bytes of the index, at any number of them") {
  const std::size_t before = allocated();
  const auto index = std::make_unique<FileIndex>();
  if (allocated() == before) return;  // not to be measured here, as under a sanitizer
  Dice dice(5);
  std::size_t worst = 0;
  for (std::size_t i = 1; i <= 1'000'000; ++i) {
    const std::uint64_t words[2] = {dice.next(), dice.next()};
    std::uint8_t digest[16];
    std::memcpy(digest, words, sizeof digest);
    IndexTable& table = index->table_of(digest);
    REQUIRE(table.reserve());
    table.put(FileIndex::tag_of(digest), {4096 + 8 * i, Held::finished}, [](std::uint64_t) { return false; });
    if (i >= 100'000 && i % 1000 == 0) {
      const std::size_t each = (allocated() - before) / i;
      if (each > worst) worst = each;
    }
  }
  MESSAGE("at most ", worst, " bytes, with 1,000,000 records ", (allocated() - before) / 1'000'000);
  CHECK(worst <= 64);
}

TEST_CASE("a journal of many records is read, and each of them found") {
  constexpr std::size_t records = 5000;
  Directory place;
  write_journal(place / "journal", records);
  FileStore store(place.path(), with(Durability::process));
  REQUIRE(store.open().answer == Answer::ok);
  std::size_t seen = 0;
  store.for_each([&](const idem::RecordView& view) { seen += view.status == idem::Status::completed ? 1 : 0; });
  CHECK(seen == records);
  REQUIRE(store.compact().answer == Answer::ok);
  CHECK(store.stats().completed == records);
  CHECK(FileStore::verify(place.path()).records == records);
}

TEST_CASE("how long it takes to open a store of 1,000,000 records" * doctest::skip()) {
  support::Directory place;
  write_journal(place / "journal", 1'000'000);
  const auto open = [&](const std::string& what) {
    const std::size_t before = allocated();
    const auto began = std::chrono::steady_clock::now();
    FileStore store(place.path(), with(Durability::process));
    REQUIRE(store.open().answer == Answer::ok);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
    MESSAGE(what, ": ", took.count(), " s, ", double(allocated() - before) / 1e6, " bytes for each record, ",
            store.stats().bytes >> 20, " MiB of journal");
  };
  open("claims and outcomes, first");
  open("claims and outcomes, again");
  FileStore store(place.path(), with(Durability::process));
  const auto began = std::chrono::steady_clock::now();
  REQUIRE(store.compact().answer == Answer::ok);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
  MESSAGE("compaction: ", took.count(), " s");
  open("compacted, first");
  open("compacted, again");
}
