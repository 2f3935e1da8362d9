// SPDX-License-Identifier: Apache-2.0
//
// Keeps out of a static program what Abseil, protobuf-lite and libstdc++ refer
// to and a device never runs, 0.35 MB. Their archives are linked by whole
// objects, so one function brings its neighbours and all that those call. An
// object is not taken from an archive when what is wanted of it is defined
// already: here, in a few lines that do the same or say that they cannot.
// Where a later version refers to more of an object, it is linked after all,
// and the linker says that these functions are there twice.
//
// There is no header because nothing calls this: a program links it or not.

#include <cxxabi.h>
#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <typeinfo>

#include "absl/base/config.h"
#include "absl/synchronization/mutex.h"
#include "google/protobuf/extension_set.h"

namespace {

// write(2), since a program that ends here may have no memory left; there is
// nothing to do on failure.
void Print(const char* text) {
  (void)!write(STDERR_FILENO, text, std::strlen(text));
}

}  // namespace

// The handler that std::terminate calls when nobody set one. libstdc++'s says
// the same with the type's name demangled, by 43 KB of demangler.
void __gnu_cxx::__verbose_terminate_handler() {
  const std::type_info* type = abi::__cxa_current_exception_type();
  Print("terminated by an exception of type ");
  Print(type == nullptr ? "(none)" : type->name());
  Print("\n");
  std::abort();
}

// A status has a Cord, a Cord may be sampled, and the list of samples has a
// mutex: the only one of Abseil's here (qeff's are the standard library's).
// Abseil's brings its detection of deadlocks, a symbolizer, a demangler and
// time zones. This one is as correct, and fair to nobody.
namespace absl {
ABSL_NAMESPACE_BEGIN

Mutex::~Mutex() = default;

void Mutex::Lock() {
  while (mu_.exchange(1, std::memory_order_acquire) != 0) sched_yield();
}

void Mutex::Unlock() { mu_.store(0, std::memory_order_release); }

void Mutex::AssertHeld() const {
  if (mu_.load(std::memory_order_relaxed) != 0) return;
  Print("absl::Mutex is not held\n");
  std::abort();
}

ABSL_NAMESPACE_END
}  // namespace absl

// Messages with extensions: qeff's have none.
std::uint8_t* google::protobuf::internal::ExtensionSet::_InternalSerializeImpl(
    const MessageLite* /*extendee*/, int /*start_field_number*/,
    int /*end_field_number*/, std::uint8_t* /*target*/,
    io::EpsCopyOutputStream* /*stream*/) const {
  Print("this program is linked without extensions of protobuf\n");
  std::abort();
}
