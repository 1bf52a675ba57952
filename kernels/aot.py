"""What every Triton kernel would use on a GPU that is not here: registers, spills, access widths, bytes.

Triton compiles for a target without having it, and its wheel carries the assembler and ``cuobjdump``. Widths are read
from the PTX, bytes per element from Triton's own intermediate code, where loads and stores still have their shapes.

The CPU interpreter and the compiler exclude each other in one process, so under ``TRITON_INTERPRET`` a second process
compiles. Results are kept in ``$XDG_CACHE_HOME/edgeroof/kernels`` under a hash of the sources and versions.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ..errors import DeviceError, EdgeroofError, UsageError
from .support import interpreting
from .variants import KernelVariant, kernel_variants

ARCHITECTURES = ("sm_80", "sm_87", "sm_90")
WARP_THREADS = 32

_ELEMENT_BYTES = {"f64": 8, "f32": 4, "bf16": 2, "f16": 2, "i64": 8, "i32": 4, "i16": 2, "i8": 1}
_TTIR_ACCESS = re.compile(r"tt\.(load|store) ([^:{]*?)(?:\{[^}]*\} )?: tensor<([\dx]+)x!tt\.ptr<(\w+)>>")
_PTX_ACCESS = re.compile(r"(@!?%p\d+)?\s*(ld|st)\.global\.(?:[\w:]+\.)*?v(\d)\.\w(\d+)")
_RESOURCES = re.compile(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")


@dataclass(frozen=True)
class KernelReport:
    """One kernel compiled for one architecture.

    Attributes:
        kernel: name of the kernel.
        variant: what is special about this form of it.
        arch: such as ``"sm_87"``.
        registers: per thread.
        spill_bytes: local memory and stack per thread; 0 when all fits in registers.
        shared_bytes: shared memory per block.
        load_bits: narrowest vector load of the hot loop; 0 when one is scalar, None without a hot loop.
        store_bits: narrowest vector store, likewise.
        bytes_per_element: documented bytes that the kernel reads and writes per element, 0 without a hot loop.
        static_bytes: the same, counted in the compiled hot loop.
    """

    kernel: str
    variant: str
    arch: str
    registers: int
    spill_bytes: int
    shared_bytes: int
    load_bits: int | None
    store_bits: int | None
    bytes_per_element: float
    static_bytes: float


def kernel_reports(
    archs: Sequence[str] = ARCHITECTURES,
    *,
    kernels: Sequence[str] | None = None,
    on_progress: Callable[[str, float], None] | None = None,
) -> list[KernelReport]:
    """Compile kernels and report what they use.

    Args:
        archs: architectures, such as ``("sm_87",)``.
        kernels: names of kernels; all when None.
        on_progress: called with what is being compiled and the finished share, 0 to 1.

    Raises:
        UsageError: an architecture or a kernel is unknown.
        DeviceError: Triton is not installed.
    """
    _check(archs, kernels)
    missing = [arch for arch in archs if _cached(arch) is None]
    for done, arch in enumerate(missing):
        if on_progress:
            on_progress(f"compiling for {arch}", done / len(missing))
        reports = _compile_elsewhere(arch) if interpreting() else compile_reports(arch)
        _keep(arch, reports)
    if on_progress:
        on_progress("compiled", 1.0)
    found = [report for arch in archs for report in _cached(arch) or ()]
    return [report for report in found if kernels is None or report.kernel in kernels]


def compile_reports(arch: str, variants: Iterable[KernelVariant] | None = None) -> list[KernelReport]:
    """Compile variants in this process, which must not interpret; all when ``variants`` is None."""
    chosen = kernel_variants() if variants is None else variants
    return [_report(variant, arch, _compile(variant, arch)) for variant in chosen]


def _check(archs: Sequence[str], kernels: Sequence[str] | None) -> None:
    for arch in archs:
        if not re.fullmatch(r"sm_\d{2,3}", arch):
            raise UsageError(f"unknown architecture {arch!r}; use names such as {', '.join(ARCHITECTURES)}")
    known = {variant.kernel for variant in kernel_variants()}
    for kernel in kernels or ():
        if kernel not in known:
            raise UsageError(f"unknown kernel {kernel!r}; kernels are {', '.join(sorted(known))}")
    if importlib.util.find_spec("triton") is None:
        raise DeviceError("kernels are compiled by Triton, which is not installed; pip install 'edgeroof[triton]'")


# -------------------------------------------------------------------- compiling


def _compile(variant: KernelVariant, arch: str) -> Any:
    import triton
    import triton.language as tl
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    types = {"fp32": tl.float32, "bf16": tl.bfloat16, "fp16": tl.float16}
    function = getattr(importlib.import_module(f".{variant.module}", __package__), variant.kernel)
    names = function.arg_names
    signature = {name: variant.signature[name] for name in names}
    constants = {(names.index(name),): types.get(value, value) for name, value in variant.constants.items()}
    # Every allocation of torch is aligned so; whole numbers where the launch finds it so.
    aligned = [i for i, (name, kind) in enumerate(signature.items()) if kind[0] == "*" or name in variant.aligned]
    source = ASTSource(
        fn=function,
        signature=signature,
        constexprs=constants,
        attrs={(index,): [["tt.divisibility", 16]] for index in aligned},
    )
    target = GPUTarget("cuda", int(arch.removeprefix("sm_")), 32)
    options = {"num_warps": variant.warps, "num_stages": variant.stages, "enable_fp_fusion": True}
    return triton.compile(source, target=target, options=options)


def _report(variant: KernelVariant, arch: str, compiled: Any) -> KernelReport:
    registers, stack, _, local = _resources(compiled.asm["cubin"])
    load_bits = store_bits = None
    static = 0.0
    if variant.tile:
        loads, stores = hot_loop_bytes(compiled.asm["ttir"], masked=variant.masked)
        whole = variant.tile if variant.per_line else 0
        stores = {count: size for count, size in stores.items() if count >= whole}
        moved = sum(size for table in (loads, stores) for count, size in table.items() if count >= whole)
        static = moved / variant.tile
        threads = variant.warps * WARP_THREADS
        widths: dict[str, Any] = {"masked": variant.masked, "threads": threads, "alone": not variant.per_line}
        load_bits = narrowest_access(compiled.asm["ptx"], "ld", loads, **widths)
        store_bits = narrowest_access(compiled.asm["ptx"], "st", stores, **widths) if stores else None
    return KernelReport(
        variant.kernel, variant.variant, arch, registers, stack + local, compiled.metadata.shared, load_bits,
        store_bits, variant.bytes_per_element, static,
    )  # fmt: skip


def _resources(cubin: bytes) -> tuple[int, ...]:
    """Registers, stack, shared and local memory that ``cuobjdump`` lists for a cubin."""
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        listing = subprocess.run([str(tool), "-res-usage", file.name], capture_output=True, text=True, check=False)
    found = _RESOURCES.search(listing.stdout)
    if not found:
        raise EdgeroofError(f"{tool} did not list the resources of a kernel: {listing.stderr.strip() or 'no output'}")
    return tuple(int(number) for number in found.groups())


# -------------------------------------------------------------------- reading the results


def hot_loop_bytes(ttir: str, *, masked: bool = False) -> tuple[dict[int, int], dict[int, int]]:
    """Bytes of the loads and stores of tensors in the hot loop, each keyed by the elements of the access.

    Masked accesses (two or more operands for a load, three for a store) belong to the tails.

    Args:
        ttir: the kernel in Triton's own intermediate code.
        masked: the hot loop itself is masked, so masked accesses count as well.
    """
    loads: dict[int, int] = {}
    stores: dict[int, int] = {}
    for kind, operands, shape, element in _TTIR_ACCESS.findall(ttir):
        count = 1
        for size in shape.split("x"):
            count *= int(size)
        unmasked = len(operands.split(",")) == (1 if kind == "load" else 2)
        if unmasked or masked:
            table = loads if kind == "load" else stores
            table[count] = table.get(count, 0) + count * _ELEMENT_BYTES[element]
    return loads, stores


def narrowest_access(
    ptx: str, kind: str, accessed: dict[int, int], *, masked: bool = False, threads: int = 4 * WARP_THREADS,
    alone: bool = True,
) -> int:  # fmt: skip
    """Narrowest vector access of the hot loop, in bits; 0 when vectors do not cover the tile's bytes.

    Args:
        ptx: the kernel.
        kind: ``"ld"`` or ``"st"``.
        accessed: what :func:`hot_loop_bytes` found; only whole tiles, the largest accesses, must be vectors.
        masked: whether accesses under a predicate belong to the hot loop.
        threads: of a block.
        alone: whether only whole tiles are vectors, and nothing that belongs to rows and columns.
    """
    widths = [
        int(count) * int(bits)
        for predicate, operation, count, bits in _PTX_ACCESS.findall(ptx)
        if operation == kind and (masked or not predicate)
    ]
    if not widths or not accessed:
        return 0
    covered = sum(widths) // 8 * threads
    whole = accessed[max(accessed)]
    return min(widths) if covered == whole or (covered > whole and not alone) else 0


# -------------------------------------------------------------------- cache


def _compile_elsewhere(arch: str) -> list[KernelReport]:
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    code = f"from {__package__} import aot; aot.main({arch!r})"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tempfile.gettempdir()
    )
    if result.returncode:
        last = (result.stderr.strip().splitlines() or ["no output"])[-1]
        raise EdgeroofError(f"kernels could not be compiled for {arch}: {last}")
    return [KernelReport(**entry) for entry in json.loads(result.stdout)]


def main(arch: str) -> None:
    """Compile for ``arch`` and write the reports to stdout as JSON, for the process that asked."""
    sys.stdout.write(json.dumps([asdict(report) for report in compile_reports(arch)]))


def _fingerprint(arch: str) -> str:
    """Hash of all that decides what the compiler makes."""
    folder = Path(__file__).parent
    digest = hashlib.sha256(f"{arch} {importlib.metadata.version('triton')}".encode())
    for path in sorted([*folder.glob("*.py"), *(folder / "optim").glob("*.py")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:24]


def _cache_file(arch: str) -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "edgeroof" / "kernels" / f"{arch}-{_fingerprint(arch)}.json"


def _cached(arch: str) -> list[KernelReport] | None:
    names = {field.name for field in fields(KernelReport)}
    try:
        entries = json.loads(_cache_file(arch).read_text(encoding="utf-8"))
        return [KernelReport(**entry) for entry in entries if set(entry) == names]
    except (OSError, ValueError, TypeError):
        return None


def _keep(arch: str, reports: Sequence[KernelReport]) -> None:
    path = _cache_file(arch)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.write_text(json.dumps([asdict(report) for report in reports]), encoding="utf-8")
    temporary.replace(path)
