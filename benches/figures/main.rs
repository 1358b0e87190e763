//! The figures of docs/performance.md: each next to its floor, in turn, in the same run.
//!
//! `cargo xtask bench [--quick] [--json] [NAME]`. Machines are noisy, so what counts is the median of the
//! ratios. The floor is what the same work costs without tidelock: bare rusqlite, a bare reqwest loop,
//! a bare function on the server.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "a measuring program")]

mod audit;
mod backup;
mod figure;
mod kit;
mod local;
mod logs;
mod network;
mod pending;
mod size;

use figure::{Figure, Options};

fn main() {
    let options = Options::from_arguments(std::env::args().skip(1));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let show = |figures: Vec<Figure>| figures.iter().for_each(|figure| figure.show(&options));
    if options.wants("saves") {
        show(local::figures(&options, &runtime));
    }
    if options.wants("logs") {
        show(logs::figures(&options, &runtime));
    }
    if options.wants("network") {
        show(runtime.block_on(network::figures(&options)));
    }
    if options.wants("kit") {
        show(runtime.block_on(kit::figures(&options)));
    }
    if options.wants("pending") {
        show(runtime.block_on(pending::figures(&options)));
    }
    if options.wants("audit") {
        show(runtime.block_on(audit::figures(&options)));
    }
    if options.wants("backup") {
        show(runtime.block_on(backup::figures(&options)));
    }
    if options.wants("size") {
        show(runtime.block_on(size::figures(&options)));
    }
}
