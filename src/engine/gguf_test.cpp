#include "engine/gguf.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <limits>
#include <random>

#include "testing/fixtures.h"

namespace penstock {
namespace {

template <class T>
std::string raw(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}
std::string text(std::string_view value) {
  return raw<std::uint64_t>(value.size()) + std::string(value);
}

// A file that is written pair by pair, and tensor by tensor.
class File {
 public:
  File& number(std::string_view key, std::uint32_t value) { return pair(key, 4, raw(value)); }
  File& string(std::string_view key, std::string_view value) { return pair(key, 8, text(value)); }
  File& list(std::string_view key, std::uint32_t type, std::uint64_t count, const std::string& content) {
    return pair(key, 9, raw(type) + raw(count) + content);
  }
  File& pair(std::string_view key, std::uint32_t type, const std::string& value) {
    ++pairs_;
    pairs_text_ += text(key) + raw(type) + value;
    return *this;
  }
  File& tensor(std::string_view name, const std::vector<std::uint64_t>& dimensions) {
    ++tensors_;
    tensors_text_ += text(name) + raw(static_cast<std::uint32_t>(dimensions.size()));
    for (const std::uint64_t d : dimensions) tensors_text_ += raw(d);
    tensors_text_ += raw<std::uint32_t>(3) + raw<std::uint64_t>(tensors_);
    return *this;
  }
  // A byte of each tensor, and one before.
  std::string weights() const { return std::string(tensors_ > 0 ? tensors_ + 1 : 0, 'w'); }
  std::string bytes(std::uint32_t version = 3) const {
    return "GGUF" + raw(version) + raw(tensors_) + raw(pairs_) + pairs_text_ + tensors_text_ + weights();
  }

 private:
  std::uint64_t pairs_ = 0, tensors_ = 0;
  std::string pairs_text_, tensors_text_;
};

File small() {
  File file;
  file.string("general.architecture", "llama")
      .string("general.name", "Small")
      .number("general.file_type", 15)
      .pair("llama.rope.freq_base", 6, raw(1e5F))
      .number("llama.block_count", 2)
      .number("llama.context_length", 8192)
      .number("llama.embedding_length", 64)
      .number("llama.attention.head_count", 8)
      .number("llama.attention.head_count_kv", 2)
      .list("tokenizer.ggml.tokens", 8, 3, text("a") + text("bc") + text(std::string(5000, 'd')))
      .list("tokenizer.ggml.token_type", 5, 3, raw(1) + raw(1) + raw(3))
      .list("tokenizer.ggml.scores", 6, 3, raw(1.F) + raw(1.F) + raw(3.F))
      .pair("tokenizer.ggml.add_bos_token", 7, raw(true))
      .string("tokenizer.chat_template", std::string(5000, '{'))
      .tensor("token_embd.weight", {64, 3})
      .tensor("output_norm.weight", {64});
  return file;
}

class GgufTest : public testing::Test {
 protected:
  Result<GgufHeader> read(const std::string& bytes) { return read_gguf(folder.write("m.gguf", bytes)); }
  std::string refusal(const std::string& bytes) {
    const auto header = read(bytes);
    return header ? "accepted" : header.error().message;
  }
  TempDir folder;
};

TEST_F(GgufTest, TellsWhatTheHeaderSays) {
  for (const std::uint32_t version : {2U, 3U}) {
    const std::string bytes = small().bytes(version) + std::string(1000, 'w');
    const GgufHeader header = read(bytes).value();
    EXPECT_EQ(header.architecture, "llama");
    EXPECT_EQ(header.name, "Small");
    EXPECT_EQ(header.quantisation, "Q4_K_M");
    EXPECT_EQ(header.file_size, static_cast<std::int64_t>(bytes.size()));
    EXPECT_EQ(header.parameters, 64 * 3 + 64);
    EXPECT_EQ(header.layers, 2);
    EXPECT_EQ(header.heads, 8);
    EXPECT_EQ(header.kv_heads, (std::vector<int>{2, 2}));
    EXPECT_EQ(header.key_length, 8);
    EXPECT_EQ(header.value_length, 8);
    EXPECT_EQ(header.context_length, 8192);
    EXPECT_EQ(header.embedding_length, 64);
    EXPECT_EQ(header.vocabulary, 3);
    EXPECT_TRUE(header.has_chat_template);
  }
}

TEST_F(GgufTest, WhatIsMissingHasTheFormatsDefault) {
  const GgufHeader header = read(File()
                                     .string("general.architecture", "x")
                                     .number("x.block_count", 3)
                                     .number("x.vocab_size", 7)
                                     .number("x.embedding_length", 64)
                                     .number("x.attention.head_count", 4)
                                     .number("x.attention.key_length", 5)
                                     .bytes())
                                .value();
  EXPECT_EQ(header.kv_heads, (std::vector<int>{4, 4, 4})) << "as many as heads";
  EXPECT_EQ(header.key_length, 5);
  EXPECT_EQ(header.value_length, 16) << "of the embedding";
  EXPECT_EQ(header.vocabulary, 7);
  EXPECT_EQ(header.quantisation, "unknown");
  EXPECT_FALSE(header.has_chat_template);
}

TEST_F(GgufTest, LayersMayDifferInTheirHeads) {
  const GgufHeader header = read(File()
                                     .string("general.architecture", "x")
                                     .number("x.block_count", 3)
                                     .number("x.attention.head_count", 4)
                                     .list("x.attention.head_count_kv", 5, 3, raw(4) + raw(0) + raw(-2))
                                     .bytes())
                                .value();
  EXPECT_EQ(header.kv_heads, (std::vector<int>{4, 0, 0}));
}

TEST_F(GgufTest, APartIsReadWithItsOthers) {
  const auto part = [](std::uint64_t rows) {
    return small().pair("split.count", 2, raw<std::uint16_t>(2)).tensor("w", {64, rows}).bytes();
  };
  const std::string first = folder.write("big-00001-of-00002.gguf", part(10));
  const auto alone = read_gguf(first);
  ASSERT_FALSE(alone);
  EXPECT_NE(alone.error().message.find("big-00002-of-00002.gguf"), std::string::npos) << alone.error().message;
  folder.write("big-00002-of-00002.gguf", part(20) + "weights");
  const GgufHeader header = read_gguf(first).value();
  EXPECT_EQ(header.file_size, static_cast<std::int64_t>(part(10).size() + part(20).size()) + 7);
  EXPECT_EQ(header.parameters, 2 * (64 * 3 + 64) + 64 * 30);
  EXPECT_NE(refusal(part(1)).find("00001-of-00002"), std::string::npos) << "another name";
}

TEST_F(GgufTest, NoNumberOfParametersOverflows) {
  const std::string part = small().pair("split.count", 2, raw<std::uint16_t>(20)).tensor("w", {~0ULL, ~0ULL}).bytes();
  for (int i = 1; i <= 20; ++i) folder.write(fmt::format("huge-{:05}-of-00020.gguf", i), part);
  EXPECT_EQ(read_gguf(folder / "huge-00001-of-00020.gguf").value().parameters,
            std::numeric_limits<std::int64_t>::max());
}

TEST_F(GgufTest, ARefusalSaysWhatIsWrong) {
  const struct {
    std::string bytes, words;
  } table[] = {
      {"", "no GGUF"},
      {"PK\3\4 and so on", "no GGUF"},
      {small().bytes(1), "version"},
      {small().bytes(0x03000000), "version"},  // of the other byte order
      {File().bytes(), "architecture"},
      {File().pair("k", 13, "").bytes(), "unknown type 13"},
      {File().list("k", 9, 1, "").bytes(), "list of lists"},
      {File().list("k", 8, ~0ULL, "").bytes(), "cut short"},
      {File().list("k", 10, ~0ULL / 4, "").bytes(), "cut short"},
      {File().pair("k", 8, raw(~0ULL)).bytes(), "cut short"},
      {"GGUF" + raw(3) + raw<std::uint64_t>(1) + raw(~0ULL), "metadata"},
      {"GGUF" + raw(3) + raw(~0ULL) + raw<std::uint64_t>(0), "tensors"},
      {File().tensor("t", std::vector<std::uint64_t>(9, 1)).bytes(), "dimensions"},
      {small().number("llama.block_count", 2'000'000).bytes(), "layers"},
      {small().number("llama.context_length", ~0U).bytes(), "context_length"},
  };
  for (const auto& [bytes, words] : table) {
    EXPECT_NE(refusal(bytes).find(words), std::string::npos) << words << ": " << refusal(bytes);
  }
  EXPECT_FALSE(read_gguf(folder / "nowhere.gguf"));
  EXPECT_FALSE(read_gguf(folder.path()));
}

TEST_F(GgufTest, AFileCutShortAnywhereIsRefused) {
  const std::string whole = small().bytes();
  std::size_t size = 0;
  while (size < whole.size()) {
    EXPECT_FALSE(read(whole.substr(0, size))) << size;
    const bool in_the_middle = size > 300 && size + 300 < whole.size();  // of long texts
    size += in_the_middle ? 97 : 3;
  }
}

TEST_F(GgufTest, WhateverTheBytesAreItEndsSoonAndWithoutHarm) {
  const std::string whole = small().bytes();
  std::minstd_rand random(1);
  for (int round = 0; round < 500; ++round) {
    std::string bytes = whole;
    for (int i = 0; i < 3; ++i)
      bytes[random() % std::min<std::size_t>(bytes.size(), 700)] = static_cast<char>(random());
    const auto header = read(bytes);
    if (!header) continue;
    EXPECT_GE(header->parameters, 0);
    EXPECT_LE(header->kv_heads.size(), 10'000u);
  }
}

}  // namespace
}  // namespace penstock
