// SPDX-License-Identifier: Apache-2.0

#include "qeff/calibration/block_walk.h"

#include <unistd.h>

#include <algorithm>
#include <initializer_list>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "qeff/calibration/row_store.h"
#include "qeff/transformer/host_block.h"
#include "qeff/transformer/memory_guard.h"
#include "qeff/util/check.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Adds the time that it lives to `seconds`.
class Stopwatch {
 public:
  explicit Stopwatch(double* seconds) : seconds_(seconds) {}
  ~Stopwatch() { *seconds_ += absl::ToDoubleSeconds(absl::Now() - start_); }

 private:
  double* const seconds_;
  const absl::Time start_ = absl::Now();
};

// One walk. Members are in the order that they are used.
class Walk {
 public:
  Walk(const Transformer& model, const TokenSample& sample,
       const WalkPlan& plan, Journal* journal, LayerSolver* solver,
       const WalkOptions& options, ThreadPool& pool)
      : model_(model),
        spec_(model.spec()),
        sample_(sample),
        plan_(plan),
        journal_(*journal),
        solver_(*solver),
        options_(options),
        pool_(pool) {
    for (const auto& sequence : sample.sequences) {
      lengths_.push_back(static_cast<int64_t>(sequence.size()));
    }
    steps_ = spec_.num_layers + (plan.lm_head ? 1 : 0);
    context_.spec = &spec_;
    context_.pool = &pool_;
    context_.scratch = &scratch_;
    if (spec_.position == PositionKind::kRope) {
      rope_ =
          RopeTable(spec_, *std::max_element(lengths_.begin(), lengths_.end()));
    } else if (spec_.position == PositionKind::kAlibi) {
      for (double slope : AlibiSlopes(spec_)) {
        alibi_.push_back(static_cast<float>(slope));
      }
    }
    context_.rope = &rope_;
    context_.alibi = alibi_;
    context_.chunk_tokens = kWalkChunkTokens;
  }

  absl::StatusOr<WalkTimes> Run() {
    QEFF_ASSIGN_OR_RETURN(hidden_, MakeStore("hidden", spec_.hidden_size));
    QEFF_ASSIGN_OR_RETURN(const int64_t done, Restore());
    for (int64_t step = done; step < steps_; ++step) {
      if (step < spec_.num_layers) {
        QEFF_RETURN_IF_ERROR(RunBlock(step), absl::StrCat("block ", step));
      } else {
        QEFF_RETURN_IF_ERROR(RunLmHead(), "lm_head");
      }
      QEFF_RETURN_IF_ERROR(Finish(step));
    }
    return times_;
  }

 private:
  // What `first` .. `first + count` of a pass are.
  struct Chunk {
    int64_t row;
    int64_t rows;
    absl::Span<const int64_t> lengths;  // empty where rows are cut anywhere
  };

  absl::StatusOr<RowStore> MakeStore(const char* name, int64_t cols) const {
    if (!plan_.spill) return RowStore(sample_.tokens, cols);
    return RowStore::InFile(
        absl::StrCat(options_.work_folder, "/scratch.", name), sample_.tokens,
        cols);
  }

  std::string HiddenPath(int64_t step) const {
    return absl::StrCat(options_.work_folder, "/hidden_states.", step);
  }

  // The input of the first step that is not done, whose number is returned.
  absl::StatusOr<int64_t> Restore() {
    const int64_t done = static_cast<int64_t>(journal_.steps().size());
    if (done > steps_) {
      return InvalidInputError("journal: expected at most ", steps_,
                               " steps, found ", done);
    }
    for (int64_t step = 0; step < done; ++step) {
      const Json& entry = journal_.steps()[static_cast<size_t>(step)];
      if (!entry.is_object() || !entry.contains("state") ||
          !entry.contains("hidden_states") ||
          !entry["hidden_states"].is_string()) {
        return InvalidInputError("journal: step ", step, " is damaged");
      }
      QEFF_RETURN_IF_ERROR(solver_.Restore(step, entry["state"]));
    }
    if (done == 0) {
      QEFF_RETURN_IF_ERROR(Embed());
    } else if (done < steps_) {
      const std::string path = HiddenPath(done);
      QEFF_ASSIGN_OR_RETURN(const uint64_t checksum, hidden_->Load(path));
      const Json& entry = journal_.steps().back();
      if (entry["hidden_states"] != absl::StrCat(absl::Hex(checksum))) {
        return InvalidInputError(path, ": the checksum is not the journal's");
      }
    }
    return done;
  }

  absl::Status Embed() {
    int64_t row = 0;
    Matrix<float> embedded;
    for (const std::vector<int32_t>& sequence : sample_.sequences) {
      const int64_t length = static_cast<int64_t>(sequence.size());
      if (embedded.rows() < length) {
        embedded = Matrix<float>(length, spec_.hidden_size);
      }
      const auto rows = embedded.view().Rows(0, length);
      QEFF_RETURN_IF_ERROR(model_.Embed(sequence, rows));
      QEFF_RETURN_IF_ERROR(hidden_->Write(row, rows));
      row += length;
    }
    return absl::OkStatus();
  }

  absl::Status Check() const {
    return options_.check ? options_.check() : absl::OkStatus();
  }

  // Calls body(chunk) for whole sequences, as many as fit a chunk.
  absl::Status ForSequences(
      absl::FunctionRef<absl::Status(const Chunk&)> body) {
    const absl::Span<const int64_t> lengths = lengths_;
    int64_t row = 0;
    for (size_t first = 0; first < lengths.size();) {
      size_t last = first;
      int64_t rows = 0;
      do {
        rows += lengths[last++];
      } while (last < lengths.size() &&
               rows + lengths[last] <= kWalkChunkTokens);
      QEFF_RETURN_IF_ERROR(Check());
      QEFF_RETURN_IF_ERROR(
          body({row, rows, lengths.subspan(first, last - first)}));
      row += rows;
      first = last;
    }
    return absl::OkStatus();
  }

  // The same for rows, wherever they are cut.
  absl::Status ForRows(absl::FunctionRef<absl::Status(const Chunk&)> body) {
    for (int64_t row = 0; row < sample_.tokens; row += kWalkChunkTokens) {
      QEFF_RETURN_IF_ERROR(Check());
      QEFF_RETURN_IF_ERROR(
          body({row, std::min(kWalkChunkTokens, sample_.tokens - row), {}}));
    }
    return absl::OkStatus();
  }

  // Layers that share an input.
  struct Stage {
    std::vector<CalibratedLinear*> layers;   // all
    std::vector<CalibratedLinear*> changed;  // those for the solver
    absl::optional<InputStatistics> inputs;  // unless none is changed
  };

  Stage MakeStage(std::initializer_list<LinearRole> roles) {
    Stage stage;
    for (CalibratedLinear& linear : linears_) {
      if (std::find(roles.begin(), roles.end(), linear.module->role) ==
          roles.end()) {
        continue;
      }
      stage.layers.push_back(&linear);
      if (solver_.Changes(*linear.module)) stage.changed.push_back(&linear);
    }
    if (!stage.changed.empty()) {
      stage.inputs.emplace(stage.layers[0]->module->in_features);
    }
    return stage;
  }

  void Count(MatrixView<const float> input, Stage* stage) {
    if (!stage->inputs.has_value()) return;
    const Stopwatch watch(&times_.hessian);
    stage->inputs->Add(input, pool_);
  }

  // Solves the stage and puts its layers into the block.
  absl::Status Solve(Stage* stage, HostBlock* block) {
    QEFF_RETURN_IF_ERROR(Check());
    if (stage->inputs.has_value()) {
      if (!stage->inputs->finite()) {
        return NumericalError("the inputs of ",
                              stage->changed[0]->module->module,
                              " are not finite");
      }
      const Stopwatch watch(&times_.solve);
      QEFF_RETURN_IF_ERROR(solver_.Solve(stage->changed, &*stage->inputs));
    }
    const Stopwatch watch(&times_.load);
    for (CalibratedLinear* linear : stage->layers) {
      QEFF_RETURN_IF_ERROR(
          block->SetLinear(*linear->module, linear->weights, pool_));
      linear->weights = LinearWeights();
    }
    return absl::OkStatus();
  }

  absl::StatusOr<HostBlock> LoadBlock(int64_t index) {
    const Stopwatch watch(&times_.load);
    linears_.clear();
    for (const LinearModule& module :
         model_.map().blocks[static_cast<size_t>(index)].linears) {
      QEFF_ASSIGN_OR_RETURN(LinearWeights weights,
                            model_.LoadLinear(index, module.role));
      linears_.push_back({&module, std::move(weights)});
    }
    model_.ReleaseBlock(index);
    return HostBlock::LoadNorms(model_, index);
  }

  absl::Status RunBlock(int64_t index) {
    QEFF_ASSIGN_OR_RETURN(HostBlock block, LoadBlock(index));
    Stage ffn = MakeStage({LinearRole::kGate, LinearRole::kUp});
    QEFF_RETURN_IF_ERROR(RunAttention(&block, &ffn));
    return RunFfn(&block, &ffn);
  }

  // Ends with the inputs of `ffn` counted.
  absl::Status RunAttention(HostBlock* block, Stage* ffn) {
    Stage qkv = MakeStage(
        {LinearRole::kQ, LinearRole::kK, LinearRole::kV, LinearRole::kQkv});
    if (qkv.inputs.has_value()) {
      QEFF_RETURN_IF_ERROR(ForRows([&](const Chunk& chunk) -> absl::Status {
        QEFF_ASSIGN_OR_RETURN(const auto x,
                              hidden_->Read(chunk.row, chunk.rows));
        Count(Timed([&] { return block->AttentionInput(context_, x); }), &qkv);
        return absl::OkStatus();
      }));
    }
    QEFF_RETURN_IF_ERROR(Solve(&qkv, block));

    Stage o = MakeStage({LinearRole::kO});
    QEFF_ASSIGN_OR_RETURN(RowStore heads, MakeStore("heads", spec_.q_size()));
    QEFF_RETURN_IF_ERROR(ForSequences([&](const Chunk& chunk) -> absl::Status {
      QEFF_ASSIGN_OR_RETURN(const auto x, hidden_->Read(chunk.row, chunk.rows));
      QEFF_ASSIGN_OR_RETURN(const auto out, Timed([&] {
                              return block->AttentionHeads(
                                  context_, chunk.lengths,
                                  block->AttentionInput(context_, x));
                            }));
      Count(out, &o);
      return heads.Write(chunk.row, out);
    }));
    for (const CalibratedLinear* linear : qkv.layers) {
      block->DropLinear(linear->module->role);
    }
    QEFF_RETURN_IF_ERROR(Solve(&o, block));

    return ForRows([&](const Chunk& chunk) -> absl::Status {
      QEFF_ASSIGN_OR_RETURN(const auto x, hidden_->Read(chunk.row, chunk.rows));
      QEFF_RETURN_IF_ERROR(AddLinear(block, LinearRole::kO, chunk, &heads, x));
      Count(Timed([&] { return block->FfnInput(context_, x); }), ffn);
      return absl::OkStatus();
    });
  }

  absl::Status RunFfn(HostBlock* block, Stage* ffn) {
    block->DropLinear(LinearRole::kO);
    QEFF_RETURN_IF_ERROR(Solve(ffn, block));
    ffn->inputs.reset();
    Stage down = MakeStage({LinearRole::kDown});
    QEFF_ASSIGN_OR_RETURN(RowStore inner, MakeStore("inner", spec_.ffn_size));
    QEFF_RETURN_IF_ERROR(ForRows([&](const Chunk& chunk) -> absl::Status {
      QEFF_ASSIGN_OR_RETURN(const auto x, hidden_->Read(chunk.row, chunk.rows));
      QEFF_ASSIGN_OR_RETURN(const auto out, Timed([&] {
                              return block->FfnInner(
                                  context_, block->FfnInput(context_, x));
                            }));
      Count(out, &down);
      return inner.Write(chunk.row, out);
    }));
    for (const CalibratedLinear* linear : ffn->layers) {
      block->DropLinear(linear->module->role);
    }
    QEFF_RETURN_IF_ERROR(Solve(&down, block));
    return ForRows([&](const Chunk& chunk) -> absl::Status {
      QEFF_ASSIGN_OR_RETURN(const auto x, hidden_->Read(chunk.row, chunk.rows));
      return AddLinear(block, LinearRole::kDown, chunk, &inner, x);
    });
  }

  // x += layer `role` of the rows of `inputs`, and stores it.
  absl::Status AddLinear(HostBlock* block, LinearRole role, const Chunk& chunk,
                         RowStore* inputs, MatrixView<float> x) {
    QEFF_ASSIGN_OR_RETURN(const auto input,
                          inputs->Read(chunk.row, chunk.rows));
    QEFF_RETURN_IF_ERROR(
        Timed([&] { return block->AddLinear(context_, role, input, x); }));
    return hidden_->Write(chunk.row, x);
  }

  absl::Status RunLmHead() {
    QEFF_ASSIGN_OR_RETURN(const NormWeights norm, model_.LoadFinalNorm());
    InputStatistics inputs(spec_.hidden_size);
    QEFF_RETURN_IF_ERROR(ForRows([&](const Chunk& chunk) -> absl::Status {
      QEFF_ASSIGN_OR_RETURN(const auto x, hidden_->Read(chunk.row, chunk.rows));
      const auto normed = scratch_.Get(HostScratch::kFinal, x.rows(), x.cols());
      Timed([&] {
        ApplyNorm(spec_, norm, x, normed, pool_);
        return 0;
      });
      const Stopwatch watch(&times_.hessian);
      inputs.Add(normed, pool_);
      return absl::OkStatus();
    }));
    if (!inputs.finite()) return NumericalError("its inputs are not finite");
    const Stopwatch watch(&times_.solve);
    return solver_.SolveLmHead(&inputs);
  }

  // Everything of `step` goes to the device, then into the journal.
  absl::Status Finish(int64_t step) {
    const Stopwatch watch(&times_.save);
    uint64_t checksum = 0;
    if (step + 1 < steps_) {
      QEFF_ASSIGN_OR_RETURN(checksum, hidden_->Save(HiddenPath(step + 1)));
    }
    QEFF_ASSIGN_OR_RETURN(Json state, solver_.FinishStep());
    QEFF_RETURN_IF_ERROR(
        journal_.Append({{"hidden_states", absl::StrCat(absl::Hex(checksum))},
                         {"state", std::move(state)}}));
    (void)unlink(HiddenPath(step).c_str());
    if (options_.progress) options_.progress(step + 1, steps_);
    return absl::OkStatus();
  }

  template <typename Body>
  auto Timed(Body body) -> decltype(body()) {
    const Stopwatch watch(&times_.forward);
    return body();
  }

  const Transformer& model_;
  const TransformerSpec& spec_;
  const TokenSample& sample_;
  const WalkPlan& plan_;
  Journal& journal_;
  LayerSolver& solver_;
  const WalkOptions& options_;
  ThreadPool& pool_;

  int64_t steps_ = 0;
  std::vector<int64_t> lengths_;
  std::vector<float> alibi_;
  RopeTable rope_;
  HostScratch scratch_;
  HostBlockContext context_;
  absl::optional<RowStore> hidden_;        // the input of the block at hand
  std::vector<CalibratedLinear> linears_;  // of the block at hand
  WalkTimes times_;
};

}  // namespace

absl::StatusOr<WalkTimes> WalkBlocks(const Transformer& model,
                                     const TokenSample& sample,
                                     const WalkPlan& plan, Journal* journal,
                                     LayerSolver* solver,
                                     const WalkOptions& options,
                                     ThreadPool& pool) {
  QEFF_CHECK(!sample.sequences.empty());
  return GuardMemory([&] {
    return Walk(model, sample, plan, journal, solver, options, pool).Run();
  });
}

}  // namespace qeff
