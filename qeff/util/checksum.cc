// SPDX-License-Identifier: Apache-2.0

#include "qeff/util/checksum.h"

#include <cstddef>
#include <cstring>

namespace qeff {
namespace {

constexpr uint64_t kPrime1 = 0x9E3779B185EBCA87u;
constexpr uint64_t kPrime2 = 0xC2B2AE3D27D4EB4Fu;
constexpr uint64_t kPrime3 = 0x165667B19E3779F9u;
constexpr uint64_t kPrime4 = 0x85EBCA77C2B2AE63u;
constexpr uint64_t kPrime5 = 0x27D4EB2F165667C5u;

constexpr size_t kLanes = 4;
constexpr size_t kStripeBytes = kLanes * sizeof(uint64_t);

// Little-endian, as every machine that qeff runs on.
template <class T>
T Load(const uint8_t* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(value));
  return value;
}

constexpr uint64_t Rotate(uint64_t x, int bits) {
  return x << bits | x >> (64 - bits);
}

constexpr uint64_t Round(uint64_t sum, uint64_t input) {
  return Rotate(sum + input * kPrime2, 31) * kPrime1;
}

// Sums up whole stripes, whose lanes do not depend on one another.
uint64_t SumStripes(const uint8_t* bytes, size_t stripes) {
  uint64_t lanes[kLanes] = {kPrime1 + kPrime2, kPrime2, 0, 0 - kPrime1};
  for (size_t s = 0; s < stripes; ++s, bytes += kStripeBytes) {
    for (size_t i = 0; i < kLanes; ++i) {
      lanes[i] = Round(lanes[i], Load<uint64_t>(bytes + 8 * i));
    }
  }
  uint64_t sum = Rotate(lanes[0], 1) + Rotate(lanes[1], 7) +
                 Rotate(lanes[2], 12) + Rotate(lanes[3], 18);
  for (const uint64_t lane : lanes) {
    sum = (sum ^ Round(0, lane)) * kPrime1 + kPrime4;
  }
  return sum;
}

}  // namespace

uint64_t Checksum64(absl::Span<const uint8_t> bytes) {
  const size_t stripes = bytes.size() / kStripeBytes;
  uint64_t sum = stripes > 0 ? SumStripes(bytes.data(), stripes) : kPrime5;
  sum += bytes.size();
  const uint8_t* at = bytes.data() + stripes * kStripeBytes;
  const uint8_t* const end = bytes.data() + bytes.size();
  for (; end - at >= 8; at += 8) {
    sum = Rotate(sum ^ Round(0, Load<uint64_t>(at)), 27) * kPrime1 + kPrime4;
  }
  if (end - at >= 4) {
    sum = Rotate(sum ^ Load<uint32_t>(at) * kPrime1, 23) * kPrime2 + kPrime3;
    at += 4;
  }
  for (; at < end; ++at) sum = Rotate(sum ^ *at * kPrime5, 11) * kPrime1;
  sum = (sum ^ sum >> 33) * kPrime2;
  sum = (sum ^ sum >> 29) * kPrime3;
  return sum ^ sum >> 32;
}

}  // namespace qeff
