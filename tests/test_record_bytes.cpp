// The byte form of a record: exact bytes, and hostile ones.
#include <idem/detail/record_bytes.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using idem::Digest;
using idem::PayloadKind;
using idem::State;
using idem::TimePoint;
using idem::detail::Bytes;
using idem::detail::StoredRecord;
using std::chrono::microseconds;

using Buffer = std::vector<std::uint8_t>;

constexpr TimePoint started{microseconds{1'700'000'000'123'456}};

Digest rising(std::uint8_t first) {
  Digest digest;
  for (std::uint8_t& byte : digest.bytes) byte = first++;
  return digest;
}

const std::uint8_t* bytes_of(std::string_view text) { return reinterpret_cast<const std::uint8_t*>(text.data()); }

StoredRecord running() {
  StoredRecord stored;
  stored.record.abandoned = true;
  stored.record.attempt = 2;
  stored.record.owner = {{0x0123456789abcdef, 0xfedcba9876543210}, 0x1122334455667788};
  stored.record.started_at = started;
  stored.record.lease_until = started + std::chrono::seconds{30};
  stored.key = rising(0);
  stored.name = "charge";
  stored.version = 3;
  return stored;
}

constexpr std::string_view result{"\x01\x00\xff", 3};

StoredRecord completed() {
  StoredRecord stored;
  stored.record.state = State::completed;
  stored.record.attempt = 1;
  stored.record.owner = {{1, 2}, 3};
  stored.record.started_at = started;
  stored.record.finished_at = started + microseconds{5};
  stored.record.expires_at = started + microseconds{5} + std::chrono::hours{24};
  stored.record.has_fingerprint = true;
  stored.record.fingerprint = rising(0xe0);
  stored.key = rising(0);
  stored.name = "billing.charge";
  stored.version = 1;
  stored.kind = PayloadKind::value;
  stored.payload = bytes_of(result);
  stored.payload_size = result.size();
  return stored;
}

constexpr std::string_view failure = "boom";

StoredRecord failed() {
  StoredRecord stored;
  stored.record.state = State::failed;
  stored.record.attempt = 0xffffffff;
  stored.record.owner = {{0xffffffffffffffff, 0}, 0xffffffffffffffff};
  stored.record.started_at = TimePoint{microseconds{-1}};
  stored.record.finished_at = started;
  stored.key = rising(0);
  stored.version = 0xffffffff;
  stored.kind = PayloadKind::failure;
  stored.payload = bytes_of(failure);
  stored.payload_size = failure.size();
  return stored;
}

std::vector<StoredRecord> samples() {
  std::vector<StoredRecord> all{running(), completed(), failed()};
  for (const PayloadKind kind : {PayloadKind::nothing, PayloadKind::lost}) {
    StoredRecord stored = completed();
    stored.kind = kind;
    stored.payload_size = 0;
    all.push_back(stored);
  }
  StoredRecord empty = completed();
  empty.payload_size = 0;
  all.push_back(empty);
  return all;
}

Buffer encode(const StoredRecord& stored) {
  Bytes out;
  REQUIRE(idem::detail::encode_record(out, stored));
  CHECK(out.size() == idem::detail::encoded_record_size(stored));
  return Buffer(out.data(), out.data() + out.size());
}

std::string hex(const Buffer& bytes) {
  static constexpr char digits[] = "0123456789abcdef";
  std::string text;
  for (const std::uint8_t byte : bytes) {
    text += digits[byte >> 4];
    text += digits[byte & 15];
  }
  return text;
}

/// Decodes from memory of exactly this size, so that the sanitizers see each byte read past its end.
bool decodes(const Buffer& bytes, StoredRecord& out, std::string* why = nullptr) {
  const auto exact = std::make_unique<std::uint8_t[]>(bytes.size());
  if (!bytes.empty()) std::memcpy(exact.get(), bytes.data(), bytes.size());
  const char* reason = nullptr;
  const bool good = idem::detail::decode_record(exact.get(), bytes.size(), out, reason);
  if (!good) REQUIRE(reason != nullptr);
  if (why != nullptr) *why = good ? "" : reason;
  return good;
}

std::string refusal(const Buffer& bytes) {
  StoredRecord out;
  std::string why;
  return decodes(bytes, out, &why) ? std::string("(accepted)") : why;
}

/// A forger's record: something changed, and the checksum made right again.
Buffer forged(const StoredRecord& stored, std::initializer_list<std::pair<std::size_t, std::uint8_t>> changes) {
  Buffer bytes = encode(stored);
  for (const auto& [at, value] : changes) bytes.at(at) = value;
  const std::size_t body = bytes.size() - 4;
  idem::detail::store_le32(bytes.data() + body, idem::detail::crc32c(0, bytes.data(), body));
  return bytes;
}

void check_same(const StoredRecord& a, const StoredRecord& b) {
  CHECK(a.record.state == b.record.state);
  CHECK(a.record.abandoned == b.record.abandoned);
  CHECK(a.record.attempt == b.record.attempt);
  CHECK(a.record.owner == b.record.owner);
  CHECK(a.record.started_at == b.record.started_at);
  CHECK(a.record.finished_at == b.record.finished_at);
  CHECK(a.record.lease_until == b.record.lease_until);
  CHECK(a.record.expires_at == b.record.expires_at);
  CHECK(a.record.has_fingerprint == b.record.has_fingerprint);
  CHECK(a.record.fingerprint == b.record.fingerprint);
  CHECK(a.key == b.key);
  CHECK(a.name == b.name);
  CHECK(a.version == b.version);
  CHECK(a.kind == b.kind);
  REQUIRE(a.payload_size == b.payload_size);
  CHECK((a.payload_size == 0 || std::memcmp(a.payload, b.payload, a.payload_size) == 0));
}

}  // namespace

// The bytes were made by a program of another language that follows docs/record-format.md.
TEST_CASE("T-41 T-47: a record has these bytes, on every machine") {
  CHECK(hex(encode(running())) ==
        "0101010002000000efcdab89674523011032547698badcfe887766554433221140222018240a06000000000000000000"
        "c0e5e919240a0600ffffffffffffff7f000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
        "030000000600000000000000636861726765f5f127be");
  CHECK(hex(encode(completed())) ==
        "010202030100000001000000000000000200000000000000030000000000000040222018240a060045222018240a0600"
        "ffffffffffffff7f4582f735380a0600000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
        "010000000e00000003000000e0e1e2e3e4e5e6e7e8e9eaebecedeeeff0f1f2f3f4f5f6f7f8f9fafbfcfdfeff62696c6c"
        "696e672e6368617267650100ff0302f13b");
  CHECK(hex(encode(failed())) ==
        "01030004ffffffffffffffffffffffff0000000000000000ffffffffffffffffffffffffffffffff40222018240a0600"
        "ffffffffffffff7fffffffffffffff7f000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
        "ffffffff0000000004000000626f6f6dbb0e1863");
}

TEST_CASE("T-47: what was encoded is decoded, field by field") {
  for (const StoredRecord& stored : samples()) {
    const Buffer bytes = encode(stored);
    StoredRecord out;
    const char* why = nullptr;
    REQUIRE(idem::detail::decode_record(bytes.data(), bytes.size(), out, why));
    check_same(stored, out);
  }
  // A record in progress has no payload, whatever it's given.
  StoredRecord stored = running();
  stored.payload = bytes_of(failure);
  stored.payload_size = failure.size();
  CHECK(encode(stored) == encode(running()));
}

TEST_CASE("T-47: a record is appended to what is there") {
  Bytes out;
  out.push(0x55);
  REQUIRE(idem::detail::encode_record(out, running()));
  const Buffer alone = encode(running());
  REQUIRE(out.size() == alone.size() + 1);
  CHECK(out.data()[0] == 0x55);
  CHECK(std::memcmp(out.data() + 1, alone.data(), alone.size()) == 0);
}

TEST_CASE("SER-02: every change of a single byte is refused") {
  for (const StoredRecord& stored : samples()) {
    Buffer bytes = encode(stored);
    StoredRecord out;
    std::size_t accepted = 0;
    for (std::uint8_t& byte : bytes) {
      const std::uint8_t right = byte;
      for (unsigned change = 1; change < 256; ++change) {
        byte = static_cast<std::uint8_t>(right ^ change);
        if (decodes(bytes, out)) ++accepted;
      }
      byte = right;
    }
    CHECK(accepted == 0);
    CHECK(decodes(bytes, out));
  }
}

TEST_CASE("SER-02: every truncation and every extension is refused") {
  for (const StoredRecord& stored : samples()) {
    const Buffer whole = encode(stored);
    StoredRecord out;
    for (std::size_t size = 0; size < whole.size(); ++size) {
      CHECK_FALSE(decodes(Buffer(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)), out));
    }
    for (const std::uint8_t more : {std::uint8_t{0}, std::uint8_t{1}, std::uint8_t{0xff}}) {
      Buffer longer = whole;
      for (int i = 0; i < 200; ++i) {
        longer.push_back(more);
        CHECK_FALSE(decodes(longer, out));
      }
    }
    // A whole record twice isn't a record either.
    Buffer twice = whole;
    twice.insert(twice.end(), whole.begin(), whole.end());
    CHECK_FALSE(decodes(twice, out));
  }
}

TEST_CASE("SER-06: a newer version and what this version doesn't know is refused, however right its checksum") {
  CHECK(refusal(forged(completed(), {})) == "(accepted)");
  CHECK(refusal(forged(completed(), {{0, 2}})) == "the record was written by a newer version of idem");
  CHECK(refusal({7}) == "the record was written by a newer version of idem");
  CHECK(refusal(forged(completed(), {{0, 0}})) == "the record has no format version");
  CHECK(refusal({}) == "the record is empty");
  for (const std::uint8_t state : Buffer{0, 4, 5, 0x80, 0xff})
    CHECK(refusal(forged(completed(), {{1, state}})) == "the record's state is unknown");
  for (const std::uint8_t flags : Buffer{4, 8, 16, 32, 64, 128, 0xff})
    CHECK(refusal(forged(running(), {{2, flags}})) == "the record has unknown flags");
  CHECK(refusal(forged(completed(), {{2, 3}})) == "the record is finished and abandoned");
  for (const std::uint8_t kind : Buffer{0, 5, 0xff})
    CHECK(refusal(forged(completed(), {{3, kind}})) == "the kind of the record's payload is unknown");
  CHECK(refusal(forged(running(), {{3, 1}})) == "the kind of the record's payload is unknown");
  for (const std::uint8_t kind : Buffer{1, 2})
    CHECK(refusal(forged(completed(), {{3, kind}})) == "the record has a payload where none belongs");
}

TEST_CASE("T-71: a record that nobody owns is refused") {
  StoredRecord stored = running();
  stored.record.owner.epoch = 0;
  CHECK(refusal(encode(stored)) == "the record has no owner");
  stored = running();
  stored.record.owner.token = {};
  CHECK(refusal(encode(stored)) == "the record has no owner");
  stored = running();
  stored.record.attempt = 0;
  CHECK(refusal(encode(stored)) == "the record has no owner");
}

TEST_CASE("SER-10: lengths that lie are refused, up to the largest") {
  for (const std::size_t field : {std::size_t{100}, std::size_t{104}}) {
    for (const std::uint8_t high : {std::uint8_t{0}, std::uint8_t{1}, std::uint8_t{0x7f}, std::uint8_t{0xff}}) {
      for (const std::uint8_t low : {std::uint8_t{0}, std::uint8_t{2}, std::uint8_t{0xff}}) {
        CHECK(refusal(forged(completed(), {{field, low}, {field + 1, high}, {field + 2, high}, {field + 3, high}})) ==
              "the record's lengths don't add up");
      }
    }
  }
  // Both together wrap to what is there in 32 bits: 14 + 3 = 17.
  CHECK(refusal(forged(completed(), {{100, 18}, {104, 0xff}, {105, 0xff}, {106, 0xff}, {107, 0xff}})) ==
        "the record's lengths don't add up");
  // A fingerprint that is announced has to be there.
  CHECK(refusal(forged(running(), {{2, 3}})) == "the record's lengths don't add up");
  CHECK(refusal(forged(completed(), {{2, 0}})) == "the record's lengths don't add up");
}

TEST_CASE("FSE-11 KEY-10 KEY-11: a record carries the whole digest of its key, so that a copy elsewhere is seen") {
  const Buffer bytes = encode(completed());
  StoredRecord out;
  const char* why = nullptr;
  REQUIRE(idem::detail::decode_record(bytes.data(), bytes.size(), out, why));
  CHECK(out.key == rising(0));
  CHECK_FALSE(out.key == rising(1));
  StoredRecord other = completed();
  other.key.bytes[31] ^= 1;
  CHECK(encode(other) != bytes);
}

TEST_CASE("a record's text is its key's") {
  CHECK(idem::detail::text_of(completed()) ==
        "billing.charge@1:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f");
}
