// SPDX-License-Identifier: Apache-2.0
//
// The quantization_config of a model's config.json: which linear layers hold
// packed integer codes, codes of a table, or blocks of ggml, and with which
// arguments. Read and written for quant_method "compressed-tensors" (formats
// pack-quantized, int-quantized with 8-bit inputs, float-quantized and
// mxfp4-pack-quantized), "qeff" (qeff/format/README.md), "gptq" and "awq"
// (gptq_awq_config.h). Source: compressed-tensors, config and quantization
// arguments.

#ifndef QEFF_IO_QUANTIZATION_CONFIG_H_
#define QEFF_IO_QUANTIZATION_CONFIG_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "qeff/format/quantized_layout.h"
#include "qeff/io/weight_quantization.h"
#include "qeff/util/json.h"
#include "qeff/util/name_pattern.h"

namespace qeff {

// The version of quant_method "qeff" that is written, and the newest read.
inline constexpr int kQeffLayoutVersion = 1;

// Thread-safe once created.
class QuantizationConfig {
 public:
  // Layers that `targets` name have weights stored as `weights` says. A target
  // is "Linear" or "Conv1D" (all linear layers), the name of a module, or
  // "re:" and a pattern that the beginning of a module's name matches.
  struct Group {
    std::vector<std::string> targets;
    WeightQuantization weights;
  };

  // `ignore` holds targets that stay as they are. Errors: those of
  // NamePattern::Compile; kInvalidArgument for over 256 patterns.
  static absl::StatusOr<QuantizationConfig> Create(
      QuantizedLayout layout, std::vector<Group> groups,
      std::vector<std::string> ignore);

  QuantizedLayout layout() const { return layout_; }
  const std::vector<Group>& groups() const { return groups_; }
  const std::vector<std::string>& ignore() const { return ignore_; }

  // How the weights of the linear layer `module` are stored; nullopt when it
  // is ignored or no group has it; with IsInputMajor(layout()), how they are
  // stored if they are quantized, which the tensors say. A name goes before a
  // pattern, and a pattern before "Linear"; then the first group counts.
  absl::optional<WeightQuantization> Find(absl::string_view module) const;

  // The value of quantization_config.
  Json ToJson() const;

 private:
  struct Matcher {
    std::string name;  // or empty with a pattern
    absl::optional<NamePattern> pattern;
  };

  QuantizationConfig() = default;

  static absl::StatusOr<std::vector<Matcher>> Compile(
      const std::vector<std::string>& targets, size_t* patterns);
  // 0: no match; otherwise how exact the match is.
  static int Match(const std::vector<Matcher>& matchers,
                   absl::string_view module);

  QuantizedLayout layout_ = QuantizedLayout::kCompressedTensors;
  std::vector<Group> groups_;
  std::vector<std::string> ignore_;
  std::vector<std::vector<Matcher>> group_matchers_;  // as groups_
  std::vector<Matcher> ignore_matchers_;
};

// Reads quantization_config of `config`, a config.json; nullopt when it has
// none, or one that says only that zeros are left out (sparse_24_tensor.h).
// `context` (its path) begins every error. Errors: kInvalidArgument for a
// malformed value; kUnimplemented, naming key and value, for what qeff does not
// read: another quant_method (fp8, bitsandbytes, ...) or format, inputs other
// than InputCodes, quantized outputs or key-value caches, other float types,
// block strategies, sparsity, transforms, a newer version of "qeff", and what
// ParseGptqAwqConfig does not take.
absl::StatusOr<absl::optional<QuantizationConfig>> ParseQuantizationConfig(
    const Json& config, const std::string& context);

}  // namespace qeff

#endif  // QEFF_IO_QUANTIZATION_CONFIG_H_
