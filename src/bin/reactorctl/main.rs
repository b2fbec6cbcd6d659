//! `reactorctl`, the client of `reactord`: command line in, exit status out.
//!
//! What it does is in the library's `client` module; here are the arguments,
//! what is printed, and one module for each family of commands.

mod args;
mod bench;
mod chat;
mod command;
mod output;
mod paths;
mod questions;
mod transfers;

use args::{Args, Verb};
use clap::Parser;
use output::Output;
use reactord::client::signals::by_default;
use reactord::client::{ClientError, Config, Connection, Result};
use std::process::ExitCode;

fn main() -> ExitCode {
    // RUST_LOG turns on what the library has to say; nothing by default.
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("off")).init();
    let args = Args::parse();
    match run(args) {
        Ok(status) => ExitCode::from(status),
        Err(ClientError::BrokenPipe) => ExitCode::SUCCESS,
        Err(error) => {
            if let ClientError::Interrupted(signal) = error {
                by_default(signal);
            } else {
                output::complain(&error);
            }
            ExitCode::from(error.exit_status())
        }
    }
}

/// Does what the command line says; the exit status where that is no error.
fn run(args: Args) -> Result<u8> {
    let config = Config::resolve(args.flags(), |name| std::env::var_os(name))?;
    let mut out = Output::new(args.json, args.quiet);
    let connect = || Connection::open(&config);
    match args.verb {
        Verb::Ping(ping) => questions::ping(&mut connect()?, &mut out, &ping)?,
        Verb::Rooms => questions::rooms(&mut connect()?, &mut out)?,
        Verb::Who { room } => questions::who(&mut connect()?, &mut out, &room)?,
        Verb::Stats => questions::stats(&mut connect()?, &mut out)?,
        Verb::Jobs => questions::jobs(&mut connect()?, &mut out)?,
        Verb::Kill { job, signal } => questions::kill(&mut connect()?, job, signal.as_deref())?,
        Verb::Chat { room, history } => return chat::chat(config, &out, room, history),
        Verb::Exec(exec) => return command::exec(connect()?, &out, exec),
        Verb::Shell => return command::shell(connect()?, &out),
        Verb::Ls { path, long } => paths::ls(&mut connect()?, &mut out, &path, long)?,
        Verb::Stat { paths } => return paths::stat(&mut connect()?, &mut out, &paths),
        Verb::Hash { paths } => return paths::hash(&mut connect()?, &mut out, &paths),
        Verb::Rm { paths } => return paths::rm(&mut connect()?, &paths),
        Verb::Mkdir { paths, parents } => return paths::mkdir(&mut connect()?, &paths, parents),
        Verb::Mv { from, to, replace } => return paths::mv(&mut connect()?, &from, &to, replace),
        Verb::Bench(bench) => bench::bench(&config, &mut out, &bench)?,
        Verb::Put(put) => return transfers::put(config, &out, put),
        Verb::Get(get) => return transfers::get(config, &out, get),
    }
    out.finish()?;
    Ok(0)
}
