#pragma once
#include <array>
#include <cstdint>
#include <string_view>

namespace penstock {

// How long the answers of a batch's lines will be, as far as those before tell: by what a request allows and by how
// long it is, in powers of two. Only good for an order: the unit is tokens, roughly.
class AnswerLengths {
 public:
  // `output_max`: see below. `size`: of the body.
  void add(std::int64_t output_max, std::size_t size, std::int64_t output_tokens);
  double expect(std::int64_t output_max, std::size_t size) const;

 private:
  struct Mean {
    double sum = 0, count = 0;
    void add(double value) { sum += value, ++count; }
  };
  std::array<Mean, 64> by_size_;   // of requests that allow any length: tokens
  std::array<Mean, 64> by_limit_;  // of others, by their limit: tokens over the limit
  Mean all_;
};

// The most tokens that a request allows its answer to have; 0 when it does not say. Looks for the key in the bytes: in
// a prompt the quotes before it would be escaped, and in a tool's schema no number follows.
std::int64_t output_tokens_max(std::string_view body);

}  // namespace penstock
