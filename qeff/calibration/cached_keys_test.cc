// SPDX-License-Identifier: Apache-2.0

#include "qeff/calibration/cached_keys.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/io/checkpoint.h"
#include "qeff/io/io_testutil.h"
#include "qeff/transformer/known_shapes.h"
#include "qeff/transformer/synth.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

Matrix<float> Keys(int64_t tokens, const std::vector<double>& widths) {
  Matrix<float> keys(tokens, static_cast<int64_t>(widths.size()));
  const Random random(5);
  for (int64_t r = 0; r < tokens; ++r) {
    for (int64_t c = 0; c < keys.cols(); ++c) {
      keys.row(r)[c] = static_cast<float>(
          widths[static_cast<size_t>(c)] *
          random.NormalAt(static_cast<uint64_t>(r * keys.cols() + c)));
    }
  }
  return keys;
}

// The mean squared error of q k when k / scale is rounded to 8 bits.
double ScoreError(const Matrix<float>& keys, const std::vector<double>& energy,
                  const std::vector<float>& scales) {
  double sum = 0;
  for (int64_t r = 0; r < keys.rows(); ++r) {
    double most = 0;
    for (size_t c = 0; c < scales.size(); ++c) {
      most = std::max<double>(most, std::abs(keys.row(r)[c] / scales[c]));
    }
    const double step = most / 127;
    for (size_t c = 0; c < scales.size(); ++c) {
      const double x = keys.row(r)[c] / scales[c];
      const double error = (std::nearbyint(x / step) * step - x) * scales[c];
      sum += energy[c] * error * error;
    }
  }
  return sum / static_cast<double>(keys.rows());
}

TEST(SearchKeyScalesTest, AWideChannelDoesNotCoarsenTheOthers) {
  const Matrix<float> keys = Keys(200, {20, 1, 1, 1, 1, 1, 1, 1});
  const std::vector<double> energy = {0.01, 1, 1, 1, 1, 1, 1, 1};
  const std::vector<float> scales = SearchKeyScales(keys.view(), energy);
  const std::vector<float> ones(8, 1.0f);
  EXPECT_LT(ScoreError(keys, energy, scales),
            0.1 * ScoreError(keys, energy, ones));
}

TEST(SearchKeyScalesTest, EvenChannelsAreNeverWorse) {
  const Matrix<float> keys = Keys(300, {1, 1, 1, 1});
  const std::vector<double> energy = {1, 1, 1, 1};
  const std::vector<float> ones(4, 1.0f);
  EXPECT_LT(ScoreError(keys, energy, SearchKeyScales(keys.view(), energy)),
            1.02 * ScoreError(keys, energy, ones));
}

TEST(SearchKeyScalesTest, DeadChannelsAndQueriesGiveFiniteScales) {
  for (const std::vector<double>& widths :
       {std::vector<double>{0, 0, 0}, std::vector<double>{1, 0, 1e-30}}) {
    for (const std::vector<double>& energy :
         {std::vector<double>{0, 0, 0}, std::vector<double>{1e30, 1, 0}}) {
      for (const float scale :
           SearchKeyScales(Keys(9, widths).view(), energy)) {
        EXPECT_TRUE(std::isfinite(scale) && scale > 1e-7f) << scale;
      }
    }
  }
}

class CalibrateCachedKeysTest : public testing::Test {
 protected:
  static std::shared_ptr<const Transformer> Model(const std::string& shape) {
    const std::string folder = MakeTestFolder() + "/model";
    const auto pool = CreateThreadPool(1).value();
    EXPECT_TRUE(WriteSynthCheckpoint(KnownShapeConfig(shape).value(), {},
                                     folder, pool.get())
                    .ok());
    return *Transformer::Load(*Checkpoint::Open(folder));
  }

  static TokenSample Sample() {
    TokenSample sample;
    for (int s = 0; s < 3; ++s) {
      sample.sequences.emplace_back();
      for (int i = 0; i < 20; ++i) {
        sample.sequences.back().push_back((i * 7 + s * 3) % 50);
      }
    }
    sample.tokens = 60;
    return sample;
  }
};

TEST_F(CalibrateCachedKeysTest, SameForAnyThreadsAndOfEveryBlock) {
  const auto model = Model("tiny");
  std::vector<CachedKeys> first;
  for (const int threads : {1, 3}) {
    const auto keys =
        CalibrateCachedKeys(model, Sample(), **CreateThreadPool(threads));
    ASSERT_TRUE(keys.ok()) << keys.status();
    ASSERT_EQ(static_cast<int64_t>(keys->size()), model->spec().num_layers);
    for (const CachedKeys& block : *keys) {
      EXPECT_EQ(static_cast<int64_t>(block.mean.size()),
                model->spec().kv_size());
      EXPECT_EQ(block.scale.size(), block.mean.size());
    }
    if (first.empty()) first = *keys;
    EXPECT_TRUE(*keys == first);
  }
  EXPECT_FALSE(first[0] == first[1]);
}

}  // namespace
}  // namespace qeff
