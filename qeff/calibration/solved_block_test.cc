// SPDX-License-Identifier: Apache-2.0

#include "qeff/calibration/solved_block.h"

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/io/checkpoint.h"
#include "qeff/io/io_testutil.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/transformer/host_block.h"
#include "qeff/transformer/known_shapes.h"
#include "qeff/transformer/synth.h"
#include "qeff/transformer/transformer.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

std::shared_ptr<const Transformer> SynthModel(const std::string& shape,
                                              ThreadPool* pool) {
  const std::string folder = MakeTestFolder() + "/model";
  const absl::Status status = WriteSynthCheckpoint(
      KnownShapeConfig(shape).value(), SynthOptions(), folder, pool);
  EXPECT_TRUE(status.ok()) << status;
  return Transformer::Load(Checkpoint::Open(folder).value()).value();
}

// Layers of a fused and of an unfused model, put together one by one, are the
// block that the model loads, and give what it gives.
TEST(SolvedBlockTest, IsTheBlockOfItsLayers) {
  const auto pool = CreateThreadPool(2).value();
  for (const char* shape : {"tiny-gpt2", "tiny-qwen3"}) {
    SCOPED_TRACE(shape);
    const auto model = SynthModel(shape, pool.get());
    const TransformerSpec& spec = model->spec();
    BlockWeights weights = model->LoadBlockNorms(1).value();
    for (const LinearModule& module : model->map().blocks[1].linears) {
      PlaceLinear(spec, module.role, model->LoadLinear(1, module.role).value(),
                  &weights);
    }
    const BlockWeights loaded = model->LoadBlock(1).value();
    for (const auto part :
         {&BlockWeights::q, &BlockWeights::k, &BlockWeights::v,
          &BlockWeights::o, &BlockWeights::gate, &BlockWeights::up,
          &BlockWeights::down}) {
      EXPECT_TRUE((weights.*part).weight.span() ==
                  (loaded.*part).weight.span());
      EXPECT_EQ((weights.*part).bias, (loaded.*part).bias);
    }

    TokenSample sample;
    sample.sequences = {std::vector<int32_t>(9), std::vector<int32_t>(4)};
    sample.tokens = 13;
    const SampleChunks chunks(sample, nullptr);
    RowStore inputs(13, spec.hidden_size), outputs(13, spec.hidden_size);
    Matrix<float> x(13, spec.hidden_size);
    const Random random(3);
    for (int64_t i = 0; i < 13 * spec.hidden_size; ++i) {
      x.data()[i] = random.NormalAt(static_cast<uint64_t>(i));
    }
    ASSERT_TRUE(inputs.Write(0, x.view()).ok());
    RopeTable rope;
    if (spec.position == PositionKind::kRope) rope = RopeTable(spec, 9);
    SolvedBlock block;
    block.context.spec = &spec;
    block.context.pool = pool.get();
    block.context.rope = &rope;
    block.chunks = &chunks;
    block.inputs = &inputs;
    block.weights = &weights;
    ASSERT_TRUE(RunSolvedBlock(block, &outputs).ok());

    HostScratch scratch;
    HostBlockContext context;
    context.spec = &spec;
    context.pool = pool.get();
    context.scratch = &scratch;
    context.rope = &rope;
    ASSERT_TRUE(HostBlock::Load(*model, 1, *pool)
                    ->Run(context, chunks.lengths(), x.view())
                    .ok());
    const auto found = outputs.Read(0, 13).value();
    double error = 0, norm = 0;
    for (int64_t i = 0; i < 13 * spec.hidden_size; ++i) {
      const double expected = static_cast<double>(x.data()[i]);
      const double d = static_cast<double>(found.data()[i]) - expected;
      error += d * d;
      norm += expected * expected;
    }
    // Two forwards in float32 of a dozen products each (block_backward_test).
    EXPECT_LT(std::sqrt(error / norm), 1e-5);
  }
}

}  // namespace
}  // namespace qeff
