// Keys by hand are the keys of guards.
#include <idem/idem.hpp>

#include <doctest/doctest.h>

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace make_key {

using idem::KeySpec;

TEST_CASE("make_key gives the key that a guard of this name gives a call with these arguments") {
  const auto f = [](int, const std::string&, std::optional<double>) { return 0; };
  const idem::Key of_guard = idem::idempotent<"webhook">(f).key(1, "evt", 2.5);
  const idem::Key by_hand = idem::make_key("webhook", 1, "evt", std::optional<double>{2.5});
  CHECK(by_hand == of_guard);
  CHECK(by_hand.digest() == of_guard.digest());
  CHECK(by_hand.text() == of_guard.text());
  CHECK(by_hand.derived("x") == of_guard.derived("x"));

  CHECK(
      idem::make_key(KeySpec{.name = "webhook", .scope = "tenant", .version = 3}, 1, "evt", std::optional<double>{}) ==
      idem::idempotent<"webhook">(f, {.version = 3, .scope = "tenant"}).key(1, "evt", {}));
  const std::string secret(32, 's');
  const idem::Key keyed =
      idem::make_key(KeySpec{.name = "webhook", .secret = secret}, 1, "evt", std::optional<double>{});
  CHECK(keyed.digest() == idem::idempotent<"webhook">(f, idem::keyed_with(secret)).key(1, "evt", {}).digest());
  CHECK(keyed.digest() != idem::make_key("webhook", 1, "evt", std::optional<double>{}).digest());
  CHECK(idem::make_key("webhook") == idem::idempotent<"webhook">([] { return 0; }).key());
  CHECK(idem::make_key("webhook", 7) ==
        idem::idempotent<"webhook">(f, idem::key_by([](const auto&...) { return 7; })).key(1, "evt", {}));
}

TEST_CASE("the same parts make the same key, in any form of a string") {
  const std::string id = "evt_1";
  const idem::Key key = idem::make_key("webhook", id);
  CHECK(key.valid());
  CHECK(key == idem::make_key("webhook", "evt_1"));
  CHECK(key == idem::make_key("webhook", std::string_view{"evt_1"}));
  CHECK(key == idem::make_key("webhook", id.c_str()));
  CHECK(key == idem::make_key(std::string("webhook"), id));
  CHECK(key != idem::make_key("webhook", "evt_2"));
  CHECK(key != idem::make_key("Webhook", "evt_1"));
  CHECK(key != idem::make_key("webhook", "evt_1", 1));
  CHECK(key.text().substr(0, 10) == "webhook@1:");
}

TEST_CASE("CORE-15: a key without a name, or whose parts say nothing, is refused rather than shared by all") {
  CHECK_THROWS_AS(idem::make_key("", 1), idem::SerializationError);
  CHECK_THROWS_AS(idem::make_key(KeySpec{}, 1), idem::SerializationError);
  CHECK_THROWS_AS(idem::make_key("webhook", ""), idem::SerializationError);
  CHECK_THROWS_AS(idem::make_key("webhook", std::string{}), idem::SerializationError);
  CHECK_THROWS_AS(idem::make_key("webhook", std::string_view{}), idem::SerializationError);
  const char* const empty = "";
  CHECK_THROWS_AS(idem::make_key("webhook", empty), idem::SerializationError);
  const char* const null = nullptr;
  CHECK_THROWS_AS(idem::make_key("webhook", null), idem::SerializationError);
  CHECK_THROWS_AS(idem::make_key("webhook", std::optional<int>{}), idem::SerializationError);
  CHECK_THROWS_AS(idem::make_key("webhook", std::vector<int>{}), idem::SerializationError);
  CHECK_THROWS_AS(idem::make_key("webhook", "", std::optional<int>{}), idem::SerializationError);
  CHECK_NOTHROW(idem::make_key("webhook", "", 1));
  CHECK_NOTHROW(idem::make_key("webhook", 0));
  CHECK_NOTHROW(idem::make_key("webhook"));
}

TEST_CASE("KEY-03: NaN is refused, and the error says that nothing ran and holds no key") {
  try {
    static_cast<void>(idem::make_key("webhook", std::numeric_limits<double>::quiet_NaN()));
    CHECK(false);
  } catch (const idem::SerializationError& error) {
    CHECK(error.effect() == idem::Effect::not_run);
    CHECK(error.verdict() == idem::Verdict::invalid_key);
    CHECK_FALSE(error.key().valid());
    CHECK(std::string_view(error.what()).find("NaN") != std::string_view::npos);
  }
}

TEST_CASE("a key outlives everything that it was made of") {
  std::optional<idem::Key> kept;
  std::string text;
  {
    const auto guard = idem::idempotent<"gone">([](const std::string& value) { return value; });
    std::string argument = "argument";
    kept = guard.key(argument);
    text = kept->text();
  }
  const idem::Key copy = *kept;
  kept.reset();
  CHECK(copy.text() == text);
  CHECK(copy.name() == "gone");
  CHECK(copy == idem::make_key("gone", "argument"));
}

}  // namespace make_key

TEST_CASE("a key that was moved from may be copied, whatever became of the one it was moved to") {
  idem::Key first = idem::make_key("moved", 1);
  { const idem::Key taken = std::move(first); }
  const idem::Key copy = first;  // NOLINT: what is left is the point
  CHECK_FALSE(copy == idem::make_key("moved", 1));
  first = idem::make_key("moved", 2);
  CHECK(first.name() == "moved");
}

TEST_CASE("KEY-17: a character buffer that isn't full is refused rather than keyed by what is left over in it") {
  char id[32] = "evt_1";
  id[20] = 'x';
  CHECK_THROWS_AS(static_cast<void>(idem::make_key("webhook", id)), idem::SerializationError);
  CHECK(idem::make_key("webhook", std::string_view(id)) == idem::make_key("webhook", "evt_1"));
  const char full[5] = {'e', 'v', 't', '_', '1'};
  CHECK(idem::make_key("webhook", full) == idem::make_key("webhook", "evt_1"));
}
