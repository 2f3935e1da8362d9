// SPDX-License-Identifier: Apache-2.0

#include "qeff/calibration/block_walk.h"

#include <malloc.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "qeff/calibration/hidden_states.h"
#include "qeff/calibration/row_store.h"
#include "qeff/calibration/solved_block.h"
#include "qeff/transformer/host_block.h"
#include "qeff/util/check.h"
#include "qeff/util/memory_guard.h"
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

// Hidden states of all tokens, and the block that they go through next.
struct Stream {
  absl::optional<HiddenStates> states;
  HostScratch scratch;
  HostBlockContext context;
  absl::optional<HostBlock> block;
};

// Layers that share an input.
struct Stage {
  std::vector<CalibratedLinear> layers;
  std::vector<CalibratedLinear*> changed;  // those for the solver
  absl::optional<InputStatistics> inputs;  // unless none is changed
};

// Large buffers of many sizes come and go: what lies free between others would
// grow from block to block.
void ReturnFreeMemory() {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

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
        pool_(pool),
        gaps_(solver->WantsGaps()),
        chunks_(sample, options.check) {
    steps_ = spec_.num_layers + (plan.lm_head ? 1 : 0);
    if (spec_.position == PositionKind::kRope) {
      rope_ = RopeTable(spec_, *std::max_element(chunks_.lengths().begin(),
                                                 chunks_.lengths().end()));
    } else if (spec_.position == PositionKind::kAlibi) {
      for (double slope : AlibiSlopes(spec_)) {
        alibi_.push_back(static_cast<float>(slope));
      }
    }
    for (Stream* stream : {&changed_, &original_}) {
      stream->context.spec = &spec_;
      stream->context.pool = &pool_;
      stream->context.scratch = &stream->scratch;
      stream->context.rope = &rope_;
      stream->context.alibi = alibi_;
      stream->context.chunk_tokens = kWalkChunkTokens;
    }
  }

  absl::StatusOr<WalkTimes> Run() {
    QEFF_ASSIGN_OR_RETURN(changed_.states, MakeStates("hidden_states"));
    states_.push_back(&*changed_.states);
    if (gaps_) {
      QEFF_ASSIGN_OR_RETURN(original_.states, MakeStates("original_states"));
      states_.push_back(&*original_.states);
    }
    if (solver_.WantsBlock()) {
      QEFF_CHECK(gaps_);
      QEFF_ASSIGN_OR_RETURN(inputs_,
                            MakeStore("block_inputs", spec_.hidden_size));
    }
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
  absl::StatusOr<RowStore> MakeStore(const char* name, int64_t cols) const {
    if (!plan_.spill) return RowStore(sample_.tokens, cols);
    return RowStore::InFile(
        absl::StrCat(options_.work_folder, "/scratch.", name), sample_.tokens,
        cols);
  }

  absl::StatusOr<HiddenStates> MakeStates(const char* name) const {
    return HiddenStates::Create(options_.work_folder, name, sample_.tokens,
                                spec_.hidden_size, plan_.spill);
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
      if (!entry.is_object() || !entry.contains("state")) {
        return InvalidInputError("journal: step ", step, " is damaged");
      }
      QEFF_RETURN_IF_ERROR(solver_.Restore(step, entry["state"]));
    }
    if (done == 0) {
      QEFF_RETURN_IF_ERROR(EmbedSample(model_, sample_, states_));
    } else if (done < steps_) {
      for (HiddenStates* states : states_) {
        QEFF_RETURN_IF_ERROR(states->Load(done, journal_.steps().back()));
      }
    }
    return done;
  }

  absl::Status Check() const {
    return options_.check ? options_.check() : absl::OkStatus();
  }

  using Roles = absl::Span<const LinearRole>;

  static bool Has(Roles roles, LinearRole role) {
    return std::find(roles.begin(), roles.end(), role) != roles.end();
  }

  // Layers without their weights.
  Stage MakeStage(int64_t index, Roles roles) const {
    Stage stage;
    for (const LinearModule& module :
         model_.map().blocks[static_cast<size_t>(index)].linears) {
      if (Has(roles, module.role)) stage.layers.push_back({&module, {}});
    }
    for (CalibratedLinear& layer : stage.layers) {
      if (solver_.Changes(*layer.module)) stage.changed.push_back(&layer);
    }
    if (!stage.changed.empty()) {
      stage.inputs.emplace(stage.layers[0].module->in_features,
                           solver_.WantedToSolve());
    }
    return stage;
  }

  // a - b.
  MatrixView<const float> Subtract(MatrixView<const float> a,
                                   MatrixView<const float> b,
                                   HostScratch::Slot slot) {
    constexpr int64_t kRowsOfTask = 16;
    const auto out = gap_scratch_.Get(slot, a.rows(), a.cols());
    pool_.ParallelFor(a.rows(), kRowsOfTask,
                      [&](int64_t r, int64_t end, int /*thread*/) {
                        for (; r < end; ++r) {
                          for (int64_t c = 0; c < a.cols(); ++c) {
                            out.row(r)[c] = a.row(r)[c] - b.row(r)[c];
                          }
                        }
                      });
    return out;
  }

  void Count(MatrixView<const float> input, Stage* stage) {
    if (!stage->inputs.has_value()) return;
    const Stopwatch watch(&times_.hessian);
    stage->inputs->Add(input, pool_);
  }

  // `x` and `original_x`: what the layer's output is added to; or no rows.
  void CountGap(MatrixView<const float> input,
                MatrixView<const float> original_input,
                MatrixView<const float> x, MatrixView<const float> original_x,
                Stage* stage) {
    if (!stage->inputs.has_value()) return;
    const Stopwatch watch(&times_.hessian);
    MatrixView<const float> residual;
    if (x.rows() > 0) {
      residual = Subtract(original_x, x, HostScratch::kResidual);
    }
    stage->inputs->AddGap(input,
                          Subtract(original_input, input, HostScratch::kNormed),
                          residual, pool_);
  }

  // Loads the weights of the stage, has them changed and puts them into the
  // block.
  absl::Status Solve(int64_t index, Stage* stage) {
    QEFF_RETURN_IF_ERROR(Check());
    for (CalibratedLinear& layer : stage->layers) {
      const Stopwatch watch(&times_.load);
      QEFF_ASSIGN_OR_RETURN(layer.weights,
                            model_.LoadLinear(index, layer.module->role));
      solver_.Adjust(&layer);
    }
    model_.ReleaseBlock(index);
    if (stage->inputs.has_value()) {
      if (!stage->inputs->finite() && !options_.allow_bad_inputs) {
        return NumericalError("the inputs of ",
                              stage->changed[0]->module->module,
                              " are not finite; --skip_bad_tensors rounds it");
      }
      const Stopwatch watch(&times_.solve);
      QEFF_RETURN_IF_ERROR(solver_.Solve(stage->changed, &*stage->inputs));
    }
    const Stopwatch watch(&times_.load);
    for (CalibratedLinear& layer : stage->layers) {
      QEFF_RETURN_IF_ERROR(
          changed_.block->SetLinear(*layer.module, layer.weights, pool_));
      if (inputs_.has_value()) {
        PlaceLinear(spec_, layer.module->role, std::move(layer.weights),
                    &solved_);
      }
    }
    *stage = Stage();
    return absl::OkStatus();
  }

  // Layers of the original block.
  absl::Status LoadOriginal(int64_t index, Roles roles) {
    if (!gaps_) return absl::OkStatus();
    const Stopwatch watch(&times_.load);
    for (const LinearModule& module :
         model_.map().blocks[static_cast<size_t>(index)].linears) {
      if (!Has(roles, module.role)) continue;
      CalibratedLinear layer{&module, {}};
      QEFF_ASSIGN_OR_RETURN(layer.weights,
                            model_.LoadLinear(index, module.role));
      solver_.Adjust(&layer);
      QEFF_RETURN_IF_ERROR(
          original_.block->SetLinear(module, layer.weights, pool_));
    }
    model_.ReleaseBlock(index);
    return absl::OkStatus();
  }

  void Drop(Stream* stream, Roles roles) {
    if (!stream->block.has_value()) return;
    for (const LinearRole role : roles) stream->block->DropLinear(role);
  }

  absl::Status RunBlock(int64_t index) {
    for (Stream* stream : {&changed_, &original_}) {
      QEFF_ASSIGN_OR_RETURN(stream->block, HostBlock::LoadNorms(model_, index));
    }
    if (solver_.WantsPrepare()) {
      QEFF_RETURN_IF_ERROR(Prepare(index));
      // Both have the inputs that the layers will have.
      const BlockWeights& norms = changed_.block->norms();
      original_.block->norms().attention_norm = norms.attention_norm;
      original_.block->norms().ffn_norm = norms.ffn_norm;
    }
    if (inputs_.has_value()) QEFF_RETURN_IF_ERROR(KeepInputs());
    QEFF_RETURN_IF_ERROR(RunAttention(index));
    QEFF_RETURN_IF_ERROR(RunFfn(index));
    return inputs_.has_value() ? Tune(index) : absl::OkStatus();
  }

  absl::Status KeepInputs() {
    const BlockWeights& norms = changed_.block->norms();
    for (const auto norm :
         {&BlockWeights::attention_norm, &BlockWeights::ffn_norm,
          &BlockWeights::q_norm, &BlockWeights::k_norm}) {
      solved_.*norm = norms.*norm;
    }
    return chunks_.ForRows([&](const RowChunk& chunk) -> absl::Status {
      QEFF_ASSIGN_OR_RETURN(
          const auto x, changed_.states->rows().Read(chunk.row, chunk.rows));
      return inputs_->Write(chunk.row, x);
    });
  }

  // Lets the solver change the block as a whole, and runs it again.
  absl::Status Tune(int64_t index) {
    SolvedBlock block;
    block.index = index;
    block.context.spec = &spec_;
    block.context.pool = &pool_;
    block.context.rope = &rope_;
    block.context.alibi = alibi_;
    block.chunks = &chunks_;
    block.inputs = &*inputs_;
    block.targets = &original_.states->rows();
    block.weights = &solved_;
    block.check = options_.check;
    {
      const Stopwatch watch(&times_.tune);
      QEFF_RETURN_IF_ERROR(solver_.TuneBlock(block));
    }
    const Stopwatch watch(&times_.forward);
    QEFF_RETURN_IF_ERROR(RunSolvedBlock(block, &changed_.states->rows()));
    solved_ = BlockWeights();
    return absl::OkStatus();
  }

  // Runs the changed stream through the original block, without leaving a
  // trace in it.
  absl::Status Prepare(int64_t index) {
    const StatisticsOptions wanted = solver_.WantedToPrepare();
    BlockInputs inputs{InputStatistics(spec_.hidden_size, wanted),
                       InputStatistics(spec_.q_size(), wanted),
                       InputStatistics(spec_.hidden_size, wanted),
                       InputStatistics(spec_.ffn_size, wanted)};
    {
      const Stopwatch watch(&times_.load);
      QEFF_ASSIGN_OR_RETURN(changed_.block,
                            HostBlock::Load(model_, index, pool_));
    }
    QEFF_RETURN_IF_ERROR(chunks_.ForSequences(
        [&](const RowChunk& chunk) { return CountBlock(chunk, &inputs); }));
    QEFF_ASSIGN_OR_RETURN(changed_.block, HostBlock::LoadNorms(model_, index));
    for (const InputStatistics* part :
         {&inputs.qkv, &inputs.o, &inputs.ffn, &inputs.down}) {
      if (part->finite() || options_.allow_bad_inputs) continue;
      return NumericalError(
          "its inputs are not finite; --skip_bad_tensors leaves its scales");
    }
    const Stopwatch watch(&times_.solve);
    return solver_.Prepare(index, &inputs, &changed_.block->norms());
  }

  absl::Status CountBlock(const RowChunk& chunk, BlockInputs* inputs) {
    QEFF_ASSIGN_OR_RETURN(const auto hidden,
                          changed_.states->rows().Read(chunk.row, chunk.rows));
    const auto x =
        gap_scratch_.Get(HostScratch::kFinal, chunk.rows, spec_.hidden_size);
    std::copy_n(hidden.data(), chunk.rows * spec_.hidden_size, x.data());
    const auto count = [&](MatrixView<const float> rows,
                           InputStatistics* statistics) {
      const Stopwatch watch(&times_.hessian);
      statistics->Add(rows, pool_);
    };
    HostBlock& block = *changed_.block;
    const HostBlockContext& context = changed_.context;
    const auto in = block.AttentionInput(context, x);
    count(in, &inputs->qkv);
    QEFF_ASSIGN_OR_RETURN(const auto heads,
                          block.AttentionHeads(context, chunk.lengths, in));
    count(heads, &inputs->o);
    QEFF_RETURN_IF_ERROR(block.AddLinear(context, LinearRole::kO, heads, x));
    const auto ffn = block.FfnInput(context, x);
    count(ffn, &inputs->ffn);
    QEFF_ASSIGN_OR_RETURN(const auto inner, block.FfnInner(context, ffn));
    count(inner, &inputs->down);
    return absl::OkStatus();
  }

  absl::Status RunAttention(int64_t index) {
    static constexpr LinearRole kQkv[] = {LinearRole::kQ, LinearRole::kK,
                                          LinearRole::kV, LinearRole::kQkv};
    Stage qkv = MakeStage(index, kQkv);
    if (qkv.inputs.has_value()) {
      QEFF_RETURN_IF_ERROR(CountInputs(&HostBlock::AttentionInput, &qkv));
    }
    QEFF_RETURN_IF_ERROR(Solve(index, &qkv));
    QEFF_RETURN_IF_ERROR(LoadOriginal(index, kQkv));
    QEFF_RETURN_IF_ERROR(LoadOriginal(index, {LinearRole::kO}));

    Stage o = MakeStage(index, {LinearRole::kO});
    QEFF_ASSIGN_OR_RETURN(RowStore heads, MakeStore("heads", spec_.q_size()));
    QEFF_RETURN_IF_ERROR(chunks_.ForSequences([&](const RowChunk& chunk) {
      return RunInner(chunk, LinearRole::kO, &heads, &o);
    }));
    Drop(&changed_, kQkv);
    Drop(&original_, kQkv);
    Drop(&original_, {LinearRole::kO});
    QEFF_RETURN_IF_ERROR(Solve(index, &o));
    QEFF_RETURN_IF_ERROR(AddOutputs(LinearRole::kO, &heads));
    Drop(&changed_, {LinearRole::kO});
    return absl::OkStatus();
  }

  absl::Status RunFfn(int64_t index) {
    static constexpr LinearRole kInner[] = {LinearRole::kGate, LinearRole::kUp};
    Stage inner = MakeStage(index, kInner);
    if (inner.inputs.has_value()) {
      QEFF_RETURN_IF_ERROR(CountInputs(&HostBlock::FfnInput, &inner));
    }
    QEFF_RETURN_IF_ERROR(Solve(index, &inner));
    QEFF_RETURN_IF_ERROR(LoadOriginal(index, kInner));
    QEFF_RETURN_IF_ERROR(LoadOriginal(index, {LinearRole::kDown}));

    Stage down = MakeStage(index, {LinearRole::kDown});
    QEFF_ASSIGN_OR_RETURN(RowStore rows, MakeStore("inner", spec_.ffn_size));
    QEFF_RETURN_IF_ERROR(chunks_.ForRows([&](const RowChunk& chunk) {
      return RunInner(chunk, LinearRole::kDown, &rows, &down);
    }));
    Drop(&changed_, kInner);
    Drop(&original_, kInner);
    Drop(&original_, {LinearRole::kDown});
    QEFF_RETURN_IF_ERROR(Solve(index, &down));
    QEFF_RETURN_IF_ERROR(AddOutputs(LinearRole::kDown, &rows));
    Drop(&changed_, {LinearRole::kDown});
    return absl::OkStatus();
  }

  // The inputs of a half of the block: its norm of the hidden states.
  absl::Status CountInputs(
      MatrixView<float> (HostBlock::*norm)(const HostBlockContext&,
                                           MatrixView<const float>),
      Stage* stage) {
    return chunks_.ForRows([&](const RowChunk& chunk) -> absl::Status {
      const auto input_of =
          [&](Stream* stream) -> absl::StatusOr<MatrixView<float>> {
        QEFF_ASSIGN_OR_RETURN(
            const auto x, stream->states->rows().Read(chunk.row, chunk.rows));
        const Stopwatch watch(&times_.forward);
        return ((*stream->block).*norm)(stream->context, x);
      };
      QEFF_ASSIGN_OR_RETURN(const auto input, input_of(&changed_));
      Count(input, stage);
      if (!gaps_) return absl::OkStatus();
      QEFF_ASSIGN_OR_RETURN(const auto original, input_of(&original_));
      CountGap(input, original, {}, {}, stage);
      return absl::OkStatus();
    });
  }

  // From the hidden states `x` to the input of layer `role`, o or down.
  absl::StatusOr<MatrixView<float>> InnerOf(const RowChunk& chunk,
                                            LinearRole role,
                                            MatrixView<const float> x,
                                            Stream* stream) {
    const Stopwatch watch(&times_.forward);
    HostBlock& block = *stream->block;
    const HostBlockContext& context = stream->context;
    return role == LinearRole::kO
               ? block.AttentionHeads(context, chunk.lengths,
                                      block.AttentionInput(context, x))
               : block.FfnInner(context, block.FfnInput(context, x));
  }

  // Computes, counts and stores the inputs of layer `role`. The original
  // stream passes it at once, the changed one once it is solved (AddOutputs).
  absl::Status RunInner(const RowChunk& chunk, LinearRole role, RowStore* inner,
                        Stage* stage) {
    QEFF_ASSIGN_OR_RETURN(const auto x,
                          changed_.states->rows().Read(chunk.row, chunk.rows));
    QEFF_ASSIGN_OR_RETURN(const auto input, InnerOf(chunk, role, x, &changed_));
    Count(input, stage);
    if (gaps_) {
      QEFF_ASSIGN_OR_RETURN(
          const auto y, original_.states->rows().Read(chunk.row, chunk.rows));
      QEFF_ASSIGN_OR_RETURN(const auto original,
                            InnerOf(chunk, role, y, &original_));
      CountGap(input, original, x, y, stage);
      const Stopwatch watch(&times_.forward);
      QEFF_RETURN_IF_ERROR(
          original_.block->AddLinear(original_.context, role, original, y));
      QEFF_RETURN_IF_ERROR(original_.states->rows().Write(chunk.row, y));
    }
    return inner->Write(chunk.row, input);
  }

  // The changed stream passes layer `role`.
  absl::Status AddOutputs(LinearRole role, RowStore* inner) {
    return chunks_.ForRows([&](const RowChunk& chunk) -> absl::Status {
      QEFF_ASSIGN_OR_RETURN(
          const auto x, changed_.states->rows().Read(chunk.row, chunk.rows));
      QEFF_ASSIGN_OR_RETURN(const auto input,
                            inner->Read(chunk.row, chunk.rows));
      const Stopwatch watch(&times_.forward);
      QEFF_RETURN_IF_ERROR(
          changed_.block->AddLinear(changed_.context, role, input, x));
      return changed_.states->rows().Write(chunk.row, x);
    });
  }

  absl::Status RunLmHead() {
    QEFF_ASSIGN_OR_RETURN(const NormWeights norm, model_.LoadFinalNorm());
    Stage stage;
    stage.inputs.emplace(spec_.hidden_size, solver_.WantedToSolve());
    const auto input_of =
        [&](const RowChunk& chunk,
            Stream* stream) -> absl::StatusOr<MatrixView<float>> {
      QEFF_ASSIGN_OR_RETURN(const auto x,
                            stream->states->rows().Read(chunk.row, chunk.rows));
      const auto normed =
          stream->scratch.Get(HostScratch::kFinal, x.rows(), x.cols());
      ApplyNorm(spec_, norm, x, normed, pool_);
      return normed;
    };
    QEFF_RETURN_IF_ERROR(
        chunks_.ForRows([&](const RowChunk& chunk) -> absl::Status {
          QEFF_ASSIGN_OR_RETURN(const auto input, input_of(chunk, &changed_));
          Count(input, &stage);
          if (!gaps_) return absl::OkStatus();
          QEFF_ASSIGN_OR_RETURN(const auto original,
                                input_of(chunk, &original_));
          CountGap(input, original, {}, {}, &stage);
          return absl::OkStatus();
        }));
    if (!stage.inputs->finite() && !options_.allow_bad_inputs) {
      return NumericalError(
          "its inputs are not finite; --skip_bad_tensors rounds it");
    }
    const Stopwatch watch(&times_.solve);
    return solver_.SolveLmHead(&*stage.inputs);
  }

  // Everything of `step` goes to the device, then into the journal.
  absl::Status Finish(int64_t step) {
    const Stopwatch watch(&times_.save);
    Json entry = Json::object();
    if (step + 1 < steps_) {
      for (HiddenStates* states : states_) {
        QEFF_RETURN_IF_ERROR(states->Save(step + 1, &entry));
      }
    }
    QEFF_ASSIGN_OR_RETURN(entry["state"], solver_.FinishStep());
    QEFF_RETURN_IF_ERROR(journal_.Append(entry));
    for (const HiddenStates* states : states_) states->Remove(step);
    ReturnFreeMemory();
    if (options_.progress) options_.progress(step + 1, steps_);
    return absl::OkStatus();
  }

  const Transformer& model_;
  const TransformerSpec& spec_;
  const TokenSample& sample_;
  const WalkPlan& plan_;
  Journal& journal_;
  LayerSolver& solver_;
  const WalkOptions& options_;
  ThreadPool& pool_;
  const bool gaps_;

  int64_t steps_ = 0;
  const SampleChunks chunks_;
  std::vector<HiddenStates*> states_;  // those that there are
  std::vector<float> alibi_;
  RopeTable rope_;
  Stream changed_;
  Stream original_;  // with gaps_
  HostScratch gap_scratch_;
  // With WantsBlock: what the block at hand gets, and its layers as solved.
  absl::optional<RowStore> inputs_;
  BlockWeights solved_;
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
