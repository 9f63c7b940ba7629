#include "cli/sink_config.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "base/error.h"

namespace penstock {
namespace {

SinkOptions parsed(const std::string& toml, const std::string& name = "it") {
  const toml::table table = toml::parse(toml);
  return parse_sink(name, table, "/folder");
}

// What it says to a table that it refuses.
std::string refusal(const std::string& toml, const std::string& name = "it") {
  try {
    parsed(toml, name);
  } catch (const UsageError& e) {
    EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos) << e.what();
    return e.what();
  }
  return "accepted";
}

TEST(SinkConfigTest, AnHttpSinkHasHeadersWithSecretsOfTheEnvironmentAndFields) {
  ::setenv("SINK_TEST_TOKEN", "secret${x}", 1);
  const SinkOptions sink = parsed(R"(
    type = "http"
    url = "https://example.com/import?project=1"
    headers = { Authorization = "Token ${SINK_TEST_TOKEN}!" }
    lines_per_request = 7
    results = "output"
    fields = { data = { text = "$.custom_id" }, id = "$.id" })");
  ::unsetenv("SINK_TEST_TOKEN");
  EXPECT_TRUE(sink.output);
  EXPECT_FALSE(sink.errors);
  const auto& http = std::get<HttpSinkOptions>(sink.to);
  EXPECT_EQ(http.url.endpoint.host, "example.com");
  EXPECT_EQ(http.url.target, "/import?project=1");
  EXPECT_EQ(http.headers.at("Authorization"), "Token secret${x}!");
  EXPECT_EQ(http.lines_per_request, 7U);
  ASSERT_EQ(http.fields.size(), 2U);
  EXPECT_EQ(http.fields[0].fields.at(0).path, "$.custom_id");
  EXPECT_EQ(print_sink(sink), R"("it" = { type = "http", results = "output" }  # without url, headers and fields)");
}

TEST(SinkConfigTest, APostgresSinkIsUpsertedByTheCustomIdUnlessItSaysOtherwise) {
  const std::string toml = R"(
    type = "postgres"
    url = "postgres://me:secret@db/results"
    table = "public.answers"
    columns = { custom_id = "$.custom_id", answer = "$.response.body.choices[0].message.content" })";
  const SinkOptions sink = parsed(toml);
  EXPECT_TRUE(sink.output && sink.errors);
  EXPECT_EQ(std::get<PostgresSinkOptions>(sink.to).key, std::vector<std::string>{"custom_id"});
  EXPECT_EQ(print_sink(sink).find("secret"), std::string::npos);
  EXPECT_EQ(std::get<PostgresSinkOptions>(parsed(toml + "\nkey = [\"custom_id\", \"answer\"]").to).key.size(), 2U);
  EXPECT_EQ(refusal(toml + "\nkey = \"id\""), "sinks.it.key: expected some of the columns, which tell the rows apart");
}

TEST(SinkConfigTest, TheProgramOfACommandStartsAtTheFolder) {
  const auto command = std::get<CommandSinkOptions>(parsed("type = \"command\"\ncommand = [\"./load\", \"./x\"]").to);
  EXPECT_EQ(command.command, (std::vector<std::string>{"/folder/load", "./x"}));
  EXPECT_EQ(command.timeout, std::chrono::seconds(600));
}

TEST(SinkConfigTest, RefusesWhatItDoesNotUnderstandAndNamesTheKey) {
  const std::string http = "type = \"http\"\nurl = \"http://h/\"\n", s3 = "type = \"s3\"\n";
  const std::string postgres = "type = \"postgres\"\nurl = \"postgres://h/d\"\ntable = \"t\"\n";
  EXPECT_EQ(refusal(s3 + "url = \"s3://b/p\"", "no name"),
            "sinks: expected names of up to 64 letters, digits, '-' and '_'");
  EXPECT_EQ(refusal(""), "sinks.it.type: expected http, s3, postgres or command");
  EXPECT_EQ(refusal("type = \"ftp\""), "sinks.it.type: expected http, s3, postgres or command");
  EXPECT_EQ(refusal(s3), "sinks.it.url: expected s3://bucket/prefix");
  EXPECT_EQ(refusal(s3 + "url = \"s3://b\"\ntable = \"t\""),
            "sinks.it.table: unknown key; known are type, results, url");
  EXPECT_EQ(refusal(s3 + "url = \"s3://b\"\nresults = \"all\""), "sinks.it.results: expected output, errors or both");
  EXPECT_EQ(refusal("type = \"http\"\nurl = \"ftp://h\"").rfind("sinks.it.url: ", 0), 0U);
  EXPECT_EQ(refusal("type = \"http\"\nurl = \"http://h/${SINK_TEST_NONE}\""),
            "sinks.it.url: the environment has no variable 'SINK_TEST_NONE'");
  EXPECT_EQ(refusal("type = \"http\"\nurl = \"http://h/?a\"\nmode = \"files\""),
            "sinks.it.url: expected no query where files are sent");
  EXPECT_EQ(refusal(http + "mode = \"file\""), "sinks.it.mode: expected lines or files");
  EXPECT_EQ(refusal(http + "lines_per_request = 0"),
            "sinks.it.lines_per_request: expected a whole number from 1 to 10000");
  EXPECT_EQ(refusal(http + "headers = { Host = \"x\" }"), "sinks.it.headers.Host: expected the name of another header");
  EXPECT_EQ(refusal(http + "headers = { \"a b\" = \"x\" }"),
            "sinks.it.headers.a b: expected the name of another header");
  EXPECT_EQ(refusal(http + "headers = { A = \"x\\r\\nB: y\" }"), "sinks.it.headers.A: expected no control characters");
  EXPECT_EQ(refusal(http + "headers = { A = \"${x\" }"), "sinks.it.headers.A: expected a '}' behind each '${'");
  EXPECT_EQ(refusal(http + "fields = { a = { b = \"response.body\" } }"),
            "sinks.it.fields.a.b: 'response.body' is no path such as $.response.body.choices[0].message.content");
  EXPECT_EQ(refusal(http + "fields = {}"), "sinks.it.fields: expected a table of names and paths");
  EXPECT_EQ(refusal(postgres + "columns = { a = { b = \"$.id\" } }"), "sinks.it.columns.a: expected a path");
  EXPECT_EQ(refusal("type = \"postgres\"\nurl = \"mysql://h\""),
            "sinks.it.url: expected a URL such as postgres://user:password@host/database");
  EXPECT_EQ(refusal("type = \"command\"\ncommand = []"),
            "sinks.it.command: expected the command line, as a list of strings");
  EXPECT_EQ(refusal("type = \"command\"\ncommand = [\"true\"]\ntimeout = 0"),
            "sinks.it.timeout: expected a whole number from 1 to 86400");
}

}  // namespace
}  // namespace penstock
