// An input file and its check. Input: the endpoint in the first line; then the limit of requests (one digit, 0: none)
// and behind it the one model that is served (empty: any); then the sizes of the pieces; then the file.
#include <fmt/core.h>

#include <boost/json.hpp>
#include <cstring>
#include <memory>

#include "batch/validate.h"
#include "fuzz.h"

// The seed of the hashes is secret, but here it is known, so that an input always takes the same way.
extern "C" ssize_t getrandom(void* bytes, size_t size, unsigned) {
  std::memset(bytes, 1, size);
  return static_cast<ssize_t>(size);
}

namespace penstock {
namespace {

namespace json = boost::json;

Validated validate(const ValidationRules& rules, std::string_view file, std::string_view sizes) {
  Validator validator(rules);
  Cutter cutter(file, sizes);
  while (true) {
    const std::string_view piece = cutter.next();
    if (piece.empty()) return validator.finish();
    validator.feed(piece);
  }
}

std::string to_text(const Validated& result) {
  std::string all = fmt::format("{} {}\n", result.model, result.error_total);
  for (const PlanEntry& e : result.entries) all += fmt::format("{} {} {}\n", e.offset, e.length, e.index);
  for (const LineError& e : result.errors) {
    all += fmt::format("{} {} {} {}\n", e.line.value_or(0), e.code, e.param.value_or("-"), e.message);
  }
  return all;
}

json::value parse(std::string_view text, boost::system::error_code& failure) {
  json::parse_options options;
  options.max_depth = 128;
  return json::parse(text, failure, {}, options);
}

std::string rewritten(std::string_view text) {
  boost::system::error_code failure;
  const json::value value = parse(text, failure);
  require(!failure, "this is JSON in UTF-8");
  return json::serialize(value);
}

// The code of what is wrong with one request, empty when it is good: the rules of validation once more, for another
// parser.
std::string fault_of(const json::value& line, std::string_view endpoint) {
  if (!line.is_object()) return "invalid_request";
  const auto get = [](const json::value& object, std::string_view name) {
    const json::value* found = object.as_object().if_contains(name);
    return found ? *found : json::value();
  };
  const json::value body = get(line, "body");
  for (const char* name : {"custom_id", "method", "url", "body"}) {
    if (get(line, name).is_null()) return "missing_required_parameter";
  }
  for (const char* name : {"custom_id", "method", "url"}) {
    if (!get(line, name).is_string()) return "invalid_type";
  }
  if (!body.is_object()) return "invalid_type";
  if (get(line, "method").as_string() != "POST") return "invalid_method";
  if (get(line, "url").as_string() != endpoint) return "invalid_url";
  if (get(body, "stream") == json::value(true)) return "streaming_unsupported";
  if (get(body, "model").is_null()) return "invalid_request";
  if (!get(body, "model").is_string()) return "invalid_type";
  if (get(body, "model").as_string().empty()) return "invalid_request";
  const char* const required = endpoint == "/v1/chat/completions" ? "messages"
                               : endpoint == "/v1/completions"    ? "prompt"
                                                                  : "input";
  return get(body, required).is_null() ? "invalid_request" : "";
}

// What dispatch takes out of a good line is what the line says, and stands in it.
void check_cut(std::string_view line, const json::value& value, std::string_view endpoint) {
  // Its padding would end the line's strings, if anybody looked at it.
  const auto copy = std::make_unique<char[]>(line.size() + kLinePadding);
  std::memset(std::copy(line.begin(), line.end(), copy.get()), '"', kLinePadding);
  const std::string_view text(copy.get(), line.size());
  const auto stands_in_line = [&](std::string_view part) {
    return part.data() >= text.data() && part.data() + part.size() <= text.data() + text.size();
  };
  static LineParser parser;
  require(parser.url(text) == endpoint, "the url of a good line is the endpoint");
  const LineParts parts = parser.cut(text);
  require(stands_in_line(parts.custom_id_json) && stands_in_line(parts.body), "the parts are bytes of the line");
  require(rewritten(parts.custom_id_json) == json::serialize(value.at("custom_id")), "the custom_id is the line's");
  require(rewritten(parts.body) == json::serialize(value.at("body")), "the body is the line's");
}

// Of an embedding: an array of texts or of arrays of tokens has as many as it has elements.
std::int64_t input_count(const json::value& input) {
  const bool several = input.is_array() && (input.as_array().empty() || !input.as_array()[0].is_number());
  return several ? static_cast<std::int64_t>(input.as_array().size()) : 1;
}

// The errors of a file as "line code;". Nothing when the parsers cannot be compared: one forgets repeated keys, they
// differ in the largest exponents, and in whether an empty array is a level of nesting.
std::optional<std::string> expected_errors(std::string_view file, const ValidationRules& rules,
                                           const Validated& result) {
  std::string errors;
  std::set<std::string, std::less<>> seen;
  std::optional<std::string> model;
  std::string endpoint = rules.endpoint;
  std::int64_t requests = 0, inputs = 0;
  if (file.starts_with("\xEF\xBB\xBF")) file.remove_prefix(3);
  for (std::int64_t number = 1; !file.empty(); ++number) {
    const std::string_view line = take_line(file);
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    if (++requests > rules.lines_max && rules.lines_max > 0) continue;
    const bool repeats = std::any_of(result.errors.begin(), result.errors.end(), [&](const LineError& e) {
      return e.line == number && e.message.find("stands twice") != std::string::npos;
    });
    boost::system::error_code failure;
    const json::value value = parse(line, failure);
    if (repeats || failure == json::error::exponent_overflow || failure == json::error::too_deep) return std::nullopt;

    if (endpoint.empty() && !failure && value.is_object()) {
      const json::value* url = value.as_object().if_contains("url");
      if (url && url->is_string() && endpoints().contains(std::string_view(url->as_string())))
        endpoint = url->as_string();
    }
    std::string fault = failure ? "invalid_json_line" : fault_of(value, endpoint);
    if (fault.empty()) {
      check_cut(line, value, endpoint);
      if (endpoint == "/v1/embeddings") inputs += input_count(value.at("body").at("input"));
      const std::string asked(value.at("body").at("model").as_string());
      if (!seen.emplace(value.at("custom_id").as_string()).second) {
        fault = "duplicate_custom_id";
      } else if (model) {
        if (asked != model) fault = "mismatched_model";
      } else if (rules.models && !rules.models->contains(asked)) {
        fault = "model_not_found";
      } else {
        model = asked;
      }
    }
    if (!fault.empty()) errors += fmt::format("{} {};", number, fault);
  }
  if (requests == 0) errors += "0 empty_file;";
  if (rules.lines_max > 0 && (requests > rules.lines_max || inputs > rules.lines_max)) errors += "0 too_many_tasks;";
  return errors;
}

void check_result(const Validated& result, std::string_view file) {
  require(result.entries.empty() == (result.error_total > 0), "a file has a plan or errors");
  std::vector<PlanEntry> entries = result.entries;
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.index < b.index; });
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const PlanEntry& e = entries[i];
    require(e.index == i && (i == 0 || e.offset > entries[i - 1].offset), "each request has one entry");
    require(e.offset + e.length <= file.size(), "an entry is a line of the file");
    require(e.offset == 0 || file[e.offset - 1] == '\n' || e.offset == 3, "an entry begins where a line does");
    require(file.find('\n', e.offset) == e.offset + e.length || e.offset + e.length == file.size(), "and ends there");
  }
  const auto kept = std::min<std::size_t>(static_cast<std::size_t>(result.error_total), kErrorsKept);
  require(result.errors.size() == kept, "the first 100 errors are kept");
  std::int64_t before = 0;
  for (const LineError& e : result.errors) {
    require(e.line.value_or(before + 1) > before, "errors are in the order of lines");
    if (e.line) before = *e.line;
    rewritten(json::serialize(json::value(e.message)));  // so it is UTF-8
  }
}

}  // namespace
}  // namespace penstock

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  using namespace penstock;
  std::string_view file(reinterpret_cast<const char*>(data), size);
  ValidationRules rules{.endpoint = std::string(take_line(file)), .models = {}};
  const std::string_view limits = take_line(file), sizes = take_line(file);
  rules.lines_max = limits.empty() || limits[0] < '0' || limits[0] > '9' ? 0 : limits[0] - '0';
  if (limits.size() > 1) rules.models = {std::string(limits.substr(1))};

  const Validated whole = validate(rules, file, "");
  require(to_text(whole) == to_text(validate(rules, file, sizes)), "the pieces do not matter");
  check_result(whole, file);
  if (whole.error_total > static_cast<std::int64_t>(kErrorsKept)) return 0;
  std::string errors;
  for (const LineError& e : whole.errors) errors += fmt::format("{} {};", e.line.value_or(0), e.code);
  require(errors == expected_errors(file, rules, whole).value_or(errors), "another parser finds the same errors");
  return 0;
}
