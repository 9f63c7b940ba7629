#pragma once
#include <filesystem>
#include <optional>
#include <string>

namespace penstock {

// The url of the first line that has one: the endpoint that all lines are then held to.
std::string input_endpoint(const std::string& path);

// Where failed lines go: the file that was named, or else beside the output.
std::filesystem::path errors_path(const std::string& output, const std::optional<std::string>& errors);

// Throws UsageError where there is no such file, or no folder to put such files into.
void check_input(const std::string& path);
// Also where one is no plain file, or two are the same.
void check_outputs(const std::string& output, const std::optional<std::string>& errors, const std::string& input = {});

}  // namespace penstock
