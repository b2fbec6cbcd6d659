//! Measures reactord against itself and against whichever of Redis, NATS and
//! nginx are installed, and writes docs/BENCHMARKS.md: `make bench-report`.
//!
//! One load generator, the client library's, speaks to every server in its own
//! protocol and checks every byte. Servers run on one core, the load on
//! another; the contestants take turns, five rounds by default, and the
//! figures are medians with the lowest and the highest of the rounds.
//!
//! - `process`, `servers`: what is started, and ended again.
//! - `peers`, `web`, `bare`: adapters of the other servers; the bare loop.
//! - `contests`: the comparisons. `series`: medians and ratios.
//! - `document`, `plots`, `machine`: what is written.

mod bare;
mod contests;
mod document;
mod machine;
mod peers;
mod plots;
mod process;
mod series;
mod servers;
mod web;

use clap::Parser;
use contests::Effort;
use document::Document;
use servers::Servers;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// What can go wrong is told and ends the report.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Measures and writes docs/BENCHMARKS.md with its plots.
#[derive(Parser)]
struct Args {
    /// How often each contestant has its turn
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// How long a turn lasts, in seconds
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Only the contest of this name: echo, connections, fanout, files, memory or beside
    #[arg(long)]
    only: Option<String>,
    /// Where BENCHMARKS.md and plots/ are written
    #[arg(long, default_value = "docs")]
    docs: PathBuf,
    /// The bare echo loop, which the report starts by itself
    #[arg(long, hide = true)]
    bare: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let ended = if args.bare { bare::serve().map_err(Into::into) } else { report(&args) };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("bench_report: {why}");
            ExitCode::FAILURE
        }
    }
}

fn report(args: &Args) -> Result<()> {
    process::end_children_on_signals()?;
    let descriptors = reactord::system::raise_descriptor_limit();
    let mut servers = Servers::start()?;
    let mut document = Document::open(&args.docs)?;
    document.set("machine", machine::describe(&servers, args.rounds, args.seconds));
    let effort = Effort {
        rounds: args.rounds,
        turn: Duration::from_secs_f64(args.seconds.clamp(0.05, 60.0)),
        descriptors,
        plots: args.docs.join("plots"),
    };
    std::fs::create_dir_all(&effort.plots)?;
    type Contest = fn(&mut Servers, &Effort, &mut Document) -> Result<()>;
    let contests: [(&str, Contest); 6] = [
        ("echo", contests::echo),
        ("connections", contests::connections),
        ("fanout", contests::fanout),
        ("files", contests::files),
        ("memory", contests::memory),
        ("beside", contests::beside),
    ];
    for (name, contest) in contests {
        if args.only.as_deref().is_none_or(|only| only == name) {
            eprintln!("bench_report: {name}");
            contest(&mut servers, &effort, &mut document)?;
            // What was measured is kept even where a later contest fails.
            document.save()?;
        }
    }
    Ok(())
}
