#pragma once
#include "model/access.h"
#include "store/store.h"

namespace penstock {

// An entry of the audit log is kept for so long.
constexpr Millis kAuditKept = std::chrono::hours(365 * 24);

// What a client is told of an unknown id; `param` is the parameter that named it.
Error no_such_project(const ProjectId& id, std::string param = "");
Error no_such_key(const KeyId& id);

// What the audit log keeps: who did what to which id.
struct AuditEntry {
  Timestamp at{};
  ProjectId project;
  std::optional<KeyId> key = {};  // nothing: without a key, on the machine itself, or by the server of itself
  std::string action;             // "batch.created", …
  std::string object_id;
  std::string request_id = {};  // empty: no request was it
  std::int64_t seq = 0;         // its place, which the log gives it
};

// Of the lists, an empty one asks for all.
struct AuditQuery {
  std::vector<std::string> projects = {}, keys = {}, actions = {}, object_ids = {};
  std::int64_t before = std::numeric_limits<std::int64_t>::max();  // that place
  std::int64_t limit = 20;
};

// A key as it is found by what a client sends.
struct KnownKey {
  ApiKey key;
  std::string hash;  // see model/api_key_text.h
  bool project_archived = false;
};

// Projects, keys and the audit log: statements of a store, for use as Store's own are.
class Access {
 public:
  explicit Access(Store& store) : sql_(store.connection()) {}

  // From here to the end of the transaction nobody else changes projects or keys. Before looking at what decides about
  // a change; what changes them takes the lock itself.
  void lock() { sql_.lock("access"); }

  // The new one's id is unknown yet.
  void insert_project(const Project& project);
  std::optional<Project> find_project(const ProjectId& id);
  // The oldest first, archived ones too.
  std::vector<Project> projects();
  // Its name, weight, quotas and archived_at become these. False for an unknown id.
  bool update_project(const Project& project);
  // It becomes what `change`, a Result<Project>(Project), makes of it as it is. Error not_found, or that of `change`.
  template <class Change>
  Result<Project> change_project(const ProjectId& id, Change change) {
    lock();
    const auto before = find_project(id);
    if (!before) return no_such_project(id);
    Result<Project> after = change(*before);
    if (after) update_project(*after);
    return after;
  }

  // Error not_found for a project that is unknown, or conflict when it is archived.
  Result<void> insert_key(const ApiKey& key, const std::string& hash);
  std::optional<ApiKey> find_key(const KeyId& id);
  std::optional<KnownKey> find_key_by_hash(const std::string& hash);
  // Of one project or of all; the oldest first, with those that live no more.
  std::vector<ApiKey> keys(const std::optional<ProjectId>& project = std::nullopt);
  // Those with the scope admin that live and that a request could use, but for those that were rotated.
  std::vector<ApiKey> living_admin_keys(Timestamp now);
  // Whether there was ever one: none is removed.
  bool has_keys();
  // `made`, which has an id, a hint and a time of creation, becomes a key like `old`, to live as long as that one was
  // to; `old` expires after `overlap`. Error not_found, or conflict when it lives no more or was rotated already.
  Result<ApiKey> rotate_key(const KeyId& old, ApiKey made, const std::string& hash, Millis overlap);
  // It is as it was when it was revoked already. Error not_found.
  Result<ApiKey> revoke_key(const KeyId& id, Timestamp now);
  // It was used at that time, or later.
  void touch_key(const KeyId& id, Timestamp at);

  void audit(const AuditEntry& entry);
  // The newest first.
  Page<AuditEntry> audit_log(const AuditQuery& query);
  // Removes up to `limit` entries that were made by then, and tells how many.
  std::int64_t purge_audit_log(Timestamp made_by, std::int64_t limit);

 private:
  void set_end(const char* column, const KeyId& id, Timestamp at);

  sql::Connection& sql_;
};

}  // namespace penstock
