#include <fmt/format.h>

#include "cli/command_tree.h"

// All three scripts find out which command stands before the cursor by the same list of all commands, and then look up
// what may follow.
namespace penstock {
namespace {

void collect(const Command& command, std::vector<const Command*>& all) {
  all.push_back(&command);
  for (const Command& below : command.commands) collect(below, all);
}

std::string quoted(std::string_view text) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'') out += "'\\'";
    out += c;
  }
  out += '\'';
  return out;
}

// Patterns of a case.
std::string quoted_list(const std::vector<std::string>& texts) {
  std::string out;
  for (const std::string& text : texts) {
    if (!out.empty()) out += '|';
    out += quoted(text);
  }
  return out;
}

std::vector<std::string> paths_below(const std::vector<const Command*>& all) {
  std::vector<std::string> paths;
  for (const Command* command : all) {
    if (command != all.front()) paths.push_back(command->path);
  }
  return paths;
}

// What the first word that is no flag may be, besides a command.
const std::vector<std::string>& choices_of_first(const Command& command) {
  static const std::vector<std::string> none;
  return command.positionals.empty() ? none : command.positionals.front().choices;
}

// "PATH --option", as it stands before its value.
std::vector<std::string> before_value(const Command& command, const CommandOption& option) {
  std::vector<std::string> places;
  for (const std::string& name : option.names) places.push_back(command.path + ' ' + name);
  return places;
}

// The cases of options that take a value: what to do for those with choices, and for all others.
std::string cases_of_values(const std::vector<const Command*>& all, std::string_view choose, std::string_view other) {
  std::string cases;
  std::vector<std::string> free;
  for (const Command* command : all) {
    for (const CommandOption& option : command->options) {
      const auto places = before_value(*command, option);
      if (!option.takes_value) continue;
      if (option.choices.empty()) {
        free.insert(free.end(), places.begin(), places.end());
      } else {
        cases += fmt::format("    {}) {}; return ;;\n", quoted_list(places),
                             fmt::format(fmt::runtime(choose), fmt::join(option.choices, " ")));
      }
    }
  }
  if (!free.empty()) cases += fmt::format("    {}) {}return ;;\n", quoted_list(free), other);
  return cases;
}

std::string bash(const std::vector<const Command*>& all) {
  std::string words;
  for (const Command* command : all) {
    std::vector<std::string> flags, names;
    for (const CommandOption& option : command->options) {
      flags.insert(flags.end(), option.names.begin(), option.names.end());
    }
    for (const Command& below : command->commands) names.push_back(below.name());
    const auto& choices = choices_of_first(*command);
    names.insert(names.end(), choices.begin(), choices.end());
    words += fmt::format("    {}) flags='{}' commands='{}' ;;\n", quoted(command->path), fmt::join(flags, " "),
                         fmt::join(names, " "));
  }
  return fmt::format(R"(# bash completion for penstock, made by: penstock completion bash
_penstock() {{
  local at=penstock before= current=${{COMP_WORDS[COMP_CWORD]}} flags= commands= i
  for ((i = 1; i < COMP_CWORD; ++i)); do
    case "$at ${{COMP_WORDS[i]}}" in
    {}) at+=" ${{COMP_WORDS[i]}}" ;;
    esac
  done
  # --flag=value is three words to bash
  before=${{COMP_WORDS[COMP_CWORD - 1]}}
  if [ "$current" = = ]; then
    current=
  elif [ "$before" = = ]; then
    before=${{COMP_WORDS[COMP_CWORD - 2]}}
  fi
  COMPREPLY=()
  case "$at $before" in
{}  esac
  case "$at" in
{}  esac
  case "$current" in
    -*) mapfile -t COMPREPLY < <(compgen -W "$flags" -- "$current") ;;
    *) mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$current") ;;
  esac
}}
complete -o default -F _penstock penstock
)",
                     quoted_list(paths_below(all)),
                     cases_of_values(all, "mapfile -t COMPREPLY < <(compgen -W '{}' -- \"$current\")", ""), words);
}

std::string zsh(const std::vector<const Command*>& all) {
  // NAME:HELP, where a colon of the name would be escaped; none has one.
  const auto described = [](const std::string& name, const std::string& help) { return quoted(name + ':' + help); };
  std::string words;
  for (const Command* command : all) {
    std::vector<std::string> flags, names;
    for (const CommandOption& option : command->options) {
      for (const std::string& name : option.names) flags.push_back(described(name, option.help));
    }
    for (const Command& below : command->commands) names.push_back(described(below.name(), below.help));
    for (const std::string& choice : choices_of_first(*command)) names.push_back(quoted(choice));
    words += fmt::format("    {}) flags=({}) commands=({}) ;;\n", quoted(command->path), fmt::join(flags, " "),
                         fmt::join(names, " "));
  }
  return fmt::format(R"(#compdef penstock
# zsh completion for penstock, made by: penstock completion zsh
_penstock() {{
  local at=penstock word
  local -a flags commands
  for word in ${{words[2,CURRENT-1]}}; do
    case "$at $word" in
    {}) at+=" $word" ;;
    esac
  done
  case "$at ${{words[CURRENT-1]}}" in
{}  esac
  case "$at" in
{}  esac
  if [[ $PREFIX == -* ]]; then
    _describe flag flags
  elif (( $#commands )); then
    _describe command commands
  else
    _files
  fi
}}
if [ "${{funcstack[1]}}" = _penstock ]; then
  _penstock "$@"
else
  compdef _penstock penstock
fi
)",
                     quoted_list(paths_below(all)), cases_of_values(all, "compadd -- {}", "_files; "), words);
}

// In single quotes fish knows \' and \\ alone.
std::string fish_quoted(std::string_view text) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'' || c == '\\') out += '\\';
    out += c;
  }
  out += '\'';
  return out;
}

std::string fish(const std::vector<const Command*>& all) {
  std::string lines;
  for (const Command* command : all) {
    const std::string at = fmt::format("complete -c penstock -n '__penstock_at {}'", command->path);
    for (const Command& below : command->commands) {
      lines += fmt::format("{} -f -a {} -d {}\n", at, below.name(), fish_quoted(below.help));
    }
    if (!choices_of_first(*command).empty()) {
      lines += fmt::format("{} -f -a '{}'\n", at, fmt::join(choices_of_first(*command), " "));
    }
    for (const CommandOption& option : command->options) {
      lines += at;
      for (const std::string& name : option.names) {
        lines += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
      }
      if (!option.choices.empty()) {
        lines += fmt::format(" -x -a '{}'", fmt::join(option.choices, " "));
      } else if (option.takes_value) {
        lines += " -r -F";
      }
      lines += fmt::format(" -d {}\n", fish_quoted(option.help));
    }
  }
  std::string cases;
  for (const std::string& path : paths_below(all)) cases += ' ' + quoted(path);
  return fmt::format(R"(# fish completion for penstock, made by: penstock completion fish
function __penstock_at
    set -l at penstock
    for word in (commandline -opc)[2..-1]
        switch "$at $word"
            case{}
                set at "$at $word"
        end
    end
    test "$at" = "$argv"
end
{})",
                     cases, lines);
}

}  // namespace

std::string completion(const Command& tree, Shell shell) {
  std::vector<const Command*> all;
  collect(tree, all);
  return shell == Shell::bash ? bash(all) : shell == Shell::zsh ? zsh(all) : fish(all);
}

}  // namespace penstock
