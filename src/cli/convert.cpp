#include "cli/convert.h"

#include <fmt/format.h>

#include <filesystem>

#include "base/error.h"
#include "cli/commands.h"

namespace penstock {
namespace {

namespace fs = std::filesystem;

void refuse(bool given, const char* flag, const char* when) {
  if (given) throw UsageError(fmt::format("{} is for {}", flag, when));
}

}  // namespace

int convert(const ConvertOptions& options) {
  std::error_code ignored;
  for (const auto& input : {std::optional(options.input), options.answers.join, options.answers.errors}) {
    if (input && fs::equivalent(*input, options.output, ignored)) {
      throw UsageError(fmt::format("{} would be written over", *input));
    }
  }
  const PromptOptions& prompts = options.prompts;
  AnswerOptions answers = options.answers;
  answers.id = prompts.id;
  if (!prompts.model.empty()) {
    constexpr const char* kWhen = "answers, and --model makes a batch of prompts";
    refuse(answers.join.has_value(), "--join", kWhen);
    refuse(answers.errors.has_value(), "--errors", kWhen);
    refuse(answers.excel, "--excel", kWhen);
    const std::int64_t lines = prompts_to_batch(options.input, options.output, prompts);
    fmt::print(stderr, "{} requests in {}\n", lines, options.output);
    return kExitOk;
  }
  constexpr const char* kWhen = "prompts, and those need a --model";
  refuse(prompts.prompt.has_value(), "--prompt", kWhen);
  refuse(prompts.template_file.has_value(), "--template", kWhen);
  refuse(prompts.system.has_value(), "--system", kWhen);
  refuse(!prompts.set.empty(), "--set", kWhen);
  if (answers.id && !answers.join) throw UsageError("--id names a column of the table of --join");
  refuse(answers.excel && table_format(options.output) != TableFormat::csv, "--excel", "a .csv");
  const AnswerCounts counts = answers_to_table(options.input, options.output, answers);
  fmt::print(stderr, "{} answers and {} errors in {}\n", counts.answers, counts.errors, options.output);
  if (counts.unknown > 0) fmt::print(stderr, "{} answers are to no row of {}\n", counts.unknown, *answers.join);
  return kExitOk;
}

}  // namespace penstock
