#pragma once
#include <gtest/gtest.h>

#include <cstdlib>
#include <optional>

#include "base/random.h"
#include "blob/s3.h"
#include "testing/fixtures.h"

namespace penstock {

// A place of its own in the S3 server that the environment names: PENSTOCK_TEST_<name>_ENDPOINT, _BUCKET, _KEY, _SECRET
// and _REGION, as tests/services.py sets them. Nothing when it names none.
inline std::optional<S3Options> s3_place(const std::string& name) {
  const auto setting = [&](const char* what) {
    const char* const value = std::getenv(("PENSTOCK_TEST_" + name + "_" + what).c_str());
    return std::string(value ? value : "");
  };
  if (setting("ENDPOINT").empty()) return std::nullopt;
  S3Options options;
  options.endpoint = setting("ENDPOINT");
  options.bucket = setting("BUCKET");
  options.region = setting("REGION");
  options.credentials = {setting("KEY"), setting("SECRET"), ""};
  options.prefix = random_id("test_") + "/";
  return options;
}

}  // namespace penstock
