// SPDX-License-Identifier: Apache-2.0

#include "qeff/fuzz/edited_seeds.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "qeff/fuzz/config_models.h"
#include "qeff/util/check.h"

namespace qeff {
namespace {

struct Edit {
  size_t file;          // of which list
  const char* pointer;  // to what is replaced
  const char* value;
};

constexpr size_t kByteLevel = 0, kWordPiece = 2, kCharacter = 3;

constexpr Edit kTokenizerEdits[] = {
    {kCharacter, "/decoder",
     R"({"type":"Sequence","decoders":[{"type":"Fuse"},{"type":"Replace",)"
     R"("pattern":{"String":"a"},"content":""}]})"},
    {kCharacter, "/decoder",
     R"({"type":"Sequence","decoders":[{"type":"ByteFallback"},)"
     R"({"type":"ByteLevel"}]})"},
    {kCharacter, "/decoder", R"({"type":"Metaspace","replacement":""})"},
    {kCharacter, "/decoder", R"({"type":"Strip","content":""})"},
    {kCharacter, "/decoder", R"({"type":"ByteLevel"})"},
    {kCharacter, "/decoder", R"({"type":"CTC"})"},
    {kCharacter, "/decoder",
     R"({"type":"Metaspace","prepend_scheme":"never"})"},
    {kCharacter, "/decoder",
     R"({"type":"Metaspace","prepend_scheme":"sometimes"})"},
    {kCharacter, "/decoder",
     R"({"type":"Replace","pattern":{"String":""},"content":""})"},
    {kCharacter, "/post_processor",
     R"({"type":"TemplateProcessing","single":[]})"},
    {kCharacter, "/post_processor",
     R"({"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"x"}}],)"
     R"("special_tokens":{"x":{"id":"x","ids":[-1]}}})"},
    {kCharacter, "/post_processor",
     R"({"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"x"}}],)"
     R"("special_tokens":{"x":{"id":"x","ids":1}}})"},
    {kCharacter, "/pre_tokenizer",
     R"({"type":"Metaspace","replacement":"ab"})"},
    {kCharacter, "/pre_tokenizer",
     R"({"type":"CharDelimiterSplit","delimiter":""})"},
    {kCharacter, "/pre_tokenizer",
     R"({"type":"Sequence","pretokenizers":[{"type":"ByteLevel"},)"
     R"({"type":"Digits"}]})"},
    {kCharacter, "/pre_tokenizer",
     R"({"type":"Split","pattern":{"Regex":"(a+)+$"}})"},
    {kCharacter, "/pre_tokenizer",
     R"({"type":"Split","pattern":{"String":""}})"},
    {kCharacter, "/pre_tokenizer",
     R"({"type":"Split","pattern":{"String":"a"},"behavior":"Other"})"},
    {kCharacter, "/pre_tokenizer", R"({"type":"UnicodeScripts"})"},
    {kCharacter, "/normalizer",
     R"({"type":"Replace","pattern":{"Regex":" +"},"content":""})"},
    {kCharacter, "/normalizer", R"({"type":"Nmt"})"},
    {kCharacter, "/added_tokens/0/content", R"("")"},
    {kCharacter, "/added_tokens/1/content", R"("[PAD]")"},
    {kCharacter, "/added_tokens/3",
     R"({"id":20,"content":"far","special":true})"},
    {kCharacter, "/model/dropout", "0.5"},
    {kCharacter, "/model/end_of_word_suffix", R"("</w>")"},
    {kCharacter, "/model/type", R"("Unigram")"},
    {kByteLevel, "/decoder", R"({"type":"Fuse"})"},
    {kWordPiece, "/pre_tokenizer", R"({"type":"ByteLevel"})"},
};

// Lists that are longer than their bound.
struct Repeated {
  const char* pointer;
  const char* list;
  const char* stage;
};

constexpr Repeated kRepeated[] = {
    {"/normalizer", "normalizers", R"({"type":"NFC"})"},
    {"/normalizer", "normalizers",
     R"({"type":"Replace","pattern":{"String":"a"},"content":"aaaaaaaa"})"},
    {"/pre_tokenizer", "pretokenizers", R"({"type":"Digits"})"},
    {"/decoder", "decoders", R"({"type":"Strip","content":"a"})"},
};

constexpr size_t kLlama = 0, kLlamaParameters = 1, kGpt2 = 5, kMpt = 6;

constexpr Edit kConfigEdits[] = {
    {kLlama, "/rope_scaling/rope_type", R"("yarn")"},
    {kLlama, "/rope_scaling/factor", "0"},
    {kLlama, "/rope_scaling/low_freq_factor", "null"},
    {kLlama, "/eos_token_id", "[20]"},
    {kLlama, "/hidden_act", R"("relu")"},
    {kLlama, "/architectures", R"(["Other"])"},
    {kLlama, "/architectures", "[]"},
    {kLlama, "/model_type", R"("other")"},
    {kLlamaParameters, "/rope_scaling", R"({"rope_type":"linear","factor":2})"},
    {kLlamaParameters, "/rope_theta", "51"},
    {kGpt2, "/head_dim", "7"},
    {kMpt, "/head_dim", "7"},
    {kMpt, "/attn_config/clip_qkv", "-1"},
    {kMpt, "/expansion_ratio", "0.3"},
    {kMpt, "/ffn_config", R"({"ffn_type":"mptmlp"})"},
    {kMpt, "/ffn_config", R"({"ffn_type":"other"})"},
};

// Quantizations of kLlama, whose weights are floats.
constexpr const char* kCompressed =
    R"({"quant_method":"compressed-tensors","quantization_status":"compressed",
        "config_groups":{"group_0":{"targets":["Linear"],
        "weights":{"num_bits":8,"type":"int","symmetric":true,
        "strategy":"channel","group_size":null,"dynamic":false},
        "input_activations":null,"output_activations":null}},
        "ignore":["lm_head"]})";
constexpr const char* kGptq =
    R"({"quant_method":"gptq","bits":4,"group_size":128,"sym":true,
        "desc_act":false,"checkpoint_format":"gptq","dynamic":{}})";
constexpr const char* kAwq =
    R"({"quant_method":"awq","bits":4,"group_size":128,"zero_point":true,
        "version":"gemm","modules_to_not_convert":["lm_head"]})";
constexpr const char* kQeff =
    R"({"quant_method":"qeff","version":1,"config_groups":{"group_0":{
        "targets":["re:.*_proj$"],"weights":{"num_bits":5,"type":"int",
        "symmetric":false,"strategy":"group","group_size":32}}},"ignore":[]})";

struct QuantizationEdit {
  const char* config;
  const char* pointer;
  const char* value;
};

#define QEFF_GROUP "/config_groups/group_0"
constexpr QuantizationEdit kQuantizationEdits[] = {
    {kCompressed, "/x", "0"},
    {kCompressed, "/format", R"("pack-quantized")"},
    {kCompressed, "/format", R"("mixed-precision")"},
    {kCompressed, "/config_groups", R"({})"},
    {kCompressed, "/kv_cache_scheme", R"({"num_bits":8})"},
    {kCompressed, "/sparsity_config", R"({"format":"dense"})"},
    {kCompressed, "/sparsity_config", R"({"format":"sparse-24-bitmask"})"},
    {kCompressed, QEFF_GROUP "/targets", "[1]"},
    {kCompressed, QEFF_GROUP "/targets", R"(["re:.*q_proj","re:(","Conv"])"},
    {kCompressed, QEFF_GROUP "/format", R"("int-quantized")"},
    {kCompressed, QEFF_GROUP "/weights/num_bits", "64"},
    {kCompressed, QEFF_GROUP "/weights/type", R"("float")"},
    {kCompressed, QEFF_GROUP "/weights",
     R"({"num_bits":4,"type":"float","strategy":"group","group_size":32})"},
    {kCompressed, QEFF_GROUP "/weights",
     R"({"num_bits":5,"type":"float","strategy":"channel"})"},
    {kCompressed, QEFF_GROUP "/weights",
     R"({"num_bits":4,"symmetric":false,"strategy":"tensor"})"},
    {kCompressed, QEFF_GROUP "/weights",
     R"({"num_bits":4,"group_size":-1,"actorder":"group"})"},
    {kCompressed, QEFF_GROUP "/input_activations",
     R"({"num_bits":8,"type":"int","dynamic":true,"strategy":"token"})"},
    {kCompressed, QEFF_GROUP "/input_activations",
     R"({"num_bits":8,"type":"int","dynamic":false,"strategy":"tensor"})"},
    {kCompressed, QEFF_GROUP "/input_activations", R"({"num_bits":4})"},
    {kCompressed, QEFF_GROUP "/input_activations",
     R"({"num_bits":8,"symmetric":false})"},
    {kCompressed, QEFF_GROUP "/input_activations",
     R"({"num_bits":8,"dynamic":"local"})"},
    {kCompressed, QEFF_GROUP "/input_activations",
     R"({"num_bits":8,"strategy":"group"})"},
    {kQeff, "/x", "0"},
    {kQeff, "/version", "1000"},
    {kQeff, QEFF_GROUP "/weights", R"({"type":"nf4_g32"})"},
    {kQeff, QEFF_GROUP "/weights", R"({"type":"q4_k"})"},
    {kQeff, QEFF_GROUP "/weights", R"({"type":"other"})"},
    {kQeff, QEFF_GROUP "/targets", R"(["model.layers.0.mlp.up_proj"])"},
    {kGptq, "/x", "0"},
    {kGptq, "/bits", "5"},
    {kGptq, "/group_size", "0"},
    {kGptq, "/checkpoint_format", R"("marlin")"},
    {kGptq, "/dynamic", R"({"-:.*down":{},"+:.*up":{}})"},
    {kAwq, "/x", "0"},
    {kAwq, "/version", R"("gemv")"},
    {kAwq, "/bits", "8"},
    {kAwq, "/zero_point", "false"},
};
#undef QEFF_GROUP

Json Parsed(absl::string_view text) {
  auto json = ParseJson(text, "seed");
  QEFF_CHECK(json.ok());
  return *std::move(json);
}

Json Edited(Json json, const char* pointer, const Json& value) {
  json[Json::json_pointer(pointer)] = value;
  return json;
}

void Add(absl::string_view name, const std::string& bytes,
         std::vector<SeedFile>* seeds) {
  seeds->push_back({absl::StrCat(name, "-", seeds->size()), bytes});
}

}  // namespace

std::vector<SeedFile> EditedTokenizerJsons() {
  const std::vector<SeedFile> valid = TokenizerJsonSeeds();
  std::vector<SeedFile> seeds;
  for (const Edit& edit : kTokenizerEdits) {
    const Json json = Edited(Parsed(valid[edit.file].bytes), edit.pointer,
                             Parsed(edit.value));
    Add("edited", json.dump(), &seeds);
  }
  for (const Repeated& repeated : kRepeated) {
    const std::vector<Json> stages(65, Parsed(repeated.stage));
    const Json json = Edited(Parsed(valid[kCharacter].bytes), repeated.pointer,
                             {{"type", "Sequence"}, {repeated.list, stages}});
    Add("repeated", json.dump(), &seeds);
  }
  return seeds;
}

std::vector<SeedFile> EditedConfigs() {
  const std::vector<TestModel> models = ConfigModels();
  std::vector<SeedFile> seeds;
  for (const Edit& edit : kConfigEdits) {
    const Json json =
        Edited(models[edit.file].config, edit.pointer, Parsed(edit.value));
    Add("edited", absl::StrCat(edit.file, json.dump()), &seeds);
  }
  for (const QuantizationEdit& edit : kQuantizationEdits) {
    Json json = models[kLlama].config;
    json["quantization_config"] =
        Edited(Parsed(edit.config), edit.pointer, Parsed(edit.value));
    Add("quantized", absl::StrCat(kLlama, json.dump()), &seeds);
  }
  return seeds;
}

}  // namespace qeff
