#pragma once
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "model/types.h"

namespace penstock {

// What a line of an output or error file says, for a person or a table.
struct AnswerText {
  std::string custom_id;
  std::optional<std::uint32_t> index;  // which request of the input file it answers, where the line tells
  // The text of the first choice, or of a response all of its texts; of an answer without a text its calls of tools, of
  // one for embeddings the vector, of any other the whole body: these as JSON.
  std::string answer;
  bool is_json = false;  // `answer` is
  std::string finish_reason;
  std::string error;  // for people, with its code; empty: it was answered
  Usage usage;
};

// One thread; keep it, since its buffers are reused.
class AnswerTextParser {
 public:
  AnswerTextParser();
  ~AnswerTextParser();

  // Nothing when it is not a line of such a file: of this or another server of OpenAI's Batch API.
  std::optional<AnswerText> read(std::string_view line);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace penstock
