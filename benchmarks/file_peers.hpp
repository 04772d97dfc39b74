// What the file benchmark measures idem against, and idem itself, behind one interface.
//
// A peer is opened by each process for itself. `pair` is a call that is made for the first time: claim, function,
// completion. `duplicate` is one that was made before. All end the program where something fails.
#pragma once

#include <fcntl.h>
#include <lmdb.h>
#include <sqlite3.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <idem/detail/file/futex.hpp>
#include <idem/detail/file/sync_group.hpp>
#include <idem/detail/sha256.hpp>
#include <idem/file_store.hpp>
#include <idem/idempotent.hpp>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "caller.hpp"
#include "invoice.hpp"

namespace bench {

// idem

inline auto make_guard(idem::FileStore& store) {
  return idem::idempotent<"create_invoice">(create_invoice, store);
}

/// Through the guard, as a program would: key, SHA-256, encoding and decoding are part of the time.
class IdemPeer : public Peer {
 public:
  IdemPeer(const std::string& directory, idem::Durability durability)
      : store_(directory, {.durability = durability}), guard_(make_guard(store_)) {
    const idem::Reply opened = store_.open();
    if (opened.answer != idem::Answer::ok) give_up("idem", opened.message.c_str());
  }

  std::unique_ptr<Caller> caller() override { return std::make_unique<Thread>(guard_); }

 private:
  using Guard = decltype(make_guard(std::declval<idem::FileStore&>()));

  struct Thread : Caller {
    explicit Thread(const Guard& shared) : guard(shared) {}
    Invoice pair(int user_id, double amount) override { return guard(user_id, amount); }
    Invoice duplicate(int user_id, double amount) override { return guard(user_id, amount); }
    const Guard& guard;
  };

  idem::FileStore store_;
  Guard guard_;
};

// SQLite

/// Write-ahead log, a connection and prepared statements for each thread; a claim and a completion are transactions of
/// one statement each.
class SqlitePeer : public Peer {
 public:
  SqlitePeer(const std::string& directory, const char* synchronous)
      : path_(directory + "/calls.sqlite"), synchronous_(synchronous) {
    Connection(path_, synchronous_)
        .execute(
            "CREATE TABLE IF NOT EXISTS calls (key TEXT PRIMARY KEY, state INTEGER NOT NULL, id INTEGER, amount REAL) "
            "WITHOUT ROWID");
  }

  std::unique_ptr<Caller> caller() override { return std::make_unique<Thread>(path_, synchronous_); }

 private:
  class Connection {
   public:
    Connection(const std::string& path, const char* synchronous) {
      check(::sqlite3_open_v2(path.c_str(), &database_,
                              SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr));
      check(::sqlite3_busy_timeout(database_, 60'000));
      execute("PRAGMA journal_mode = WAL");
      execute((std::string("PRAGMA synchronous = ") + synchronous).c_str());
    }
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;
    ~Connection() { ::sqlite3_close_v2(database_); }

    void execute(const char* sql) { check(::sqlite3_exec(database_, sql, nullptr, nullptr, nullptr)); }
    sqlite3_stmt* prepare(const char* sql) {
      sqlite3_stmt* statement = nullptr;
      check(::sqlite3_prepare_v3(database_, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, nullptr));
      return statement;
    }
    /// The number of rows changed.
    int run(sqlite3_stmt* statement) {
      const int result = ::sqlite3_step(statement);
      if (result != SQLITE_DONE) check(result);
      check(::sqlite3_reset(statement));
      return ::sqlite3_changes(database_);
    }
    void check(int result) const {
      if (result != SQLITE_OK && result != SQLITE_DONE) give_up("SQLite", ::sqlite3_errmsg(database_));
    }

   private:
    sqlite3* database_ = nullptr;
  };

  class Thread : public Caller {
   public:
    Thread(const std::string& path, const char* synchronous)
        : connection_(path, synchronous),
          claim_(connection_.prepare("INSERT OR IGNORE INTO calls (key, state) VALUES (?, 1)")),
          complete_(connection_.prepare("UPDATE calls SET state = 2, id = ?, amount = ? WHERE key = ? AND state = 1")) {
    }
    ~Thread() override {
      ::sqlite3_finalize(claim_);
      ::sqlite3_finalize(complete_);
    }

    Invoice pair(int user_id, double amount) override {
      const std::string key = text_key(user_id, amount);
      bind(claim_, 1, key);
      require(connection_.run(claim_) == 1, "SQLite: claim");
      const Invoice invoice = create_invoice(user_id, amount);
      connection_.check(::sqlite3_bind_int(complete_, 1, invoice.id));
      connection_.check(::sqlite3_bind_double(complete_, 2, invoice.amount));
      bind(complete_, 3, key);
      require(connection_.run(complete_) == 1, "SQLite: completion");
      return invoice;
    }

   private:
    void bind(sqlite3_stmt* statement, int index, const std::string& key) {
      connection_.check(::sqlite3_bind_text(statement, index, key.data(), static_cast<int>(key.size()), SQLITE_STATIC));
    }

    Connection connection_;
    sqlite3_stmt* claim_;
    sqlite3_stmt* complete_;
  };

  std::string path_;
  const char* synchronous_;
};

// LMDB

/// A claim and a completion are write transactions of their own; a duplicate is a read in a transaction that each
/// thread keeps and renews.
class LmdbPeer : public Peer {
 public:
  LmdbPeer(const std::string& directory, unsigned flags) {
    check(::mdb_env_create(&environment_));
    check(::mdb_env_set_mapsize(environment_, std::size_t{1} << 30));
    check(::mdb_env_open(environment_, (directory + "/calls.mdb").c_str(), MDB_NOSUBDIR | flags, 0600));
    MDB_txn* transaction = nullptr;
    check(::mdb_txn_begin(environment_, nullptr, 0, &transaction));
    check(::mdb_dbi_open(transaction, nullptr, 0, &table_));
    check(::mdb_txn_commit(transaction));
  }
  ~LmdbPeer() override { ::mdb_env_close(environment_); }

  std::unique_ptr<Caller> caller() override { return std::make_unique<Thread>(environment_, table_); }

  /// Finished calls for `duplicate`, in one transaction.
  void fill(int users, double (*amount_of)(int)) {
    MDB_txn* transaction = nullptr;
    check(::mdb_txn_begin(environment_, nullptr, 0, &transaction));
    for (int user_id = 0; user_id < users; ++user_id) {
      idem::Digest digest = digest_of(user_id, amount_of(user_id));
      Stored stored{2, Invoice{user_id + 1, amount_of(user_id)}};
      MDB_val key{sizeof digest.bytes, digest.bytes};
      MDB_val value{sizeof stored, &stored};
      check(::mdb_put(transaction, table_, &key, &value, 0));
    }
    check(::mdb_txn_commit(transaction));
  }

 private:
  struct Stored {
    std::int64_t state;
    Invoice invoice;
  };

  static void check(int result) {
    if (result != MDB_SUCCESS) give_up("LMDB", ::mdb_strerror(result));
  }

  /// The cheapest key that idem's own hash makes of the arguments: a prefix of 32 bytes and their plain bytes, which
  /// is one block, as many as idem's key has.
  static idem::Digest digest_of(int user_id, double amount) {
    std::uint8_t bytes[48] = "create_invoice";
    const std::int64_t user = user_id;
    std::memcpy(bytes + 32, &user, sizeof user);
    std::memcpy(bytes + 40, &amount, sizeof amount);
    return idem::detail::sha256(bytes, sizeof bytes);
  }

  class Thread : public Caller {
   public:
    Thread(MDB_env* environment, MDB_dbi table) : environment_(environment), table_(table) {}
    ~Thread() override { ::mdb_txn_abort(reader_); }

    Invoice pair(int user_id, double amount) override {
      std::string text = text_key(user_id, amount);
      MDB_val key{text.size(), text.data()};
      Stored stored{1, {}};
      put(key, stored, MDB_NOOVERWRITE);
      stored = {2, create_invoice(user_id, amount)};
      put(key, stored, 0);
      return stored.invoice;
    }

    Invoice duplicate(int user_id, double amount) override {
      idem::Digest digest = digest_of(user_id, amount);
      MDB_val key{sizeof digest.bytes, digest.bytes};
      MDB_val value{};
      check(reader_ == nullptr ? ::mdb_txn_begin(environment_, nullptr, MDB_RDONLY, &reader_)
                               : ::mdb_txn_renew(reader_));
      check(::mdb_get(reader_, table_, &key, &value));
      Stored stored{};
      std::memcpy(&stored, value.mv_data, sizeof stored);
      ::mdb_txn_reset(reader_);
      return stored.invoice;
    }

   private:
    void put(MDB_val key, Stored& stored, unsigned flags) {
      MDB_val value{sizeof stored, &stored};
      MDB_txn* transaction = nullptr;
      check(::mdb_txn_begin(environment_, nullptr, 0, &transaction));
      check(::mdb_put(transaction, table_, &key, &value, flags));
      check(::mdb_txn_commit(transaction));
    }

    MDB_env* environment_;
    MDB_dbi table_;
    MDB_txn* reader_ = nullptr;
  };

  MDB_env* environment_ = nullptr;
  MDB_dbi table_ = 0;
};

// A file for each key

/// The fewest syncs that survive a loss of power: the name of an empty file is the claim, its content the outcome.
class FilePerKeyPeer : public Peer {
 public:
  explicit FilePerKeyPeer(const std::string& directory)
      : directory_(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    require(directory_ >= 0, "open a directory");
  }
  ~FilePerKeyPeer() override { ::close(directory_); }

  std::unique_ptr<Caller> caller() override { return std::make_unique<Thread>(directory_); }

 private:
  struct Thread : Caller {
    explicit Thread(int in) : directory(in) {}
    Invoice pair(int user_id, double amount) override {
      const int file =
          ::openat(directory, text_key(user_id, amount).c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
      require(file >= 0, "create a file");
      require(::fsync(directory) == 0, "fsync");
      const Invoice invoice = create_invoice(user_id, amount);
      require(::pwrite(file, &invoice, sizeof invoice, 0) == static_cast<ssize_t>(sizeof invoice), "pwrite");
      require(::fdatasync(file) == 0, "fdatasync");
      ::close(file);
      return invoice;
    }
    int directory;
  };

  int directory_;
};

// A bare journal

/// The limit of what a journal can do: two frames of idem's sizes for each call, each on disk before the call goes on.
/// The threads of a process that wait share an fdatasync. There is no lock between processes, no index, no checksum,
/// nothing is looked up, and the file's zeros were written and synced before.
class JournalPeer : public Peer {
 public:
  static constexpr std::size_t capacity = std::size_t{32} << 20;

  struct Frames {
    std::size_t claim;
    std::size_t completion;
  };

  static void prepare(const std::string& directory) {
    const int file = ::open(path(directory).c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    require(file >= 0, "create a journal");
    const std::vector<std::uint8_t> zeros(std::size_t{1} << 20);
    for (std::size_t at = 0; at < capacity; at += zeros.size()) {
      require(::write(file, zeros.data(), zeros.size()) == static_cast<ssize_t>(zeros.size()), "write zeros");
    }
    require(::fsync(file) == 0, "fsync");
    ::close(file);
  }

  /// `end` is shared by all processes.
  JournalPeer(const std::string& directory, Frames frames, std::atomic<std::uint64_t>& end)
      : file_(::open(path(directory).c_str(), O_RDWR | O_CLOEXEC)), frames_(frames), end_(end) {
    require(file_ >= 0, "open a journal");
  }
  ~JournalPeer() override { ::close(file_); }

  std::unique_ptr<Caller> caller() override { return std::make_unique<Thread>(*this); }

 private:
  struct Thread : Caller {
    explicit Thread(JournalPeer& in)
        : journal(in), frame((std::max)(in.frames_.claim, in.frames_.completion), std::uint8_t{0x5a}) {}
    Invoice pair(int user_id, double amount) override {
      std::memcpy(frame.data(), &user_id, sizeof user_id);
      journal.append(frame.data(), journal.frames_.claim);
      const Invoice invoice = create_invoice(user_id, amount);
      std::memcpy(frame.data() + sizeof user_id, &invoice, sizeof invoice);
      journal.append(frame.data(), journal.frames_.completion);
      return invoice;
    }
    JournalPeer& journal;
    std::vector<std::uint8_t> frame;
  };

  static std::string path(const std::string& directory) { return directory + "/bare"; }

  void append(const std::uint8_t* frame, std::size_t size) {
    const std::uint64_t offset = end_.fetch_add(size);
    if (offset + size > capacity) give_up("bare journal", "is full; measure for a shorter time");
    require(::pwrite(file_, frame, size, static_cast<off_t>(offset)) == static_cast<ssize_t>(size), "pwrite");
    std::unique_lock lock(mutex_);
    const std::uint64_t mine = ++written_;
    group_.join();
    while (synced_.load() < mine) {
      const std::int64_t more = syncing_ ? 2000 : group_.wait(idem::detail::file::monotonic_micros());
      if (more != 0) {
        // As idem waits: only those whom an fdatasync served are woken by its end, and one who goes on.
        const idem::detail::file::Bell bell = bell_of(!syncing_ || mine <= target_ ? round_ : round_ + 1);
        const std::uint32_t ticket = bell.ticket();
        lock.unlock();
        bell.sleep(ticket, more);
        if (synced_.load() >= mine) return;
        lock.lock();
        continue;
      }
      syncing_ = true;
      group_.begin(idem::detail::file::monotonic_micros());
      target_ = written_;
      const std::uint64_t target = target_;
      const idem::detail::file::Bell served = bell_of(round_);
      lock.unlock();
      require(::fdatasync(file_) == 0, "fdatasync");
      lock.lock();
      syncing_ = false;
      group_.end(idem::detail::file::monotonic_micros());
      synced_.store(target);
      const idem::detail::file::Bell waiting = bell_of(++round_);
      lock.unlock();
      waiting.ring_for_one();
      served.ring(idem::detail::all_sleepers);
      return;
    }
  }

  idem::detail::file::Bell bell_of(std::uint64_t round) {
    return {counts_[round % 2], asleep_[round % 2], idem::detail::FutexScope::own_process};
  }

  int file_;
  const Frames frames_;
  std::atomic<std::uint64_t>& end_;
  std::mutex mutex_;
  std::atomic<std::uint32_t> counts_[2] = {};
  std::atomic<std::uint32_t> asleep_[2] = {};
  std::uint64_t round_ = 0;
  std::uint64_t target_ = 0;
  std::uint64_t written_ = 0;
  std::atomic<std::uint64_t> synced_{0};
  bool syncing_ = false;
  idem::detail::file::SyncGroup group_;
};

}  // namespace bench
