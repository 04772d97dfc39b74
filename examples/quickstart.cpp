// Replays a log of webhook deliveries through a guarded charge, from several threads at once.
//
//   g++ -std=c++20 -O2 -pthread -Iinclude examples/quickstart.cpp -o quickstart
//   ./quickstart examples/data/deliveries.csv [threads]
//
// A payment provider delivers every event at least once: again when our answer was lost, again hours later, several
// times in the same millisecond. Each delivery asks for the same charge; the money may move once. The guard is in
// replay(); the rest is what any such service has around it, and a gateway that counts, without help from idem, how
// often it really was charged.
//
// Time is virtual: the log spans days and is replayed as fast as the machine allows. Its times decide the order and
// which deliveries overlap, nothing else. The guard's ttl runs on the real clock and must outlast the replay, as it
// must outlast the provider's last retry in production.
//
// Exit code: 0 when every check at the end holds, 1 when one does not, 2 for a bad command line or a bad log.
#include <idem/idem.hpp>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

namespace {

// Money is an integer number of the currency's minor unit: cents for EUR, yen for JPY, fils for KWD.
struct Payment {
  std::string id;
  std::int64_t amount_minor;
  std::string currency;
};

struct Receipt {
  std::int64_t charge_number;  // the gateway's, new for every charge
  std::int64_t amount_minor;
};

struct Delivery {
  std::int64_t at_ms;  // arrival, milliseconds since 1970, virtual
  Payment payment;
  std::uint32_t gateway_refusals;  // how often the gateway refuses this payment before it accepts it
};

/// The gateway could not be reached. It is thrown before any money moves, so that trying again is safe: this is what
/// an exception means to idem unless the guard is told otherwise.
struct GatewayError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Takes the money, and keeps its own books. A real gateway would recognise `idempotency_key`; this one deliberately
/// charges whenever it is asked to, because it is here to count. Safe from many threads.
class Gateway {
 public:
  struct Account {
    std::uint32_t refusals_left = 0;
    std::int64_t charges = 0;
    std::int64_t last_charge = 0;
    std::string idempotency_key;
    bool key_changed = false;
  };

  Gateway(const std::vector<Delivery>& log, std::chrono::microseconds round_trip) : round_trip_(round_trip) {
    for (const Delivery& delivery : log) {
      accounts_[delivery.payment.id].refusals_left = delivery.gateway_refusals;
    }
  }

  Receipt charge(const Payment& payment, const std::string& idempotency_key) {
    if (round_trip_.count() > 0) {
      std::this_thread::sleep_for(round_trip_);  // long enough for duplicates to meet a charge that is still running
    }
    const std::lock_guard lock(mutex_);
    Account& account = accounts_[payment.id];
    if (account.idempotency_key.empty()) {
      account.idempotency_key = idempotency_key;
    }
    account.key_changed = account.key_changed || account.idempotency_key != idempotency_key;
    if (account.refusals_left > 0) {
      --account.refusals_left;
      ++refused_;
      throw GatewayError("the gateway does not answer");
    }
    ++account.charges;
    account.last_charge = ++charges_;
    minor_units_[payment.currency] += payment.amount_minor;
    return {account.last_charge, payment.amount_minor};
  }

  /// Whether this is the receipt for the last charge of exactly this payment.
  bool issued(const Receipt& receipt, const Payment& payment) const {
    const std::lock_guard lock(mutex_);
    return receipt.charge_number == accounts_.at(payment.id).last_charge &&
           receipt.amount_minor == payment.amount_minor;
  }

  // The books. Only to be read when no thread is charging any more.
  const std::unordered_map<std::string, Account>& accounts() const { return accounts_; }
  const std::map<std::string, std::int64_t>& minor_units() const { return minor_units_; }
  std::int64_t charges() const { return charges_; }
  std::int64_t refused() const { return refused_; }

 private:
  std::chrono::microseconds round_trip_;
  mutable std::mutex mutex_;
  std::unordered_map<std::string, Account> accounts_;
  std::map<std::string, std::int64_t> minor_units_;  // by currency: sums of different currencies are never added
  std::int64_t charges_ = 0;
  std::int64_t refused_ = 0;
};

// ---- the log

struct BadLog : std::runtime_error {
  using std::runtime_error::runtime_error;
};

constexpr std::string_view header = "delivered_at_ms,payment_id,attempt,amount_minor,currency,gateway_refusals";
constexpr std::size_t columns = 6;

/// Reads one log line by line and says file, line and reason of the first thing that is wrong with it.
class LogReader {
 public:
  explicit LogReader(std::string path) : path_(std::move(path)) {}

  std::vector<Delivery> read() {
    std::ifstream file(path_, std::ios::binary);
    if (!file) {
      throw BadLog(path_ + ": cannot be opened");
    }
    std::vector<Delivery> log;
    std::unordered_map<std::string, std::uint32_t> refusals;
    for (std::string line; std::getline(file, line);) {
      ++line_number_;
      if (!line.empty() && line.back() == '\r') {
        line.pop_back();
      }
      if (line_number_ == 1) {
        if (line != header) {
          refuse("the first line must be: " + std::string(header));
        }
        continue;
      }
      Delivery delivery = parse(line);
      if (!log.empty() && delivery.at_ms < log.back().at_ms) {
        refuse("delivered_at_ms is earlier than in the line before; the log must be in order of arrival");
      }
      if (refusals.try_emplace(delivery.payment.id, delivery.gateway_refusals).first->second !=
          delivery.gateway_refusals) {
        refuse("gateway_refusals differs from an earlier line of the same payment");
      }
      log.push_back(std::move(delivery));
    }
    if (file.bad()) {
      throw BadLog(path_ + ": cannot be read");
    }
    if (line_number_ == 0) {
      throw BadLog(path_ + ":1: the file is empty; a header line is expected");
    }
    return log;
  }

 private:
  Delivery parse(std::string_view line) const {
    std::string_view fields[columns];
    std::size_t count = 0;
    for (std::string_view rest = line;; ++count) {
      const std::size_t comma = rest.find(',');
      if (count < columns) {
        fields[count] = rest.substr(0, comma);
      }
      if (comma == std::string_view::npos) {
        break;
      }
      rest.remove_prefix(comma + 1);
    }
    ++count;
    if (count != columns) {
      refuse(std::to_string(columns) + " fields expected, " + std::to_string(count) + " found");
    }
    const std::string_view id = fields[1];
    if (id.empty() || id.size() > 64 || !std::all_of(id.begin(), id.end(), is_id_character)) {
      refuse("payment_id must be 1 to 64 letters, digits, '_' or '-'");
    }
    const std::string_view currency = fields[4];
    if (currency.size() != 3 || !std::all_of(currency.begin(), currency.end(), is_capital)) {
      refuse("currency must be three capital letters (ISO 4217)");
    }
    static_cast<void>(number(fields[2], "attempt", 1, 1000));  // the handler has no use for it, but a typo is a typo
    // With amounts up to 10^12 a sum of nine million deliveries still fits into 64 bits.
    return {number(fields[0], "delivered_at_ms", 0, 253'402'300'799'999),
            {std::string(id), number(fields[3], "amount_minor", 1, 1'000'000'000'000), std::string(currency)},
            static_cast<std::uint32_t>(number(fields[5], "gateway_refusals", 0, 1'000'000))};
  }

  std::int64_t number(std::string_view text, const char* name, std::int64_t least, std::int64_t most) const {
    std::int64_t value = 0;
    const char* end = text.data() + text.size();
    const std::from_chars_result result = std::from_chars(text.data(), end, value);
    if (result.ec != std::errc{} || result.ptr != end || value < least || value > most) {
      refuse(std::string(name) + " must be a whole number from " + std::to_string(least) + " to " +
             std::to_string(most));
    }
    return value;
  }

  static bool is_capital(char c) { return c >= 'A' && c <= 'Z'; }
  static bool is_id_character(char c) {
    return is_capital(c) || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  }

  [[noreturn]] void refuse(const std::string& reason) const {
    throw BadLog(path_ + ":" + std::to_string(line_number_) + ": " + reason);
  }

  std::string path_;
  std::size_t line_number_ = 0;
};

/// Hands the deliveries to the workers in the order of the log. One is held back while another that arrived more than
/// `answer_time` earlier is still being answered: by then the provider would have given up waiting, so that handing it
/// out would let a slow thread reorder deliveries that are hours apart. Those of a burst run side by side.
class Deliveries {
 public:
  Deliveries(const std::vector<Delivery>& log, std::size_t workers) : log_(log), running_since_(workers, idle) {}

  /// The next delivery for this worker, which has answered its previous one; null at the end of the log.
  const Delivery* take(std::size_t worker) {
    std::unique_lock lock(mutex_);
    running_since_[worker] = idle;
    changed_.notify_all();
    changed_.wait(lock, [this] {
      return next_ == log_.size() ||
             log_[next_].at_ms - answer_time <= *std::min_element(running_since_.begin(), running_since_.end());
    });
    if (next_ == log_.size()) {
      return nullptr;
    }
    const Delivery& delivery = log_[next_++];
    running_since_[worker] = delivery.at_ms;
    return &delivery;
  }

 private:
  static constexpr std::int64_t answer_time = 10'000;
  static constexpr std::int64_t idle = INT64_MAX;

  const std::vector<Delivery>& log_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::int64_t> running_since_;
  std::size_t next_ = 0;
};

// ---- the guarded charge

struct Counts {
  std::int64_t charged = 0;
  std::int64_t replayed = 0;
  std::int64_t gateway_errors = 0;
  std::int64_t conflicts = 0;
  std::int64_t unexpected = 0;
  std::int64_t wrong_receipts = 0;
};

Counts replay(const std::vector<Delivery>& log, Gateway& gateway, std::size_t workers) {
  auto charge_once = idem::idempotent<"charge">(
      [&gateway](const Payment& payment, idem::Context& run) {
        return gateway.charge(payment, run.derived_key("gateway"));
      },
      {
          .ttl = std::chrono::days{31},                  // longer than the provider goes on retrying
          .on_duplicate = idem::OnDuplicate::wait,       // a duplicate of a running charge waits for its receipt
          .on_conflict = idem::OnConflict::raise,        // the same id with another amount is somebody's mistake
      },
      idem::key_by([](const Payment& payment) { return payment.id; }));

  Deliveries deliveries(log, workers);
  Counts total;
  std::mutex total_mutex;

  const auto work = [&](std::size_t worker) {
    Counts mine;
    while (const Delivery* delivery = deliveries.take(worker)) {
      const Payment& payment = delivery->payment;
      const idem::Outcome<Receipt> outcome = charge_once.try_call(payment);
      switch (outcome.verdict()) {
        case idem::Verdict::executed:
          ++mine.charged;
          break;
        case idem::Verdict::replayed:
          ++mine.replayed;
          break;
        case idem::Verdict::failed:  // nothing was charged; an error goes back and the provider delivers it again
          ++mine.gateway_errors;
          break;
        case idem::Verdict::conflict:  // for a person to look at; nothing was charged
          ++mine.conflicts;
          break;
        default:
          ++mine.unexpected;
          std::cerr << payment.id << ": " << outcome.error().message << '\n';
      }
      if (outcome.has_value() && !gateway.issued(outcome.value(), payment)) {
        ++mine.wrong_receipts;
      }
    }
    const std::lock_guard lock(total_mutex);
    total.charged += mine.charged;
    total.replayed += mine.replayed;
    total.gateway_errors += mine.gateway_errors;
    total.conflicts += mine.conflicts;
    total.unexpected += mine.unexpected;
    total.wrong_receipts += mine.wrong_receipts;
  };

  std::vector<std::thread> threads;
  for (std::size_t worker = 0; worker < workers; ++worker) {
    threads.emplace_back(work, worker);
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  return total;
}

/// The same deliveries, one after another, to a handler without a guard.
void replay_unguarded(const std::vector<Delivery>& log, Gateway& gateway) {
  for (const Delivery& delivery : log) {
    try {
      gateway.charge(delivery.payment, delivery.payment.id);
    } catch (const GatewayError&) {
      // The provider delivers it again.
    }
  }
}

// ---- the report

/// Payments by how often the gateway charged them.
struct Books {
  std::int64_t charged_once = 0;
  std::int64_t charged_more_than_once = 0;
  std::int64_t never_charged = 0;
  std::int64_t keys_changed = 0;
};

Books read_books(const Gateway& gateway) {
  Books books;
  for (const auto& [id, account] : gateway.accounts()) {
    books.never_charged += account.charges == 0 ? 1 : 0;
    books.charged_once += account.charges == 1 ? 1 : 0;
    books.charged_more_than_once += account.charges > 1 ? 1 : 0;
    books.keys_changed += account.key_changed ? 1 : 0;
  }
  return books;
}

void line(std::string_view name, std::int64_t value, std::string_view meaning) {
  std::cout << std::left << std::setw(24) << name << std::right << std::setw(9) << value;
  if (!meaning.empty()) {
    std::cout << "   " << meaning;
  }
  std::cout << '\n';
}

void report(const std::vector<Delivery>& log, const Counts& counts, const Gateway& gateway, const Gateway& unguarded) {
  const Books books = read_books(gateway);
  line("deliveries", static_cast<std::int64_t>(log.size()), "");
  line("  charged", counts.charged, "ran: the gateway took the money");
  line("  replayed", counts.replayed, "a duplicate: answered with the stored receipt");
  line("  gateway_error", counts.gateway_errors, "failed before any money moved: free to be retried");
  line("  conflict", counts.conflicts, "a known payment with another amount: refused and reported");
  std::cout << '\n';
  line("payments", books.charged_once + books.charged_more_than_once + books.never_charged, "");
  line("  charged_once", books.charged_once, "");
  line("  charged_twice_or_more", books.charged_more_than_once, "by the gateway's own count");
  line("  never_charged", books.never_charged, "the gateway refused every delivery in the log");
  std::cout << "\nMoney in minor units (cents, pence, yen, fils), by currency.\n"
               "currency        charged  without a guard  charged too much\n";
  for (const auto& [currency, naive] : unguarded.minor_units()) {
    const auto found = gateway.minor_units().find(currency);
    const std::int64_t charged = found == gateway.minor_units().end() ? 0 : found->second;
    std::cout << currency << std::setw(20) << charged << std::setw(17) << naive << std::setw(18) << naive - charged
              << '\n';
  }
  std::cout << '\n';
  line("unguarded_twice_or_more", read_books(unguarded).charged_more_than_once,
       "payments that a handler without a guard charges again");
}

/// What must hold whatever the threads did. The gateway's books are the witness; idem had no part in them.
bool check(const std::vector<Delivery>& log, const Counts& counts, const Gateway& gateway) {
  const Books books = read_books(gateway);
  bool good = true;
  const auto expect = [&good](bool holds, const char* promise) {
    if (!holds) {
      std::cout << "BROKEN: " << promise << '\n';
      good = false;
    }
  };
  expect(books.charged_more_than_once == 0, "no payment is charged more than once");
  expect(counts.charged == gateway.charges(), "a call that says it ran is a charge in the gateway's books");
  expect(counts.gateway_errors == gateway.refused(), "a call that says it failed is a refusal of the gateway");
  expect(counts.wrong_receipts == 0, "every receipt is the gateway's own for this payment");
  expect(books.keys_changed == 0, "every attempt at a payment carries the same key to the gateway");
  expect(counts.unexpected == 0, "no call ends in any other way");
  expect(counts.charged + counts.replayed + counts.gateway_errors + counts.conflicts + counts.unexpected ==
             static_cast<std::int64_t>(log.size()),
         "every delivery is answered");
  std::cout << (good ? "\nEvery check holds.\n" : "\nSomething is wrong.\n");
  return good;
}

}  // namespace

int main(int argc, char** argv) {
  std::size_t workers = 8;
  bool usable = argc == 2 || argc == 3;
  if (argc == 3) {
    const std::string_view text = argv[2];
    const std::from_chars_result result = std::from_chars(text.data(), text.data() + text.size(), workers);
    usable = result.ec == std::errc{} && result.ptr == text.data() + text.size() && workers >= 1 && workers <= 256;
  }
  if (!usable) {
    std::cerr << "usage: quickstart DELIVERIES.csv [THREADS]\n"
                 "Replays a log of webhook deliveries through a guarded charge, from 1 to 256 threads (default 8).\n";
    return 2;
  }
  try {
    const std::vector<Delivery> log = LogReader(argv[1]).read();
    Gateway gateway(log, std::chrono::microseconds{50});
    const Counts counts = replay(log, gateway, workers);
    Gateway unguarded(log, std::chrono::microseconds{0});
    replay_unguarded(log, unguarded);
    report(log, counts, gateway, unguarded);
    return check(log, counts, gateway) ? 0 : 1;
  } catch (const BadLog& error) {
    std::cerr << error.what() << '\n';
    return 2;
  }
}
