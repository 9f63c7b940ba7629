#pragma once
#include "client/json_view.h"
#include "client/terminal.h"

// What a server tells of itself, as tables and as a view for a terminal.
namespace penstock {

// Of the lists of /v1/engines and /v1/workers; the first row is the heads.
std::vector<std::vector<std::string>> engine_rows(const json::object& engines);
std::vector<std::vector<std::string>> worker_rows(const json::object& workers);

// The newest of each that a server has told.
struct SystemView {
  std::string url;
  std::string trouble;                   // why nothing newer comes; empty: it does
  json::object queue, engines, workers;  // their lists
  json::object point;                    // the newest of /v1/stats
  std::int64_t step = 5;                 // seconds that it is over
  bool all = true;                       // whether we may see the last three
};

// Line by line, so that they fit into so many rows. Those that are left out are counted.
std::vector<FullScreen::Line> system_lines(const SystemView& view, std::size_t rows_max);

}  // namespace penstock
