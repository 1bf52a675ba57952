"""What tests of compiled kernels share."""

from edgeroof.kernels import aot

#: Shared memory of a block on an Orin (compute capability 8.7 in the CUDA programming guide), and registers of an SM.
SHARED_BYTES, REGISTERS = 163 << 10, 1 << 16


def check_attention(report: aot.KernelReport) -> None:
    """Nothing spills, and two blocks of four warps share an SM of an Orin."""
    assert report.spill_bytes == 0, report
    assert 2 * report.shared_bytes <= SHARED_BYTES, report
    assert 2 * 128 * report.registers <= REGISTERS, report
