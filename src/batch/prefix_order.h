#pragma once
#include <span>
#include <string_view>
#include <vector>

#include "model/types.h"

namespace penstock {

// Puts the lines of a file into the order in which neighbours share the most of their prompts' beginnings, which an
// engine then finds in its prefix cache: a walk, depth first, of the tree that the prompts make in blocks of 64 bytes.
// Lines that share no block stay in the order of the file, and groups stand where their first line does.
//
// The tree is made while the lines come, in one pass. Each line follows the paths that earlier ones have made, as far
// as its blocks are theirs, and makes the rest of its own blocks a new path that leaves the last of them there. A path
// is kept as 4 bytes a block, and forgotten when no line has followed it for 32,768 new ones or 16 MB of them, so that
// all paths take 6 MB at most. Of a line nothing is kept but its entry and 8 bytes: where it leaves which path, and
// with what block. So lines are grouped even by a block that was forgotten between them; only which of them share more
// than that is then not known.
//
// No input makes it slow: a line costs no more than its blocks. Hashes that collide cost order and nothing else.
class PrefixOrder {
 public:
  PrefixOrder();
  // The prompt of the next line, in pieces. They are no longer needed when this returns.
  void read(std::span<const std::string_view> prompt);
  // That line. Its index is the number of those added before.
  void add(const PlanEntry& entry);
  std::uint32_t size() const { return static_cast<std::uint32_t>(entries_.size()); }
  // All lines in their order. Once.
  std::vector<PlanEntry> finish();

 private:
  using Hash = std::uint32_t;  // of a block and all before it

  // Where a line leaves the tree that there was: bits for the path, for how many blocks (most first), and the hash of
  // the next one. Sorted by the first two, the lines of a path are in the order of a walk that comes back from its end.
  using Key = std::uint64_t;
  static constexpr int kHashBits = 32, kDepthBits = 14, kPathBits = 18;
  static constexpr std::uint32_t kDepthMax = (1 << kDepthBits) - 1, kNumbersMax = 1 << kPathBits;
  static Key make_key(std::uint32_t path, std::uint32_t depth, Hash hash) {
    return (Key{path} << kDepthBits | (kDepthMax - depth)) << kHashBits | hash;
  }

  // What a line added to the tree: its blocks behind those that were known.
  struct Path {
    std::uint32_t line;        // whose it is
    std::uint32_t number = 0;  // from 1, when another line follows it
    std::uint32_t begin, size;
  };
  // Paths that were made or followed at about the same time.
  struct Paths {
    static constexpr std::size_t kHashesMax = 1 << 18, kPathsMax = 1 << 15;
    std::uint32_t first = 1;  // of those that were ever kept, counted from 1
    std::vector<Path> paths = {};
    std::vector<Hash> hashes = {};
  };
  // Where a path that begins with this hash was kept.
  struct Slot {
    Hash hash = 0;
    std::uint32_t path = 0;
  };
  struct alignas(64) Bucket {
    Slot slots[8];
  };

  Key follow();
  void make_room();
  void keep(const Path& path, std::span<const Hash> hashes);
  void put(Slot slot);
  Paths& paths_of(std::uint32_t path) { return path >= young_.first ? young_ : old_; }
  Bucket& bucket(Hash hash) { return buckets_[hash & (buckets_.size() - 1)]; }
  std::uint32_t find(Hash hash);  // 0: none
  void gather(std::span<std::uint64_t> siblings) const;
  std::vector<std::uint64_t> alike_in(std::span<const std::uint64_t> siblings) const;

  std::vector<Hash> hashes_;  // of the line that was read
  std::size_t left_at_ = 0;   // where the last line began a path of its own
  Paths young_, old_;
  std::vector<Bucket> buckets_;
  std::vector<PlanEntry> entries_;
  std::vector<Key> keys_;
  std::vector<std::uint32_t> owners_{0};  // the lines of the paths that have a number, by that; 0 is the root
  bool forgot_ = false;
};

}  // namespace penstock
