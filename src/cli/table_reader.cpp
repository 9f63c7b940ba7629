#include "cli/table_reader.h"

#include <csv.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <deque>
#include <fstream>
#include <new>
#include <system_error>

#include "base/error.h"
#include "model/json_text.h"

namespace penstock {
namespace {

constexpr std::size_t kPieceSize = 64 * 1024, kCellSizeMax = 16 << 20;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF", kUtf16 = "\xFF\xFE", kUtf16Big = "\xFE\xFF";
constexpr std::string_view kHowToSave = "save it as UTF-8 (in Excel as \"CSV UTF-8\")";

// What all formats have in common: the file, its name in errors, and how far we are.
class Input {
 public:
  Input(std::unique_ptr<std::istream> in, std::string name) : in_(std::move(in)), name_(std::move(name)) {
    std::string start(kByteOrderMark.size(), '\0');
    in_->read(start.data(), static_cast<std::streamsize>(start.size()));
    start.resize(static_cast<std::size_t>(in_->gcount()));
    if (start.starts_with(kUtf16) || start.starts_with(kUtf16Big)) {
      throw UsageError(fmt::format("{} is UTF-16: {}", name_, kHowToSave));
    }
    if (start == kByteOrderMark) return;
    in_->clear();
    in_->seekg(0);
  }

  // Empty at the end. Valid until the next call.
  std::string_view piece() {
    piece_.resize(kPieceSize);
    in_->read(piece_.data(), static_cast<std::streamsize>(piece_.size()));
    check();
    return {piece_.data(), static_cast<std::size_t>(in_->gcount())};
  }

  // Without its end. False when there is none left.
  bool line(std::string& out) {
    out.clear();
    if (!std::getline(*in_, out)) {
      check();
      return false;
    }
    ++row_;
    if (out.ends_with('\r')) out.pop_back();
    if (out.size() > kCellSizeMax) fail("is longer than 16 MiB");
    check_text(out);
    return true;
  }

  void check_text(std::string_view text) const {
    if (!is_utf8(text)) fail(fmt::format("is not UTF-8: {}", kHowToSave));
  }
  std::int64_t row() const { return row_; }
  void next_row() { ++row_; }
  const std::string& name() const { return name_; }
  [[noreturn]] void fail(std::string_view what) const { fail_at(row_, what); }
  [[noreturn]] void fail_at(std::int64_t row, std::string_view what) const {
    throw UsageError(fmt::format("{} row {}: {}", name_, row, what));
  }

 private:
  void check() const {
    if (in_->bad()) {
      throw UsageError(fmt::format("cannot read {}: {}", name_, std::generic_category().message(errno)));
    }
  }

  const std::unique_ptr<std::istream> in_;
  const std::string name_;
  std::string piece_;
  std::int64_t row_ = 0;
};

// The one of , ; and tab that stands most often in the first line, outside of quotes.
char guess_delimiter(std::string_view text) {
  constexpr std::string_view kDelimiters = ",;\t";
  std::array<std::size_t, kDelimiters.size()> counts{};
  bool quoted = false;
  for (const char c : text) {
    if (c == '"') quoted = !quoted;
    if (!quoted && (c == '\n' || c == '\r')) break;
    const std::size_t i = kDelimiters.find(c);
    if (!quoted && i != std::string_view::npos) ++counts[i];
  }
  return kDelimiters[static_cast<std::size_t>(std::max_element(counts.begin(), counts.end()) - counts.begin())];
}

// libcsv's parser.
struct CsvParser : csv_parser {
  CsvParser() : csv_parser{} {
    if (csv_init(this, CSV_STRICT | CSV_STRICT_FINI | CSV_REPALL_NL) != 0) throw std::bad_alloc();
    csv_set_space_func(this, [](unsigned char) { return 0; });  // blanks are part of their cell, as RFC 4180 has it
    csv_set_blk_size(this, 64 << 10);  // by which a cell grows; by its 128 bytes a large one is copied without end
  }
  ~CsvParser() { csv_free(this); }
  CsvParser(const CsvParser&) = delete;
  CsvParser& operator=(const CsvParser&) = delete;
};

class CsvReader final : public TableReader {
 public:
  CsvReader(std::unique_ptr<std::istream> in, const std::string& name, bool tabs)
      : input_(std::move(in), name), delimiter_(tabs ? '\t' : '\0') {
    std::vector<std::string> texts;
    if (!next(texts)) throw UsageError(fmt::format("{} is empty: its first row names the columns", name));
    for (std::string& column : texts) {
      if (!column.empty() && std::find(columns_.begin(), columns_.end(), column) != columns_.end()) {
        input_.fail(fmt::format("the column {} stands there twice", column));
      }
      columns_.push_back(std::move(column));
    }
  }

  bool next(Row& row) override {
    std::vector<std::string> texts;
    if (!next(texts)) return false;
    if (texts.size() != columns_.size()) {
      input_.fail(fmt::format("has {} cells, and the header has {}; a cell with {} or a quote in it stands in quotes",
                              texts.size(), columns_.size(),
                              delimiter_ == '\t' ? "a tab" : std::string(1, delimiter_)));
    }
    row.number = input_.row();
    row.cells.clear();
    for (std::size_t i = 0; i < texts.size(); ++i) row.cells.push_back({columns_[i], std::move(texts[i])});
    return true;
  }
  const std::vector<std::string>& columns() const override { return columns_; }
  char delimiter() const override { return delimiter_; }

 private:
  // The next row that is not blank.
  bool next(std::vector<std::string>& texts) {
    while (true) {
      while (read_.empty() && !over_) read();
      if (read_.empty()) {
        if (!fault_.empty()) input_.fail_at(input_.row() + 1, fault_);
        return false;
      }
      input_.next_row();
      texts = std::move(read_.front());
      read_.pop_front();
      for (const std::string& text : texts) input_.check_text(text);
      if (!texts.empty()) return true;
    }
  }

  // Has the parser add to read_, or says in fault_ why the row behind those cannot be read.
  void read() {
    const std::string_view piece = input_.piece();
    if (delimiter_ == '\0') delimiter_ = guess_delimiter(piece);
    csv_set_delim(&parser_, static_cast<unsigned char>(delimiter_));
    if (piece.empty()) {
      over_ = true;
      if (csv_fini(&parser_, on_cell, on_row, this) != 0) fault_ = "a quoted cell has no closing quote";
    } else if (csv_parse(&parser_, piece.data(), piece.size(), on_cell, on_row, this) != piece.size()) {
      over_ = true;
      if (csv_error(&parser_) != CSV_EPARSE) throw std::bad_alloc();
      fault_ = "a quote stands inside a cell; such a cell stands in quotes, and its own are doubled";
    } else if (csv_get_buffer_size(&parser_) > kCellSizeMax) {
      over_ = true;
      fault_ = "a cell has more than 16 MiB: a closing quote may be missing";
    }
  }

  static void on_cell(void* bytes, std::size_t size, void* self) {
    static_cast<CsvReader*>(self)->cells_.emplace_back(static_cast<const char*>(bytes), size);
  }
  // `end` is the character that ended the row, or -1; \r\n comes as two ends.
  static void on_row(int end, void* self) {
    auto& reader = *static_cast<CsvReader*>(self);
    const bool second_half = end == '\n' && reader.row_end_ == '\r' && reader.cells_.empty();
    reader.row_end_ = end;
    if (!second_half) reader.read_.push_back(std::exchange(reader.cells_, {}));
  }

  Input input_;
  char delimiter_;
  CsvParser parser_;
  std::vector<std::string> columns_, cells_;
  std::deque<std::vector<std::string>> read_;  // rows; blank ones are empty
  int row_end_ = 0;
  bool over_ = false;
  std::string fault_;
};

class JsonlReader final : public TableReader {
 public:
  JsonlReader(std::unique_ptr<std::istream> in, const std::string& name) : input_(std::move(in), name) {}

  bool next(Row& row) override {
    std::string line;
    do {
      if (!input_.line(line)) return false;
    } while (line.find_first_not_of(" \t") == std::string::npos);
    const auto members = json_members(line);
    if (!members) input_.fail("is not a JSON object");
    row.number = input_.row();
    row.cells.clear();
    for (const JsonMember& member : *members) {
      if (row.find(member.name)) input_.fail(fmt::format("{} stands there twice", member.name));
      row.cells.push_back({member.name, member.text, member.json});
    }
    return true;
  }
  const std::vector<std::string>& columns() const override { return none_; }

 private:
  Input input_;
  const std::vector<std::string> none_;
};

class TextReader final : public TableReader {
 public:
  TextReader(std::unique_ptr<std::istream> in, const std::string& name) : input_(std::move(in), name) {}

  bool next(Row& row) override {
    std::string line;
    do {
      if (!input_.line(line)) return false;
    } while (line.find_first_not_of(" \t") == std::string::npos);
    row.number = input_.row();
    row.cells = {{columns_.front(), line}};
    return true;
  }
  const std::vector<std::string>& columns() const override { return columns_; }

 private:
  Input input_;
  const std::vector<std::string> columns_{"text"};
};

}  // namespace

const Cell* Row::find(std::string_view column) const {
  const auto found = std::find_if(cells.begin(), cells.end(), [&](const Cell& cell) { return cell.column == column; });
  return found == cells.end() ? nullptr : &*found;
}

std::optional<TableFormat> table_format(const std::filesystem::path& path) {
  std::string end = path.extension().string();
  std::transform(end.begin(), end.end(), end.begin(), [](unsigned char c) { return std::tolower(c); });
  if (end == ".csv") return TableFormat::csv;
  if (end == ".tsv") return TableFormat::tsv;
  if (end == ".jsonl" || end == ".ndjson") return TableFormat::jsonl;
  if (end == ".txt") return TableFormat::text;
  return std::nullopt;
}

std::unique_ptr<TableReader> open_table(const std::filesystem::path& path) {
  const auto format = table_format(path);
  if (!format) {
    throw UsageError(fmt::format("the name {} does not tell what is in it: it must end in .csv, .tsv, .jsonl or .txt",
                                 path.string()));
  }
  auto in = std::make_unique<std::ifstream>(path, std::ios::binary);
  if (!*in || std::filesystem::is_directory(path)) {
    const int reason = *in ? EISDIR : errno;
    throw UsageError(fmt::format("cannot read {}: {}", path.string(), std::generic_category().message(reason)));
  }
  return read_table(std::move(in), path.string(), *format);
}

std::unique_ptr<TableReader> read_table(std::unique_ptr<std::istream> in, const std::string& name, TableFormat format) {
  switch (format) {
    case TableFormat::jsonl:
      return std::make_unique<JsonlReader>(std::move(in), name);
    case TableFormat::text:
      return std::make_unique<TextReader>(std::move(in), name);
    default:
      return std::make_unique<CsvReader>(std::move(in), name, format == TableFormat::tsv);
  }
}

}  // namespace penstock
