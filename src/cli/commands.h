#pragma once
#include <optional>
#include <string>

#include "base/exit_codes.h"
#include "cli/config.h"
#include "cli/convert.h"

namespace penstock {

// Serves the API until SIGINT or SIGTERM; returns the exit code.
// `settings`: the same, for people to look at.
int serve(const Config& config, std::vector<ShownSetting> settings);

// Runs what the servers of the same database have queued, until such a signal. Returns the exit code.
int work(const Config& config);

struct RunOptions {
  std::string input, output;
  std::optional<std::string> errors;  // default: beside the output
  std::string errors_shown_in = {};   // where people are told to look for them; default: `errors`
  PromptOptions prompts = {};         // how the rows of a table become requests
  bool excel = false;                 // of a table of answers
};

// One batch from file to file, without a server. Started again after an interruption it goes on where it was: its
// state is in a folder beside the output, removed at the end. Returns the exit code.
int run(const Config& config, const RunOptions& options);

// The same for a table of prompts, and a table of answers.
bool is_run_of_table(const RunOptions& options);
int run_table(const Config& config, const RunOptions& options);

// What is changed or shown in the database of the configuration, beside a running server or without one. Keys and JSON
// go to standard output, words to standard error, and tables of people to standard output too.
struct AccessOptions {
  bool json = false;
  std::optional<std::string> id, name, project, scopes, expires, overlap, status, batch;
  std::map<std::string, std::string> limits;  // weight, stored_bytes and so on; "none": no limit
};
int keys_create(const Config& config, const AccessOptions& options);
int keys_list(const Config& config, const AccessOptions& options);
int keys_rotate(const Config& config, const AccessOptions& options);
int keys_revoke(const Config& config, const AccessOptions& options);
int projects_create(const Config& config, const AccessOptions& options);
int projects_list(const Config& config, const AccessOptions& options);
int projects_set(const Config& config, const AccessOptions& options);
int projects_archive(const Config& config, const AccessOptions& options);
int deliveries_list(const Config& config, const AccessOptions& options);
int deliveries_retry(const Config& config, const AccessOptions& options);
int deliveries_delete(const Config& config, const AccessOptions& options);

// Prints the configured models, one a line.
int models_list(const Config& config);
// Prints what is to be said of one model or all, and returns kExitFaults when one cannot be served.
int models_check(const Config& config, const std::optional<std::string>& name);

struct DoctorOptions {
  std::optional<std::string> config_file;  // default: kConfigFile, if it is there
  bool database_from_flag = false;         // its URL stands on the command line
  bool json = false;
};
// Prints what is open, missing or risky in the configuration, a line each, and returns kExitFaults when something
// cannot work or lies open. It changes nothing.
int doctor(const Config& config, const DoctorOptions& options);

struct NewModel {
  std::string file;  // the configuration, made if it is not there
  std::string name, path;
  std::optional<std::string> engine, device;
};
// Appends a model to the configuration file and leaves what is in it as it is.
int models_add(const NewModel& model);

}  // namespace penstock
