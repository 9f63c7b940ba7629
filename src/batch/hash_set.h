#pragma once
#include <algorithm>
#include <array>
#include <vector>

#include "model/line_parser.h"

namespace penstock {

// A set of random hashes. It is many small tables that grow one at a time, so that growing never holds the set twice:
// 20 to 30 bytes a hash, at any moment.
class HashSet {
 public:
  // False when it was there before.
  bool insert(Hash128 hash) {
    hash.low |= 1;  // a free slot is zero
    Part& part = parts_[hash.high % kParts];
    if (part.used >= part.slots.size() / 5 * 4) grow(part);
    Hash128& slot = find(part.slots, hash);
    if (slot == hash) return false;
    slot = hash;
    ++part.used;
    return true;
  }

  // Brings the place of a hash that is inserted soon into the cache. In a large set that is what inserting costs.
  void prefetch(const Hash128& hash) const {
    const auto& slots = parts_[hash.high % kParts].slots;
    __builtin_prefetch(slots.data() + home(slots, hash), 1);
  }

 private:
  static constexpr std::size_t kParts = 256, kSlotsMin = 20;
  struct Part {
    std::vector<Hash128> slots;
    std::size_t used = 0;
  };

  // Where the search begins: as far into the table as `low` is into 2^64.
  static std::size_t home(const std::vector<Hash128>& slots, const Hash128& hash) {
    return static_cast<std::size_t>((static_cast<unsigned __int128>(hash.low) * slots.size()) >> 64);
  }

  // Where it is, or the free slot where it belongs.
  static Hash128& find(std::vector<Hash128>& slots, const Hash128& hash) {
    std::size_t at = home(slots, hash);
    while (slots[at] != Hash128{} && slots[at] != hash) at = at + 1 < slots.size() ? at + 1 : 0;
    return slots[at];
  }

  static void grow(Part& part) {
    std::vector<Hash128> larger(std::max(kSlotsMin, part.slots.size() / 2 * 3));
    for (const Hash128& hash : part.slots) {
      if (hash != Hash128{}) find(larger, hash) = hash;
    }
    part.slots = std::move(larger);
  }

  std::array<Part, kParts> parts_;
};

}  // namespace penstock
