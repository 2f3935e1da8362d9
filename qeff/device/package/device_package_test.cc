// SPDX-License-Identifier: Apache-2.0
//
// Reading packages, whole ones and broken ones.

#include "qeff/device/package/device_package.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/device/package/package.pb.h"
#include "qeff/device/package/package_format.h"
#include "qeff/device/package/package_testutil.h"
#include "qeff/device/package/tokenizer_section.h"
#include "qeff/device/reference_model.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class DevicePackageTest : public ::testing::Test {
 protected:
  DevicePackageTest()
      : path_(absl::StrCat(
            testing::TempDir(), "/",
            testing::UnitTest::GetInstance()->current_test_info()->name(),
            ".qeff")) {}
  ~DevicePackageTest() override { std::remove(path_.c_str()); }

  absl::StatusOr<DevicePackage> Open(const std::string& bytes,
                                     const PackageOpenOptions& options = {}) {
    WriteFile(path_, bytes);
    return DevicePackage::Open(path_, options);
  }

  // The message of opening `bytes`, without the path that it begins with.
  std::string Error(const std::string& bytes) {
    WriteFile(path_, bytes);
    return Error();
  }

  // The same for the file as it is.
  std::string Error() {
    const absl::Status status = DevicePackage::Open(path_).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_THAT(std::string(status.message()), StartsWith(path_ + ": "));
    return std::string(status.message().substr(path_.size() + 2));
  }

  // Replaces bytes of the file.
  void Patch(size_t offset, absl::string_view bytes) {
    const int fd = open(path_.c_str(), O_WRONLY | O_CLOEXEC);
    ASSERT_EQ(
        pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset)),
        static_cast<ssize_t>(bytes.size()));
    close(fd);
  }

  // A package with an edited header.
  std::string Edited(const std::function<void(PackageHeader*)>& edit) {
    return PackageBytes(*RandomModel(TinySpec(), 1), nullptr, edit);
  }

  // A package with an edited message.
  std::string Remade(const std::function<void(proto::PackageHeader*)>& edit) {
    const std::string package =
        PackageBytes(*RandomModel(TinySpec(), 1), nullptr);
    proto::PackageHeader message;
    EXPECT_TRUE(message.ParseFromString(HeaderMessage(package)));
    edit(&message);
    return WithHeaderMessage(package, message.SerializeAsString());
  }

  const std::string path_;
};

void ExpectSame(const DeviceModel& a, const DeviceModel& b) {
  std::vector<std::vector<float>> vectors;
  VisitVectors(&a, [&](const TensorId&, const std::vector<float>* v) {
    vectors.push_back(*v);
  });
  size_t i = 0;
  VisitVectors(&b, [&](const TensorId& id, const std::vector<float>* v) {
    EXPECT_EQ(*v, vectors[i++]) << TensorName(id);
  });
  std::vector<DeviceMatrix> matrices;
  VisitMatrices(&a, [&](const TensorId&, const DeviceMatrix* m) {
    matrices.push_back(*m);
  });
  i = 0;
  VisitMatrices(&b, [&](const TensorId& id, const DeviceMatrix* m) {
    const DeviceMatrix& other = matrices[i++];
    EXPECT_EQ(m->rows, other.rows) << TensorName(id);
    EXPECT_EQ(m->cols, other.cols) << TensorName(id);
    EXPECT_EQ(WeightLayoutName(m->layout), WeightLayoutName(other.layout));
    EXPECT_TRUE(m->bytes == other.bytes) << TensorName(id);
  });
}

std::vector<TransformerSpec> Specs() {
  TransformerSpec gpt = SmallSpec();
  gpt.norm = NormKind::kLayerNorm;
  gpt.norm_bias = gpt.qkv_bias = gpt.attention_output_bias = true;
  gpt.ffn_bias = gpt.tied_lm_head = true;
  gpt.gated_ffn = false;
  gpt.position = PositionKind::kLearned;
  TransformerSpec qwen = SmallSpec();
  qwen.qk_norm = qwen.qkv_bias = true;
  return {TinySpec(), SmallSpec(), gpt, qwen};
}

TEST_F(DevicePackageTest, GivesBackTheModel) {
  for (const TransformerSpec& spec : Specs()) {
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
      const auto model = RandomModel(spec, 3, dtype);
      const auto package = Open(PackageBytes(*model, nullptr));
      ASSERT_TRUE(package.ok()) << package.status();
      ExpectSame(*package->model(), *model);
      EXPECT_EQ(package->header().producer, "test");
      const EngineOptions& options = package->header().options;
      EXPECT_EQ(options.context_length, 48);
      EXPECT_EQ(options.batch_size, 3);
      EXPECT_EQ(options.prefill_chunk, 16);
      EXPECT_EQ(options.activations, Activations::kFloat32);
      EXPECT_EQ(options.kv_cache, DType::kF16);
      EXPECT_EQ(package->ReadTokenizer().status().code(),
                absl::StatusCode::kNotFound);
    }
  }
}

TEST_F(DevicePackageTest, ModelOutlivesThePackage) {
  const auto model = RandomModel(TinySpec(), 3);
  std::shared_ptr<const DeviceModel> read;
  read = Open(PackageBytes(*model, nullptr))->model();
  ExpectSame(*read, *model);
  for (const DeviceMatrix& m :
       {read->token_embedding, read->blocks[0].down.weight}) {
    EXPECT_EQ(reinterpret_cast<uintptr_t>(m.bytes.data()) % 64, 0u);
  }
}

TEST_F(DevicePackageTest, GivesBackTheTokenizer) {
  const TokenizerTables tables = FullTables();
  const auto package = Open(PackageBytes(*RandomModel(TinySpec(), 1), &tables));
  ASSERT_TRUE(package.ok()) << package.status();
  const auto read = package->ReadTokenizer();
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(EncodeTokenizerTables(*read), EncodeTokenizerTables(tables));
}

TEST_F(DevicePackageTest, NoBitCanChange) {
  const TokenizerTables tables = FullTables();
  const std::string bytes = PackageBytes(*RandomModel(TinySpec(), 1), &tables);
  ASSERT_TRUE(Open(bytes).ok());
  for (size_t i = 0; i < bytes.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      const char changed = static_cast<char>(bytes[i] ^ (1 << bit));
      Patch(i, absl::string_view(&changed, 1));
      EXPECT_THAT(Error(), HasSubstr(": ")) << "byte " << i << ", bit " << bit;
    }
    Patch(i, absl::string_view(&bytes[i], 1));
  }
  EXPECT_TRUE(DevicePackage::Open(path_).ok());
}

TEST_F(DevicePackageTest, NoByteCanBeMissingOrAppended) {
  const std::string bytes = PackageBytes(*RandomModel(TinySpec(), 1), nullptr);
  EXPECT_THAT(Error(bytes + std::string(1, '\0')), HasSubstr("appended"));
  EXPECT_THAT(Error(bytes + bytes), HasSubstr("appended"));
  for (size_t size = bytes.size(); size-- > 0;) {
    ASSERT_EQ(truncate(path_.c_str(), static_cast<off_t>(size)), 0);
    const std::string error = Error();
    if (size < 24) continue;
    EXPECT_THAT(error, HasSubstr(absl::StrCat(
                           "file size: expected ", bytes.size(),
                           " bytes, found ", size, ": the file is truncated")));
  }
}

TEST_F(DevicePackageTest, ChecksumsOfLargePackagesWait) {
  std::string bytes = PackageBytes(*RandomModel(TinySpec(), 1), nullptr);
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  PackageOpenOptions options;
  options.verify_up_to_bytes = 100;
  const auto package = Open(bytes, options);
  ASSERT_TRUE(package.ok()) << package.status();
  const absl::Status status = package->VerifyChecksums();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr(path_ + ": lm_head weight: checksum: expected "));
  options.verify_up_to_bytes = bytes.size();
  EXPECT_FALSE(Open(bytes, options).ok());
}

TEST_F(DevicePackageTest, RefusesOtherFiles) {
  EXPECT_EQ(DevicePackage::Open(path_ + ".none").status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(DevicePackage::Open(testing::TempDir()).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Error(""), HasSubstr("not a device package"));
  EXPECT_THAT(Error(std::string(1000, 'x')), HasSubstr("qeffpkg"));
}

TEST_F(DevicePackageTest, RefusesOtherVersionsAndTargets) {
  std::string bytes = PackageBytes(*RandomModel(TinySpec(), 1), nullptr);
  for (const char version : {3, 5}) {
    bytes[8] = version;
    FixHeaderChecksum(&bytes);
    EXPECT_THAT(Error(bytes),
                HasSubstr(absl::StrCat("format version: expected 4, found ",
                                       static_cast<int>(version))));
  }

  const PackageTarget other = HostPackageTarget() == PackageTarget::kX86_64
                                  ? PackageTarget::kAArch64
                                  : PackageTarget::kX86_64;
  bytes = Edited([&](PackageHeader* header) { header->target = other; });
  EXPECT_THAT(Error(bytes),
              HasSubstr(absl::StrCat(
                  "target: expected ", PackageTargetName(HostPackageTarget()),
                  " or generic, found ", PackageTargetName(other))));
  PackageOpenOptions options;
  options.any_target = true;
  EXPECT_TRUE(Open(bytes, options).ok());
  bytes = Edited([](PackageHeader* h) { h->target = HostPackageTarget(); });
  EXPECT_TRUE(Open(bytes).ok());
}

TEST_F(DevicePackageTest, RefusesTensorsInOtherPlaces) {
  using H = PackageHeader*;
  // Unaligned, overlapping, beyond the end, wrapped around.
  for (const uint64_t shift :
       {uint64_t{1}, uint64_t{0} - 64, uint64_t{1} << 40, uint64_t{1} << 63}) {
    EXPECT_THAT(Error(Edited([&](H h) { h->tensors[3].data.offset += shift; })),
                HasSubstr("token embedding: offset: expected"));
  }
  EXPECT_THAT(Error(Edited([](H h) {
                h->tensors[3].data.offset = h->tensors[2].data.offset;
              })),
              HasSubstr("offset: expected"));
  EXPECT_THAT(Error(Edited([](H h) { h->tensors[3].data.bytes -= 4; })),
              HasSubstr("token embedding: bytes: expected"));
  EXPECT_THAT(Error(Edited([](H h) { h->tensors.back().rows += 1; })),
              HasSubstr("lm_head weight: bytes: expected"));
  EXPECT_THAT(Error(Edited([](H h) { h->file_bytes += 64; })),
              HasSubstr("file size"));
}

TEST_F(DevicePackageTest, RefusesShapesThatDoNotFit) {
  using P = proto::PackageHeader*;
  const auto tensor = [](P p, int i) { return p->mutable_tensors(i); };
  const auto error = [&](const std::function<void(P)>& edit) {
    return Error(Remade(edit));
  };
  EXPECT_THAT(error([&](P p) { tensor(p, 4)->set_rows(0); }),
              HasSubstr("found [0, "));
  EXPECT_THAT(error([&](P p) { tensor(p, 4)->set_rows(-1); }),
              HasSubstr("found [-1, "));
  EXPECT_THAT(error([&](P p) {
                tensor(p, 4)->set_rows(int64_t{1} << 62);
                tensor(p, 4)->set_cols(int64_t{1} << 62);
              }),
              HasSubstr("cannot be counted"));
  // Transposed, as many bytes.
  EXPECT_THAT(error([&](P p) { std::swap(*tensor(p, 0), *tensor(p, 1)); }),
              HasSubstr("offset"));
  EXPECT_THAT(error([&](P p) { p->mutable_spec()->set_num_heads(3); }),
              HasSubstr("block 0 q weight: expected shape"));
  EXPECT_THAT(error([&](P p) { p->mutable_spec()->set_num_kv_heads(7); }),
              HasSubstr("num_kv_heads"));
  EXPECT_THAT(error([&](P p) { p->mutable_spec()->set_num_layers(1 << 30); }),
              HasSubstr("num_layers"));
  EXPECT_THAT(error([&](P p) { p->mutable_spec()->set_qkv_bias(true); }),
              HasSubstr("block 0 q bias: expected 8 elements, found 0"));
}

TEST_F(DevicePackageTest, RefusesFieldsThatItDoesNotKnow) {
  using P = proto::PackageHeader*;
  const auto error = [&](const std::function<void(P)>& edit) {
    return Error(Remade(edit));
  };
  const auto tensor = [](P p) { return p->mutable_tensors(4); };
  EXPECT_THAT(error([](P p) { p->clear_producer(); }), HasSubstr("missing"));
  EXPECT_THAT(error([](P p) { p->clear_options(); }), HasSubstr("missing"));
  EXPECT_THAT(error([](P p) { p->set_target(proto::TARGET_UNSPECIFIED); }),
              HasSubstr("target"));
  EXPECT_THAT(error([](P p) { p->mutable_spec()->clear_clip_qkv(); }),
              HasSubstr("spec: clip_qkv"));
  EXPECT_THAT(
      error([](P p) { p->mutable_options()->set_kv_cache(proto::DTYPE_BF16); }),
      HasSubstr("kv_cache"));
  EXPECT_THAT(error([&](P p) { tensor(p)->clear_layout(); }),
              HasSubstr("layout: missing"));
  EXPECT_THAT(error([&](P p) { tensor(p)->set_role(29); }),
              HasSubstr("tensors[4]: role: expected 1 to 28, found 29"));
  EXPECT_THAT(error([&](P p) { tensor(p)->set_block(-2); }),
              HasSubstr("block"));
  EXPECT_THAT(error([&](P p) { tensor(p)->set_block(1); }),
              HasSubstr("unknown, double or out of order"));
  EXPECT_THAT(error([&](P p) {
                tensor(p)->mutable_float_rows()->set_dtype(proto::DTYPE_I8);
              }),
              HasSubstr("dtype: expected F32, F16 or BF16"));
}

TEST_F(DevicePackageTest, RefusesSparseBF16ThatDoesNotExist) {
  for (const int64_t values : {int64_t{0}, int64_t{-64}, int64_t{129},
                               int64_t{1} << 40, INT64_MAX, INT64_MIN}) {
    const std::string error = Error(Remade([&](proto::PackageHeader* p) {
      p->mutable_tensors(4)->mutable_packed_bf16()->set_values_bytes(values);
    }));
    EXPECT_THAT(error, HasSubstr("bytes of values")) << values;
  }
}

TEST_F(DevicePackageTest, RefusesPackedLayoutsThatDoNotExist) {
  const auto error = [&](const std::function<void(proto::PackedInt*)>& edit) {
    return Error(Remade([&](proto::PackageHeader* p) {
      proto::PackedInt* packed = p->mutable_tensors(4)->mutable_packed_int();
      packed->set_bits(4);
      packed->set_group_elems(8);
      packed->set_scale_dtype(proto::DTYPE_F16);
      packed->set_zero_points(false);
      edit(packed);
    }));
  };
  using I = proto::PackedInt*;
  EXPECT_THAT(error([](I p) { p->set_bits(5); }), HasSubstr("bits"));
  EXPECT_THAT(error([](I p) { p->set_group_elems(0); }), HasSubstr("group"));
  EXPECT_THAT(error([](I p) { p->set_group_elems(-8); }), HasSubstr("group"));
  EXPECT_THAT(error([](I p) { p->set_group_elems(4096); }), HasSubstr("group"));
  EXPECT_THAT(error([](I p) { p->set_scale_dtype(proto::DTYPE_I8); }),
              HasSubstr("scales"));
  EXPECT_THAT(error([](I p) { p->clear_bits(); }), HasSubstr("missing"));
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  for (const float scale : {0.0f, -1.0f, 0x1p-127f, kNan}) {
    EXPECT_THAT(error([&](I p) { p->set_input_scale(scale); }),
                HasSubstr("input_scale: found"));
  }
  const auto sparse = [&](int64_t values, bool two_of_four) {
    return error([&](I p) {
      p->mutable_sparse()->set_values_bytes(values);
      p->mutable_sparse()->set_two_of_four(two_of_four);
    });
  };
  for (const int64_t values : {int64_t{0}, int64_t{-64}, int64_t{257},
                               int64_t{1} << 40, INT64_MAX, INT64_MIN}) {
    EXPECT_THAT(sparse(values, false), HasSubstr("bytes of values"));
    EXPECT_THAT(sparse(values, true), HasSubstr("bytes of values"));
  }
  EXPECT_THAT(sparse(256, false), HasSubstr("bytes: expected"));
  EXPECT_THAT(error([](I p) { p->mutable_sparse()->set_values_bytes(256); }),
              HasSubstr("sparse: a field is missing"));
  EXPECT_THAT(error([](I p) {
                p->set_bits(3);
                p->mutable_sparse()->set_values_bytes(256);
                p->mutable_sparse()->set_two_of_four(false);
              }),
              HasSubstr("expected 4 or 8"));
  // In order, but the bytes are those of floats.
  EXPECT_THAT(error([](I) {}), HasSubstr("bytes: expected"));
}

TEST_F(DevicePackageTest, RefusesOtherEncodingsOfTheHeader) {
  const std::string package =
      PackageBytes(*RandomModel(TinySpec(), 1), nullptr);
  const std::string message = HeaderMessage(package);
  const auto error = [&](const std::string& m) {
    return Error(WithHeaderMessage(package, m));
  };
  EXPECT_THAT(error(message + std::string("\x10\x01", 2)),  // target again
              HasSubstr("not in the form"));
  EXPECT_THAT(error(message + std::string("\x78\x01", 2)),  // field 15
              HasSubstr("does not know"));
  EXPECT_THAT(error(message + std::string("\x7E", 1)),  // wire type 6
              HasSubstr("not a valid protocol buffer"));
  EXPECT_THAT(error(message + message), HasSubstr("not in the form"));
  EXPECT_THAT(error(std::string(2 << 20, '\x32')), HasSubstr("header size"));
  // Half a million tensors in a megabyte.
  std::string bomb;
  while (bomb.size() < kMaxHeaderBytes) bomb += std::string("\x32\0", 2);
  EXPECT_THAT(error(bomb), HasSubstr("missing"));
}

TEST_F(DevicePackageTest, EveryBitOfTheHeaderWithARightChecksum) {
  const std::string package =
      PackageBytes(*RandomModel(TinySpec(), 1), nullptr);
  const size_t end = PackageStartBytes(
      {reinterpret_cast<const uint8_t*>(package.data()), package.size()});
  WriteFile(path_, package);
  int accepted = 0;
  for (size_t bit = 0; bit < 8 * (end - 8); ++bit) {
    // Not the size of the header: the checksum would be elsewhere.
    if (bit / 8 >= 12 && bit / 8 < 16) continue;
    std::string changed = package;
    changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ 1 << bit % 8);
    FixHeaderChecksum(&changed);
    Patch(0, absl::string_view(changed).substr(0, end));
    accepted += DevicePackage::Open(path_).ok() ? 1 : 0;
  }
  // Options, names and numbers of the spec that no shape depends on.
  EXPECT_LT(accepted, 900);
}

}  // namespace
}  // namespace qeff
