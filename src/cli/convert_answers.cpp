#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <unordered_map>

#include "base/error.h"
#include "cli/convert.h"
#include "cli/table_writer.h"
#include "model/answer_text.h"

namespace penstock {
namespace {

namespace fs = std::filesystem;

// The lines of an output or error file. They are usually in the order in which they are asked for, and then nothing is
// remembered; of those that were passed it is where they are.
class Answers {
 public:
  explicit Answers(const fs::path& path) : path_(path.string()), in_(path, std::ios::binary) {
    if (!in_ || fs::is_directory(path)) {
      throw UsageError(fmt::format("cannot read {}: {}", path_, std::generic_category().message(in_ ? EISDIR : errno)));
    }
    advance();
  }

  // The one that comes next; null at the end.
  const AnswerText* peek() const { return next_ ? &*next_ : nullptr; }
  AnswerText take() {
    AnswerText taken = std::move(*next_);
    advance();
    return taken;
  }

  // The one of that name wherever it is, so that it is not found again.
  std::optional<AnswerText> find(const std::string& custom_id) {
    if (const auto passed = passed_.find(custom_id); passed != passed_.end()) {
      const std::streamoff at = passed->second;
      passed_.erase(passed);
      return read_at(at);
    }
    while (next_ && next_->custom_id != custom_id) {
      passed_.emplace(next_->custom_id, next_at_);
      advance();
    }
    if (!next_) return std::nullopt;
    return take();
  }

  // How many were not asked for.
  std::int64_t left() {
    auto count = static_cast<std::int64_t>(passed_.size());
    for (; next_; advance()) ++count;
    return count;
  }

 private:
  void advance() {
    next_.reset();
    std::string line;
    do {
      next_at_ = at_;
      if (!std::getline(in_, line)) return;
      at_ += static_cast<std::streamoff>(line.size()) + 1;
      ++number_;
    } while (line.find_first_not_of(" \t\r") == std::string::npos);
    next_ = parser_.read(line);
    if (!next_) {
      throw UsageError(
          fmt::format("{}:{} is no answer of a batch; prompts become a batch with --model", path_, number_));
    }
  }

  std::optional<AnswerText> read_at(std::streamoff at) {
    std::string line;
    in_.clear();
    in_.seekg(at);
    std::getline(in_, line);
    in_.clear();
    in_.seekg(at_);
    return parser_.read(line);
  }

  const std::string path_;
  std::ifstream in_;
  AnswerTextParser parser_;
  std::optional<AnswerText> next_;
  std::streamoff at_ = 0, next_at_ = 0;  // where we are, and where `next_` is
  std::int64_t number_ = 0;
  std::unordered_map<std::string, std::streamoff> passed_;
};

// The output file, and the error file if there is one.
class AnswerFiles {
 public:
  AnswerFiles(const fs::path& answers, const std::optional<std::string>& errors) {
    files_.push_back(std::make_unique<Answers>(answers));
    const fs::path beside = fs::path(answers).replace_filename(
        fmt::format("{}.errors{}", answers.stem().string(), answers.extension().string()));
    if (errors) {
      files_.push_back(std::make_unique<Answers>(*errors));
    } else if (fs::exists(beside)) {
      files_.push_back(std::make_unique<Answers>(beside));
    }
  }

  std::optional<AnswerText> find(const std::string& custom_id) {
    for (const auto& file : files_) {
      if (file->peek() && file->peek()->custom_id == custom_id) return file->take();
    }
    for (const auto& file : files_) {
      if (auto found = file->find(custom_id)) return found;
    }
    return std::nullopt;
  }

  // All of them, in the order of the input file as far as they tell their place there.
  std::optional<AnswerText> next() {
    Answers* first = nullptr;
    for (const auto& file : files_) {
      const AnswerText* const answer = file->peek();
      if (answer && (!first || answer->index < first->peek()->index)) first = file.get();
    }
    if (!first) return std::nullopt;
    return first->take();
  }

  std::int64_t left() {
    std::int64_t count = 0;
    for (const auto& file : files_) count += file->left();
    return count;
  }

 private:
  std::vector<std::unique_ptr<Answers>> files_;
};

// The columns of an answer, named so that none is one of the table's.
class AnswerColumns {
 public:
  explicit AnswerColumns(std::vector<std::string> others) : all_(std::move(others)) {
    for (std::string& name : names_) {
      while (std::find(all_.begin(), all_.end(), name) != all_.end()) name.insert(0, "model_");
      all_.push_back(name);
    }
  }

  // Those of the table and of the answer.
  const std::vector<std::string>& all() const { return all_; }

  void append(Row& row, const AnswerText& answer) const {
    const std::size_t before = row.cells.size();
    const bool answered = answer.error.empty();
    const auto add = [&](std::string text, bool is_there, bool is_json = false) {
      const std::string& name = names_[row.cells.size() - before];
      std::string json = is_json ? text : is_there ? "" : "null";
      row.cells.push_back({name, std::move(text), std::move(json)});
    };
    add(answer.answer, answered, answered && answer.is_json);
    add(answer.error, !answered);
    add(answer.finish_reason, !answer.finish_reason.empty());
    add(answered ? fmt::to_string(answer.usage.input) : "", answered, answered);
    add(answered ? fmt::to_string(answer.usage.output) : "", answered, answered);
  }

 private:
  std::vector<std::string> names_{"answer", "error", "finish_reason", "input_tokens", "output_tokens"};
  std::vector<std::string> all_;
};

std::vector<std::string> columns_of(const std::string& path) {
  const auto table = open_table(path);
  std::vector<std::string> columns = table->columns();
  if (!columns.empty()) return columns;
  for (Row row; table->next(row);) {
    for (const Cell& cell : row.cells) {
      if (std::find(columns.begin(), columns.end(), cell.column) == columns.end()) columns.push_back(cell.column);
    }
  }
  return columns;
}

}  // namespace

AnswerCounts answers_to_table(const std::string& input, const std::string& output, const AnswerOptions& options) {
  const auto format = table_format(output);
  if (!format || format == TableFormat::text) {
    throw UsageError(fmt::format("{} must end in .csv, .tsv or .jsonl, which says what is written", output));
  }
  AnswerFiles answers(input, options.errors);
  const auto table = options.join ? open_table(*options.join) : nullptr;
  const AnswerColumns columns(options.join ? columns_of(*options.join) : std::vector<std::string>{"custom_id"});
  const bool as_the_table = table && *format == TableFormat::csv && table_format(*options.join) == TableFormat::csv;
  const char delimiter = *format == TableFormat::tsv ? '\t' : as_the_table ? table->delimiter() : ',';
  OutputFile file(output);
  TableWriter writer(file, *format, columns.all(), {.delimiter = delimiter, .excel = options.excel});
  AnswerCounts counts;
  std::int64_t found = 0;
  const auto write = [&](Row& row, const AnswerText& answer) {
    columns.append(row, answer);
    writer.write(row);
    ++(answer.error.empty() ? counts.answers : counts.errors);
  };
  if (table) {
    AnswerText missing;
    missing.error = "there is no answer to this row";
    for (Row row; table->next(row);) {
      const auto answer = answers.find(custom_id(row, options.id, *options.join));
      if (answer) ++found;
      write(row, answer.value_or(missing));
    }
    counts.unknown = answers.left();
    if (found == 0 && counts.unknown > 0) {
      throw UsageError(fmt::format("no answer in {} is one to a row of {}: {}", input, *options.join,
                                   options.id
                                       ? fmt::format("is {} the column that the batch was made with?", *options.id)
                                       : "was the batch made with --id?"));
    }
  } else {
    while (const auto answer = answers.next()) {
      Row row{0, {{"custom_id", answer->custom_id}}};
      write(row, *answer);
    }
  }
  file.commit();
  return counts;
}

}  // namespace penstock
