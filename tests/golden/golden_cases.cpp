#include "golden_cases.hpp"

#include "golden_types.hpp"

#include <idem/detail/record_bytes.hpp>
#include <idem/idem.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <fstream>
#include <limits>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <variant>
#include <vector>

namespace golden {

namespace {

std::string hex(const std::uint8_t* bytes, std::size_t size) {
  static constexpr char digits[] = "0123456789abcdef";
  std::string text;
  for (std::size_t i = 0; i < size; ++i) {
    text += digits[bytes[i] >> 4];
    text += digits[bytes[i] & 15];
  }
  return text;
}
std::string hex(const idem::Digest& digest) {
  return hex(digest.bytes, sizeof digest.bytes);
}

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators").
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t operator()() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  std::uint32_t below(std::uint32_t limit) { return static_cast<std::uint32_t>((*this)() % limit); }
  std::string text(std::size_t size) {
    std::string made;
    for (std::size_t i = 0; i < size; ++i) made += static_cast<char>(below(256));
    return made;
  }

 private:
  std::uint64_t state_;
};

class Cases {
 public:
  std::vector<Vector> all() {
    integers();
    floating();
    strings();
    times();
    containers();
    classes();
    tuples();
    specs();
    named_guards();
    derived_names();
    derived_keys();
    fingerprints();
    records();
    return std::move(made_);
  }

 private:
  void add(std::string name, const idem::Key& key) { made_.push_back({std::move(name), hex(key.digest())}); }

  /// A value beside another one, since a key that says nothing is refused.
  template <class T>
  void value(std::string name, const T& value) {
    add(std::move(name), idem::make_key("golden", "value", value));
  }

  template <class T>
  void integer(const std::string& type) {
    value(type + ".0", T{0});
    value(type + ".1", T{1});
    value(type + ".42", T{42});
    value(type + ".127", T{127});
    if constexpr (std::numeric_limits<T>::is_signed) {
      value(type + ".-1", static_cast<T>(-1));
      value(type + ".-128", static_cast<T>(-128));
    }
  }
  template <class T>
  void limits(const std::string& type) {
    value(type + ".min", (std::numeric_limits<T>::min)());
    value(type + ".max", (std::numeric_limits<T>::max)());
    value(type + ".max-1", static_cast<T>((std::numeric_limits<T>::max)() - 1));
  }

  void integers() {
    value("bool.false", false);
    value("bool.true", true);
    integer<std::int8_t>("int8"), limits<std::int8_t>("int8");
    integer<std::int16_t>("int16"), limits<std::int16_t>("int16");
    integer<std::int32_t>("int32"), limits<std::int32_t>("int32");
    integer<std::int64_t>("int64"), limits<std::int64_t>("int64");
    integer<std::uint8_t>("uint8"), limits<std::uint8_t>("uint8");
    integer<std::uint16_t>("uint16"), limits<std::uint16_t>("uint16");
    integer<std::uint32_t>("uint32"), limits<std::uint32_t>("uint32");
    integer<std::uint64_t>("uint64"), limits<std::uint64_t>("uint64");
    // Their widths, or their signs, differ between platforms; values that all can hold have one key.
    integer<long>("long");
    integer<unsigned long>("unsigned-long");
    integer<long long>("long-long");
    integer<std::size_t>("size");
    for (const char c : {'\0', 'A', 'z', '\x7f', '\x80', '\xff'}) {
      value("char." + std::to_string(static_cast<unsigned char>(c)), c);
    }
    value("wchar.A", L'A');
    value("char8.A", u8'A');
    value("char16.euro", u'\u20ac');
    value("char32.clef", U'\U0001d11e');
#ifdef __SIZEOF_INT128__
    wide();
#else
    // The same vectors by hand where the type is missing: what the encoding's page says of it.
    wide_without_type();
#endif
    for (const Color color : {Color::red, Color::green, Color::blue}) {
      value("enum.color." + std::to_string(static_cast<int>(color)), color);
    }
    value("enum.level.low", Level::low);
    value("enum.level.none", Level::none);
    value("enum.level.high", Level::high);
    value("enum.plain.one", plain_one);
    value("byte.255", std::byte{255});
  }

#ifdef __SIZEOF_INT128__
  void wide() {
    __extension__ using Wide = __int128;
    __extension__ using UnsignedWide = unsigned __int128;
    value("int128.1", Wide{1});
    value("int128.-1", Wide{-1});
    value("int128.2^100", Wide{1} << 100);
    value("int128.-2^100", -(Wide{1} << 100));
    value("uint128.max", ~UnsignedWide{0});
  }
#else
  /// 128-bit integers that fit 64 bits are those; of the others the bytes are written here.
  void wide_without_type() {
    value("int128.1", 1);
    value("int128.-1", -1);
    raw("int128.2^100", 5, 0, std::uint64_t{1} << 36);
    raw("int128.-2^100", 6, ~std::uint64_t{0}, (std::uint64_t{1} << 36) - 1);
    raw("uint128.max", 5, ~std::uint64_t{0}, ~std::uint64_t{0});
  }
  void raw(const std::string& name, std::uint8_t tag, std::uint64_t low, std::uint64_t high) {
    idem::Key key = idem::make_key("golden", "value");
    idem::detail::Bytes bytes = key.bytes();
    bytes.push(tag);
    std::uint8_t words[16];
    idem::detail::store_le64(words, low);
    idem::detail::store_le64(words + 8, high);
    bytes.append(words, sizeof words);
    made_.push_back({name, hex(idem::detail::sha256(bytes.data(), bytes.size()))});
  }
#endif

  template <class T>
  void floats(const std::string& type) {
    using Limits = std::numeric_limits<T>;
    const std::pair<const char*, T> values[] = {{"zero", T(0)},
                                                {"minus-zero", -T(0)},
                                                {"one", T(1)},
                                                {"minus-one", T(-1)},
                                                {"half", T(0.5)},
                                                {"third", T(1) / T(3)},
                                                {"max", (Limits::max)()},
                                                {"lowest", Limits::lowest()},
                                                {"min", (Limits::min)()},
                                                {"denorm", Limits::denorm_min()},
                                                {"infinity", Limits::infinity()},
                                                {"minus-infinity", -Limits::infinity()}};
    for (const auto& [name, number] : values) value(type + '.' + name, number);
  }
  void floating() {
    floats<float>("float");
    floats<double>("double");
  }

  void strings() {
    value("string.literal", "literal");
    value("string.literal-empty", "");
    value("string.literal-nul", std::string_view("a\0b", 3));
    value("string.view", std::string_view{"literal"});
    value("string.string", std::string{"literal"});
    const char* pointer = "literal";
    value("string.pointer", pointer);
    value("string.u8", u8"literal");
    value("string.utf8", "gr\xc3\xbc\xc3\x9f Gott \xe2\x82\xac");
    value("string.utf8-decomposed", "gru\xcc\x88\xc3\x9f");
    value("string.path-like", "../../etc/passwd");
    value("string.all-bytes", [] {
      std::string all;
      for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
      return all;
    }());
    // Around the block boundaries of SHA-256.
    for (std::size_t size = 0; size <= 130; ++size) {
      if (size > 12 && size < 50) continue;
      value("string.length-" + std::to_string(size), std::string(size, 'x'));
    }
    value("string.length-100000", std::string(100'000, 'y'));
    // How arguments are cut into strings.
    add("cut.ab-c", idem::make_key("golden", "ab", "c"));
    add("cut.a-bc", idem::make_key("golden", "a", "bc"));
    add("cut.abc", idem::make_key("golden", "abc"));
    add("cut.-abc", idem::make_key("golden", "", "abc"));
    add("cut.abc-", idem::make_key("golden", "abc", ""));
    value("path.relative", std::filesystem::path{"a/b"});
    value("path.absolute", std::filesystem::path{"/var/lib/x"});
    value("path.dots", std::filesystem::path{"a/../b"});
    value("path.empty", std::filesystem::path{});
  }

  void times() {
    using namespace std::chrono;
    for (const int count : {-90, -1, 0, 1, 59, 60, 3600, 86400}) {
      const std::string text = std::to_string(count);
      value("duration.ns." + text, nanoseconds{count});
      value("duration.us." + text, microseconds{count});
      value("duration.ms." + text, milliseconds{count});
      value("duration.s." + text, seconds{count});
      value("duration.min." + text, minutes{count});
      value("duration.h." + text, hours{count});
      value("duration.thirds." + text, duration<std::int32_t, std::ratio<1, 3>>{count});
      value("duration.weeks." + text, duration<std::int64_t, std::ratio<604800>>{count});
      value("time." + text, system_clock::time_point{seconds{count}});
    }
    value("time.ms", sys_time<milliseconds>{milliseconds{1'700'000'000'123}});
    value("time.days", sys_time<days>{days{20000}});
    value("duration.ns.max", nanoseconds{(std::numeric_limits<std::int64_t>::max)()});
    value("duration.ns.min", nanoseconds{(std::numeric_limits<std::int64_t>::min)()});
    value("duration.weeks.max", duration<std::int64_t, std::ratio<604800>>{(std::numeric_limits<std::int64_t>::max)()});
  }

  void containers() {
    using Strings = std::vector<std::string>;
    value("optional.absent", std::optional<int>{});
    value("optional.present", std::optional<int>{5});
    value("optional.nested", std::optional<std::optional<int>>{std::optional<int>{}});
    value("unique_ptr.absent", std::unique_ptr<int>{});
    value("unique_ptr.present", std::make_unique<int>(5));
    value("shared_ptr.present", std::make_shared<std::string>("shared"));
    value("pair", std::pair<int, std::string>{1, "one"});
    value("tuple.empty", std::tuple<>{});
    value("tuple.one", std::tuple<int>{1});
    value("tuple.three", std::tuple<int, bool, double>{1, true, 2.5});
    value("array", std::array<int, 3>{1, 2, 3});
    value("array.empty", std::array<int, 0>{});
    const int plain[3] = {1, 2, 3};
    value("c-array", plain);
    value("vector.empty", std::vector<int>{});
    value("vector", std::vector<int>{1, 2, 3});
    value("vector.bool", std::vector<bool>{true, false, true});
    value("vector.bytes", std::vector<std::uint8_t>{0, 1, 127, 128, 255});
    value("vector.strings", Strings{"a", "", "b"});
    value("vector.vectors", std::vector<Strings>{{}, {"a"}, {"b", "c"}});
    value("list", std::list<int>{1, 2, 3});
    value("deque", std::deque<int>{1, 2, 3});
    const std::vector<int> spanned{1, 2, 3};
    value("span", std::span<const int>{spanned});
    value("set", std::set<int>{3, 1, 2});
    value("set.negative", std::set<int>{-3, -1, 2});
    value("set.strings", std::set<std::string>{"b", "a", "aa", ""});
    value("multiset", std::multiset<int>{1, 1, 2});
    value("unordered_set", std::unordered_set<int>{3, 1, 2});
    value("unordered_multiset", std::unordered_multiset<int>{2, 1, 1});
    value("map", std::map<std::string, int>{{"b", 2}, {"a", 1}});
    value("map.empty", std::map<std::string, int>{});
    value("multimap", std::multimap<int, std::string>{{1, "b"}, {1, "a"}});
    value("unordered_map", std::unordered_map<std::string, int>{{"b", 2}, {"a", 1}});
    value("map.nested", std::map<std::string, std::map<int, Strings>>{{"x", {{1, {"p"}}}}, {"y", {}}});
    std::unordered_map<std::string, std::uint64_t> large;
    for (std::uint64_t i = 0; i < 500; ++i) large["key " + std::to_string(i * 7919)] = i;
    value("unordered_map.large", large);
    using Choice = std::variant<std::monostate, int, std::string, int>;
    value("variant.monostate", Choice{});
    value("variant.first-int", Choice{std::in_place_index<1>, 7});
    value("variant.second-int", Choice{std::in_place_index<3>, 7});
    value("variant.string", Choice{std::string{"seven"}});
    value("monostate", std::monostate{});
    value("error_code.generic", std::make_error_code(std::errc::no_such_file_or_directory));
    value("error_code.none", std::error_code{});
  }

  void classes() {
    value("empty", Empty{});
    for (const int x : {-1, 0, 1}) value("point." + std::to_string(x), Point{x, 2});
    value("padded", Padded{1, 2.5, true});
    value("name", Name{{'a', 'b'}, {1, 2, 3}});
    value("order.empty", Order{});
    value("order", order());
    value("nested", Nested{order(), {}, {{{1, 2}, {3, 4}}}});
    value("tree", Tree{1, {{2, {}}, {3, {{4, {}}}}}});
    value("money", Money{1999, "EUR"});
    value("card", Card{"4242"});
    value("cards", std::vector<Card>{Card{"1"}, Card{"2"}});
  }
  static Order order() {
    return {42, "Ada", {{1, 2}, {3, 4}}, 0.25, Color::blue};
  }

  /// Arguments as programs have them, at random.
  void tuples() {
    Random random(20240229);
    for (int i = 0; i < 160; ++i) {
      const auto id = static_cast<std::int64_t>(random());
      const std::string text = random.text(random.below(40));
      const double number = static_cast<double>(static_cast<std::int32_t>(random())) / 1024.0;
      std::optional<std::uint32_t> maybe;
      if (random.below(2) == 1) maybe = static_cast<std::uint32_t>(random());
      std::vector<std::int16_t> numbers(random.below(6));
      for (std::int16_t& each : numbers) each = static_cast<std::int16_t>(random());
      std::map<std::string, bool> flags;
      for (std::uint32_t n = random.below(5); n > 0; --n) flags[random.text(random.below(5))] = random.below(2) == 1;
      const std::string name = "tuple-" + std::to_string(i);
      switch (i % 4) {
        case 0:
          add(name, idem::make_key("golden", id, text));
          break;
        case 1:
          add(name, idem::make_key("golden", text, number, maybe));
          break;
        case 2:
          add(name, idem::make_key("golden", numbers, flags, id, text));
          break;
        default:
          add(name, idem::make_key("golden", std::pair(id, text), std::tuple(number, maybe, numbers), flags));
          break;
      }
    }
  }

  void specs() {
    using idem::KeySpec;
    add("spec.no-parts", idem::make_key("golden"));
    add("spec.name-a-scope-bc", idem::make_key(KeySpec{.name = "a", .scope = "bc"}, 1));
    add("spec.name-ab-scope-c", idem::make_key(KeySpec{.name = "ab", .scope = "c"}, 1));
    for (const std::uint32_t version : {1u, 2u, 255u, 256u, 0xffffffffu}) {
      add("spec.version-" + std::to_string(version), idem::make_key(KeySpec{.name = "golden", .version = version}, 1));
    }
    for (const std::string_view scope : {"", "tenant-a", "tenant-b", "gr\xc3\xbc\xc3\x9f"}) {
      add("spec.scope-" + hex(reinterpret_cast<const std::uint8_t*>(scope.data()), scope.size()),
          idem::make_key(KeySpec{.name = "golden", .scope = scope}, 1));
    }
    // Around the block size of HMAC, where a secret is digested first.
    for (const std::size_t size : {1u, 16u, 32u, 63u, 64u, 65u, 200u}) {
      const std::string secret(size, 's');
      add("spec.secret-" + std::to_string(size), idem::make_key(KeySpec{.name = "golden", .secret = secret}, 1));
    }
  }

  void named_guards() {
    using idem::idempotent;
    idem::MemoryStore store;
    const auto f = [](int, const std::string&) { return 0; };
    add("guard.plain", idempotent<"golden.guard">(f, store).key(1, "one"));
    add("guard.version", idempotent<"golden.guard">(f, {.version = 2}, store).key(1, "one"));
    add("guard.scope", idempotent<"golden.guard">(f, {.scope = "tenant"}, store).key(1, "one"));
    add("guard.key_from", idempotent<"golden.guard">(f, store, idem::key_from<1>).key(1, "one"));
    add("guard.key_by",
        idempotent<"golden.guard">(f, store, idem::key_by([](int i, const std::string& s) { return std::pair(s, i); }))
            .key(1, "one"));
    add("guard.secret", idempotent<"golden.guard">(f, store, idem::keyed_with("0123456789abcdef")).key(1, "one"));
    add("guard.no-arguments", idempotent<"golden.none">([] { return 0; }, store).key());
    add("guard.generic", idempotent<"golden.generic">([](const auto&...) { return 0; }, store).key(1, 2.5, "three"));
    add("guard.context",
        idempotent<"golden.guard">([](int, idem::Context&, const std::string&) { return 0; }, store).key(1, "one"));
    const auto converted = [](std::int64_t, double) { return 0; };
    add("guard.converted", idempotent<"golden.converted">(converted, store).key(1, 2));
  }

  void derived_names() {
    using idem::idempotent;
    idem::MemoryStore store;
    add("function.nothing", idempotent<nothing>(store).key());
    add("function.charge", idempotent<charge>(store).key(1));
    add("function.charge-noexcept", idempotent<charge_noexcept>(store).key(1));
    add("function.inner-charge", idempotent<inner::charge>(store).key(1));
    add("function.overload-int32", idempotent<static_cast<int (*)(std::int32_t)>(overloaded)>(store).key(1));
    add("function.overload-int64", idempotent<static_cast<int (*)(std::int64_t)>(overloaded)>(store).key(1));
    add("function.overload-uint32", idempotent<static_cast<int (*)(std::uint32_t)>(overloaded)>(store).key(1));
    add("function.overload-double", idempotent<static_cast<int (*)(double)>(overloaded)>(store).key(1));
    add("function.overload-string", idempotent<static_cast<int (*)(const std::string&)>(overloaded)>(store).key("1"));
    add("function.overload-color", idempotent<static_cast<int (*)(Color)>(overloaded)>(store).key(Color::red));
    add("function.overload-point", idempotent<static_cast<int (*)(const Point&)>(overloaded)>(store).key({1, 2}));
    add("function.overload-two",
        idempotent<static_cast<int (*)(std::int32_t, std::int32_t)>(overloaded)>(store).key(1, 2));
    add("function.paint", idempotent<paint>(store).key(Color::blue, Level::high));
    add("function.inner-paint", idempotent<inner::paint>(store).key(inner::Color::red));
    add("function.ship", idempotent<ship>(store).key(order(), "fragile"));
    add("function.context", idempotent<with_context>(store).key(1));
    add("function.pays", idempotent<pays>(store).key(Money{100, "EUR"}, Card{"1111"}));
    add("function.many", idempotent<many>(store).key(1, std::string{"two"}, {"three", "four"}, {5, true}));
    const Point point{};
    add("function.pointer", idempotent<ignores_pointer>(store, idem::key_from<0>).key(1, &point));
    std::string text;
    add("function.changes", idempotent<changes>(store, idem::key_from<0>).key(1, text));
    Account account{7};
    add("member.any-object", idempotent<&Account::deposit>(store, idem::any_object).key(account, 100));
    add("member.const", idempotent<&Account::balance>(store, idem::any_object).key(account, 100));
    add("member.noexcept", idempotent<&Account::close>(store, idem::any_object).key(account));
    add("member.static", idempotent<&Account::open>(store).key(7));
    add("member.key_by", idempotent<&Account::deposit>(
                             store, idem::key_by([](const Account& a, int cents) { return std::pair(a.id(), cents); }))
                             .key(account, 100));
    add("member.object-in-key", idempotent<&Terminal::print>(store, idem::key_from<0, 1>).key(Terminal{1, "shop"}, 2));
  }

  void derived_keys() {
    const idem::Key key = idem::make_key("golden", 1);
    const idem::Key keyed = idem::make_key(idem::KeySpec{.name = "golden", .secret = "0123456789abcdef"}, 1);
    for (const std::string_view label : {"gateway", "mail", "x"}) {
      made_.push_back({"derived." + std::string(label), key.derived(label)});
      made_.push_back({"derived-keyed." + std::string(label), keyed.derived(label)});
    }
    made_.push_back({"derived.", key.derived("")});
  }

  /// What OnConflict::raise compares, as a store has it.
  template <class Guard, class... A>
  void fingerprint(std::string name, idem::MemoryStore& store, const Guard& guard, const A&... arguments) {
    guard.try_call(arguments...);
    const idem::Reply reply = store.find(guard.key(arguments...));
    made_.push_back({std::move(name), reply.record.has_fingerprint ? hex(reply.record.fingerprint) : "none"});
  }
  void fingerprints() {
    using idem::idempotent;
    idem::MemoryStore store;
    const auto f = [](int, const std::string&, double) { return 0; };
    const idem::Options raise{.on_conflict = idem::OnConflict::raise};
    fingerprint("fingerprint.all-in-key", store, idempotent<"golden.f1">(f, raise, store), 1, "one", 1.5);
    fingerprint("fingerprint.others", store, idempotent<"golden.f2">(f, raise, store, idem::key_from<0>), 1, "one",
                1.5);
    fingerprint("fingerprint.key_by", store,
                idempotent<"golden.f3">(f, raise, store, idem::key_by([](int i, const auto&...) { return i; })), 1,
                "one", 1.5);
    fingerprint("fingerprint.compare_by", store,
                idempotent<"golden.f4">(f, raise, store, idem::key_from<0>,
                                        idem::compare_by([](int, const std::string& s, double) { return s; })),
                1, "one", 1.5);
    fingerprint("fingerprint.keyed", store,
                idempotent<"golden.f5">(f, raise, store, idem::key_from<0>, idem::keyed_with("0123456789abcdef")), 1,
                "one", 1.5);
  }

  void records() {
    using namespace idem::detail;
    using std::chrono::microseconds;
    const auto add_record = [this](const char* name, const StoredRecord& stored) {
      Bytes bytes;
      encode_record(bytes, stored);
      made_.push_back({name, hex(bytes.data(), bytes.size())});
    };
    StoredRecord stored;
    stored.record.state = idem::State::in_progress;
    stored.record.attempt = 2;
    stored.record.owner = {{0x0123456789abcdef, 0xfedcba9876543210}, 0x1122334455667788};
    stored.record.started_at = idem::TimePoint{microseconds{1'700'000'000'123'456}};
    stored.record.lease_until = idem::TimePoint{microseconds{1'700'000'030'123'456}};
    stored.key = idem::make_key("golden", 1).digest();
    stored.name = "golden";
    stored.version = 3;
    add_record("record.running", stored);
    stored.record.abandoned = true;
    add_record("record.in-doubt", stored);
    stored.record.abandoned = false;
    stored.record.state = idem::State::completed;
    stored.record.finished_at = idem::TimePoint{microseconds{1'700'000'001'000'000}};
    stored.record.expires_at = idem::TimePoint{microseconds{1'700'086'401'000'000}};
    stored.record.has_fingerprint = true;
    stored.record.fingerprint = idem::make_key("golden", 2).digest();
    static constexpr std::uint8_t payload[] = {1, 2, 3, 254, 255};
    stored.kind = idem::PayloadKind::value;
    stored.payload = payload;
    stored.payload_size = sizeof payload;
    add_record("record.completed", stored);
    stored.record.state = idem::State::failed;
    stored.kind = idem::PayloadKind::failure;
    add_record("record.failed", stored);
    stored.kind = idem::PayloadKind::lost;
    stored.payload_size = 0;
    add_record("record.lost", stored);
  }

  std::vector<Vector> made_;
};

}  // namespace

std::vector<Vector> all_vectors() {
  return Cases{}.all();
}

std::string vectors_file() {
  const std::string here = __FILE__;
  return here.substr(0, here.find_last_of('/') + 1) + "keys.txt";
}

std::vector<Vector> read_vectors(const std::string& file) {
  std::vector<Vector> read;
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    const std::size_t space = line.find(' ');
    if (space != std::string::npos) read.push_back({line.substr(0, space), line.substr(space + 1)});
  }
  return read;
}

}  // namespace golden
