//! Faults for real: system calls that fail, clients and servers that stand
//! still, connections that break, floods, full disks and kills, each against
//! the server as a program.
//!
//! Every test has a small form that runs with all others. `make faults` runs
//! the full one, with the figures that docs/SECURITY.md states.

mod abuse;
mod chaos;
mod commands;
#[path = "../common/mod.rs"]
mod common;
mod crashes;
mod files;
mod floods;
mod injected;
mod stopped;
mod tracer;
mod work;

/// `small`, or `full` where the full form is asked for.
fn scale<T>(small: T, full: T) -> T {
    if std::env::var_os("REACTORD_FAULTS").is_some_and(|form| form == "full") { full } else { small }
}
