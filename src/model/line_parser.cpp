#include "model/line_parser.h"

#include <fmt/core.h>
#include <sys/random.h>
#include <xxhash.h>

#include <stdexcept>

#include "model/prompt.h"
#include "model/strict_json.h"

namespace penstock {
namespace {

using simdjson::dom::element;
static_assert(kLinePadding >= simdjson::SIMDJSON_PADDING);

XXH64_hash_t hash_seed() {
  static const XXH64_hash_t seed = [] {
    XXH64_hash_t random = 0;
    if (::getrandom(&random, sizeof random, 0) != sizeof random) throw std::runtime_error("no randomness");
    return random;
  }();
  return seed;
}

LineError line_error(std::string code, std::string message, std::optional<std::string> param) {
  return {.code = std::move(code), .message = std::move(message), .param = std::move(param), .line = std::nullopt};
}

LineError missing(std::string_view name) {
  return line_error("missing_required_parameter", fmt::format("Missing required parameter: '{}'.", name),
                    std::string(name));
}

LineError wrong_type(const std::string& name, std::string_view expected) {
  return line_error("invalid_type", fmt::format("Invalid type for '{}': expected {}.", name, expected), name);
}

LineError repeated(std::string_view name) {
  return line_error("invalid_request", fmt::format("The key '{}' stands twice in this object.", name),
                    std::string(name));
}

// The field of a body without which its endpoint cannot answer.
std::string_view required_field(std::string_view endpoint) {
  if (endpoint == "/v1/chat/completions") return "messages";
  if (endpoint == "/v1/completions") return "prompt";
  return "input";
}

// How many texts there are to embed: a list has one in each element, unless they are the tokens of a single one.
std::int64_t input_count(element input) {
  simdjson::dom::array list;
  if (input.get(list)) return 1;
  const bool tokens = list.begin() != list.end() && (*list.begin()).is_number();
  return tokens ? 1 : static_cast<std::int64_t>(list.size());
}

// A member of an object, if it is there. Cheaper than std::optional, which the compiler clears and copies in pieces.
struct Member {
  element value;
  bool present = false;

  bool is_null() const { return !present || value.is_null(); }
};

std::string capitalized(std::string text) {
  text[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(text[0])));
  return text;
}

}  // namespace

const std::set<std::string, std::less<>>& endpoints() {
  static const std::set<std::string, std::less<>> all{"/v1/chat/completions", "/v1/completions", "/v1/embeddings",
                                                      "/v1/responses"};
  return all;
}

struct LineParser::Impl {
  StrictJson strict;
  simdjson::ondemand::parser lazy;
  Prompt prompt;
};

LineParser::LineParser() : impl_(std::make_unique<Impl>()) {}
LineParser::~LineParser() = default;

boost::system::result<LineFacts, LineError> LineParser::check(std::string_view line, std::string_view endpoint) {
  element root;
  if (!impl_->strict.parse(line, root)) {
    return line_error("invalid_json_line", "This line is not parseable as valid JSON.", std::nullopt);
  }
  simdjson::dom::object object;
  if (root.get(object)) return line_error("invalid_request", "Each line must be a JSON object.", std::nullopt);

  // Parsers disagree on which of two equal keys counts, so a line that repeats one we or the engine act on is refused.
  constexpr std::string_view kNames[] = {"custom_id", "method", "url", "body"};
  Member values[4];
  for (auto field = object.begin(), end = object.end(); field != end; ++field) {
    const std::string_view key = field.key();
    for (int i = 0; i < 4; ++i) {
      if (key != kNames[i]) continue;
      if (values[i].present) return repeated(key);
      values[i] = {field.value(), true};
    }
  }
  for (int i = 0; i < 4; ++i) {
    if (values[i].is_null()) return missing(kNames[i]);
  }
  std::string_view custom_id, method, url;
  if (values[0].value.get(custom_id)) return wrong_type("custom_id", "a string");
  if (values[1].value.get(method)) return wrong_type("method", "a string");
  if (values[2].value.get(url)) return wrong_type("url", "a string");
  simdjson::dom::object body;
  if (values[3].value.get(body)) return wrong_type("body", "an object");
  if (method != "POST") {
    return line_error("invalid_method", "The method of each request must be POST.", "method");
  }
  if (url != endpoint) {
    return line_error("invalid_url", "The URL provided for this request does not match the batch endpoint.", "url");
  }

  const std::string_view required = required_field(endpoint);
  Member model, stream, input, tools, instructions;
  for (auto field = body.begin(), end = body.end(); field != end; ++field) {
    const std::string_view key = field.key();
    Member* const slot = key == "model"          ? &model
                         : key == "stream"       ? &stream
                         : key == required       ? &input
                         : key == "tools"        ? &tools
                         : key == "instructions" ? &instructions
                                                 : nullptr;
    if (!slot) continue;
    const bool acted_on = slot != &tools && slot != &instructions;  // those only order the plan
    if (slot->present && acted_on) return repeated(fmt::format("body.{}", key));
    *slot = {field.value(), true};
  }
  if (bool streaming = false; stream.present && !stream.value.get(streaming) && streaming) {
    const char* api = endpoint == "/v1/chat/completions" ? "Chat Completions: " : "";
    return line_error("streaming_unsupported", fmt::format("{}Streaming is not supported in the Batch API.", api),
                      "body.stream");
  }
  std::string_view model_name;
  if (!model.is_null() && model.value.get(model_name)) return wrong_type("body.model", "a string");
  if (model_name.empty()) return line_error("invalid_request", "Model parameter is required.", "body.model");
  if (input.is_null()) {
    return line_error("invalid_request", fmt::format("{} parameter is required.", capitalized(std::string(required))),
                      fmt::format("body.{}", required));
  }
  Prompt& prompt = impl_->prompt;
  prompt.clear();
  if (endpoint != "/v1/embeddings") {
    if (tools.present) prompt.append(tools.value);
    if (instructions.present) prompt.append(instructions.value);
    prompt.append(input.value);
    prompt.finish();
  }
  const XXH128_hash_t hash = XXH3_128bits_withSeed(custom_id.data(), custom_id.size(), hash_seed());
  return LineFacts{.custom_id_hash = {hash.low64, hash.high64},
                   .custom_id = custom_id,
                   .model = model_name,
                   .inputs = endpoint == "/v1/embeddings" ? input_count(input.value) : 1};
}

std::string_view LineParser::url(std::string_view line) {
  element root;
  std::string_view url;
  if (!impl_->strict.parse(line, root) || root["url"].get(url)) return {};
  return url;
}

std::span<const std::string_view> LineParser::prompt() const {
  return impl_->prompt.strings();
}

LineParts LineParser::cut(std::string_view line) {
  // The line was checked strictly before, so the lazy parser, which looks only where it is asked to, is enough here.
  LineParts parts;
  try {
    auto document = impl_->lazy.iterate(line.data(), line.size(), line.size() + simdjson::SIMDJSON_PADDING);
    simdjson::ondemand::object object = document.get_object();
    for (auto field : object) {
      const std::string_view key = field.unescaped_key();
      simdjson::ondemand::value value = field.value();
      if (key == "custom_id") {
        parts.custom_id_json = simdjson::to_json_string(value);
      } else if (key == "body") {
        parts.body = simdjson::to_json_string(value);
      }
    }
  } catch (const simdjson::simdjson_error& e) {
    throw std::runtime_error(fmt::format("a line of the input file is not what was validated: {}", e.what()));
  }
  if (parts.custom_id_json.empty() || parts.body.empty()) {
    throw std::runtime_error("a line of the input file is not what was validated");
  }
  return parts;
}

struct AnswerParser::Impl {
  StrictJson strict;
  std::string padded;
};

AnswerParser::AnswerParser() : impl_(std::make_unique<Impl>()) {}
AnswerParser::~AnswerParser() = default;

// More are no count: sums over all lines must stay numbers.
constexpr std::int64_t kTokensMax = 1'000'000'000;

std::optional<Usage> AnswerParser::check(const std::string& body) {
  std::string_view text = body;
  if (body.capacity() < body.size() + kLinePadding) {
    impl_->padded.reserve(body.size() + kLinePadding);
    impl_->padded.assign(body);
    text = impl_->padded;
  }
  element root;
  simdjson::dom::object object;
  if (!impl_->strict.parse(text, root) || root.get(object)) return std::nullopt;

  // Chat and completions say prompt_tokens and completion_tokens; responses say input_tokens and output_tokens.
  Usage usage;
  simdjson::dom::object counts;
  if (object["usage"].get(counts)) return usage;
  const auto read = [&](std::initializer_list<const char*> pointers, std::int64_t& out) {
    for (const char* pointer : pointers) {
      std::int64_t value = 0;
      if (!counts.at_pointer(pointer).get(value) && value >= 0 && value <= kTokensMax) {
        out = value;
        return;
      }
    }
  };
  read({"/prompt_tokens", "/input_tokens"}, usage.input);
  read({"/completion_tokens", "/output_tokens"}, usage.output);
  read({"/prompt_tokens_details/cached_tokens", "/input_tokens_details/cached_tokens"}, usage.cached);
  usage.cached = std::min(usage.cached, usage.input);
  read({"/completion_tokens_details/reasoning_tokens", "/output_tokens_details/reasoning_tokens"}, usage.reasoning);
  return usage;
}

}  // namespace penstock
