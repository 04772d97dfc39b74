// KEY-08: the keys of these calls are the same with every compiler, on every machine, in every version.
#include "golden/golden_cases.hpp"

#include <doctest/doctest.h>

#include <map>
#include <set>
#include <string>
#include <vector>

namespace key_golden {

TEST_CASE("KEY-08: golden vectors hold: a changed key is a second payment") {
  const std::vector<golden::Vector> kept = golden::read_vectors(golden::vectors_file());
  const std::vector<golden::Vector> made = golden::all_vectors();
  REQUIRE(kept.size() >= 500);
  CHECK(made.size() == kept.size());
  std::map<std::string, std::string> by_name;
  for (const golden::Vector& vector : kept) by_name[vector.name] = vector.text;
  REQUIRE(by_name.size() == kept.size());
  for (const golden::Vector& vector : made) {
    INFO(vector.name);
    const auto found = by_name.find(vector.name);
    REQUIRE(found != by_name.end());
    CHECK(vector.text == found->second);
  }
}

std::map<std::string, std::string> by_name() {
  std::map<std::string, std::string> all;
  for (const golden::Vector& vector : golden::all_vectors()) all[vector.name] = vector.text;
  return all;
}

TEST_CASE("KEY-02: values of one kind that are equal are one key, whatever their type") {
  std::map<std::string, std::string> of = by_name();
  CHECK(of["int8.1"] == of["uint64.1"]);
  CHECK(of["long.42"] == of["int32.42"]);
  CHECK(of["char.65"] == of["char8.A"]);
  CHECK(of["float.half"] == of["double.half"]);
  CHECK(of["double.zero"] == of["double.minus-zero"]);
  CHECK(of["string.literal"] == of["string.view"]);
  CHECK(of["string.literal"] == of["string.string"]);
  CHECK(of["string.literal"] == of["string.pointer"]);
  CHECK(of["string.literal"] == of["string.u8"]);
  CHECK(of["vector"] == of["deque"]);
  CHECK(of["vector"] == of["c-array"]);
  CHECK(of["set"] == of["unordered_set"]);
  CHECK(of["map"] == of["unordered_map"]);
  CHECK(of["duration.h.1"] == of["duration.s.3600"]);
  CHECK(of["optional.absent"] == of["unique_ptr.absent"]);
}

TEST_CASE("KEY-02: kinds of their own never meet") {
  std::map<std::string, std::string> of = by_name();
  const std::vector<std::string> all = {"bool.true",
                                        "int32.1",
                                        "double.one",
                                        "enum.color.1",
                                        "string.length-1",
                                        "optional.present",
                                        "variant.first-int",
                                        "variant.second-int",
                                        "tuple.one",
                                        "vector.empty",
                                        "map.empty",
                                        "empty",
                                        "monostate",
                                        "path.empty",
                                        "string.length-0",
                                        "optional.absent",
                                        "duration.s.1",
                                        "time.1",
                                        "set",
                                        "vector",
                                        "multiset",
                                        "float.third",
                                        "double.third",
                                        "error_code.none"};
  std::set<std::string> seen;
  for (const std::string& name : all) {
    INFO(name);
    REQUIRE(of.count(name) == 1);
    CHECK(seen.insert(of[name]).second);
  }
}

TEST_CASE("KEY-01: where arguments are cut is part of the key") {
  std::map<std::string, std::string> of = by_name();
  std::set<std::string> seen;
  for (const char* name : {"cut.ab-c", "cut.a-bc", "cut.abc", "cut.-abc", "cut.abc-"})
    CHECK(seen.insert(of[name]).second);
}

}  // namespace key_golden
