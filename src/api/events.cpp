#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/algorithm/string/split.hpp>

#include "api/monitor.h"
#include "api/views.h"

namespace penstock {
namespace {

constexpr Millis kPeriod{1'000};       // what changes may change in another process, and nobody tells us
constexpr Millis kSilenceMax{15'000};  // before a comment shows that the connection lives

struct Topic {
  std::string_view name;
  Task<Response> (*handler)(Context&);  // where its JSON comes from; null: figures over time, of which the last is told
  std::string_view query;
  Scope scope;
};
constexpr std::array kTopics = {
    Topic{"queue", get_queue, "", Scope::batches},
    Topic{"batches", list_batches, "limit=20", Scope::batches},
    Topic{"deliveries", list_deliveries, "limit=20", Scope::batches},
    Topic{"engines", list_engines, "", Scope::monitor},
    Topic{"workers", list_workers, "", Scope::monitor},
    Topic{"stats", nullptr, "", Scope::monitor},
};

class TopicsSource : public ByteSource {
 public:
  TopicsSource(Services& services, const Request& request, Principal caller, std::vector<Topic> topics)
      : services_(services), request_(request), caller_(std::move(caller)) {
    for (const Topic& topic : topics) followed_.push_back({topic, {}});
  }

  Task<std::string_view> next() override {
    while (true) {
      co_await sleep_until(services_.clock, next_look_);
      if (request_.client_gone()) throw ClientGone("who followed the events has closed the connection");
      const Moment now = services_.clock.monotonic();
      next_look_ = now + kPeriod;
      text_.clear();
      for (Followed& one : followed_) {
        std::string json = co_await now_of(one.topic);
        if (json.empty() || json == one.json) continue;
        fmt::format_to(std::back_inserter(text_), "event: {}\ndata: {}\n\n", one.topic.name, json);
        one.json = std::move(json);
      }
      if (!text_.empty()) {
        spoke_at_ = now;
        co_return text_;
      }
      if (now - spoke_at_ >= kSilenceMax) {
        spoke_at_ = now;
        co_return std::string_view(": keep-alive\n\n");
      }
    }
  }

 private:
  struct Followed {
    Topic topic;
    std::string json;  // as it was told
  };

  // Empty while nobody can tell.
  Task<std::string> now_of(Topic topic) {
    if (!topic.handler) {
      const auto& points = services_.monitor->history().fine();
      co_return points.empty() ? std::string() : to_json(std::vector<Figures>{points.back()}, History::kFine);
    }
    try {
      const Principal caller = topic.scope == Scope::monitor ? Principal{} : caller_;  // all see the same
      std::string json = co_await services_.monitor->snapshot(topic.handler, std::string(topic.query), caller);
      co_return json;
    } catch (const sql::Failure&) {  // the database is away
      co_return std::string();
    }
  }

  Services& services_;
  const Request& request_;
  const Principal caller_;
  std::vector<Followed> followed_;
  Moment next_look_{}, spoke_at_{};
  std::string text_;
};

Error unknown_topic(const std::string& name) {
  std::vector<std::string_view> names;
  for (const Topic& topic : kTopics) names.push_back(topic.name);
  return invalid_request(
      fmt::format("Invalid 'topics': there is no '{}'. Topics are: '{}'.", name, fmt::join(names, "', '")), "topics");
}

}  // namespace

Task<Response> follow_topics(Context& c) {
  std::vector<Topic> topics;
  std::vector<std::string> names;
  if (const auto asked = query_param(c.request.query, "topics")) {
    boost::algorithm::split(names, *asked, [](char one) { return one == ','; });
  } else {
    for (const Topic& topic : kTopics) {
      if (allow(c.caller.scopes, topic.scope)) topics.push_back(topic);
    }
  }
  for (const std::string& name : names) {
    const auto topic = std::find_if(kTopics.begin(), kTopics.end(), [&](const Topic& one) { return one.name == name; });
    if (topic == kTopics.end()) co_return error_response(unknown_topic(name));
    if (!allow(c.caller.scopes, topic->scope)) {
      co_return error_response({Error::Kind::forbidden,
                                fmt::format("You have insufficient permissions for the topic '{}'. Missing scopes: {}.",
                                            name, to_string(topic->scope)),
                                "missing_scope"});
    }
    const bool is_new =
        std::none_of(topics.begin(), topics.end(), [&](const Topic& one) { return one.name == topic->name; });
    if (is_new) topics.push_back(*topic);
  }
  Response response;
  response.headers.add("Content-Type", "text/event-stream");
  response.stream = std::make_unique<TopicsSource>(c.services, c.request, c.caller, std::move(topics));
  co_return response;
}

}  // namespace penstock
