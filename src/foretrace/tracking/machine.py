"""What a run computes on: the computer, its accelerators, torch and how it was told to compute."""

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from foretrace.tracking.redaction import redacted

# What changes figures, speed or the order of sums. Never all variables: those hold secrets.
VARIABLES = (
    "OMP_NUM_THREADS",
    "OMP_DYNAMIC",
    "OMP_PLACES",
    "OMP_PROC_BIND",
    "OMP_SCHEDULE",
    "OMP_THREAD_LIMIT",
    "KMP_AFFINITY",
    "KMP_BLOCKTIME",
    "KMP_DETERMINISTIC_REDUCTION",
    "GOMP_CPU_AFFINITY",
    "MKL_NUM_THREADS",
    "MKL_DYNAMIC",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "MKL_DEBUG_CPU_TYPE",
    "MKL_SERVICE_FORCE_INTEL",
    "OPENBLAS_NUM_THREADS",
    "OPENBLAS_CORETYPE",
    "NUMEXPR_NUM_THREADS",
    "NPY_DISABLE_CPU_FEATURES",
    "NPY_ENABLE_CPU_FEATURES",
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "CUDA_LAUNCH_BLOCKING",
    "NVIDIA_VISIBLE_DEVICES",
    "NVIDIA_TF32_OVERRIDE",
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDNN_DETERMINISTIC",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "TORCH_CUDNN_V8_API_DISABLED",
    "TORCH_CUDNN_V8_API_LRU_CACHE_LIMIT",
    "TORCH_BLAS_PREFER_CUBLASLT",
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "PYTORCH_ENABLE_MPS_FALLBACK",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
    "PYTORCH_NO_CUDA_MEMORY_CACHING",
    "TORCHDYNAMO_DISABLE",
    "PYTORCH_JIT",
    "PYTHONHASHSEED",
    "PYTHONPATH",
    "PYTHONOPTIMIZE",
    "PYTHONNOUSERSITE",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "MUJOCO_GL",
    "LANG",
    "LC_ALL",
    "LC_NUMERIC",
    "TZ",
    "SOURCE_DATE_EPOCH",
)


def variables() -> dict[str, str]:
    """Those environment variables of `VARIABLES` that are set."""
    values: dict[str, str] = redacted({name: os.environ[name] for name in VARIABLES if name in os.environ})
    return values


def computer() -> dict[str, Any]:
    """Host, system, processor, cores and memory in bytes."""
    has_affinity = hasattr(os, "sched_getaffinity")  # Linux alone has it
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count()
    return {
        "host": platform.node(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "cores allowed": cores,  # to this process, by a scheduler or a container
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }


def accelerator(device: torch.device) -> dict[str, Any]:
    """The device that computes, and what else of its kind is visible. Memory in bytes."""
    if device.type != "cuda":  # asking for CUDA devices takes memory on them
        return {"name": device.type}
    found = [_cuda(index) for index in range(torch.cuda.device_count())]
    index = torch.cuda.current_device() if device.index is None else device.index
    driver = Path("/proc/driver/nvidia/version")
    lines = driver.read_text().splitlines() if driver.exists() else [""]
    return found[index] | {"index": index, "driver": " ".join(lines[0].split()), "visible": found}


def torch_state() -> dict[str, Any]:
    """How torch was built, and what it was told that changes what it computes."""
    return {
        "threads": torch.get_num_threads(),
        "threads between operations": torch.get_num_interop_threads(),
        "CUDA": torch.version.cuda,
        "HIP": torch.version.hip,
        "cuDNN": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "cuDNN benchmark": torch.backends.cudnn.benchmark,
        "cuDNN deterministic": torch.backends.cudnn.deterministic,
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "precision of fp32 products": torch.get_float32_matmul_precision(),
        "default type": str(torch.get_default_dtype()),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "oneDNN": torch.backends.mkldnn.enabled,
        "build": torch.__config__.show(),
    }


def tags(computer: Mapping[str, Any], accelerator: Mapping[str, Any], threads: int) -> dict[str, str]:
    """What of it is worth a label of the run."""
    named = ("host", "platform", "processor", "cores")
    found = {name: str(computer[name]) for name in named}
    return found | {"accelerator": str(accelerator["name"]), "torch.threads": str(threads)}


def _cuda(index: int) -> dict[str, Any]:
    found = torch.cuda.get_device_properties(index)
    return {
        "name": found.name,
        "memory": found.total_memory,
        "capability": f"{found.major}.{found.minor}",
        "multiprocessors": found.multi_processor_count,
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")),
        platform.processor(),
    )
