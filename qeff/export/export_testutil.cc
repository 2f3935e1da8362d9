// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/export_testutil.h"

#include <utility>

#include "absl/types/span.h"
#include "gtest/gtest.h"
#include "qeff/io/checkpoint.h"
#include "qeff/io/checkpoint_writer.h"
#include "qeff/io/io_testutil.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/quant/quantize_checkpoint.h"
#include "qeff/transformer/host_forward.h"

namespace qeff {

TestModel WideLlama() {
  return MakeTestModel("llama", R"({"hidden_size": 96, "intermediate_size": 64,
      "num_attention_heads": 6, "num_key_value_heads": 2})");
}

std::shared_ptr<const Transformer> LoadFolder(const std::string& folder) {
  const auto checkpoint = Checkpoint::Open(folder);
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
  const auto model = Transformer::Load(*checkpoint);
  EXPECT_TRUE(model.ok()) << model.status();
  return *model;
}

std::string QuantizedFolder(const TestModel& model,
                            const QuantizeOptions& options, DType dtype) {
  const auto checkpoint = OpenTestModel(model, dtype);
  const auto plan =
      PlanQuantization(*checkpoint, *MapModel(*checkpoint), options);
  EXPECT_TRUE(plan.ok()) << plan.status();
  const std::string folder = MakeTestFolder() + "/quantized";
  const auto pool = *CreateThreadPool(1);
  const absl::Status status =
      QuantizeCheckpoint(*checkpoint, *plan, folder, *pool);
  EXPECT_TRUE(status.ok()) << status;
  return folder;
}

std::vector<float> HostLogits(const std::string& folder) {
  const auto pool = *CreateThreadPool(1);
  const auto forward = HostForward::Create(LoadFolder(folder), pool.get());
  EXPECT_TRUE(forward.ok()) << forward.status();
  const auto result = (*forward)->LogitsOf(TestTokens(12));
  EXPECT_TRUE(result.ok()) << result.status();
  return std::vector<float>(result->span().begin(), result->span().end());
}

TokenizerTables SomeTokenizer() {
  TokenizerTables tables;
  tables.tokens.push_back("a");
  tables.kinds.push_back(TokenKind::kNormal);
  tables.byte_level = true;
  PreTokenizerOp op;
  op.kind = PreTokenizerOp::Kind::kPattern;
  tables.pre_tokenizer = {op};
  return tables;
}

std::vector<std::vector<float>> LinearValues(const Transformer& model) {
  std::vector<std::vector<float>> values;
  for (const LinearModule& module : model.map().Linears()) {
    const auto weights = model.LoadLinear(module.block, module.role);
    EXPECT_TRUE(weights.ok()) << weights.status();
    const absl::Span<const float> all = weights->weight.span();
    values.emplace_back(all.begin(), all.end());
    values.push_back(weights->bias);
  }
  return values;
}

std::string FolderWith(const std::string& folder,
                       const std::map<std::string, std::string>& bytes) {
  const auto from = *Checkpoint::Open(folder);
  std::vector<TensorInfo> tensors = from->tensors();
  for (const auto& [name, value] : bytes) {
    if (from->Has(name)) continue;
    tensors.push_back(
        {name, DType::kF16, Shape({static_cast<int64_t>(value.size() / 2)})});
  }
  const std::string to = MakeTestFolder() + "/changed";
  auto writer = *CheckpointWriter::Create(to, tensors);
  for (const TensorInfo& info : tensors) {
    const auto changed = bytes.find(info.name);
    absl::Status status;
    if (changed == bytes.end()) {
      status = CopyTensor(*from, info.name, nullptr, writer.get());
    } else {
      status = writer->Write(
          info.name, 0,
          {reinterpret_cast<const uint8_t*>(changed->second.data()),
           changed->second.size()});
    }
    EXPECT_TRUE(status.ok()) << status;
  }
  const absl::Status status = writer->Commit(from->config(), {});
  EXPECT_TRUE(status.ok()) << status;
  return to;
}

}  // namespace qeff
