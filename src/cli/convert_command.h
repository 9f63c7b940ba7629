#pragma once
#include <optional>

#include "cli/convert.h"

namespace CLI {
class App;
}

namespace penstock {

// The flags by which `penstock run` takes a table of prompts and makes one of answers.
void add_table_flags(CLI::App& command, PromptOptions& options, bool& excel);

// `penstock convert`.
class ConvertCommand {
 public:
  explicit ConvertCommand(CLI::App& app);

  // Runs it when it was given.
  std::optional<int> run() const;

 private:
  CLI::App& command_;
  ConvertOptions options_;
};

}  // namespace penstock
