#include "cli/config.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "base/error.h"
#include "testing/fixtures.h"

namespace penstock {
namespace {

// Each test has a working directory of its own and no variable of ours in its environment.
class ConfigTest : public testing::Test {
 protected:
  ConfigTest() : before_(std::filesystem::current_path()) {
    for (const SettingInfo& setting : settings()) ::unsetenv(setting.env.c_str());
    std::filesystem::current_path(folder.path());
  }
  ~ConfigTest() override {
    for (const SettingInfo& setting : settings()) ::unsetenv(setting.env.c_str());
    std::filesystem::current_path(before_);
  }

  static void env(const char* name, const std::string& value) { ::setenv(name, value.c_str(), 1); }
  Config file(const std::string& toml, const GivenFlags& flags = {}) {
    return load_config(flags, folder.write("given.toml", toml));
  }
  // What it says to a configuration that it refuses.
  static std::string refusal(const GivenFlags& flags, const std::optional<std::string>& path = {}) {
    try {
      load_config(flags, path);
    } catch (const UsageError& e) {
      EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos) << e.what();
      return e.what();
    }
    return "accepted";
  }

  TempDir folder;

 private:
  std::filesystem::path before_;
};

TEST_F(ConfigTest, HasDefaultsForEverything) {
  const Config config = load_config({}, {});
  EXPECT_EQ(config.listen_host, "127.0.0.1");
  EXPECT_EQ(config.listen_port, 4080);
  EXPECT_EQ(config.max_queue_depth, 20);
  EXPECT_EQ(config.max_requests_per_job, 50'000);
  EXPECT_EQ(config.max_total_queued_requests, 1'000'000);
  EXPECT_TRUE(config.worker);
  EXPECT_TRUE(config.engines.empty() && config.models.empty());
}

TEST_F(ConfigTest, FlagsWinOverTheEnvironmentThatOverTheFileThatOverTheDefault) {
  const std::string toml = "slots = 1\ncontext = 101\nlog_level = \"debug\"\n";
  env("PENSTOCK_CONTEXT", "102");
  env("PENSTOCK_LOG_LEVEL", "warn");
  const Config config = file(toml, {{"log_level", {"error"}}});
  EXPECT_EQ(config.slots, 1);
  EXPECT_EQ(config.context, 102);
  EXPECT_EQ(config.log_level, "error");
  EXPECT_EQ(config.listen_port, 4080);
}

TEST_F(ConfigTest, AnEmptyVariableIsNone) {
  env("PENSTOCK_SLOTS", "");
  EXPECT_EQ(file("slots = 3\n").slots, 3);
}

TEST_F(ConfigTest, TheFileInTheWorkingDirectoryIsReadUnlessAnotherIsNamed) {
  folder.write("penstock.toml", "slots = 1\n");
  EXPECT_EQ(load_config({}, {}).slots, 1);
  EXPECT_EQ(file("slots = 2\n").slots, 2);
  EXPECT_EQ(file("").slots, 0);  // nothing of the other one
}

TEST_F(ConfigTest, EverySettingCanBeGivenInEachLayer) {
  struct Row {
    std::string key, toml, text;  // of the file; of a variable or flag
    std::function<std::string(const Config&)> read;
  };
  const auto number = [](auto Config::*member) {
    return [member](const Config& c) { return std::to_string(c.*member); };
  };
  const auto list = [](const std::vector<std::string>& items) {
    std::string all;
    for (const auto& item : items) all += item + ";";
    return all;
  };
  const Row table[] = {
      {"listen", "\"0.0.0.0:81\"", "0.0.0.0:81",
       [](const Config& c) { return fmt::format("{}:{}", c.listen_host, c.listen_port); }},
      {"metrics_listen", "\"[::1]:82\"", "[::1]:82",
       [](const Config& c) { return fmt::format("{}:{}", c.metrics_host, c.metrics_port); }},
      {"tls_certificate", "\"/etc/a.pem\"", "/etc/a.pem", [](const Config& c) { return c.tls_certificate; }},
      {"tls_key", "\"/etc/a.key\"", "/etc/a.key", [](const Config& c) { return c.tls_key; }},
      {"cors_origins", "[\"https://a.example\", \"http://b:81\"]", "https://A.example:443,http://b:81",
       [&](const Config& c) { return list(c.cors_origins); }},
      {"data", "\"/var/d\"", "/var/d", [](const Config& c) { return c.data; }},
      {"database", "\"postgres://h/d\"", "postgres://h/d", [](const Config& c) { return c.database; }},
      {"blobs", "\"s3://bucket/a\"", "s3://bucket/a", [](const Config& c) { return c.blobs; }},
      {"engines", "[\"http://a:1\", \"http://b:2/v1\"]", "http://a:1,http://b:2/v1",
       [&](const Config& c) { return list(c.engines); }},
      {"engine_key", "\"sk\"", "sk", [](const Config& c) { return c.engine_key; }},
      {"model", "\"name\"", "name", [](const Config& c) { return c.only_model; }},
      {"llama_server", "\"my-server\"", "my-server", [](const Config& c) { return c.llama_server; }},
      {"llama_server_args", "[\"-t\", \"2\"]", "-t,2", [&](const Config& c) { return list(c.llama_server_args); }},
      {"slots", "9", "9", number(&Config::slots)},
      {"shared_engines", "true", "true", [](const Config& c) { return std::string(c.shared_engines ? "yes" : "no"); }},
      {"context", "99", "99", number(&Config::context)},
      {"swap_after", "9", "9", number(&Config::swap_after_s)},
      {"line_timeout", "9", "9", number(&Config::line_timeout_s)},
      {"line_attempts", "9", "9", number(&Config::line_attempts)},
      {"embedding_group", "9", "9", number(&Config::embedding_group)},
      {"stream_answers", "true", "true", [](const Config& c) { return std::string(c.stream_answers ? "yes" : "no"); }},
      {"insecure", "true", "true", [](const Config& c) { return std::string(c.insecure ? "yes" : "no"); }},
      {"worker", "false", "false", [](const Config& c) { return std::string(c.worker ? "yes" : "no"); }},
      {"accept_when_offline", "true", "true",
       [](const Config& c) { return std::string(c.accept_when_offline ? "yes" : "no"); }},
      {"max_queue_depth", "9", "9", number(&Config::max_queue_depth)},
      {"max_requests_per_job", "9", "9", number(&Config::max_requests_per_job)},
      {"max_total_queued_requests", "9", "9", number(&Config::max_total_queued_requests)},
      {"max_batch_file_bytes", "9", "9", number(&Config::max_batch_file_bytes)},
      {"webhook_allow", "[\"hooks.internal\", \"10.0.0.0/8\"]", "hooks.internal,10.0.0.0/8",
       [&](const Config& c) { return list(c.webhook_allow); }},
      {"completion_windows", "[\"24h\", \"5s\"]", "24h,5s",
       [](const Config& c) {
         std::string all;
         for (const auto& [name, length] : c.completion_windows) all += fmt::format("{}={};", name, length.count());
         return all;
       }},
      {"otlp_endpoint", "\"http://a:4318\"", "http://a:4318", [](const Config& c) { return c.otlp_endpoint; }},
      {"trace_lines", "0.25", "0.25", [](const Config& c) { return fmt::format("{}", c.trace_lines); }},
      {"log_format", "\"json\"", "json", [](const Config& c) { return std::string(c.log_json ? "json" : "text"); }},
      {"log_level", "\"warn\"", "warn", [](const Config& c) { return c.log_level; }},
  };
  ASSERT_EQ(std::size(table), settings().size());
  const Config defaults;
  for (const Row& row : table) {
    const auto info =
        std::find_if(settings().begin(), settings().end(), [&](const auto& s) { return s.key == row.key; });
    ASSERT_NE(info, settings().end()) << row.key;
    EXPECT_FALSE(info->help.empty());
    const std::string expected = row.read(file(fmt::format("{} = {}\n", row.key, row.toml)));
    EXPECT_NE(expected, row.read(defaults)) << row.key;
    env(info->env.c_str(), row.text);
    EXPECT_EQ(row.read(load_config({}, {})), expected) << row.key;
    ::unsetenv(info->env.c_str());
    if (!info->flag.empty() && row.key != "engines") {
      EXPECT_EQ(row.read(load_config({{row.key, {row.text}}}, {})), expected) << row.key;
    }
  }
  EXPECT_EQ(load_config({{"engines", {"http://a:1", "http://b:2"}}}, {}).engines.size(), 2u);
}

TEST_F(ConfigTest, ListensOnWhatItWasTold) {
  const std::tuple<std::string, std::string, int> table[] = {
      {"0.0.0.0:0", "0.0.0.0", 0}, {"localhost:65535", "localhost", 65'535}, {"[::1]:80", "::1", 80}};
  for (const auto& [text, host, port] : table) {
    const Config config = load_config({{"listen", {text}}}, {});
    EXPECT_EQ(config.listen_host, host);
    EXPECT_EQ(config.listen_port, port);
  }
}

TEST_F(ConfigTest, CompletionWindowsAreHoursMinutesOrSeconds) {
  const Config config = load_config({{"completion_windows", {"24h,30m", "5s"}}}, {});
  const std::pair<const char*, int> expected[] = {{"24h", 86'400}, {"30m", 1'800}, {"5s", 5}};
  ASSERT_EQ(config.completion_windows.size(), std::size(expected));
  for (std::size_t i = 0; i < std::size(expected); ++i) {
    EXPECT_EQ(config.completion_windows[i].name, expected[i].first);
    EXPECT_EQ(config.completion_windows[i].length.count(), expected[i].second);
  }
}

TEST_F(ConfigTest, PathsStartAtTheFilesFolder) {
  std::filesystem::create_directories(folder / "deep");
  const std::string path = folder.write("deep/c.toml", R"(
data = "../data"
llama_server = "bin/llama-server"
[models]
a = "models/a.gguf"
b = "/abs/b.gguf"
)");
  const Config config = load_config({}, path);
  EXPECT_EQ(config.data, folder / "data");
  EXPECT_EQ(config.llama_server, folder / "deep/bin/llama-server");
  EXPECT_EQ(config.models.at(0).path, folder / "deep/models/a.gguf");
  EXPECT_EQ(config.models.at(1).path, "/abs/b.gguf");
  // A flag's path starts where the user stands, a program without a '/' is found in PATH.
  EXPECT_EQ(load_config({{"data", {"here"}}}, path).data, "here");
  EXPECT_EQ(file("llama_server = \"llama-server\"\n").llama_server, "llama-server");
}

TEST_F(ConfigTest, ThePlaceOfBlobsIsAFolderOrABucket) {
  const std::string name = folder.write("penstock.toml", "blobs = \"shared\"\n");
  EXPECT_EQ(load_config({}, name).blobs, folder / "shared");
  EXPECT_THROW(load_config({{"blobs", {"http://a/b"}}}, {}), UsageError);
}

TEST_F(ConfigTest, ThePasswordOfTheDatabaseIsNotShown) {
  const std::string url = "postgres://me:secret@host:5433/penstock";
  EXPECT_EQ(load_config({{"database", {url}}}, {}).database, url);
  const std::string shown = print_config({{"database", {url}}}, {});
  EXPECT_NE(shown.find("database = \"postgres://me@host:5433/penstock\""), std::string::npos) << shown;
  EXPECT_EQ(shown.find("secret"), std::string::npos);
  try {
    load_config({{"database", {"postgers://me:secret@host"}}}, {});
    FAIL();
  } catch (const UsageError& e) {
    EXPECT_EQ(std::string(e.what()).find("secret"), std::string::npos) << e.what();
  }
}

TEST_F(ConfigTest, AModelIsANameOrAFileOrBoth) {
  const std::string models = "[models]\na = \"/a.gguf\"\nb = \"/b.gguf\"\n";
  const auto with = [&](const std::string& model) { return file(models, {{"model", {model}}}); };
  EXPECT_EQ(with("b").only_model, "b");
  EXPECT_EQ(with("b").models.size(), 2u);
  EXPECT_EQ(with("x/c.gguf").only_model, "c");
  for (const char* name : {"c", "d"}) {
    const Config config = with(std::string(name) == "c" ? "x/c.gguf" : "d=x/c.gguf");
    ASSERT_EQ(config.models.size(), 1u);
    EXPECT_EQ(config.models.front().name, name);
    EXPECT_EQ(config.models.front().path, "x/c.gguf");
  }
}

TEST_F(ConfigTest, WhoNamesEnginesDoesNotWantTheFilesModels) {
  const std::string toml = "engines = [\"http://c:3\"]\n[models]\na = \"/a.gguf\"\n";
  EXPECT_EQ(file(toml).models.size(), 1u);
  EXPECT_TRUE(file(toml, {{"engines", {"http://a:1"}}}).models.empty());
  env("PENSTOCK_ENGINES", "http://b:2");
  EXPECT_TRUE(file(toml).models.empty());
  EXPECT_EQ(file(toml).engines, std::vector<std::string>{"http://b:2"});
}

TEST_F(ConfigTest, ARefusalNamesTheKeyWhereItCameFromAndWhatIsAllowed) {
  struct Row {
    std::string toml;
    std::vector<std::string> words;
  };
  const Row files[] = {
      {"slotz = 1\n", {"slotz", "given.toml", "slots, ", "models"}},
      {"slots = \"many\"\n", {"slots", "'many'", "given.toml", "0 to 100000"}},
      {"slots = -1\n", {"slots", "'-1'", "0 to"}},
      {"slots = 1.5\n", {"slots", "whole number"}},
      {"slots = [1, 2]\n", {"slots", "given.toml"}},
      {"context = -1\n", {"context", "0 to"}},
      {"worker = \"maybe\"\n", {"worker", "true or false"}},
      {"listen = \"4080\"\n", {"listen", "HOST:PORT"}},
      {"listen = \"localhost:\"\n", {"listen", "0 to 65535"}},
      {"listen = \"localhost:70000\"\n", {"listen", "0 to 65535"}},
      {"listen = \":80\"\n", {"listen", "HOST:PORT"}},
      {"metrics_listen = \"9480\"\n", {"metrics_listen", "HOST:PORT"}},
      {"cors_origins = [\"https://a\", \"*\"]\n", {"cors_origins", "'https://a,*'", "each has to be named"}},
      {"cors_origins = \"https://a/b\"\n", {"cors_origins", "'https://a/b'", "no path"}},
      {"engines = [\"ftp://x\"]\n", {"engines", "ftp://x"}},
      {"engines = [[1]]\n", {"engines", "given.toml"}},
      {"otlp_endpoint = \"collector:4318\"\n", {"otlp_endpoint", "collector:4318"}},
      {"trace_lines = 1.5\n", {"trace_lines", "0 to 1"}},
      {"trace_lines = \"some\"\n", {"trace_lines", "0 to 1"}},
      {"log_format = \"xml\"\n", {"log_format", "text or json"}},
      {"log_level = \"loud\"\n", {"log_level", "debug, info, warn or error"}},
      {"model = \"\"\n", {"model", "NAME"}},
      {"model = \"=x.gguf\"\n", {"model", "NAME"}},
      {"models = 7\n", {"models", "table"}},
      {"[models]\na = 1.5\n", {"models.a", "GGUF"}},
      {"sinks = 7\n", {"sinks", "table"}},
      {"[sinks]\na = 7\n", {"sinks.a", "table"}},
      {"[sinks.a]\ntype = \"ftp\"\n", {"given.toml", "sinks.a.type", "http, s3, postgres or command"}},
      {"max_batch_file_bytes = 0\n", {"max_batch_file_bytes", "1 to"}},
      {"completion_windows = [\"24h\", \"5\"]\n", {"completion_windows", "24h, 30m or 5s"}},
      {"completion_windows = \",\"\n", {"completion_windows", "24h, 30m or 5s"}},
      {"webhook_allow = [\"10.0.0.0/99\"]\n", {"webhook_allow", "10.0.0.0/8"}},
      {"completion_windows = \"0h\"\n", {"completion_windows", "1 to"}},
      {"slots = \n", {"given.toml:1"}},
      {"a = 1\na = 2\n", {"given.toml:2"}},
      {"data = 1979-05-27\n", {"data", "string"}},
  };
  for (const Row& row : files) {
    const std::string words = refusal({}, folder.write("given.toml", row.toml));
    for (const std::string& word : row.words) EXPECT_NE(words.find(word), std::string::npos) << row.toml << words;
  }
  env("PENSTOCK_SLOTS", "x");
  EXPECT_NE(refusal({}).find("PENSTOCK_SLOTS"), std::string::npos) << refusal({});
  ::unsetenv("PENSTOCK_SLOTS");
  const std::string flag = refusal({{"slots", {"1", "two"}}});
  EXPECT_NE(flag.find("--slots"), std::string::npos) << flag;
  EXPECT_NE(refusal({}, folder / "nowhere.toml").find("nowhere.toml"), std::string::npos);
}

TEST_F(ConfigTest, PrintsWhatHoldsAndWhereItCameFromWithoutTheKey) {
  env("PENSTOCK_ENGINE_KEY", "sk-secret");
  const std::string path =
      folder.write("given.toml",
                   "slots = 3\ncontext = 100\n[models]\n\"a b\" = \"/a\\\"b.gguf\"\n[sinks.lab]\n"
                   "type = \"http\"\nurl = \"http://h/sk-secret\"\nheaders = { A = \"sk-secret\" }\n");
  const std::string text = print_config({{"context", {"200"}}}, path);
  EXPECT_EQ(text.find("sk-secret"), std::string::npos);
  EXPECT_NE(text.find("slots = 3  # " + path), std::string::npos) << text;
  EXPECT_NE(text.find("context = 200  # --context"), std::string::npos) << text;
  EXPECT_NE(text.find("worker = true  # default"), std::string::npos) << text;
  EXPECT_NE(text.find("# \"lab\" = { type = \"http\""), std::string::npos) << text;
  EXPECT_NE(text.find("environment PENSTOCK_ENGINE_KEY"), std::string::npos) << text;
  // It is a configuration file itself.
  ::unsetenv("PENSTOCK_ENGINE_KEY");
  const std::string again = folder.write("again.toml", text);
  const Config config = load_config({}, again);
  EXPECT_EQ(config.context, 200);
  ASSERT_EQ(config.models.size(), 1u);
  EXPECT_EQ(config.models.front().name, "a b");
  EXPECT_EQ(config.models.front().path, "/a\"b.gguf");
}

}  // namespace
}  // namespace penstock
