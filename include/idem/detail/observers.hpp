// A guard's observers.
#pragma once

#include <idem/detail/config.hpp>
#include <idem/event.hpp>
#include <idem/key.hpp>
#include <idem/protocol.hpp>

#include <cstddef>
#include <string_view>

IDEM_BEGIN_NAMESPACE
namespace detail {

/// Handlers in the order in which they're called, of which there are few. Filled before anybody calls them; a vector
/// would cost more to include than the guard itself. Thread safety: a plain value.
class Observers {
 public:
  Observers() noexcept = default;
  /// Room for so many.
  explicit Observers(std::size_t count) : handlers_(count == 0 ? nullptr : new EventHandler[count]) {}
  Observers(const Observers&) = delete;
  Observers& operator=(const Observers&) = delete;
  ~Observers() { delete[] handlers_; }

  /// REQUIRES: there is room.
  void add(const EventHandler& handler) noexcept { handlers_[count_++] = handler; }

  bool empty() const noexcept { return count_ == 0; }
  const EventHandler* begin() const noexcept { return handlers_; }
  const EventHandler* end() const noexcept { return handlers_ + count_; }

 private:
  EventHandler* handlers_ = nullptr;
  std::size_t count_ = 0;
};

inline void tell(const Observers& observers, EventKind kind, const Key& key, const Record& record,
                 std::string_view message = {}) {
  if (observers.empty()) return;
  const Event event{kind, key, record.owner.epoch, record.attempt, message};
  for (const EventHandler& observer : observers) observer(event);
}

}  // namespace detail
IDEM_END_NAMESPACE
