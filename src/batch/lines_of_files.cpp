#include "batch/lines_of_files.h"

#include <algorithm>
#include <boost/json.hpp>
#include <stdexcept>

#include "batch/plan.h"
#include "model/output_line.h"

namespace penstock {
namespace {

constexpr std::size_t kReadBytes = 256 << 10;
constexpr std::uint64_t kNear = 64 << 10;  // read through rather than halved again
constexpr std::uint32_t kPlanAtOnce = 64 << 10;

}  // namespace

std::string custom_id_of(std::string_view custom_id_json) {
  if (custom_id_json.find('\\') == std::string_view::npos) {
    return std::string(custom_id_json.substr(1, custom_id_json.size() - 2));
  }
  return std::string(boost::json::parse(custom_id_json).as_string());
}

ResultLines::ResultLines(std::unique_ptr<BlobReader> file) : file_(std::move(file)) {}

bool ResultLines::read(std::uint64_t begin) {
  if (begin < window_ || begin > window_ + buffer_.size()) {
    buffer_.clear();
    window_ = begin;
  }
  std::size_t at = begin - window_;
  std::size_t end = buffer_.find('\n', at);
  while (end == std::string::npos) {
    buffer_.erase(0, at);
    window_ = begin;
    at = 0;
    const std::size_t size = buffer_.size();
    file_->read_at(window_ + size, kReadBytes, buffer_);
    if (buffer_.size() == size) break;
    end = buffer_.find('\n', size);
  }
  begin_ = begin;
  line_ = end == std::string::npos ? std::string_view() : std::string_view(buffer_).substr(at, end + 1 - at);
  return !line_.empty();
}

void ResultLines::seek(std::uint32_t index) {
  std::uint64_t begin = 0, end = file_->size();  // of a line before it, or its own; of where it begins at most
  while (end - begin > kNear) {
    const std::uint64_t middle = begin + (end - begin) / 2;
    read(middle);  // what is left of some line
    const bool found = read(begin_ + line_.size());
    const auto here = found ? output_line_index(line_) : std::nullopt;
    if (here && *here < index && begin_ < end) {
      begin = begin_;
    } else {
      end = middle;
    }
  }
  line_ = {};
  begin_ = begin;
  next();
  while (index_ && *index_ < index) next();
}

void ResultLines::next() {
  index_.reset();
  while (!index_ && read(begin_ + line_.size())) index_ = output_line_index(line_);
}

std::unique_ptr<RequestLines> RequestLines::open(const BlobStore& blobs, const FileId& input) {
  auto plan = blobs.open(plan_key(input));
  auto file = blobs.open(input.value);
  if (!plan || !file) return nullptr;
  return std::unique_ptr<RequestLines>(new RequestLines(std::move(plan), std::move(file)));
}

std::uint32_t RequestLines::size() const {
  return plan_size(*plan_);
}

std::map<std::uint32_t, RequestLines::Place> RequestLines::places(const std::set<std::uint32_t>& indices) const {
  std::map<std::uint32_t, Place> found;
  if (indices.empty()) return found;
  const std::uint32_t least = *indices.begin(), most = *indices.rbegin();
  for (std::uint32_t first = 0; first < size() && found.size() < indices.size(); first += kPlanAtOnce) {
    std::uint32_t position = first;
    for (const PlanEntry& entry : read_plan(*plan_, first, std::min(kPlanAtOnce, size() - first))) {
      if (entry.index >= least && entry.index <= most && indices.contains(entry.index)) {
        found[entry.index] = {entry, position};
      }
      ++position;
    }
  }
  return found;
}

LineParts RequestLines::read(const PlanEntry& entry) {
  line_.clear();
  line_.reserve(entry.length + kLinePadding);
  input_->read_at(entry.offset, entry.length, line_);
  return parser_.cut(line_);
}

std::vector<std::uint32_t> RequestLines::search(std::uint32_t& from, const std::string& text, std::size_t count,
                                                const std::function<bool(std::uint32_t)>& wanted) {
  std::vector<std::uint32_t> found;
  const auto place = places({from});
  if (place.empty()) return found;
  std::uint64_t offset = place.begin()->second.entry.offset;
  const std::uint64_t end = offset + kSearchBytes;
  std::string window;
  while (found.size() < count && from < size() && offset < end) {
    const std::size_t kept = window.size();
    window.reserve(kept + kReadBytes + kLinePadding);
    input_->read_at(offset, kReadBytes, window);
    offset += window.size() - kept;
    const bool is_last = window.size() == kept;
    if (is_last) window += '\n';
    std::size_t at = 0;
    for (std::size_t stop; found.size() < count && (stop = window.find('\n', at)) != std::string::npos; at = stop + 1) {
      const auto line = std::string_view(window).substr(at, stop - at);
      if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
      if (wanted(from) && custom_id_of(parser_.cut(line).custom_id_json).find(text) != std::string::npos) {
        found.push_back(from);
      }
      ++from;
    }
    window.erase(0, at);
    if (is_last) break;
  }
  return found;
}

}  // namespace penstock
