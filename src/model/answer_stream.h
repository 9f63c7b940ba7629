#pragma once
#include <optional>
#include <string>
#include <string_view>

// Answers that are asked for as a stream of server-sent events, so that bytes flow while an engine works on them, and
// that are put together again. Pure.
namespace penstock {

// Whether an endpoint can answer in a stream.
bool can_stream(std::string_view endpoint);

// The same request for a stream that ends with the usage: `body` is an object that LineParser::check() accepted, and
// all of its bytes stay but the values of `stream` and `stream_options`.
std::string asking_to_stream(std::string_view endpoint, std::string_view body);

struct StreamedAnswer {
  int status = 200;
  std::string body;  // one JSON object
};

// What a stream with status 200 says in the end: the object that the engine would have answered without one, or the
// error that ended it, with its status. Nothing when it ended before it was complete, or is no such stream.
//
// Chat and completions: chunks whose choices carry pieces (OpenAI's API reference, "chat.completion.chunk"). Choices
// are told apart by `index`; their strings, lists and objects are put together, whatever their names, and of what is
// said several times the last counts. Responses: the event that ends it has the whole object.
std::optional<StreamedAnswer> whole_answer(std::string_view events);

}  // namespace penstock
