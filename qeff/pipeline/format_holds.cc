// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/format_holds.h"

#include "absl/strings/str_cat.h"

namespace qeff {
namespace {

constexpr int64_t kBlockElems = 32;

// What holds blocks and tables that are integers as integers.
QuantScheme AsIntegers(const QuantScheme& scheme) {
  QuantScheme integers;
  integers.inputs = scheme.inputs;
  integers.group_size = kBlockElems;
  if (scheme.ggml == GgmlType::kQ4_0) {
    integers.bits = 4;
  } else if (scheme.ggml == GgmlType::kQ8_0 ||
             scheme.codebook == Codebook::kMxint8) {
    integers.bits = 8;
  } else {
    return scheme;
  }
  return integers;
}

bool GgufHolds(const QuantScheme& scheme) {
  if (scheme.ggml.has_value()) return true;
  if (scheme.codebook.has_value()) {
    return scheme.codebook == Codebook::kMxfp4 ||
           scheme.codebook == Codebook::kMxint8;
  }
  return scheme.inputs == InputCodes::kNone && scheme.symmetric &&
         scheme.group_size % kBlockElems == 0;
}

bool CompressedTensorsHolds(const QuantScheme& scheme) {
  if (scheme.codebook.has_value()) {
    return scheme.codebook == Codebook::kF8E4M3 ||
           scheme.codebook == Codebook::kMxfp4;
  }
  return scheme.integers() &&
         (scheme.bits == 2 || scheme.bits == 4 || scheme.bits == 8);
}

bool GptqHolds(const QuantScheme& scheme) {
  return scheme.integers() && scheme.inputs == InputCodes::kNone &&
         (scheme.bits == 2 || scheme.bits == 3 || scheme.bits == 4 ||
          scheme.bits == 8);
}

struct Format {
  bool (*holds)(const QuantScheme& scheme);
  const char* takes;
  bool one_scheme;
};

Format FormatNamed(absl::string_view name) {
  if (name == "gguf") {
    return {GgufHolds,
            "ggml's blocks, mxfp4, mxint8 and integers a row or in groups of "
            "32, 64, ... without zero points",
            false};
  }
  if (name == "compressed-tensors") {
    return {CompressedTensorsHolds,
            "integers of 2, 4 and 8 bits, w8a8, fp8_e4m3 and mxfp4", false};
  }
  if (name == "gptq" || name == "gptq_v2") {
    return {GptqHolds, "integers of 2, 3, 4 and 8 bits", true};
  }
  if (name == "awq") {
    return {[](const QuantScheme& scheme) {
              return GptqHolds(scheme) && scheme.bits == 4;
            },
            "integers of 4 bits", true};
  }
  if (name == "sparse-24-bitmask") {
    return {[](const QuantScheme&) { return false; }, "floats", false};
  }
  return {nullptr, "", false};
}

}  // namespace

std::string WhyFormatCannotHold(absl::string_view format,
                                absl::Span<const QuantScheme> schemes) {
  const Format of = FormatNamed(format);
  if (of.holds == nullptr) return "";
  for (const QuantScheme& scheme : schemes) {
    const QuantScheme stored = format == "gguf" ? scheme : AsIntegers(scheme);
    if (!of.holds(stored)) {
      return absl::StrCat("cannot hold ", QuantSchemeName(scheme),
                          scheme.symmetric ? "" : " with zero points",
                          ": it takes ", of.takes);
    }
    if (of.one_scheme &&
        (stored.bits != AsIntegers(schemes[0]).bits ||
         stored.group_size != AsIntegers(schemes[0]).group_size)) {
      return absl::StrCat("cannot hold both ", QuantSchemeName(schemes[0]),
                          " and ", QuantSchemeName(scheme),
                          ": it has one number of bits and one group size for "
                          "all layers");
    }
  }
  return "";
}

}  // namespace qeff
