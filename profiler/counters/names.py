"""Kernel names as Kineto and Nsight Compute write them: one has the signature, the other may have the function only."""

from __future__ import annotations


def function_name(name: str) -> str:
    """The bare function of a kernel's name, without return type, namespaces, template arguments and parameters.

    ``void at::native::reduce_kernel<512, 1, ...>(at::native::ReduceOp<...>)`` is ``reduce_kernel``.
    """
    bare: list[str] = []
    depth = 0
    for character in name.replace("(anonymous namespace)", "anonymous").replace("operator()", "operator"):
        if character in "<([{":
            if character == "(" and depth == 0 and bare:
                break
            depth += 1
        elif character in ">)]}":
            depth = max(0, depth - 1)
        elif depth == 0:
            bare.append(character)
    words = "".join(bare).split()
    return words[-1].rpartition("::")[2] if words else name
