"""Where things stand in the tables that the host fills and the kernels read.

The pointer table has one int64 row per tensor, the hyper-parameter table one float64 row per parameter group and a
last row for the whole optimizer, the coefficient table one float32 row per tensor, written on the device every step.
"""

from __future__ import annotations

# Pointer table (int64).
PARAM = 0
GRAD = 1  # 0 when the tensor has no gradient this step
ALIGNED = 2  # 1 when parameter and gradient may be read 16 bytes at a time
NUMEL = 3
STATE = 4  # first element in the flat state, a multiple of BLOCK
GROUP = 5
SEED = 6
SHADOW = 7  # low-precision copy of the parameter, 0 when there is none
TABLE_WIDTH = 8

# Hyper-parameters (float64) of a group.
LR = 0
WEIGHT_DECAY = 1
BETA1 = 2
BETA2 = 3
EPS = 4
SIGN = 5  # -1 when maximizing
HYPER_WIDTH = 8

# Last row of the hyper-parameters.
MAX_NORM = 0

# Coefficients (float32).
APPLY = 0  # 0 when the tensor is left alone this step
GRAD_FACTOR = 1  # unscaling, clipping and sign in one
DECAY = 2  # share of the parameter that weight decay takes
STEP_SIZE = 3
RSQRT_CORRECTION2 = 4
EPSILON = 5
KEEP1 = 6  # beta1
TAKE1 = 7  # 1 - beta1, rounded once from float64
KEEP2 = 8
TAKE2 = 9
STEP = 10
COEFFICIENT_WIDTH = 16

# Sizes.
BLOCK = 256  # elements that share a scale in the 8-bit states; every tensor's flat state is padded to it
TILE = 1024  # elements a program updates at once: 8 a thread
CODE_TILE = 2048  # the same with 8-bit states: 16 a thread, since 16 codes make 128 bits
TAIL = 512  # the same where masks are needed, whose addresses and predicates take registers
CHUNK = 4096  # elements of one program
NORM_PROGRAMS = 2048  # programs of the gradient norm, whatever the device, so that sums are reproducible
