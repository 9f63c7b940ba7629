#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <sstream>
#include <system_error>

#include "base/error.h"
#include "base/output_file.h"
#include "batch/hash_set.h"
#include "cli/convert.h"
#include "cli/prompt_template.h"
#include "model/json_text.h"
#include "model/wire.h"

namespace penstock {
namespace {

std::string read_template(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  if (!in || !(text << in.rdbuf())) {
    throw UsageError(fmt::format("cannot read {}: {}", path, std::generic_category().message(errno)));
  }
  std::string read = std::move(text).str();
  if (!is_utf8(read)) throw UsageError(fmt::format("{} is not UTF-8", path));
  if (read.ends_with('\n')) read.pop_back();
  return read;
}

// For who says nothing else.
std::string default_template(const std::vector<std::string>& columns, const std::string& file) {
  for (const std::string& column : columns) {
    if (column == "prompt" || columns.size() == 1) return '{' + column + '}';
  }
  if (columns.empty()) return "{prompt}";  // each row of a JSONL has its own
  throw UsageError(fmt::format(
      "{} has the columns {}: --prompt says what is asked, such as --prompt \"Translate to French: {{{}}}\"", file,
      fmt::join(columns, ", "), columns.back()));
}

class BatchMaker {
 public:
  BatchMaker(const std::string& input, const PromptOptions& options, const std::vector<std::string>& columns)
      : input_(input),
        options_(options),
        prompt_(options.prompt          ? *options.prompt
                : options.template_file ? read_template(*options.template_file)
                                        : default_template(columns, input)),
        rest_(fmt::format(R"(,"method":"POST","url":"{}","body":{{"model":{})", options.endpoint,
                          wire::quoted(options.model))) {
    if (!columns.empty()) prompt_.check(columns, input);
    if (options.system) {
      if (!field("system")) throw UsageError(fmt::format("lines for {} have no system prompt", options.endpoint));
      system_.emplace(*options.system);
      if (!columns.empty()) system_->check(columns, input);
    }
    if (options.id && !columns.empty()) PromptTemplate('{' + *options.id + '}').check(columns, input);
    for (const std::string& setting : options.set) add_setting(setting);
  }

  // With a newline. Throws UsageError when no server would take it.
  std::string line(const Row& row) {
    std::string text = fmt::format(R"({{"custom_id":{}{})", wire::quoted(custom_id(row, options_.id, input_)), rest_);
    const std::string prompt = wire::quoted(prompt_.fill(row, input_));
    const std::string system = system_ ? wire::quoted(system_->fill(row, input_)) : std::string();
    if (options_.endpoint == "/v1/chat/completions") {
      text += R"(,"messages":[)";
      if (system_) text += fmt::format(R"({{"role":"system","content":{}}},)", system);
      text += fmt::format(R"({{"role":"user","content":{}}}])", prompt);
    } else {
      if (system_) text += fmt::format(R"(,"instructions":{})", system);
      text += fmt::format(R"(,"{}":{})", *field("prompt"), prompt);
    }
    text += "}}";
    check(row, text);
    text += '\n';
    return text;
  }

 private:
  // Where the body has it.
  std::optional<std::string> field(std::string_view part) const {
    const bool system = part == "system";
    if (options_.endpoint == "/v1/chat/completions") return "messages";
    if (options_.endpoint == "/v1/responses") return system ? "instructions" : "input";
    if (system) return std::nullopt;
    return options_.endpoint == "/v1/embeddings" ? "input" : "prompt";
  }

  void add_setting(const std::string& setting) {
    const std::size_t sign = setting.find('=');
    if (sign == std::string::npos || sign == 0) {
      throw UsageError(fmt::format("--set {}: it wants NAME=VALUE, such as temperature=0", setting));
    }
    const std::string name = setting.substr(0, sign), value = setting.substr(sign + 1);
    if (name == "model" || name == field("prompt") || name == field("system") || !set_.insert(name).second) {
      throw UsageError(fmt::format("--set {}: {} stands in the body already", setting, name));
    }
    std::string json = is_json(value) ? value : wire::quoted(value);
    std::replace(json.begin(), json.end(), '\n', ' ');  // only blank space can be one
    rest_ += fmt::format(",{}:{}", wire::quoted(name), json);
  }

  void check(const Row& row, std::string& text) {
    text.reserve(text.size() + kLinePadding);
    const auto facts = parser_.check(text, options_.endpoint);
    if (!facts) throw UsageError(fmt::format("{} row {}: {}", input_, row.number, facts.error().message));
    // Of ids that are made of the number of the row none can be there twice.
    if (options_.id && !ids_.insert(facts->custom_id_hash)) fail_as_repeated(row);
  }

  // What row had it before is not remembered, so that memory stays small.
  [[noreturn]] void fail_as_repeated(const Row& row) const {
    const std::string id = custom_id(row, options_.id, input_);
    const auto again = open_table(input_);
    Row first;
    while (again->next(first) && custom_id(first, options_.id, input_) != id) {
    }
    throw UsageError(fmt::format("{} row {}: {} is {} in row {} too", input_, row.number, *options_.id,
                                 wire::quoted(id), first.number));
  }

  const std::string& input_;
  const PromptOptions& options_;
  PromptTemplate prompt_;
  std::optional<PromptTemplate> system_;
  std::string rest_;  // of each line, from behind the custom_id to the prompt
  std::set<std::string> set_;
  LineParser parser_;
  HashSet ids_;
};

}  // namespace

std::string custom_id(const Row& row, const std::optional<std::string>& column, const std::string& file) {
  if (!column) return fmt::format("row-{}", row.number);
  const Cell* const cell = row.find(*column);
  if (!cell || cell->text.empty())
    throw UsageError(fmt::format("{} row {}: there is no {}", file, row.number, *column));
  return cell->text;
}

std::int64_t prompts_to_batch(const std::string& input, const std::string& output, const PromptOptions& options) {
  if (!endpoints().contains(options.endpoint)) {
    throw UsageError(
        fmt::format("there is no endpoint {}; there are: {}", options.endpoint, fmt::join(endpoints(), ", ")));
  }
  const auto table = open_table(input);
  BatchMaker maker(input, options, table->columns());
  OutputFile file(output);
  std::int64_t lines = 0;
  for (Row row; table->next(row); ++lines) file.write(maker.line(row));
  if (lines == 0) throw UsageError(fmt::format("{} has no row with a prompt", input));
  file.commit();
  return lines;
}

}  // namespace penstock
