// A nightly job, as cron starts it: sums up a day's payments and sends one statement for each currency.
//
//   g++ -std=c++20 -O2 -pthread -Iinclude examples/nightly_report.cpp -o nightly_report
//   ./nightly_report 2026-03-02 --die-half-way    (killed by SIGKILL after two of five statements)
//   ./nightly_report 2026-03-02                   (sends the three that are missing)
//   ./nightly_report 2026-03-02                   (sends nothing: the night's job is done)
//
// A statement that was sent can't be taken back, so that the job may run once for each day: not again when cron fires
// twice, when an operator starts it by hand, or when the machine comes back after a crash in the middle. What a crash
// leaves is in doubt, and nobody but the outbox knows how far the job came: recover() asks the outbox and does the
// rest.
//
// Everything is written below nightly_report.d in the current directory: the records of idem in idem/, and outbox.csv,
// which stands for the mail server's own list of what it was given.
//
// Exit code: 0 when the day's report is out, 1 when it isn't, 2 for a bad command line or a bad log.
#include <idem/idem.hpp>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>

namespace {

using namespace std::chrono_literals;

const std::filesystem::path home = "nightly_report.d";
const std::filesystem::path outbox_file = home / "outbox.csv";

struct Report {
  std::int64_t statements = 0;  // sent in all, whoever sent them
  std::int64_t payments = 0;
};

struct Sum {
  std::int64_t payments = 0;
  std::int64_t amount_minor = 0;
};

/// "2026-03-02" of milliseconds since 1970, UTC.
std::string date_of(std::int64_t at_ms) {
  const std::chrono::sys_time<std::chrono::milliseconds> time{std::chrono::milliseconds{at_ms}};
  const std::chrono::year_month_day day{std::chrono::floor<std::chrono::days>(time)};
  const auto two = [](unsigned number) { return (number < 10 ? "0" : "") + std::to_string(number); };
  return std::to_string(static_cast<int>(day.year())) + '-' + two(static_cast<unsigned>(day.month())) + '-' +
         two(static_cast<unsigned>(day.day()));
}

/// The sums of a day, by currency. A payment that was delivered several times counts where it was delivered first.
std::map<std::string, Sum> sums_of(const std::string& date, const std::string& log) {
  std::ifstream file(log);
  std::string line;
  if (!std::getline(file, line)) throw std::invalid_argument("cannot read " + log);
  std::map<std::string, Sum> sums;
  std::set<std::string> seen;
  while (std::getline(file, line)) {
    std::string field[6];
    std::size_t from = 0;
    for (std::string& part : field) {
      const std::size_t to = line.find(',', from);
      if (from > line.size()) throw std::invalid_argument("a line of " + log + " has too few fields");
      part = line.substr(from, to == std::string::npos ? to : to - from);
      from = to == std::string::npos ? line.size() + 1 : to + 1;
    }
    if (!seen.insert(field[1]).second || date_of(std::stoll(field[0])) != date) continue;
    Sum& sum = sums[field[4]];
    ++sum.payments;
    sum.amount_minor += std::stoll(field[3]);
  }
  // A job that was started too early must not count as done.
  if (sums.empty()) throw std::invalid_argument(log + " has no payments of " + date);
  return sums;
}

/// What the mail server was given for a day: its currencies.
std::set<std::string> sent_for(const std::string& date) {
  std::ifstream file(outbox_file);
  std::set<std::string> sent;
  for (std::string line; std::getline(file, line);) {
    if (line.compare(0, date.size() + 1, date + ',') == 0) sent.insert(line.substr(date.size() + 1, 3));
  }
  return sent;
}

/// Hands one statement to the mail server. There is no way back from here.
void send(const std::string& date, const std::string& currency, const Sum& sum) {
  std::ofstream file(outbox_file, std::ios::app);
  file << date << ',' << currency << ',' << sum.payments << ',' << sum.amount_minor << std::endl;
  if (!file) throw std::runtime_error("the mail server doesn't answer");
  std::cout << "  sent: " << date << ' ' << currency << ", " << sum.payments << " payments\n";
}

struct Job {
  std::string log;
  bool die_half_way = false;

  /// The effect. It throws before the first statement where it can't read the log, which says "nothing happened"; what
  /// it throws later is told apart by failure_of().
  Report run(const std::string& date) const {
    const std::map<std::string, Sum> sums = sums_of(date, log);
    Report report;
    for (const auto& [currency, sum] : sums) {
      if (die_half_way && report.statements == 2) {
        std::cout << "  killed half-way" << std::endl;
        std::raise(SIGKILL);
      }
      send(date, currency, sum);
      ++report.statements;
      report.payments += sum.payments;
    }
    return report;
  }

  /// Asked about a run that nobody knows the end of: does what is missing of it.
  Report finish(const std::string& date) const {
    const std::set<std::string> sent = sent_for(date);
    std::cout << "  an earlier run was cut off after " << sent.size() << " statements\n";
    Report report;
    for (const auto& [currency, sum] : sums_of(date, log)) {
      if (sent.count(currency) == 0) send(date, currency, sum);
      ++report.statements;
      report.payments += sum.payments;
    }
    return report;
  }
};

/// Statements may be out once the log has been read.
idem::Failure failure_of(const std::exception_ptr& thrown) {
  try {
    std::rethrow_exception(thrown);
  } catch (const std::invalid_argument&) {
    return idem::Failure::retryable;
  } catch (...) {
    return idem::Failure::in_doubt;
  }
}

int nightly_report(const std::string& date, const Job& job) {
  std::filesystem::create_directories(home);
  idem::FileStore store((home / "idem").string(), {.on_event = [](const idem::Event& event) {
                          if (event.kind == idem::EventKind::store_warning) std::cerr << event.message << '\n';
                        }});
  const auto report_once = idem::idempotent<"nightly_report">(
      [&job](const std::string& day) { return job.run(day); },
      {.ttl = 24h * 400, .on_duplicate = idem::OnDuplicate::wait}, store,
      idem::recover_with([&job](const std::string& day) { return std::optional<Report>(job.finish(day)); }),
      idem::classify_failure(failure_of));

  const idem::Outcome<Report> outcome = report_once.try_call(date);
  if (outcome.verdict() == idem::Verdict::failed) static_cast<void>(outcome.value());  // throws what the function threw
  if (!outcome.has_value()) {
    std::cerr << date << ": " << outcome.error().message << '\n';
    return 1;
  }
  const char* how = outcome.verdict() == idem::Verdict::executed    ? "sent now"
                    : outcome.verdict() == idem::Verdict::recovered ? "resumed and finished"
                    : outcome.verdict() == idem::Verdict::replayed  ? "was out already, nothing sent"
                                                                    : "sent, but that isn't on record";
  std::cout << date << ": " << outcome.value().statements << " statements about " << outcome.value().payments
            << " payments, " << how << '\n';
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string date = argc > 1 ? argv[1] : "";
  Job job{"examples/data/deliveries.csv", false};
  bool understood = date.size() == 10 && date[4] == '-' && date[7] == '-';
  for (int i = 2; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--die-half-way") {
      job.die_half_way = true;
    } else if (word.compare(0, 2, "--") != 0) {
      job.log = word;
    } else {
      understood = false;
    }
  }
  if (!understood) {
    std::cerr << "usage: nightly_report YYYY-MM-DD [DELIVERIES.csv] [--die-half-way]\n";
    return 2;
  }
  try {
    return nightly_report(date, job);
  } catch (const std::invalid_argument& error) {
    std::cerr << error.what() << '\n';
    return 2;
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
