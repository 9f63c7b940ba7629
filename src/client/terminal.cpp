#include "client/terminal.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "client/table.h"

namespace penstock {
namespace {

winsize window_of(int fd) {
  winsize window{};
  if (::ioctl(fd, TIOCGWINSZ, &window) == 0 && window.ws_col > 0) return window;
  window.ws_row = 24;
  window.ws_col = 80;
  return window;
}

void write(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

}  // namespace

std::size_t terminal_columns(int fd) {
  return window_of(fd).ws_col;
}

FullScreen::FullScreen() : has_keys_(::tcgetattr(STDIN_FILENO, &before_) == 0) {
  if (has_keys_) {
    termios raw = before_;
    raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
    raw.c_cc[VSUSP] = _POSIX_VDISABLE;  // a stopped view would leave the terminal like this
    ::tcsetattr(STDIN_FILENO, TCSANOW, &raw);
  }
  write("\x1b[?1049h\x1b[?25l");
}

FullScreen::~FullScreen() {
  write("\x1b[?25h\x1b[?1049l");
  if (has_keys_) ::tcsetattr(STDIN_FILENO, TCSANOW, &before_);
}

FullScreen::Size FullScreen::size() const {
  const winsize window = window_of(STDOUT_FILENO);
  return {window.ws_row, window.ws_col};
}

void FullScreen::draw(const std::vector<Line>& lines) const {
  const Size room = size();
  std::string out = "\x1b[H";
  for (std::size_t i = 0; i < std::min(room.rows, lines.size()); ++i) {
    const std::string_view text = cut(lines[i].text, room.columns);
    out += fmt::format("{}{}{}{}\x1b[K", i > 0 ? "\n" : "", lines[i].bold ? "\x1b[1m" : "", text,
                       lines[i].bold ? "\x1b[0m" : "");
  }
  write(out + "\x1b[J");
}

}  // namespace penstock
