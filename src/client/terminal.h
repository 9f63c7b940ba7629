#pragma once
#include <termios.h>

#include <cstddef>
#include <string>
#include <vector>

namespace penstock {

// How wide the terminal is that a descriptor leads to; 80 where nothing tells.
std::size_t terminal_columns(int fd);

// The whole terminal, for a view that is drawn again and again: its alternate screen, without cursor and echo. What was
// there before is there again when this is destroyed. Keys come without Enter; Ctrl-C stays a signal.
class FullScreen {
 public:
  FullScreen();
  ~FullScreen();
  FullScreen(const FullScreen&) = delete;
  FullScreen& operator=(const FullScreen&) = delete;

  struct Size {
    std::size_t rows, columns;
  };
  Size size() const;

  struct Line {
    std::string text;
    bool bold = false;
  };
  // What does not fit is left out.
  void draw(const std::vector<Line>& lines) const;

 private:
  termios before_{};
  bool has_keys_;
};

}  // namespace penstock
