#include "cli/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <functional>

#include "api/origin.h"
#include "base/error.h"
#include "cli/sink_config.h"
#include "engine/memory_fit.h"
#include "net/address.h"
#include "net/http_client.h"
#include "sql/connection.h"

namespace penstock {
namespace {

namespace fs = std::filesystem;
using Values = std::vector<std::string>;

// How a value in the configuration file is meant: a path starts at the file's folder; a program without a '/' is looked
// up in PATH.
enum class PathKind { none, path, program };

// A setting with what to do with its values. `set` throws UsageError saying what is allowed; the caller adds the rest.
struct Setting {
  SettingInfo info;
  std::function<void(Config&, const Values&)> set;
  std::function<std::string(const Config&)> show;  // as TOML
  PathKind path = PathKind::none;
};

std::int64_t parse_integer(const std::string& text, std::int64_t min, std::int64_t max) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < min || value > max) {
    throw UsageError(fmt::format("expected a whole number from {} to {}", min, max));
  }
  return value;
}

bool parse_bool(const std::string& text) {
  if (text == "true" || text == "1") return true;
  if (text == "false" || text == "0") return false;
  throw UsageError("expected true or false");
}

void set_address(std::string& host, std::uint16_t& port, const std::string& text, const char* expected) {
  const auto colon = text.rfind(':');
  if (colon == std::string::npos || colon == 0) throw UsageError(expected);
  port = static_cast<std::uint16_t>(parse_integer(text.substr(colon + 1), 0, 65'535));
  host = text.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
}

void set_listen(Config& c, const Values& v) {
  set_address(c.listen_host, c.listen_port, v.back(), "expected HOST:PORT, such as 127.0.0.1:4080");
}

void set_metrics_listen(Config& c, const Values& v) {
  set_address(c.metrics_host, c.metrics_port, v.back(), "expected HOST:PORT, such as 127.0.0.1:9480");
}

void set_database(Config& c, const Values& v) {
  if (!sql::is_postgres(v.back())) throw UsageError("expected a URL such as postgres://user:password@host/database");
  c.database = v.back();
}

void set_blobs(Config& c, const Values& v) {
  if (v.back().find("://") != std::string::npos && !v.back().starts_with("s3://")) {
    throw UsageError("expected a folder or s3://bucket/prefix");
  }
  c.blobs = v.back();
}

void set_engines(Config& c, const Values& v) {
  for (const auto& url : v) {
    if (const auto endpoint = Endpoint::parse(url); !endpoint) throw UsageError(endpoint.error().message);
  }
  c.engines = v;
}

// NAME chooses among the configured models, NAME=PATH and PATH.gguf bring their own.
void set_model(Config& c, const Values& v) {
  const std::string& text = v.back();
  if (const auto equals = text.find('='); equals != std::string::npos) {
    c.only_model = text.substr(0, equals);
    c.models = {ModelConfig{.name = c.only_model, .path = text.substr(equals + 1)}};
  } else if (text.ends_with(".gguf")) {
    c.only_model = fs::path(text).stem();
    c.models = {ModelConfig{.name = c.only_model, .path = text}};
  } else {
    c.only_model = text;
  }
  if (c.only_model.empty()) throw UsageError("expected NAME, NAME=PATH or PATH.gguf");
}

Values split(const std::string& text) {
  Values values;
  std::size_t from = 0;
  while (from <= text.size()) {
    const auto comma = std::min(text.find(',', from), text.size());
    if (comma > from) values.push_back(text.substr(from, comma - from));
    from = comma + 1;
  }
  return values;
}

void set_cors_origins(Config& c, const Values& v) {
  c.cors_origins.clear();
  for (const auto& list : v) {
    for (const auto& text : split(list)) {
      const auto origin = parse_origin(text);
      if (!origin) throw UsageError(origin.error().message);
      c.cors_origins.push_back(*origin);
    }
  }
}

CompletionWindow parse_completion_window(const std::string& text) {
  using namespace std::chrono_literals;
  static const std::map<char, std::chrono::seconds> units = {{'s', 1s}, {'m', 1min}, {'h', 1h}};
  const auto unit = units.find(text.back());
  if (unit == units.end()) throw UsageError("expected durations such as 24h, 30m or 5s");
  return {text, parse_integer(text.substr(0, text.size() - 1), 1, 100'000) * unit->second};
}

void set_completion_windows(Config& c, const Values& v) {
  c.completion_windows.clear();
  for (const auto& list : v) {
    for (const auto& text : split(list)) c.completion_windows.push_back(parse_completion_window(text));
  }
  if (c.completion_windows.empty()) throw UsageError("expected durations such as 24h, 30m or 5s");
}

void set_webhook_allow(Config& c, const Values& v) {
  c.webhook_allow.clear();
  for (const auto& list : v) {
    for (const auto& text : split(list)) c.webhook_allow.push_back(text);
  }
  if (const auto allowed = AllowList::parse(c.webhook_allow); !allowed) throw UsageError(allowed.error().message);
}

void set_otlp_endpoint(Config& c, const Values& v) {
  if (const auto endpoint = Endpoint::parse(v.back()); !endpoint) throw UsageError(endpoint.error().message);
  c.otlp_endpoint = v.back();
}

void set_trace_lines(Config& c, const Values& v) {
  const std::string& text = v.back();
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), c.trace_lines);
  if (error != std::errc{} || end != text.data() + text.size() || !(c.trace_lines >= 0 && c.trace_lines <= 1)) {
    throw UsageError("expected a number from 0 to 1, such as 0.01");
  }
}

// A string member that is taken as it is.
Setting text_setting(SettingInfo info, std::string Config::*member, PathKind path) {
  return {std::move(info), [member](Config& c, const Values& v) { c.*member = v.back(); },
          [member](const Config& c) { return quote(c.*member); }, path};
}

template <class T>
Setting integer_setting(SettingInfo info, T Config::*member, std::int64_t min, std::int64_t max) {
  return {std::move(info),
          [=](Config& c, const Values& v) { c.*member = static_cast<T>(parse_integer(v.back(), min, max)); },
          [member](const Config& c) { return std::to_string(c.*member); }};
}

Setting switch_setting(SettingInfo info, bool Config::*member) {
  return {std::move(info), [member](Config& c, const Values& v) { c.*member = parse_bool(v.back()); },
          [member](const Config& c) { return std::string(c.*member ? "true" : "false"); }};
}

const std::vector<Setting>& all_settings() {
  constexpr std::int64_t kMax = 1'000'000'000'000'000;
  static const std::vector<Setting> all = {
      {{"listen", "--listen", "PENSTOCK_LISTEN", "HOST:PORT to serve the API on"},
       set_listen,
       [](const Config& c) { return quote(fmt::format("{}:{}", c.listen_host, c.listen_port)); }},
      {{"metrics_listen", "--metrics-listen", "PENSTOCK_METRICS_LISTEN",
        "HOST:PORT to serve /metrics on without a key, of a worker too (default: none)"},
       set_metrics_listen,
       [](const Config& c) {
         return quote(c.metrics_host.empty() ? "" : fmt::format("{}:{}", c.metrics_host, c.metrics_port));
       }},
      text_setting({"tls_certificate", "--tls-certificate", "PENSTOCK_TLS_CERTIFICATE",
                    "PEM file of the certificate to serve HTTPS with, and of those that vouch for it"},
                   &Config::tls_certificate, PathKind::path),
      text_setting({"tls_key", "--tls-key", "PENSTOCK_TLS_KEY", "PEM file of its key"}, &Config::tls_key,
                   PathKind::path),
      {{"cors_origins", "--cors-origins", "PENSTOCK_CORS_ORIGINS",
        "origins of web pages that may call the API, such as https://example.com (default: none)"},
       set_cors_origins,
       [](const Config& c) { return quote_list(c.cors_origins); }},
      switch_setting(
          {"insecure", "--insecure", "PENSTOCK_INSECURE",
           "while there are no API keys, let everybody who can call do everything, from other machines too", "true"},
          &Config::insecure),
      text_setting({"data", "--data", "PENSTOCK_DATA", "folder for files, queue and results"}, &Config::data,
                   PathKind::path),
      {{"database", "--database", "PENSTOCK_DATABASE",
        "postgres:// URL of the queue, for several servers and workers (default: SQLite in the data folder)"},
       set_database,
       [](const Config& c) { return quote(c.database.empty() ? "" : sql::without_password(c.database)); }},
      {{"blobs", "--blobs", "PENSTOCK_BLOBS",
        "folder or s3://bucket/prefix for files, of all servers and workers (default: in the data folder)"},
       set_blobs,
       [](const Config& c) { return quote(c.blobs); },
       PathKind::path},
      {{"engines", "--engine", "PENSTOCK_ENGINES", "URL of an OpenAI-compatible server; may be repeated"},
       set_engines,
       [](const Config& c) { return quote_list(c.engines); }},
      {{"engine_key", "", "PENSTOCK_ENGINE_KEY", "API key for the engines"},
       [](Config& c, const Values& v) { c.engine_key = v.back(); },
       [](const Config&) { return quote(""); }},  // never shown
      {{"model", "--model", "PENSTOCK_MODEL", "serve only this model: NAME, NAME=FILE.gguf or FILE.gguf"},
       set_model,
       [](const Config& c) { return quote(c.only_model); }},
      text_setting({"llama_server", "--llama-server", "PENSTOCK_LLAMA_SERVER", "the llama-server program"},
                   &Config::llama_server, PathKind::program),
      {{"llama_server_args", "", "PENSTOCK_LLAMA_SERVER_ARGS", "further arguments for llama-server"},
       [](Config& c, const Values& v) { c.llama_server_args = v; },
       [](const Config& c) { return quote_list(c.llama_server_args); }},
      integer_setting(
          {"slots", "--slots", "PENSTOCK_SLOTS",
           fmt::format("requests at a time for each engine (0: of a GGUF as many as fit into memory, at most {}; of "
                       "others as many as they have a use for)",
                       kManagedSlots)},
          &Config::slots, 0, 100'000),
      switch_setting({"shared_engines", "--shared-engines", "PENSTOCK_SHARED_ENGINES",
                      "leave the engines at URLs to the people who use them too, as long as they do", "true"},
                     &Config::shared_engines),
      integer_setting({"context", "--context", "PENSTOCK_CONTEXT",
                       fmt::format("tokens of context a slot of an engine of ours (0: {}, or what its model has)",
                                   kContextDefault)},
                      &Config::context, 0, 10'000'000),
      integer_setting({"swap_after", "--swap-after", "PENSTOCK_SWAP_AFTER",
                       "seconds that a model keeps its device while others have work of the same priority (0: to its "
                       "last line)"},
                      &Config::swap_after_s, 0, 1'000'000),
      integer_setting(
          {"line_timeout", "--line-timeout", "PENSTOCK_LINE_TIMEOUT", "seconds that an engine has for a line"},
          &Config::line_timeout_s, 1, 86'400),
      integer_setting({"line_attempts", "--line-attempts", "PENSTOCK_LINE_ATTEMPTS",
                       "times that a line is sent while the engine fails on it"},
                      &Config::line_attempts, 1, 100),
      integer_setting({"embedding_group", "--embedding-group", "PENSTOCK_EMBEDDING_GROUP",
                       "lines for embeddings that are sent to an engine in one request (1: each alone)"},
                      &Config::embedding_group, 1, 2048),
      switch_setting({"stream_answers", "--stream-answers", "PENSTOCK_STREAM_ANSWERS",
                      "ask engines at URLs for streams, so that nothing between cuts a long answer as idle", "true"},
                     &Config::stream_answers),
      switch_setting({"worker", "--no-worker", "PENSTOCK_WORKER", "run nothing, only serve the API", "false"},
                     &Config::worker),
      switch_setting({"accept_when_offline", "--accept-when-offline", "PENSTOCK_ACCEPT_WHEN_OFFLINE",
                      "queue batches also while no worker is there to run them", "true"},
                     &Config::accept_when_offline),
      integer_setting({"max_queue_depth", "", "MAX_QUEUE_DEPTH", "unfinished batches at a time (0: no limit)"},
                      &Config::max_queue_depth, 0, kMax),
      integer_setting({"max_requests_per_job", "", "MAX_REQUESTS_PER_JOB", "lines of one batch (0: no limit)"},
                      &Config::max_requests_per_job, 0, kMax),
      integer_setting({"max_total_queued_requests", "", "MAX_TOTAL_QUEUED_REQUESTS",
                       "lines still to do over all batches (0: no limit)"},
                      &Config::max_total_queued_requests, 0, kMax),
      integer_setting({"max_batch_file_bytes", "", "MAX_BATCH_FILE_BYTES", "size of an input file"},
                      &Config::max_batch_file_bytes, 1, kMax),
      {{"completion_windows", "--completion-windows", "PENSTOCK_COMPLETION_WINDOWS",
        "completion windows that a batch may ask for, such as 24h,1h"},
       set_completion_windows,
       [](const Config& c) {
         Values names;
         for (const CompletionWindow& window : c.completion_windows) names.push_back(window.name);
         return quote_list(names);
       }},
      {{"webhook_allow", "--webhook-allow", "PENSTOCK_WEBHOOK_ALLOW",
        "hosts and addresses that webhooks may call besides public ones, such as hooks.internal,10.0.0.0/8"},
       set_webhook_allow,
       [](const Config& c) { return quote_list(c.webhook_allow); }},
      {{"otlp_endpoint", "--otlp-endpoint", "PENSTOCK_OTLP_ENDPOINT",
        "URL of an OpenTelemetry collector to send traces to, such as http://127.0.0.1:4318 (default: none)"},
       set_otlp_endpoint,
       [](const Config& c) { return quote(c.otlp_endpoint); }},
      {{"trace_lines", "--trace-lines", "PENSTOCK_TRACE_LINES", "the share of lines that are traced, from 0 to 1"},
       set_trace_lines,
       [](const Config& c) { return fmt::format("{}", c.trace_lines); }},
      {{"log_format", "--log-format", "PENSTOCK_LOG_FORMAT", "text or json, one line an event"},
       [](Config& c, const Values& v) {
         if (v.back() != "text" && v.back() != "json") throw UsageError("expected text or json");
         c.log_json = v.back() == "json";
       },
       [](const Config& c) { return quote(c.log_json ? "json" : "text"); }},
      {{"log_level", "--log-level", "PENSTOCK_LOG_LEVEL", "debug, info, warn or error"},
       [](Config& c, const Values& v) {
         if (v.back() != "debug" && v.back() != "info" && v.back() != "warn" && v.back() != "error") {
           throw UsageError("expected debug, info, warn or error");
         }
         c.log_level = v.back();
       },
       [](const Config& c) { return quote(c.log_level); }}};
  return all;
}

const Setting* find_setting(std::string_view key) {
  for (const Setting& setting : all_settings()) {
    if (setting.info.key == key) return &setting;
  }
  return nullptr;
}

bool is_list(std::string_view key) {
  constexpr std::string_view kLists[] = {"completion_windows", "cors_origins", "engines", "llama_server_args",
                                         "webhook_allow"};
  return std::find(std::begin(kLists), std::end(kLists), key) != std::end(kLists);
}

// The last one wins.
Values variables_of(const SettingInfo& setting) {
  if (setting.key == "otlp_endpoint") return {"OTEL_EXPORTER_OTLP_ENDPOINT", setting.env};  // OpenTelemetry's own
  return {setting.env};
}

// Where each value came from, in words.
using Origins = std::map<std::string, std::string>;

void apply(Config& config, Origins& origins, const Setting& setting, const Values& values, const std::string& origin) {
  try {
    setting.set(config, values);
  } catch (const UsageError& e) {
    std::string given = fmt::format("{}", fmt::join(values, ","));
    if (setting.info.key == "database") given = "…";  // there may be a password in it, misspelt as it is
    throw UsageError(fmt::format("{}: '{}' ({}): {}", setting.info.key, given, origin, e.what()));
  }
  origins[setting.info.key] = origin;
}

std::string scalar_text(const toml::node& node, const std::string& key, const std::string& file) {
  if (const auto* s = node.as_string()) return s->get();
  if (const auto* i = node.as_integer()) return std::to_string(i->get());
  if (const auto* f = node.as_floating_point()) return fmt::format("{}", f->get());
  if (const auto* b = node.as_boolean()) return b->get() ? "true" : "false";
  throw UsageError(fmt::format("{}: {}: expected a string, a number, true or false", file, key));
}

std::string resolved(const fs::path& folder, const std::string& value, PathKind kind) {
  if (value.find("://") != std::string::npos) return value;
  if (kind == PathKind::path) return from_folder(folder, value);
  return kind == PathKind::program ? program_from_folder(folder, value) : value;
}

// In the order of the file, since the first one is loaded first.
std::vector<ModelConfig> models_in(const toml::node& node, const fs::path& folder) {
  const auto* table = node.as_table();
  if (!table) throw UsageError("models: expected a table of NAME = \"FILE.gguf\"");
  std::vector<std::pair<toml::source_position, ModelConfig>> found;
  for (const auto& [name, model] : *table) {
    found.emplace_back(model.source().begin, parse_model(std::string(name.str()), model, folder));
  }
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<ModelConfig> models;
  for (auto& [position, model] : found) models.push_back(std::move(model));
  return models;
}

std::vector<SinkOptions> sinks_in(const toml::node& node, const fs::path& folder) {
  const auto* table = node.as_table();
  if (!table) throw UsageError("sinks: expected a table for each sink");
  std::vector<SinkOptions> sinks;
  for (const auto& [name, sink] : *table) sinks.push_back(parse_sink(std::string(name.str()), sink, folder));
  return sinks;
}

void apply_file(Config& config, Origins& origins, const std::string& file) {
  toml::table table;
  try {
    table = toml::parse_file(file);
  } catch (const toml::parse_error& e) {
    throw UsageError(fmt::format("{}:{}: {}", file, e.source().begin.line, e.description()));
  }
  const fs::path folder = fs::path(file).parent_path();
  for (const auto& [toml_key, node] : table) {
    const std::string key(toml_key.str());
    if (key == "models" || key == "devices" || key == "sinks") {
      try {
        if (key == "sinks") config.sinks = sinks_in(node, folder);
        if (key == "models") config.models = models_in(node, folder);
        if (key == "devices") config.devices = parse_devices(node);
      } catch (const UsageError& e) {
        throw UsageError(fmt::format("{}: {}", file, e.what()));
      }
      origins[key] = file;
      continue;
    }
    const Setting* setting = find_setting(key);
    if (!setting) {
      Values known;
      for (const Setting& s : all_settings()) known.push_back(s.info.key);
      throw UsageError(
          fmt::format("{}: unknown key '{}'; known are {}, models, devices, sinks", file, key, fmt::join(known, ", ")));
    }
    Values values;
    if (const auto* array = node.as_array()) {
      if (!is_list(key)) throw UsageError(fmt::format("{}: {}: expected one value, not a list", file, key));
      for (const auto& item : *array) values.push_back(scalar_text(item, key, file));
    } else {
      values = {scalar_text(node, key, file)};
    }
    if (values.empty()) continue;
    values.back() = resolved(folder, values.back(), setting->path);
    apply(config, origins, *setting, values, file);
  }
}

std::pair<Config, Origins> load(const GivenFlags& flags, const std::optional<std::string>& file) {
  Config config;
  Origins origins;
  if (file) {
    if (!fs::exists(*file)) throw UsageError(fmt::format("{}: there is no such configuration file", *file));
    apply_file(config, origins, *file);
  } else if (fs::exists(kConfigFile)) {
    apply_file(config, origins, kConfigFile);
  }
  bool engines_named = false;
  for (const Setting& setting : all_settings()) {
    for (const std::string& env : variables_of(setting.info)) {
      const char* value = std::getenv(env.c_str());
      if (!value || !*value) continue;
      apply(config, origins, setting, is_list(setting.info.key) ? split(value) : Values{value},
            fmt::format("environment {}", env));
      engines_named |= setting.info.key == "engines";
    }
  }
  // Whoever names engines on the command line or in the environment does not want the file's models loaded beside them.
  engines_named |= flags.contains("engines");
  if (engines_named) config.models.clear();
  for (const auto& [key, values] : flags) {
    const Setting& setting = *find_setting(key);
    apply(config, origins, setting, values, setting.info.flag);
  }
  return {std::move(config), std::move(origins)};
}

}  // namespace

const std::vector<SettingInfo>& settings() {
  static const std::vector<SettingInfo> infos = [] {
    std::vector<SettingInfo> out;
    for (const Setting& setting : all_settings()) out.push_back(setting.info);
    return out;
  }();
  return infos;
}

Config load_config(const GivenFlags& flags, const std::optional<std::string>& file) {
  return load(flags, file).first;
}

std::vector<ShownSetting> shown_settings(const GivenFlags& flags, const std::optional<std::string>& file) {
  const auto [config, origins] = load(flags, file);
  const auto source = [&, &from = origins](const std::string& key) -> std::string {
    const auto it = from.find(key);
    if (it == from.end()) return "default";
    if (it->second.starts_with("environment ")) return "environment";
    return it->second.starts_with("--") ? "flag" : "file";
  };
  std::vector<ShownSetting> shown;
  for (const Setting& setting : all_settings()) {
    const bool is_secret = setting.info.key == "engine_key" && !config.engine_key.empty();
    shown.push_back(
        {setting.info.key, is_secret ? "(hidden)" : setting.show(config), source(setting.info.key), setting.info.help});
  }
  // As `"name" = value`.
  const auto value = [](const std::string& name, const std::string& line) {
    return line.substr(quote(name).size() + 3);
  };
  for (const ModelConfig& model : config.models) {
    shown.push_back({"models." + model.name, value(model.name, print_model(model)), source("models"), ""});
  }
  for (const SinkOptions& sink : config.sinks) {
    shown.push_back({"sinks." + sink.name, value(sink.name, print_sink(sink)), source("sinks"), ""});
  }
  return shown;
}

std::string settings_table() {
  std::string out = "| key | flag | environment | default | |\n|---|---|---|---|---|\n";
  const auto code = [](const std::string& text) { return text.empty() ? std::string() : fmt::format("`{}`", text); };
  for (const Setting& setting : all_settings()) {
    const auto& [key, flag, env, help, switch_value] = setting.info;
    const std::string value = setting.show(Config{});
    out += fmt::format("| `{}` | {} | `{}` | {} | {} |\n", key, code(flag), env, code(value == quote("") ? "" : value),
                       help);
  }
  return out;
}

std::string print_config(const GivenFlags& flags, const std::optional<std::string>& file) {
  const auto [config, origins] = load(flags, file);
  const auto origin = [&, &from = origins](const std::string& key) {
    const auto it = from.find(key);
    return it == from.end() ? std::string("default") : it->second;
  };
  std::string out;
  for (const Setting& setting : all_settings()) {
    const std::string value = setting.show(config);
    const bool empty = value == quote("");  // an empty value would not be taken when read back
    out += fmt::format("{}{} = {}  # {}\n", empty ? "# " : "", setting.info.key, value, origin(setting.info.key));
  }
  out += fmt::format("\n[models]  # {}\n", origin("models"));
  for (const ModelConfig& model : config.models) out += print_model(model) + "\n";
  if (!config.sinks.empty()) out += fmt::format("\n[sinks]  # {}\n", origin("sinks"));
  for (const SinkOptions& sink : config.sinks) out += fmt::format("# {}\n", print_sink(sink));
  if (!config.devices.empty()) out += fmt::format("\n[devices]  # {}\n", origin("devices"));
  for (const auto& [name, memory] : config.devices) {
    out += fmt::format("{}.memory = \"{}KB\"\n", quote(name), memory >> 10);
  }
  return out;
}

}  // namespace penstock
