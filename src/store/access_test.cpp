#include "store/access.h"

#include <gtest/gtest.h>

#include "testing/database.h"

namespace penstock {
namespace {

constexpr Timestamp kNow{Millis(1'764'000'000'000)};
constexpr Millis kTick{1}, kHour{3'600'000};

class AccessTest : public testing::TestWithParam<Driver> {
 protected:
  AccessTest() : database(GetParam()), connection(database.open_alone()), store(*connection) { store.migrate(); }

  static ApiKey make(const std::string& id, const std::vector<std::string>& scopes = {"files", "batches"}) {
    return {.id = {id},
            .project = kDefaultProject,
            .name = "name of " + id,
            .hint = "hint of " + id,
            .scopes = parse_scopes(scopes).value(),
            .created_at = kNow,
            .expires_at = {},
            .revoked_at = {},
            .last_used_at = {}};
  }
  void add(const ApiKey& key) { ASSERT_TRUE(access.insert_key(key, "hash of " + key.id.value)); }
  void add_project(const std::string& id) {
    Project project;
    project.id = {id};
    project.name = "name of " + id;
    project.created_at = kNow;
    access.insert_project(project);
  }
  void archive(const std::string& id) {
    Project project = access.find_project({id}).value();
    project.archived_at = kNow;
    EXPECT_TRUE(access.update_project(project));
  }
  std::vector<std::string> admins(Timestamp now = kNow) {
    std::vector<std::string> ids;
    for (const ApiKey& key : access.living_admin_keys(now)) ids.push_back(key.id.value);
    return ids;
  }
  static void expect_same(const ApiKey& a, const ApiKey& b) {
    EXPECT_EQ(a.id, b.id);
    EXPECT_EQ(a.project, b.project);
    EXPECT_EQ(a.name, b.name);
    EXPECT_EQ(a.hint, b.hint);
    EXPECT_EQ(a.scopes, b.scopes);
    EXPECT_EQ(a.created_at, b.created_at);
    EXPECT_EQ(a.expires_at, b.expires_at);
    EXPECT_EQ(a.revoked_at, b.revoked_at);
    EXPECT_EQ(a.last_used_at, b.last_used_at);
  }

  TestDatabase database;
  std::unique_ptr<sql::Connection> connection;
  Store store;
  Access access{store};
};

TEST_P(AccessTest, AKeyIsFoundByIdAndByItsHashAndByNothingElse) {
  EXPECT_FALSE(access.has_keys());
  ApiKey key = make("key_1", {"files", "batches", "admin"});
  key.expires_at = kNow + kHour;
  add(key);
  EXPECT_TRUE(access.has_keys());
  expect_same(access.find_key({"key_1"}).value(), key);
  const auto known = access.find_key_by_hash("hash of key_1");
  expect_same(known.value().key, key);
  EXPECT_EQ(known->hash, "hash of key_1");
  EXPECT_FALSE(known->project_archived);
  EXPECT_FALSE(access.find_key({"key_2"}));
  EXPECT_FALSE(access.find_key_by_hash("key_1"));
}

TEST_P(AccessTest, KeysAreListedInTheOrderOfTheirCreation) {
  add_project("proj_1");
  for (const std::string id : {"key_2", "key_1", "key_3"}) {
    ApiKey key = make(id);
    if (id == "key_1") key.project = {"proj_1"};
    add(key);
  }
  const auto ids = [&](const std::optional<ProjectId>& project) {
    std::string out;
    for (const ApiKey& key : access.keys(project)) out += key.id.value + " ";
    return out;
  };
  EXPECT_EQ(ids(std::nullopt), "key_2 key_1 key_3 ");
  EXPECT_EQ(ids(ProjectId{"proj_1"}), "key_1 ");
  EXPECT_EQ(ids(ProjectId{"proj_2"}), "");
}

TEST_P(AccessTest, AProjectThatIsUnknownOrArchivedIsGivenNoKey) {
  ApiKey key = make("key_1");
  key.project = {"proj_1"};
  EXPECT_EQ(access.insert_key(key, "h").error().kind, Error::Kind::not_found);
  add_project("proj_1");
  archive("proj_1");
  EXPECT_EQ(access.insert_key(key, "h").error().kind, Error::Kind::conflict);
  EXPECT_FALSE(access.has_keys());
}

TEST_P(AccessTest, AKeyOfAProjectThatIsArchivedSaysSo) {
  add_project("proj_1");
  ApiKey key = make("key_1");
  key.project = {"proj_1"};
  add(key);
  archive("proj_1");
  EXPECT_TRUE(access.find_key_by_hash("hash of key_1").value().project_archived);
}

TEST_P(AccessTest, ARevokedKeyStaysAndTellsWhenItWasRevokedFirst) {
  add(make("key_1"));
  EXPECT_EQ(access.revoke_key({"key_1"}, kNow).value().revoked_at, kNow);
  EXPECT_EQ(access.revoke_key({"key_1"}, kNow + kHour).value().revoked_at, kNow);
  EXPECT_EQ(access.find_key({"key_1"}).value().revoked_at, kNow);
  EXPECT_FALSE(lives(access.find_key({"key_1"}).value(), kNow));
  EXPECT_EQ(access.revoke_key({"key_2"}, kNow).error().kind, Error::Kind::not_found);
  EXPECT_TRUE(access.has_keys());
}

TEST_P(AccessTest, ARotatedKeyGivesWayToOneLikeItAfterTheOverlap) {
  ApiKey old = make("key_1", {"admin"});
  old.expires_at = kNow + 10 * kHour;
  add(old);
  ApiKey made;
  made.id = {"key_2"};
  made.hint = "new hint";
  made.created_at = kNow + kHour;
  const ApiKey now = access.rotate_key(old.id, made, "new hash", 2 * kHour).value();
  made.project = old.project;
  made.name = old.name;
  made.scopes = old.scopes;
  made.expires_at = kNow + 11 * kHour;
  expect_same(now, made);
  expect_same(access.find_key_by_hash("new hash").value().key, made);
  old.expires_at = kNow + 3 * kHour;
  expect_same(access.find_key({"key_1"}).value(), old);
  EXPECT_TRUE(lives(old, kNow + 3 * kHour - kTick));
  EXPECT_FALSE(lives(old, kNow + 3 * kHour));
}

TEST_P(AccessTest, RotationLetsNoKeyLiveLongerAndNoneRiseAgain) {
  ApiKey old = make("key_1");
  old.expires_at = kNow + kHour;
  add(old);
  ApiKey made;
  made.id = {"key_2"};
  made.created_at = kNow;
  ASSERT_TRUE(access.rotate_key(old.id, made, "hash 2", 24 * kHour));
  EXPECT_EQ(access.find_key({"key_1"}).value().expires_at, kNow + kHour);

  made.id = {"key_3"};
  made.created_at = kNow + kHour;
  EXPECT_EQ(access.rotate_key({"key_1"}, made, "hash 3", kHour).error().kind, Error::Kind::conflict);
  ASSERT_TRUE(access.revoke_key({"key_2"}, kNow));
  EXPECT_EQ(access.rotate_key({"key_2"}, made, "hash 3", kHour).error().kind, Error::Kind::conflict);
  EXPECT_EQ(access.rotate_key({"key_9"}, made, "hash 3", kHour).error().kind, Error::Kind::not_found);
  EXPECT_EQ(access.keys().size(), 2u);
}

TEST_P(AccessTest, AKeyIsRotatedOnceAndCountsForNoAdministratorFromThenOn) {
  add(make("key_1", {"admin"}));
  ApiKey made;
  made.id = {"key_2"};
  made.created_at = kNow + kHour;
  ASSERT_TRUE(access.rotate_key({"key_1"}, made, "hash 2", kHour));
  EXPECT_EQ(admins(kNow + kHour), (std::vector<std::string>{"key_2"}));
  made.id = {"key_3"};
  EXPECT_EQ(access.rotate_key({"key_1"}, made, "hash 3", kHour).error().kind, Error::Kind::conflict);
  ASSERT_TRUE(access.rotate_key({"key_2"}, made, "hash 3", kHour));
  EXPECT_EQ(access.find_key({"key_3"}).value().expires_at, std::nullopt);
}

TEST_P(AccessTest, AdminKeysThatCouldBeUsedAreToldFromThoseThatCouldNot) {
  add_project("proj_1");
  add(make("key_files"));
  ApiKey expiring = make("key_expiring", {"admin"});
  expiring.expires_at = kNow + kHour;
  add(expiring);
  add(make("key_revoked", {"admin"}));
  ASSERT_TRUE(access.revoke_key({"key_revoked"}, kNow));
  ApiKey other = make("key_other", {"files", "admin"});
  other.project = {"proj_1"};
  add(other);
  EXPECT_EQ(admins(), (std::vector<std::string>{"key_expiring", "key_other"}));
  EXPECT_EQ(admins(kNow + kHour), (std::vector<std::string>{"key_other"}));
  archive("proj_1");
  EXPECT_EQ(admins(), (std::vector<std::string>{"key_expiring"}));
}

TEST_P(AccessTest, ScopesOfANewerProgramMeanNothing) {
  add(make("key_1", {"files", "monitor"}));
  connection->execute("UPDATE api_keys SET scopes = 'files telepathy monitor'", {});
  EXPECT_EQ(words(access.find_key({"key_1"})->scopes), (std::vector<std::string_view>{"files", "monitor"}));
}

TEST_P(AccessTest, TheNewestUseOfAKeyIsKept) {
  add(make("key_1"));
  EXPECT_EQ(access.find_key({"key_1"}).value().last_used_at, std::nullopt);
  access.touch_key({"key_1"}, kNow + kTick);
  access.touch_key({"key_1"}, kNow);
  EXPECT_EQ(access.find_key({"key_1"}).value().last_used_at, kNow + kTick);
}

TEST(ScopesTest, AreWordsInOneOrder) {
  const Scopes scopes = parse_scopes({"admin", "files"}).value();
  EXPECT_EQ(words(scopes), (std::vector<std::string_view>{"files", "admin"}));
  EXPECT_FALSE(has(scopes, Scope::batches));
  EXPECT_FALSE(parse_scopes({"files", "Files"}));
  EXPECT_EQ(parse_scopes({}), Scopes());
}

TEST(ScopesTest, AdministratorsSeeWhatMonitorsDo) {
  const Scopes admin = parse_scopes({"admin"}).value(), monitor = parse_scopes({"monitor"}).value();
  EXPECT_TRUE(allow(admin, Scope::monitor));
  EXPECT_TRUE(allow(monitor, Scope::monitor));
  EXPECT_FALSE(allow(monitor, Scope::admin));
  EXPECT_FALSE(allow(kScopesDefault, Scope::monitor));
}

INSTANTIATE_TEST_SUITE_P(Drivers, AccessTest, testing::ValuesIn(drivers()), driver_name);

}  // namespace
}  // namespace penstock
