// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/aic/bundle.h"

#include <set>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/export/aic/param_hash.h"
#include "qeff/io/io_testutil.h"

namespace qeff {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Key;
using ::testing::Not;

AicGraph TestGraph() {
  AicGraph graph;
  graph.onnx_path = "/cache/Llama/Llama-0123/Llama.onnx";
  graph.identity = "0123";
  graph.layers = 2;
  graph.nodes = {{"embed", -1}, {"a", 0}, {"b", 1}, {"head", -1}};
  graph.inputs = {"input_ids", "position_ids"};
  graph.outputs = {"logits"};
  for (int i = 0; i < 2; ++i) {
    for (const char* kind : {"past_key.", "past_value."}) {
      graph.kv_inputs.push_back(absl::StrCat(kind, i));
      graph.inputs.push_back(graph.kv_inputs.back());
      graph.outputs.push_back(graph.kv_inputs.back() + "_RetainedState");
    }
  }
  graph.model_config = {{"model_type", "llama"}};
  return graph;
}

AicBundle Make(const AicGraph& graph, const AicSettings& settings) {
  const auto bundle = MakeAicBundle(graph, settings);
  EXPECT_TRUE(bundle.ok()) << bundle.status();
  return bundle.value_or(AicBundle());
}

std::string ErrorOf(const AicGraph& graph, const AicSettings& settings) {
  const auto bundle = MakeAicBundle(graph, settings);
  EXPECT_FALSE(bundle.ok());
  return std::string(bundle.status().message());
}

TEST(MakeAicBundleTest, HasQEfficientsFiles) {
  AicBundle bundle = Make(TestGraph(), AicSettings());
  EXPECT_EQ(bundle.files.size(), 5u);
  EXPECT_THAT(bundle.files["specializations.json"],
              HasSubstr("\"name\":\"Prefill\""));
  EXPECT_THAT(bundle.files["custom_io.yaml"],
              HasSubstr(" - IOName: past_value.1_RetainedState\n"
                        "   Precision: float16\n\n"));
  const auto params = ParseJson(bundle.files["hashed_compile_params.json"], "");
  ASSERT_TRUE(params.ok()) << params.status();
  EXPECT_EQ(*HashParams(*params), bundle.hash);
  EXPECT_EQ((*params)["command"], Json(bundle.arguments));
  const auto config = ParseJson(bundle.files["qconfig.json"], "");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ((*config)["huggingface_config"]["model_type"], "llama");
  EXPECT_EQ((*config)["qpc_config"]["compiler_config"]["aic_num_cores"], 16);
}

TEST(MakeAicBundleTest, TheScriptHasTheCommand) {
  AicSettings settings;
  settings.options = *ParseCompilerOptions({"io_encrypt=it's"});
  AicBundle bundle = Make(TestGraph(), settings);
  const std::string script = bundle.files["qaic-compile.sh"];
  EXPECT_THAT(script, testing::StartsWith("#!/usr/bin/env bash\n"));
  EXPECT_THAT(script, HasSubstr("set -euo pipefail\n"));
  EXPECT_THAT(script, HasSubstr(" \\\n  '-m=../Llama.onnx'"));
  EXPECT_THAT(script, HasSubstr("'-io-encrypt=it'\\''s'"));
  EXPECT_THAT(script, Not(HasSubstr("/cache")));
}

TEST(MakeAicBundleTest, PartitionsForSeveralDevices) {
  AicSettings settings;
  settings.num_devices = 2;
  AicBundle sliced = Make(TestGraph(), settings);
  EXPECT_THAT(sliced.files, Contains(Key("mdp_ts_2.json")));
  EXPECT_THAT(sliced.arguments,
              Contains("-mdp-load-partition-config=mdp_ts_2.json"));
  settings.stages = 2;
  AicBundle pipeline = Make(TestGraph(), settings);
  EXPECT_THAT(pipeline.files["mdp_disagg_2d_2p.json"], HasSubstr("\"embed\""));
  EXPECT_THAT(pipeline.arguments,
              Contains("-mdp-load-partition-config=mdp_disagg_2d_2p.json"));
  EXPECT_THAT(pipeline.files, Not(Contains(Key("mdp_ts_2.json"))));
  settings.stages = 1;
  settings.options =
      *ParseCompilerOptions({"mdp_dump_partition_config=d.json"});
  EXPECT_THAT(Make(TestGraph(), settings).files,
              Not(Contains(Key("mdp_ts_2.json"))));
}

TEST(MakeAicBundleTest, TakesFilesAlong) {
  const std::string folder = MakeTestFolder();
  WriteTestFile(folder + "/a.yaml", "FP32NodeInstanceNames: [x]");
  WriteTestFile(folder + "/b.yaml", "FP32NodeInstanceNames: [x]");
  WriteTestFile(folder + "/c.yaml", "FP32NodeInstanceNames: [y]");
  std::vector<std::string> hashes;
  for (const char* name : {"a", "b", "c"}) {
    AicSettings settings;
    settings.options = *ParseCompilerOptions(
        {absl::StrCat("node_precision_info=", folder, "/", name, ".yaml")});
    AicBundle bundle = Make(TestGraph(), settings);
    EXPECT_THAT(bundle.files["node_precision_info.yaml"], HasSubstr("["))
        << name;
    EXPECT_THAT(bundle.arguments,
                Contains("-node-precision-info=node_precision_info.yaml"));
    hashes.push_back(bundle.hash);
  }
  EXPECT_EQ(hashes[0], hashes[1]);  // the content counts, not the path
  EXPECT_NE(hashes[0], hashes[2]);
  AicSettings settings;
  settings.options = *ParseCompilerOptions({"node_precision_info=/none.yaml"});
  EXPECT_THAT(ErrorOf(TestGraph(), settings),
              HasSubstr("node_precision_info: /none.yaml"));
}

TEST(MakeAicBundleTest, TheHashIsOfEverySettingAndOfNoPath) {
  const std::string base = Make(TestGraph(), AicSettings()).hash;
  AicGraph moved = TestGraph();
  moved.onnx_path = "/elsewhere/Llama.onnx";
  EXPECT_EQ(Make(moved, AicSettings()).hash, base);
  std::set<std::string> hashes = {base};
  const auto expect_new = [&hashes](void (*change)(AicGraph*, AicSettings*)) {
    AicGraph graph = TestGraph();
    AicSettings settings;
    change(&graph, &settings);
    EXPECT_TRUE(hashes.insert(Make(graph, settings).hash).second);
  };
  expect_new([](AicGraph* g, AicSettings*) { g->identity = "0124"; });
  expect_new([](AicGraph*, AicSettings* s) { s->shapes.ctx_len = 256; });
  expect_new([](AicGraph*, AicSettings* s) { s->mxfp6_matmul = true; });
  expect_new([](AicGraph*, AicSettings* s) { s->num_cores = 14; });
  expect_new([](AicGraph*, AicSettings* s) { s->num_devices = 2; });
  expect_new([](AicGraph*, AicSettings* s) { s->hardware = "ai200"; });
  expect_new([](AicGraph*, AicSettings* s) {
    s->kv_precision = KvPrecision::kMxint8;
  });
  expect_new([](AicGraph*, AicSettings* s) { s->sdk.apps = "1.23"; });
  expect_new([](AicGraph*, AicSettings* s) { s->sdk.apps = "1.20"; });
  expect_new([](AicGraph*, AicSettings* s) { s->qeff_version = "9"; });
  expect_new([](AicGraph*, AicSettings* s) {
    s->options = *ParseCompilerOptions({"mos=1"});
  });
}

TEST(MakeAicBundleTest, OldSdksGetTheFlatForm) {
  AicSettings settings;
  settings.sdk.apps = "1.20.2.0";
  EXPECT_THAT(Make(TestGraph(), settings).files["specializations.json"],
              Not(HasSubstr("symbols")));
}

TEST(MakeAicBundleTest, NamesWhatTheGraphLacks) {
  AicSettings settings;
  settings.shapes.full_batch_size = 4;
  EXPECT_THAT(ErrorOf(TestGraph(), settings),
              HasSubstr("expected an input batch_index"));
  AicGraph graph = TestGraph();
  graph.outputs.pop_back();
  EXPECT_THAT(ErrorOf(graph, AicSettings()),
              HasSubstr("output past_value.1_RetainedState"));
  settings = AicSettings();
  settings.num_cores = 0;
  EXPECT_THAT(ErrorOf(TestGraph(), settings), HasSubstr("num_cores"));
  settings = AicSettings();
  settings.num_devices = settings.stages = 2;
  settings.options = *ParseCompilerOptions({"mdp_load_partition_config=/x"});
  EXPECT_FALSE(MakeAicBundle(TestGraph(), settings).ok());
}

}  // namespace
}  // namespace qeff
