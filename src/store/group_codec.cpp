#include "store/group_codec.h"

#include <fmt/core.h>
#include <zstd.h>

#include <cassert>
#include <memory>

#include "sql/connection.h"

namespace penstock {
namespace {

constexpr std::uint32_t kFailedBit = 0x8000'0000;
constexpr std::size_t kEntrySize = 8;

void append_u32(std::string& out, std::uint32_t value) {
  for (int shift = 0; shift < 32; shift += 8) out += static_cast<char>(value >> shift);
}

std::uint32_t read_u32(std::string_view bytes) {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < 4; ++i) value |= std::uint32_t{static_cast<unsigned char>(bytes[i])} << (8 * i);
  return value;
}

struct FreeContext {
  void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
  void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
};

}  // namespace

std::string encode_entries(const std::vector<ResultEntry>& entries) {
  std::string bytes;
  bytes.reserve(entries.size() * kEntrySize);
  for (const ResultEntry& entry : entries) {
    assert(entry.length < kFailedBit);
    append_u32(bytes, entry.index);
    append_u32(bytes, entry.length | (entry.failed ? kFailedBit : 0));
  }
  return bytes;
}

void for_each_entry(std::string_view bytes, const std::function<void(const ResultEntry&)>& each) {
  for (; bytes.size() >= kEntrySize; bytes.remove_prefix(kEntrySize)) {
    const std::uint32_t length = read_u32(bytes.substr(4));
    each(ResultEntry{read_u32(bytes), length & ~kFailedBit, (length & kFailedBit) != 0});
  }
}

// A context is some hundred kilobytes: each thread that uses the store keeps its own.
std::string_view compress(std::string_view bytes) {
  thread_local const std::unique_ptr<ZSTD_CCtx, FreeContext> context = [] {
    std::unique_ptr<ZSTD_CCtx, FreeContext> made(ZSTD_createCCtx());
    ZSTD_CCtx_setParameter(made.get(), ZSTD_c_compressionLevel, 1);
    ZSTD_CCtx_setParameter(made.get(), ZSTD_c_checksumFlag, 1);
    return made;
  }();
  thread_local std::string out;
  if (out.size() < ZSTD_compressBound(bytes.size())) out.resize(ZSTD_compressBound(bytes.size()));
  const std::size_t size = ZSTD_compress2(context.get(), out.data(), out.size(), bytes.data(), bytes.size());
  if (ZSTD_isError(size)) throw std::runtime_error(fmt::format("zstd: {}", ZSTD_getErrorName(size)));
  return std::string_view(out).substr(0, size);
}

void decompress(std::string_view bytes, std::size_t size, std::string& out) {
  thread_local const std::unique_ptr<ZSTD_DCtx, FreeContext> context(ZSTD_createDCtx());
  out.resize(size);
  if (ZSTD_decompressDCtx(context.get(), out.data(), size, bytes.data(), bytes.size()) != size) {
    throw sql::Failure(sql::Failure::Kind::io, "a result group is damaged");
  }
}

}  // namespace penstock
