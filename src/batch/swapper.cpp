#include "batch/swapper.h"

#include <algorithm>

#include "base/log.h"

namespace penstock {
namespace {

constexpr Millis kLookAgain{10'000};      // another process may have changed the queue
constexpr Millis kLoadingMax{3'600'000};  // while others wait: no model loads for as long, so the program hangs

}  // namespace

ModelChoice choose_model(const DeviceView& device, const std::vector<Demand>& queue) {
  std::vector<Demand> ours;
  for (const Demand& demand : queue) {
    const bool is_ours = std::find(device.models.begin(), device.models.end(), demand.model) != device.models.end();
    if (is_ours && !device.broken.contains(demand.model)) ours.push_back(demand);
  }
  if (ours.empty()) return {device.loaded.empty() ? device.models.front() : device.loaded};

  std::map<ProjectId, int> top;  // priority: it orders what is one project's
  for (const Demand& demand : ours) top.emplace(demand.project, demand.priority);
  std::erase_if(ours, [&](const Demand& demand) { return demand.priority != top.at(demand.project); });
  const bool is_in_order = ours.front().priority == ours.back().priority;
  const auto has_work = [&](const std::string& model) {
    return std::any_of(ours.begin(), ours.end(), [&](const Demand& demand) { return demand.model == model; });
  };
  const auto other =
      std::find_if(ours.begin(), ours.end(), [&](const Demand& demand) { return demand.model != device.loaded; });
  if (other == ours.end()) return {device.loaded};
  const auto next = [&](const auto& models) {
    return std::find_if(models.begin(), models.end(),
                        [&](const std::string& model) { return model != device.loaded && has_work(model); });
  };
  if (const auto model = next(device.to_retry); model != device.to_retry.end()) return {*model};
  if (!has_work(device.loaded) && is_in_order) return {other->model};
  if (!has_work(device.loaded) || device.overdue) return {*next(device.models)};
  return {device.loaded, true};
}

Swapper::Swapper(asio::io_context& loop, Clock& clock, Db& db, Millis swap_after)
    : clock_(clock), db_(db), swap_after_(swap_after), wake_(loop), tasks_(loop) {}

void Swapper::add_device(std::string name, std::vector<ManagedEngine*> engines) {
  devices_.push_back({.name = std::move(name), .engines = std::move(engines), .contested_since = {}, .retried = {}});
}

void Swapper::start() {
  if (!devices_.empty()) tasks_.keep("swapping models", clock_, [this] { return run(); });
}

Task<> Swapper::stop() {
  tasks_.cancel();
  co_await tasks_.join();
}

Moment Swapper::overdue_at(const Device& device) const {
  if (!device.contested_since) return Moment::max();
  if (!device.has_served) return *device.contested_since + std::max(swap_after_, kLoadingMax);
  return swap_after_ > Millis{0} ? *device.contested_since + swap_after_ : Moment::max();
}

Task<> Swapper::run() {
  while (true) {
    const auto [queue, unfinished] = co_await db_.read(
        [&](Store& store) { return std::pair(store.demands(clock_.now()), !store.unfinished_batches().empty()); });
    Moment due = clock_.monotonic() + kLookAgain;
    for (Device& device : devices_) {
      look(device, queue, queue.empty() && unfinished);
      due = std::min(due, overdue_at(device));
    }
    co_await wake_.wait_until(clock_, due);
  }
}

void Swapper::look(Device& device, const std::vector<Demand>& queue, bool more_to_come) {
  if (!device.loaded && more_to_come) return;  // rather the first that is wanted than any
  if (device.loaded && device.loaded->ready() && !std::exchange(device.has_served, true)) {
    device.contested_since.reset();
  }
  DeviceView view{.models = {},
                  .broken = {},
                  .to_retry = {},
                  .loaded = device.loaded ? device.loaded->name() : "",
                  .overdue = clock_.monotonic() >= overdue_at(device)};
  const bool is_hopeless = device.loaded && device.loaded->hopeless();  // it may be at its own try now
  for (ManagedEngine* engine : device.engines) {
    view.models.push_back(engine->name());
    if (!engine->hopeless()) device.retried.erase(engine);
    if (!engine->may_start()) {
      view.broken.insert(engine->name());
    } else if (engine->hopeless() && !is_hopeless && !device.retried.contains(engine)) {
      view.to_retry.insert(engine->name());
    }
  }
  const ModelChoice choice = choose_model(view, queue);
  if (choice.model != view.loaded) {
    if (device.loaded) log::info("device {}: {} makes room for {}", device.name, view.loaded, choice.model);
    const auto chosen = std::find_if(device.engines.begin(), device.engines.end(),
                                     [&](const ManagedEngine* engine) { return engine->name() == choice.model; });
    device.loaded = *chosen;
    std::rotate(chosen, chosen + 1, device.engines.end());
    if (device.loaded->hopeless()) device.retried.insert(device.loaded);
    device.has_served = false;
    device.contested_since.reset();
  } else if (!choice.contested) {
    device.contested_since.reset();
  } else if (!device.contested_since) {
    device.contested_since = clock_.monotonic();
  }
  bool is_free = true;
  for (ManagedEngine* engine : device.engines) {
    if (engine == device.loaded) continue;
    engine->set_wanted(false);
    is_free &= !engine->holds_device();
  }
  if (is_free) device.loaded->set_wanted(true);
}

}  // namespace penstock
