#include "model/answer_text.h"

#include <fmt/format.h>

#include "model/line_parser.h"
#include "model/output_line.h"
#include "model/strict_json.h"

namespace penstock {
namespace {

using simdjson::dom::element;

std::string text_at(element value, const char* pointer) {
  std::string_view text;
  return value.at_pointer(pointer).get(text) ? std::string() : std::string(text);
}

// "message (code)", or as much of it as there is.
std::string error_text(element error) {
  const std::string message = text_at(error, "/message"), code = text_at(error, "/code");
  if (message.empty()) return code;
  return code.empty() ? message : fmt::format("{} ({})", message, code);
}

// All texts of an answer of /v1/responses.
std::optional<std::string> response_text(element body) {
  simdjson::dom::array output, content;
  if (body["output"].get(output)) return std::nullopt;
  std::optional<std::string> all;
  for (const element item : output) {
    if (item["content"].get(content)) continue;
    for (const element part : content) {
      std::string_view text;
      if (!part["text"].get(text)) all = all.value_or("").append(text);
    }
  }
  return all;
}

std::optional<std::string> answer_text(element body) {
  for (const char* pointer : {"/choices/0/message/content", "/choices/0/text"}) {
    std::string_view text;
    if (!body.at_pointer(pointer).get(text)) return std::string(text);
  }
  return response_text(body);
}

// Where an answer that is no text has its JSON.
const char* answer_pointer(element body) {
  for (const char* pointer : {"/choices/0/message/tool_calls", "/data/0/embedding"}) {
    element found;
    if (!body.at_pointer(pointer).get(found) && !found.is_null()) return pointer;
  }
  return "";
}

}  // namespace

struct AnswerTextParser::Impl {
  StrictJson strict;
  simdjson::ondemand::parser lazy;
  AnswerParser answers;
  std::string line;

  // The bytes of a value of the line, which was parsed strictly before.
  std::string bytes_at(const std::string& pointer) {
    auto document = lazy.iterate(line.data(), line.size(), line.size() + simdjson::SIMDJSON_PADDING);
    simdjson::ondemand::value value = document.at_pointer(pointer);
    return std::string(std::string_view(simdjson::to_json_string(value)));
  }
};

AnswerTextParser::AnswerTextParser() : impl_(std::make_unique<Impl>()) {}
AnswerTextParser::~AnswerTextParser() = default;

std::optional<AnswerText> AnswerTextParser::read(std::string_view line) {
  impl_->line.reserve(line.size() + kLinePadding);
  impl_->line = line;
  element root, response, error;
  std::string_view custom_id;
  if (!impl_->strict.parse(impl_->line, root) || root["custom_id"].get(custom_id) || root["response"].get(response) ||
      root["error"].get(error)) {
    return std::nullopt;
  }
  AnswerText said;
  said.custom_id = custom_id;
  said.index = output_line_index(line);
  if (!error.is_null() || response.is_null()) {
    said.error = error_text(error);
    if (said.error.empty()) said.error = "there is no answer";
    return said;
  }
  std::int64_t status = 0;
  element body;
  if (response["status_code"].get(status) || response["body"].get(body)) return std::nullopt;
  constexpr std::int64_t kFailing = 400;
  if (status >= kFailing) {
    element its_error;
    said.error = error_text(body["error"].get(its_error) ? body : its_error);
    if (said.error.empty()) said.error = fmt::format("status {}", status);
    return said;
  }
  if (const auto usage = impl_->answers.check(impl_->bytes_at("/response/body"))) said.usage = *usage;
  said.finish_reason = text_at(body, "/choices/0/finish_reason");
  if (said.finish_reason.empty()) said.finish_reason = text_at(body, "/incomplete_details/reason");
  if (said.finish_reason.empty()) said.finish_reason = text_at(body, "/status");
  if (auto text = answer_text(body)) {
    said.answer = std::move(*text);
  } else {
    said.answer = impl_->bytes_at(std::string("/response/body") + answer_pointer(body));
    said.is_json = true;
  }
  return said;
}

}  // namespace penstock
