#include "client/local_files.h"

#include <fmt/format.h>

#include <fstream>
#include <set>

#include "base/error.h"
#include "model/line_parser.h"

namespace penstock {

namespace fs = std::filesystem;

std::string input_endpoint(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  LineParser parser;
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("\xEF\xBB\xBF")) line.erase(0, 3);
    const std::size_t size = line.size();
    line.resize(size + kLinePadding);
    if (const auto url = parser.url({line.data(), size}); endpoints().contains(url)) return std::string(url);
    if (size > 0) break;
  }
  return "/v1/chat/completions";
}

fs::path errors_path(const std::string& output, const std::optional<std::string>& errors) {
  if (errors) return *errors;
  fs::path path = output;
  return path.replace_filename(fmt::format("{}.errors{}", path.stem().string(), path.extension().string()));
}

void check_input(const std::string& path) {
  if (!fs::is_regular_file(path)) throw UsageError(fmt::format("there is no file {}", path));
}

void check_outputs(const std::string& output, const std::optional<std::string>& errors, const std::string& input) {
  std::set<fs::path> known;
  if (!input.empty()) known.insert(fs::weakly_canonical(input));
  for (const fs::path& path : {fs::path(output), errors_path(output, errors)}) {
    const fs::path folder = fs::absolute(path).parent_path();
    if (!fs::is_directory(folder)) throw UsageError(fmt::format("there is no folder {} to write to", folder.string()));
    if (fs::exists(path) && !fs::is_regular_file(path)) {
      throw UsageError(fmt::format("cannot write {}: it is no plain file", path.string()));
    }
    if (!known.insert(fs::weakly_canonical(path)).second) {
      throw UsageError(
          fmt::format("{} is named twice: input, answers and failed lines are files of their own", path.string()));
    }
  }
}

}  // namespace penstock
