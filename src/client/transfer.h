#pragma once
#include <filesystem>

#include "client/server.h"

namespace penstock {

// A new file for a batch, of what stands in `path`; its id. Shows how far it is on a terminal.
Task<std::string> upload(Server& server, std::string path);

// Brings a file of the server to `path`, whole or not at all. What there is of it when that is interrupted stays beside
// it, hidden, and the next one goes on there.
Task<> download(Server& server, std::string file_id, std::filesystem::path path);

}  // namespace penstock
