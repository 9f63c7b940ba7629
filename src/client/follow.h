#pragma once
#include "client/session.h"

namespace penstock {

// Follows a batch until it has ended, shows how far it is, and returns what exit_code_of() says of it. Where an output
// is named, brings its files. `input`: what its input is called, for its faults.
Task<int> follow_batch(Session& session, std::string id, std::string input, const ClientOptions& options);

// Prints the id of a batch that was made, and follows it where that is asked for. `input`: empty, where nobody knows.
Task<int> tell_new_batch(Session& session, json::object made, std::string input, const ClientOptions& options);

}  // namespace penstock
