# SPDX-License-Identifier: Apache-2.0
"""Rules for repositories whose models are made by qeff.

    load("@qeff//tools:qeff.bzl", "qeff_device_package", "qeff_model", "qeff_quality_test")

    filegroup(name = "llama", srcs = glob(["llama/*"]))  # one model folder

    qeff_model(
        name = "small",
        checkpoint = ":llama",
        recipe = "int4.textproto",  # qeff/pipeline/recipe.proto
        calibration = "like_the_users.txt",
    )

    qeff_device_package(name = "package", model = ":small", target = "x86-64")

    qeff_quality_test(
        name = "small_test",
        model = ":small",
        reference = ":llama",
        text = "held_out.txt",
        max_kl = "0.01",
        max_perplexity_increase = "0.02",
    )

Outputs are functions of the inputs and of qeff's version: the same bytes on
every machine, for any number of threads, at any time and place. Actions need
neither the network nor a shell's environment.

They run the qeff of a toolchain: one that is built from source, unless another
is registered before it (qeff_toolchain).
"""

_TOOLCHAIN = "@qeff//tools:toolchain_type"

def _qeff_toolchain_impl(ctx):
    return [platform_common.ToolchainInfo(
        program = ctx.executable.qeff,
        target = ctx.attr.qeff,
    )]

qeff_toolchain = rule(
    implementation = _qeff_toolchain_impl,
    doc = "A qeff for the rules of this file, such as one that was built before.",
    attrs = {
        "qeff": attr.label(
            doc = "The program.",
            mandatory = True,
            allow_files = True,
            executable = True,
            cfg = "exec",
        ),
    },
)

def _folder(files, attribute, short = False):
    """The one folder that `files` are: all in it, or one artifact that is it."""
    paths = [file.short_path if short else file.path for file in files]
    if len(files) == 1 and files[0].is_directory:
        return paths[0]
    folders = {path.rpartition("/")[0]: None for path in paths}
    if len(folders) != 1:
        fail("expected the files of one model folder, found {}".format(
            ", ".join(["'%s'" % folder for folder in folders]) or "none",
        ), attribute)
    return folders.keys()[0]

def _run(ctx, mnemonic, command, arguments, inputs, output, message):
    """Runs `command` with qeff as $1 and `arguments` as $2, $3, ..."""
    toolchain = ctx.toolchains[_TOOLCHAIN]
    ctx.actions.run_shell(
        mnemonic = mnemonic,
        # What it prints is read when something went wrong only.
        command = "set -euo pipefail\n" + command,
        arguments = [toolchain.program.path] + arguments,
        inputs = inputs,
        outputs = [output],
        tools = [toolchain.target.files_to_run],
        progress_message = message,
        env = {"LC_ALL": "C"},
    )

# Steps leave their outputs in WORK, and the result has a report with times in
# it; the folder that stays has the model alone.
_OPTIMIZE = """
qeff=$1 output=$2
shift 2
work=$output.work
rm -rf "$work"
mkdir "$work"
"$qeff" optimize "$@" --output="$work/result" --work="$work/steps" \
  >"$work/log" || { code=$?; cat "$work/log"; exit $code; }
mv "$work"/result/model/* "$output"
rm -rf "$work"
"""

def _qeff_model_impl(ctx):
    output = ctx.actions.declare_directory(ctx.label.name)
    checkpoint = ctx.files.checkpoint
    arguments = [
        output.path,
        "--model=" + _folder(checkpoint, "checkpoint"),
        "--recipe=" + ctx.file.recipe.path,
    ]
    inputs = checkpoint + [ctx.file.recipe] + ctx.files.data
    for flag, file in [
        ("calibration", ctx.file.calibration),
        ("text", ctx.file.text),
    ]:
        if file:
            arguments.append("--{}={}".format(flag, file.path))
            inputs.append(file)
    arguments += ["--data=" + file.path for file in ctx.files.data]
    _run(
        ctx,
        "QeffOptimize",
        _OPTIMIZE,
        arguments,
        inputs,
        output,
        "Optimizing %s" % ctx.label,
    )
    return [DefaultInfo(
        files = depset([output]),
        runfiles = ctx.runfiles(files = [output]),
    )]

qeff_model = rule(
    implementation = _qeff_model_impl,
    doc = "A model folder, made of another by the steps of a recipe.",
    attrs = {
        "checkpoint": attr.label(
            doc = "The files of a model folder, or another qeff_model.",
            mandatory = True,
            allow_files = True,
        ),
        "recipe": attr.label(
            doc = "The steps. What export and compile write is not kept.",
            mandatory = True,
            allow_single_file = True,
        ),
        "calibration": attr.label(
            doc = "Text that is like what the model will read.",
            allow_single_file = True,
        ),
        "data": attr.label_list(
            doc = "Texts to learn from.",
            allow_files = True,
        ),
        "text": attr.label(
            doc = "Held-out text, for recipes with evaluate steps.",
            allow_single_file = True,
        ),
    },
    toolchains = [_TOOLCHAIN],
)

_COMPILE = """
log=$("$1" compile "${@:2}") || { code=$?; echo "$log"; exit $code; }
"""

def _qeff_device_package_impl(ctx):
    output = ctx.actions.declare_file(ctx.label.name + ".qeff")
    _run(
        ctx,
        "QeffCompile",
        _COMPILE,
        [
            "--model=" + _folder(ctx.files.model, "model"),
            "--output=" + output.path,
            "--target=" + ctx.attr.target,
        ],
        ctx.files.model,
        output,
        "Packing %s" % ctx.label,
    )
    return [DefaultInfo(
        files = depset([output]),
        runfiles = ctx.runfiles(files = [output]),
    )]

qeff_device_package = rule(
    implementation = _qeff_device_package_impl,
    doc = "A model as one file, NAME.qeff, for the device runtime.",
    attrs = {
        "model": attr.label(
            doc = "A qeff_model, or the files of a model folder.",
            mandatory = True,
            allow_files = True,
        ),
        "target": attr.string(
            doc = "The machines that it is for.",
            default = "generic",
            values = ["generic", "x86-64", "aarch64"],
        ),
    },
    toolchains = [_TOOLCHAIN],
)

def _qeff_quality_test_impl(ctx):
    toolchain = ctx.toolchains[_TOOLCHAIN]
    script = ctx.actions.declare_file(ctx.label.name + ".sh")
    ctx.actions.expand_template(
        template = ctx.file._script,
        output = script,
        substitutions = {
            "%{qeff}": toolchain.program.short_path,
            "%{model}": _folder(ctx.files.model, "model", short = True),
            "%{reference}": _folder(
                ctx.files.reference,
                "reference",
                short = True,
            ),
            "%{text}": ctx.file.text.short_path,
            "%{max_kl}": ctx.attr.max_kl,
            "%{max_perplexity_increase}": ctx.attr.max_perplexity_increase,
        },
        is_executable = True,
    )
    runfiles = ctx.runfiles(
        files = ctx.files.model + ctx.files.reference +
                [ctx.file.text, toolchain.program],
    ).merge(toolchain.target[DefaultInfo].default_runfiles)
    return [DefaultInfo(executable = script, runfiles = runfiles)]

qeff_quality_test = rule(
    implementation = _qeff_quality_test_impl,
    doc = "Fails when a model is further from its reference than it may be.",
    attrs = {
        "model": attr.label(
            doc = "A qeff_model, or the files of a model folder.",
            mandatory = True,
            allow_files = True,
        ),
        "reference": attr.label(
            doc = "The same of the model that it was made of.",
            mandatory = True,
            allow_files = True,
        ),
        "text": attr.label(
            doc = "Text that neither has seen.",
            mandatory = True,
            allow_single_file = True,
        ),
        "max_kl": attr.string(
            doc = "Of the mean KL divergence, in nats a token.",
            mandatory = True,
        ),
        "max_perplexity_increase": attr.string(
            doc = "Of perplexity over the reference's - 1: \"0.02\" is 2 %.",
            mandatory = True,
        ),
        "_script": attr.label(
            default = "@qeff//tools:quality_test.sh",
            allow_single_file = True,
        ),
    },
    test = True,
    toolchains = [_TOOLCHAIN],
)
