"""The command line of scripts/bench, once the environment is there."""

from __future__ import annotations

import argparse
import sys

from benches import fleet, infer, memory, push, report

BENCHMARKS = {"infer": infer, "fleet": fleet, "memory": memory, "push": push}


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench")
    commands = parser.add_subparsers(dest="name", required=True, metavar="BENCHMARK")
    for name, module in BENCHMARKS.items():
        command = commands.add_parser(name, help=module.TITLE)
        command.add_argument("--quick", action="store_true", help="a few pairs of everything")
        command.add_argument("--write", action="store_true", help="put the result into docs/benchmarks.md")
        command.add_argument("--only", nargs="+", choices=module.PARTS, metavar="PART", help="measure these")
    chosen = parser.parse_args()
    if chosen.write and (chosen.quick or chosen.only):
        parser.error("--write is for a whole run")
    text = BENCHMARKS[chosen.name].measure(quick=chosen.quick, parts=chosen.only or ())
    print(text)
    if chosen.write:
        report.write(chosen.name, text)
    return 0


sys.exit(main())
