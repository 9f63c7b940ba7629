#include "cli/shell_commands.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>

#include "base/error.h"
#include "base/output_file.h"
#include "cli/command_tree.h"
#include "cli/commands.h"

namespace penstock {
namespace {

const std::map<std::string, Shell> kShells{{"bash", Shell::bash}, {"zsh", Shell::zsh}, {"fish", Shell::fish}};

void write_page(const std::string& folder, const Command& command) {
  std::string name = command.path;
  std::replace(name.begin(), name.end(), ' ', '-');
  OutputFile file(fmt::format("{}/{}.1", folder, name));
  file.write(man_page(command));
  file.commit();
}

}  // namespace

ShellCommands::ShellCommands(CLI::App& app)
    : app_(app),
      completing_(*app.add_subcommand("completion", "Print what makes a shell complete this program's command lines")),
      paging_(*app.add_subcommand("man", "Print a page of the manual, in roff")),
      settings_(*app.add_subcommand("settings", "Print all settings as a table in Markdown")->group("")) {
  completing_.add_option("shell", shell_, "which one")->required()->check(CLI::IsMember({"bash", "zsh", "fish"}));
  completing_.footer(
      "  source <(penstock completion bash)        # in ~/.bashrc\n"
      "  source <(penstock completion zsh)         # in ~/.zshrc, behind compinit\n"
      "  penstock completion fish | source         # in ~/.config/fish/config.fish");
  paging_.add_option("command", command_, "of this command (default: of penstock)");
  paging_.add_option("--into", folder_, "write all of them into this folder instead")->check(CLI::ExistingDirectory);
  paging_.footer("  penstock man run | man -l -");
}

std::optional<int> ShellCommands::run() const {
  const Command tree = command_tree(app_);
  if (completing_) {
    fmt::print("{}", completion(tree, kShells.at(shell_)));
    return kExitOk;
  }
  if (settings_) {
    fmt::print("{}", settings_table());
    return kExitOk;
  }
  if (!paging_) return std::nullopt;
  if (!folder_.empty()) {
    write_page(folder_, tree);
    for (const Command& command : tree.commands) write_page(folder_, command);
    return kExitOk;
  }
  if (command_.empty()) {
    fmt::print("{}", man_page(tree));
    return kExitOk;
  }
  for (const Command& command : tree.commands) {
    if (command.name() != command_) continue;
    fmt::print("{}", man_page(command));
    return kExitOk;
  }
  throw UsageError(fmt::format("there is no command {}", command_));
}

}  // namespace penstock
