#pragma once
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace penstock {

// Command lines of programs that serve one model over HTTP. Between braces stands what is filled in at each start:
//
//   {model}          the path of the model
//   {name}           what lines call it; GET /v1/models of the program must list it, or be answered with 404
//   {socket}         path of a unix socket, ending in ".sock", to listen on; nothing is there when the program starts
//   {port}           a free port, to listen on at 127.0.0.1; where there is no {socket}
//   {slot_folder}    a folder of its own, for llama-server's --slot-save-path; prefixes are copied between slots
//   through it {context}        tokens a slot {slots}          requests at a time {total_context}  tokens of all slots
//   together
//
// Any other brace stays as it is, so JSON may stand in an argument.
using CommandTemplate = std::vector<std::string>;
using TemplateValues = std::map<std::string, std::string, std::less<>>;

// What is known of an engine when its template is chosen.
struct CommandOptions {
  std::string engine;                           // "llama.cpp", "vllm" or "sglang"
  std::string program;                          // empty: default_program()
  bool has_context = false, has_slots = false;  // else the program itself chooses; llama.cpp always has both
  std::vector<std::string> args;                // come last
};

// Their options are those of
//   llama.cpp: tools/server/README.md of its repository,
//   vLLM:      https://docs.vllm.ai/en/stable/cli/serve/,
//   SGLang:    https://docs.sglang.io/advanced_features/server_arguments.html.
CommandTemplate command_template(const CommandOptions& options);
// A name to be looked up in PATH.
std::string default_program(std::string_view engine);

bool mentions(const CommandTemplate& command, std::string_view placeholder);
std::vector<std::string> expand(const CommandTemplate& command, const TemplateValues& values);

}  // namespace penstock
