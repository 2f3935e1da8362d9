// SPDX-License-Identifier: Apache-2.0
//
// Packages in memory, for tests of readers. Not made with the writer, so that
// reader and writer check each other.

#ifndef QEFF_DEVICE_PACKAGE_PACKAGE_TESTUTIL_H_
#define QEFF_DEVICE_PACKAGE_PACKAGE_TESTUTIL_H_

#include <functional>
#include <string>

#include "absl/strings/string_view.h"
#include "qeff/device/model.h"
#include "qeff/device/package/package_header.h"
#include "qeff/tokenizer/tables.h"

namespace qeff {

// The smallest Llama-like model: a package of it has about 5 kB.
TransformerSpec TinySpec();

// Tables with something in every field; they make no tokenizer.
TokenizerTables FullTables();

// A tokenizer whose tokens are the 256 bytes, by value, and 256, "<s>", which
// is special and begins every text.
TokenizerTables ByteTables();

// The bytes of a package of `model`, with numbers of its own in each option;
// `tokenizer` may be null. `edit` may change the header once all is placed: its
// checksum is then right for what it has become.
std::string PackageBytes(
    const DeviceModel& model, const TokenizerTables* tokenizer,
    const std::function<void(PackageHeader*)>& edit = nullptr);

// The encoded message of a package's header.
std::string HeaderMessage(const std::string& package);

// `package` with another message in its header; sizes and the checksum fit,
// all that follows stays where it was (or begins later).
std::string WithHeaderMessage(const std::string& package,
                              const std::string& message);

// Makes the checksum of the header fit its bytes.
void FixHeaderChecksum(std::string* package);

// Replaces the file at `path`.
void WriteFile(const std::string& path, absl::string_view bytes);

}  // namespace qeff

#endif  // QEFF_DEVICE_PACKAGE_PACKAGE_TESTUTIL_H_
