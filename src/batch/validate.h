#pragma once
#include <set>

#include "batch/hash_set.h"
#include "batch/prefix_order.h"
#include "blob/blob_store.h"
#include "model/line_parser.h"

namespace penstock {

struct ValidationRules {
  std::string endpoint;                                      // empty: that of the first line
  std::int64_t lines_max = 50'000;                           // of inputs to embed, too; 0: no limit
  std::optional<std::set<std::string, std::less<>>> models;  // those that are served, when that is known
};

constexpr std::size_t kErrorsKept = 100;
// A longer line is a fault of its own: one request must fit an engine's and our memory.
constexpr std::size_t kLineSizeMax = 64 << 20;

// What the check of an input file brought: a plan, or errors.
struct Validated {
  std::vector<PlanEntry> entries;
  std::string endpoint, model;
  std::vector<LineError> errors;  // the first kErrorsKept, in line order
  std::int64_t error_total = 0;
};

// Checks an input file as its bytes come, in memory of 24 bytes a line, some 25 bytes a custom_id, and the longest
// line. Physical lines end with LF; blank ones are skipped; a UTF-8 byte order mark in front is skipped. One thread.
class Validator {
 public:
  explicit Validator(ValidationRules rules);
  void feed(std::string_view bytes);
  Validated finish();

 private:
  // A line that is good by itself. It is compared with the others only when the next one has been parsed: by then its
  // place in the set, which is seldom in the cache, has been fetched.
  struct Good {
    Hash128 custom_id_hash{};
    std::string custom_id, model;
    std::int64_t number = 0;
    std::uint64_t offset = 0;
    std::uint32_t length = 0;
  };

  void line(std::string_view text);
  void admit();  // the last good line, if that has not been done
  void fault(LineError error);

  ValidationRules rules_;
  LineParser parser_;
  HashSet seen_;
  PrefixOrder order_;
  Good last_;
  bool waiting_ = false;  // `last_` is to be admitted
  Validated result_;
  std::string carry_;         // an unfinished line
  std::uint64_t offset_ = 0;  // of the next line in the file
  std::int64_t number_ = 0;   // of the last line, from 1
  std::int64_t requests_ = 0, inputs_ = 0;
  bool oversized_ = false;  // inside a line that is too long: skip to its end
};

// The whole blob. Blocks.
Validated validate(const BlobReader& input, ValidationRules rules);

}  // namespace penstock
