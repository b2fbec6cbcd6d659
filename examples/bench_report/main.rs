//! Measures reactord against itself and against whichever of Redis, NATS and
//! nginx are installed, and writes docs/BENCHMARKS.md: `make bench-report`.
//!
//! One load generator, the client library's, speaks to every server in its own
//! protocol and checks every byte. Servers run on one core, the load on
//! another; the contestants take turns, five rounds by default, and the
//! figures are medians with the lowest and the highest of the rounds.
//!
//! - `process`, `servers`: what is started, and ended again.
//! - `peers`, `web`: adapters of the other servers. `bare`, `copy`: the bare
//!   loop and the plain copy.
//! - `contests`: the comparisons. `series`: medians and ratios.
//! - `document`, `plots`, `machine`: what is written.

mod bare;
mod contests;
mod copy;
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
    /// Only the contest of this name: echo, connections, fanout, files, uploads, memory or beside
    #[arg(long)]
    only: Option<String>,
    /// Where BENCHMARKS.md and plots/ are written
    #[arg(long, default_value = "docs")]
    docs: PathBuf,
    /// To be one of those that the report starts by itself
    #[arg(long, hide = true)]
    role: Option<Role>,
}

/// What this program is when it is not the report.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Role {
    /// The bare echo loop.
    Echo,
    /// The plain copy to the disk's cache.
    Copy,
    /// The plain copy to the disk.
    DurableCopy,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let ended = match args.role {
        None => report(&args),
        Some(Role::Echo) => bare::serve().map_err(Into::into),
        Some(Role::Copy) => copy::serve(false).map_err(Into::into),
        Some(Role::DurableCopy) => copy::serve(true).map_err(Into::into),
    };
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
    let effort = Effort {
        rounds: args.rounds,
        turn: Duration::from_secs_f64(args.seconds.clamp(0.05, 60.0)),
        descriptors,
        plots: args.docs.join("plots"),
    };
    std::fs::create_dir_all(&effort.plots)?;
    type Contest = fn(&mut Servers, &Effort, &mut Document) -> Result<()>;
    let contests: [(&str, Contest); 7] = [
        ("echo", contests::echo),
        ("connections", contests::connections),
        ("fanout", contests::fanout),
        ("files", contests::files),
        ("uploads", contests::uploads),
        ("memory", contests::memory),
        ("beside", contests::beside),
    ];
    if let Some(only) = &args.only
        && contests.iter().all(|(name, _)| name != only)
    {
        let names = contests.map(|(name, _)| name).join(", ");
        return Err(format!("there is no contest `{only}`: expected one of {names}").into());
    }
    let mut servers = Servers::start()?;
    let mut document = Document::open(&args.docs)?;
    document.set("machine", machine::describe(&servers, args.rounds, args.seconds));
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
