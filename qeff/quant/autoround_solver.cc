// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/autoround_solver.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/kernels/convert/convert.h"
#include "qeff/quant/quantized_output.h"
#include "qeff/quant/tuned_layer.h"
#include "qeff/util/check.h"
#include "qeff/util/checksum.h"
#include "qeff/util/hash_map.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

std::vector<LinearWeights BlockWeights::*> PartsOf(LinearRole role) {
  switch (role) {
    case LinearRole::kQ:
      return {&BlockWeights::q};
    case LinearRole::kK:
      return {&BlockWeights::k};
    case LinearRole::kV:
      return {&BlockWeights::v};
    case LinearRole::kQkv:
      return {&BlockWeights::q, &BlockWeights::k, &BlockWeights::v};
    case LinearRole::kO:
      return {&BlockWeights::o};
    case LinearRole::kGate:
      return {&BlockWeights::gate};
    case LinearRole::kUp:
      return {&BlockWeights::up};
    case LinearRole::kDown:
      return {&BlockWeights::down};
    case LinearRole::kLmHead:
      break;
  }
  QEFF_CHECK(false);
  return {};
}

std::string ChecksumOf(absl::Span<const uint8_t> bytes) {
  return absl::StrCat(absl::Hex(Checksum64(bytes)));
}

}  // namespace

std::string WhyNotTuned(const ModelMap& map, const QuantizePlan& plan) {
  HashSet<std::string> modules;
  for (const BlockNames& block : map.blocks) {
    for (const LinearModule& linear : block.linears) {
      modules.insert(linear.module);
    }
  }
  for (const PlannedTensor& tensor : plan.tensors) {
    if (!tensor.quantized() || tensor.scheme.inputs == InputCodes::kNone ||
        !modules.contains(tensor.module)) {
      continue;
    }
    return absl::StrCat("autoround learns codes of layers with float inputs; ",
                        tensor.module, " has the scheme ",
                        QuantSchemeName(tensor.scheme));
  }
  return "";
}

AutoRoundSolver::AutoRoundSolver(const Transformer& model,
                                 const BlockTunerOptions& options,
                                 GptqSolver* first, ThreadPool& pool)
    : model_(model), options_(options), first_(*first), pool_(pool) {
  for (const BlockNames& block : model.map().blocks) {
    for (const LinearModule& linear : block.linears) {
      roles_.emplace(linear.module, linear.role);
    }
    norms_.insert(block.attention_norm.weight);
    norms_.insert(block.ffn_norm.weight);
  }
  first_.set_keeper([this](const PlannedTensor& tensor, int64_t begin,
                           MatrixView<const float> weights,
                           const QuantizedRowBytes& rows) {
    Keep(tensor, begin, weights, rows);
  });
}

void AutoRoundSolver::set_writer(CheckpointWriter* writer) {
  writer_ = writer;
  first_.set_writer(writer);
}

bool AutoRoundSolver::Writes(const std::string& name) const {
  return first_.Writes(name) || norms_.contains(name);
}

uint64_t AutoRoundSolver::MemoryBytes(const TokenSample& sample) const {
  int64_t length = 0;
  for (const std::vector<int32_t>& sequence : sample.sequences) {
    length = std::max(length, static_cast<int64_t>(sequence.size()));
  }
  // Weights as solved, steps and codes of them, and what is around groups of
  // 16 to 32.
  constexpr uint64_t kBytesOfWeight = 4 + 5 + 2;
  const uint64_t layers =
      kBytesOfWeight *
      static_cast<uint64_t>(model_.spec().block_linear_elems());
  return layers +
         std::max(first_.MemoryBytes(), TuneBlockBytes(model_.spec(), length));
}

double AutoRoundSolver::Flops(const TokenSample& sample) const {
  return static_cast<double>(model_.spec().num_layers) *
         TuneBlockFlops(options_, sample.tokens,
                        model_.spec().block_linear_elems());
}

bool AutoRoundSolver::Changes(const LinearModule& module) const {
  return first_.Changes(module);
}

absl::Status AutoRoundSolver::Prepare(int64_t block, BlockInputs* inputs,
                                      BlockWeights* norms) {
  return first_.Prepare(block, inputs, norms);
}

absl::Status AutoRoundSolver::Solve(absl::Span<CalibratedLinear* const> layers,
                                    InputStatistics* inputs) {
  return first_.Solve(layers, inputs);
}

absl::Status AutoRoundSolver::SolveLmHead(InputStatistics* inputs) {
  return first_.SolveLmHead(inputs);
}

void AutoRoundSolver::Keep(const PlannedTensor& tensor, int64_t begin,
                           MatrixView<const float> weights,
                           const QuantizedRowBytes& rows) {
  if (layers_.empty() || layers_.back().tensor != &tensor) {
    layers_.push_back({&tensor, std::make_unique<TunedLayer>(
                                    tensor.scheme, tensor.scale_dtype(),
                                    tensor.rows, tensor.cols)});
  }
  layers_.back().tuned->SetRows(begin, weights, rows);
}

absl::Status AutoRoundSolver::TuneBlock(const SolvedBlock& block) {
  const BlockNames& names =
      model_.map().blocks[static_cast<size_t>(block.index)];
  std::vector<BlockTunerLayer> layers;
  for (const Layer& layer : layers_) {
    layers.push_back(
        {PartsOf(roles_.at(layer.tensor->module)), layer.tuned.get()});
  }
  QEFF_ASSIGN_OR_RETURN(const TensorView norm,
                        model_.checkpoint().Get(names.attention_norm.weight));
  QEFF_ASSIGN_OR_RETURN(
      const BlockTunerResult result,
      qeff::TuneBlock(block, options_, norm.dtype, layers, pool_));
  reports_.push_back({block.index, result.loss_before, result.loss_after});
  step_ = Json{{"block", reports_.back().ToJson()}, {"norms", Json::object()}};
  for (const Layer& layer : layers_) QEFF_RETURN_IF_ERROR(WriteLayer(layer));
  layers_.clear();
  first_.ReplaceNorms(*block.weights);
  QEFF_RETURN_IF_ERROR(WriteNorm(names.attention_norm.weight,
                                 block.weights->attention_norm.weight));
  return WriteNorm(names.ffn_norm.weight, block.weights->ffn_norm.weight);
}

absl::Status AutoRoundSolver::WriteNorm(const std::string& name,
                                        const std::vector<float>& values) {
  if (first_.Writes(name)) return absl::OkStatus();
  QEFF_ASSIGN_OR_RETURN(const TensorView view, model_.checkpoint().Get(name));
  std::vector<uint8_t> bytes(view.bytes.size());
  ConvertFromFloat(values, view.dtype, absl::MakeSpan(bytes));
  step_["norms"][name] = ChecksumOf(bytes);
  return writer_->Write(name, 0, bytes);
}

absl::Status AutoRoundSolver::WriteLayer(const Layer& layer) {
  const StoredSteps packed = layer.tuned->Pack(pool_);
  return WriteQuantizedRows(
      *layer.tensor, 0, layer.tensor->rows, packed.bytes(),
      [this](const std::string& name, uint64_t offset_bytes,
             absl::Span<const uint8_t> bytes) {
        return writer_->Write(name, offset_bytes, bytes);
      });
}

absl::StatusOr<Json> AutoRoundSolver::FinishStep() {
  Json state = std::move(step_);
  step_ = Json();
  QEFF_ASSIGN_OR_RETURN(Json first, first_.FinishStep());
  if (state.is_null()) state = Json::object();  // lm_head
  state["first"] = std::move(first);
  return state;
}

absl::Status AutoRoundSolver::Restore(int64_t step, const Json& state) {
  if (!state.is_object() || !state.contains("first")) {
    return InvalidInputError("journal: step ", step, " is damaged");
  }
  QEFF_RETURN_IF_ERROR(first_.Restore(step, state["first"]));
  if (!state.contains("block")) return absl::OkStatus();  // lm_head
  QEFF_ASSIGN_OR_RETURN(const BlockReport report,
                        BlockReport::FromJson(state["block"]));
  reports_.push_back(report);
  if (!state.contains("norms")) {
    return InvalidInputError("journal: step ", step, " is damaged");
  }
  for (const auto& norm : state["norms"].items()) {
    QEFF_RETURN_IF_ERROR(RestoreNorm(norm.key(), norm.value()),
                         absl::StrCat("journal: step ", step));
  }
  return absl::OkStatus();
}

absl::Status AutoRoundSolver::RestoreNorm(const std::string& name,
                                          const Json& checksum) {
  QEFF_ASSIGN_OR_RETURN(const TensorView view, model_.checkpoint().Get(name));
  std::vector<uint8_t> bytes(view.bytes.size());
  QEFF_RETURN_IF_ERROR(writer_->Read(name, 0, absl::MakeSpan(bytes)));
  if (checksum != ChecksumOf(bytes)) {
    return InvalidInputError(name,
                             ": what an earlier run wrote is damaged; "
                             "--restart begins anew");
  }
  return writer_->MarkWritten(name);
}

}  // namespace qeff
