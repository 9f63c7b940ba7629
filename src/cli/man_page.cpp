#include <fmt/format.h>

#include <algorithm>

#include "base/exit_codes.h"
#include "cli/command_tree.h"

namespace penstock {
namespace {

// Text for roff: no character of it is a command, and a hyphen is the one that can be typed.
std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\') {
      out += "\\e";
    } else if (c == '-') {
      out += "\\-";
    } else if ((c == '.' || c == '\'') && (out.empty() || out.back() == '\n')) {
      out += "\\&";
      out += c;
    } else {
      out += c;
    }
  }
  return out;
}

std::string title(const Command& command) {
  std::string name = command.path;
  std::replace(name.begin(), name.end(), ' ', '-');
  return name;
}

// "[OPTIONS] INPUT", "COMMAND"
std::string usage(const Command& command) {
  std::string words;
  if (!command.options.empty()) words += " [\\fIOPTIONS\\fR]";
  for (const CommandOption& one : command.positionals) {
    const std::string name = fmt::format("\\fI{}\\fR", escaped(one.names.front()));
    words += one.required ? ' ' + name : fmt::format(" [{}]", name);
  }
  if (!command.commands.empty()) words += " [\\fICOMMAND\\fR]";
  return fmt::format("\\fB{}\\fR{}", escaped(command.path), words);
}

std::string arguments(const Command& command) {
  std::string text;
  for (const CommandOption& one : command.positionals) {
    text += fmt::format(".TP\n\\fI{}\\fR\n{}\n", escaped(one.names.front()), escaped(one.help));
  }
  for (const CommandOption& one : command.options) {
    std::string names;
    for (const std::string& name : one.names) {
      names += fmt::format("{}\\fB{}\\fR", names.empty() ? "" : ", ", escaped(name));
    }
    if (!one.choices.empty()) {
      names += fmt::format(" {}", escaped(fmt::format("{}", fmt::join(one.choices, "|"))));
    } else if (one.takes_value) {
      names += " \\fIVALUE\\fR";
    }
    text += fmt::format(".TP\n{}\n{}{}\n", names, escaped(one.help), one.required ? " (required)" : "");
  }
  return text;
}

// Commands below, each with its flags.
std::string commands(const Command& command) {
  std::string text;
  for (const Command& below : command.commands) {
    text += fmt::format(".SS {}\n{}\n.PP\n{}\n{}", escaped(below.path), usage(below), escaped(below.help),
                        arguments(below));
    text += commands(below);
  }
  return text;
}

std::string list_of(const std::vector<Command>& commands) {
  std::string text;
  for (const Command& one : commands) {
    text += fmt::format(".TP\n\\fB{}\\fR(1)\n{}\n", escaped(title(one)), escaped(one.help));
  }
  return text;
}

}  // namespace

std::string man_page(const Command& command) {
  const bool is_root = command.path.find(' ') == std::string::npos;
  std::string upper = title(command);
  std::transform(upper.begin(), upper.end(), upper.begin(), [](unsigned char c) { return std::toupper(c); });
  std::string page =
      fmt::format(".TH {} 1 \"\" \"penstock {}\" \"Penstock Manual\"\n", escaped(upper), PENSTOCK_VERSION);
  page += fmt::format(".SH NAME\n{} \\- {}\n", escaped(title(command)), escaped(command.help));
  page += fmt::format(".SH SYNOPSIS\n{}\n", usage(command));
  page += fmt::format(".SH OPTIONS\n{}", arguments(command));
  if (!command.commands.empty()) page += ".SH COMMANDS\n" + (is_root ? list_of(command.commands) : commands(command));
  if (!command.examples.empty()) page += fmt::format(".SH EXAMPLES\n.nf\n{}\n.fi\n", escaped(command.examples));
  page += ".SH EXIT STATUS\n";
  for (const auto& [code, meaning] : std::initializer_list<std::pair<int, const char*>>{
           {kExitOk, "All went well."},
           {kExitLinesFailed, "Some lines failed, or something that was looked at is wrong."},
           {kExitUsage, "The command, its input or the configuration is wrong.\nNothing was done."},
           {kExitUnreachable, "The server cannot be reached, or was away for too long."},
           {kExitRefused, "The server refused what was asked of it."},
           {kExitBatchFailed, "The batch failed: its file has faults.\nNone of its lines was run."},
           {kExitBatchExpired, "The batch expired."},
           {kExitBatchCancelled, "The batch was cancelled."},
           {kExitAccident, "An accident."},
           {kExitNotDurable, "What was written did not get to the disk."},
           {kExitInterrupted, "It was interrupted."}}) {
    page += fmt::format(".TP\n{}\n{}\n", code, meaning);
  }
  page += is_root ? ".SH FILES\n.TP\n.I penstock.toml\nThe configuration, in the working directory.\n"
                  : ".SH SEE ALSO\n.BR penstock (1)\n";
  return page;
}

}  // namespace penstock
