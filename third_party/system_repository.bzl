# SPDX-License-Identifier: Apache-2.0
"""A repository made of BUILD overlays over libraries of the system.

Headers are found in the compiler's default include path and libraries in the
linker's, so an overlay only declares targets and their link options.
"""

def _system_repository_impl(repository_ctx):
    repository_ctx.file(
        "WORKSPACE",
        "workspace(name = \"%s\")\n" % repository_ctx.name,
    )
    for overlay, path in repository_ctx.attr.overlays.items():
        repository_ctx.symlink(overlay, path)
    for path, content in repository_ctx.attr.generated.items():
        repository_ctx.file(path, content)

system_repository = repository_rule(
    implementation = _system_repository_impl,
    doc = "Lays the given files out as an external repository.",
    local = True,
    attrs = {
        "overlays": attr.label_keyed_string_dict(
            allow_files = True,
            doc = "File of this workspace -> its path in the repository.",
        ),
        "generated": attr.string_dict(
            doc = "Path in the repository -> content.",
        ),
    },
)
