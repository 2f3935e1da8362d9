// SPDX-License-Identifier: Apache-2.0
//
// Throughput of Encode and Decode, one thread.
//
//   QEFF_BENCHMARK_TOKENIZER=FOLDER QEFF_BENCHMARK_TEXT=FILE
//   tokenizer_benchmark
//
// Without a folder, a small byte-level BPE is made up, and without a file,
// text in the manner of English.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "benchmark/benchmark.h"
#include "qeff/tokenizer/tokenizer.h"
#include "qeff/tokenizer/tokenizer_testutil.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

const PortableTokenizer& TheTokenizer() {
  static const auto* const tokenizer =
      []() -> std::unique_ptr<PortableTokenizer>* {
    const char* folder = std::getenv("QEFF_BENCHMARK_TOKENIZER");
    if (folder == nullptr) {
      auto made = PortableTokenizer::Create(MakeEnglishBpe());
      if (made.ok()) {
        return new std::unique_ptr<PortableTokenizer>(*std::move(made));
      }
    } else {
      auto read = Tokenizer::FromFolder(folder);
      if (read.ok()) {
        return new std::unique_ptr<PortableTokenizer>(*std::move(read));
      }
      std::fprintf(stderr, "%s\n", read.status().ToString().c_str());
    }
    std::exit(3);
  }();
  return **tokenizer;
}

const std::string& EnglishText() {
  static const auto* const text = [] {
    const char* path = std::getenv("QEFF_BENCHMARK_TEXT");
    if (path == nullptr) return new std::string(MakeEnglishText(1 << 20));
    std::ifstream file(path, std::ios::binary);
    std::ostringstream buffer;
    buffer << file.rdbuf();
    return new std::string(buffer.str());
  }();
  return *text;
}

void BM_EncodeText(benchmark::State& state) {
  const PortableTokenizer& tokenizer = TheTokenizer();
  const std::string& text = EnglishText();
  size_t tokens = 0;
  for (auto _ : state) {
    const auto ids = tokenizer.Encode(text, false);
    tokens = ids.ok() ? ids->size() : 0;
    benchmark::DoNotOptimize(tokens);
  }
  state.SetBytesProcessed(state.iterations() * text.size());
  state.counters["bytes_per_token"] =
      static_cast<double>(text.size()) / std::max<size_t>(tokens, 1);
}
BENCHMARK(BM_EncodeText)->Unit(benchmark::kMillisecond);

void BM_EncodeSentence(benchmark::State& state) {
  const PortableTokenizer& tokenizer = TheTokenizer();
  const std::string text = EnglishText().substr(0, 100);
  for (auto _ : state) {
    benchmark::DoNotOptimize(tokenizer.Encode(text, false));
  }
  state.SetBytesProcessed(state.iterations() * text.size());
}
BENCHMARK(BM_EncodeSentence);

void BM_DecodeText(benchmark::State& state) {
  const PortableTokenizer& tokenizer = TheTokenizer();
  const std::vector<int32_t> ids =
      tokenizer.Encode(EnglishText(), false).value();
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer.Decode(ids, false));
  state.SetBytesProcessed(state.iterations() * EnglishText().size());
}
BENCHMARK(BM_DecodeText)->Unit(benchmark::kMillisecond);

// One character over and over: time must be linear in the length.
void EncodeRepeated(benchmark::State& state, const char* character) {
  const PortableTokenizer& tokenizer = TheTokenizer();
  std::string text;
  while (text.size() < static_cast<size_t>(state.range(0))) text += character;
  for (auto _ : state) {
    benchmark::DoNotOptimize(tokenizer.Encode(text, false));
  }
  state.SetBytesProcessed(state.iterations() * text.size());
}
BENCHMARK_CAPTURE(EncodeRepeated, letter, "a")
    ->RangeMultiplier(2)
    ->Range(1 << 19, 1 << 21)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(EncodeRepeated, symbol, "^")
    ->RangeMultiplier(2)
    ->Range(1 << 19, 1 << 21)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(EncodeRepeated, space, " ")
    ->RangeMultiplier(2)
    ->Range(1 << 19, 1 << 21)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(EncodeRepeated, combining_acute, "\xCC\x81")
    ->RangeMultiplier(2)
    ->Range(1 << 19, 1 << 21)
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace qeff
