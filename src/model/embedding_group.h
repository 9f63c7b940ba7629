#pragma once
#include <span>
#include <string>
#include <string_view>
#include <vector>

// Requests to /v1/embeddings that differ in nothing but one text, asked as one request with a list of texts, whose
// answer is split again. Pure. Bytes are kept: of the requests, of the vectors, and of all else but counts of tokens.
namespace penstock {

// Where in a body the value of `input` stands, of a body that can be asked with others.
struct EmbeddingInput {
  std::size_t at = 0, size = 0;  // 0: it cannot: it has a list of texts itself
};
// `body` is one that LineParser::check() accepted.
EmbeddingInput single_input(std::string_view body);

// A request and its input; the body must outlive it.
struct EmbeddingRequest {
  std::string_view body;
  EmbeddingInput input;
};

// Whether both have an input of the same kind, and all else is the same.
bool can_be_grouped(const EmbeddingRequest& a, const EmbeddingRequest& b);

// One body for all of them.
std::string grouped_body(std::span<const EmbeddingRequest> requests);

// What the answer to grouped_body() says to each of them, in their order; nothing when it is not one vector each.
// Engines tell the tokens of all together: each request is given a share by its input's bytes, and the shares sum up
// to what was told.
std::vector<std::string> split_answer(std::string_view answer, std::span<const EmbeddingRequest> requests);

}  // namespace penstock
