#pragma once
#include <filesystem>

namespace penstock {

// Makes the directory and those above it that are missing, readable by us alone. What was made outlives a power cut
// when it returns. Throws std::system_error; a file of that name is no failure here.
void make_directory(const std::filesystem::path& path);

}  // namespace penstock
