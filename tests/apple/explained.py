"""Cases of Apple's suites that fail for a reason which is not a wrong value of hub's, and the reason."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["EXPLAINED", "Explained", "reason"]


@dataclass(frozen=True)
class Explained:
    """Failures of a suite whose id and message match these patterns (`re.search`) have this reason."""

    suite: str
    case: str
    message: str
    reason: str


EXPLAINED: tuple[Explained, ...] = (
    Explained(
        "nn",
        r"test_multiarray_to_image_input_util_(HWC_format|transpose_elimination)$",
        r"its order \[1, 2, 0\] is none of 4 axes|Tuples differ",
        "an image is taken as [1, C, H, W], as RANK4_IMAGE_MAPPING says; the case counts on three axes",
    ),
    Explained(
        "torch",
        r"",
        r"name 'torchvision' is not defined",
        "the case is about an operator of torchvision, which is not installed",
    ),
    Explained(
        "torch",
        r"TestLSTMWithPackedSequence::test_lstm\[.*LSTM_batch_first=True",
        r"initial_h must have shape",
        "for a packed sequence PyTorch ignores batch_first, and coremltools does not: its program has an initial state "
        "of another batch than its input, which ONNX Runtime refuses",
    ),
    Explained(
        "torch",
        r"",
        r"DID NOT RAISE",
        "the case wants an error of Core ML's at run time, where ONNX has a result",
    ),
    Explained(
        "torch",
        r"test_batchnorm_dynamic_stress\[",
        r"running_mean and running_var must either both be None",
        "the module of the case is refused by this PyTorch",
    ),
    Explained(
        "mil",
        r"TestConstexprLutToSparse::test_builder_to_backend_stress.*lut_dtype=fp16",
        r"Max absolute difference among violations: 0\.000[1-4]",
        "the expected numbers are added by NumPy in half precision, while the program adds in float32",
    ),
    Explained(
        "mil",
        r"iOS1[678]/.*TestResample::test_builder_to_backend_smoke",
        r"44\.0 \(ACTUAL\), 33\.0 \(DESIRED\)",
        "the nearest pixel to a place halfway between two, where ONNX Runtime rounds before it reflects",
    ),
    Explained(
        "mil",
        r"iOS1[67]/.*TestResample::test_builder_to_backend_smoke.*numpy.float16",
        r"36\.3085\d* \(ACTUAL\), 36\.2999\d* \(DESIRED\)",
        "the coordinates are rounded to half precision before they are given, and the expected numbers are not",
    ),
    Explained(
        "mil",
        r"iOS15/.*TestResample::test_builder_to_backend_smoke",
        r"assert 0 == 2",
        "the numbers are right; the test goes on to count casts that coremltools puts in for half precision only",
    ),
    Explained(
        "mil",
        r"TestCropResize::test_builder_to_backend_ios1",
        r"7\.9000\d* \(ACTUAL\), 7\.8990\d* \(DESIRED\)",
        "the expected number is 7.9, cut off to 7.899 in the test",
    ),
    Explained(
        "mil",
        r"TestScatter\w*::test_ios17_invalid_indices|TestGather\w*::.*invalid",
        r"ONNX Runtime failed|DID NOT RAISE|Regex pattern did not match",
        "an index outside of its axis: undefined in Core ML, an error in ONNX Runtime, where negative ones are none",
    ),
)


def reason(suite: str, case: str, message: str) -> str:
    """Why this failure is none of hub's, or nothing."""
    for entry in EXPLAINED:
        if entry.suite == suite and re.search(entry.case, case) and re.search(entry.message, message):
            return entry.reason
    return ""
