#include "batch/comparison.h"

#include <fmt/format.h>

#include <boost/json.hpp>

#include "api/monitor.h"
#include "api/views.h"
#include "model/answer_text.h"
#include "model/json_fields.h"

namespace penstock {
namespace {

namespace json = boost::json;

constexpr std::size_t kTextMax = 64 << 10;

struct Query {
  BatchId with;
  std::string show;
  std::size_t from = 0, limit = 20;
};

Result<Query> read_query(const Request& request) {
  Query query;
  const auto with = query_param(request.query, "with");
  if (!with) return invalid_request("Missing 'with': name the batch to compare this one with.", "with");
  query.with = {*with};
  const auto limit = limit_param(request, 20, 100);
  if (!limit) return limit.error();
  query.limit = static_cast<std::size_t>(*limit);
  query.show = query_param(request.query, "show").value_or("all");
  if (query.show != "all" && query.show != "different" && query.show != "only_one") {
    return invalid_request("Invalid 'show': must be 'all', 'different' or 'only_one'.", "show");
  }
  const auto after = count_param(request, "after");
  if (!after) return after.error();
  if (*after) query.from = static_cast<std::size_t>(**after) + 1;
  return query;
}

bool is_shown(Verdict verdict, const std::string& show) {
  if (show == "different") return verdict == Verdict::different;
  return show == "all" || verdict == Verdict::only_left || verdict == Verdict::only_right;
}

std::string shortened(std::string text) {
  if (text.size() <= kTextMax) return text;
  std::size_t end = kTextMax;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  text.resize(end);
  return text;
}

// One page, as JSON. Blocks.
std::string page_of(const BlobStore& blobs, const Comparison& comparison, const Batch& left, const Batch& right,
                    const Query& query) {
  const ResultFiles lefts(blobs, left), rights(blobs, right);
  AnswerTextParser parser;
  std::string custom_id;
  const auto side = [&](const ResultFiles& files, const std::optional<Comparison::Place>& place) -> json::value {
    if (!place) return nullptr;
    const std::string line = files.line(*place);
    const auto read = parser.read(line);
    if (!read) return nullptr;  // its file was deleted just now
    custom_id = read->custom_id;
    json::object said{{"status", place->failed ? "failed" : "completed"}};
    said["text"] = shortened(read->error.empty() ? read->answer : read->error);
    said["usage"] = read->error.empty() ? json::value(wire::usage_object(read->usage)) : json::value();
    return said;
  };
  json::array items;
  std::size_t at = query.from, last = 0;
  const auto& pairs = comparison.pairs;
  for (; at < pairs.size() && items.size() < query.limit; ++at) {
    const auto& [verdict, in_left, in_right] = pairs[at];
    if (!is_shown(verdict, query.show)) continue;
    custom_id.clear();
    json::value of_left = side(lefts, in_left), of_right = side(rights, in_right);
    items.push_back({{"object", "batch.comparison"},
                     {"custom_id", custom_id},
                     {"verdict", to_string(verdict)},
                     {"left", std::move(of_left)},
                     {"right", std::move(of_right)}});
    last = at;
  }
  while (at < pairs.size() && !is_shown(pairs[at].verdict, query.show)) ++at;
  json::object totals;
  for (const auto verdict : {Verdict::same, Verdict::different, Verdict::only_left, Verdict::only_right}) {
    totals[to_string(verdict)] = comparison.totals.at(static_cast<std::size_t>(verdict));
  }
  const json::value last_id = items.empty() ? json::value() : json::value(std::to_string(last));
  return json::serialize(json::object{{"object", "list"},
                                      {"data", std::move(items)},
                                      {"totals", std::move(totals)},
                                      {"last_id", last_id},
                                      {"has_more", at < pairs.size()}});
}

}  // namespace

Task<Response> compare_batches(Context& c) {
  Services& services = c.services;
  const auto query = read_query(c.request);
  if (!query) co_return error_response(query.error());
  const auto [left, right] = co_await services.db.read([&](Store& store) {
    return std::pair(store.find_batch(c.caller.project, {c.id}), store.find_batch(c.caller.project, query->with));
  });
  if (!left) co_return error_response(no_such_batch({c.id}));
  if (!right) co_return error_response(no_such_batch(query->with, "with"));
  for (const Batch& batch : {*left, *right}) {
    if (is_terminal(batch.status)) continue;
    co_return error_response(
        {Error::Kind::conflict,
         fmt::format("The batch {} has not ended yet: batches are compared when both have.", batch.id.value)});
  }
  // Whoever turns the pages has them compared once.
  const std::pair key(left->id, right->id);
  std::shared_ptr<const Comparison> comparison = services.monitor->compared(key);
  if (!comparison || query->from == 0) {
    comparison = co_await blocking(
        services.io, [&] { return std::make_shared<const Comparison>(compare(services.blobs, *left, *right)); });
    services.monitor->set_compared(key, comparison);
  }
  co_return json_response(
      co_await blocking(services.io, [&] { return page_of(services.blobs, *comparison, *left, *right, *query); }));
}

}  // namespace penstock
