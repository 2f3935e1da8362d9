# SPDX-License-Identifier: Apache-2.0
"""Runs onnx.checker over the models that are named."""

import sys

import onnx.checker

for path in sys.argv[1:]:
    onnx.checker.check_model(path)
    print("checked", path)
