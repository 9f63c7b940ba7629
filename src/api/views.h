#pragma once
#include "api/handlers.h"

// Handlers of what people look at, in a browser or a terminal.
namespace penstock {

Task<Response> get_page(Context& c);
Task<Response> get_whoami(Context& c);
Task<Response> list_lines(Context& c);

}  // namespace penstock
