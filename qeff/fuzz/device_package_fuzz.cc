// SPDX-License-Identifier: Apache-2.0
//
// A device package: opened as it is, and then with a checksum of its header
// that fits and without those of its weights. What is accepted is run.

#include <cstring>
#include <string>

#include "qeff/device/engine.h"
#include "qeff/device/package/device_package.h"
#include "qeff/device/package/package_testutil.h"
#include "qeff/fuzz/fuzz_input.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Whether FixHeaderChecksum finds the checksum within the file.
bool HasHeader(absl::string_view bytes) {
  uint32_t header_bytes;
  if (bytes.size() < 32) return false;
  std::memcpy(&header_bytes, bytes.data() + 12, sizeof(header_bytes));
  return header_bytes <= bytes.size() - 32;
}

// Runs three tokens in a small context.
absl::Status Run(const DevicePackage& package) {
  static ThreadPool* const kPool = CreateThreadPool(1)->release();
  EngineOptions options = package.header().options;
  options.context_length = 8;
  options.batch_size = 1;
  options.prefill_chunk = 2;
  QEFF_ASSIGN_OR_RETURN(const auto engine,
                        Engine::Create(package.model(), kPool, options));
  return engine->Append({0, 1, 2}).status();
}

}  // namespace

absl::Status ReadFuzzInput(absl::string_view bytes) {
  static MemoryFile* const kFile = new MemoryFile;
  kFile->Write(bytes);
  CheckFuzzResult(DevicePackage::Open(kFile->path()).status());
  if (!HasHeader(bytes)) return InvalidInputError("no header");
  std::string fixed(bytes);
  FixHeaderChecksum(&fixed);
  kFile->Write(fixed);
  PackageOpenOptions options;
  options.any_target = true;
  options.verify_up_to_bytes = 0;
  QEFF_ASSIGN_OR_RETURN(const DevicePackage package,
                        DevicePackage::Open(kFile->path(), options));
  CheckFuzzResult(package.VerifyChecksums());
  CheckFuzzResult(package.ReadTokenizer().status());
  return Run(package);
}

}  // namespace qeff
