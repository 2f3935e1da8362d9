// SPDX-License-Identifier: Apache-2.0
//
// What libFuzzer calls; it brings its own main.

#include <cstddef>
#include <cstdint>

#include "qeff/fuzz/fuzz_input.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  qeff::CheckFuzzResult(qeff::ReadFuzzInput(
      absl::string_view(reinterpret_cast<const char*>(data), size)));
  return 0;
}
