#pragma once
#include <memory>
#include <string>
#include <string_view>

namespace penstock {

// A 128-bit hash (XXH3) of a stream of bytes, to tell whether two are the same. No defence against forgery.
class StreamHash {
 public:
  StreamHash();
  ~StreamHash();
  void add(std::string_view bytes);
  std::string hex() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace penstock
