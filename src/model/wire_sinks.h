#pragma once
#include <boost/json/fwd.hpp>
#include <string>
#include <vector>

#include "base/error.h"

// The JSON of the sinks that a batch asks for.
namespace penstock::wire {

constexpr std::size_t kSinksMax = 8;

// One that the operator has configured, by its name, or else a URL.
struct NewSink {
  std::string name, url;
};

// `sinks` of POST /v1/batches.
Result<std::vector<NewSink>> read_sinks(const boost::json::value& value);
// As Batch::sinks keeps them.
std::string sinks_json(const std::vector<NewSink>& sinks);
// The same as clients say and see them.
boost::json::array shown_sinks(const std::string& sinks);

}  // namespace penstock::wire
