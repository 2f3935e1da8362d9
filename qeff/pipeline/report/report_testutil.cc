// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/report/report_testutil.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"

namespace qeff::internal_report {
namespace {

constexpr int kBlocks = 22;
constexpr int kBins = 64;
constexpr const char* kRoles[] = {"q_proj",    "k_proj",  "v_proj",   "o_proj",
                                  "gate_proj", "up_proj", "down_proj"};

// In [0, 1), without a pattern that one sees.
double Noise(int i, int j) {
  const double x = std::sin(i * 12.9898 + j * 78.233) * 43758.5453;
  return x - std::floor(x);
}

Json Models() {
  return {{{"name", "input"},
           {"bytes", 2200119864},
           {"bits_per_weight", 16},
           {"perplexity", 7.8214},
           {"top1_agreement", 1}},
          {{"name", "prune_1"},
           {"bytes", 1841004312},
           {"bits_per_weight", 16},
           {"perplexity", 8.3307},
           {"kl_mean", 0.0912},
           {"top1_agreement", 0.8871}},
          {{"name", "distill_1"},
           {"bytes", 1841004312},
           {"bits_per_weight", 16},
           {"perplexity", 8.0122},
           {"kl_mean", 0.0443},
           {"top1_agreement", 0.9214}},
          {{"name", "quantize_1"},
           {"bytes", 541118208},
           {"bits_per_weight", 4.53},
           {"perplexity", 8.1406},
           {"kl_mean", 0.0619},
           {"top1_agreement", 0.9093}}};
}

Json Front() {
  Json front = Json::array();
  for (int i = 0; i < 12; ++i) {
    const double bits = 2.5 + 0.5 * i;
    const double loss = 0.9 * std::exp2(-1.1 * (bits - 2)) + 0.03;
    front.push_back(
        {{"name", absl::StrCat("candidate_", i)},
         {"bytes", std::floor(1.15e8 * bits)},
         {"bits_per_weight", bits},
         {"perplexity", 8.0 * std::exp(loss * (1 + Noise(i, 1)))},
         {"kl_mean", loss * (1 + Noise(i, 1))},
         {"top1_agreement", 1 - loss / 2},
         {"chosen", i == 4},
         {"recipe", absl::StrCat("steps { quantize { bits: ", bits, " } }")}});
  }
  return front;
}

Json Layers() {
  Json layers = Json::array();
  for (int block = 0; block < 18; ++block) {
    layers.push_back(
        {{"step", "prune_1"},
         {"name", absl::StrCat("model.layers.", block, ".mlp.up_proj")},
         {"role", "up_proj"},
         {"block", block},
         {"loss", 0.05 + 0.1 * Noise(block, 5)}});
  }
  for (int block = 0; block < kBlocks; ++block) {
    for (size_t role = 0; role < std::size(kRoles); ++role) {
      const double error = 0.004 * (1 + role) * (1 + 2 * Noise(block, role)) +
                           (block == 1 && role == 6 ? 0.09 : 0);
      layers.push_back({{"step", "quantize_1"},
                        {"name", absl::StrCat("model.layers.", block, ".",
                                              role < 4 ? "self_attn." : "mlp.",
                                              kRoles[role])},
                        {"role", kRoles[role]},
                        {"block", block},
                        {"relative_error", error},
                        {"loss", error * std::exp2(block - 8)},
                        {"rounding_loss", error * std::exp2(block - 8) *
                                              (1.2 + Noise(block, 7))},
                        {"bits", role == 6 ? 5.5 : 4.25}});
    }
  }
  return layers;
}

Json Sensitivities() {
  Json parts = Json::array();
  for (int block = 0; block < kBlocks; ++block) {
    for (const char* role : {"qkv", "o", "gate_up", "down"}) {
      const double noise = Noise(block, static_cast<int>(parts.size()));
      parts.push_back(
          {{"scheme", "int4_g32"},
           {"name", absl::StrCat("block ", block, " ", role)},
           {"role", role},
           {"block", block},
           {"sensitivity", 0.0004 * (1 + noise) + (block == 1 ? 0.002 : 0)}});
    }
  }
  return parts;
}

// Of a normal distribution, `zeros` of it moved to the bin of 0.
Json Counts(double width, double zeros) {
  Json counts = Json::array();
  for (int i = 0; i < kBins; ++i) {
    const double z = (i + 0.5 - kBins / 2) / (kBins / 2.0) / width;
    double count = 1e6 * std::exp(-z * z / 2) * (1 - zeros);
    if (i == kBins / 2) count += 1e7 * zeros;
    counts.push_back(std::floor(count));
  }
  return counts;
}

Json Histograms(double high) {
  Json histograms = Json::array();
  for (size_t role = 0; role < std::size(kRoles); ++role) {
    histograms.push_back(
        {{"role", kRoles[role]},
         {"low", -high},
         {"high", high},
         {"before", Counts(0.2 + 0.03 * role, 0)},
         {"after", Counts(0.21 + 0.03 * role, role == 2 ? 0.5 : 0)}});
  }
  return histograms;
}

Json LossCurve() {
  Json points = Json::array();
  for (int step = 10; step <= 1200; step += 10) {
    const double loss = 2.1 + 1.6 * std::exp(-step / 180.0);
    points.push_back({{"step", step},
                      {"loss", loss + 0.1 * (Noise(step, 3) - 0.5)},
                      {"held_out", nullptr}});
    if (step % 100 == 0) points.back()["held_out"] = loss + 0.06;
  }
  return {{"step", "distill_1"}, {"points", points}};
}

Json Steps() {
  return {
      {{"name", "prune_1"},
       {"kind", "prune"},
       {"arguments", {"--method=sparsegpt", "--layers=18"}},
       {"hash", "0123456789abcdef"},
       {"from_cache", true},
       {"seconds", 0.8},
       {"peak_bytes", 812345678},
       {"bytes", 1841004312},
       {"parameters", 920502156}},
      {{"name", "distill_1"},
       {"kind", "distill"},
       {"arguments", {"--steps=1200", "--learning_rate=1e-5"}},
       {"hash", "1123456789abcdef"},
       {"from_cache", false},
       {"seconds", 5210.4},
       {"peak_bytes", 9812345678},
       {"bytes", 1841004312}},
      {{"name", "quantize_1"},
       {"kind", "quantize"},
       {"arguments",
        {"--scheme=int4_g32", "--method=gptq",
         "--calibration=a/rather/long/path/to/the/calibration/text.txt"}},
       {"hash", "2123456789abcdef"},
       {"from_cache", false},
       {"seconds", 1312.25},
       {"peak_bytes", 3456789012},
       {"bytes", 541118208},
       {"bits_per_weight", 4.53},
       {"result", {{"layers", Json::array()}, {"tokens", 131072}}}},
      {{"name", "evaluate_1"},
       {"kind", "evaluate"},
       {"arguments", {"--text=held_out.txt"}},
       {"seconds", 211},
       {"peak_bytes", 2456789012},
       {"result", {{"perplexity", 8.1406}, {"kl_mean", 0.0619}}}},
  };
}

void ReplaceStrings(Json* value, const std::string& text) {
  if (value->is_string()) *value = text;
  if (!value->is_structured()) return;
  for (Json& member : *value) ReplaceStrings(&member, text);
}

}  // namespace

Json ExampleReport() {
  return {
      {"model", "models/tinyllama-1.1b-chat"},
      {"recipe",
       "# Four bits, with the quality of five.\n"
       "steps {\n  name: \"prune_1\"\n  prune { layers: 18 }\n}\n"
       "steps {\n  name: \"distill_1\"\n  distill { steps: 1200 }\n}\n"
       "steps {\n  name: \"quantize_1\"\n"
       "  quantize { scheme: \"int4_g32\" method: \"gptq\" }\n}\n"},
      {"environment",
       {{"qeff", "0.1.0"},
        {"cpu", "Intel(R) Xeon(R) Processor @ 2.70GHz"},
        {"threads", 2},
        {"target", "AVX3_DL"}}},
      {"steps", Steps()},
      {"models", Models()},
      {"front", Front()},
      {"layers", Layers()},
      {"sensitivities", Sensitivities()},
      {"weight_histograms", Histograms(0.2)},
      {"activation_histograms", Histograms(12.5)},
      {"loss_curves", {LossCurve()}},
      {"samples",
       {{{"prompt", "Once upon a time there was a little girl who"},
         {"before",
          " loved to play in the garden. One day she found a red ball under "
          "the big tree, and she was very happy."},
         {"after",
          " loved to play in the garden. One day she saw a small bird that "
          "could not fly, and she wanted to help."}},
        {{"prompt", "The capital of France is"},
         {"before", " Paris."},
         {"after", " Paris."}}}},
  };
}

Json HostileReport() {
  Json report = ExampleReport();
  ReplaceStrings(&report,
                 "\"'><script>hacked=1</script><!--<img src=x "
                 "onerror=hacked=1></title></textarea><svg onload=hacked=1>");
  // And as names of members.
  report["environment"]["<script>hacked=1</script>"] = 1;
  report["steps"][0]["result"]["</script><script>hacked=1</script>"] = 1;
  return report;
}

}  // namespace qeff::internal_report
