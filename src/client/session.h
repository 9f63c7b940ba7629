#pragma once
#include <optional>
#include <string>
#include <vector>

#include "client/server.h"

namespace penstock {

// What a command may be told; each looks at what it knows.
struct ClientOptions {
  std::optional<std::string> url, profile;
  bool json = false;
  std::string id;  // of a batch; kLastBatch: the newest
  std::string input;
  std::optional<std::string> output, errors;
  std::optional<std::string> endpoint, webhook, status;
  std::string window = "24h";
  std::optional<int> priority;
  std::vector<std::string> metadata, sinks;  // "key=value"; names
  bool dedupe = false, watch = false, wait = false, follow = false;
  int limit = 20;
};
constexpr const char* kLastBatch = "last";

// One command at one server.
struct Session {
  asio::io_context& loop;
  TaskGroup& tasks;  // the command: cancelling it is as Ctrl-C
  Server& server;
};

using ClientCommand = Task<int> (*)(Session& session, const ClientOptions& options);

// Runs the command and returns what the program ends with. Ctrl-C and SIGTERM cancel it. Prints CommandFailures; others
// leave it.
int run_client(ClientCommand command, const ClientOptions& options);

// The id that is meant, fit for a path. Throws UsageError for what is none.
Task<std::string> batch_id(Server& server, std::string given);

// One JSON object a line, to standard output.
void print_json(const json::object& object);

}  // namespace penstock
