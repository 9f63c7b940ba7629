#include "batch/retry.h"

#include <fmt/format.h>

#include <algorithm>

#include "model/wire.h"

namespace penstock::retry {
namespace {

LineOutcome without_response(std::string code, std::string message) {
  LineOutcome outcome;
  outcome.failed = true;
  outcome.error_code = std::move(code);
  outcome.error_message = std::move(message);
  return outcome;
}

// The engine's own refusal, as its client would have seen it. A body that is no JSON object becomes one.
LineOutcome refused(Answer&& answer, AnswerParser& parser) {
  LineOutcome outcome;
  outcome.failed = true;
  outcome.status = answer.status;
  outcome.request_id = std::move(answer.request_id);
  if (parser.check(answer.body)) {
    outcome.body = std::move(answer.body);
  } else {
    outcome.body =
        wire::to_json(Error{.kind = answer.status >= 500 ? Error::Kind::unavailable : Error::Kind::invalid_request,
                            .message = fmt::format("The engine answered {} without a JSON object.", answer.status)});
  }
  return outcome;
}

Verdict again(Reason reason, const Options& options, int attempts, double random) {
  const Millis pause = std::min(options.pause_max, options.pause_first * (1 << std::min(attempts - 1, 16)));
  return {.outcome = {}, .reason = reason, .counts = true, .pause = std::chrono::floor<Millis>(pause * random)};
}

Verdict patience(Reason reason, Sign sign, Millis hold) {
  return {.outcome = {}, .reason = reason, .counts = false, .pause = {}, .sign = sign, .hold = hold};
}

}  // namespace

Verdict judge(Answer&& answer, Past past, double random, const Options& options, AnswerParser& parser) {
  const bool last = past.attempts >= options.attempts_max;
  switch (answer.kind) {
    case Answer::Kind::unreachable:
      return patience(Reason::unreachable, Sign::none, Millis{0});
    case Answer::Kind::died:
      if (past.deaths <= options.deaths_max) return patience(Reason::engine_died, Sign::none, Millis{0});
      return {.outcome = without_response(
                  "engine_crashed",
                  fmt::format("The engine ended {} times while it worked on this request, at last on nothing else.",
                              past.deaths))};
    case Answer::Kind::too_large:
      return {.outcome = without_response("response_too_large", answer.message), .counts = true};
    case Answer::Kind::timeout:
      if (!last) return again(Reason::timeout, options, past.attempts, random);
      return {.outcome = without_response("request_timeout", answer.message), .counts = true};
    case Answer::Kind::broken:
      if (!last) return again(Reason::broken_response, options, past.attempts, random);
      return {.outcome = without_response("invalid_engine_response", answer.message), .counts = true};
    case Answer::Kind::response:
      break;
  }
  const int status = answer.status;
  if (status == 200) {
    if (std::optional<Usage> usage = parser.check(answer.body)) {
      LineOutcome outcome;
      outcome.status = status;
      outcome.request_id = std::move(answer.request_id);
      outcome.body = std::move(answer.body);
      outcome.usage = *usage;
      return {.outcome = std::move(outcome), .counts = true, .sign = Sign::good};
    }
    if (!last) return again(Reason::invalid_response, options, past.attempts, random);
    return {.outcome = without_response("invalid_engine_response", "The engine's answer is not one JSON object."),
            .counts = true};
  }
  if (status == 429 || status == 503) {
    const bool told = status == 429 || answer.retry_after.has_value();
    return patience(Reason::overloaded, told ? Sign::overloaded : Sign::none,
                    std::max(answer.retry_after.value_or(options.engine_pause), options.engine_pause_min));
  }
  if (status == 401 || status == 403) return patience(Reason::key_refused, Sign::denied, options.engine_pause_denied);
  const bool transient = status >= 500 || status == 408 || status < 400;
  if (transient && !last) return again(Reason::server_error, options, past.attempts, random);
  return {.outcome = refused(std::move(answer), parser), .counts = true, .sign = transient ? Sign::none : Sign::good};
}

}  // namespace penstock::retry
