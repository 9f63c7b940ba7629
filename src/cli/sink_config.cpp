#include "cli/sink_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <set>

#include "base/error.h"
#include "cli/model_config.h"
#include "cli/toml_values.h"
#include "sql/connection.h"

namespace penstock {
namespace {

constexpr std::size_t kNameSizeMax = 64;
constexpr std::int64_t kLinesMax = 10'000, kTimeoutMax = 86'400;

bool has_only(std::string_view text, std::string_view special) {
  return std::all_of(text.begin(), text.end(), [&](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           special.find(c) != std::string_view::npos;
  });
}

std::string with_environment(std::string text, const std::string& key) {
  for (std::size_t at = 0; (at = text.find("${", at)) != std::string::npos;) {
    const auto end = text.find('}', at);
    if (end == std::string::npos) refuse(key, "a '}' behind each '${'");
    const std::string name = text.substr(at + 2, end - at - 2);
    const char* const value = std::getenv(name.c_str());
    if (!value) throw UsageError(fmt::format("{}: the environment has no variable '{}'", key, name));
    text.replace(at, end + 1 - at, value);
    at += std::string_view(value).size();
  }
  return text;
}

std::size_t number_of(const toml::node& node, const std::string& key, std::int64_t max) {
  const auto* number = node.as_integer();
  if (!number || number->get() < 1 || number->get() > max) refuse(key, fmt::format("a whole number from 1 to {}", max));
  return static_cast<std::size_t>(number->get());
}

std::vector<LineMapping::Field> fields_of(const toml::node& node, const std::string& key) {
  const auto* table = node.as_table();
  if (!table || table->empty()) refuse(key, "a table of names and paths");
  std::vector<LineMapping::Field> fields;
  for (const auto& [name, value] : *table) {
    const std::string its_key = fmt::format("{}.{}", key, name.str());
    LineMapping::Field field{.name = std::string(name.str()), .path = {}};
    if (value.is_table()) {
      field.fields = fields_of(value, its_key);
    } else {
      field.path = text_of(value, its_key);
    }
    fields.push_back(std::move(field));
  }
  return fields;
}

// With every path looked at.
std::vector<LineMapping::Field> mapping_of(const toml::node& node, const std::string& key) {
  auto fields = fields_of(node, key);
  if (const auto made = LineMapping::make(fields); !made) {
    throw UsageError(fmt::format("{}.{}: {}", key, made.error().param, made.error().message));
  }
  return fields;
}

std::map<std::string, std::string> headers_of(const toml::node& node, const std::string& key) {
  static const std::set<std::string, std::less<>> ours = {"connection", "content-length",    "host",
                                                          "expect",     "transfer-encoding", "idempotency-key"};
  std::map<std::string, std::string> headers = table_of(node, key);
  for (auto& [name, value] : headers) {
    const std::string its_key = fmt::format("{}.{}", key, name);
    std::string lower = name;
    for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    if (name.empty() || !has_only(name, "-_") || ours.contains(lower)) refuse(its_key, "the name of another header");
    value = with_environment(std::move(value), its_key);
    const auto is_control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; };
    if (std::any_of(value.begin(), value.end(), is_control)) refuse(its_key, "no control characters");
  }
  return headers;
}

// One table, whose keys are asked for one after the other: what nobody asks for is unknown.
class Keys {
 public:
  Keys(std::string key, const toml::table& table) : key_(std::move(key)), table_(table) {}

  // Null when it is not there.
  const toml::node* find(const std::string& name) {
    known_.push_back(name);
    return table_.get(name);
  }
  const toml::node& get(const std::string& name, const std::string& expected) {
    const toml::node* const node = find(name);
    if (!node) refuse(path(name), expected);
    return *node;
  }
  std::string path(const std::string& name) const { return fmt::format("{}.{}", key_, name); }

  void refuse_others() const {
    for (const auto& [name, value] : table_) {
      if (std::find(known_.begin(), known_.end(), name.str()) == known_.end()) {
        throw UsageError(
            fmt::format("{}: unknown key; known are {}", path(std::string(name.str())), fmt::join(known_, ", ")));
      }
    }
  }

 private:
  const std::string key_;
  const toml::table& table_;
  std::vector<std::string> known_;
};

std::string url_of(Keys& keys, const std::string& expected) {
  return with_environment(text_of(keys.get("url", expected), keys.path("url")), keys.path("url"));
}

HttpSinkOptions parse_http(Keys& keys) {
  HttpSinkOptions options;
  const auto url = CallUrl::parse(url_of(keys, "the URL to send to"));
  if (!url) throw UsageError(fmt::format("{}: {}", keys.path("url"), url.error().message));
  options.url = *url;
  if (const auto* headers = keys.find("headers")) options.headers = headers_of(*headers, keys.path("headers"));
  if (const auto* mode = keys.find("mode")) {
    const std::string word = text_of(*mode, keys.path("mode"));
    if (word != "lines" && word != "files") refuse(keys.path("mode"), "lines or files");
    options.files = word == "files";
  }
  if (options.files) {
    if (url->target.find('?') != std::string::npos) refuse(keys.path("url"), "no query where files are sent");
    return options;
  }
  if (const auto* lines = keys.find("lines_per_request")) {
    options.lines_per_request = number_of(*lines, keys.path("lines_per_request"), kLinesMax);
  }
  if (const auto* fields = keys.find("fields")) options.fields = mapping_of(*fields, keys.path("fields"));
  return options;
}

PostgresSinkOptions parse_postgres(Keys& keys) {
  PostgresSinkOptions options;
  options.url = url_of(keys, "the URL of the database");
  if (!sql::is_postgres(options.url)) {
    refuse(keys.path("url"), "a URL such as postgres://user:password@host/database");
  }
  options.table = text_of(keys.get("table", "the name of the table"), keys.path("table"));
  options.columns = mapping_of(keys.get("columns", "a table of columns and paths"), keys.path("columns"));
  for (const auto& column : options.columns) {
    if (!column.fields.empty()) refuse(fmt::format("{}.{}", keys.path("columns"), column.name), "a path");
  }
  options.key = {"custom_id"};
  if (const auto* key = keys.find("key")) {
    options.key =
        key->is_array() ? list_of(*key, keys.path("key")) : std::vector<std::string>{text_of(*key, keys.path("key"))};
  }
  const auto is_column = [&](const std::string& name) {
    return std::any_of(options.columns.begin(), options.columns.end(), [&](const auto& c) { return c.name == name; });
  };
  if (options.key.empty() || !std::all_of(options.key.begin(), options.key.end(), is_column)) {
    refuse(keys.path("key"), "some of the columns, which tell the rows apart");
  }
  return options;
}

CommandSinkOptions parse_command(Keys& keys, const std::filesystem::path& folder) {
  CommandSinkOptions options;
  options.command = list_of(keys.get("command", "the command line, as a list of strings"), keys.path("command"));
  if (options.command.empty()) refuse(keys.path("command"), "the command line, as a list of strings");
  options.command.front() = program_from_folder(folder, options.command.front());
  if (const auto* timeout = keys.find("timeout")) {
    options.timeout = std::chrono::seconds(number_of(*timeout, keys.path("timeout"), kTimeoutMax));
  }
  return options;
}

}  // namespace

SinkOptions parse_sink(const std::string& name, const toml::node& node, const std::filesystem::path& folder) {
  if (name.empty() || name.size() > kNameSizeMax || !has_only(name, "-_")) {
    refuse("sinks", fmt::format("names of up to {} letters, digits, '-' and '_'", kNameSizeMax));
  }
  const auto* table = node.as_table();
  if (!table) refuse("sinks." + name, "a table");
  Keys keys("sinks." + name, *table);
  SinkOptions sink;
  sink.name = name;
  const std::string kinds = "http, s3, postgres or command";
  const std::string type = text_of(keys.get("type", kinds), keys.path("type"));
  if (const auto* results = keys.find("results")) {
    const std::string which = text_of(*results, keys.path("results"));
    if (which != "output" && which != "errors" && which != "both") {
      refuse(keys.path("results"), "output, errors or both");
    }
    sink.output = which != "errors";
    sink.errors = which != "output";
  }
  if (type == "http") {
    sink.to = parse_http(keys);
  } else if (type == "s3") {
    sink.to = S3SinkOptions{url_of(keys, "s3://bucket/prefix")};
  } else if (type == "postgres") {
    sink.to = parse_postgres(keys);
  } else if (type == "command") {
    sink.to = parse_command(keys, folder);
  } else {
    refuse(keys.path("type"), kinds);
  }
  keys.refuse_others();
  return sink;
}

std::string print_sink(const SinkOptions& sink) {
  std::string text;
  if (std::holds_alternative<HttpSinkOptions>(sink.to)) {
    text = R"(type = "http")";
  } else if (const auto* s3 = std::get_if<S3SinkOptions>(&sink.to)) {
    text = fmt::format(R"(type = "s3", url = {})", quote(s3->url));
  } else if (const auto* postgres = std::get_if<PostgresSinkOptions>(&sink.to)) {
    text = fmt::format(R"(type = "postgres", url = {}, table = {})", quote(sql::without_password(postgres->url)),
                       quote(postgres->table));
  } else {
    text = fmt::format(R"(type = "command", command = {})", quote_list(std::get<CommandSinkOptions>(sink.to).command));
  }
  const char* const results = !sink.errors ? "output" : !sink.output ? "errors" : "both";
  const bool has_url = std::holds_alternative<HttpSinkOptions>(sink.to);
  return fmt::format("{} = {{ {}, results = \"{}\" }}{}", quote(sink.name), text, results,
                     has_url ? "  # without url, headers and fields" : "");
}

}  // namespace penstock
