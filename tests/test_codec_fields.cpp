// Structs are taken apart without a macro, completely and in order, or not at all.
#include "codec_bytes.hpp"

#include <idem/codec.hpp>

#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

namespace codec_fields {

// A class of the program with a codec of its own: no default constructor, not copyable from anything else.
class OrderId {
 public:
  explicit OrderId(std::uint64_t number) : number_(number) {}
  std::uint64_t number() const { return number_; }

 private:
  std::uint64_t number_;
};

}  // namespace codec_fields

template <>
struct idem::codec<codec_fields::OrderId> {
  static constexpr std::string_view shape = "order-id";
  static void encode(idem::Writer& out, const codec_fields::OrderId& id) { out.write(id.number()); }
  static codec_fields::OrderId decode(idem::Reader& in) {
    return codec_fields::OrderId(in.read<std::uint64_t>());
  }
};

namespace codec_fields {

using codec_test::comes_back;
using codec_test::decoded;
using codec_test::encoded;
using codec_test::exact_hex;
using codec_test::key_hex;
using idem::detail::field_count;

struct Empty {};
struct One {
  int a;
};
struct OneString {
  std::string a;
};
struct OneVector {
  std::vector<int> a;
};
struct OneOptional {
  std::optional<int> a;
};
struct Two {
  int a;
  double b;
};
struct Nested {
  Two a;
  One b;
  Empty c;
};
struct Arrays {
  char name[64];
  int grid[2][3];
  Two twos[4];
  std::string words[2];
};
struct Defaults {
  int a = 1;
  std::string b = "b";
  std::vector<int> c = {1, 2};
  int d[3] = {1, 2, 3};
  std::array<int, 2> e = {4, 5};
};
struct Constant {
  const int a;
  const std::string b;
};
struct Bits {
  unsigned a : 3;
  unsigned b : 5;
  int c : 4;
  bool d : 1;
};
struct NoDefault {
  OrderId id;
  std::optional<int> a;
  std::string b;
  std::variant<int, std::string> c;
};
struct NoDefaultLast {
  std::string a;
  std::vector<OrderId> b;
  Two c;
  int d[3];
  OrderId id;
};
struct NoDefaultButInitialised {
  int a = 0;
  OrderId id = OrderId(7);
  int b = 0;
};
struct NoDefaults {
  OrderId a;
  OrderId b;
  OrderId c;
};
struct Aligned {
  alignas(32) char a;
  std::int64_t b;
};
struct Move {
  std::unique_ptr<int> a;
  std::map<std::string, std::unique_ptr<Two>> b;
};
struct Many32 {
  int a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15;
  int b0, b1, b2, b3, b4, b5, b6, b7, b8, b9, b10, b11, b12, b13, b14, b15;
};
struct Many33 {
  Many32 a;
  int b0, b1, b2, b3, b4, b5, b6, b7, b8, b9, b10, b11, b12, b13, b14, b15;
  int c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13, c14, c15;
};
struct Based : One {
  int b;
};
struct Tree {
  int value;
  std::vector<Tree> children;
};
struct List {
  int value;
  std::unique_ptr<List> next;
};

// Fields given by hand. A friend that takes `auto&` is one function of the namespace, so a namespace has room for one.
namespace a {
class Private {
 public:
  Private() = default;
  Private(int a, std::string b) : a_(a), b_(std::move(b)) {}
  int a() const { return a_; }
  const std::string& b() const { return b_; }

 private:
  friend auto idem_fields(auto& self) { return std::tie(self.a_, self.b_); }
  int a_ = 0;
  std::string b_;
};

}  // namespace a
using a::Private;

// Chooses, though it could be taken apart by itself.
namespace b {
struct Choosing {
  int a;
  int cache;
  friend auto idem_fields(auto& self) { return std::tie(self.a); }
};

}  // namespace b
using b::Choosing;

// The friend takes anything, but is not meant for the classes inside, nor for templates of the class.
namespace c {
class Outer {
 public:
  struct Item {
    int x;
    std::string y;
  };
  enum class Mode : unsigned char { slow = 1, fast };
  std::vector<Item> items;
  Mode mode = Mode::slow;
  friend auto idem_fields(auto& self) { return std::tie(self.items, self.mode, self.hidden_); }

 private:
  int hidden_ = 3;
};
}  // namespace c
using c::Outer;
template <class T>
struct Page {
  std::vector<T> items;
  int next;
};

// Written for the type itself.
class Typed {
 public:
  int value = 5;
  friend auto idem_fields(Typed& self) { return std::tie(self.value); }
};
class TypedTwice {
 public:
  int value = 5;
  friend auto idem_fields(TypedTwice& self) { return std::tie(self.value); }
  friend auto idem_fields(const TypedTwice& self) { return std::tie(self.value); }
};
namespace d {
class Final final {
 public:
  int value = 5;
  friend auto idem_fields(auto& self) { return std::tie(self.value); }
};
}  // namespace d
using d::Final;
namespace e {
class Polymorphic {
 public:
  virtual ~Polymorphic() = default;
  int value = 5;
  friend auto idem_fields(auto& self) { return std::tie(self.value); }
};
}  // namespace e
using e::Polymorphic;
class WithArray {
 public:
  int values[3] = {1, 2, 3};
  friend auto idem_fields(WithArray& self) { return std::tie(self.values); }
};
// Two of the same kind in one namespace, and in templates.
template <class T>
class Box {
 public:
  Box() = default;
  explicit Box(T value) : value_(std::move(value)) {}

 private:
  friend auto idem_fields(Box& self) { return std::tie(self.value_); }
  T value_{};
};
// Inherits the friend for its base, which says nothing about the field of its own.
class Derived : public Typed {
 public:
  int more = 0;
};
class Plain {
 public:
  explicit Plain(int a) : a_(a) {}
  int a() const { return a_; }

 private:
  int a_;
};

}  // namespace codec_fields

using namespace codec_fields;

TEST_CASE("KEY-05: the number of fields is found, arrays counting once") {
  CHECK(field_count<Empty> == 0);
  CHECK(field_count<One> == 1);
  CHECK(field_count<OneString> == 1);
  CHECK(field_count<OneVector> == 1);
  CHECK(field_count<OneOptional> == 1);
  CHECK(field_count<Two> == 2);
  CHECK(field_count<Nested> == 3);
  CHECK(field_count<Arrays> == 4);
  CHECK(field_count<Defaults> == 5);
  CHECK(field_count<Constant> == 2);
  CHECK(field_count<Bits> == 4);
  CHECK(field_count<NoDefault> == 4);
  CHECK(field_count<NoDefaultLast> == 5);
  CHECK(field_count<NoDefaultButInitialised> == 3);
  CHECK(field_count<NoDefaults> == 3);
  CHECK(field_count<Aligned> == 2);
  CHECK(field_count<Move> == 2);
  CHECK(field_count<Many32> == 32);
  CHECK(field_count<Many33> > 32);
  CHECK(field_count<Tree> == 2);
}

TEST_CASE("KEY-05: structs with equal fields are equal keys, whatever their padding holds") {
  Two a;
  Two b;
  std::memset(static_cast<void*>(&a), 0x00, sizeof a);
  std::memset(static_cast<void*>(&b), 0xff, sizeof b);
  a.a = b.a = 5;
  a.b = b.b = 1.5;
  CHECK(key_hex(a) == key_hex(b));
  b.b = 2.5;
  CHECK(key_hex(a) != key_hex(b));
}

TEST_CASE("KEY-05: a field isn't lost and doesn't change places") {
  CHECK(key_hex(Two{1, 2}) == "0b02" "030100000000000000" "070000000000000040");
  CHECK(key_hex(Nested{{1, 2}, {3}, {}}) ==
        "0b03" "0b02" "030100000000000000" "070000000000000040" "0b01" "030300000000000000" "0b00");
  Many32 many{};
  const std::string before = key_hex(many);
  many.b15 = 1;
  CHECK(key_hex(many) != before);
  CHECK(before.size() == 2 * (2 + 32 * 9));
}

TEST_CASE("SER-09: structs of every build come back") {
  CHECK(comes_back(Empty{}));
  CHECK(comes_back(One{1}));
  CHECK(comes_back(OneString{"x"}));
  CHECK(comes_back(OneVector{{1, 2}}));
  CHECK(comes_back(OneOptional{2}));
  CHECK(comes_back(OneOptional{}));
  CHECK(comes_back(Nested{{1, 2}, {3}, {}}));
  CHECK(comes_back(Arrays{"name", {{1, 2, 3}, {4, 5, 6}}, {{1, 2}, {3, 4}, {5, 6}, {7, 8}}, {"a", "b"}}));
  CHECK(comes_back(Defaults{}));
  CHECK(comes_back(Bits{5, 17, -3, true}));
  CHECK(comes_back(NoDefault{OrderId(1), 2, "3", "4"}));
  CHECK(comes_back(NoDefaultButInitialised{}));
  CHECK(comes_back(NoDefaults{OrderId(1), OrderId(2), OrderId(3)}));
  CHECK(comes_back(Aligned{'a', -1}));
  CHECK(comes_back(Tree{1, {{2, {}}, {3, {{4, {}}, {5, {}}}}}}));
  CHECK(comes_back(Many32{}));
  {
    const Constant constant{1, "b"};
    const auto back = decoded<Constant>(encoded(constant, idem::Form::exact));
    REQUIRE(back.has_value());
    CHECK(back->a == 1);
    CHECK(back->b == "b");
  }
  {
    Move move;
    move.a = std::make_unique<int>(4);
    move.b["x"] = nullptr;
    move.b["y"] = std::make_unique<Two>(Two{1, 2});
    CHECK(comes_back(move));
  }
  {
    List list{1, std::make_unique<List>(List{2, nullptr})};
    const auto back = decoded<List>(encoded(list, idem::Form::exact));
    REQUIRE(back.has_value());
    REQUIRE(back->next != nullptr);
    CHECK(back->next->value == 2);
    CHECK(back->next->next == nullptr);
  }
}

TEST_CASE("KEY-05: idem_fields opens what isn't an aggregate, and chooses where it is") {
  const Private value(4, "b");
  CHECK(key_hex(value) == "0b02" "030400000000000000" "090162");
  const auto back = decoded<Private>(encoded(value, idem::Form::exact));
  REQUIRE(back.has_value());
  CHECK(back->a() == 4);
  CHECK(back->b() == "b");
  CHECK(key_hex(Choosing{1, 2}) == key_hex(Choosing{1, 3}));
  CHECK(key_hex(Choosing{1, 2}) != key_hex(Choosing{2, 2}));
  CHECK(comes_back(Typed{}));
  CHECK(comes_back(TypedTwice{}));
  CHECK(comes_back(Final{}));
  CHECK(comes_back(Polymorphic{}));
  CHECK(comes_back(WithArray{}));
}

TEST_CASE("KEY-05: an idem_fields that takes anything is for its own class only") {
  Outer outer;
  outer.items.push_back({1, "one"});
  CHECK(comes_back(outer));
  CHECK(comes_back(Outer::Item{1, "one"}));
  CHECK(key_hex(Outer::Item{1, "one"}) == "0b02" "030100000000000000" "09036f6e65");
  CHECK(comes_back(std::vector<Private>{Private(1, "a"), Private(2, "b")}));
  CHECK(comes_back(Page<Private>{{Private(1, "a")}, 3}));
  CHECK(comes_back(Page<Outer::Item>{{{1, "a"}}, 3}));
  CHECK(comes_back(Box<int>(3)));
  CHECK(comes_back(Box<Box<std::string>>(Box<std::string>("x"))));
  CHECK(comes_back(std::make_pair(Private(1, "a"), Outer::Mode::fast)));
}

TEST_CASE("KEY-06: what can't be taken apart is refused") {
  CHECK_FALSE(idem::KeyPart<Many33>);
  CHECK_FALSE(idem::KeyPart<Based>);
  CHECK_FALSE(idem::KeyPart<Derived>);
  CHECK_FALSE(idem::KeyPart<Plain>);
  CHECK_FALSE(idem::Storable<Plain>);
  CHECK(idem::KeyPart<OrderId>);
  CHECK(idem::Storable<OrderId>);
  CHECK(idem::KeyPart<Tree>);
  CHECK(idem::Storable<List>);
}
