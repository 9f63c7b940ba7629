#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <list>
#include <memory>
#include <set>
#include <tuple>

#include "base/error.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/convert_command.h"
#include "cli/shell_commands.h"
#include "client/client_commands.h"

namespace penstock {
namespace {

// The flags of one command, as they come.
struct Command {
  CLI::App* app;
  std::optional<std::string> file;
  std::map<std::string, std::vector<std::string>> values;
  std::map<std::string, bool> switches;

  // All of them, or those that are named.
  void add_settings(const std::set<std::string>& only = {}) {
    app->add_option("--config", file, "configuration file (default: penstock.toml, if it is there)");
    for (const SettingInfo& setting : settings()) {
      if (setting.flag.empty() || (!only.empty() && !only.contains(setting.key))) continue;
      const std::string help = setting.help + " [" + setting.env + "]";
      if (!setting.switch_value.empty()) {
        app->add_flag(setting.flag, switches[setting.key], help);
      } else {
        app->add_option(setting.flag, values[setting.key], help)->allow_extra_args(false);
      }
    }
  }

  GivenFlags given() const {
    GivenFlags given;
    for (const auto& [key, list] : values) {
      if (!list.empty()) given[key] = list;
    }
    for (const SettingInfo& setting : settings()) {
      const auto on = switches.find(setting.key);
      if (on != switches.end() && on->second) given[setting.key] = {setting.switch_value};
    }
    return given;
  }

  Config config(log::Level quiet) const {
    const Config config = load_config(given(), file);
    const std::map<std::string, log::Level> levels = {{"debug", log::Level::debug},
                                                      {"info", log::Level::info},
                                                      {"warn", log::Level::warn},
                                                      {"error", log::Level::error}};
    log::set_format(config.log_json ? log::Format::json : log::Format::text);
    log::set_level(config.log_level.empty() ? quiet : levels.at(config.log_level));
    return config;
  }
};

// Commands on keys, projects and deliveries, straight on the database.
class AccessCommands {
 public:
  explicit AccessCommands(CLI::App& app) {
    CLI::App& keys = *app.add_subcommand("keys", "Make, look at and end API keys, beside a running server too");
    keys.require_subcommand(1);
    CLI::App& create = add(keys, "create", "Make a key, and print it", keys_create);
    create.add_option("--name", options_.name, "whose it is, or what for")->required();
    create.add_option("--project", options_.project, "the project that it acts for (default: proj_default)");
    create.add_option("--scopes", options_.scopes, "files, batches, admin and monitor (default: files,batches)");
    create.add_option("--expires", options_.expires, "after how long it does, such as 90d or 24h (default: never)");
    CLI::App& list = add(keys, "list", "List them, never the keys themselves", keys_list);
    list.add_option("--project", options_.project, "only those of this project");
    CLI::App& rotate = add(keys, "rotate", "Make a key like another, which soon expires, and print it", keys_rotate);
    rotate.add_option("id", options_.id, "which key")->required();
    rotate.add_option("--overlap", options_.overlap, "how long both are good (default: 24h)");
    add(keys, "revoke", "End a key, within a second on every server", keys_revoke)
        .add_option("id", options_.id, "which key")
        ->required();

    CLI::App& projects = *app.add_subcommand("projects", "Make, look at, limit and end projects");
    projects.require_subcommand(1);
    CLI::App& project = add(projects, "create", "Make a project, and print its id", projects_create);
    project.add_option("name", options_.name, "what people call it")->required();
    add_limits(project);
    add(projects, "list", "List them", projects_list);
    CLI::App& set = add(projects, "set", "Change a project", projects_set);
    set.add_option("id", options_.id, "which project")->required();
    set.add_option("--name", options_.name, "what people call it");
    add_limits(set);
    add(projects, "archive", "Refuse a project's keys from now on", projects_archive)
        .add_option("id", options_.id, "which project")
        ->required();

    CLI::App& deliveries = *app.add_subcommand("deliveries", "Look at and see to what webhooks and sinks are sent");
    deliveries.require_subcommand(1);
    CLI::App& sent = add(deliveries, "list", "List them, the newest first", deliveries_list);
    sent.add_option("--status", options_.status, "only pending, delivered or dead ones")
        ->check(CLI::IsMember({"pending", "delivered", "dead"}));
    sent.add_option("--batch", options_.batch, "only those of this batch");
    sent.add_option("--project", options_.project, "only those of this project");
    add(deliveries, "retry", "Send one now, dead or not", deliveries_retry)
        .add_option("id", options_.id, "which delivery")
        ->required();
    add(deliveries, "delete", "Forget one", deliveries_delete)
        .add_option("id", options_.id, "which delivery")
        ->required();
  }

  // Runs the one that was given; nothing when it was none of these.
  std::optional<int> run() {
    for (const auto& [command, start] : commands_) {
      if (!*command.app) continue;
      std::erase_if(options_.limits, [](const auto& limit) { return limit.second.empty(); });
      return start(command.config(log::Level::warn), options_);
    }
    return std::nullopt;
  }

 private:
  using Run = int (*)(const Config&, const AccessOptions&);

  CLI::App& add(CLI::App& under, const char* name, const char* help, Run start) {
    Command& command = commands_.emplace_back(Command{under.add_subcommand(name, help), {}, {}, {}}, start).first;
    command.add_settings({"data", "database"});
    command.app->add_flag("--json", options_.json, "print what the API would answer");
    return *command.app;
  }
  void add_limits(CLI::App& command) {
    for (const auto& [flag, name, help] :
         {std::tuple("--weight", "weight", "its share of the slots, against others that have work"),
          std::tuple("--stored-bytes", "stored_bytes", "of its files; none: no limit"),
          std::tuple("--active-batches", "active_batches", "that have not ended; none: no limit"),
          std::tuple("--queued-lines", "queued_lines", "still to do, over all of those; none: no limit"),
          std::tuple("--requests-per-second", "requests_per_second", "to each server; none: no limit")}) {
      command.add_option(flag, options_.limits[name], help);
    }
  }

  AccessOptions options_;
  std::list<std::pair<Command, Run>> commands_;  // CLI11 keeps references
};

int run_command(int argc, char** argv) {
  CLI::App app("Batch inference for models of your own, with OpenAI's Batch API.", "penstock");
  app.set_version_flag("--version", "penstock " PENSTOCK_VERSION);
  app.require_subcommand(1);

  Command serving{app.add_subcommand("serve", "Serve the API, and run what is queued"), {}, {}, {}};
  serving.add_settings();
  bool print = false;
  serving.app->add_flag("--print-config", print, "print the configuration that results, and stop");

  Command working{
      app.add_subcommand("worker", "Run what the servers of a PostgreSQL database have queued"), {}, {}, {}};
  working.add_settings();

  Command running{app.add_subcommand("run", "Run one file of requests, without a server"), {}, {}, {}};
  running.add_settings();
  RunOptions options;
  running.app->add_option("input", options.input, "JSONL file of requests, or a table of prompts")->required();
  running.app->add_option("-o,--output", options.output, "file for the answers")->required();
  running.app->add_option("--errors", options.errors, "file for failed lines (default: OUTPUT.errors.jsonl)");
  add_table_flags(*running.app, options.prompts, options.excel);

  Command examining{app.add_subcommand("doctor", "Say what is open, missing or risky in a configuration"), {}, {}, {}};
  examining.add_settings();
  DoctorOptions examination;
  examining.app->add_flag("--json", examination.json, "as a JSON array of findings");

  const ConvertCommand converting(app);

  CLI::App& models = *app.add_subcommand("models", "List the models of a server, or look at those configured here");
  models.require_subcommand(0, 1);
  Command listing{models.add_subcommand("list", "List them, with what they need"), {}, {}, {}};
  listing.add_settings();
  Command checking{models.add_subcommand("check", "Say of each whether it can be served, and how well"), {}, {}, {}};
  checking.add_settings();
  std::optional<std::string> checked;
  checking.app->add_option("name", checked, "only this model");
  CLI::App& adding = *models.add_subcommand("add", "Add a model to the configuration file");
  NewModel model{kConfigFile, "", "", {}, {}};
  adding.add_option("name", model.name, "what lines are to call it")->required();
  adding.add_option("path", model.path, "a GGUF file, or what the engine takes in its place")->required();
  adding.add_option("--engine", model.engine, "llama.cpp (the default), vllm or sglang");
  adding.add_option("--device", model.device, "models of one device are loaded one at a time");
  adding.add_option("--config", model.file, "configuration file (default: penstock.toml)");

  AccessCommands access(app);
  ClientCommands client(app, models);
  const ShellCommands shell(app);

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);  // help or version
    throw UsageError(std::string(e.what()) + " (penstock --help says more)");
  }
  if (*running.app) return (is_run_of_table(options) ? run_table : run)(running.config(log::Level::warn), options);
  if (*working.app) {
    Config config = working.config(log::Level::info);
    config.worker = true;
    return work(config);
  }
  if (*examining.app) {
    examination.config_file = examining.file;
    examination.database_from_flag = examining.given().contains("database");
    return doctor(examining.config(log::Level::off), examination);
  }
  if (*listing.app) return models_list(listing.config(log::Level::warn));
  if (*checking.app) return models_check(checking.config(log::Level::warn), checked);
  if (adding) return models_add(model);
  if (const auto code = converting.run()) return *code;
  if (const auto code = shell.run()) return *code;
  if (const auto code = access.run()) return *code;
  if (const auto code = client.run()) return *code;
  if (print) {
    std::fputs(print_config(serving.given(), serving.file).c_str(), stdout);
    return kExitOk;
  }
  return serve(serving.config(log::Level::info), shown_settings(serving.given(), serving.file));
}

}  // namespace
}  // namespace penstock

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  try {
    return penstock::run_command(argc, argv);
  } catch (const penstock::UsageError& e) {
    std::fprintf(stderr, "penstock: %s\n", e.what());
    return penstock::kExitUsage;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "penstock: %s\n", e.what());
    return penstock::kExitAccident;
  }
}
