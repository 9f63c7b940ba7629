#include "batch/assemble.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <system_error>

#include "batch/plan.h"
#include "model/line_parser.h"
#include "model/output_line.h"

namespace penstock {
namespace {

constexpr std::size_t kBufferSize = 256 << 10;
constexpr std::int64_t kOutputExpiresAfterSeconds = 30 * 86'400;

std::system_error failed(const char* what) {
  return {errno, std::generic_category(), what};
}

FileId file_id(const BatchId& id, std::string_view what) {
  return {fmt::format("file-{}-{}", std::string_view(id.value).substr(id.value.find('_') + 1), what)};
}

}  // namespace

FileId output_file_id(const BatchId& id) {
  return file_id(id, "output");
}
FileId error_file_id(const BatchId& id) {
  return file_id(id, "error");
}

// One of the two files, made when its first line comes.
struct Assembler::Sink {
  void append(BlobStore& blobs, std::string_view line) {
    if (!writer) writer = blobs.create(id.value);
    buffer += line;
    ++lines;
    if (buffer.size() >= kBufferSize) flush();
  }
  void flush() {
    writer->write(buffer);
    buffer.clear();
  }
  std::optional<File> commit(const Batch& batch, std::string_view what, Timestamp now) {
    if (!writer) return std::nullopt;
    flush();
    writer->commit();
    const auto after = std::chrono::seconds(batch.output_expires_after_seconds.value_or(kOutputExpiresAfterSeconds));
    return File{.id = id,
                .filename = fmt::format("{}_{}.jsonl", batch.id.value, what),
                .purpose = "batch_output",
                .bytes = writer->size(),
                .created_at = now,
                .expires_at = now + after,
                .project = batch.project};
  }

  FileId id;
  std::unique_ptr<BlobWriter> writer = nullptr;
  std::string buffer = {};
  std::int64_t lines = 0;
};

Assembler::Assembler(BlobStore& blobs, const Batch& batch, const std::string& scratch_directory)
    : blobs_(blobs), batch_(batch) {
  const auto total = static_cast<std::size_t>(batch.counts.total);
  offsets_.resize(total);
  lengths_.resize(total);
  failed_.resize(total);
  missing_.resize(total);
  spool_ = ::open(scratch_directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (spool_ < 0) throw failed("cannot make a scratch file in the data directory");
}

Assembler::~Assembler() {
  ::close(spool_);
}

void Assembler::add(const ResultGroup& group) {
  // In the order of the input, so that neighbours can be read back together.
  std::vector<std::pair<ResultEntry, std::size_t>> places;
  std::size_t at = 0;
  for (const ResultEntry& entry : group.entries) {
    places.emplace_back(entry, at);
    at += entry.length;
  }
  std::sort(places.begin(), places.end(), [](const auto& a, const auto& b) { return a.first.index < b.first.index; });
  buffer_.clear();
  for (const auto& [entry, from] : places) {
    offsets_.at(entry.index) = spooled_ + buffer_.size();
    lengths_[entry.index] = entry.length;
    failed_[entry.index] = entry.failed;
    buffer_.append(group.lines, from, entry.length);
  }
  for (std::string_view rest = buffer_; !rest.empty();) {
    const auto n = ::write(spool_, rest.data(), rest.size());
    if (n < 0) throw failed("cannot write a scratch file in the data directory");
    rest.remove_prefix(static_cast<std::size_t>(n));
  }
  spooled_ += buffer_.size();
}

void Assembler::find_missing_lines() {
  if (std::find(lengths_.begin(), lengths_.end(), 0) == lengths_.end()) return;
  const auto plan = blobs_.open(plan_key(batch_.input_file_id));
  if (!plan) throw std::runtime_error("the plan of an unfinished batch is gone");
  constexpr std::uint32_t kEntriesAtOnce = 4096;
  for (std::uint32_t first = 0; first < plan_size(*plan); first += kEntriesAtOnce) {
    for (const PlanEntry& entry : read_plan(*plan, first, std::min(kEntriesAtOnce, plan_size(*plan) - first))) {
      if (lengths_.at(entry.index) != 0) continue;
      offsets_[entry.index] = entry.offset;
      lengths_[entry.index] = entry.length;
      missing_[entry.index] = true;
    }
  }
}

Assembler::Assembled Assembler::finish(const Missing& missing, Timestamp now) {
  find_missing_lines();
  Sink output{.id = output_file_id(batch_.id)}, errors{.id = error_file_id(batch_.id)};
  std::unique_ptr<BlobReader> input;
  LineParser parser;
  LineOutcome not_run;
  not_run.failed = true;
  not_run.error_code = missing.code;
  not_run.error_message = missing.message;
  std::string line;
  for (std::uint32_t i = 0; i < lengths_.size();) {
    if (missing_[i]) {
      if (!input) input = blobs_.open(batch_.input_file_id.value);
      if (!input) throw std::runtime_error("the input file of an unfinished batch is gone");
      buffer_.clear();
      buffer_.reserve(lengths_[i] + kLinePadding);
      input->read_at(offsets_[i], lengths_[i], buffer_);
      line.clear();
      append_output_line(line, batch_.id, i, parser.cut(buffer_).custom_id_json, not_run);
      errors.append(blobs_, line);
      ++i;
      continue;
    }
    // Lines that lie behind each other in the spool are read together.
    std::uint32_t end = i + 1;
    std::uint64_t size = lengths_[i];
    while (end < lengths_.size() && !missing_[end] && offsets_[end] == offsets_[i] + size &&
           size + lengths_[end] <= kBufferSize) {
      size += lengths_[end++];
    }
    line.resize(size);
    if (::pread(spool_, line.data(), size, static_cast<off_t>(offsets_[i])) != static_cast<ssize_t>(size)) {
      throw failed("cannot read a scratch file in the data directory");
    }
    for (std::string_view rest = line; i < end; ++i) {
      (failed_[i] ? errors : output).append(blobs_, rest.substr(0, lengths_[i]));
      rest.remove_prefix(lengths_[i]);
    }
  }
  Assembled assembled;
  assembled.output = output.commit(batch_, "output", now);
  assembled.errors = errors.commit(batch_, "error", now);
  assembled.counts = {.total = batch_.counts.total, .completed = output.lines, .failed = errors.lines};
  return assembled;
}

}  // namespace penstock
