"""Run every benchmark, or those that are named, and keep their rows in benchmarks.json, with the machine they ran on.

Run as `python tests/benchmarks/run_all.py [nms metrics]`. Rows of benchmarks that are not named stay as they are.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
OUT = HERE.parents[1] / "benchmarks.json"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    every = [path.stem.removeprefix("bench_") for path in sorted(HERE.glob("bench_*.py"))]
    parser.add_argument("names", nargs="*", help=f"of {', '.join(every)}; all by default")
    names = parser.parse_args().names or every
    if not set(names) <= set(every):
        parser.error(f"names are {', '.join(every)}")
    found = {name: result for name in names if (result := run(name)) is not None}
    before = json.loads(OUT.read_text(encoding="utf-8")) if OUT.exists() else {}
    kept = before.get("benchmarks", {}) if before.get("machine") == machine() else {}
    benchmarks = {name: found.get(name, kept.get(name)) for name in every if name in found or name in kept}
    content = {"machine": machine(), "benchmarks": benchmarks}
    OUT.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    failed = [name for name in names if name not in found]
    print(f"wrote {OUT}" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


def run(name: str) -> dict[str, Any] | None:
    """One benchmark's title, ceilings and rows; none where it failed."""
    print(f"== {name}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        out, begin = Path(folder) / "rows.json", time.monotonic()
        command = [sys.executable, str(HERE / f"bench_{name}.py")]
        done = subprocess.run(command, env={**os.environ, "BENCH_JSON": str(out)}, check=False)
        if done.returncode or not out.exists():
            return None
        took = {"took_seconds": round(time.monotonic() - begin)}
        return took | json.loads(out.read_text(encoding="utf-8"), parse_float=lambda text: float(f"{float(text):.4g}"))


def machine() -> dict[str, Any]:
    """What the figures depend on besides the code."""
    information = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*:\s*(.+)", information.read_text()) if information.exists() else None
    return {
        "processor": named[1] if named else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


if __name__ == "__main__":
    sys.exit(main())
