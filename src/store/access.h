#pragma once
#include "model/access.h"
#include "store/store.h"

namespace penstock {

// An entry of the audit log is kept for so long.
constexpr Millis kAuditKept = std::chrono::hours(365 * 24);

// What the audit log keeps: who did what to which id.
struct AuditEntry {
  Timestamp at{};
  ProjectId project;
  std::optional<KeyId> key = {};  // nothing: without a key, on the machine itself, or by the server of itself
  std::string action;        // "batch.created", …
  std::string object_id;
  std::string request_id = {};  // empty: no request was it
  std::int64_t seq = 0;    // its place, which the log gives it
};

// Of the lists, an empty one asks for all.
struct AuditQuery {
  std::vector<std::string> projects = {}, keys = {}, actions = {}, object_ids = {};
  std::int64_t before = std::numeric_limits<std::int64_t>::max();  // that place
  std::int64_t limit = 20;
};

// Projects, keys and the audit log: statements of a store, for use as Store's own are.
class Access {
 public:
  explicit Access(Store& store) : sql_(store.connection()) {}

  // The new one's id is unknown yet.
  void insert_project(const Project& project);
  std::optional<Project> find_project(const ProjectId& id);
  // The oldest first, archived ones too.
  std::vector<Project> projects();
  // Its name, weight, quotas and archived_at become these. False for an unknown id.
  bool update_project(const Project& project);

  void audit(const AuditEntry& entry);
  // The newest first.
  Page<AuditEntry> audit_log(const AuditQuery& query);
  // When the oldest entry was made.
  std::optional<Timestamp> audit_log_begins();
  // Removes up to `limit` entries that were made by then.
  void purge_audit_log(Timestamp made_by, std::int64_t limit);

 private:
  sql::Connection& sql_;
};

}  // namespace penstock
