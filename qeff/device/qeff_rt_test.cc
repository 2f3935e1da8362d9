// SPDX-License-Identifier: Apache-2.0
//
// The C interface, used from C and through the C++ handles.

#include "qeff/device/qeff_rt.h"

#include <algorithm>
#include <cstdio>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/device/engine.h"
#include "qeff/device/package/package_testutil.h"
#include "qeff/device/qeff_rt_c_testutil.h"
#include "qeff/device/qeff_rt_cpp.h"
#include "qeff/device/reference_model.h"
#include "qeff/parallel/thread_pool.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;

class QeffRtTest : public ::testing::Test {
 protected:
  QeffRtTest() {
    WriteFile(path_, PackageBytes(*RandomModel(SmallSpec(), 1), nullptr));
  }
  ~QeffRtTest() override { std::remove(path_.c_str()); }

  qeff_rt_cpp::Package Open() {
    qeff_rt_cpp::Package package;
    EXPECT_EQ(qeff_rt_cpp::Open(path_, &package, &error_), QEFF_RT_OK)
        << error_.message;
    return package;
  }

  const std::string path_ = testing::TempDir() + "/qeff_rt.qeff";
  qeff_rt_error error_ = {};
};

TEST_F(QeffRtTest, RunsFromCAsTheEngineDoes) {
  const std::vector<int32_t> prompt = {1, 2, 3};
  std::vector<int32_t> made(6);
  ASSERT_EQ(ContinueInC(path_.c_str(), prompt.data(), prompt.size(),
                        made.data(), made.size(), &error_),
            QEFF_RT_OK)
      << error_.message;
  const auto pool = *CreateThreadPool(1);
  EngineOptions options;
  options.context_length = 48;
  options.activations = Activations::kFloat32;
  options.kv_cache = DType::kF16;
  auto engine =
      Engine::Create(RandomModel(SmallSpec(), 1), pool.get(), options);
  ASSERT_TRUE(engine.ok()) << engine.status();
  std::vector<int32_t> tokens = prompt;
  for (const int32_t token : made) {
    const auto logits = (*engine)->Append(tokens);
    ASSERT_TRUE(logits.ok()) << logits.status();
    EXPECT_EQ(token, std::max_element(logits->begin(), logits->end()) -
                         logits->begin());
    tokens = {token};
  }
}

TEST_F(QeffRtTest, VersionsAreCompared) {
  EXPECT_EQ(qeff_rt_abi_version(), QEFF_RT_ABI_VERSION);
  qeff_rt_package* package = nullptr;
  EXPECT_EQ(qeff_rt_package_open(QEFF_RT_ABI_VERSION + 1, path_.c_str(),
                                 &package, &error_),
            QEFF_RT_INVALID_ARGUMENT);
  EXPECT_EQ(package, nullptr);
  EXPECT_THAT(error_.message, HasSubstr("version"));
}

TEST_F(QeffRtTest, Slots) {
  const auto package = Open();
  EXPECT_EQ(qeff_rt_package_vocab_size(package.get()), 50);
  qeff_rt_cpp::Engine engine;
  qeff_rt_engine_options options = {};
  options.batch_size = 2;
  options.threads = 1;
  ASSERT_EQ(qeff_rt_cpp::Create(package, options, &engine, &error_), QEFF_RT_OK)
      << error_.message;
  const int32_t tokens[] = {4, 5};
  const float* logits = nullptr;
  std::vector<float> first;
  for (const int64_t slot : {0, 1, 0}) {
    ASSERT_EQ(
        qeff_rt_engine_append(engine.get(), slot, tokens, 2, &logits, &error_),
        QEFF_RT_OK)
        << error_.message;
    const std::vector<float> found(logits, logits + 50);
    if (first.empty()) first = found;
    EXPECT_EQ(found, first);
    ASSERT_EQ(qeff_rt_engine_reset(engine.get(), slot, &error_), QEFF_RT_OK);
  }
}

TEST_F(QeffRtTest, SeveralSlotsInOneCall) {
  const auto package = Open();
  qeff_rt_engine_options options = {};
  options.batch_size = 3;
  options.threads = 2;
  options.context_length = 9;
  qeff_rt_cpp::Engine together, alone;
  ASSERT_EQ(qeff_rt_cpp::Create(package, options, &together, &error_),
            QEFF_RT_OK);
  ASSERT_EQ(qeff_rt_cpp::Create(package, options, &alone, &error_), QEFF_RT_OK);
  qeff_rt_engine_options found = {};
  qeff_rt_engine_get_options(together.get(), &found);
  EXPECT_EQ(found.batch_size, 3);
  EXPECT_EQ(found.context_length, 9);
  EXPECT_EQ(found.threads, 2);
  EXPECT_GT(found.prefill_chunk, 0);

  const int32_t a[] = {1, 2, 3}, b[] = {9}, c[] = {7, 8};
  qeff_rt_slot_tokens inputs[] = {{2, a, 3, 0}, {0, c, 2, 1}, {1, b, 1, 0}};
  const float* logits = nullptr;
  ASSERT_EQ(qeff_rt_engine_run(together.get(), inputs, 3, &logits, &error_),
            QEFF_RT_OK)
      << error_.message;
  const std::vector<float> both(logits, logits + 2 * 50);
  const auto append = [&](int64_t slot, const int32_t* tokens, size_t count) {
    const float* out = nullptr;
    EXPECT_EQ(
        qeff_rt_engine_append(alone.get(), slot, tokens, count, &out, &error_),
        QEFF_RT_OK);
    return std::vector<float>(out, out + 50);
  };
  EXPECT_EQ(append(0, a, 3), std::vector<float>(both.begin(), both.end() - 50));
  EXPECT_EQ(append(1, b, 1), std::vector<float>(both.end() - 50, both.end()));
  EXPECT_EQ(qeff_rt_engine_position(together.get(), 0), 2);
  EXPECT_EQ(qeff_rt_engine_position(together.get(), 3), -1);

  qeff_rt_slot_tokens part = {0, b, 1, 1};
  ASSERT_EQ(qeff_rt_engine_run(together.get(), &part, 1, &logits, &error_),
            QEFF_RT_OK);
  EXPECT_EQ(logits, nullptr);
  // One that is wrong leaves all as they were.
  inputs[1].slot = 2;
  EXPECT_EQ(qeff_rt_engine_run(together.get(), inputs, 3, &logits, &error_),
            QEFF_RT_INVALID_ARGUMENT);
  EXPECT_THAT(error_.message, HasSubstr("slot 2 is named twice"));
  EXPECT_EQ(qeff_rt_engine_run(together.get(), inputs, 0, &logits, &error_),
            QEFF_RT_INVALID_ARGUMENT);
  EXPECT_EQ(qeff_rt_engine_position(together.get(), 2), 3);
}

class QeffRtTextTest : public QeffRtTest {
 protected:
  QeffRtTextTest() {
    TransformerSpec spec = SmallSpec();
    spec.vocab_size = 260;
    const TokenizerTables tables = ByteTables();
    WriteFile(path_, PackageBytes(*RandomModel(spec, 1), &tables));
    package_ = Open();
  }

  std::vector<int32_t> Encode(const std::string& text, int add_special) {
    std::vector<int32_t> tokens(100);
    size_t count = 0;
    EXPECT_EQ(qeff_rt_package_encode(package_.get(), text.data(), text.size(),
                                     add_special, tokens.data(), tokens.size(),
                                     &count, &error_),
              QEFF_RT_OK)
        << error_.message;
    tokens.resize(count);
    return tokens;
  }

  qeff_rt_cpp::Package package_;
};

TEST_F(QeffRtTextTest, EncodesAndDecodes) {
  EXPECT_EQ(qeff_rt_package_has_tokenizer(package_.get()), 1);
  const std::string text("h\xC3\xA9\0!", 5);
  const std::vector<int32_t> bytes = {'h', 0xC3, 0xA9, 0, '!'};
  EXPECT_EQ(Encode(text, 0), bytes);
  std::vector<int32_t> tokens = Encode(text, 1);
  ASSERT_EQ(tokens.size(), 6u);
  EXPECT_EQ(tokens[0], 256);
  size_t count = 0;
  EXPECT_EQ(qeff_rt_package_encode(package_.get(), text.data(), text.size(), 1,
                                   tokens.data(), 5, &count, &error_),
            QEFF_RT_OUT_OF_RANGE);
  EXPECT_EQ(count, 6u);

  char out[8];
  size_t out_bytes = 0;
  ASSERT_EQ(qeff_rt_package_decode(package_.get(), tokens.data(), 6, out, 5,
                                   &out_bytes, &error_),
            QEFF_RT_OK)
      << error_.message;
  EXPECT_EQ(std::string(out, out_bytes), text);
  EXPECT_EQ(qeff_rt_package_decode(package_.get(), tokens.data(), 6, out, 4,
                                   &out_bytes, &error_),
            QEFF_RT_OUT_OF_RANGE);
  EXPECT_EQ(out_bytes, 5u);
  tokens[2] = 257;
  EXPECT_EQ(qeff_rt_package_decode(package_.get(), tokens.data(), 6, out, 8,
                                   &out_bytes, &error_),
            QEFF_RT_INVALID_ARGUMENT);
}

TEST_F(QeffRtTextTest, StreamsWholeCharacters) {
  qeff_rt_cpp::Decoder decoder;
  ASSERT_EQ(qeff_rt_cpp::Create(package_, &decoder, &error_), QEFF_RT_OK);
  package_.reset();
  const char* text = nullptr;
  size_t text_bytes = 0;
  std::vector<std::string> pieces;
  for (const int32_t token : {256, 97, 0xE2, 0x82, 0xAC, 98, 0xC3}) {
    ASSERT_EQ(qeff_rt_decoder_append(decoder.get(), token, &text, &text_bytes,
                                     &error_),
              QEFF_RT_OK)
        << error_.message;
    pieces.emplace_back(text, text_bytes);
  }
  EXPECT_EQ(pieces, (std::vector<std::string>{"", "a", "", "", "\xE2\x82\xAC",
                                              "b", ""}));
  EXPECT_EQ(
      qeff_rt_decoder_append(decoder.get(), 257, &text, &text_bytes, &error_),
      QEFF_RT_INVALID_ARGUMENT);
  EXPECT_EQ(
      qeff_rt_decoder_append(decoder.get(), -1, &text, &text_bytes, nullptr),
      QEFF_RT_INVALID_ARGUMENT);
  ASSERT_EQ(qeff_rt_decoder_flush(decoder.get(), &text, &text_bytes, &error_),
            QEFF_RT_OK);
  EXPECT_EQ(std::string(text, text_bytes), "\xC3");
  ASSERT_EQ(
      qeff_rt_decoder_append(decoder.get(), 'c', &text, &text_bytes, &error_),
      QEFF_RT_OK);
  EXPECT_EQ(std::string(text, text_bytes), "c");
}

TEST_F(QeffRtTextTest, SamplesOnlyTokens) {
  // 257 to 259 are rows of the embedding that are no tokens.
  qeff_rt_cpp::Sampler sampler;
  qeff_rt_sampler_options greedy = {};
  greedy.top_p = greedy.repetition_penalty = 1;
  ASSERT_EQ(qeff_rt_cpp::Create(package_, greedy, &sampler, &error_),
            QEFF_RT_OK);
  std::vector<float> logits(260, 0.0f);
  logits[258] = 2;
  logits[65] = 1;
  int32_t token = -1;
  ASSERT_EQ(qeff_rt_sampler_next(sampler.get(), logits.data(), &token, &error_),
            QEFF_RT_OK);
  EXPECT_EQ(token, 65);
}

TEST_F(QeffRtTest, LogitsThatAreNotFiniteAreAnErrorWhereATokenIsChosen) {
  const auto model = RandomModel(SmallSpec(), 1);
  Matrix<float> head(50, 24);
  head.row(7)[3] = std::numeric_limits<float>::quiet_NaN();
  model->lm_head.weight = OwnedMatrix(std::move(head));
  WriteFile(path_, PackageBytes(*model, nullptr));
  const auto package = Open();
  qeff_rt_cpp::Engine engine;
  qeff_rt_cpp::Sampler sampler;
  qeff_rt_sampler_options greedy = {};
  greedy.top_p = greedy.repetition_penalty = 1;
  ASSERT_EQ(
      qeff_rt_cpp::Create(package, qeff_rt_engine_options(), &engine, &error_),
      QEFF_RT_OK);
  ASSERT_EQ(qeff_rt_cpp::Create(package, greedy, &sampler, &error_),
            QEFF_RT_OK);
  const int32_t tokens[] = {1};
  const float* logits = nullptr;
  ASSERT_EQ(qeff_rt_engine_append(engine.get(), 0, tokens, 1, &logits, &error_),
            QEFF_RT_OK);
  int32_t token = -1;
  EXPECT_EQ(qeff_rt_sampler_next(sampler.get(), logits, &token, &error_),
            QEFF_RT_DATA_LOSS);
  EXPECT_THAT(error_.message, HasSubstr("token 7"));
  EXPECT_EQ(token, -1);
}

TEST_F(QeffRtTest, NormsThatAreNotFiniteAreRefused) {
  const auto model = RandomModel(SmallSpec(), 1);
  model->final_norm.weight[2] = std::numeric_limits<float>::infinity();
  WriteFile(path_, PackageBytes(*model, nullptr));
  qeff_rt_cpp::Package package;
  EXPECT_EQ(qeff_rt_cpp::Open(path_, &package, &error_),
            QEFF_RT_INVALID_ARGUMENT);
  EXPECT_THAT(error_.message, HasSubstr("final norm weight: element 2 is inf"));
  EXPECT_THAT(error_.message, HasSubstr(path_));
}

TEST_F(QeffRtTest, Errors) {
  qeff_rt_cpp::Package package;
  EXPECT_EQ(qeff_rt_cpp::Open(path_ + ".none", &package, &error_),
            QEFF_RT_NOT_FOUND);
  EXPECT_THAT(error_.message, HasSubstr(".none"));
  EXPECT_EQ(
      qeff_rt_cpp::Open(path_ + std::string(5000, 'x'), &package, nullptr),
      QEFF_RT_UNAVAILABLE);
  package = Open();
  EXPECT_EQ(qeff_rt_package_has_tokenizer(package.get()), 0);
  size_t count = 0;
  EXPECT_EQ(qeff_rt_package_encode(package.get(), "a", 1, 1, nullptr, 0, &count,
                                   &error_),
            QEFF_RT_NOT_FOUND);
  EXPECT_THAT(error_.message, HasSubstr("no tokenizer"));
  qeff_rt_cpp::Decoder decoder;
  EXPECT_EQ(qeff_rt_cpp::Create(package, &decoder, &error_), QEFF_RT_NOT_FOUND);
  EXPECT_EQ(decoder, nullptr);
  qeff_rt_cpp::Engine engine;
  qeff_rt_engine_options options = {};
  options.threads = -1;
  EXPECT_EQ(qeff_rt_cpp::Create(package, options, &engine, &error_),
            QEFF_RT_INVALID_ARGUMENT);
  options.threads = 1;
  options.context_length = 2;
  ASSERT_EQ(qeff_rt_cpp::Create(package, options, &engine, &error_),
            QEFF_RT_OK);
  const int32_t tokens[] = {1, 2, 99};
  const float* logits = nullptr;
  EXPECT_EQ(qeff_rt_engine_append(engine.get(), 0, tokens, 3, &logits, &error_),
            QEFF_RT_INVALID_ARGUMENT);
  EXPECT_EQ(qeff_rt_engine_append(engine.get(), 7, tokens, 2, &logits, &error_),
            QEFF_RT_INVALID_ARGUMENT);
  EXPECT_EQ(qeff_rt_engine_reset(engine.get(), -1, &error_),
            QEFF_RT_INVALID_ARGUMENT);
  const int32_t fits[] = {1, 2};
  EXPECT_EQ(qeff_rt_engine_append(engine.get(), 0, fits, 2, &logits, &error_),
            QEFF_RT_OK);
  EXPECT_EQ(qeff_rt_engine_append(engine.get(), 0, fits, 1, &logits, &error_),
            QEFF_RT_OUT_OF_RANGE);
}

}  // namespace
}  // namespace qeff
