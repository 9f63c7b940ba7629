#pragma once
#include "model/access.h"
#include "store/store.h"

namespace penstock {

// What the audit log keeps: who did what to which id.
struct AuditEntry {
  Timestamp at{};
  ProjectId project;
  std::optional<KeyId> key;  // nothing: without a key, or on the machine itself
  std::string action;        // "batch.created", …
  std::string object_id;
  std::string request_id;  // empty: on the machine itself
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

 private:
  sql::Connection& sql_;
};

}  // namespace penstock
