#pragma once
#include "model/types.h"

// The lines of output and error files. All four keys always stand there; `custom_id_json` and `body` are bytes of the
// client's and of the engine, spliced in unchanged.
namespace penstock {

// What happened to one line, ready to be written.
struct LineOutcome {
  bool failed = false;     // to the error file
  int status = 0;          // of the engine's response; 0: there was none, and `error_code` and `error_message` say why
  std::string request_id;  // the engine's, or empty
  std::string body;        // one JSON object
  std::string error_code, error_message;
  Usage usage;
};

// Appends one line with its newline. `id` and, where the engine gave none, `request_id` are made of batch and index, so
// that they are unique and the same however often the line is written.
void append_output_line(std::string& out, const BatchId& batch, std::uint32_t index, std::string_view custom_id_json,
                        const LineOutcome& outcome);

// The index of the request that a line made by append_output_line() answers, out of its id; nothing when it is another
// line.
std::optional<std::uint32_t> output_line_index(std::string_view line);

// The parts of such a line, as bytes of it.
struct OutputLineParts {
  std::string_view custom_id_json;
  int status = 0;  // 0: there was no response, and `error` is an object
  std::string_view request_id_json, body, error;
};
// Nothing when it is another line.
std::optional<OutputLineParts> cut_output_line(std::string_view line);

}  // namespace penstock
