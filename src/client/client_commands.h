#pragma once
#include <list>
#include <optional>
#include <utility>

#include "client/session.h"

namespace CLI {
class App;
}

namespace penstock {

// The commands that ask a server, with their flags.
class ClientCommands {
 public:
  // Adds them to the program. `models` is there already, and is one of ours where it is given none of its own commands.
  ClientCommands(CLI::App& app, CLI::App& models);

  // Runs the one that was given, and returns what the program ends with; nothing when it was none of these.
  std::optional<int> run();

 private:
  CLI::App& add(CLI::App& command, ClientCommand start);
  CLI::App& add_for_batch(CLI::App& app, const char* name, const char* help, ClientCommand start);
  void add_watch(CLI::App& command);
  void add_files(CLI::App& command, bool required);

  ClientOptions options_;
  std::list<std::pair<CLI::App*, ClientCommand>> commands_;
};

}  // namespace penstock
