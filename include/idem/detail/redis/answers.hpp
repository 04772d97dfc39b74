// From what a store is asked to what the scripts take, and from their answers to the store's.
#pragma once

#include <idem/detail/bytes.hpp>
#include <idem/detail/config.hpp>
#include <idem/detail/endian.hpp>
#include <idem/detail/redis/record.hpp>
#include <idem/detail/redis/runner.hpp>
#include <idem/detail/sha256.hpp>
#include <idem/payload.hpp>
#include <idem/protocol.hpp>
#include <idem/store.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

IDEM_BEGIN_NAMESPACE
namespace detail::redis {

inline constexpr std::string_view too_few_replicas =
    "it was recorded, but fewer replicas than min_replicas asks for have it";

inline std::string_view view(const Bytes& bytes) noexcept {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

inline void refuse(Reply& reply, Answer answer, std::string_view why) {
  reply.answer = answer;
  reply.payload = {};
  IDEM_TRY { reply.message = why; }
  IDEM_CATCH_UNWIND
  IDEM_CATCH_ALL {}
}

/// Puts what a script said into a store's reply. May throw std::bad_alloc.
inline void fill(Reply& reply, const Answered& answered, const Digest& key) {
  if (answered.foreign) {
    refuse(reply, Answer::corrupt,
           "the key holds a value of another type, which idem never writes; see docs/redis-format.md");
    return;
  }
  if (!answered.answered) {
    refuse(reply, Answer::unavailable, answered.why.view());
    return;
  }
  if (answered.number < static_cast<int>(Answer::acquired) || answered.number > static_cast<int>(Answer::corrupt)) {
    refuse(reply, Answer::unavailable, "the server gave an answer that no script gives");
    return;
  }
  reply.answer = static_cast<Answer>(answered.number);
  if (reply.answer == Answer::corrupt) {
    constexpr std::string_view reasons[] = {
        "the value can't be read", "the record was written by a newer version of idem",
        "the value isn't a record of idem", "the record is cut short", "the record's state or its flags are unknown"};
    const std::int64_t reason = answered.second();
    refuse(reply, Answer::corrupt, reasons[reason >= 1 && reason <= 4 ? reason : 0]);
    return;
  }
  if (reply.answer == Answer::unavailable) {
    refuse(reply, Answer::unavailable,
           answered.second() == 1 ? "the server was built for 32 bits, and can't write a time; idem needs one of 64"
                                  : "the epochs of this key are used up");
    return;
  }
  const std::string_view value = answered.value();
  const bool finished = reply.answer == Answer::completed || reply.answer == Answer::failed;
  if (value.empty() && !finished && reply.answer != Answer::acquired) return;
  const auto* const data = reinterpret_cast<const std::uint8_t*>(value.data());
  StoredRecord stored;
  const char* why = "the server gave no record";
  if (!(finished ? decode_value(data, value.size(), key, stored, why) : decode_head(data, value.size(), stored, why))) {
    refuse(reply, Answer::corrupt, why);
    return;
  }
  reply.record = stored.record;
  if (finished) reply.payload = Payload(stored.kind, stored.payload, stored.payload_size).detach();
}

/// The same for a claim of this owner. Whoever sits between here and the server may mix answers up: nobody runs by one
/// that another claim got.
inline void fill_claim(Reply& reply, const Answered& answered, const Digest& key, const OwnerToken& owner) {
  fill(reply, answered, key);
  if (reply.answer != Answer::acquired || reply.record.owner.token == owner) return;
  refuse(reply, Answer::unavailable, "the server gave the answer to another claim");
}

/// The claim's caller isn't told that it succeeded, but it may have been carried out, or be so yet: nobody would ever
/// end it.
inline bool may_stand(const Reply& reply, const Answered& answered) noexcept {
  if (!answered.answered) return answered.maybe;
  const bool granted = answered.number == static_cast<int>(Answer::acquired);
  return reply.answer == Answer::unavailable && (answered.maybe || granted);
}

/// The largest payload that is sure to be read again within a reply.
constexpr std::size_t most_payload(std::size_t max_reply_bytes, std::size_t name_size) noexcept {
  constexpr std::size_t limit = std::size_t{500} << 20;  // proto-max-bulk-len of a server is 512 MiB
  const std::size_t room = max_reply_bytes < limit ? max_reply_bytes : limit;
  const std::size_t taken = name_size + value_head + 1024;
  return room > taken ? room - taken : 0;
}

/// What a claim brings along: the record's first 28 bytes, and what stands behind its times.
inline void write_claim(std::uint8_t (&head)[first_part], Bytes& tail, const Digest& key, std::string_view name,
                        std::uint32_t version, const ClaimRequest& request) {
  const State state = request.complete_at_once ? State::completed : State::in_progress;
  std::memcpy(head, "IDR", 3);
  head[value_at::format] = value_format;
  head[value_at::state] = static_cast<std::uint8_t>(state);
  head[value_at::flags] = request.fingerprint != nullptr ? flag_fingerprint : std::uint8_t{0};
  head[value_at::kind] = request.complete_at_once ? static_cast<std::uint8_t>(PayloadKind::nothing) : std::uint8_t{0};
  head[value_at::waits] = 0;
  store_le32(head + value_at::attempt, 1);
  store_token(head + value_at::token, request.owner);

  std::uint8_t* const to = tail.extend(value_head - value_at::fingerprint);
  std::memset(to, 0, value_head - value_at::fingerprint);
  const auto place = [to](std::size_t at) { return to + (at - value_at::fingerprint); };
  if (request.fingerprint != nullptr) std::memcpy(to, request.fingerprint->bytes, sizeof(Digest));
  store_le32(place(value_at::version), version);
  store_le32(place(value_at::name_size), static_cast<std::uint32_t>(name.size()));
  if (request.complete_at_once) {
    store_le32(place(value_at::checksum),
               outcome_checksum(key, request.owner, state, PayloadKind::nothing, nullptr, 0));
  }
  tail.append(name.data(), name.size());
}

/// An outcome as the scripts take it. Refers to the source's bytes.
class Outcome {
 public:
  Outcome(const Digest& key, const OwnerToken& owner, State state, const Source& source, std::size_t most) noexcept {
    const bool has_content = source.kind == PayloadKind::value || source.kind == PayloadKind::failure;
    lost_ = has_content && source.size > most;
    const PayloadKind kind = lost_ ? PayloadKind::lost : source.kind;
    if (has_content && !lost_) payload_ = {reinterpret_cast<const char*>(source.data), source.size};
    state_ = static_cast<char>(state);
    kind_ = static_cast<char>(kind);
    store_le32(sizes_, static_cast<std::uint32_t>(payload_.size()));
    const auto* const bytes = reinterpret_cast<const std::uint8_t*>(payload_.data());
    store_le32(sizes_ + 4, outcome_checksum(key, owner, state, kind, bytes, payload_.size()));
  }

  std::string_view state() const noexcept { return {&state_, 1}; }
  std::string_view kind() const noexcept { return {&kind_, 1}; }
  std::string_view sizes() const noexcept { return {reinterpret_cast<const char*>(sizes_), sizeof sizes_}; }
  std::string_view payload() const noexcept { return payload_; }
  /// What the reply says of a payload that was too large.
  Payload lost() const noexcept {
    return lost_ ? Payload(PayloadKind::lost, static_cast<const std::uint8_t*>(nullptr), std::size_t{0}) : Payload();
  }

 private:
  std::string_view payload_;
  std::uint8_t sizes_[8] = {};
  char state_ = 0;
  char kind_ = 0;
  bool lost_ = false;
};

}  // namespace detail::redis
IDEM_END_NAMESPACE
