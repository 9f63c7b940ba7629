#include "batch/kept_answers.h"

#include <algorithm>
#include <map>
#include <stdexcept>

#include "batch/plan.h"
#include "model/output_line.h"

namespace penstock {
namespace {

constexpr std::size_t kReadSize = 4 << 20;

}  // namespace

KeptAnswers::KeptAnswers(std::unique_ptr<BlobReader> output, const BlobReader& plan) : output_(std::move(output)) {
  constexpr std::uint32_t kEntriesAtOnce = 4096;
  const std::uint32_t size = span_lines(plan_size(plan));
  span_of_.resize(plan_size(plan));
  for (std::uint32_t first = 0; first < plan_size(plan); first += kEntriesAtOnce) {
    std::uint32_t place = first;
    for (const PlanEntry& entry : read_plan(plan, first, std::min(kEntriesAtOnce, plan_size(plan) - first))) {
      span_of_.at(entry.index) = place++ / size;
    }
  }
}

std::vector<ResultGroup> KeptAnswers::next() {
  std::map<std::uint32_t, ResultGroup> groups;  // by span
  // More is read while not one whole line is there.
  for (std::size_t wanted = kReadSize; groups.empty() && offset_ < output_->size(); wanted += kReadSize) {
    buffer_.clear();
    output_->read_at(offset_, wanted, buffer_);
    std::string_view rest = buffer_;
    for (auto end = rest.find('\n'); end != std::string_view::npos; end = rest.find('\n')) {
      const std::string_view line = rest.substr(0, end + 1);
      rest.remove_prefix(line.size());
      const auto index = output_line_index(line);
      if (!index || *index >= span_of_.size()) throw std::runtime_error("an output file has a line that is not ours");
      ResultGroup& group = groups[span_of_[*index]];
      group.span.number = span_of_[*index];
      group.entries.push_back({*index, static_cast<std::uint32_t>(line.size()), false});
      group.lines += line;
    }
    if (groups.empty() && offset_ + buffer_.size() >= output_->size()) {
      throw std::runtime_error("an output file ends within a line");
    }
    offset_ += buffer_.size() - rest.size();
  }
  std::vector<ResultGroup> made;
  for (auto& [span, group] : groups) made.push_back(std::move(group));
  return made;
}

}  // namespace penstock
