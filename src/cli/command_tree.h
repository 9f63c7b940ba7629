#pragma once
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace penstock {

struct CommandOption {
  std::vector<std::string> names;  // "-o", "--output"; of a positional its one name
  bool takes_value = false;
  std::vector<std::string> choices;  // the values that it may have, where those are told
  bool required = false;
  std::string help;
};

// What a command line may say, as completion and manual pages need it: taken from the parser, so that it is always
// true.
struct Command {
  std::string path;  // "penstock keys list"
  std::string help, examples;
  std::vector<CommandOption> positionals, options;
  std::vector<Command> commands;

  std::string name() const { return path.substr(path.rfind(' ') + 1); }
};
// Without what is in no group, which is how the parser's own help hides it.
Command command_tree(const CLI::App& app);

enum class Shell { bash, zsh, fish };
// A script for that shell, which completes commands, flags, values that are named, and else files.
std::string completion(const Command& tree, Shell shell);

// A page of the manual, of section 1, with all commands below it, in roff.
std::string man_page(const Command& command);

}  // namespace penstock
