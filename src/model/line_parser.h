#pragma once
#include <boost/system/result.hpp>
#include <memory>
#include <set>
#include <span>
#include <string_view>

#include "model/types.h"

namespace penstock {

// Every line given to a parser must be followed by this many readable bytes.
constexpr std::size_t kLinePadding = 64;

// The endpoints that lines may be for.
const std::set<std::string, std::less<>>& endpoints();

// A 128-bit hash; two custom_ids that differ collide with probability 2^-128 a pair, and the seed is secret.
struct Hash128 {
  std::uint64_t low, high;
  auto operator<=>(const Hash128&) const = default;
};

// What validation keeps of a good line. Views are valid until the parser's next call.
struct LineFacts {
  Hash128 custom_id_hash;      // of the unescaped characters
  std::string_view custom_id;  // unescaped
  std::string_view model;
  std::int64_t inputs = 1;  // texts to embed, of a line for /v1/embeddings
};

// What dispatch needs of a good line: bytes of the line itself, as the client wrote them.
struct LineParts {
  std::string_view custom_id_json;  // with its quotes
  std::string_view body;
};

// One line of an input file, {"custom_id", "method", "url", "body"} (the Batch guide of OpenAI). One thread; keep it,
// since its buffers are reused.
class LineParser {
 public:
  LineParser();
  ~LineParser();

  // Strict check against the rules of the input file; the error has no line number yet.
  boost::system::result<LineFacts, LineError> check(std::string_view line, std::string_view endpoint);

  // The strings of the prompt of the line that check() accepted last, in their order; none for /v1/embeddings. Valid
  // until the next call.
  std::span<const std::string_view> prompt() const;

  // The url that a line names; empty when it names none or is no JSON. Valid until the next call.
  std::string_view url(std::string_view line);

  // Cuts a line that check() has accepted. Throws std::runtime_error when it is not one (the file was changed).
  LineParts cut(std::string_view line);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Reads an engine's answer. One thread; keep it.
class AnswerParser {
 public:
  AnswerParser();
  ~AnswerParser();

  // The tokens it says it used (zeros where it says nothing), or nothing when the text is not one JSON object.
  std::optional<Usage> check(const std::string& body);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace penstock
