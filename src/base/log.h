#pragma once
#include <fmt/core.h>

#include <string_view>

// One line a message on standard error. Any thread. Texts never hold prompts, answers or keys.
//
// As text: time, level, text; what goes to systemd's journal, which has both of its own, is the text behind the level
// as sd-daemon(3) writes it. As JSON: an object with "time" (RFC 3339), "level", "message", and "batch" or "request_id"
// where a message is about one.
namespace penstock::log {

enum class Level { debug, info, warn, error, off };
enum class Format { text, json };

// What a message is about, where that is a thing with an id.
struct About {
  std::string_view batch = {}, request_id = {};
};
inline About batch(std::string_view id) {
  return {.batch = id};
}
inline About request(std::string_view id) {
  return {.request_id = id};
}

void set_level(Level level);
void set_format(Format format);
bool enabled(Level level);
void write(Level level, std::string_view text, const About& about = {});

// The line of a message, newline included. `in_journal`: it is text for there.
std::string line(Format format, bool in_journal, std::int64_t unix_ms, Level level, std::string_view text,
                 const About& about);

template <class... Args>
void debug(fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::debug)) write(Level::debug, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void info(fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::info)) write(Level::info, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void warn(fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::warn)) write(Level::warn, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void error(fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::error)) write(Level::error, fmt::format(format, std::forward<Args>(args)...));
}

// The same of something with an id, which text has before it.
template <class... Args>
void debug(const About& about, fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::debug)) write(Level::debug, fmt::format(format, std::forward<Args>(args)...), about);
}
template <class... Args>
void info(const About& about, fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::info)) write(Level::info, fmt::format(format, std::forward<Args>(args)...), about);
}
template <class... Args>
void warn(const About& about, fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::warn)) write(Level::warn, fmt::format(format, std::forward<Args>(args)...), about);
}
template <class... Args>
void error(const About& about, fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::error)) write(Level::error, fmt::format(format, std::forward<Args>(args)...), about);
}

}  // namespace penstock::log
