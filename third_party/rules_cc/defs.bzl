# SPDX-License-Identifier: Apache-2.0
"""The rules that `@rules_cc//cc:defs.bzl` names, as Bazel 4.2.3 has them.

Debian's own rules_cc does not load in Debian's Bazel; the native rules are
the same ones, so BUILD files load them from here and stay valid under a newer
Bazel with a real rules_cc.
"""

cc_binary = native.cc_binary
cc_import = native.cc_import
cc_library = native.cc_library
cc_proto_library = native.cc_proto_library
cc_test = native.cc_test
cc_toolchain = native.cc_toolchain
cc_toolchain_suite = native.cc_toolchain_suite
fdo_prefetch_hints = native.fdo_prefetch_hints
fdo_profile = native.fdo_profile
objc_library = native.objc_library
