#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "api/handlers.h"
#include "cli/model_config.h"
#include "delivery/sink.h"
#include "model/types.h"

namespace penstock {

// Everything that an operator can set. Flags win over the environment, that over the configuration file, that over the
// defaults below.
struct Config {
  std::string listen_host = "127.0.0.1";
  std::uint16_t listen_port = 4080;
  std::string metrics_host;  // where /metrics is served without keys, of a worker too; empty: nowhere
  std::uint16_t metrics_port = 0;
  std::string tls_certificate, tls_key;   // PEM files, both or none
  std::vector<std::string> cors_origins;  // whose pages browsers let call the API
  bool insecure = false;  // without API keys everybody who can call may do everything, from other machines too
  std::string data = "penstock-data";
  std::string database;  // URL of PostgreSQL, which several processes may share; empty: SQLite in `data`
  std::string blobs;     // a folder or s3://bucket/prefix, which they share too; empty: in `data`

  std::vector<std::string> engines;             // URLs of remote engines
  std::string engine_key;                       // bearer token for them
  std::vector<ModelConfig> models;              // served by engines of ours; in the order of the file
  std::map<std::string, std::int64_t> devices;  // their memory in bytes, where it was told
  std::vector<SinkOptions> sinks;               // that results may be brought to
  std::string only_model;                       // serve this one alone
  std::string llama_server = "llama-server";
  std::vector<std::string> llama_server_args;
  int slots = 0;                // requests at a time and engine; 0: what fits or is found
  bool shared_engines = false;  // people use the remote ones, too
  int context = 0;           // tokens a slot of a managed engine; 0: kContextDefault, or less where the model has less
  int swap_after_s = 1800;   // that a model holds its device while others wait with work of the same priority; 0: ever
  int line_timeout_s = 600;  // for one attempt at a line
  int line_attempts = 5;
  int embedding_group = 1;      // lines for embeddings that are sent in one request
  bool stream_answers = false;  // of remote engines, so that bytes flow while they work on one
  bool worker = true;
  bool accept_when_offline = false;  // queue batches also while no worker is there

  std::int64_t max_queue_depth = 20, max_requests_per_job = 50'000, max_total_queued_requests = 1'000'000;
  std::int64_t max_batch_file_bytes = 200 << 20;
  std::vector<CompletionWindow> completion_windows{{"24h", std::chrono::hours(24)}};  // that a batch may ask for
  std::vector<std::string> webhook_allow;  // who may be called besides public addresses
  std::string otlp_endpoint;               // URL of a collector of traces; empty: nothing is traced
  double trace_lines = 0.01;               // the share of lines that are
  bool log_json = false;
  std::string log_level;  // empty: info, or warn for `penstock run`
};

constexpr int kCommandSlots = 64;                     // of a command that is to be told a number
constexpr const char* kConfigFile = "penstock.toml";  // in the working directory, where no other is named

// One setting, as help texts and the command line need it.
struct SettingInfo {
  std::string key;   // in the configuration file
  std::string flag;  // without its value; empty: none
  std::string env;
  std::string help;
  std::string switch_value = {};  // what the flag alone says; empty: it takes a value
};
const std::vector<SettingInfo>& settings();

// All of them as a table in Markdown, for docs/configuration.md.
std::string settings_table();

// What the command line gave: key -> values in order.
using GivenFlags = std::map<std::string, std::vector<std::string>>;

// Reads all layers. `file`: the configuration file that was asked for; else penstock.toml in the working directory is
// read if it is there. Throws UsageError: one line that names the key, where it came from, and what is allowed.
Config load_config(const GivenFlags& flags, const std::optional<std::string>& file);

// The same, setting by setting.
std::vector<ShownSetting> shown_settings(const GivenFlags& flags, const std::optional<std::string>& file);

// The result as a configuration file, each line with where its value came from. Secrets are left out.
std::string print_config(const GivenFlags& flags, const std::optional<std::string>& file);

}  // namespace penstock
