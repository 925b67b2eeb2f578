"""Benchmarks: one module each, run by scripts/bench. They share bed, rounds, stopwatch and report."""
