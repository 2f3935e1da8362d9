// SPDX-License-Identifier: Apache-2.0
//
// Writes a model folder as a GGUF file:
//   write_gguf --model=DIR --output=F.gguf --type=TYPE [--lm_head=TYPE]
//              [--threads=N]
// with TYPE f32, f16, bf16, q8_0, q4_0, q4_k, q5_k or q6_k. The embedding has
// the type of the lm_head, which is Q8_0 in a file of fewer bits.

#include <csignal>
#include <cstdio>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "qeff/export/write_gguf_model.h"
#include "qeff/io/checkpoint.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tokenizer/tokenizer.h"
#include "qeff/transformer/transformer.h"
#include "qeff/util/sigbus_guard.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

struct Flags {
  std::string model;
  std::string output;
  std::string type;
  std::string lm_head;
  std::string threads = "0";
};

// False for an argument that is no flag.
bool ParseArgument(absl::string_view argument, Flags* flags) {
  const auto take = [&](absl::string_view name, std::string* value) {
    if (!absl::ConsumePrefix(&argument, name)) return false;
    *value = std::string(argument);
    return true;
  };
  return take("--model=", &flags->model) || take("--output=", &flags->output) ||
         take("--type=", &flags->type) || take("--lm_head=", &flags->lm_head) ||
         take("--threads=", &flags->threads);
}

absl::StatusOr<GgmlType> ParseType(absl::string_view flag,
                                   absl::string_view name) {
  for (const GgmlType type :
       {GgmlType::kF32, GgmlType::kF16, GgmlType::kBF16, GgmlType::kQ8_0,
        GgmlType::kQ4_0, GgmlType::kQ4_K, GgmlType::kQ5_K, GgmlType::kQ6_K}) {
    if (absl::EqualsIgnoreCase(name, FindGgmlType(type)->name)) return type;
  }
  return InvalidInputError(
      flag,
      ": expected f32, f16, bf16, q8_0, q4_0, q4_k, q5_k or "
      "q6_k, found '",
      name, "'");
}

absl::StatusOr<GgufModelTypes> ParseTypes(const Flags& flags) {
  GgufModelTypes types;
  QEFF_ASSIGN_OR_RETURN(types.linear, ParseType("--type", flags.type));
  const bool small =
      types.linear == GgmlType::kQ4_0 || types.linear == GgmlType::kQ4_K ||
      types.linear == GgmlType::kQ5_K || types.linear == GgmlType::kQ6_K;
  types.lm_head = small ? GgmlType::kQ8_0 : types.linear;
  if (!flags.lm_head.empty()) {
    QEFF_ASSIGN_OR_RETURN(types.lm_head, ParseType("--lm_head", flags.lm_head));
  }
  types.embedding = types.lm_head;
  return types;
}

absl::Status Run(const Flags& flags) {
  QEFF_ASSIGN_OR_RETURN(const GgufModelTypes types, ParseTypes(flags));
  int threads = 0;
  if (!absl::SimpleAtoi(flags.threads, &threads) || threads < 0) {
    return InvalidInputError("--threads: expected a number, found '",
                             flags.threads, "'");
  }
  QEFF_ASSIGN_OR_RETURN(
      const auto pool,
      CreateThreadPool(threads > 0 ? threads : NumAvailableProcessors()));
  QEFF_ASSIGN_OR_RETURN(const auto checkpoint, Checkpoint::Open(flags.model));
  QEFF_ASSIGN_OR_RETURN(const auto model, Transformer::Load(checkpoint));
  QEFF_ASSIGN_OR_RETURN(const auto tokenizer,
                        Tokenizer::FromFolder(flags.model));
  QEFF_ASSIGN_OR_RETURN(const GgufModelReport report,
                        WriteGgufModel(*model, tokenizer->tables(), types,
                                       flags.output, pool.get()));
  std::printf("wrote %s: %.1f MB\n", flags.output.c_str(),
              static_cast<double>(report.file_bytes) / 1e6);
  if (!report.kept_f16.empty()) {
    std::printf("F16, as rows are not whole blocks: %zu matrices, first %s\n",
                report.kept_f16.size(), report.kept_f16[0].c_str());
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace qeff

int main(int argc, char** argv) {
  qeff::InstallSigbusGuard();
  std::signal(SIGXFSZ, SIG_IGN);
  qeff::Flags flags;
  for (int i = 1; i < argc; ++i) {
    if (qeff::ParseArgument(argv[i], &flags)) continue;
    std::fprintf(stderr, "write_gguf: unknown argument: %s\n", argv[i]);
    return qeff::kExitUsage;
  }
  if (flags.model.empty() || flags.output.empty() || flags.type.empty()) {
    std::fprintf(stderr,
                 "usage: write_gguf --model=DIR --output=F.gguf "
                 "--type=f32|f16|bf16|q8_0|q4_0|q4_k|q5_k|q6_k "
                 "[--lm_head=TYPE] [--threads=N]\n");
    return qeff::kExitUsage;
  }
  const absl::Status status = qeff::Run(flags);
  if (status.ok()) return qeff::kExitOk;
  std::fprintf(stderr, "write_gguf: %s\n",
               std::string(status.message()).c_str());
  return qeff::ExitCodeFor(status);
}
