#include "engine/gguf.h"

#include <fmt/core.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <optional>

namespace penstock {
namespace {

constexpr std::uint64_t kHeaderSizeMax = 256 << 20;  // the longest vocabularies take some 10 MB
constexpr std::uint64_t kPairsMax = 10'000, kTensorsMax = 1'000'000, kDimensionsMax = 8;
constexpr std::size_t kKeySizeMax = 256, kTextSizeMax = 4096;  // of keys and texts that are looked at
constexpr std::size_t kNumbersMax = 10'000;                    // of lists that are looked at, together
constexpr std::int64_t kNumberMax = 1'000'000'000;             // a context, a vocabulary; more is no model's
constexpr std::int64_t kLayersMax = 10'000;
constexpr std::uint64_t kPartsMax = 1'000;
constexpr std::uint64_t kKeptSize = 4096;  // a shorter way is read over

// Why it cannot be read. Leaves read_gguf() as an Error.
struct Unreadable {
  std::string why;
};

// As `gguf_metadata_value_type` numbers them.
enum class Type : std::uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, text, list, u64, i64, f64 };

std::size_t size_of(Type type) {
  switch (type) {
    case Type::u8:
    case Type::i8:
    case Type::boolean:
      return 1;
    case Type::u16:
    case Type::i16:
      return 2;
    case Type::u32:
    case Type::i32:
    case Type::f32:
      return 4;
    case Type::u64:
    case Type::i64:
    case Type::f64:
      return 8;
    case Type::text:
    case Type::list:
      break;
  }
  throw Unreadable{fmt::format("it has a value of an unknown type {}", static_cast<std::uint32_t>(type))};
}

// The beginning of a file, read once from front to back.
class Reader {
 public:
  explicit Reader(const std::string& path) : in_(path, std::ios::binary) {
    std::error_code error;
    size_ = std::filesystem::file_size(path, error);
    if (error || !in_) throw Unreadable{error ? error.message() : "it cannot be opened"};
  }

  std::uint64_t size() const { return size_; }
  std::uint64_t left() const { return size_ - at_; }

  template <class T>
  T number() {
    char bytes[sizeof(T)];
    read(bytes, sizeof bytes);
    T value = 0;
    for (std::size_t i = 0; i < sizeof bytes; ++i) {
      value |= static_cast<T>(T{static_cast<unsigned char>(bytes[i])} << (8 * i));
    }
    return value;
  }
  // Nothing of a longer one, which is skipped.
  std::optional<std::string> text(std::size_t size_max) {
    const auto size = number<std::uint64_t>();
    if (size > size_max) {
      skip(size, 1);
      return std::nullopt;
    }
    std::string text(size, '\0');
    read(text.data(), size);
    return text;
  }
  void skip(std::uint64_t count, std::size_t size) {
    if (count > (size_ - at_) / size) throw Unreadable{"it is cut short"};
    move_to(at_ + count * size);
    if (count * size > kKeptSize) {
      in_.seekg(static_cast<std::streamoff>(at_));  // which forgets what was read ahead
    } else {
      in_.ignore(static_cast<std::streamsize>(count * size));
    }
  }

 private:
  void read(char* bytes, std::size_t size) {
    if (size > size_ - at_) throw Unreadable{"it is cut short"};
    move_to(at_ + size);
    if (!in_.read(bytes, static_cast<std::streamsize>(size))) throw Unreadable{"it cannot be read"};
  }
  void move_to(std::uint64_t at) {
    at_ = at;
    if (at_ > kHeaderSizeMax) throw Unreadable{"its header is longer than that of any model"};
  }

  std::ifstream in_;
  std::uint64_t size_ = 0, at_ = 0;
};

// What of the pairs matters, whatever else there is.
struct Pairs {
  std::map<std::string, std::int64_t> numbers;
  std::map<std::string, std::string> texts;
  std::map<std::string, std::vector<std::int64_t>> lists;
  std::size_t in_lists = 0;
  std::map<std::string, std::uint64_t> sizes;  // of texts and lists of any length

  std::int64_t number(const std::string& key, std::int64_t otherwise) const {
    const auto found = numbers.find(key);
    if (found == numbers.end()) return otherwise;
    if (found->second < 0 || found->second > kNumberMax) {
      throw Unreadable{fmt::format("its {} of {} is that of no model", key, found->second)};
    }
    return found->second;
  }
  std::string text(const std::string& key) const {
    const auto found = texts.find(key);
    return found == texts.end() ? "" : found->second;
  }
};

std::int64_t integer(Reader& in, Type type) {
  switch (size_of(type)) {
    case 1:
      return in.number<std::uint8_t>();
    case 2:
      return in.number<std::uint16_t>();
    case 4: {
      const auto bits = in.number<std::uint32_t>();
      return type == Type::i32 ? static_cast<std::int32_t>(bits) : std::int64_t{bits};
    }
    default:
      return static_cast<std::int64_t>(in.number<std::uint64_t>());
  }
}

bool is_integer(Type type) {
  return type != Type::f32 && type != Type::f64 && type != Type::text && type != Type::list;
}

// Of an architecture that may be named later.
bool is_heads(std::string_view key) {
  return key.ends_with(".attention.head_count") || key.ends_with(".attention.head_count_kv");
}

void read_list(Reader& in, const std::string& key, Pairs& pairs) {
  const Type type{in.number<std::uint32_t>()};
  const auto count = in.number<std::uint64_t>();
  pairs.sizes[key] = count;
  if (type == Type::list) throw Unreadable{"it has a list of lists"};
  if (type == Type::text) {
    for (std::uint64_t i = 0; i < count; ++i) in.skip(in.number<std::uint64_t>(), 1);
  } else if (is_integer(type) && is_heads(key) && count <= kNumbersMax - pairs.in_lists) {
    pairs.in_lists += count;
    auto& list = pairs.lists[key];
    for (std::uint64_t i = 0; i < count; ++i) list.push_back(integer(in, type));
  } else {
    in.skip(count, size_of(type));
  }
}

Pairs read_pairs(Reader& in, std::uint64_t count) {
  if (count > kPairsMax) throw Unreadable{"it has more metadata than any model"};
  Pairs pairs;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::string key = in.text(kKeySizeMax).value_or("");
    const Type type{in.number<std::uint32_t>()};
    if (type == Type::list) {
      read_list(in, key, pairs);
    } else if (type == Type::text) {
      auto text = in.text(kTextSizeMax);
      pairs.sizes[key] = text ? text->size() : kTextSizeMax;
      if (text && (key == "general.architecture" || key == "general.name")) pairs.texts[key] = std::move(*text);
    } else if (is_integer(type)) {
      pairs.numbers[key] = integer(in, type);
    } else {
      in.skip(1, size_of(type));
    }
  }
  return pairs;
}

struct Tensors {
  std::int64_t parameters = 0;
  std::uint64_t last_offset = 0;  // of any tensor's weights
};

Tensors read_tensors(Reader& in, std::uint64_t tensors) {
  if (tensors > kTensorsMax) throw Unreadable{"it has more tensors than any model"};
  double all = 0;
  Tensors found;
  for (std::uint64_t i = 0; i < tensors; ++i) {
    in.text(0);
    const auto dimensions = in.number<std::uint32_t>();
    if (dimensions > kDimensionsMax) throw Unreadable{"it has a tensor of too many dimensions"};
    double elements = 1;
    for (std::uint32_t d = 0; d < dimensions; ++d) elements *= static_cast<double>(in.number<std::uint64_t>());
    all += elements;
    in.number<std::uint32_t>();  // its type
    found.last_offset = std::max(found.last_offset, in.number<std::uint64_t>());
  }
  found.parameters = static_cast<std::int64_t>(std::min(all, 1e18));
  return found;
}

// As `llama_ftype` in llama.cpp's include/llama.h numbers them.
std::string quantisation_name(std::int64_t file_type) {
  static const std::map<std::int64_t, const char*> names = {
      {0, "F32"},     {1, "F16"},     {2, "Q4_0"},      {3, "Q4_1"},    {7, "Q8_0"},     {8, "Q5_0"},
      {9, "Q5_1"},    {10, "Q2_K"},   {11, "Q3_K_S"},   {12, "Q3_K_M"}, {13, "Q3_K_L"},  {14, "Q4_K_S"},
      {15, "Q4_K_M"}, {16, "Q5_K_S"}, {17, "Q5_K_M"},   {18, "Q6_K"},   {19, "IQ2_XXS"}, {20, "IQ2_XS"},
      {21, "Q2_K_S"}, {22, "IQ3_XS"}, {23, "IQ3_XXS"},  {24, "IQ1_S"},  {25, "IQ4_NL"},  {26, "IQ3_S"},
      {27, "IQ3_M"},  {28, "IQ2_S"},  {29, "IQ2_M"},    {30, "IQ4_XS"}, {31, "IQ1_M"},   {32, "BF16"},
      {36, "TQ1_0"},  {37, "TQ2_0"},  {38, "MXFP4_MOE"}};
  const auto found = names.find(file_type);
  return found == names.end() ? "unknown" : found->second;
}

struct Part {
  Pairs pairs;
  std::int64_t parameters = 0;
  std::uint64_t size = 0;
};

Part read_part(const std::string& path) {
  Reader in(path);
  if (in.size() < 4 || in.number<std::uint32_t>() != 0x46554747) throw Unreadable{"it is no GGUF file"};  // "GGUF"
  const auto version = in.number<std::uint32_t>();
  if (version != 2 && version != 3) throw Unreadable{fmt::format("its version of GGUF is {}, not 2 or 3", version)};
  const auto tensors = in.number<std::uint64_t>();
  Part part;
  part.pairs = read_pairs(in, in.number<std::uint64_t>());
  const Tensors found = read_tensors(in, tensors);
  if (tensors > 0 && found.last_offset >= in.left()) throw Unreadable{"it is cut short: weights are missing"};
  part.parameters = found.parameters;
  part.size = in.size();
  return part;
}

// The name of part `number` of `count`, where `path` is that of the first.
std::string part_path(const std::string& path, std::uint64_t number, std::uint64_t count) {
  const std::string end = fmt::format("-00001-of-{:05}.gguf", count);
  if (!path.ends_with(end))
    throw Unreadable{fmt::format("it is one of {} parts, and its name does not end in {}", count, end)};
  return fmt::format("{}-{:05}-of-{:05}.gguf", path.substr(0, path.size() - end.size()), number, count);
}

std::int64_t sum(std::int64_t a, std::int64_t b) {
  std::int64_t all = 0;
  return __builtin_add_overflow(a, b, &all) ? std::numeric_limits<std::int64_t>::max() : all;
}

GgufHeader header_of(const Pairs& pairs) {
  GgufHeader header;
  header.architecture = pairs.text("general.architecture");
  if (header.architecture.empty()) throw Unreadable{"it does not name its architecture"};
  header.name = pairs.text("general.name");
  header.quantisation = quantisation_name(pairs.number("general.file_type", kNumberMax));
  const auto number = [&](const char* key, std::int64_t otherwise) {
    return static_cast<int>(pairs.number(header.architecture + "." + key, otherwise));
  };
  // One number for all layers, or a list of each layer's.
  const auto a_layer = [&](const char* key, std::vector<int> otherwise) {
    const auto list = pairs.lists.find(header.architecture + "." + key);
    if (list != pairs.lists.end()) {
      otherwise.clear();
      for (const std::int64_t n : list->second)
        otherwise.push_back(static_cast<int>(std::clamp<std::int64_t>(n, 0, kNumberMax)));
    } else if (const int n = number(key, 0); n > 0) {
      otherwise.assign(static_cast<std::size_t>(header.layers), n);
    }
    return otherwise;
  };
  header.layers = number("block_count", 0);
  if (header.layers > kLayersMax) throw Unreadable{fmt::format("its {} layers are those of no model", header.layers)};
  header.embedding_length = number("embedding_length", 0);
  header.context_length = number("context_length", 0);
  const std::vector<int> heads = a_layer("attention.head_count", {});
  header.heads = heads.empty() ? 0 : *std::max_element(heads.begin(), heads.end());
  header.kv_heads = a_layer("attention.head_count_kv", heads);
  const int head_length = header.heads > 0 ? header.embedding_length / header.heads : 0;
  header.key_length = number("attention.key_length", head_length);
  header.value_length = number("attention.value_length", head_length);
  const auto tokens = pairs.sizes.find("tokenizer.ggml.tokens");
  header.vocabulary = tokens != pairs.sizes.end() ? static_cast<std::int64_t>(tokens->second) : number("vocab_size", 0);
  const auto chat_template = pairs.sizes.find("tokenizer.chat_template");
  header.has_chat_template = chat_template != pairs.sizes.end() && chat_template->second > 0;
  return header;
}

}  // namespace

Result<GgufHeader> read_gguf(const std::string& path) {
  std::string part_now = path;
  try {
    const Part first = read_part(path);
    GgufHeader header = header_of(first.pairs);
    header.parameters = first.parameters;
    header.file_size = static_cast<std::int64_t>(first.size);
    const auto count = static_cast<std::uint64_t>(first.pairs.number("split.count", 1));
    if (count > kPartsMax) throw Unreadable{"it has more parts than any model"};
    for (std::uint64_t number = 2; number <= count; ++number) {
      part_now = part_path(path, number, count);
      const Part part = read_part(part_now);
      header.parameters = sum(header.parameters, part.parameters);
      header.file_size = sum(header.file_size, static_cast<std::int64_t>(part.size));
    }
    return header;
  } catch (const Unreadable& e) {
    return Error{Error::Kind::invalid_request, fmt::format("{}: {}", part_now, e.why)};
  }
}

}  // namespace penstock
