"""Triton kernels: what a CUDA device runs. Each file is one idea, a kernel and its launcher.

Every kernel converts what it loads to float32 (or to integer keys) at once and accumulates there,
so that Triton's interpreter gives the same results on a CPU. No kernel adds floats atomically.
"""
