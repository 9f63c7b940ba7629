#include "delivery/results.h"

#include <algorithm>
#include <stdexcept>

namespace penstock {
namespace {

constexpr std::size_t kReadSize = 256 << 10;

}  // namespace

Results::Results(std::unique_ptr<BlobReader> output, std::unique_ptr<BlobReader> errors) {
  const auto add = [&](const char* name, std::unique_ptr<BlobReader> blob) {
    if (!blob || blob->size() == 0) return;
    const std::uint64_t begin = size();
    parts_.push_back({.name = name, .begin = begin, .end = begin + blob->size(), .blob = std::move(blob)});
  };
  add("output.jsonl", std::move(output));
  add("errors.jsonl", std::move(errors));
}

std::string Results::bytes(std::uint64_t position, std::size_t length) const {
  std::string out;
  const auto part = std::find_if(parts_.begin(), parts_.end(), [&](const Part& one) { return position < one.end; });
  if (part == parts_.end()) return out;
  const std::size_t size = std::min<std::uint64_t>(length, part->end - position);
  part->blob->read_at(position - part->begin, size, out);
  if (out.size() != size) throw std::runtime_error("a file is shorter than it was");
  return out;
}

std::string Results::lines(std::uint64_t position, std::size_t lines_max, std::size_t bytes_max) const {
  std::string out;
  std::size_t looked = 0, end = 0, count = 0;  // the lines that are taken end at `end`
  while (true) {
    const auto newline = out.find('\n', looked);
    if (newline == std::string::npos) {
      looked = out.size();
      const std::string more = bytes(position + out.size(), kReadSize);
      if (more.empty()) break;
      out += more;
      continue;
    }
    looked = newline + 1;
    if (count > 0 && looked > bytes_max) break;
    end = looked;
    if (++count == lines_max) break;
  }
  out.resize(end);
  return out;
}

std::vector<std::string_view> split_into_lines(std::string_view lines) {
  std::vector<std::string_view> all;
  while (!lines.empty()) {
    const auto end = std::min(lines.find('\n'), lines.size());
    all.push_back(lines.substr(0, end));
    lines.remove_prefix(std::min(end + 1, lines.size()));
  }
  return all;
}

}  // namespace penstock
