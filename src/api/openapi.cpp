#include "api/handlers.h"

namespace penstock {

extern const std::string_view kOpenapi;  // openapi.json, put into the program by CMake

Task<Response> get_openapi(Context&) {
  co_return json_response(std::string(kOpenapi));
}

}  // namespace penstock
