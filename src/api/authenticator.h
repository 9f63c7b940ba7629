#pragma once
#include <map>
#include <unordered_map>

#include "model/access.h"
#include "net/http.h"
#include "store/access.h"
#include "store/db.h"

namespace penstock {

// Tells who asks, by the key in a request's head. While no key was ever made, whoever can reach this machine's own
// addresses may do everything. Loop thread.
//
// What the database said is believed for kBelieved, so that a key's end is heard of within a second by every process,
// and not every request asks.
class Authenticator {
 public:
  static constexpr Millis kBelieved{500};
  static constexpr std::size_t kKnownMax = 10'000;  // keys that are remembered at a time
  static constexpr Millis kUseNoted{60'000};        // a key's use, at most so often

  // `insecure`: without keys, whoever reaches us by whatever way may do everything. Else pages of `cors_origins` and
  // this machine's own: see refuse_foreign().
  Authenticator(asio::io_context& loop, Clock& clock, Db& db, bool insecure, std::vector<std::string> cors_origins = {})
      : clock_(clock), db_(db), insecure_(insecure), cors_origins_(std::move(cors_origins)), key_used_(loop) {}

  // Error unauthorized, which never holds the key, or forbidden. Reads nothing of the body. Throws sql::Failure.
  Task<Result<Principal>> authenticate(const Request& request);

  // How many keys are remembered.
  std::size_t known() const { return known_.size(); }

  // Stores when keys were used, until it is cancelled. Throws sql::Failure.
  Task<> note_uses();

 private:
  struct Known {
    Moment read_at;
    std::optional<KnownKey> key;  // nothing: there is none
  };

  // `ask`: whatever was believed. Whoever brings a key may have the first one, and must not be taken for everybody.
  Task<bool> is_open(bool ask);
  Task<std::optional<KnownKey>> look_up(std::string hash);
  void note_use(const std::string& hash, Timestamp now);

  Clock& clock_;
  Db& db_;
  const bool insecure_;
  const std::vector<std::string> cors_origins_;
  bool has_keys_ = false;  // once there are any, there always are
  std::optional<Moment> had_none_at_;
  std::unordered_map<std::string, Known> known_;  // by the key's hash
  std::map<KeyId, Timestamp> used_;               // and not stored yet
  Event key_used_;
};

}  // namespace penstock
