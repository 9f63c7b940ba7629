#include "client/client_commands.h"

#include <CLI/CLI.hpp>

#include "client/commands.h"

namespace penstock {

ClientCommands::ClientCommands(CLI::App& app, CLI::App& models) {
  CLI::App& submitting = add(*app.add_subcommand("submit", "Upload a file of requests and make a batch of it"), submit);
  submitting.add_option("input", options_.input, "JSONL file of requests")->required();
  add_watch(submitting);
  add_files(submitting, false);
  submitting.add_option("--endpoint", options_.endpoint, "what all lines ask (default: the url of the first one)");
  submitting.add_option("--window", options_.window, "how long it may take (default: 24h)");
  submitting.add_option("--priority", options_.priority, "before others or behind them: -1, 0 or 1 (default: 0)")
      ->check(CLI::Range(-1, 1));
  submitting.add_option("--metadata", options_.metadata, "KEY=VALUE, as often as is needed")->allow_extra_args(false);
  submitting.add_flag("--dedupe", options_.dedupe, "send one of lines that ask the same, for all of them");
  submitting.add_option("--webhook", options_.webhook, "URL that is told when it has ended");
  submitting.add_option("--sink", options_.sinks, "name of a sink that gets its results, as often as is needed")
      ->allow_extra_args(false);

  CLI::App& watching = add_for_batch(app, "watch", "Follow a batch to its end", watch);
  add_files(watching, false);

  CLI::App& listing = add(*app.add_subcommand("list", "List batches, the newest first"), list);
  listing.add_option("--status", options_.status, "only those")
      ->check(CLI::IsMember(
          {"validating", "in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled"}));
  listing.add_option("--limit", options_.limit, "how many at most (default: 20)")->check(CLI::Range(1, 100'000));

  add_for_batch(app, "show", "Say how a batch is", show);
  add_for_batch(app, "results", "Print the lines that are answered, in the order in which they were", results)
      .add_flag("--follow", options_.follow, "and those to come, until the batch has ended");
  add_files(add_for_batch(app, "fetch", "Bring the files of a batch that has ended", fetch), true);
  add_for_batch(app, "cancel", "Cancel a batch; what is answered is kept", cancel)
      .add_flag("--wait", options_.wait, "until it has ended");
  CLI::App& retrying = add_for_batch(app, "retry", "Make a batch of the lines that have no good answer", retry);
  add_watch(retrying);
  add_files(retrying, false);
  add_for_batch(app, "pause", "Send no more lines of a batch", pause);
  add_for_batch(app, "resume", "Let a paused batch go on", resume);

  add(models, penstock::models);
  add(*app.add_subcommand("engines", "List the engines, and how busy they are"), engines);
  add(*app.add_subcommand("workers", "List the processes that serve or work"), workers);
  add(*app.add_subcommand("top", "Look at the queue, the engines and their rates, live"), top);
}

std::optional<int> ClientCommands::run() {
  for (const auto& [command, start] : commands_) {
    if (*command) return run_client(start, options_);
  }
  return std::nullopt;
}

CLI::App& ClientCommands::add(CLI::App& command, ClientCommand start) {
  CLI::Option* profile = command.add_option("--profile", options_.profile, "a server with its key [PENSTOCK_PROFILE]");
  command.add_option("--url", options_.url, "the server (default: http://127.0.0.1:4080) [PENSTOCK_URL]")
      ->excludes(profile);
  command.add_flag("--json", options_.json, "print what the API answers, an object a line");
  commands_.emplace_back(&command, start);
  return command;
}

CLI::App& ClientCommands::add_for_batch(CLI::App& app, const char* name, const char* help, ClientCommand start) {
  CLI::App& command = add(*app.add_subcommand(name, help), start);
  command.add_option("id", options_.id, "of the batch, or \"last\" for the newest")->required();
  return command;
}

void ClientCommands::add_watch(CLI::App& command) {
  command.add_flag("--watch", options_.watch, "follow it to its end");
}

void ClientCommands::add_files(CLI::App& command, bool required) {
  CLI::Option* output = command.add_option("-o,--output", options_.output, "file for the answers, at the end");
  if (required) output->required();
  command.add_option("--errors", options_.errors, "file for failed lines (default: OUTPUT.errors.jsonl)")
      ->needs(output);
}

}  // namespace penstock
