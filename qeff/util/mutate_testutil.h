// SPDX-License-Identifier: Apache-2.0
//
// Damaged copies of a valid file, for tests of what reads it: whatever stands
// in a file, a reader gives a result or an error that names the file, in
// bounded time and memory. The same damage in every run.

#ifndef QEFF_UTIL_MUTATE_TESTUTIL_H_
#define QEFF_UTIL_MUTATE_TESTUTIL_H_

#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "qeff/util/json.h"
#include "qeff/util/random.h"

namespace qeff {

// `valid`, which is not empty, with one to three random faults: bits flipped,
// integers of 1 to 8 bytes or decimal numbers replaced by extreme ones, ranges
// removed, repeated or copied over others, the end cut off.
std::string Damaged(absl::string_view valid, Random* random);

// Copies of `valid` with one value, at any depth, removed or replaced by one
// of some twenty others: every type, and the extremes of numbers. Of an array
// the first three elements are, of an object of more than 48 members the first
// six.
std::vector<Json> JsonVariants(const Json& valid);

// Calls `read` with each of the given texts and expects of every call that it
// takes no more than ten seconds, that an error says `named`, and that memory
// was enough: for the rest of the program it is limited to 1 GiB more than now
// (not under sanitizers, which reserve address space of their own). Returns
// how many were read without an error.
int ReadEach(const std::vector<std::string>& texts, absl::string_view named,
             absl::FunctionRef<absl::Status(const std::string&)> read);

// ReadEach of `count` damaged copies of `valid`, and of its prefixes (at most
// 500).
int ReadDamaged(absl::string_view valid, int count, absl::string_view named,
                absl::FunctionRef<absl::Status(const std::string&)> read);

// ReadEach of JsonVariants(valid) as texts.
int ReadVariants(const Json& valid, absl::string_view named,
                 absl::FunctionRef<absl::Status(const std::string&)> read);

}  // namespace qeff

#endif  // QEFF_UTIL_MUTATE_TESTUTIL_H_
