#include "cli/doctor.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "sql/postgres_address.h"
#include "testing/fixtures.h"

namespace penstock {
namespace {

namespace fs = std::filesystem;
using enum Finding::Level;

// The worst of them; ok when there are none.
Finding::Level worst(const Findings& findings) {
  Finding::Level level = ok;
  for (const Finding& finding : findings) level = std::max(level, finding.level);
  return level;
}

Config listening(const std::string& host) {
  Config config;
  config.listen_host = host;
  return config;
}

TEST(DoctorTest, WhatOtherMachinesReachNeedsKeysAndTls) {
  for (const char* host : {"127.0.0.1", "::1", "[::1]", "localhost", "127.8.9.1"}) {
    EXPECT_EQ(check_listen(listening(host), false).level, ok) << host;
  }
  for (const char* host : {"0.0.0.0", "::", "192.0.2.1", "10.0.0.1", "example.com"}) {
    EXPECT_EQ(check_listen(listening(host), false).level, fail) << host;
    EXPECT_EQ(check_listen(listening(host), true).level, warn) << host;
    Config config = listening(host);
    config.tls_certificate = "certificate.pem";
    EXPECT_EQ(check_listen(config, true).level, ok) << host;
    EXPECT_EQ(check_listen(config, false).level, fail) << host;
    config.insecure = true;
    EXPECT_EQ(check_listen(config, false).level, warn) << host;
  }
  Config insecure = listening("127.0.0.1");
  insecure.insecure = true;
  EXPECT_EQ(check_listen(insecure, false).level, warn);
  EXPECT_EQ(check_listen(insecure, true).level, ok);
}

TEST(DoctorTest, PagesThatOthersCanChangeAreTold) {
  EXPECT_TRUE(check_cors_origins({"https://example.com", "http://localhost:3000"}).empty());
  EXPECT_EQ(worst(check_cors_origins({"http://example.com"})), warn);
}

TEST(DoctorTest, KeysWithoutAnEndOrAUseAreTold) {
  const Timestamp now{std::chrono::hours(500'000)};
  const auto days = [](int count) { return std::chrono::hours(24 * count); };
  const auto level = [&](const ApiKey& key) { return worst(check_keys(std::span(&key, 1), now)); };
  Scopes admin, files;
  admin.set(static_cast<std::size_t>(Scope::admin));
  files.set(static_cast<std::size_t>(Scope::files));
  const ApiKey good{.id = {"key_1"},
                    .project = kDefaultProject,
                    .name = "good",
                    .hint = "",
                    .scopes = admin,
                    .created_at = now - days(100),
                    .expires_at = now + days(30),
                    .revoked_at = {},
                    .last_used_at = now - days(1)};
  EXPECT_EQ(level(good), ok);
  ApiKey key = good;
  key.expires_at.reset();
  EXPECT_EQ(level(key), warn);
  key.revoked_at = now;
  EXPECT_EQ(level(key), ok);
  key = good;
  key.expires_at = now + days(6);
  EXPECT_EQ(level(key), warn);
  key.expires_at = now;
  EXPECT_EQ(level(key), ok);
  key = good;
  key.last_used_at = now - days(91);
  EXPECT_EQ(level(key), warn);
  key.scopes = files;
  EXPECT_EQ(level(key), ok);
  key.scopes = admin;
  key.last_used_at.reset();  // never
  EXPECT_EQ(level(key), warn);
  key.created_at = now;
  EXPECT_EQ(level(key), ok);
}

TEST(DoctorTest, AllowingWebhooksTooMuchIsTold) {
  const auto level = [](const std::vector<std::string>& entries) { return worst(check_webhook_allow(entries)); };
  EXPECT_EQ(level({}), ok);
  EXPECT_EQ(level({"hooks.internal", "*.example.com", "10.1.0.0/16"}), ok);
  EXPECT_EQ(level({"0.0.0.0/0"}), fail);
  EXPECT_EQ(level({"::/0"}), fail);
  EXPECT_EQ(level({"10.0.0.0/8", "169.254.0.0/16"}), fail);
  EXPECT_EQ(level({"127.0.0.0/8"}), warn);
  EXPECT_EQ(level({"not an entry/"}), fail);
}

TEST(DoctorTest, EachLimitThatIsOffIsTold) {
  Config config;
  EXPECT_EQ(worst(check_limits(config)), ok);
  config.max_queue_depth = config.max_requests_per_job = config.max_total_queued_requests = 0;
  EXPECT_EQ(check_limits(config).size(), 3u);
  EXPECT_EQ(worst(check_limits(config)), warn);
}

TEST(DoctorTest, WhoElseMayReadOrChangeAFileIsTold) {
  TempDir folder;
  const std::string path = folder.write("secret", "");
  for (const auto& [mode, level] : std::vector<std::pair<unsigned, Finding::Level>>{{0600, ok},
                                                                                    {0400, ok},
                                                                                    {0640, warn},
                                                                                    {0604, warn},
                                                                                    {0644, warn},
                                                                                    {0620, fail},
                                                                                    {0602, fail},
                                                                                    {0666, fail}}) {
    fs::permissions(path, fs::perms(mode));
    EXPECT_EQ(worst(check_private("key", path)), level) << mode;
  }
  EXPECT_TRUE(check_private("key", folder / "nothing").empty());
}

TEST(DoctorTest, AConfigurationFileMayBeReadUnlessItHoldsASecret) {
  TempDir folder;
  const std::string path = folder.write("penstock.toml", "engine_key = \"sk-1\"\n");
  fs::permissions(path, fs::perms(0644));
  EXPECT_EQ(worst(check_config_file(path, {"sk-1"})), warn);
  EXPECT_EQ(worst(check_config_file(path, {"sk-2"})), ok);
  fs::permissions(path, fs::perms(0600));
  EXPECT_EQ(worst(check_config_file(path, {"sk-1"})), ok);
  fs::permissions(path, fs::perms(0666));  // whoever can change it can start any program
  EXPECT_EQ(worst(check_config_file(path, {})), fail);
}

TEST(DoctorTest, SecretsAreKeysPasswordsAndWhatEnginesAreGiven) {
  Config config;
  EXPECT_TRUE(secrets_in(config).empty());
  config.engine_key = "sk-1";
  config.database = "postgres://user:pass%20word@host/db";
  config.models = {ModelConfig{.name = "m", .path = "p", .env = {{"HF_TOKEN", "hf_1"}}}};
  config.sinks = {{.name = "a", .to = HttpSinkOptions{.url = {}, .headers = {{"Authorization", "Token t"}}}},
                  {.name = "b", .to = PostgresSinkOptions{.url = "postgres://u:other@host/db", .table = "t"}}};
  EXPECT_EQ(secrets_in(config), (std::vector<std::string>{"sk-1", "pass word", "hf_1", "Token t", "other"}));
}

TEST(DoctorTest, RoomIsJudgedByTheReserve) {
  constexpr std::uint64_t kSize = 1'000ULL << 30;
  const std::uint64_t reserve = disk_reserve(kSize);
  EXPECT_EQ(check_room({kSize, reserve - 1}, "/").level, fail);
  EXPECT_EQ(check_room({kSize, reserve}, "/").level, warn);
  EXPECT_EQ(check_room({kSize, 10 * reserve}, "/").level, ok);
}

TEST(DoctorTest, TheMachineIsJudged) {
  EXPECT_EQ(check_descriptors(4'095).level, warn);
  EXPECT_EQ(check_descriptors(4'096).level, ok);
  EXPECT_EQ(check_core_files(0).level, ok);
  EXPECT_EQ(check_core_files(1).level, warn);
  EXPECT_EQ(check_user(true).level, warn);
  EXPECT_EQ(check_user(false).level, ok);
  EXPECT_EQ(check_clock(Timestamp{}).level, fail);
  EXPECT_EQ(check_clock(Timestamp{std::chrono::sys_days(std::chrono::January / 1 / 2026)}).level, ok);
}

TEST(DoctorTest, AKeyThatCrossesANetworkInPlainTextIsTold) {
  Config config;
  config.engine_key = "sk-1";
  config.engines = {"https://api.example.com", "http://127.0.0.1:8000", "http://[::1]:8000", "http://localhost:1",
                    "http://vllm:8000",        "http://10.1.2.3",       "unix:/run/e.sock",  "http://gpu.internal"};
  EXPECT_TRUE(check_engine_urls(config).empty());
  config.engines = {"http://api.example.com", "http://8.8.8.8:8000"};
  const Findings findings = check_engine_urls(config);
  ASSERT_EQ(findings.size(), 2u);
  EXPECT_EQ(worst(findings), warn);
  EXPECT_NE(findings[0].words.find("engine_key"), std::string::npos);
  EXPECT_EQ(findings[0].words.find("sk-1"), std::string::npos);
}

TEST(DoctorTest, TheWayToTheDatabaseIsJudgedByItsUrl) {
  ::unsetenv("PGSSLMODE");
  const auto level = [](const std::string& url, bool from_flag = false) {
    Config config;
    config.database = url;
    return worst(check_database_url(config, from_flag));
  };
  EXPECT_EQ(level("postgres:///db"), ok);
  EXPECT_EQ(level("postgres://localhost/db"), ok);
  EXPECT_EQ(level("postgres://%2Frun%2Fpostgresql/db"), ok);
  EXPECT_EQ(level("postgres://db.example.com/db"), warn);
  EXPECT_EQ(level("postgres://localhost,db.example.com/db"), warn);
  EXPECT_EQ(level("postgres://db.example.com/db?sslmode=require"), warn);
  EXPECT_EQ(level("postgres://db.example.com/db?sslmode=verify-full"), ok);
  EXPECT_EQ(level("postgres://localhost/db?hostaddr=192.0.2.1"), warn);
  EXPECT_EQ(level("postgres://user:word@localhost/db", false), ok);
  EXPECT_EQ(level("postgres://user:word@localhost/db", true), warn);
  ::setenv("PGSSLMODE", "verify-ca", 1);
  EXPECT_EQ(level("postgres://db.example.com/db"), ok);
  EXPECT_EQ(level("postgres://db.example.com/db?sslmode=disable"), warn);
  ::unsetenv("PGSSLMODE");
}

}  // namespace
}  // namespace penstock
