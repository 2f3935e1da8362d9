# SPDX-License-Identifier: Apache-2.0
"""Protocol buffers for the lite runtime.

Bazel's cc_proto_library links the full protobuf library also for files that
say LITE_RUNTIME, and the device runtime cannot afford that.
"""

load("//qeff:build_defs.bzl", "cc_library")

_ProtoFilesInfo = provider(
    doc = "A .proto file and those that it imports.",
    fields = {"files": "depset of File"},
)

def _lite_proto_sources_impl(ctx):
    # Imports are named from the root of the workspace that holds them.
    workspace = ctx.label.workspace_root
    imports = [dep[_ProtoFilesInfo].files for dep in ctx.attr.deps]
    files = depset([ctx.file.src], transitive = imports)
    root = ctx.bin_dir.path + ("/" + workspace if workspace else "")
    arguments = ctx.actions.args()
    arguments.add("--proto_path=" + (workspace or "."))
    arguments.add("--cpp_out=" + root)
    arguments.add(ctx.file.src)
    ctx.actions.run(
        outputs = [ctx.outputs.source, ctx.outputs.header],
        inputs = files,
        executable = ctx.executable._protoc,
        arguments = [arguments],
        mnemonic = "LiteProto",
    )
    return [
        DefaultInfo(files = depset([ctx.outputs.source, ctx.outputs.header])),
        _ProtoFilesInfo(files = files),
    ]

_lite_proto_sources = rule(
    implementation = _lite_proto_sources_impl,
    attrs = {
        "src": attr.label(allow_single_file = [".proto"], mandatory = True),
        "deps": attr.label_list(providers = [_ProtoFilesInfo]),
        "source": attr.output(mandatory = True),
        "header": attr.output(mandatory = True),
        "_protoc": attr.label(
            default = "@com_google_protobuf//:protoc",
            executable = True,
            cfg = "host",
            allow_single_file = True,
        ),
    },
)

def cc_full_proto_library(name, **kwargs):
    """As cc_lite_proto_library, over the whole library: with reflection and
    text format. Its file says nothing about optimize_for."""
    cc_lite_proto_library(
        name = name,
        runtime = "@com_google_protobuf//:protobuf",
        **kwargs
    )

def cc_lite_proto_library(
        name,
        src,
        deps = [],
        runtime = "@com_google_protobuf//:protobuf_lite",
        **kwargs):
    """The C++ classes of one .proto file, over protobuf-lite.

    Args:
      name: the library; `name`_files is what other files import.
      src: the .proto file, which says optimize_for = LITE_RUNTIME.
      deps: cc_lite_proto_library targets that `src` imports.
      runtime: the library that the classes need.
      **kwargs: for the library.
    """
    stem = src[:-len(".proto")]
    visibility = kwargs.get("visibility")
    _lite_proto_sources(
        name = name + "_files",
        src = src,
        source = stem + ".pb.cc",
        header = stem + ".pb.h",
        deps = [dep + "_files" for dep in deps],
        visibility = visibility,
    )
    cc_library(
        name = name,
        srcs = [stem + ".pb.cc"],
        hdrs = [stem + ".pb.h"],
        deps = deps + [runtime],
        **kwargs
    )
