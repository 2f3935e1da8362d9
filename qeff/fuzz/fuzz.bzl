# SPDX-License-Identifier: Apache-2.0
"""One source, two programs: under libFuzzer, and over the committed corpus."""

load("@rules_cc//cc:defs.bzl", "cc_binary", "cc_test")
load("//qeff:build_defs.bzl", "QEFF_COPTS")

def fuzz_target(name, deps, size = "small"):
    """Defines what reads one format.

    NAME_fuzz is for --config=fuzz, see tools/fuzz.sh: any other compiler has no
    libFuzzer, so that "..." does not mean it. NAME_replay_test reads the corpus
    in every configuration.

    Args:
      name: of the format; NAME_fuzz.cc defines ReadFuzzInput, corpus/NAME is
        the corpus.
      deps: of NAME_fuzz.cc.
      size: of NAME_replay_test.
    """
    all_deps = deps + [":fuzz_input"]
    cc_binary(
        name = name + "_fuzz",
        testonly = True,
        srcs = [
            name + "_fuzz.cc",
            "libfuzzer_main.cc",
        ],
        copts = QEFF_COPTS,
        linkopts = ["-fsanitize=fuzzer"],
        tags = ["manual"],
        deps = all_deps,
    )
    cc_test(
        name = name + "_replay_test",
        size = size,
        srcs = [
            name + "_fuzz.cc",
            "replay_main.cc",
        ],
        args = [native.package_name() + "/corpus/" + name],
        copts = QEFF_COPTS,
        data = native.glob(["corpus/" + name + "/*"]),
        linkstatic = True,
        deps = all_deps,
    )
