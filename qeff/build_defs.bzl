# SPDX-License-Identifier: Apache-2.0
"""C++ rules with the options that every target of qeff is compiled with.

They are here and not in .bazelrc because a workspace that depends on qeff
does not read that file.
"""

load("@rules_cc//cc:defs.bzl", _cc_binary = "cc_binary", _cc_library = "cc_library", _cc_test = "cc_test")

QEFF_COPTS = [
    "-std=c++17",
    # a*b+c is rounded twice everywhere: with contraction the same source gives
    # other bits with and without FMA, and outputs would depend on the machine.
    "-ffp-contract=off",
    "-fvisibility-inlines-hidden",
]

# For files that hold Highway kernels, in addition.
QEFF_KERNEL_COPTS = [
    # Compiles the AVX-512 VNNI target, which Highway 1.0.3 leaves out.
    "-DHWY_WANT_AVX3_DL",
    # g++ may turn a scalar u8*s8 loop into a VEX VPDPBUSD in that target,
    # which AVX-512 machines without AVX-VNNI do not have.
    "-fno-tree-vectorize",
] + select({
    str(Label("//qeff:device_build")): [
        # One target, the best one that -march allows, and no code of libhwy.
        "-DHWY_COMPILE_ONLY_STATIC",
        # Nothing here encrypts: -march=x86-64-v3 is enough for AVX2.
        "-DHWY_DISABLE_PCLMUL_AES",
        # The rest is compiled with -Os.
        "-O2",
    ],
    "//conditions:default": [],
})

# Of libhwy tests need the choice of targets, which programs for one do not.
_HIGHWAY_TEST_LINKOPTS = select({
    str(Label("//qeff:device_build")): [
        "-Wl,--push-state,--as-needed,-lhwy,--pop-state",
    ],
    "//conditions:default": [],
})

def cc_library(name, copts = [], **kwargs):
    """A library of qeff: one header, at most one source."""
    _cc_library(
        name = name,
        copts = QEFF_COPTS + copts,
        # One archive, no shared object: the same linking in tests as in what
        # is shipped, and half the link actions.
        linkstatic = True,
        **kwargs
    )

def cc_binary(name, copts = [], **kwargs):
    _cc_binary(name = name, copts = QEFF_COPTS + copts, **kwargs)

def cc_test(name, copts = [], linkopts = [], deps = [], **kwargs):
    """A GoogleTest test; gtest_main is added."""
    _cc_test(
        name = name,
        copts = QEFF_COPTS + copts,
        linkopts = linkopts + _HIGHWAY_TEST_LINKOPTS,
        linkstatic = True,
        deps = deps + ["@com_google_googletest//:gtest_main"],
        **kwargs
    )

def cc_benchmark(name, copts = [], deps = [], **kwargs):
    """A Google Benchmark binary, run once as a test so that it cannot rot."""
    _cc_binary(
        name = name,
        testonly = True,
        copts = QEFF_COPTS + copts,
        deps = deps + ["@com_github_google_benchmark//:benchmark_main"],
        **kwargs
    )

def cc_kernel_library(name, copts = [], **kwargs):
    """A library with per-target SIMD code."""
    cc_library(name = name, copts = QEFF_KERNEL_COPTS + copts, **kwargs)
