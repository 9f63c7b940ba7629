#pragma once
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "blob/blob_store.h"
#include "model/line_parser.h"

// Single lines out of the files of a batch, for people to look at. Functions block; one thread at a time.
namespace penstock {

// The unescaped characters of a custom_id.
std::string custom_id_of(std::string_view custom_id_json);

// An output or error file, whose lines are in the order of their requests.
class ResultLines {
 public:
  explicit ResultLines(std::unique_ptr<BlobReader> file);

  // Goes to the first line of a request from that one on; reads little of what is before.
  void seek(std::uint32_t index);
  // The request whose line it is at; nothing at the end. Lines that are none of ours are passed over.
  std::optional<std::uint32_t> index() const { return index_; }
  // Where that line begins in the file.
  std::uint64_t offset() const { return begin_; }
  // That line, with its newline; valid until the next call.
  std::string_view line() const { return line_; }
  void next();

 private:
  // Puts the line that begins there into line_; false at the end.
  bool read(std::uint64_t begin);

  std::unique_ptr<BlobReader> file_;
  std::uint64_t begin_ = 0;   // of line_
  std::uint64_t window_ = 0;  // where buffer_ begins
  std::string buffer_;
  std::string_view line_;
  std::optional<std::uint32_t> index_;
};

// The requests of an input file.
class RequestLines {
 public:
  // Null of a file that is gone, or was never found to be good.
  static std::unique_ptr<RequestLines> open(const BlobStore& blobs, const FileId& input);

  std::uint32_t size() const;

  struct Place {
    PlanEntry entry;
    std::uint32_t position = 0;  // in the plan
  };
  // By their indices. Reads the whole plan.
  std::map<std::uint32_t, Place> places(const std::set<std::uint32_t>& indices) const;
  // A request as the client wrote it; valid until the next call.
  LineParts read(const PlanEntry& entry);

  // Requests from `from` on whose custom_id contains `text`, and of which `wanted` is true, up to `count` of them, in
  // the first kSearchBytes of these. `from` is behind what was looked through then.
  static constexpr std::size_t kSearchBytes = 64 << 20;
  std::vector<std::uint32_t> search(std::uint32_t& from, const std::string& text, std::size_t count,
                                    const std::function<bool(std::uint32_t)>& wanted);

 private:
  RequestLines(std::unique_ptr<BlobReader> plan, std::unique_ptr<BlobReader> input)
      : plan_(std::move(plan)), input_(std::move(input)) {}

  std::unique_ptr<BlobReader> plan_, input_;
  std::string line_;
  LineParser parser_;
};

}  // namespace penstock
