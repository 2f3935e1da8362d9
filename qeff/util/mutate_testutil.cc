// SPDX-License-Identifier: Apache-2.0

#include "qeff/util/mutate_testutil.h"

#include <sys/resource.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"

namespace qeff {
namespace {

constexpr uint64_t kExtremes[] = {0,
                                  1,
                                  0x7F,
                                  0x80,
                                  0xFF,
                                  0xFFFF,
                                  0x7FFFFFFF,
                                  0x80000000,
                                  0xFFFFFFFF,
                                  uint64_t{1} << 40,
                                  uint64_t{1} << 61,
                                  uint64_t{1} << 62,
                                  (uint64_t{1} << 63) - 1,
                                  uint64_t{1} << 63,
                                  ~uint64_t{0} - 31,
                                  ~uint64_t{0}};

constexpr const char* kNumbers[] = {"0",
                                    "-1",
                                    "1e400",
                                    "1.5",
                                    "2147483648",
                                    "9007199254740993",
                                    "9223372036854775807",
                                    "18446744073709551615",
                                    "99999999999999999999999"};

// An object with more members is a table, whose first stand for all.
constexpr size_t kManyMembers = 48, kOfMany = 6;

size_t Below(Random* random, size_t bound) {
  return static_cast<size_t>(random->NextBelow(bound));
}

void ReplaceInteger(std::string* bytes, Random* random) {
  const size_t at = Below(random, bytes->size());
  const size_t width =
      std::min(size_t{1} << Below(random, 4), bytes->size() - at);
  uint64_t value = kExtremes[Below(random, std::size(kExtremes))];
  if (random->NextBelow(4) == 0) {  // off by one
    value = 0;
    std::memcpy(&value, bytes->data() + at, width);
    value += random->NextBelow(2) == 0 ? 1 : ~uint64_t{0};
  }
  std::memcpy(&(*bytes)[at], &value, width);
}

// The first number in decimal behind a random place.
void ReplaceDecimal(std::string* bytes, Random* random) {
  const auto is_digit = [](char c) {
    return absl::ascii_isdigit(static_cast<unsigned char>(c));
  };
  const auto from =
      bytes->begin() + static_cast<ptrdiff_t>(Below(random, bytes->size()));
  const auto begin = std::find_if(from, bytes->end(), is_digit);
  const auto end = std::find_if_not(begin, bytes->end(), is_digit);
  if (begin == end) return;
  bytes->replace(begin, end, kNumbers[Below(random, std::size(kNumbers))]);
}

void DamageOnce(std::string* bytes, Random* random) {
  const size_t at = Below(random, bytes->size());
  const size_t length =
      1 + Below(random, std::min<size_t>(bytes->size() - at, 64));
  switch (random->NextBelow(8)) {
    case 0:
    case 1:
      (*bytes)[at] = static_cast<char>((*bytes)[at] ^ 1 << Below(random, 8));
      return;
    case 2:
      ReplaceInteger(bytes, random);
      return;
    case 3:
      ReplaceDecimal(bytes, random);
      return;
    case 4:
      bytes->erase(at, length);
      return;
    case 5:
      bytes->insert(Below(random, bytes->size()), bytes->substr(at, length));
      return;
    case 6: {
      const std::string range = bytes->substr(at, length);
      bytes->replace(Below(random, bytes->size()), length, range);
      return;
    }
    default:
      bytes->resize(bytes->size() - length);
      return;
  }
}

std::vector<Json> Replacements() {
  std::vector<Json> values = {
      nullptr,
      true,
      "",
      "x",
      "../x",
      -1,
      0,
      1,
      2,
      7,
      0x7FFFFFFF,
      int64_t{1} << 31,
      int64_t{1} << 24,
      0.5,
      1e-300,
      1e308,
      Json::array(),
      Json::array({1, 1}),
      Json::object(),
      {{"x", 1}},
      Json::array({Json::array({nullptr})}),
  };
  values.push_back(std::numeric_limits<int64_t>::max());
  values.push_back(std::numeric_limits<int64_t>::min());
  values.push_back(std::numeric_limits<uint64_t>::max());
  values.push_back(std::string(5000, 'x'));
  return values;
}

// Puts variants of the value `at`, a part of `whole`, into `variants`.
void AddVariants(Json* at, const Json& whole, std::vector<Json>* variants) {
  const Json kept = *at;
  for (Json& value : Replacements()) {
    *at = std::move(value);
    variants->push_back(whole);
  }
  *at = kept;
  if (kept.is_object()) {
    size_t members = 0;
    for (const auto& member : kept.items()) {
      if (kept.size() > kManyMembers && ++members > kOfMany) break;
      at->erase(member.key());
      variants->push_back(whole);
      *at = kept;
      AddVariants(&(*at)[member.key()], whole, variants);
    }
  }
  if (kept.is_array()) {
    for (size_t i = 0; i < std::min<size_t>(kept.size(), 3); ++i) {
      at->erase(i);
      variants->push_back(whole);
      *at = kept;
      at->push_back(kept[i]);
      variants->push_back(whole);
      *at = kept;
      AddVariants(&(*at)[i], whole, variants);
    }
  }
}

void LimitMemory() {
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  static const bool done = [] {
    uint64_t pages = 0;  // of address space
    std::ifstream("/proc/self/statm") >> pages;
    rlimit limit;
    getrlimit(RLIMIT_AS, &limit);
    limit.rlim_cur = pages * 4096 + (uint64_t{1} << 30);
    return setrlimit(RLIMIT_AS, &limit) == 0;
  }();
  EXPECT_TRUE(done);
#endif
}

}  // namespace

std::string Damaged(absl::string_view valid, Random* random) {
  std::string bytes(valid);
  const uint64_t faults = 1 + random->NextBelow(3);
  for (uint64_t i = 0; i < faults && !bytes.empty(); ++i) {
    DamageOnce(&bytes, random);
  }
  return bytes;
}

std::vector<Json> JsonVariants(const Json& valid) {
  std::vector<Json> variants;
  Json copy = valid;
  AddVariants(&copy, copy, &variants);
  return variants;
}

int ReadEach(const std::vector<std::string>& texts, absl::string_view named,
             absl::FunctionRef<absl::Status(const std::string&)> read) {
  LimitMemory();
  int accepted = 0;
  for (const std::string& text : texts) {
    const absl::Time begin = absl::Now();
    const absl::Status status = read(text);
    const absl::Duration time = absl::Now() - begin;
    accepted += status.ok() ? 1 : 0;
    const bool good =
        time < absl::Seconds(10) &&
        status.code() != absl::StatusCode::kResourceExhausted &&
        (status.ok() || absl::StrContains(status.message(), named));
    EXPECT_TRUE(good) << status << "\nafter " << time << ", of "
                      << absl::CHexEscape(text.substr(0, 4096));
    if (!good) break;
  }
  return accepted;
}

int ReadDamaged(absl::string_view valid, int count, absl::string_view named,
                absl::FunctionRef<absl::Status(const std::string&)> read) {
  std::vector<std::string> texts;
  for (size_t size = 0; size < valid.size(); size += 1 + valid.size() / 500) {
    texts.emplace_back(valid.substr(0, size));
  }
  Random random(1);
  for (int i = 0; i < count; ++i) texts.push_back(Damaged(valid, &random));
  return ReadEach(texts, named, read);
}

int ReadVariants(const Json& valid, absl::string_view named,
                 absl::FunctionRef<absl::Status(const std::string&)> read) {
  std::vector<std::string> texts;
  for (const Json& variant : JsonVariants(valid)) {
    texts.push_back(variant.dump());
  }
  return ReadEach(texts, named, read);
}

}  // namespace qeff
