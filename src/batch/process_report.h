#pragma once
#include <boost/json/fwd.hpp>
#include <string>
#include <vector>

#include "model/types.h"

namespace penstock {

// A process of those that share a database, and its engines, as people are shown them. Values.
struct ProcessReport {
  struct Engine {
    std::string name;
    bool is_managed = false, is_shared = false;
    std::vector<std::string> models;
    std::string state, reason;  // as on the wire; reason: empty when nothing is wrong
    std::int64_t slots = 0, slots_busy = 0;
    std::int64_t waiting = 0;  // lines that the process holds for its models and has not sent yet
    std::int64_t lines = 0;    // answered since the start
    double lines_per_second = 0, tokens_per_second = 0;
  };

  // Of its row.
  std::string id;
  bool is_worker = false;
  Timestamp last_seen_at{};
  // What it says itself.
  std::string host, version;
  std::int64_t pid = 0;
  Timestamp started_at{};
  bool is_draining = false, is_disk_low = false;
  std::int64_t lines = 0, failed = 0;  // saved since the start; failed is part of lines
  Usage usage;                         // of these
  std::vector<Engine> engines;
};

// What it says itself, and back: what cannot be read, of another version perhaps, is left out.
boost::json::object to_json(const ProcessReport& report);
void read(const boost::json::value& said, ProcessReport& report);

}  // namespace penstock
