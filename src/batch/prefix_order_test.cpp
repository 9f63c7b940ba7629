#include "batch/prefix_order.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

namespace penstock {
namespace {

using Prompts = std::vector<std::string>;
using Indices = std::vector<std::uint32_t>;

Indices order(const Prompts& prompts) {
  PrefixOrder order;
  for (const std::string& prompt : prompts) {
    const std::string_view whole = prompt;
    order.read({&whole, 1});
    const std::uint32_t index = order.size();
    order.add({.offset = 100 * std::uint64_t{index}, .length = index + 1, .index = index});
  }
  Indices indices;
  for (const PlanEntry& entry : order.finish()) {
    EXPECT_EQ(entry.offset, 100 * std::uint64_t{entry.index});
    EXPECT_EQ(entry.length, entry.index + 1);
    indices.push_back(entry.index);
  }
  return indices;
}

Indices file_order(std::size_t lines) {
  Indices all(lines);
  for (std::uint32_t i = 0; i < lines; ++i) all[i] = i;
  return all;
}

// A text like no other of the same test: 64 bytes or as many as are said.
std::string text(const std::string& name, std::size_t size = 64) {
  std::seed_seq seed(name.begin(), name.end());
  std::minstd_rand random(seed);
  std::string made;
  while (made.size() < size) made += static_cast<char>('a' + random() % 26);
  return made;
}

// What neighbours share, in bytes.
std::size_t shared(const Prompts& prompts, const Indices& indices) {
  std::size_t sum = 0;
  for (std::size_t i = 1; i < indices.size(); ++i) {
    const std::string &a = prompts[indices[i - 1]], &b = prompts[indices[i]];
    sum += static_cast<std::size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
  }
  return sum;
}

// No order shares more than this one.
std::size_t most_shared(const Prompts& prompts) {
  Indices sorted = file_order(prompts.size());
  std::sort(sorted.begin(), sorted.end(), [&](auto a, auto b) { return prompts[a] < prompts[b]; });
  return shared(prompts, sorted);
}

// How many lines do not follow the one that they should. Of many thousand lines, a few have hashes that collide.
std::size_t misplaced(const Indices& indices, const Indices& expected) {
  std::vector<std::uint32_t> before(expected.size());
  for (std::size_t i = 1; i < expected.size(); ++i) before[expected[i]] = expected[i - 1];
  std::size_t count = 0;
  for (std::size_t i = 1; i < indices.size(); ++i) count += before[indices[i]] != indices[i - 1] ? 1 : 0;
  return count;
}

bool each_once(Indices indices, std::size_t lines) {
  std::sort(indices.begin(), indices.end());
  return indices == file_order(lines);
}

TEST(PrefixOrderTest, WalksTheTreeOfThePrompts) {
  const std::string a = text("a"), b = text("b"), c = text("c"), d = text("d"), x = text("x"), y = text("y");
  struct Row {
    Prompts prompts;
    Indices order;
  };
  const Row table[] = {
      {{}, {}},
      {{a}, {0}},
      {{"", "short", "", "short"}, {0, 1, 2, 3}},
      {{a, b, c, d}, {0, 1, 2, 3}},
      {{a, a, a}, {0, 1, 2}},
      {{a + b, x, a + c, y, a + d}, {0, 2, 4, 1, 3}},
      // A group stands where its first line does.
      {{x, a + b, y, a + c, x}, {0, 4, 1, 3, 2}},
      // Two levels: what shares more is nearer.
      {{a + b + x, a + c + x, a + b + y, a + c + y}, {0, 2, 1, 3}},
      {{a + b + c, a + x, a + b + d, a + y, a + b}, {0, 2, 4, 1, 3}},
      // Three.
      {{a + b + c + x, a + d, a + b + d + x, x, a + b + c + y, a + b + d + y}, {0, 4, 2, 5, 1, 3}},
      // A prompt that ends where others go on.
      {{a, a + b, a + b + c, x, a + b + c + d}, {0, 1, 2, 4, 3}},
      {{a + b + c, a + b, x, a}, {0, 1, 3, 2}},
      // What is shared ends within a block.
      {{a + "one" + b, x, a + "two" + c, a + "one" + d}, {0, 2, 3, 1}},
  };
  for (const Row& row : table) {
    EXPECT_EQ(order(row.prompts), row.order) << fmt::format("{}", fmt::join(row.prompts, "\n"));
  }
}

TEST(PrefixOrderTest, PiecesMakeOnePrompt) {
  PrefixOrder order;
  // The pieces' ends count as the bytes do: short pieces make blocks together, and a block may end where a piece does.
  const std::vector<std::vector<std::string>> prompts = {
      {"You are terse.", text("example", 40), text("answer", 40), text("first", 100)},
      {text("other", 200)},
      {"You are terse.", text("example", 40), text("answer", 40), text("second", 100)},
      {"You are wordy.", text("example", 40), text("answer", 40), text("first", 100)}};
  for (const auto& prompt : prompts) {
    const std::vector<std::string_view> pieces(prompt.begin(), prompt.end());
    order.read(pieces);
    order.add({.offset = 0, .length = 1, .index = order.size()});
  }
  Indices indices;
  for (const PlanEntry& entry : order.finish()) indices.push_back(entry.index);
  EXPECT_EQ(indices, (Indices{0, 2, 1, 3}));
}

// Random trees of texts, each 64 to 700 bytes long, whose leaves come in a random order.
TEST(PrefixOrderTest, SharesAsMuchAsSortingWould) {
  for (unsigned seed = 1; seed <= 60; ++seed) {
    std::mt19937 random(seed);
    Prompts prompts;
    const auto grow = [&](auto& self, const std::string& path, unsigned depth) -> void {
      const unsigned children = 1 + random() % 6;
      for (unsigned child = 0; child < children; ++child) {
        const std::string longer =
            path + text(fmt::format("{} {} {}", seed, prompts.size(), child), 64 + random() % 637);
        if (depth == 0 || random() % 4 == 0) {
          prompts.push_back(longer);
        } else {
          self(self, longer, depth - 1);
        }
      }
    };
    grow(grow, "", 1 + random() % 6);
    std::shuffle(prompts.begin(), prompts.end(), random);
    const Indices indices = order(prompts);
    EXPECT_TRUE(each_once(indices, prompts.size())) << "seed " << seed;
    EXPECT_GE(static_cast<double>(shared(prompts, indices)), 0.99 * static_cast<double>(most_shared(prompts)))
        << "seed " << seed << ", " << prompts.size() << " prompts";
  }
}

TEST(PrefixOrderTest, LeavesAFileInWhichNothingIsSharedAsItIs) {
  const std::string tail = text("tail", 150), system = text("system", 128);
  for (const std::size_t lines : {1'000, 100'000}) {
    Prompts prompts;
    for (std::size_t i = 0; i < lines; ++i) {
      prompts.push_back(i % 100 == 0 ? "short" : fmt::format("{:08} {}", i, tail));
    }
    EXPECT_LE(misplaced(order(prompts), file_order(lines)), lines / 10'000);
    for (std::string& prompt : prompts) prompt = system + fmt::format("{:08}", &prompt - prompts.data()) + prompt;
    EXPECT_LE(misplaced(order(prompts), file_order(lines)), lines / 10'000);
    EXPECT_EQ(order(Prompts(lines, text("identical", 300))), file_order(lines));
  }
}

TEST(PrefixOrderTest, GroupsLinesThatAreFartherApartThanPathsAreKept) {
  // Two rounds over more groups than there is room for, under one system prompt.
  constexpr std::uint32_t kGroups = 100'000;
  const std::string system = text("system", 640);
  Prompts prompts{system};
  Indices grouped{0};
  for (std::uint32_t i = 0; i < 2 * kGroups; ++i) {
    prompts.push_back(system + fmt::format("{:064} {:064}", i % kGroups, i));
  }
  for (std::uint32_t i = 1; i <= kGroups; ++i) grouped.insert(grouped.end(), {i, i + kGroups});
  const Indices indices = order(prompts);
  EXPECT_TRUE(each_once(indices, prompts.size()));
  EXPECT_LE(misplaced(indices, grouped), prompts.size() / 1'000);
}

TEST(PrefixOrderTest, KeepsWhatLinesGoOnToShare) {
  // Between the lines of three levels come so many others that whatever is not followed is forgotten.
  const std::string system = text("system", 640);
  Prompts prompts;
  for (std::uint32_t i = 0; i < 200'000; ++i) {
    prompts.push_back(i % 100 != 0
                          ? fmt::format("{:064}", i)
                          : system + text(fmt::format("document {}", i / 100 % 20), 640) + fmt::format("{:064}", i));
  }
  const Indices indices = order(prompts);
  EXPECT_TRUE(each_once(indices, prompts.size()));
  EXPECT_GE(static_cast<double>(shared(prompts, indices)), 0.99 * static_cast<double>(most_shared(prompts)));
}

TEST(PrefixOrderTest, GroupsMoreLinesThanPathsHaveNumbers) {
  // The two lines of a group are 1,000 lines apart.
  constexpr std::uint32_t kGroups = 270'000, kApart = 1'000;
  Prompts prompts;
  Indices grouped;
  for (std::uint32_t i = 0; i < 2 * kGroups; ++i) {
    const bool first = i / kApart % 2 == 0;
    prompts.push_back(fmt::format("{:<64}{:<64}", first ? i : i - kApart, i));
    if (first) grouped.insert(grouped.end(), {i, i + kApart});
  }
  const Indices indices = order(prompts);
  EXPECT_TRUE(each_once(indices, prompts.size()));
  EXPECT_LE(misplaced(indices, grouped), prompts.size() / 1'000);
}

TEST(PrefixOrderTest, WhatDiffersOnlyFarBehindIsNotLookedAt) {
  const std::string most = text("long", 1 << 20);
  EXPECT_EQ(order({most + text("a"), text("x"), most + text("b"), most + text("a")}), (Indices{0, 2, 3, 1}));
}

TEST(PrefixOrderTest, ShortPiecesBehindALongOneAreNotLookedAtEither) {
  // As many blocks as are looked at, and some bytes.
  const std::string most = text("long", 16'383 * 64 + 10), same = text("same", 63);
  Indices indices;
  PrefixOrder order;
  for (const std::string& last : {text("a", 63), text("b", 63)}) {
    std::vector<std::string_view> pieces{most};
    pieces.resize(8'000, same);
    pieces.resize(16'000, last);
    order.read(pieces);
    order.add({.offset = 0, .length = 1, .index = order.size()});
  }
  for (const PlanEntry& entry : order.finish()) indices.push_back(entry.index);
  EXPECT_EQ(indices, (Indices{0, 1}));
}

TEST(PrefixOrderTest, APromptMayBeTheBeginningOfTheNext) {
  Prompts prompts;
  std::string growing;
  for (int i = 0; i < 1'000; ++i) prompts.push_back(growing += text("step"));
  const Indices indices = order(prompts);
  EXPECT_EQ(shared(prompts, indices), most_shared(prompts));
}

}  // namespace
}  // namespace penstock
