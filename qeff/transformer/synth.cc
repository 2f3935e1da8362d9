// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/synth.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "qeff/io/checkpoint_writer.h"
#include "qeff/tokenizer/byte_alphabet.h"
#include "qeff/transformer/model_map.h"
#include "qeff/util/random.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr int64_t kChunkElems = int64_t{1} << 18;
constexpr int64_t kSpecialTokens = 3;
constexpr int64_t kChannelPeriod = 32;

// How the values of a tensor [rows, cols] (cols = 1 for vectors) are made.
struct SynthTensor {
  TensorInfo info;
  double scale = 1;  // standard deviation
  double mean = 0;
  bool is_linear = false;
  bool is_norm = false;
  bool hidden_rows = false;  // rows are hidden channels
  bool hidden_cols = false;  // columns are

  int64_t cols() const { return info.shape.rank() == 2 ? info.shape[1] : 1; }
  int64_t elems() const {
    return static_cast<int64_t>(info.shape.num_elements().value());
  }
};

// Lists every tensor of a model.
class TensorList {
 public:
  TensorList(const ModelMap& map, DType dtype) : map_(map), dtype_(dtype) {
    const TransformerSpec& spec = map.spec;
    Add(map.token_embedding, Shape({spec.vocab_size, spec.hidden_size}))
        .hidden_cols = true;
    if (!map.position_embedding.empty()) {
      SynthTensor& positions =
          Add(map.position_embedding,
              Shape({spec.max_positions, spec.hidden_size}));
      positions.hidden_cols = true;
      positions.scale = 0.1;
    }
    for (const BlockNames& block : map.blocks) {
      AddNorm(block.attention_norm, spec.hidden_size, true);
      AddNorm(block.ffn_norm, spec.hidden_size, true);
      AddNorm(block.q_norm, spec.head_dim, false);
      AddNorm(block.k_norm, spec.head_dim, false);
    }
    AddNorm(map.final_norm, spec.hidden_size, true);
    for (const LinearModule& linear : map.Linears()) AddLinear(linear);
  }

  std::vector<SynthTensor> Take() { return std::move(tensors_); }

 private:
  SynthTensor& Add(const std::string& name, Shape shape) {
    SynthTensor tensor;
    tensor.info = {name, dtype_, std::move(shape)};
    tensors_.push_back(std::move(tensor));
    return tensors_.back();
  }

  void AddNorm(const NormNames& names, int64_t size, bool over_hidden) {
    if (!names.weight.empty()) {
      SynthTensor& weight = Add(names.weight, Shape({size}));
      weight.mean = 1;
      weight.scale = 0.1;
      weight.is_norm = over_hidden;
      weight.hidden_rows = over_hidden;
    }
    if (!names.bias.empty()) {
      SynthTensor& bias = Add(names.bias, Shape({size}));
      bias.scale = 0.02;
      bias.hidden_rows = over_hidden;
    }
  }

  void AddLinear(const LinearModule& linear) {
    const bool to_hidden =
        linear.role == LinearRole::kO || linear.role == LinearRole::kDown;
    SynthTensor& weight = Add(
        linear.module + ".weight",
        linear.transposed ? Shape({linear.in_features, linear.out_features})
                          : Shape({linear.out_features, linear.in_features}));
    weight.scale = 1 / std::sqrt(static_cast<double>(linear.in_features));
    weight.is_linear = true;
    (linear.transposed ? weight.hidden_cols : weight.hidden_rows) = to_hidden;
    if (!linear.has_bias) return;
    SynthTensor& bias =
        Add(linear.module + ".bias", Shape({linear.out_features}));
    bias.scale = 0.02;
    bias.hidden_rows = to_hidden;
  }

  const ModelMap& map_;
  const DType dtype_;
  std::vector<SynthTensor> tensors_;
};

// The channel that `channel` is a copy of.
int64_t OriginalChannel(int64_t channel) {
  return channel % kChannelPeriod == kChannelPeriod - 1 ? channel - 1 : channel;
}

class Generator {
 public:
  Generator(const SynthTensor& tensor, int64_t index,
            const SynthOptions& options)
      : tensor_(tensor),
        values_(options.seed, 2 * static_cast<uint64_t>(index)),
        tails_(options.seed, 2 * static_cast<uint64_t>(index) + 1),
        outliers_(options.outliers) {}

  float At(int64_t element) const {
    if (!outliers_) return Value(element);
    int64_t row = element / tensor_.cols();
    int64_t col = element % tensor_.cols();
    if (tensor_.hidden_rows) row = OriginalChannel(row);
    if (tensor_.hidden_cols) col = OriginalChannel(col);
    element = row * tensor_.cols() + col;
    const uint64_t tail = tails_.At(static_cast<uint64_t>(element));
    float value = Value(element);
    if (tensor_.is_linear && tail % 1024 == 0) {
      value *= static_cast<float>(4 + (tail >> 10) % 16);
    }
    if (tensor_.is_norm && tail % 64 == 0) value *= 10;
    return value;
  }

 private:
  float Value(int64_t element) const {
    return static_cast<float>(
        tensor_.mean +
        tensor_.scale * values_.NormalAt(static_cast<uint64_t>(element)));
  }

  const SynthTensor& tensor_;
  const Random values_;
  const Random tails_;
  const bool outliers_;
};

std::vector<uint8_t> Generate(const Generator& generator, DType dtype,
                              int64_t begin, int64_t end) {
  const size_t element_bytes = DTypeBytes(dtype);
  std::vector<uint8_t> bytes(static_cast<size_t>(end - begin) * element_bytes);
  for (int64_t i = begin; i < end; ++i) {
    const float value = generator.At(i);
    uint8_t* to = bytes.data() + static_cast<size_t>(i - begin) * element_bytes;
    if (dtype == DType::kF32) {
      std::memcpy(to, &value, sizeof(value));
    } else {
      const uint16_t bits =
          dtype == DType::kF16 ? FloatToF16(value) : FloatToBF16(value);
      std::memcpy(to, &bits, sizeof(bits));
    }
  }
  return bytes;
}

Json AddedToken(int64_t id, const char* content) {
  return Json{{"id", id},        {"content", content}, {"single_word", false},
              {"lstrip", false}, {"rstrip", false},    {"normalized", false},
              {"special", true}};
}

std::string TokenizerJson() {
  const char* specials[kSpecialTokens] = {"<unk>", "<s>", "</s>"};
  Json added = Json::array();
  Json vocab = Json::object();
  for (int64_t id = 0; id < kSpecialTokens; ++id) {
    added.push_back(AddedToken(id, specials[id]));
    vocab[specials[id]] = id;
  }
  for (int byte = 0; byte < 256; ++byte) {
    const char raw = static_cast<char>(byte);
    std::string spelling;
    AppendAlphabetSpelling(absl::string_view(&raw, 1), &spelling);
    vocab[spelling] = kSpecialTokens + byte;
  }
  const Json begin = {{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}};
  const Json text = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  const Json byte_level = {{"type", "ByteLevel"},
                           {"add_prefix_space", false},
                           {"trim_offsets", true},
                           {"use_regex", true}};
  const Json json = {{"version", "1.0"},
                     {"truncation", nullptr},
                     {"padding", nullptr},
                     {"added_tokens", added},
                     {"normalizer", nullptr},
                     {"pre_tokenizer", byte_level},
                     {"post_processor",
                      {{"type", "TemplateProcessing"},
                       {"single", Json::array({begin, text})},
                       {"pair", Json::array({begin, text})},
                       {"special_tokens",
                        {{"<s>",
                          {{"id", "<s>"},
                           {"ids", Json::array({1})},
                           {"tokens", Json::array({"<s>"})}}}}}}},
                     {"decoder", byte_level},
                     {"model",
                      {{"type", "BPE"},
                       {"dropout", nullptr},
                       {"unk_token", nullptr},
                       {"continuing_subword_prefix", nullptr},
                       {"end_of_word_suffix", nullptr},
                       {"fuse_unk", false},
                       {"byte_fallback", false},
                       {"vocab", vocab},
                       {"merges", Json::array()}}}};
  return WriteJson(json);
}

// The given config with the tokens and type that the model is written with.
Json FinalConfig(const Json& config, const SynthOptions& options) {
  Json final_config = config;
  final_config["bos_token_id"] = 1;
  final_config["eos_token_id"] = 2;
  final_config["torch_dtype"] = options.dtype == DType::kF32   ? "float32"
                                : options.dtype == DType::kF16 ? "float16"
                                                               : "bfloat16";
  return final_config;
}

}  // namespace

absl::Status WriteSynthCheckpoint(
    const Json& config, const SynthOptions& options, const std::string& folder,
    ThreadPool* pool, const std::function<bool(int64_t)>& progress) {
  if (options.dtype != DType::kF32 && options.dtype != DType::kF16 &&
      options.dtype != DType::kBF16) {
    return InvalidInputError("dtype: expected F32, F16 or BF16, found ",
                             DTypeName(options.dtype));
  }
  const Json final_config = FinalConfig(config, options);
  QEFF_ASSIGN_OR_RETURN(const ModelMap map,
                        // No tensor exists yet: names have the usual prefix.
                        MapConfig(final_config, "config.json",
                                  [](absl::string_view) { return false; }));
  if (map.spec.vocab_size < kSpecialTokens + 256) {
    return InvalidInputError("vocab_size: expected at least ",
                             kSpecialTokens + 256, ", found ",
                             map.spec.vocab_size);
  }
  const std::vector<SynthTensor> tensors =
      TensorList(map, options.dtype).Take();
  std::vector<TensorInfo> infos;
  for (const SynthTensor& tensor : tensors) infos.push_back(tensor.info);
  QEFF_ASSIGN_OR_RETURN(const std::unique_ptr<CheckpointWriter> writer,
                        CheckpointWriter::Create(folder, infos));
  std::mutex mutex;
  absl::Status status;  // first error, guarded by mutex
  std::atomic<bool> failed{false};
  const auto fail = [&](const absl::Status& error) {
    const std::lock_guard<std::mutex> lock(mutex);
    status.Update(error);
    failed.store(true, std::memory_order_relaxed);
  };
  for (size_t t = 0; t < tensors.size(); ++t) {
    const Generator generator(tensors[t], static_cast<int64_t>(t), options);
    pool->ParallelFor(
        tensors[t].elems(), kChunkElems, [&](int64_t begin, int64_t end, int) {
          if (failed.load(std::memory_order_relaxed)) return;
          const std::vector<uint8_t> bytes =
              Generate(generator, options.dtype, begin, end);
          const absl::Status written = writer->Write(
              tensors[t].info.name,
              static_cast<uint64_t>(begin) * DTypeBytes(options.dtype), bytes);
          if (!written.ok()) {
            fail(written);
          } else if (progress && !progress(end - begin)) {
            fail(absl::CancelledError("writing the model was cancelled"));
          }
        });
    QEFF_RETURN_IF_ERROR(status);
  }
  return writer->Commit(
      final_config,
      {{"tokenizer.json", TokenizerJson()},
       {"tokenizer_config.json",
        WriteJson({{"bos_token", "<s>"}, {"eos_token", "</s>"}})}});
}

}  // namespace qeff
