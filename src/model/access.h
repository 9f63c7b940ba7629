#pragma once
#include <bitset>

#include "model/types.h"

// Projects, and the keys that act for them. Values.
namespace penstock {

using KeyId = Id<struct KeyTag>;  // "key_…"; the key itself is no id and is stored nowhere

// What a key may do. In the store and on the wire: files, batches, admin, monitor.
enum class Scope { files, batches, admin, monitor };
using Scopes = std::bitset<4>;  // by Scope

constexpr Scopes kScopesDefault{0b0011};  // files and batches: of a key of which nothing else is said

inline bool has(const Scopes& scopes, Scope scope) {
  return scopes.test(static_cast<std::size_t>(scope));
}
// Whether they let somebody do what needs this scope: an administrator may see what a monitor does.
inline bool allow(const Scopes& scopes, Scope scope) {
  return has(scopes, scope) || (scope == Scope::monitor && has(scopes, Scope::admin));
}
std::string_view to_string(Scope scope);
// The words, in their order.
std::vector<std::string_view> words(const Scopes& scopes);
// Nothing when one of them is no scope.
std::optional<Scopes> parse_scopes(const std::vector<std::string>& words);

// What a project may have at most. Nothing: no limit.
struct Quotas {
  std::optional<std::int64_t> stored_bytes;         // of files and parts of uploads
  std::optional<std::int64_t> active_batches;       // that have not ended
  std::optional<std::int64_t> queued_lines;         // still to do, over all of those
  std::optional<std::int64_t> requests_per_second;  // to each server
  bool operator==(const Quotas&) const = default;
};

struct Project {
  ProjectId id;
  std::string name;
  Timestamp created_at{};
  std::optional<Timestamp> archived_at;  // its keys are refused from then on
  std::int64_t weight = 1;               // its share of the slots, against those of others that have work; at least 1
  Quotas quotas;
};

struct ApiKey {
  KeyId id;
  ProjectId project;
  std::string name;
  std::string hint;  // first and last characters
  Scopes scopes;
  Timestamp created_at{};
  std::optional<Timestamp> expires_at, revoked_at;
  std::optional<Timestamp> rotated_at = std::nullopt;  // when another was made to take its place
  std::optional<Timestamp> last_used_at;               // to about a minute
};

// It has neither expired nor been revoked.
inline bool lives(const ApiKey& key, Timestamp now) {
  return !key.revoked_at && (!key.expires_at || *key.expires_at > now);
}

// Who asks.
struct Principal {
  ProjectId project = kDefaultProject;
  std::optional<KeyId> key;  // nothing: nobody needs one
  Scopes scopes;
};

}  // namespace penstock
