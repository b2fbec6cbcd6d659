//! Commands there: exec and shell.

use crate::args::Exec;
use crate::output::{Output, complain, json, say};
use reactord::client::error::{EXIT_CONNECTION, EXIT_SIGNAL};
use reactord::client::exec::{Command, Ending, Program, run};
use reactord::client::{ClientError, Connection, Result, signals, text};
use serde::Serialize;
use signal_hook::consts::SIGPIPE;
use std::collections::BTreeMap;
use std::time::Duration;

/// The server user's login shell, in the place of the one that starts it.
const LOGIN_SHELL: &str = "exec \"${SHELL:-/bin/sh}\" -l";

pub(crate) fn exec(connection: Connection, out: &Output, exec: Exec) -> Result<u8> {
    let program = match exec.sh {
        Some(text) => Program::Shell(text),
        None => Program::Argv(exec.argv),
    };
    let command = Command {
        program,
        cwd: exec.cwd,
        env: exec.env.into_iter().collect(),
        timeout: exec.timeout.map(Duration::from_secs_f64),
        pty: exec.terminal,
        stdin: !exec.no_input,
    };
    conduct(connection, out, &command)
}

pub(crate) fn shell(connection: Connection, out: &Output) -> Result<u8> {
    let command = Command {
        program: Program::Shell(LOGIN_SHELL.to_owned()),
        cwd: None,
        env: BTreeMap::new(),
        timeout: None,
        pty: true,
        stdin: true,
    };
    conduct(connection, out, &command)
}

#[derive(Serialize)]
struct Ended<'a> {
    job: u64,
    pid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

fn conduct(connection: Connection, out: &Output, command: &Command) -> Result<u8> {
    let host = connection.host().to_string();
    let outcome = match run(connection, command) {
        // The command's output ended as by the signal that a local one would have got.
        Err(ClientError::BrokenPipe) => return Ok(status(SIGPIPE)),
        outcome => outcome?,
    };
    if command.pty && !out.quiet && !out.json {
        complain(format_args!("connection to {host} closed"));
    }
    if out.json {
        let (code, signal) = match &outcome.ending {
            Ending::Code(code) => (Some(*code), None),
            Ending::Signal(signal) => (None, Some(signal.as_str())),
            Ending::Disconnected => (None, None),
        };
        let reason = outcome.reason.as_deref();
        let ended = Ended { job: outcome.job, pid: outcome.pid, code, signal, reason };
        say(json(&ended)?);
    } else if let (Some(reason), false) = (&outcome.reason, out.quiet) {
        match (reason.as_str(), command.timeout) {
            ("timeout", Some(limit)) => {
                complain(format_args!("the command was ended at its time limit of {} s", limit.as_secs_f64()));
            }
            (reason, _) => complain(format_args!("the server ended the command: {}", text::visible(reason))),
        }
    }
    Ok(match &outcome.ending {
        // A process's status has eight bits: wait(2).
        Ending::Code(code) => (code & 0xff) as u8,
        Ending::Signal(signal) => signals::number(signal).map_or(EXIT_CONNECTION, status),
        Ending::Disconnected => EXIT_CONNECTION,
    })
}

fn status(signal: i32) -> u8 {
    ClientError::Interrupted(signal).exit_status().max(EXIT_SIGNAL)
}
