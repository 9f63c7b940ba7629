#include "api/authenticator.h"

#include <gtest/gtest.h>

#include "model/api_key_text.h"
#include "testing/fake_clock.h"
#include "testing/faulty_connection.h"
#include "testing/fixtures.h"
#include "testing/run_task.h"

namespace penstock {
namespace {

constexpr Millis kTick{1};

class AuthenticatorTest : public testing::Test {
 protected:
  template <class F>
  auto write(F f) {
    return run_task(loop, db.write([&](Store& store) {
      Access access(store);
      return f(access);
    }));
  }
  // A new key's text.
  std::string add(const std::string& id, std::optional<Timestamp> expires_at = {},
                  const ProjectId& project = kDefaultProject) {
    const std::string text = make_key_text();
    ApiKey key;
    key.id = {id};
    key.project = project;
    key.scopes = parse_scopes({"files"}).value();
    key.created_at = clock.now();
    key.expires_at = expires_at;
    EXPECT_TRUE(write([&](Access& access) { return access.insert_key(key, key_hash(text)); }));
    return text;
  }
  Result<Principal> ask(const std::string& authorization, const std::string& host = "localhost:4080",
                        const std::string& origin = "") {
    Request request{
        .method = "GET", .path = {}, .query = {}, .headers = {}, .body_size = {}, .body = nullptr, .client_gone = {}};
    request.headers.add("Host", host);
    if (!authorization.empty()) request.headers.add("Authorization", authorization);
    if (!origin.empty()) request.headers.add("Origin", origin);
    return run_task(loop, authenticator.authenticate(request));
  }
  Result<Principal> ask_with(const std::string& key) { return ask("Bearer " + key); }
  static void expect_refused(const Result<Principal>& result, Error::Kind kind = Error::Kind::unauthorized) {
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().kind, kind);
  }

  asio::io_context loop;
  FakeClock clock{loop};
  std::unique_ptr<sql::Connection> database = [] {
    auto opened = sql::open_sqlite(":memory:");
    sql::transaction(*opened, [&] { Store(*opened).migrate(); });
    return opened;
  }();
  std::unique_ptr<FaultyConnection> owned = std::make_unique<FaultyConnection>(*database);
  FaultyConnection& session = *owned;
  Db db{std::move(owned)};
  Authenticator authenticator{loop, clock, db, false};
};

TEST_F(AuthenticatorTest, WhileThereIsNoKeyEverybodyOnThisMachineMayDoEverything) {
  for (const char* authorization : {"", "Bearer any", "Basic eDp5"}) {
    const auto caller = ask(authorization);
    ASSERT_TRUE(caller);
    EXPECT_EQ(caller->project, kDefaultProject);
    EXPECT_EQ(caller->key, std::nullopt);
    EXPECT_TRUE(caller->scopes.all());
  }
}

TEST_F(AuthenticatorTest, WithoutKeysOtherSitesPagesAreRefused) {
  for (const char* host : {"localhost", "127.0.0.1:4080", "[::1]:4080", "[::1]"}) EXPECT_TRUE(ask("", host)) << host;
  for (const char* host : {"example.com", "example.com:4080", "192.168.0.1:4080", "localhost.example.com", ""}) {
    expect_refused(ask("", host), Error::Kind::forbidden);
  }
  EXPECT_TRUE(ask("", "localhost:4080", "http://localhost:4080"));
  for (const char* origin : {"https://example.com", "http://example.com:80", "null"}) {
    expect_refused(ask("", "localhost", origin), Error::Kind::forbidden);
  }
}

TEST_F(AuthenticatorTest, WhoeverIsInsecureTakesThemToo) {
  Authenticator insecure(loop, clock, db, true);
  Request request{
      .method = "GET", .path = {}, .query = {}, .headers = {}, .body_size = {}, .body = nullptr, .client_gone = {}};
  request.headers.add("Host", "example.com");
  EXPECT_TRUE(run_task(loop, insecure.authenticate(request)));
  add("key_1");
  clock.advance(Authenticator::kBelieved);
  expect_refused(run_task(loop, insecure.authenticate(request)));
}

TEST_F(AuthenticatorTest, WhoBringsTheFirstKeyIsKnownAtOnce) {
  EXPECT_TRUE(ask(""));
  const std::string key = add("key_1");
  EXPECT_EQ(ask_with(key).value().key, KeyId{"key_1"});
  expect_refused(ask(""));
}

TEST_F(AuthenticatorTest, TheFirstKeyIsHeardOfAfterHalfASecondAndThenForGood) {
  EXPECT_TRUE(ask(""));
  const std::string key = add("key_1");
  clock.advance(Authenticator::kBelieved - kTick);
  EXPECT_TRUE(ask(""));
  clock.advance(kTick);
  expect_refused(ask(""));
  EXPECT_EQ(ask_with(key).value().key, KeyId{"key_1"});
  EXPECT_TRUE(ask("Bearer " + key, "example.com", "https://example.com"));
  write([](Access& access) { return access.revoke_key({"key_1"}, {}); });
  clock.advance(std::chrono::hours(1));
  expect_refused(ask(""));
}

TEST_F(AuthenticatorTest, AKeyIsFoundWhateverIsAroundIt) {
  const std::string key = add("key_1");
  EXPECT_EQ(ask_with(key).value().scopes, parse_scopes({"files"}).value());
  for (const char* scheme : {"Bearer ", "bearer ", "BEARER ", "Bearer   "}) EXPECT_TRUE(ask(scheme + key)) << scheme;
  EXPECT_TRUE(ask("Bearer " + key + " "));
  for (const std::string& other :
       {key, "Basic " + key, "Bearer" + key, std::string("Bearer "), std::string("Bearer")}) {
    expect_refused(ask(other));
  }
}

TEST_F(AuthenticatorTest, WhatIsNoKeyIsRefusedWithoutAQuestionToTheDatabase) {
  const std::string key = add("key_1");
  EXPECT_TRUE(ask_with(key));
  session.statements_left = 0;
  session.failures = 1'000;
  std::string mistyped = key;
  std::swap(mistyped[10], mistyped[11]);
  if (mistyped == key) mistyped[10] = mistyped[10] == 'x' ? 'y' : 'x';
  for (const std::string& other : {mistyped, std::string("any"), key + key, std::string(10'000, 'x')}) {
    const auto refused = ask_with(other);
    expect_refused(refused);
    EXPECT_EQ(refused.error().message.find(other), std::string::npos);
  }
  EXPECT_THROW(ask_with(make_key_text()), sql::Failure);
}

TEST_F(AuthenticatorTest, WhatWasFoundIsBelievedForHalfASecond) {
  const std::string key = add("key_1");
  const std::string unknown = make_key_text();
  EXPECT_TRUE(ask_with(key));
  expect_refused(ask_with(unknown));
  write([](Access& access) { return access.revoke_key({"key_1"}, {}); });
  clock.advance(Authenticator::kBelieved - kTick);
  session.statements_left = 0;
  session.failures = 1'000;
  EXPECT_TRUE(ask_with(key));
  expect_refused(ask_with(unknown));
  clock.advance(kTick);
  EXPECT_THROW(ask_with(key), sql::Failure);
  session.statements_left = -1;
  expect_refused(ask_with(key));
}

TEST_F(AuthenticatorTest, AKeyEndsAtTheMomentOfItsExpiryAlsoWhereItIsRemembered) {
  const std::string key = add("key_1", clock.now() + Millis{100});
  EXPECT_TRUE(ask_with(key));
  clock.advance(Millis{100} - kTick);
  EXPECT_TRUE(ask_with(key));
  clock.advance(kTick);
  expect_refused(ask_with(key));
}

TEST_F(AuthenticatorTest, TheKeysOfAnArchivedProjectAreRefused) {
  Project project;
  project.id = {"proj_1"};
  write([&](Access& access) { access.insert_project(project); });
  const std::string key = add("key_1", {}, project.id);
  EXPECT_EQ(ask_with(key).value().project, project.id);
  project.archived_at = clock.now();
  write([&](Access& access) { access.update_project(project); });
  clock.advance(Authenticator::kBelieved);
  expect_refused(ask_with(key));
}

TEST_F(AuthenticatorTest, UseIsStoredAtMostOnceAMinute) {
  const std::string key = add("key_1");
  TaskGroup tasks(loop);
  tasks.spawn("noting", authenticator.note_uses());
  const auto last_used = [&] {
    return write([](Access& access) { return access.find_key({"key_1"}).value().last_used_at; });
  };
  EXPECT_TRUE(ask_with(key));
  const Timestamp first = clock.now();
  EXPECT_TRUE(run_until(loop, [&] { return last_used() == first; }));
  clock.advance(Authenticator::kUseNoted - kTick);
  EXPECT_TRUE(ask_with(key));
  poll(loop);
  EXPECT_EQ(last_used(), first);
  clock.advance(kTick);
  EXPECT_TRUE(ask_with(key));
  EXPECT_TRUE(run_until(loop, [&] { return last_used() == first + Authenticator::kUseNoted; }));
  tasks.cancel();
  run_task(loop, tasks.join());
}

TEST_F(AuthenticatorTest, HoweverManyKeysAreTriedFewAreRemembered) {
  const std::string key = add("key_1");
  EXPECT_TRUE(ask_with(key));
  for (std::size_t i = 0; i < Authenticator::kKnownMax; ++i) expect_refused(ask_with(make_key_text()));
  EXPECT_LE(authenticator.known(), Authenticator::kKnownMax);
  EXPECT_TRUE(ask_with(key));
}

}  // namespace
}  // namespace penstock
