# SPDX-License-Identifier: Apache-2.0
"""A repository made of BUILD overlays over libraries of the system.

Headers are found in the compiler's default include path and libraries in the
linker's, so an overlay only declares targets and their link options, and what
is changed of a header.
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
    for path, replacement in repository_ctx.attr.patched.items():
        text = repository_ctx.read("/usr/include/" + path)
        old, new = replacement
        if text.count(old) != 1:
            fail("/usr/include/%s: expected \"%s\" once, found it %d times" %
                 (path, old, text.count(old)))
        repository_ctx.file(path, text.replace(old, new))

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
        "patched": attr.string_list_dict(
            doc = "Path of a header, below /usr/include and in the " +
                  "repository -> [text that occurs in it once, what is put " +
                  "in its place].",
        ),
    },
)
