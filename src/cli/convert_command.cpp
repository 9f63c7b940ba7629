#include "cli/convert_command.h"

#include <CLI/CLI.hpp>

#include "model/line_parser.h"

namespace penstock {
namespace {

constexpr const char* kId = "the column that names each row (default: row-N, N as in a spreadsheet)";
constexpr const char* kExcel = "a CSV for Excel: marked as UTF-8, and with ' before what it would take for a formula";

// How each row of a table becomes a request, without its model.
void add_flags(CLI::App& command, PromptOptions& options) {
  CLI::Option* const prompt = command.add_option(
      "--prompt", options.prompt,
      "what is asked, with {COLUMN} where a row's cell is to stand, and {{ for a brace (default: the "
      "column prompt, or the only one)");
  command.add_option("--template", options.template_file, "a file with that, where it is longer")
      ->excludes(prompt)
      ->check(CLI::ExistingFile);
  command.add_option("--system", options.system, "a system prompt, with {COLUMN} too");
  command.add_option("--set", options.set, "NAME=VALUE for each request, such as temperature=0")
      ->allow_extra_args(false);
  command.add_option("--endpoint", options.endpoint, "what the requests are for")
      ->capture_default_str()
      ->check(CLI::IsMember(endpoints()));
}

}  // namespace

void add_table_flags(CLI::App& command, PromptOptions& options, bool& excel) {
  CLI::App& group = *command.add_option_group("Tables of prompts");
  add_flags(group, options);
  group.add_option("--id", options.id, kId);
  group.add_flag("--excel", excel, kExcel);
}

ConvertCommand::ConvertCommand(CLI::App& app)
    : command_(*app.add_subcommand("convert", "Make a batch file of prompts, or a table of answers")) {
  command_.footer(
      "  penstock convert prompts.csv -o batch.jsonl --model NAME --prompt \"Translate to French: {text}\"\n"
      "  penstock convert answers.jsonl -o answers.csv --join prompts.csv");
  command_.add_option("input", options_.input, "prompts (.csv, .tsv, .jsonl or .txt), or answers (.jsonl)")
      ->required()
      ->check(CLI::ExistingFile);
  command_
      .add_option("-o,--output", options_.output, "file to write: a batch (.jsonl), or a table (.csv, .tsv or .jsonl)")
      ->required();
  command_.add_option("--id", options_.prompts.id, kId);
  CLI::App& prompts = *command_.add_option_group("Prompts");
  prompts.add_option("--model", options_.prompts.model, "make a batch of prompts, for this model");
  add_flags(prompts, options_.prompts);
  CLI::App& answers = *command_.add_option_group("Answers");
  answers
      .add_option("--join", options_.answers.join, "the table of prompts, whose rows are written with their answers")
      ->check(CLI::ExistingFile);
  answers
      .add_option("--errors", options_.answers.errors, "the error file (default: ANSWERS.errors.jsonl, if it is there)")
      ->check(CLI::ExistingFile);
  answers.add_flag("--excel", options_.answers.excel, kExcel);
}

std::optional<int> ConvertCommand::run() const {
  if (!command_) return std::nullopt;
  return convert(options_);
}

}  // namespace penstock
