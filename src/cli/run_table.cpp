#include <fmt/format.h>

#include <filesystem>

#include "base/error.h"
#include "cli/commands.h"

namespace penstock {
namespace {

namespace fs = std::filesystem;

// What the requests are to name, when the table says nothing of models.
std::string model_of(const Config& config) {
  if (!config.only_model.empty()) return config.only_model;
  if (config.models.size() == 1) return config.models.front().name;
  std::vector<std::string> names;
  for (const ModelConfig& model : config.models) names.push_back(model.name);
  throw UsageError(names.empty() ? std::string("--model NAME says which model is to answer")
                                 : fmt::format("--model says which model is to answer: {}", fmt::join(names, ", ")));
}

struct TemporaryFile {
  fs::path path;
  ~TemporaryFile() {
    std::error_code ignored;
    fs::remove(path, ignored);
  }
};

}  // namespace

bool is_run_of_table(const RunOptions& options) {
  const auto format = table_format(options.input);
  return options.prompts.prompt || options.prompts.template_file || (format && *format != TableFormat::jsonl);
}

int run_table(const Config& config, const RunOptions& options) {
  const fs::path output = options.output;
  const auto format = table_format(output);
  if (!format || *format == TableFormat::text) {
    throw UsageError(fmt::format("{} must end in .csv, .tsv or .jsonl, which says what is written", options.output));
  }
  if (options.errors)
    throw UsageError("--errors is for requests; of a table, failed rows have their error in the output");
  // Beside the output, like the state of the run. When that is interrupted, the next makes the same batch and goes on.
  const auto beside = [&](const char* what) {
    return TemporaryFile{
        fs::path(output).replace_filename(fmt::format(".{}.{}.jsonl", output.filename().string(), what))};
  };
  const TemporaryFile batch = beside("batch"), answers = beside("answers"), errors = beside("errors");
  PromptOptions prompts = options.prompts;
  prompts.model = model_of(config);
  prompts_to_batch(options.input, batch.path, prompts);
  const int exit_code = run(
      config, {.input = batch.path, .output = answers.path, .errors = errors.path, .errors_shown_in = options.output});
  if (exit_code != kExitOk && exit_code != kExitLinesFailed) return exit_code;
  answers_to_table(answers.path, options.output,
                   {.errors = exit_code == kExitLinesFailed ? std::optional(errors.path.string()) : std::nullopt,
                    .join = options.input,
                    .id = prompts.id,
                    .excel = options.excel});
  return exit_code;
}

}  // namespace penstock
