#include "client/profile.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace penstock {
namespace {

namespace fs = std::filesystem;

class ProfileTest : public ::testing::Test {
 protected:
  ProfileTest() { fs::create_directories(folder_); }
  ~ProfileTest() override { fs::remove_all(folder_); }

  std::string write(const std::string& name, const std::string& text, mode_t mode = 0600) {
    const std::string path = folder_ / name;
    std::ofstream(path) << text;
    ::chmod(path.c_str(), mode);
    return path;
  }

  Target find(std::optional<std::string> url, std::optional<std::string> profile,
              std::map<std::string, std::string> environment = {}) {
    return find_target(url, profile, environment, folder_ / "config.toml");
  }

  std::string refusal(std::optional<std::string> profile) {
    try {
      find(std::nullopt, profile);
    } catch (const UsageError& e) {
      return e.what();
    }
    return "none";
  }

  const fs::path folder_ = fs::path(::testing::TempDir()) / ("penstock_profile_" + std::to_string(::getpid()));
};

TEST_F(ProfileTest, WithoutAnyTheServerIsOnThisMachine) {
  const Target target = find(std::nullopt, std::nullopt);
  EXPECT_EQ(target.url, "http://127.0.0.1:4080");
  EXPECT_EQ(target.key, "");
  EXPECT_EQ(find(std::nullopt, std::nullopt, {{"PENSTOCK_API_KEY", "k"}, {"URL", ""}}).key, "k");
}

TEST_F(ProfileTest, TheFirstThatSaysItWins) {
  write("config.toml",
        "[profiles.a]\nurl = 'http://a'\n[profiles.b]\nurl = 'http://b'\n[profiles.default]\nurl = 'http://d'\n");
  std::map<std::string, std::string> environment{{"PENSTOCK_PROFILE", "a"}};
  EXPECT_EQ(find(std::nullopt, std::nullopt).url, "http://d");
  EXPECT_EQ(find(std::nullopt, std::nullopt, environment).url, "http://a");
  environment["PENSTOCK_URL"] = "http://e";
  EXPECT_EQ(find(std::nullopt, std::nullopt, environment).url, "http://e");
  EXPECT_EQ(find(std::nullopt, "b", environment).url, "http://b");
  EXPECT_EQ(find("http://u", std::nullopt, environment).url, "http://u");
}

TEST_F(ProfileTest, AKeyGoesToTheServerOfItsProfileAlone) {
  write("config.toml", "[profiles.default]\nurl = 'http://d'\nkey = 'secret'\n");
  EXPECT_EQ(find(std::nullopt, std::nullopt, {{"PENSTOCK_API_KEY", "other"}}).key, "secret");
  EXPECT_EQ(find("http://u", std::nullopt).key, "");
  EXPECT_EQ(find("http://u", std::nullopt, {{"PENSTOCK_API_KEY", "other"}}).key, "other");
}

TEST_F(ProfileTest, NamesOfFilesStartAtItsOwn) {
  write("the.key", "secret\n");
  write("config.toml", "[profiles.a]\nurl = 'https://a/v1'\nkey_file = 'the.key'\nca_file = '/etc/ca.pem'\n", 0644);
  const Target target = find(std::nullopt, "a");
  EXPECT_EQ(target.key, "secret");
  EXPECT_EQ(target.ca_file, "/etc/ca.pem");
  EXPECT_EQ(target.endpoint.base_path, "");
}

TEST_F(ProfileTest, WhatOthersCanReadHoldsNoKey) {
  const std::string file = write("config.toml", "[profiles.a]\nurl = 'http://a'\nkey = 'secret'\n", 0640);
  EXPECT_EQ(refusal("a"), file + " holds a key, and others can read it: chmod 600 " + file);
  write("config.toml", "[profiles.a]\nurl = 'http://a'\nkey_file = 'the.key'\n", 0644);
  const std::string key = write("the.key", "secret", 0604);
  EXPECT_EQ(refusal("a"), key + " holds a key, and others can read it: chmod 600 " + key);
}

TEST_F(ProfileTest, RefusalsSayWhatIsWrong) {
  const std::string file = folder_ / "config.toml";
  EXPECT_EQ(refusal("a"), "there is no profile 'a': " + file + " has no [profiles.a]");
  const std::pair<const char*, std::string> cases[] = {
      {"url = 'http://a'\nky = 'x'", ": profiles.a: there is no 'ky'; known are: url, key, key_file, ca_file"},
      {"url = 3", ": profiles.a: url: expected a string"},
      {"key = 'x'", ": profiles.a: it has no url"},
      {"url = 'http://a'\nkey = 'x'\nkey_file = 'y'", ": profiles.a: key and key_file exclude each other"},
      {"url = 'a'", ": profiles.a.url: \"a\" is no usable URL: it begins with neither http:// nor https:// nor unix:"},
      {"url = 'http://a'\nkey = \"x\\r\\ny\"", ""},
  };
  for (const auto& [text, words] : cases) {
    write("config.toml", std::string("[profiles.a]\n") + text + "\n");
    EXPECT_EQ(refusal("a"), words.empty() ? "the key has a blank or a line break in it" : file + words);
  }
  write("config.toml", "[profiles.a\n");
  EXPECT_TRUE(refusal("a").starts_with(file + ":1: ")) << refusal("a");
}

}  // namespace
}  // namespace penstock
