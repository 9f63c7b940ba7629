#include "batch/line_loader.h"

#include <algorithm>
#include <stdexcept>

#include "batch/answer_lengths.h"
#include "batch/plan.h"

namespace penstock {
namespace {

constexpr std::size_t kWindowBytes = 1 << 20;      // read at once, unless one line is longer
constexpr std::size_t kWindowBytesMin = 64 << 10;  // however many share
constexpr std::size_t kGapBytes = 4096;            // read over rather than around

}  // namespace

std::shared_ptr<const InputFiles> LineLoader::files(const FileId& id) {
  std::erase_if(open_, [](const auto& item) { return item.second.expired(); });
  std::shared_ptr<const InputFiles> files = open_[id].lock();
  if (files) return files;
  files = std::make_shared<const InputFiles>(InputFiles{blobs_.open(plan_key(id)), blobs_.open(id.value)});
  if (!files->plan || !files->input) throw std::runtime_error("the input file or the plan of a running batch is gone");
  open_[id] = files;
  return files;
}

void LineLoader::open(Stretch& stretch) {
  HeldSpan& span = *stretch.span;
  stretch.entries = read_plan(*span.files->plan, stretch.first, stretch.count);
  std::erase_if(stretch.entries, [&](const PlanEntry& entry) {
    return std::binary_search(span.finished.begin(), span.finished.end(), entry.index);
  });
  stretch.opened = true;
}

// Reads neighbours in the file with one read.
std::vector<Line> LineLoader::load(Stretch& stretch, std::size_t sharers) {
  const std::size_t window_bytes = std::max(kWindowBytes / sharers, kWindowBytesMin);
  HeldSpan& span = *stretch.span;
  if (!span.files) span.files = files(span.claim.input_file_id);
  if (!stretch.opened) open(stretch);
  std::vector<Line> lines;
  std::string window;
  const auto& entries = stretch.entries;
  std::size_t loaded = 0, next = stretch.next;
  while (next < entries.size() && loaded < window_bytes) {
    const std::size_t first = next;
    std::uint64_t end = entries[first].offset + entries[first].length;
    std::size_t last = first + 1;
    while (last < entries.size() && entries[last].offset >= end && entries[last].offset - end <= kGapBytes &&
           entries[last].offset + entries[last].length - entries[first].offset <= window_bytes) {
      end = entries[last].offset + entries[last].length;
      ++last;
    }
    const std::size_t size = end - entries[first].offset;
    window.clear();
    window.reserve(size + kLinePadding);
    try {
      span.files->input->read_at(entries[first].offset, size, window);
    } catch (...) {
      open_.erase(span.claim.input_file_id);  // it may have been written anew
      span.files.reset();
      throw;
    }
    if (window.size() != size) throw std::runtime_error("the input file is shorter than its plan says");
    for (; next < last; ++next) {
      const PlanEntry& entry = entries[next];
      const std::string_view text(window.data() + (entry.offset - entries[first].offset), entry.length);
      const LineParts parts = parser_.cut(text);
      lines.push_back({.span = stretch.span,
                       .index = entry.index,
                       .bytes = entry.length,
                       .custom_id_json = std::string(parts.custom_id_json),
                       .body = std::string(parts.body),
                       .output_max = output_tokens_max(parts.body)});
      const ClaimedSpan& claim = stretch.span->claim;
      if (claim.dedupe) lines.back().answer_key = keys_.key(claim.endpoint, parts.body);
      if (groups_embeddings_ && claim.endpoint == "/v1/embeddings") lines.back().input = single_input(parts.body);
    }
    loaded += size;
  }
  stretch.next = next;  // only now: a read that failed is done again
  return lines;
}

}  // namespace penstock
