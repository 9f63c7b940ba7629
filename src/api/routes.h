#pragma once
#include "api/handlers.h"

namespace penstock {

// Answers one request: finds the route, runs its handler, and turns whatever goes wrong into an answer. The one place
// where an exception of a handler is caught. Loop thread; `services` outlives it.
Task<Response> dispatch(Services& services, Request& request);

// The same of a request that could not be read.
Response refuse(const HttpError& error);

// What is served, for the description to be compared with. In a path, {id} stands for what the client names.
struct RouteName {
  std::string_view method, path;
};
std::vector<RouteName> route_names();

}  // namespace penstock
