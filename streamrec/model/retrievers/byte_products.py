"""Inner products of 8-bit vectors by the best instruction that the CPU has for them.

Compilers do not turn a loop over bytes into these instructions, and numpy has no product of bytes, so the innermost
loop is written in LLVM's intrinsics. They multiply unsigned by signed bytes and add groups of four, so vectors are
stored as unsigned codes, in blocks of 16 vectors by groups of four columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, Protocol, cast

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]  # it comes without types
from numba import types
from numba.core.base import BaseContext
from numba.core.registry import cpu_target
from numba.core.typing.templates import Signature
from numba.extending import intrinsic

from streamrec.model.compiled import compiled

_helpers: Any = import_module("numba.core.cgutils")  # it has no types

BLOCK_VECTORS, COLUMNS = 16, 4

OFFSET = 64
"""Difference of the codes in blocks and signed ones; the latter are in [-63, 63]."""

_SUMMED_BLOCKS = 64
"""Blocks whose sums are scaled together: those of some queries stay in the CPU's inner caches."""

TOGETHER = 4
"""Queries for one block, or blocks for one query, that are multiplied together: one waits while others are added."""


def _instructions() -> str:
    features = cpu_target.target_context.codegen().magic_tuple()[2].split(",")
    return next((name for name in ("avx512vnni", "avxvnni", "avx2") if f"+{name}" in features), "")


INSTRUCTIONS = _instructions()
"""The instruction set in use; empty if numba compiles for a CPU with none of them, and nothing here may be called."""

_BYTE, _WORD, _INT, _SIZE = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_LANES = BLOCK_VECTORS if INSTRUCTIONS == "avx512vnni" else BLOCK_VECTORS // 2
_BYTES, _WORDS, _INTS = (ir.VectorType(each, _LANES * 32 // each.width) for each in (_BYTE, _WORD, _INT))


class Coded(Protocol):
    """N vectors, as :class:`~streamrec.model.retrievers.item_vectors.ItemVectors` has them."""

    @property
    def steps(self) -> np.ndarray:
        """Quantization steps, `(N,)`, float32."""

    @property
    def blocks(self) -> np.ndarray:
        """Unsigned codes, `(N / 16, D / 4, 16, 4)`, rounded up, uint8."""


def products(queries: np.ndarray, query_steps: np.ndarray, vectors: Coded) -> np.ndarray:
    """Return the products of queries with vectors, `(B, N)`, float32.

    Parameters
    ----------
    queries, query_steps
        Signed codes, `(B, D)`, int8, and quantization steps, `(B,)`, float32.
    """
    blocks, n = vectors.blocks, len(vectors.steps)
    if n > len(blocks) * BLOCK_VECTORS:  # the loop reads by address, without a check of its own
        raise ValueError(f"there are blocks for fewer than {n} vectors")
    padded = np.zeros((len(queries), blocks.shape[1] * COLUMNS), np.int8)
    padded[:, : queries.shape[1]] = queries
    corrections = OFFSET * padded.sum(axis=1, dtype=np.int32)
    scaled: np.ndarray = _scaled(padded, corrections, query_steps, blocks, vectors.steps)
    return scaled


def _writer(*, blocks: int, queries: int) -> Callable[[int, int, int, int, int], None]:
    """Return a function that writes the products of consecutive blocks and queries.

    It takes the addresses of the first block, query and product, the number of groups, and the bytes from one query's
    products to the next one's.
    """

    def write(
        _context: BaseContext,
        table: types.Type,
        asked: types.Type,
        out: types.Type,
        groups: types.Type,
        row: types.Type,
    ) -> tuple[Signature, Callable[..., ir.Value]]:
        def generate(
            _: BaseContext, builder: ir.IRBuilder, _signature: Signature, args: Sequence[ir.Value]
        ) -> ir.Value:
            _write(builder, args, blocks, queries)
            return ir.Constant(_BYTE.as_pointer(), None)

        return types.void(table, asked, out, groups, row), generate

    return cast("Callable[[int, int, int, int, int], None]", intrinsic(write))


def _write(builder: ir.IRBuilder, args: Sequence[ir.Value], blocks: int, queries: int) -> None:
    table, asked, out, groups, row = args
    parts = [(block, part) for block in range(blocks) for part in range(0, BLOCK_VECTORS, _LANES)]
    zero = ir.Constant(_INTS, [0] * _LANES)
    totals = [[_helpers.alloca_once_value(builder, zero) for _ in parts] for _ in range(queries)]
    block_bytes, query_bytes = builder.mul(groups, _SIZE(BLOCK_VECTORS * COLUMNS)), builder.mul(groups, _SIZE(COLUMNS))
    with _helpers.for_range(builder, groups) as loop:
        group = builder.add(table, builder.mul(loop.index, _SIZE(BLOCK_VECTORS * COLUMNS)))
        vectors = [
            _load(builder, _INTS, group, builder.mul(_SIZE(block), block_bytes), _SIZE(COLUMNS * part))
            for block, part in parts
        ]
        for query in range(queries):
            its = builder.mul(_SIZE(query), query_bytes), builder.mul(loop.index, _SIZE(COLUMNS))
            columns = builder.insert_element(zero, _load(builder, _INT, asked, *its), _INT(0))
            columns = builder.shuffle_vector(columns, zero, ir.Constant(ir.VectorType(_INT, _LANES), [0] * _LANES))
            for total, part in zip(totals[query], vectors, strict=True):
                builder.store(_multiply_add(builder, builder.load(total), part, columns), total)
    for query in range(queries):
        for total, (block, part) in zip(totals[query], parts, strict=True):
            place = builder.mul(_SIZE(query), row), _SIZE(4 * (block * BLOCK_VECTORS + part))
            builder.store(builder.load(total), _pointer(builder, _INTS, out, *place), align=4)


def _multiply_add(builder: ir.IRBuilder, totals: ir.Value, vectors: ir.Value, columns: ir.Value) -> ir.Value:
    """Add the products of four columns to the total of each vector."""
    if INSTRUCTIONS != "avx2":
        return _call(builder, f"avx512.vpdpbusd.{32 * _LANES}", _INTS, [totals, vectors, columns])
    # two products of codes fit 16 bits
    pairs = _call(builder, "avx2.pmadd.ub.sw", _WORDS, [builder.bitcast(each, _BYTES) for each in (vectors, columns)])
    ones = ir.Constant(_WORDS, [1] * _WORDS.count)
    return builder.add(totals, _call(builder, "avx2.pmadd.wd", _INTS, [pairs, ones]))


def _call(builder: ir.IRBuilder, name: str, returned: ir.Type, args: Sequence[ir.Value]) -> ir.Value:
    kind = ir.FunctionType(returned, [arg.type for arg in args])
    return builder.call(_helpers.get_or_insert_function(builder.module, kind, f"llvm.x86.{name}"), args)


def _load(builder: ir.IRBuilder, kind: ir.Type, address: ir.Value, *offsets: ir.Value) -> ir.Value:
    return builder.load(_pointer(builder, kind, address, *offsets), align=1)


def _pointer(builder: ir.IRBuilder, kind: ir.Type, address: ir.Value, *offsets: ir.Value) -> ir.Value:
    for offset in offsets:
        address = builder.add(address, offset)
    return builder.inttoptr(address, kind.as_pointer())


_of_block, _of_query, _of_both = (
    _writer(blocks=blocks, queries=queries) for blocks, queries in ((1, TOGETHER), (TOGETHER, 1), (1, 1))
)


@compiled
def _multiply(queries: np.ndarray, blocks: np.ndarray, out: np.ndarray) -> None:
    """Write the sums of products of padded queries with the unsigned codes of vectors, `(B, N)`, int32."""
    groups, row = blocks.shape[1], out.strides[0]
    whole, by_block = len(out[0]) // BLOCK_VECTORS, len(queries) // TOGETHER * TOGETHER
    by_query = whole // TOGETHER * TOGETHER
    for block in range(whole):
        for query in range(0, by_block, TOGETHER):
            _of_block(_at(blocks[block]), _at(queries[query]), _at(out[query, block * BLOCK_VECTORS :]), groups, row)
    for query in range(by_block, len(queries)):
        for block in range(0, by_query, TOGETHER):
            _of_query(_at(blocks[block]), _at(queries[query]), _at(out[query, block * BLOCK_VECTORS :]), groups, row)
        for block in range(by_query, whole):
            _of_both(_at(blocks[block]), _at(queries[query]), _at(out[query, block * BLOCK_VECTORS :]), groups, row)
    last = np.empty(BLOCK_VECTORS, np.int32)
    rest = len(out[0]) - whole * BLOCK_VECTORS
    for query in range(len(queries) if rest else 0):
        _of_both(_at(blocks[whole]), _at(queries[query]), _at(last), groups, row)
        out[query, whole * BLOCK_VECTORS :] = last[:rest]


@compiled
def _scaled(
    queries: np.ndarray, corrections: np.ndarray, query_steps: np.ndarray, blocks: np.ndarray, steps: np.ndarray
) -> np.ndarray:
    """Return the products of padded queries with vectors, `(B, N)`, float32."""
    products = np.empty((len(queries), len(steps)), np.float32)
    sums = np.empty((len(queries), (_SUMMED_BLOCKS + 1) * BLOCK_VECTORS), np.int32)
    for first in range(0, len(blocks), _SUMMED_BLOCKS):
        begin = first * BLOCK_VECTORS
        end = min(begin + _SUMMED_BLOCKS * BLOCK_VECTORS, len(steps))
        _multiply(queries, blocks[first : first + _SUMMED_BLOCKS], sums[:, : end - begin])
        of_part = steps[begin:end]
        for query in range(len(queries)):
            its, written = sums[query], products[query, begin:end]
            correction, step = corrections[query], query_steps[query]
            for place in range(len(of_part)):
                written[place] = np.float32(its[place] - correction) * (step * of_part[place])
    return products


@compiled
def _at(array: np.ndarray) -> int:
    address: int = array.ctypes.data
    return address
