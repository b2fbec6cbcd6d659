//! A remote command: its streams, its signals and its end, as ssh passes them.
//!
//! Four threads, because each direction must go on while another one waits:
//! the caller's reads frames and writes the outputs, one reads standard input
//! into the [`Outbox`], one writes that to the socket, one waits for signals.
//! The thread that reads standard input may stay behind in its read when the
//! command has ended; it ends with the process.

use crate::client::connection::Connection;
use crate::client::error::{ClientError, Result};
use crate::client::escape::{self, Escapes, Typed};
use crate::client::frame::request;
use crate::client::outbox::Outbox;
use crate::client::signals::by_default;
use crate::client::{stdio, terminal, text};
use crate::wire::ErrorCode;
use serde::{Deserialize, Serialize};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGWINCH};
use signal_hook::iterator::Signals;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Bytes of standard input in one frame, at most.
const INPUT_CHUNK: usize = 64 * 1024;

/// A second INT or TERM within this time ends the client itself.
const AGAIN: Duration = Duration::from_secs(1);

/// What to run.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Program {
    /// A program and its arguments, without a shell.
    Argv(Vec<String>),
    /// A text for `/bin/sh -c`.
    Shell(String),
}

/// A command and how to run it.
#[derive(Clone, Debug)]
pub struct Command {
    /// What to run.
    pub program: Program,
    /// The working directory there.
    pub cwd: Option<String>,
    /// Added to the environment there.
    pub env: BTreeMap<String, String>,
    /// The time after which the server ends it.
    pub timeout: Option<Duration>,
    /// On a terminal of its own.
    pub pty: bool,
    /// Whether standard input is passed on; if not, it is `/dev/null` there.
    pub stdin: bool,
}

/// How the command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With this status.
    Code(i32),
    /// By this signal, such as `SIGKILL`.
    Signal(String),
    /// It did not: the user ended the connection with `~.`.
    Disconnected,
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its process id there.
    pub pid: u32,
    /// Its number on that server.
    pub job: u64,
    /// How it ended.
    pub ending: Ending,
    /// Why the server ended it: "timeout" or "killed".
    pub reason: Option<String>,
}

#[derive(Serialize)]
struct Exec<'a> {
    #[serde(flatten)]
    program: &'a Program,
    #[serde(skip_serializing_if = "Option::is_none")]
    cwd: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    env: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stdin: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pty: Option<Pty>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<u64>,
}

#[derive(Serialize)]
struct Pty {
    rows: u16,
    cols: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    term: Option<String>,
}

#[derive(Deserialize)]
struct Started {
    pid: u32,
    job: u64,
}

#[derive(Deserialize)]
struct Exit {
    code: Option<i32>,
    signal: Option<String>,
    reason: Option<String>,
}

/// Runs `command` with this process's standard streams and waits for its end.
///
/// # Errors
/// `Refused` where it could not be started; `Lost` and the like where its end
/// is not known; `BrokenPipe` where nobody reads the output any more.
pub fn run(mut connection: Connection, command: &Command) -> Result<Outcome> {
    let (rows, cols) = terminal::size();
    let pty = command.pty.then(|| Pty { rows, cols, term: std::env::var("TERM").ok().filter(|t| !t.is_empty()) });
    let exec = Exec {
        program: &command.program,
        cwd: command.cwd.as_deref(),
        env: &command.env,
        stdin: (!command.stdin).then_some(false),
        pty,
        timeout_ms: command.timeout.map(|t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX)),
    };
    let (started, id) = connection.begin::<Started>("exec", "exec", exec)?;
    let interactive = command.pty && command.stdin && terminal::is_stdin();
    let session = Arc::new(Session {
        id,
        outbox: Outbox::default(),
        socket: connection.socket()?,
        disconnected: AtomicBool::new(false),
        interactive,
        pty: command.pty,
    });
    let _close = CloseOnDrop(&session);
    // Signals first: none may find the terminal raw and nobody waiting.
    session.clone().wait_for_signals()?;
    let _raw = if interactive { Some(terminal::RawMode::enter()?) } else { None };

    let (mut sender, mut receiver) = connection.split();
    std::thread::spawn({
        let session = session.clone();
        move || {
            while let Some(frame) = session.outbox.pop() {
                if sender.write(&frame).is_err() {
                    // The reading side meets the same end, with the server's last words.
                    session.outbox.close();
                }
            }
        }
    });
    if command.stdin {
        std::thread::spawn({
            let session = session.clone();
            move || session.pass_input_on()
        });
    }
    let outcome = |ending, reason| Outcome { pid: started.pid, job: started.job, ending, reason };
    loop {
        let frame = match receiver.receive() {
            Err(_) if session.disconnected.load(Ordering::Acquire) => return Ok(outcome(Ending::Disconnected, None)),
            frame => frame?,
        };
        if frame.envelope.id != Some(id) {
            continue;
        }
        if frame.is_event("stdout") {
            output(stdio::stdout(), frame.body)?;
        } else if frame.is_event("stderr") {
            output(stdio::stderr(), frame.body)?;
        } else if frame.is_event("exit") {
            let exit: Exit = frame.fields()?;
            let ending = match (exit.code, exit.signal) {
                (Some(code), _) => Ending::Code(code),
                (None, Some(signal)) => Ending::Signal(signal),
                (None, None) => return Err(ClientError::Protocol("an exit without a code or a signal".to_owned())),
            };
            return Ok(outcome(ending, exit.reason));
        } else if let Some(error) = frame.refusal() {
            // What crossed the command's end on the way is no error.
            if !error.is(ErrorCode::NotFound) {
                let re = text::visible(frame.envelope.re.as_deref().unwrap_or("a request")).into_owned();
                let end = if interactive { "\r\n" } else { "\n" };
                let line = format!("reactorctl: {re}: {error}{end}");
                output(stdio::stderr(), line.as_bytes())?;
            }
        }
    }
}

fn output(mut stream: stdio::Stream, bytes: &[u8]) -> Result<()> {
    stream.write_all(bytes).map_err(|e| match e.kind() {
        io::ErrorKind::BrokenPipe => ClientError::BrokenPipe,
        _ => ClientError::local("cannot pass the command's output on", e),
    })
}

struct Session {
    id: u64,
    outbox: Outbox,
    socket: TcpStream,
    disconnected: AtomicBool,
    /// The local terminal is raw and its user may type escapes.
    interactive: bool,
    pty: bool,
}

struct CloseOnDrop<'a>(&'a Session);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.outbox.close();
    }
}

#[derive(Serialize)]
struct Input {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    eof: bool,
}

#[derive(Serialize)]
struct Signal {
    signal: &'static str,
}

#[derive(Serialize)]
struct Resize {
    rows: u16,
    cols: u16,
}

impl Session {
    /// Standard input to the command, to its end or the command's.
    fn pass_input_on(&self) {
        let mut escapes = self.interactive.then(Escapes::default);
        let mut buffer = vec![0; INPUT_CHUNK];
        loop {
            // A terminal that was hung up reads as an error: that is its end.
            let n = stdio::stdin().read(&mut buffer).unwrap_or(0);
            if n == 0 {
                self.push("input", Input { eof: true }, &[]);
                return;
            }
            let Some(escapes) = &mut escapes else {
                if !self.push("input", Input { eof: false }, &buffer[..n]) {
                    return;
                }
                continue;
            };
            for typed in escapes.feed(&buffer[..n]) {
                let alive = match typed {
                    Typed::Bytes(bytes) => self.push("input", Input { eof: false }, &bytes),
                    Typed::Help => stdio::stderr().write_all(escape::HELP.as_bytes()).is_ok(),
                    Typed::Suspend => self.suspend(),
                    Typed::Disconnect => {
                        self.disconnected.store(true, Ordering::Release);
                        // It fails only where the connection is gone already.
                        let _ = self.socket.shutdown(Shutdown::Both);
                        false
                    }
                };
                if !alive {
                    return;
                }
            }
        }
    }

    /// Queues a request; false where the session is over.
    fn push(&self, cmd: &str, fields: impl Serialize, body: &[u8]) -> bool {
        request(cmd, Some(self.id), fields, body).is_ok_and(|frame| self.outbox.push(frame))
    }

    fn push_urgent(&self, cmd: &str, fields: impl Serialize) {
        let queued = request(cmd, Some(self.id), fields, &[]).is_ok_and(|frame| self.outbox.push_urgent(frame));
        if !queued {
            log::debug!("{cmd} was dropped: the session is over, or the server has stopped reading");
        }
    }

    fn tell_size(&self) {
        let (rows, cols) = terminal::size();
        self.push_urgent("resize", Resize { rows, cols });
    }

    /// Gives the terminal back and stops; goes on when continued.
    fn suspend(&self) -> bool {
        terminal::restore();
        // Returns when continued.
        by_default(SIGTSTP);
        self.resume()
    }

    fn resume(&self) -> bool {
        let raw = terminal::raw();
        self.tell_size();
        raw.is_ok()
    }

    /// On a terminal of the user's, signals end this client; otherwise INT and
    /// TERM are the command's, and a second one soon after ends this client.
    fn wait_for_signals(self: Arc<Self>) -> Result<()> {
        let mut wanted = vec![SIGINT, SIGTERM];
        if self.pty {
            wanted.push(SIGWINCH);
        }
        if self.interactive {
            wanted.extend([SIGHUP, SIGQUIT, SIGTSTP, SIGCONT]);
        }
        let mut signals = Signals::new(wanted).map_err(|e| ClientError::local("cannot wait for signals", e))?;
        std::thread::spawn(move || {
            let mut last: Option<(i32, Instant)> = None;
            for signal in signals.forever() {
                match signal {
                    SIGWINCH => self.tell_size(),
                    SIGTSTP => {
                        self.suspend();
                    }
                    SIGCONT => {
                        self.resume();
                    }
                    _ if self.interactive => {
                        terminal::restore();
                        by_default(signal);
                    }
                    _ if last.is_some_and(|(which, at)| which == signal && at.elapsed() < AGAIN) => by_default(signal),
                    _ => {
                        last = Some((signal, Instant::now()));
                        let signal = if signal == SIGINT { "INT" } else { "TERM" };
                        self.push_urgent("signal", Signal { signal });
                    }
                }
            }
        });
        Ok(())
    }
}
