#include "batch/swapper.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace penstock {
namespace {

// "a0 b1q": a batch of the model a with priority 0, then one of b with priority 1 and of the project q.
std::vector<Demand> queue_of(const std::string& text) {
  std::vector<Demand> queue;
  std::size_t from = 0;
  while (from < text.size()) {
    const auto end = std::min(text.find(' ', from), text.size());
    queue.push_back({text.substr(from, 1), std::stoi(text.substr(from + 1, end - from - 1)), kDefaultProject});
    if (std::isalpha(text[end - 1])) queue.back().project = {text.substr(end - 1, 1)};
    from = end + 1;
  }
  return queue;
}

TEST(SwapperTest, ADeviceHasTheModelThatItsTableSays) {
  const struct {
    const char* what;
    std::string loaded, broken, queue;
    bool overdue;
    std::string expected;
    bool contested;
  } table[] = {
      {"nothing to do, nothing loaded: the first of the configuration", "", "", "", false, "a", false},
      {"nothing to do: what is loaded stays", "b", "", "", false, "b", false},
      {"work for other devices is none", "b", "", "x0 y1", true, "b", false},
      {"nothing loaded: the first of the queue", "", "", "c0 a0", false, "c", false},
      {"its own work", "a", "", "a0", false, "a", false},
      {"its own work, for the second time", "a", "", "a0 a0", true, "a", false},
      {"others have work and it has none", "a", "", "c0 b0", false, "c", false},
      {"both have work: it stays", "a", "", "b0 a0", false, "a", true},
      {"both have work, the other's came later", "a", "", "a0 b0", false, "a", true},
      {"the other has waited long enough", "a", "", "a0 b0", true, "b", false},
      {"two others have: who had it longest ago", "a", "", "a0 c0 b0", true, "b", false},
      {"nobody waits with that who had it longest ago", "b", "", "b0 c0", true, "c", false},
      {"higher priority waits", "a", "", "b1 a0", false, "b", false},
      {"its own work is the more important", "b", "", "b1 a0 a0", false, "b", false},
      {"nor is it overdue for what is less important", "b", "", "b1 a0", true, "b", false},
      {"low priority waits behind normal", "a", "", "a0 b-1", true, "a", false},
      {"low priority has its turn when nobody else has work", "a", "", "b-1", false, "b", false},
      {"both low: it stays", "a", "", "b-1 a-1", false, "a", true},
      {"it has work of both, and the other of the higher", "a", "", "b1 a1 a0", false, "a", true},
      {"its work is of lower priority only, the other's of both", "a", "", "b1 a0 b0", false, "b", false},
      {"another project's is of higher priority: it stays", "a", "", "b1q a0", false, "a", true},
      {"its own is, and another project's has waited long enough", "a", "", "a1q b0", true, "b", false},
      {"the other has work of its project's lower priority only", "a", "", "a1q b0q", true, "a", false},
      {"it has, and another project of the same priority", "a", "", "b1q a0q a0", false, "a", true},
      {"both low in their projects' eyes", "a", "", "a0 b-1q", true, "b", false},
      {"another project's models do not hand it to each other", "c", "", "b1q a0", false, "a", false},
      {"it does not start, and the other has work", "a", "a", "a0 b0", false, "b", false},
      {"the more important one does not start", "b", "a", "a1 b0", true, "b", false},
      {"it does not start and nobody else has work", "a", "a", "a0", false, "a", false},
      {"a good one stays when only what does not start has work", "b", "a", "a0", false, "b", false},
      {"two that do not start stay as they are", "a", "ab", "b0 a0", true, "a", false},
      {"nothing to do, and the first does not start", "b", "a", "", false, "b", false},
  };
  for (const auto& row : table) {
    DeviceView device{
        .models = {"a", "b", "c"}, .broken = {}, .to_retry = {}, .loaded = row.loaded, .overdue = row.overdue};
    for (const char model : row.broken) device.broken.insert(std::string(1, model));
    const ModelChoice choice = choose_model(device, queue_of(row.queue));
    EXPECT_EQ(choice.model, row.expected) << row.what;
    EXPECT_EQ(choice.contested, row.contested) << row.what;
  }
}

TEST(SwapperTest, WhoIsToBeTriedOnceMoreIsNextWhenItHasWorkOfTheSamePriority) {
  DeviceView device{.models = {"a", "b", "c"}, .broken = {}, .to_retry = {"b"}, .loaded = "a"};
  EXPECT_EQ(choose_model(device, queue_of("a0 c0 b0")).model, "b");
  EXPECT_EQ(choose_model(device, queue_of("a1 b0")).model, "a");
  EXPECT_EQ(choose_model(device, queue_of("a0 c0")).model, "a");
  device.loaded = "b";
  EXPECT_EQ(choose_model(device, queue_of("a0 c0 b0")).model, "b");
}

TEST(SwapperTest, WhoIsChosenStaysChosen) {
  // Whatever is loaded and whatever waits: the choice does not change by being made, so nothing is swapped to and fro.
  const std::string demands[] = {"a0", "b0", "c0", "a1", "b1", "a-1", "b-1q"};
  int cases = 0;
  for (const std::string loaded : {"", "a", "b", "c"}) {
    for (const std::string broken : {"", "a", "b", "ab"}) {
      for (unsigned set = 0; set < 128; ++set) {
        for (const bool overdue : {false, true}) {
          std::vector<Demand> queue;
          for (unsigned i = 0; i < 7; ++i) {
            if (set & (1U << i)) queue.push_back(queue_of(demands[i]).front());
          }
          std::stable_sort(queue.begin(), queue.end(),
                           [](const Demand& x, const Demand& y) { return x.priority > y.priority; });
          DeviceView device{
              .models = {"a", "b", "c"}, .broken = {}, .to_retry = {}, .loaded = loaded, .overdue = overdue};
          if (loaded != "c") device.to_retry = {"c"};
          for (const char model : broken) device.broken.insert(std::string(1, model));
          device.loaded = choose_model(device, queue).model;
          device.overdue = false;
          if (device.loaded == "c") device.to_retry.clear();
          EXPECT_EQ(choose_model(device, queue).model, device.loaded) << loaded << broken << set;
          ++cases;
        }
      }
    }
  }
  EXPECT_EQ(cases, 4 * 4 * 128 * 2);
}

}  // namespace
}  // namespace penstock
