#include "store/columns.h"
#include "store/store.h"

namespace penstock {
namespace {

constexpr std::chrono::hours kRemembered{24};

}  // namespace

Result<std::optional<std::string>> Store::recall(const IdempotencyKey& key, Timestamp now) {
  sql_.lock("key " + key.key);  // a twin waits until what this one makes is there
  std::optional<std::string> id;
  bool same = true;
  sql_.execute("SELECT object_id, request FROM idempotency_keys WHERE key = $1 AND created_ms > $2",
               {key.key, to_ms(now - kRemembered)}, [&](const sql::Row& row) {
                 id = row.text(0);
                 same = row.text(1) == key.request;
               });
  if (!same) {
    return Error{Error::Kind::key_reused, "This Idempotency-Key was sent with another request before; send a new key.",
                 "idempotency_key_reused", "Idempotency-Key"};
  }
  return id;
}

void Store::remember(const IdempotencyKey& key, const std::string& object_id, Timestamp now) {
  sql_.execute("DELETE FROM idempotency_keys WHERE created_ms <= $1", {to_ms(now - kRemembered)});
  sql_.execute(
      "INSERT INTO idempotency_keys (key, request, object_id, created_ms) VALUES ($1, $2, $3, $4)"
      " ON CONFLICT (key) DO UPDATE SET object_id = $3, created_ms = $4",
      {key.key, key.request, object_id, to_ms(now)});
}

}  // namespace penstock
