# SPDX-License-Identifier: Apache-2.0
"""All third parties of qeff, each under its canonical repository name.

`qeff_dependencies()` provides each repository only when the calling workspace
has not defined it yet (`maybe`), so a downstream monorepo keeps its own
Abseil, Highway or protobuf. By default they come from Debian 12's packages,
which tools/setup.sh installs; nothing is downloaded.
"""

load("@bazel_tools//tools/build_defs/repo:utils.bzl", "maybe")
load("//third_party:system_repository.bzl", "system_repository")

# Packages of Abseil that have targets in third_party/abseil/abseil.bzl.
_ABSEIL_PACKAGES = [
    "absl/algorithm",
    "absl/base",
    "absl/cleanup",
    "absl/container",
    "absl/flags",
    "absl/functional",
    "absl/hash",
    "absl/memory",
    "absl/numeric",
    "absl/random",
    "absl/status",
    "absl/strings",
    "absl/synchronization",
    "absl/time",
    "absl/types",
]

def _build_tool_repositories():
    """Repositories that Bazel 4.2.3 itself asks for."""
    maybe(
        native.local_repository,
        name = "platforms",
        path = "/usr/share/bazel/platforms",
    )
    maybe(
        native.local_repository,
        name = "rules_java",
        path = "/usr/share/bazel/rules/java",
    )
    maybe(
        native.local_repository,
        name = "rules_proto",
        path = "/usr/share/bazel/rules/proto",
    )
    maybe(
        native.local_repository,
        name = "bazel_skylib",
        path = "/usr/share/bazel/tools/skylib",
    )
    maybe(
        system_repository,
        name = "rules_cc",
        overlays = {
            "@qeff//third_party/rules_cc:root.BUILD": "BUILD",
            "@qeff//third_party/rules_cc:cc.BUILD": "cc/BUILD",
            "@qeff//third_party/rules_cc:defs.bzl": "cc/defs.bzl",
        },
    )
    maybe(
        system_repository,
        name = "remote_coverage_tools",
        overlays = {
            "@qeff//third_party/bazel:remote_coverage_tools.BUILD": "BUILD",
        },
    )

# Of Eigen, what qeff includes.
_EIGEN_HEADERS = ["Cholesky", "Core"]

def qeff_dependencies():
    """Defines every external repository that qeff's BUILD files name."""
    _build_tool_repositories()
    overlays = {
        "@qeff//third_party/abseil:root.BUILD": "BUILD",
        "@qeff//third_party/abseil:abseil.bzl": "abseil.bzl",
    }
    maybe(
        system_repository,
        name = "com_google_absl",
        overlays = overlays,
        generated = {
            package + "/BUILD": (
                "load(\"//:abseil.bzl\", \"abseil_package\")\n\n" +
                "abseil_package()\n"
            )
            for package in _ABSEIL_PACKAGES
        },
    )
    maybe(
        system_repository,
        name = "eigen",
        overlays = {"@qeff//third_party/eigen:eigen.BUILD": "BUILD"},
        generated = {
            "Eigen/" + header: "#include <eigen3/Eigen/%s>\n" % header
            for header in _EIGEN_HEADERS
        },
    )
    maybe(
        system_repository,
        name = "openmpi",
        overlays = {"@qeff//third_party/openmpi:openmpi.BUILD": "BUILD"},
        generated = {"mpi.h": "#include <mpi/mpi.h>\n"},
    )
    maybe(
        system_repository,
        name = "nlohmann_json",
        overlays = {
            "@qeff//third_party/nlohmann_json:nlohmann_json.BUILD": "BUILD",
        },
        # Memory that is out would end the process. The destructor moves all that
        # is in an array or object to a vector, so as to need no stack for what
        # is nested deeply; trees here never are (kMaxJsonDepth), and are
        # destroyed in place. And it follows the pointer of what was about to
        # become an array or object.
        patched = {
            "nlohmann/json.hpp": [
                "if (t == value_t::array || t == value_t::object)",
                "if ((t == value_t::array || t == value_t::object) &&\n" +
                "                object == nullptr)\n" +
                "            {\n" +
                "                return;\n" +
                "            }\n" +
                "            if (false)",
            ],
        },
    )
    for name, folder in [
        ("boringssl", "boringssl"),
        ("highway", "highway"),
        ("com_google_googletest", "googletest"),
        ("com_github_google_benchmark", "benchmark"),
        ("sentencepiece", "sentencepiece"),
        ("icu", "icu"),
        ("XNNPACK", "xnnpack"),
        ("pthreadpool", "pthreadpool"),
        ("com_google_protobuf", "protobuf"),
        ("onnx", "onnx"),
        ("com_googlesource_code_re2", "re2"),
    ]:
        maybe(
            system_repository,
            name = name,
            overlays = {
                "@qeff//third_party/%s:%s.BUILD" % (folder, folder): "BUILD",
            },
        )

    # What the rules of @qeff//tools:qeff.bzl run, unless the workspace has
    # registered another before.
    native.register_toolchains("@qeff//tools:qeff_toolchain")
