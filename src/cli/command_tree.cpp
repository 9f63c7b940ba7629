#include "cli/command_tree.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>

namespace penstock {
namespace {

// The parser keeps them in a text alone: TYPE:{a,b,c}.
std::vector<std::string> choices_of(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  const std::size_t begin = type.find('{'), end = type.find('}');
  if (begin == std::string::npos || end == std::string::npos) return {};
  return CLI::detail::split(type.substr(begin + 1, end - begin - 1), ',');
}

// An option group is a command without a name in the parser.
void add_options(Command& command, const CLI::App& app) {
  for (const CLI::Option* option : app.get_options()) {
    const bool help_of_group = app.get_name().empty() && option == app.get_help_ptr();
    if (option->get_group().empty() || help_of_group) continue;
    CommandOption one;
    one.takes_value = option->get_items_expected_max() > 0;
    one.choices = choices_of(*option);
    one.required = option->get_required();
    one.help = option->get_description();
    if (option->get_positional()) {
      one.names = {option->get_name(true)};
      command.positionals.push_back(std::move(one));
      continue;
    }
    for (const std::string& name : option->get_snames()) one.names.push_back(fmt::format("-{}", name));
    for (const std::string& name : option->get_lnames()) one.names.push_back(fmt::format("--{}", name));
    command.options.push_back(std::move(one));
  }
}

void fill(Command& command, const CLI::App& app) {
  add_options(command, app);
  for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (sub->get_name().empty()) {
      add_options(command, *sub);
    } else if (!sub->get_group().empty()) {
      Command& below = command.commands.emplace_back();
      below.path = command.path + ' ' + sub->get_name();
      below.help = sub->get_description();
      below.examples = sub->get_footer();
      fill(below, *sub);
    }
  }
}

}  // namespace

Command command_tree(const CLI::App& app) {
  Command root;
  root.path = app.get_name();
  root.help = app.get_description();
  root.examples = app.get_footer();
  fill(root, app);
  return root;
}

}  // namespace penstock
