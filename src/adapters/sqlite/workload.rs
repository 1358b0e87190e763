//! Thousands of mixed writes from a seed, against what the store promises of itself.
