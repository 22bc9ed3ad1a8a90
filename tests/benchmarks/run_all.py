"""Run every benchmark and keep what it printed in benchmarks.json, with the machine it ran on."""

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> int:
    results, failed = {}, []
    for path in sorted(HERE.glob("bench_*.py")):
        print(f"== {path.stem}", flush=True)
        begin = time.monotonic()
        done = subprocess.run([sys.executable, str(path)], stdout=subprocess.PIPE, text=True, check=False)
        print(done.stdout, flush=True)
        results[path.stem] = {"seconds": round(time.monotonic() - begin, 1), "printed": done.stdout.splitlines()}
        if done.returncode:
            failed.append(path.stem)
    machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    out = HERE.parents[1] / "benchmarks.json"
    out.write_text(json.dumps({"machine": machine, "results": results}, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {out}" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
