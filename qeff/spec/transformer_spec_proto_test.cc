// SPDX-License-Identifier: Apache-2.0

#include "qeff/spec/transformer_spec_proto.h"

#include <cstdint>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;

// All fields, rope's too, to compare and to change. A new field does not
// compile until it is named.
auto Fields(TransformerSpec& spec) {
  auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, rope, n, o, p, q, r, s, t, u, v,
         w, x, y, z] = spec;
  auto& [r1, r2, r3, r4, r5, r6] = rope;
  return std::tie(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u,
                  v, w, x, y, z, r1, r2, r3, r4, r5, r6);
}

constexpr size_t kFields =
    std::tuple_size_v<decltype(Fields(std::declval<TransformerSpec&>()))>;

void Change(std::string& value) { value += "x\xFF"; }
void Change(int64_t& value) { value += 1234567890123; }
void Change(double& value) { value = value * 0.1 + 0.3; }
void Change(bool& value) { value = !value; }
void Change(NormKind& value) { value = NormKind::kLayerNorm; }
void Change(PositionKind& value) { value = PositionKind::kAlibi; }
void Change(Activation& value) { value = Activation::kRelu; }
void Change(RopeScaling& value) { value = RopeScaling::kLlama3; }
void Change(std::vector<int64_t>& value) { value = {3, -1, 3}; }

template <size_t... kIndex>
std::vector<TransformerSpec> ChangedInOneField(std::index_sequence<kIndex...>) {
  std::vector<TransformerSpec> specs(sizeof...(kIndex));
  (Change(std::get<kIndex>(Fields(specs[kIndex]))), ...);
  return specs;
}

TEST(TransformerSpecProtoTest, EveryFieldSurvives) {
  TransformerSpec defaults;
  for (TransformerSpec spec :
       ChangedInOneField(std::make_index_sequence<kFields>())) {
    std::string bytes;
    ASSERT_TRUE(TransformerSpecToProto(spec).SerializeToString(&bytes));
    proto::TransformerSpec message;
    ASSERT_TRUE(message.ParseFromString(bytes));
    auto again = TransformerSpecFromProto(message);
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_TRUE(Fields(*again) == Fields(spec));
    EXPECT_FALSE(Fields(*again) == Fields(defaults));
  }
}

TEST(TransformerSpecProtoTest, EveryEnumeratorSurvives) {
  const auto again = [](const TransformerSpec& spec) {
    return *TransformerSpecFromProto(TransformerSpecToProto(spec));
  };
  TransformerSpec spec;
  for (const auto kind : {NormKind::kRmsNorm, NormKind::kLayerNorm}) {
    spec.norm = kind;
    EXPECT_EQ(again(spec).norm, kind);
  }
  for (const auto kind :
       {PositionKind::kRope, PositionKind::kLearned, PositionKind::kAlibi}) {
    spec.position = kind;
    EXPECT_EQ(again(spec).position, kind);
  }
  for (const auto kind : {Activation::kSilu, Activation::kGelu,
                          Activation::kGeluTanh, Activation::kRelu}) {
    spec.activation = kind;
    EXPECT_EQ(again(spec).activation, kind);
  }
  for (const auto kind :
       {RopeScaling::kNone, RopeScaling::kLinear, RopeScaling::kLlama3}) {
    spec.rope.scaling = kind;
    EXPECT_EQ(again(spec).rope.scaling, kind);
  }
}

TEST(TransformerSpecProtoTest, RefusesWhatIsMissing) {
  const std::string empty =
      std::string(TransformerSpecFromProto({}).status().message());
  EXPECT_THAT(empty, HasSubstr("family"));
  proto::TransformerSpec message = TransformerSpecToProto(TransformerSpec());
  message.clear_clip_qkv();
  EXPECT_THAT(std::string(TransformerSpecFromProto(message).status().message()),
              HasSubstr("clip_qkv"));
  message = TransformerSpecToProto(TransformerSpec());
  message.clear_rope();
  EXPECT_THAT(std::string(TransformerSpecFromProto(message).status().message()),
              HasSubstr("rope theta"));
  message = TransformerSpecToProto(TransformerSpec());
  message.set_norm(proto::NORM_UNSPECIFIED);
  EXPECT_THAT(std::string(TransformerSpecFromProto(message).status().message()),
              HasSubstr("norm"));
}

TEST(TransformerSpecProtoTest, RefusesWhatIsUnknown) {
  // What a later version might write: field 22, activation, with value 99, and
  // field 1000.
  for (const std::string& extra :
       {std::string("\xB0\x01\x63"), std::string("\xC0\x3E\x01")}) {
    proto::TransformerSpec spec = TransformerSpecToProto(TransformerSpec());
    if (extra[0] == '\xB0') spec.clear_activation();
    proto::TransformerSpec message;
    ASSERT_TRUE(message.ParseFromString(spec.SerializeAsString() + extra));
    const auto found = TransformerSpecFromProto(message);
    EXPECT_EQ(found.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(found.status().message()),
                HasSubstr("does not know"));
  }
}

}  // namespace
}  // namespace qeff
