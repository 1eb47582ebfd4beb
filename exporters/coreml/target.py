"""What is done to a model before Core ML's op functions see it, in order, and why."""

from __future__ import annotations

import onnx_ir as ir

from exporters.coreml.ops import OPS
from exporters.rules.expand_functions import expand_functions
from exporters.rules.fold_shapes import fold_shapes
from exporters.rules.static_shapes import static_shapes
from exporters.rules.unroll_loops import unroll_loops
from exporters.rules.zero_states import zero_states

__all__ = ["HALF", "PASSES", "PROGRAM_ONLY", "legalize"]

PASSES = (
    "common::noop_elimination",  # identities
    "common::const_elimination",  # shapes that are known after all
    "common::fuse_matmul_weight_bias",  # a product with a matrix and a sum are one layer
    "common::fuse_linear_bias",
    "common::fuse_gelu_tanh_approximation",  # what exporters of frameworks take apart
    "common::fuse_gelu_exact",
    "common::image_input_preprocess",  # an image is taken as N, C, H, W,
    "common::reduce_transposes",  # where the source takes N, H, W, C: the two transpositions cancel
    "common::fuse_layernorm_or_instancenorm",
    "common::fuse_conv_batchnorm",  # as Core ML's own converters do
    "common::fuse_conv_bias",
    "common::dead_code_elimination",  # of the weights that were folded, before half precision makes others
    "common::merge_consecutive_reshapes",
    "common::merge_consecutive_transposes",
    "common::fuse_transpose_matmul",
    "common::expand_high_rank_reshape_and_transpose",  # behind what merges them: tensors have at most 5 axes
    "common::remove_redundant_ops",
    "common::dedup_op_and_var_names",  # the casts of half precision are named after what they cast
    "common::add_fp16_cast",
    "common::const_elimination",
    "common::cast_optimization",
    "common::dead_code_elimination",
)
"""The passes of coremltools, in order, and why: those that find something in what the walk makes."""

HALF = "common::add_fp16_cast"

PROGRAM_ONLY = frozenset({"common::fuse_transpose_matmul", "common::remove_redundant_ops"})
"""What a neural network cannot say: its products with weights of their own do not transpose, and of a state that two
layers begin with coremltools writes two layers of one name."""


def legalize(model: ir.Model) -> None:
    """Bring a copy of a canonical model to what Core ML can say."""
    unroll_loops(model)  # a loop of blocks runs on the CPU, and gives out nothing step by step
    expand_functions(model, OPS)  # what is defined by operators that Core ML has
    zero_states(model)  # zeros of the size of the batch are what Core ML begins with anyway
    fold_shapes(model)  # Core ML can compute shapes, but its faster engines take only those that are known,
    static_shapes(model)  # or known but for the batch
