#pragma once
#include "api/handlers.h"

// Handlers of projects and keys. An administrator's key sees those of all projects.
namespace penstock {

Task<Response> list_projects(Context& c);
Task<Response> create_project(Context& c);
Task<Response> get_project(Context& c);
Task<Response> update_project(Context& c);
Task<Response> archive_project(Context& c);

Task<Response> list_keys(Context& c);
Task<Response> create_key(Context& c);
Task<Response> get_key(Context& c);
Task<Response> rotate_key(Context& c);
Task<Response> revoke_key(Context& c);

}  // namespace penstock
