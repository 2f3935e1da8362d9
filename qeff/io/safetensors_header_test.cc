// SPDX-License-Identifier: Apache-2.0

#include "qeff/io/safetensors_header.h"

#include <ctime>

#include "absl/strings/str_cat.h"
#include "absl/strings/substitute.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/io/io_testutil.h"
#include "qeff/util/mutate_testutil.h"
#include "qeff/util/output_file.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr absl::StatusCode kInvalid = absl::StatusCode::kInvalidArgument;

absl::StatusOr<SafetensorsHeader> Parse(absl::string_view bytes) {
  return ParseSafetensorsHeader(AsBytes(bytes), "dir/f.safetensors");
}

absl::StatusOr<SafetensorsHeader> Parse(absl::string_view header,
                                        size_t data_bytes) {
  return Parse(SafetensorsBytes(header, std::string(data_bytes, 'd')));
}

// Header of one tensor `w`.
std::string Entry(absl::string_view dtype, absl::string_view shape,
                  absl::string_view offsets) {
  return absl::Substitute(R"({"w":{"dtype":$0,"shape":$1,"data_offsets":$2}})",
                          dtype, shape, offsets);
}

// `file` must be refused with kInvalidArgument, the path and `part`.
void ExpectInvalid(const absl::StatusOr<SafetensorsHeader>& header,
                   absl::string_view part) {
  EXPECT_EQ(header.status().code(), kInvalid) << part << header.status();
  EXPECT_THAT(std::string(header.status().message()),
              testing::AllOf(StartsWith("dir/f.safetensors: "),
                             HasSubstr(std::string(part))));
}

// A length field of `length` and eight bytes of text.
std::string WithLength(uint64_t length, absl::string_view text = "{      }") {
  std::string bytes = SafetensorsBytes(text, "");
  for (int i = 0; i < 8; ++i) {
    bytes[i] = static_cast<char>((length >> (8 * i)) & 0xFF);
  }
  return bytes;
}

TEST(SafetensorsHeaderTest, ParsesTensorsMetadataAndPadding) {
  const auto header =
      Parse(R"({"b":{"dtype":"F16","shape":[2,3],"data_offsets":[4,16]},)"
            R"("__metadata__":{"format":"pt","k":""},)"
            R"("a":{"shape":[],"data_offsets":[0,4],"dtype":"F32"}}   )",
            16);
  ASSERT_TRUE(header.ok()) << header.status();
  ASSERT_EQ(header->entries.size(), 2u);
  EXPECT_EQ(header->entries[0].name, "a");
  EXPECT_EQ(header->entries[0].shape, Shape());
  EXPECT_EQ(header->entries[1].name, "b");
  EXPECT_EQ(header->entries[1].dtype, DType::kF16);
  EXPECT_EQ(header->entries[1].shape, Shape({2, 3}));
  EXPECT_EQ(header->entries[1].begin_bytes, 4u);
  EXPECT_EQ(header->metadata.at("format"), "pt");
  EXPECT_EQ(header->metadata.at("k"), "");
}

TEST(SafetensorsHeaderTest, AcceptsEmptyFilesOfNoTensors) {
  EXPECT_TRUE(Parse("{}", 0).ok());
}

TEST(SafetensorsHeaderTest, AcceptsZeroSizeTensorsAnywhere) {
  const auto header =
      Parse(R"({"a":{"dtype":"F32","shape":[2,0],"data_offsets":[0,0]},)"
            R"("b":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},)"
            R"("c":{"dtype":"F32","shape":[0],"data_offsets":[3,3]}})",
            3);
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->entries.size(), 3u);
}

TEST(SafetensorsHeaderTest, RejectsShortFiles) {
  ExpectInvalid(Parse(""), "too short: expected at least 8 bytes, found 0");
  ExpectInvalid(Parse("1234567"), "too short");
  EXPECT_EQ(Parse("12345678").status().code(), kInvalid);
}

TEST(SafetensorsHeaderTest, RejectsLengthsBeforeAllocating) {
  ExpectInvalid(Parse(WithLength(0)), "header length: found 0");
  ExpectInvalid(Parse(WithLength(~uint64_t{0})),
                "expected at most 100000000, found 18446744073709551615");
  ExpectInvalid(Parse(WithLength(uint64_t{1} << 63)), "header length");
  ExpectInvalid(Parse(WithLength(100'000'001)), "header length");
  ExpectInvalid(Parse(WithLength(100'000'000)),
                "expected at most the 8 bytes that follow");
  ExpectInvalid(Parse(WithLength(9)), "found 9");
  ExpectInvalid(Parse(WithLength(uint64_t{8} << 56)), "header length");
  EXPECT_TRUE(Parse(WithLength(8)).ok());
}

TEST(SafetensorsHeaderTest, RejectsWhatIsNoJsonObject) {
  for (const char* text : {"[]", "null", "3", " {}", "\n{}", "\"{}\""}) {
    ExpectInvalid(Parse(text, 0), "expected '{' at byte 8");
  }
  for (const char* text :
       {"{", "{}}", "{}{}", "{\"a\"}", "{,}", "{} x", "{}/**/", "{'a':1}"}) {
    ExpectInvalid(Parse(text, 0), "not valid JSON at byte");
  }
  ExpectInvalid(Parse("{\"\xFF\":1}", 0), "not valid JSON at byte 10");
  ExpectInvalid(Parse(absl::string_view("{}\0{", 4), 0), "byte 10: found NUL");
  ExpectInvalid(Parse("{\"a\nb\":1}", 0), "not valid JSON");
}

TEST(SafetensorsHeaderTest, RejectsDeepNestingAtOnce) {
  const std::string deep(100000, '[');
  ExpectInvalid(Parse("{\"a\":" + deep, 0), "expected an object, found an arr");
  ExpectInvalid(Parse(Entry("\"F32\"", deep, "[0,0]"), 0), "shape: expected");
  std::string objects = "{";
  for (int i = 0; i < 100000; ++i) objects += "\"a\":{";
  ExpectInvalid(Parse(objects, 0), "unknown key 'a'");
}

TEST(SafetensorsHeaderTest, RejectsDuplicatesAsSuch) {
  ExpectInvalid(Parse(R"({"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                      R"("w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
                      1),
                "duplicate tensor 'w'");
  // Also when the same name is written in another way.
  ExpectInvalid(
      Parse(R"({"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
            R"("\u0077":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
            2),
      "duplicate tensor 'w'");
  ExpectInvalid(Parse(R"({"w":{"dtype":"U8","shape":[1],"shape":[1],)"
                      R"("data_offsets":[0,1]}})",
                      1),
                "tensor 'w': duplicate key 'shape'");
  ExpectInvalid(Parse(R"({"__metadata__":{"a":"","a":""}})", 0),
                "__metadata__: duplicate key 'a'");
  ExpectInvalid(Parse(R"({"__metadata__":{},"__metadata__":{}})", 0),
                "duplicate key '__metadata__'");
}

TEST(SafetensorsHeaderTest, RejectsMetadataThatIsNoMapOfStrings) {
  ExpectInvalid(Parse(R"({"__metadata__":{"a":1}})", 0),
                "__metadata__: 'a': expected a string, found 1");
  ExpectInvalid(Parse(R"({"__metadata__":{"a":{}}})", 0), "expected a string");
  ExpectInvalid(Parse(R"({"__metadata__":[]})", 0), "expected an object");
  ExpectInvalid(Parse(R"({"__metadata__":{"dtype":"U8","shape":[1],)"
                      R"("data_offsets":[0,1]}})",
                      1),
                "__metadata__: 'shape': expected a string");
}

TEST(SafetensorsHeaderTest, RejectsBadDTypes) {
  for (const char* dtype : {"\"F128\"", "\"f32\"", "\"\""}) {
    ExpectInvalid(Parse(Entry(dtype, "[1]", "[0,4]"), 4),
                  "tensor 'w': dtype: expected a type of the format");
  }
  for (const char* dtype : {"1", "null", "{}", "[]", "true"}) {
    ExpectInvalid(Parse(Entry(dtype, "[1]", "[0,4]"), 4), "dtype: expected");
  }
  ExpectInvalid(Parse(R"({"w":{"shape":[1],"data_offsets":[0,4]}})", 4),
                "tensor 'w': missing key 'dtype'");
  ExpectInvalid(Parse(R"({"w":{"dtype":"F32","data_offsets":[0,4]}})", 4),
                "missing key 'shape'");
  ExpectInvalid(Parse(R"({"w":{"dtype":"F32","shape":[1]}})", 4),
                "missing key 'data_offsets'");
  ExpectInvalid(Parse(R"({"w":{"dtype":"F32","stride":[1]}})", 4),
                "unknown key 'stride'");
}

TEST(SafetensorsHeaderTest, NamesDTypesThatAreNotSupported) {
  for (const char* dtype :
       {"F4", "F6_E2M3", "F6_E3M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ",
        "U16", "U32", "U64", "C64"}) {
    const auto header =
        Parse(Entry(absl::StrCat("\"", dtype, "\""), "[1]", "[0,1]"), 1);
    EXPECT_EQ(header.status().code(), absl::StatusCode::kUnimplemented);
    EXPECT_THAT(std::string(header.status().message()),
                HasSubstr(absl::StrCat("tensor 'w': dtype: ", dtype,
                                       " is not supported")));
  }
}

TEST(SafetensorsHeaderTest, RejectsBadShapes) {
  for (const char* dim : {"-1", "-0", "1.5", "1e3", "\"4\"", "null", "[4]",
                          "18446744073709551616", "9223372036854775808"}) {
    ExpectInvalid(
        Parse(Entry("\"F32\"", absl::StrCat("[", dim, "]"), "[0,4]"), 4),
        "tensor 'w': shape: expected integers");
  }
  ExpectInvalid(Parse(Entry("\"F32\"", "4", "[0,4]"), 4), "expected an array");
  for (const char* shape :
       {"[4294967296,4294967296]", "[2,9223372036854775807]",
        "[2305843009213693952]", "[4294967296,4294967296,0]"}) {
    ExpectInvalid(Parse(Entry("\"F64\"", shape, "[0,0]"), 0),
                  "size overflows 64 bits");
  }
  std::string ones = "[1";
  for (int i = 0; i < 64; ++i) ones += ",1";
  ExpectInvalid(Parse(Entry("\"U8\"", ones + "]", "[0,1]"), 1),
                "at most 64 dimensions");
}

TEST(SafetensorsHeaderTest, RejectsBadOffsets) {
  ExpectInvalid(Parse(Entry("\"F32\"", "[4]", "[16,0]"), 16),
                "data_offsets [16, 0]: expected an end that is not before");
  for (const char* offsets : {"[-1,4]", "[0,4,4]", "[0]", "[]", "[0.0,4.0]",
                              "[\"0\",4]", "[0,18446744073709551616]"}) {
    ExpectInvalid(Parse(Entry("\"F32\"", "[1]", offsets), 4),
                  "data_offsets: expected two integers");
  }
  ExpectInvalid(Parse(Entry("\"F32\"", "[1]", "{}"), 4), "expected an array");
  ExpectInvalid(Parse(Entry("\"F32\"", "[2]", "[0,8]"), 4),
                "expected an end within the 4 bytes of data");
  ExpectInvalid(Parse(Entry("\"F32\"", "[2]",
                            "[18446744073709551607,"
                            "18446744073709551615]"),
                      4),
                "expected an end within");
  ExpectInvalid(Parse(Entry("\"F32\"", "[2]", "[0,4]"), 4),
                "expected 8 bytes for shape [2] of F32, found 4");
}

// Two tensors of two bytes each, the second at [begin, begin + 2).
absl::StatusOr<SafetensorsHeader> ParsePair(int begin, size_t data_bytes) {
  return Parse(absl::Substitute(
                   R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                   R"("b":{"dtype":"U8","shape":[2],"data_offsets":[$0,$1]}})",
                   begin, begin + 2),
               data_bytes);
}

TEST(SafetensorsHeaderTest, RejectsHolesOverlapsAndTrailingBytes) {
  EXPECT_TRUE(ParsePair(2, 4).ok());
  ExpectInvalid(ParsePair(1, 3),
                "tensor 'b': data_offsets: expected begin 2, where 'a' ends, "
                "found 1 (overlap)");
  ExpectInvalid(ParsePair(3, 5), "found 3 (hole)");
  ExpectInvalid(ParsePair(2, 5),
                "data: expected 4 bytes, the end of the last tensor, found 5");
  ExpectInvalid(ParsePair(2, 3), "within the 3 bytes");
  ExpectInvalid(Parse(Entry("\"U8\"", "[1]", "[1,2]"), 2),
                "expected begin 0, found 1 (hole)");
  ExpectInvalid(Parse("{}", 1), "found 1");
}

TEST(SafetensorsHeaderTest, RejectsManyTensorsOnOneRangeInTime) {
  std::string header = "{";
  for (int i = 0; i < 100000; ++i) {
    absl::StrAppend(&header, i == 0 ? "" : ",", "\"t", i,
                    R"(":{"dtype":"U8","shape":[4],"data_offsets":[0,4]})");
  }
  const auto start = std::clock();
  ExpectInvalid(Parse(header + "}", 4), "(overlap)");
  // 0.05 s in an optimized build; sanitizers are tens of times slower.
  // 0.04 s; a comparison of all pairs would take minutes.
  EXPECT_LT(std::clock() - start, 20 * CLOCKS_PER_SEC);
}

TEST(SafetensorsHeaderTest, BoundsTheNumberOfTensorsAndMetadata) {
  std::string header = "{";
  for (int i = 0; i <= 1'000'000; ++i) {
    absl::StrAppend(&header, i == 0 ? "" : ",", "\"", i,
                    R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})");
  }
  ExpectInvalid(Parse(header + "}", 0), "expected at most 1000000 tensors");
  header = "{\"__metadata__\":{";
  for (int i = 0; i <= 100'000; ++i) {
    absl::StrAppend(&header, i == 0 ? "" : ",", "\"", i, "\":\"\"");
  }
  ExpectInvalid(Parse(header + "}}", 0), "expected at most 100000 entries");
}

TEST(SafetensorsHeaderTest, TakesNamesAsOpaqueBytesAndEscapesThem) {
  const auto with_name = [](absl::string_view name) {
    return Parse(
        absl::Substitute(
            R"({"$0":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", name),
        1);
  };
  for (const char* name : {"a\\u0000b", "a\\nb", "../x", "", "\xC3\xA9"}) {
    EXPECT_TRUE(with_name(name).ok()) << name;
  }
  EXPECT_EQ(with_name("a\\u0000b")->entries[0].name, std::string("a\0b", 3));
  EXPECT_TRUE(with_name(std::string(4096, 'n')).ok());
  ExpectInvalid(with_name(std::string(4097, 'n')), "at most 4096");
  const auto huge = with_name(std::string(1 << 20, 'n'));
  ExpectInvalid(huge, "name has 1048576 bytes");
  EXPECT_LT(huge.status().message().size(), 300u);
  const auto escaped = Parse(R"({"a\u001b[2J":1})", 0);
  EXPECT_THAT(std::string(escaped.status().message()),
              testing::AllOf(HasSubstr("'a\\x1b[2J'"), Not(HasSubstr("\x1b"))));
}

TEST(SafetensorsHeaderTest, NamesOtherKindsOfFiles) {
  const struct {
    absl::string_view content;
    const char* kind;
  } cases[] = {
      {"PK\x03\x04 and much more", "zip archive"},
      {"\x80\x02}q\x01(X\x05\x01\x01\x01", "Python pickle"},
      {"version https://git-lfs.github.com/spec/v1\noid ...", "Git LFS"},
      {"<!DOCTYPE html><title>404 Not Found</title>", "HTML page"},
      {"<html>404 Not Found", "HTML page"},
      {"GGUF\x03 and more", "GGUF"},
      {"\x89HDF\r\n\x1a\n....", "HDF5"},
      {"{\"weight_map\":{}}", "JSON text"},
  };
  for (const auto& c : cases) {
    ExpectInvalid(Parse(c.content),
                  absl::StrCat("the file looks like ",
                               absl::string_view(c.kind) == "JSON text" ||
                                       absl::string_view(c.kind) == "Git LFS"
                                   ? ""
                                   : "a"));
    ExpectInvalid(Parse(c.content), c.kind);
  }
  EXPECT_THAT(std::string(Parse("nothing at all").status().message()),
              Not(HasSubstr("looks like")));
}

TEST(SafetensorsHeaderTest, BoundsOneToken) {
  const std::string longer((16 << 20) + 2, ' ');
  ExpectInvalid(Parse("{\"" + longer + "\":1}", 0),
                "expected at most 16777216 bytes in a string, found more at "
                "byte 9");
  ExpectInvalid(Parse("{" + longer + "}", 0), "found more at byte 8");
  ExpectInvalid(Parse("{\"__metadata__\":{\"a\\\"\":\"" + longer, 0),
                "found more at byte 31");
  std::string metadata = "{\"__metadata__\":{\"a\":\"";
  metadata += std::string(16 << 20, 'x') + "\"}}";
  EXPECT_TRUE(Parse(metadata, 0).ok()) << Parse(metadata, 0).status();
}

// A small file with every construct.
std::string SmallFile() {
  return SafetensorsBytes(
      R"({"__metadata__":{"format":"pt"},)"
      R"("a.b":{"dtype":"BF16","shape":[2,1],"data_offsets":[0,4]},)"
      R"("c\u00e9":{"dtype":"F32","shape":[],"data_offsets":[4,8]}}  )",
      "12345678");
}

TEST(SafetensorsHeaderTest, RejectsEveryPrefix) {
  const std::string bytes = SmallFile();
  ASSERT_TRUE(Parse(bytes).ok()) << Parse(bytes).status();
  for (size_t n = 0; n < bytes.size(); ++n) {
    // A copy of exactly n bytes, so that a sanitizer sees any read behind it.
    const std::vector<uint8_t> prefix(bytes.begin(), bytes.begin() + n);
    EXPECT_EQ(ParseSafetensorsHeader(prefix, "f").status().code(), kInvalid)
        << n;
  }
}

TEST(SafetensorsHeaderTest, SurvivesEveryFlippedBit) {
  const std::string bytes = SmallFile();
  const size_t header_bytes = bytes.size() - 8;
  for (size_t bit = 0; bit < header_bytes * 8; ++bit) {
    std::vector<uint8_t> flipped(bytes.begin(), bytes.end());
    flipped[bit / 8] ^= static_cast<uint8_t>(1 << (bit % 8));
    const auto header = ParseSafetensorsHeader(flipped, "f");
    if (!header.ok()) continue;
    // Accepted: then every rule holds, and the tensors tile the data.
    uint64_t end = 0;
    for (const SafetensorsEntry& entry : header->entries) {
      EXPECT_EQ(entry.begin_bytes, end) << bit;
      end = entry.end_bytes;
      EXPECT_TRUE((entry.shape.num_elements() * DTypeBytes(entry.dtype))
                      .AtMost(end - entry.begin_bytes));
    }
    EXPECT_EQ(header->data_begin_bytes + end, flipped.size()) << bit;
  }
}

TEST(SafetensorsHeaderTest, SurvivesDamage) {
  EXPECT_GT(ReadDamaged(SmallFile(), 50000, "f",
                        [](const std::string& damaged) -> absl::Status {
                          const auto header =
                              ParseSafetensorsHeader(AsBytes(damaged), "f");
                          if (!header.ok()) return header.status();
                          for (const auto& entry : header->entries) {
                            EXPECT_LE(entry.begin_bytes, entry.end_bytes);
                            EXPECT_LE(
                                header->data_begin_bytes + entry.end_bytes,
                                damaged.size());
                          }
                          return absl::OkStatus();
                        }),
            100);
}

}  // namespace
}  // namespace qeff
