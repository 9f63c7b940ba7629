#pragma once
#include <optional>
#include <string>
#include <vector>

#include "cli/table_reader.h"

namespace penstock {

// How each row of a table becomes a request.
struct PromptOptions {
  std::string model = {};
  std::string endpoint = "/v1/chat/completions";
  std::optional<std::string> prompt = {};         // a PromptTemplate; default: the column `prompt`, or the only one
  std::optional<std::string> template_file = {};  // one in a file
  std::optional<std::string> system = {};         // a PromptTemplate too
  std::optional<std::string> id = {};             // the column of the custom_ids; else they are row-N
  std::vector<std::string> set = {};              // NAME=VALUE for the body; a value that is JSON is taken as such
};

// Makes a batch file of a table's rows. Each line is one that a server takes. Returns how many there are. Throws
// UsageError.
std::int64_t prompts_to_batch(const std::string& input, const std::string& output, const PromptOptions& options);

// What the request of a row is called: what its cell of that column says, or row-N. Throws UsageError when it has none.
std::string custom_id(const Row& row, const std::optional<std::string>& column, const std::string& file);

// How answers become a table.
struct AnswerOptions {
  std::optional<std::string> errors = {};  // default: ANSWERS.errors.jsonl beside the answers, if it is there
  std::optional<std::string> join = {};    // a table whose rows are written with their answers, in its order
  std::optional<std::string> id = {};      // its column of the custom_ids; else they are row-N
  bool excel = false;                      // for a CSV: TableWriter::Style
};

struct AnswerCounts {
  std::int64_t answers = 0, errors = 0;
  std::int64_t unknown = 0;  // answers of no row of the table
};

// Makes a table (.csv, .tsv or .jsonl) of output and error files. Throws UsageError.
AnswerCounts answers_to_table(const std::string& input, const std::string& output, const AnswerOptions& options);

// `penstock convert`: the first when there is a model, else the second. Returns the exit code.
struct ConvertOptions {
  std::string input, output;
  PromptOptions prompts;
  AnswerOptions answers;  // its `id` is that of the prompts
};
int convert(const ConvertOptions& options);

}  // namespace penstock
