#include "api/authenticator.h"

#include <openssl/crypto.h>

#include <utility>

#include "api/origin.h"
#include "model/api_key_text.h"

namespace penstock {
namespace {

Error unauthorized(std::string message) {
  return {Error::Kind::unauthorized, std::move(message), "invalid_api_key"};
}

// Nothing when the request has no key. RFC 6750, section 2.1.
std::optional<std::string_view> bearer_key(const Request& request) {
  constexpr std::string_view kScheme = "bearer ";
  auto value = request.headers.find("authorization");
  if (!value || value->size() < kScheme.size()) return std::nullopt;
  for (std::size_t i = 0; i < kScheme.size(); ++i) {
    const char c = (*value)[i];
    if ((c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c) != kScheme[i]) return std::nullopt;
  }
  value->remove_prefix(std::min(value->find_first_not_of(' ', kScheme.size()), value->size()));
  return value->substr(0, value->find_last_not_of(' ') + 1);
}

bool are_same(const std::string& a, const std::string& b) {
  return a.size() == b.size() && ::CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace

Task<Result<Principal>> Authenticator::authenticate(const Request& request) {
  const auto key = bearer_key(request);
  const bool is_key = key && is_key_text(*key);
  const bool open = co_await is_open(is_key);
  if (open) {
    if (!insecure_) {
      auto foreign = refuse_foreign(request.headers.find("host"), request.headers.find("origin"), cors_origins_);
      if (foreign) co_return std::move(*foreign);
    }
    Principal everybody;
    everybody.scopes.set();
    co_return everybody;
  }
  if (!key) {
    co_return unauthorized(
        "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth "
        "(i.e. Authorization: Bearer YOUR_KEY).");
  }
  const Error wrong = unauthorized("Incorrect API key provided: it is unknown, was revoked or has expired.");
  if (!is_key) co_return wrong;
  const std::string hash = key_hash(*key);
  const auto known = co_await look_up(hash);
  const Timestamp now = clock_.now();
  if (!known || !are_same(known->hash, hash) || known->project_archived || !lives(known->key, now)) co_return wrong;
  note_use(hash, now);
  co_return Principal{known->key.project, known->key.id, known->key.scopes};
}

Task<bool> Authenticator::is_open(bool ask) {
  const Moment now = clock_.monotonic();
  if (has_keys_) co_return false;
  if (!ask && had_none_at_ && now - *had_none_at_ < kBelieved) co_return true;
  const bool has_keys = co_await db_.read([](Store& store) { return Access(store).has_keys(); });
  if (has_keys) {
    has_keys_ = true;
  } else {
    had_none_at_ = now;
  }
  co_return !has_keys_;
}

Task<std::optional<KnownKey>> Authenticator::look_up(std::string hash) {
  const Moment now = clock_.monotonic();
  const auto is_old = [now](const auto& entry) { return now - entry.second.read_at >= kBelieved; };
  if (const auto it = known_.find(hash); it != known_.end() && !is_old(*it)) co_return it->second.key;
  auto key = co_await db_.read([&](Store& store) { return Access(store).find_key_by_hash(hash); });
  if (known_.size() >= kKnownMax) std::erase_if(known_, is_old);
  if (known_.size() >= kKnownMax) known_.clear();
  known_.insert_or_assign(std::move(hash), Known{now, key});
  co_return key;
}

void Authenticator::note_use(const std::string& hash, Timestamp now) {
  const auto it = known_.find(hash);
  if (it == known_.end() || !it->second.key) return;  // forgotten since: the next use will do
  ApiKey& key = it->second.key->key;
  if (key.last_used_at && now - *key.last_used_at < kUseNoted) return;
  key.last_used_at = now;
  used_[key.id] = now;
  key_used_.notify();
}

Task<> Authenticator::note_uses() {
  while (true) {
    co_await key_used_.wait();
    const auto used = std::exchange(used_, {});
    co_await db_.write([&](Store& store) {
      for (const auto& [id, at] : used) Access(store).touch_key(id, at);
    });
  }
}

}  // namespace penstock
