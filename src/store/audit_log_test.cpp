#include <gtest/gtest.h>

#include "store/access.h"
#include "testing/database.h"

namespace penstock {
namespace {

constexpr Timestamp kNow{Millis{1'700'000'000'000}};

class AuditLogTest : public testing::TestWithParam<Driver> {
 protected:
  AuditLogTest() : database(GetParam()), connection(database.open()), store(*connection) { store.migrate(); }

  void add(const std::string& action, const std::string& object_id, const std::string& project = "proj_a",
           std::optional<KeyId> key = std::nullopt, Millis later = Millis{0}) {
    access.audit({.at = kNow + later,
                  .project = {project},
                  .key = std::move(key),
                  .action = action,
                  .object_id = object_id,
                  .request_id = "req_1"});
  }
  // What they are about, the newest first.
  static std::vector<std::string> objects(const Page<AuditEntry>& page) {
    std::vector<std::string> ids;
    for (const AuditEntry& entry : page.items) ids.push_back(entry.object_id);
    return ids;
  }

  TestDatabase database;
  std::unique_ptr<sql::Connection> connection;
  Store store;
  Access access{store};
};
INSTANTIATE_TEST_SUITE_P(On, AuditLogTest, testing::ValuesIn(drivers()), driver_name);

TEST_P(AuditLogTest, AnEntryIsReadAsItWasWritten) {
  add("batch.created", "batch_1", "proj_a", KeyId{"key_1"}, Millis{7});
  access.audit({.at = kNow, .project = {"proj_b"}, .action = "file.expired", .object_id = "file-1"});
  const auto entries = access.audit_log({}).items;
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_EQ(entries[0].key, std::nullopt);
  EXPECT_EQ(entries[0].request_id, "");
  EXPECT_EQ(entries[1].at, kNow + Millis{7});
  EXPECT_EQ(entries[1].project.value, "proj_a");
  EXPECT_EQ(entries[1].key, KeyId{"key_1"});
  EXPECT_EQ(entries[1].action, "batch.created");
  EXPECT_EQ(entries[1].object_id, "batch_1");
  EXPECT_EQ(entries[1].request_id, "req_1");
}

TEST_P(AuditLogTest, AWalkOverPagesSeesEachEntryOnceTheNewestFirst) {
  for (int i = 0; i < 5; ++i) add("file.created", fmt::format("file-{}", i));
  AuditQuery query{.limit = 2};
  std::vector<std::string> seen;
  for (bool more = true; more;) {
    const auto page = access.audit_log(query);
    for (const std::string& id : objects(page)) seen.push_back(id);
    query.before = page.items.back().seq;
    more = page.has_more;
    add("file.created", "file-new");  // in no page behind the first
  }
  EXPECT_EQ(seen, (std::vector<std::string>{"file-4", "file-3", "file-2", "file-1", "file-0"}));
}

TEST_P(AuditLogTest, FiltersNarrowTogether) {
  add("file.created", "1", "proj_a", KeyId{"key_1"});
  add("file.deleted", "1", "proj_a", KeyId{"key_2"});
  add("file.created", "2", "proj_b", KeyId{"key_3"});
  EXPECT_EQ(objects(access.audit_log({.projects = {"proj_a"}})), (std::vector<std::string>{"1", "1"}));
  EXPECT_EQ(objects(access.audit_log({.projects = {"proj_a", "proj_b"}, .actions = {"file.created"}})),
            (std::vector<std::string>{"2", "1"}));
  EXPECT_EQ(access.audit_log({.object_ids = {"1"}}).items.size(), 2u);
  EXPECT_EQ(objects(access.audit_log({.keys = {"key_2", "key_3"}})), (std::vector<std::string>{"2", "1"}));
  EXPECT_TRUE(access.audit_log({.projects = {"proj_b"}, .keys = {"key_1"}}).items.empty());
}

TEST_P(AuditLogTest, TheOldestEntriesAreRemovedFirst) {
  for (int i = 0; i < 4; ++i) add("file.created", fmt::format("file-{}", i), "proj_a", {}, Millis{i});
  EXPECT_EQ(access.purge_audit_log(kNow + Millis{2}, 2), 2);
  EXPECT_EQ(objects(access.audit_log({})), (std::vector<std::string>{"file-3", "file-2"}));
  EXPECT_EQ(access.purge_audit_log(kNow + Millis{2}, 2), 1);
  EXPECT_EQ(objects(access.audit_log({})), (std::vector<std::string>{"file-3"}));
}

}  // namespace
}  // namespace penstock
