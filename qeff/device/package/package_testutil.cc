// SPDX-License-Identifier: Apache-2.0

#include "qeff/device/package/package_testutil.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <utility>

#include "qeff/device/package/package_format.h"
#include "qeff/device/package/tokenizer_section.h"
#include "qeff/device/reference_model.h"
#include "qeff/tokenizer/byte_alphabet.h"
#include "qeff/util/check.h"
#include "qeff/util/checksum.h"

namespace qeff {
namespace {

absl::Span<const uint8_t> Bytes(absl::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

uint32_t HeaderBytes(const std::string& package) {
  uint32_t bytes;
  std::memcpy(&bytes, package.data() + 12, sizeof(bytes));
  return bytes;
}

UnicodeMapping SmallMapping(uint32_t first) {
  return UnicodeMapping{
      {first, first + 1}, {1, 3}, {first + 2, first + 3, first + 4}};
}

}  // namespace

TransformerSpec TinySpec() {
  TransformerSpec spec = SmallSpec();
  spec.hidden_size = 8;
  spec.num_layers = 1;
  spec.num_heads = 2;
  spec.num_kv_heads = 1;
  spec.head_dim = 4;
  spec.ffn_size = 8;
  spec.vocab_size = 6;
  spec.eos_token_ids = {2};
  return spec;
}

TokenizerTables ByteTables() {
  TokenizerTables tables;
  for (int byte = 0; byte < 256; ++byte) {
    std::string spelled;
    AppendAlphabetSpelling(std::string(1, static_cast<char>(byte)), &spelled);
    tables.tokens.push_back(spelled);
  }
  tables.tokens.push_back("<s>");
  tables.kinds.assign(257, TokenKind::kNormal);
  tables.byte_level = true;
  tables.decoder.bytes = DecoderTables::Bytes::kByteLevel;
  AddedToken start;
  start.content = "<s>";
  start.id = 256;
  start.special = true;
  tables.added = {start};
  tables.prefix = {256};
  tables.bos_id = 256;
  // No character has a property.
  tables.unicode.block_of.assign(0x1100, 0);
  tables.unicode.properties.assign(256, 0);
  return tables;
}

TokenizerTables FullTables() {
  TokenizerTables tables;
  for (const char* token : {"<unk>", "a", "", "abc"}) {
    tables.tokens.push_back(token);
  }
  tables.kinds = {TokenKind::kUnknown, TokenKind::kNormal, TokenKind::kGap,
                  TokenKind::kAdded};
  tables.model = ModelKind::kSentencePieceBpe;
  tables.merges = {{0, 1, 3}, {1, 1, -1}};
  tables.scores = {0.0f, -1.5f, 3.25f, 7.0f};
  tables.unk_id = 0;
  tables.continuing_prefix = "##";
  tables.max_chars_per_word = 100;
  tables.added = {{"<x>", 3, true, false, true, false, true},
                  {"<y>", 1, false, true, false, true, false}};
  tables.normalizer = {{NormalizerOp::Kind::kReplace, "a", "b"},
                       {NormalizerOp::Kind::kSentencePiece, "", ""}};
  tables.sentencepiece.add_dummy_prefix = true;
  tables.sentencepiece.trie = {1, 0xFFFFFFFFu};
  tables.sentencepiece.replacements = std::string("a\0b\0", 4);
  tables.pre_tokenizer.resize(2);
  tables.pre_tokenizer[0].kind = PreTokenizerOp::Kind::kString;
  tables.pre_tokenizer[0].content = "\xE2\x96\x81";
  tables.pre_tokenizer[1].kind = PreTokenizerOp::Kind::kAddPrefixSpace;
  tables.decoder.per_token = {
      {DecoderTables::TokenOp::Kind::kSpaceBefore, "p", "c", 1, 2}};
  tables.decoder.bytes = DecoderTables::Bytes::kFallback;
  tables.decoder.strip_text = " ";
  tables.decoder.strip_count = 1;
  tables.prefix = {1};
  tables.suffix = {2, 3};
  tables.bos_id = 1;
  tables.unicode.block_of = {0, 1};
  tables.unicode.properties = {1, 2, 3};
  tables.unicode.combining = {0x300};
  tables.unicode.combining_classes = {230};
  tables.unicode.canonical = SmallMapping(0xC0);
  tables.unicode.compatibility = SmallMapping(0xA0);
  tables.unicode.lowercase = SmallMapping(0x41);
  tables.unicode.pairs = {uint64_t{0x41} << 32 | 0x300};
  tables.unicode.composed = {0xC0};
  return tables;
}

std::string PackageBytes(const DeviceModel& model,
                         const TokenizerTables* tokenizer,
                         const std::function<void(PackageHeader*)>& edit) {
  PackageHeader header;
  header.producer = "test";
  header.spec = model.spec;
  header.options = {/*context_length=*/48, /*batch_size=*/3,
                    /*prefill_chunk=*/16, Activations::kFloat32, DType::kF16};
  std::string tables;
  if (tokenizer != nullptr) {
    tables = EncodeTokenizerTables(*tokenizer);
    header.tokenizer = PackageSection{0, tables.size(), 0};
  }
  header.tensors = TensorsOfModel(model);
  QEFF_CHECK(PlacePackage(&header).ok());

  std::string package(header.file_bytes, '\0');
  const auto put = [&](absl::Span<const uint8_t> bytes,
                       PackageSection* section) {
    QEFF_CHECK(bytes.size() == section->bytes);
    std::copy(bytes.begin(), bytes.end(), package.begin() + section->offset);
    section->checksum = Checksum64(bytes);
  };
  if (tokenizer != nullptr) put(Bytes(tables), &*header.tokenizer);
  size_t next = 0;
  VisitVectors(&model, [&](const TensorId&, const std::vector<float>* v) {
    if (v->empty()) return;
    put({reinterpret_cast<const uint8_t*>(v->data()), v->size() * 4},
        &header.tensors[next++].data);
  });
  VisitMatrices(&model, [&](const TensorId&, const DeviceMatrix* m) {
    if (!m->empty()) put(m->bytes, &header.tensors[next++].data);
  });
  if (edit != nullptr) edit(&header);
  const std::string start = EncodePackageStart(header);
  package.replace(0, start.size(), start);
  return package;
}

std::string HeaderMessage(const std::string& package) {
  return package.substr(24, HeaderBytes(package));
}

std::string WithHeaderMessage(const std::string& package,
                              const std::string& message) {
  const uint64_t first = (24 + HeaderBytes(package) + 8 + 63) / 64 * 64;
  std::string result = package.substr(0, 24) + message + std::string(8, '\0');
  result.resize((result.size() + 63) / 64 * 64);
  result += package.substr(first);
  const uint32_t header_bytes = static_cast<uint32_t>(message.size());
  const uint64_t file_bytes = result.size();
  std::memcpy(&result[12], &header_bytes, sizeof(header_bytes));
  std::memcpy(&result[16], &file_bytes, sizeof(file_bytes));
  FixHeaderChecksum(&result);
  return result;
}

void FixHeaderChecksum(std::string* package) {
  const size_t checked_bytes = 24 + HeaderBytes(*package);
  const uint64_t checksum =
      Checksum64(Bytes(absl::string_view(*package).substr(0, checked_bytes)));
  std::memcpy(&(*package)[checked_bytes], &checksum, sizeof(checksum));
}

void WriteFile(const std::string& path, absl::string_view bytes) {
  FILE* file = std::fopen(path.c_str(), "wb");
  QEFF_CHECK(file != nullptr);
  QEFF_CHECK(std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size());
  QEFF_CHECK(std::fclose(file) == 0);
}

}  // namespace qeff
