// SPDX-License-Identifier: Apache-2.0

#include "qeff/util/remove_tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "qeff/util/output_file.h"

namespace qeff {

void ForEachEntry(int folder, absl::FunctionRef<void(const char* name)> visit) {
  // A descriptor with a position of its own.
  const FileDescriptor fd(
      openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return;
  // opendir would allocate this.
  alignas(dirent64) char buffer[4096];
  for (;;) {
    const ssize_t bytes = getdents64(fd.get(), buffer, sizeof(buffer));
    if (bytes <= 0) return;
    for (ssize_t at = 0; at < bytes;) {
      const auto* const entry = reinterpret_cast<const dirent64*>(buffer + at);
      if (std::strcmp(entry->d_name, ".") != 0 &&
          std::strcmp(entry->d_name, "..") != 0) {
        visit(entry->d_name);
      }
      at += entry->d_reclen;
    }
  }
}

void RemoveTree(int parent, const char* name) {
  if (unlinkat(parent, name, 0) == 0) return;
  const FileDescriptor folder(
      openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!folder.valid()) return;
  RemoveEntries(folder.get());
  (void)unlinkat(parent, name, AT_REMOVEDIR);
}

void RemoveEntries(int folder, const std::vector<std::string>& but) {
  ForEachEntry(folder, [&](const char* name) {
    if (std::find(but.begin(), but.end(), name) == but.end()) {
      RemoveTree(folder, name);
    }
  });
}

}  // namespace qeff
