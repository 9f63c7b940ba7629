#include "model/embedding_group.h"

#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <charconv>
#include <optional>

namespace penstock {
namespace {

namespace ondemand = simdjson::ondemand;

std::string_view before(const EmbeddingRequest& r) {
  return r.body.substr(0, r.input.at);
}
std::string_view input(const EmbeddingRequest& r) {
  return r.body.substr(r.input.at, r.input.size);
}
std::string_view after(const EmbeddingRequest& r) {
  return r.body.substr(r.input.at + r.input.size);
}

// Members of an object, as they are written. The text must be followed by simdjson's padding.
struct Member {
  std::string key;
  std::string_view value;
};
std::vector<Member> members_of(std::string_view text) {
  ondemand::parser parser;
  ondemand::document document = parser.iterate(text.data(), text.size(), text.size() + simdjson::SIMDJSON_PADDING);
  ondemand::object object = document.get_object();
  std::vector<Member> members;
  for (auto field : object) {
    std::string key(std::string_view(field.unescaped_key()));
    ondemand::value value = field.value();
    members.push_back({std::move(key), simdjson::to_json_string(value)});
  }
  return members;
}

std::vector<std::string_view> items_of(std::string_view text) {
  ondemand::parser parser;
  ondemand::document document = parser.iterate(text.data(), text.size(), text.size() + simdjson::SIMDJSON_PADDING);
  ondemand::array array = document.get_array();
  std::vector<std::string_view> items;
  for (auto item : array) {
    ondemand::value value = item.value();
    items.push_back(simdjson::to_json_string(value));
  }
  return items;
}

std::optional<std::int64_t> count(std::string_view text) {
  constexpr std::int64_t kMax = 1'000'000'000;
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < 0 || value > kMax) return std::nullopt;
  return value;
}

// `whole`, of which some parts are written anew; they stand in it in this order.
struct Change {
  std::string_view part;
  std::string text;
};
std::string changed(std::string_view whole, std::span<const Change> changes) {
  std::string out;
  const char* from = whole.data();
  for (const auto& [part, text] : changes) {
    out.append(from, part.data()).append(text);
    from = part.data() + part.size();
  }
  return out.append(from, whole.data() + whole.size());
}

// Of each count of tokens, what falls to bytes `from` to `to` of `all`.
std::string share(std::string_view usage, std::size_t from, std::size_t to, std::size_t all) {
  std::vector<Change> changes;
  for (const auto& [key, value] : members_of(usage)) {
    const auto tokens = count(value);
    if (!tokens) continue;
    const auto up_to = [&](std::size_t at) { return static_cast<std::size_t>(*tokens) * at / all; };
    changes.push_back({value, std::to_string(up_to(to) - up_to(from))});
  }
  return changed(usage, changes);
}

// Where each vector stands in the list of an answer, and its index there; by the index. Nothing when it is not one
// vector of each index.
struct Vector {
  std::string_view text, index;
};
std::vector<Vector> vectors_of(std::string_view data, std::size_t number) {
  std::vector<Vector> vectors(number);
  const auto items = items_of(data);
  if (items.size() != number) return {};
  for (const std::string_view item : items) {
    for (const auto& [key, value] : members_of(item)) {
      if (key != "index") continue;
      const auto index = count(value);
      if (!index || static_cast<std::size_t>(*index) >= number || !vectors[*index].text.empty()) return {};
      vectors[*index] = {item, value};
    }
  }
  const bool whole = std::none_of(vectors.begin(), vectors.end(), [](const Vector& v) { return v.text.empty(); });
  return whole ? vectors : std::vector<Vector>();
}

}  // namespace

EmbeddingInput single_input(std::string_view body) {
  const simdjson::padded_string text(body);
  for (const auto& [key, value] : members_of(text)) {
    if (key != "input") continue;
    bool single = value.front() == '"';
    if (value.front() == '[') {
      const auto items = items_of(value);
      single = !items.empty() && (items.front().front() == '-' || std::isdigit(items.front().front()));
    }
    if (!single) break;
    return {static_cast<std::size_t>(value.data() - text.data()), value.size()};
  }
  return {};
}

bool can_be_grouped(const EmbeddingRequest& a, const EmbeddingRequest& b) {
  return a.input.size > 0 && b.input.size > 0 && input(a).front() == input(b).front() && before(a) == before(b) &&
         after(a) == after(b);
}

std::string grouped_body(std::span<const EmbeddingRequest> requests) {
  std::vector<std::string_view> inputs;
  for (const EmbeddingRequest& request : requests) inputs.push_back(input(request));
  return fmt::format("{}[{}]{}", before(requests.front()), fmt::join(inputs, ","), after(requests.front()));
}

std::vector<std::string> split_answer(std::string_view answer, std::span<const EmbeddingRequest> requests) try {
  const simdjson::padded_string text(answer);
  std::string_view data, usage;
  for (const auto& [key, value] : members_of(text)) {
    if (key == "data") data = value;
    if (key == "usage" && value.front() == '{') usage = value;
  }
  const auto vectors = vectors_of(data, requests.size());
  std::size_t all = 0, from = 0;
  for (const EmbeddingRequest& request : requests) all += request.input.size;
  std::vector<std::string> answers;
  for (std::size_t i = 0; i < vectors.size(); ++i) {
    const auto& [vector, index] = vectors[i];
    const std::size_t to = from + requests[i].input.size;
    std::vector<Change> changes{{data, fmt::format("[{}]", changed(vector, std::vector<Change>{{index, "0"}}))}};
    if (!usage.empty()) changes.push_back({usage, share(usage, from, to, all)});
    std::sort(changes.begin(), changes.end(),
              [](const Change& a, const Change& b) { return a.part.data() < b.part.data(); });
    answers.push_back(changed(text, changes));
    from = to;
  }
  return answers;
} catch (const simdjson::simdjson_error&) {
  return {};
}

}  // namespace penstock
