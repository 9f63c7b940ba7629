#include "batch/comparison.h"

#include <functional>
#include <unordered_map>
#include <utility>

#include "batch/lines_of_files.h"
#include "model/answer_text.h"

namespace penstock {
namespace {

struct Found {
  Comparison::Place place;
  std::size_t text = 0;  // a hash of it
};

// All lines of a batch in the order of its requests.
void for_each_line(const BlobStore& blobs, const Batch& batch,
                   const std::function<void(std::string custom_id, const Found& found)>& each) {
  std::optional<ResultLines> files[2];
  for (const bool failed : {false, true}) {
    const auto& id = failed ? batch.error_file_id : batch.output_file_id;
    auto reader = id ? blobs.open(id->value) : nullptr;
    if (!reader) continue;
    files[failed].emplace(std::move(reader));
    files[failed]->seek(0);
  }
  AnswerTextParser parser;
  while (true) {
    int next = -1;
    for (const int file : {0, 1}) {
      if (!files[file] || !files[file]->index()) continue;
      if (next < 0 || *files[file]->index() < *files[next]->index()) next = file;
    }
    if (next < 0) return;
    ResultLines& lines = *files[next];
    if (auto said = parser.read(lines.line())) {
      each(std::move(said->custom_id), {{lines.offset(), static_cast<std::uint32_t>(lines.line().size()), next == 1},
                                        std::hash<std::string>()(said->answer + said->error)});
    }
    lines.next();
  }
}

}  // namespace

std::string_view to_string(Verdict verdict) {
  switch (verdict) {
    case Verdict::same:
      return "same";
    case Verdict::different:
      return "different";
    case Verdict::only_left:
      return "only_left";
    case Verdict::only_right:
      break;
  }
  return "only_right";
}

Comparison compare(const BlobStore& blobs, const Batch& left, const Batch& right) {
  std::vector<std::optional<Found>> rights;  // without those that were found in the left one
  std::unordered_map<std::string, std::size_t> by_id;
  for_each_line(blobs, right, [&](std::string custom_id, const Found& found) {
    by_id.emplace(std::move(custom_id), rights.size());
    rights.emplace_back(found);
  });
  Comparison comparison;
  const auto add = [&](const Comparison::Pair& pair) {
    comparison.pairs.push_back(pair);
    ++comparison.totals.at(static_cast<std::size_t>(pair.verdict));
  };
  for_each_line(blobs, left, [&](const std::string& custom_id, const Found& found) {
    const auto other = by_id.find(custom_id);
    if (other == by_id.end() || !rights[other->second]) return add({Verdict::only_left, found.place, std::nullopt});
    const Found match = *std::exchange(rights[other->second], std::nullopt);
    const bool same = match.place.failed == found.place.failed && match.text == found.text;
    add({same ? Verdict::same : Verdict::different, found.place, match.place});
  });
  for (const auto& found : rights) {
    if (found) add({Verdict::only_right, std::nullopt, found->place});
  }
  return comparison;
}

ResultFiles::ResultFiles(const BlobStore& blobs, const Batch& batch)
    : output_(batch.output_file_id ? blobs.open(batch.output_file_id->value) : nullptr),
      errors_(batch.error_file_id ? blobs.open(batch.error_file_id->value) : nullptr) {}

std::string ResultFiles::line(const Comparison::Place& place) const {
  std::string line;
  if (const auto& file = place.failed ? errors_ : output_) file->read_at(place.offset, place.length, line);
  return line;
}

}  // namespace penstock
