#include "base/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace penstock::metrics {
namespace {

constexpr std::string_view kOpenMetrics = "application/openmetrics-text";

// How much a range of an Accept header is wanted (RFC 9110 section 12.4.2).
double weight_of(std::string_view range) {
  const auto at = range.find("q=");
  double weight = 1;
  if (at != std::string_view::npos) std::from_chars(range.data() + at + 2, range.data() + range.size(), weight);
  return weight;
}

void append_escaped(std::string& out, std::string_view text, bool quotes) {
  for (const char c : text) {
    if (c == '\\' || (c == '"' && quotes)) out += '\\';
    if (c == '\n') {
      out += "\\n";
    } else {
      out += c;
    }
  }
}

// As both formats read it; a bound has a point in it, as OpenMetrics wants.
std::string number(double value) {
  std::string text = fmt::format("{}", value);
  if (text.find_first_of(".en") == std::string::npos) text += ".0";
  return text;
}

}  // namespace

void Histogram::add(double value) {
  const auto bound = std::lower_bound(bounds_.begin(), bounds_.end(), value);
  ++counts_[static_cast<std::size_t>(bound - bounds_.begin())];
  sum_ += value;
}

Format format_for(std::string_view accept) {
  double open_metrics = 0, text = 0;
  while (!accept.empty()) {
    std::string_view range = accept.substr(0, accept.find(','));
    accept.remove_prefix(std::min(range.size() + 1, accept.size()));
    range.remove_prefix(std::min(range.find_first_not_of(' '), range.size()));
    double& best = range.starts_with(kOpenMetrics) ? open_metrics : text;
    best = std::max(best, weight_of(range));
  }
  return open_metrics > 0 && open_metrics >= text ? Format::open_metrics : Format::prometheus;
}

std::string_view content_type(Format format) {
  return format == Format::open_metrics ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
                                        : "text/plain; version=0.0.4; charset=utf-8";
}

void Exposition::family(std::string_view name, std::string_view type, std::string_view help) {
  name_ = name;
  out_ += fmt::format("# HELP {} ", name);
  append_escaped(out_, help, format_ == Format::open_metrics);
  out_ += fmt::format("\n# TYPE {} {}\n", name, type);
}

void Exposition::counter(std::string_view name, std::string_view help) {
  // OpenMetrics names the family without the suffix of its samples.
  const std::string_view family_name = name.substr(0, name.size() - std::string_view("_total").size());
  family(format_ == Format::open_metrics ? family_name : name, "counter", help);
  name_ = name;
}

void Exposition::gauge(std::string_view name, std::string_view help) {
  family(name, "gauge", help);
}

void Exposition::histogram(std::string_view name, std::string_view help) {
  family(name, "histogram", help);
}

void Exposition::info(std::string_view name, std::string_view help) {
  const std::string_view family_name = name.substr(0, name.size() - std::string_view("_info").size());
  if (format_ == Format::open_metrics) {
    family(family_name, "info", help);
  } else {
    family(name, "gauge", help);
  }
  name_ = name;
}

void Exposition::line(std::string_view suffix, Labels labels, std::string_view le, std::string_view value) {
  out_ += name_;
  out_ += suffix;
  char before = '{';
  const auto label = [&](std::string_view name, std::string_view text) {
    out_ += before;
    out_ += name;
    out_ += "=\"";
    append_escaped(out_, text, true);
    out_ += '"';
    before = ',';
  };
  for (const auto& [name, text] : labels) label(name, text);
  if (!le.empty()) label("le", le);
  if (before == ',') out_ += '}';
  out_ += ' ';
  out_ += value;
  out_ += '\n';
}

void Exposition::sample(Labels labels, std::int64_t value) {
  line("", labels, "", std::to_string(value));
}

void Exposition::sample(Labels labels, double value) {
  line("", labels, "", number(value));
}

void Exposition::sample(Labels labels, const Histogram& histogram) {
  std::int64_t count = 0;
  for (std::size_t i = 0; i < histogram.counts().size(); ++i) {
    count += histogram.counts()[i];
    const bool is_last = i == histogram.bounds().size();
    line("_bucket", labels, is_last ? "+Inf" : number(histogram.bounds()[i]), std::to_string(count));
  }
  line("_sum", labels, "", number(histogram.sum()));
  line("_count", labels, "", std::to_string(count));
}

std::string Exposition::text() {
  if (format_ == Format::open_metrics) out_ += "# EOF\n";
  return std::move(out_);
}

}  // namespace penstock::metrics
