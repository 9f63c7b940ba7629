#include "model/answer_key.h"

#include <simdjson.h>
#include <xxhash.h>

namespace penstock {

struct AnswerKeys::Impl {
  simdjson::ondemand::parser parser;

  // What cannot be read as a number is for the engine to refuse.
  bool always_answered_alike(std::string_view body) {
    simdjson::ondemand::document document;
    simdjson::ondemand::object object;
    if (parser.iterate(body.data(), body.size(), body.size() + simdjson::SIMDJSON_PADDING).get(document) ||
        document.get_object().get(object)) {
      return false;
    }
    for (auto field : object) {
      std::string_view key;
      simdjson::ondemand::value value;
      if (field.unescaped_key().get(key) || field.value().get(value)) return false;
      double temperature = 1;
      if (key == "temperature" && !value.get(temperature) && temperature == 0) return true;
      if (key == "seed" && !value.is_null()) return true;
    }
    return false;
  }
};

AnswerKeys::AnswerKeys() : impl_(std::make_unique<Impl>()) {}
AnswerKeys::~AnswerKeys() = default;

std::optional<Hash128> AnswerKeys::key(std::string_view endpoint, std::string_view body) {
  if (endpoint != "/v1/embeddings" && !impl_->always_answered_alike(body)) return std::nullopt;
  const XXH128_hash_t hash = XXH3_128bits(body.data(), body.size());
  return Hash128{hash.low64, hash.high64};
}

}  // namespace penstock
