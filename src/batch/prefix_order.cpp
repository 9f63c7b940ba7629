#include "batch/prefix_order.h"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <bit>
#include <boost/sort/spreadsort/integer_sort.hpp>
#include <cstring>

namespace penstock {
namespace {

constexpr std::size_t kBlockSize = 64;
constexpr std::size_t kBucketsMin = 1 << 5, kBucketsMax = 1 << 15;
// Powers of an odd number without a pattern in its bits.
constexpr auto kFactors = [] {
  std::array<std::uint64_t, kBlockSize / 8> factors{0xD6E8FEB86659FD93};
  for (std::size_t i = 1; i < factors.size(); ++i) factors[i] = factors[i - 1] * factors[0];
  return factors;
}();

std::uint32_t low(std::uint64_t value) {
  return static_cast<std::uint32_t>(value);
}
std::uint64_t pair(std::uint64_t high, std::uint32_t low) {
  return high << 32 | low;
}

std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
  const std::uint64_t product = (a ^ b) * 0x9E3779B97F4A7C15;
  return product ^ product >> 32;
}

// Of kBlockSize bytes, in few instructions.
std::uint64_t hash_block(const char* block) {
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < kBlockSize / sizeof sum; ++i) {
    std::uint64_t word;
    std::memcpy(&word, block + i * sizeof word, sizeof word);
    sum += word * kFactors[i];
  }
  return sum;
}

void sort(std::vector<std::uint64_t>& values) {
  if (!std::is_sorted(values.begin(), values.end()))
    boost::sort::spreadsort::integer_sort(values.begin(), values.end());
}

}  // namespace

PrefixOrder::PrefixOrder() : buckets_(kBucketsMin) {}

void PrefixOrder::read(std::span<const std::string_view> prompt) {
  hashes_.clear();
  std::uint64_t hash = 0;
  std::size_t size = 0;  // of what has been hashed since the last block's end
  for (std::string_view text : prompt) {
    for (; text.size() >= kBlockSize && hashes_.size() < kDepthMax; text.remove_prefix(kBlockSize)) {
      hash = mix(hash, hash_block(text.data()));
      hashes_.push_back(low(hash));
      size = 0;
    }
    if (hashes_.size() == kDepthMax) break;
    hash = mix(hash, XXH3_64bits(text.data(), text.size()));
    size += text.size();
    if (size < kBlockSize) continue;
    hashes_.push_back(low(hash));
    size = 0;
  }
  // Lines are alike: this one leaves the paths where the last one did, as likely as not.
  for (const std::size_t depth : {std::size_t{0}, left_at_}) {
    if (depth < hashes_.size()) __builtin_prefetch(&bucket(hashes_[depth]));
  }
}

void PrefixOrder::add(const PlanEntry& entry) {
  make_room();
  keys_.push_back(follow());
  entries_.push_back(entry);
}

PrefixOrder::Key PrefixOrder::follow() {
  const auto line = static_cast<std::uint32_t>(entries_.size());
  const std::span<const Hash> all = hashes_;
  std::uint32_t above = 0, depth = 0;  // the path that it is on, and how far
  while (depth < all.size()) {
    const auto rest = all.subspan(depth);
    const std::uint32_t found = find(rest.front());
    if (found == 0) {
      keep({.line = line, .begin = 0, .size = 0}, rest);
      left_at_ = depth;
      return make_key(above, depth, rest.front());
    }
    const Paths& paths = paths_of(found);
    Path& path = paths_of(found).paths[found - paths.first];
    if (path.number == 0) {
      if (owners_.size() == kNumbersMax) {
        forgot_ = true;
        return keys_[path.line];
      }
      path.number = static_cast<std::uint32_t>(owners_.size());
      owners_.push_back(path.line);
    }
    const auto hashes = std::span(paths.hashes).subspan(path.begin, path.size);
    const auto end = std::mismatch(rest.begin(), rest.end(), hashes.begin(), hashes.end()).first;
    const auto same = static_cast<std::size_t>(end - rest.begin());
    above = path.number;
    depth += static_cast<std::uint32_t>(same);
    // No more of it than is shared: what that costs is the line's own bytes, whatever the path's are.
    if (&paths == &old_) keep(path, rest.first(same));
  }
  return make_key(above, depth, line);  // without a next block it is like no other
}

// For whatever paths the line that was read follows.
void PrefixOrder::make_room() {
  if (young_.hashes.size() + hashes_.size() > Paths::kHashesMax ||
      young_.paths.size() + hashes_.size() > Paths::kPathsMax) {
    forgot_ |= !old_.paths.empty();
    std::swap(young_, old_);
    young_.first = old_.first + static_cast<std::uint32_t>(old_.paths.size());
    young_.paths.clear();
    young_.hashes.clear();
  }
  if (young_.paths.size() + old_.paths.size() + hashes_.size() > 2 * buckets_.size() && buckets_.size() < kBucketsMax) {
    buckets_.assign(2 * buckets_.size(), {});
    for (const Paths* paths : {&old_, &young_}) {
      for (std::uint32_t i = 0; i < paths->paths.size(); ++i) {
        put({.hash = paths->hashes[paths->paths[i].begin], .path = paths->first + i});
      }
    }
  }
}

void PrefixOrder::keep(const Path& path, std::span<const Hash> hashes) {
  young_.paths.push_back({.line = path.line,
                          .number = path.number,
                          .begin = static_cast<std::uint32_t>(young_.hashes.size()),
                          .size = static_cast<std::uint32_t>(hashes.size())});
  young_.hashes.insert(young_.hashes.end(), hashes.begin(), hashes.end());
  put({.hash = hashes.front(), .path = young_.first + static_cast<std::uint32_t>(young_.paths.size()) - 1});
}

void PrefixOrder::put(Slot slot) {
  auto& slots = bucket(slot.hash).slots;
  Slot& oldest = *std::min_element(std::begin(slots), std::end(slots),
                                   [](const Slot& a, const Slot& b) { return a.path < b.path; });
  forgot_ |= oldest.path >= old_.first;
  oldest = slot;
}

std::uint32_t PrefixOrder::find(Hash hash) {
  std::uint32_t found = 0;
  for (const Slot& slot : bucket(hash).slots) {
    if (slot.hash == hash && slot.path >= old_.first) found = std::max(found, slot.path);
  }
  return found;
}

// Lines that leave one path at one place, in the order of the file. Those that leave it with the same block come
// together, where the first of them is.
void PrefixOrder::gather(std::span<std::uint64_t> siblings) const {
  if (siblings.size() == 1) return;
  const std::vector<std::uint64_t> alike = alike_in(siblings);
  std::vector<std::uint64_t> moved;    // each with the line that it moves to
  std::vector<std::uint64_t> leaving;  // the same by themselves
  std::uint32_t first = 0;
  for (std::size_t i = 0; i < alike.size(); ++i) {
    if (i == 0 || alike[i] >> 32 != alike[i - 1] >> 32) {
      first = low(alike[i]);
    } else {
      moved.push_back(pair(first, low(alike[i])));
      leaving.push_back(low(alike[i]));
    }
  }
  if (moved.empty()) return;
  sort(moved);
  sort(leaving);
  auto left = leaving.begin();
  auto stay = std::remove_if(siblings.begin(), siblings.end(), [&](std::uint64_t sibling) {
    if (left == leaving.end() || *left != low(sibling)) return false;
    ++left;
    return true;
  });
  // From the end, so that nothing is overwritten that is still to be read.
  const std::uint64_t path = siblings.front() >> 32;
  for (auto to = siblings.end(); !moved.empty();) {
    if (low(stay[-1]) > moved.back() >> 32) {
      *--to = *--stay;
    } else {
      *--to = pair(path, low(moved.back()));
      moved.pop_back();
    }
  }
}

// Those of them that may share their next block with another: hash and line, sorted. As most lines of most files are
// alone, only those are sorted that have a bit in common with another.
std::vector<std::uint64_t> PrefixOrder::alike_in(std::span<const std::uint64_t> siblings) const {
  const std::size_t bits = std::bit_ceil(16 * siblings.size());
  std::vector<bool> some(bits), more(bits);
  for (const std::uint64_t sibling : siblings) {
    const std::size_t bit = low(keys_[low(sibling)]) & (bits - 1);
    if (some[bit]) more[bit] = true;
    some[bit] = true;
  }
  std::vector<std::uint64_t> alike;
  for (const std::uint64_t sibling : siblings) {
    const Hash hash = low(keys_[low(sibling)]);
    if (more[hash & (bits - 1)]) alike.push_back(pair(hash, low(sibling)));
  }
  sort(alike);
  return alike;
}

std::vector<PlanEntry> PrefixOrder::finish() {
  young_ = {};
  old_ = {};
  buckets_ = {};
  if (owners_.size() == 1 && !forgot_) return std::move(entries_);  // nothing is shared

  // Path by path, from its end to its beginning, and there in the order of the file.
  std::vector<std::uint64_t> lines;
  lines.reserve(keys_.size());
  for (const Key key : keys_) lines.push_back(pair(key >> kHashBits, static_cast<std::uint32_t>(lines.size())));
  sort(lines);
  for (std::size_t begin = 0, end = 0; forgot_ && begin < lines.size(); begin = end) {
    while (end < lines.size() && lines[end] >> 32 == lines[begin] >> 32) ++end;
    gather(std::span(lines).subspan(begin, end - begin));
  }

  // Behind the line that made a path come those that leave it.
  std::fill(keys_.begin(), keys_.end(), 0);
  for (std::uint32_t path = 1; path < owners_.size(); ++path) keys_[owners_[path]] = path;
  std::vector<PlanEntry> ordered;
  ordered.reserve(entries_.size());
  const auto path_at = [&](std::size_t place) { return lines[place] >> (32 + kDepthBits); };
  std::vector<std::size_t> next(owners_.size());
  for (std::size_t place = lines.size(); place-- > 0;) next[path_at(place)] = place;
  std::vector<std::uint32_t> walk{0};
  while (!walk.empty()) {
    const std::uint32_t path = walk.back();
    if (next[path] == lines.size() || path_at(next[path]) != path) {
      walk.pop_back();
      continue;
    }
    const std::uint32_t line = low(lines[next[path]++]);
    ordered.push_back(entries_[line]);
    if (keys_[line] != 0) walk.push_back(static_cast<std::uint32_t>(keys_[line]));
  }
  return ordered;
}

}  // namespace penstock
