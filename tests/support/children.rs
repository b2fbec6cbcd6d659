//! Commands that are scripts of the tests: `exec` with a `shell` such as
//! `out 1000; err 5; cat; exit 3`, run a step at a time.
//!
//! ```text
//! out N, err N   N bytes of a known pattern to that output
//! cat            its input back, until that is at its end
//! wait           until it is ended
//! hold           what it leaves behind keeps its outputs open
//! exit N         ends with that status; also where the script ends, with 0
//! ```

use reactord::proto::ConnId;
use reactord::proto::exec::{ChildEvent, ExitStatus, JobEffect, Program, Signal, Spawn, Spawned, Stream};
use reactord::proto::jobs::{Job, JobId, Jobs};
use reactord::wire::error::{ErrorCode, Refusal};
use std::collections::{BTreeMap, VecDeque};
use std::sync::LazyLock;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    Output(Stream, usize),
    Cat,
    Wait,
    Hold,
    Exit(ExitStatus),
}

/// Something that a command did.
#[derive(Clone, Debug, PartialEq)]
pub enum Did {
    Output(Stream, Vec<u8>),
    OutputEnd(Stream),
    InputTaken(usize),
    Exited(ExitStatus),
    /// Nothing: it waits for input, for its end, or for ever.
    Waits,
    /// Nothing: its reader is behind.
    Stalls,
}

impl Did {
    pub fn event(&self) -> Option<ChildEvent<'_>> {
        match self {
            Did::Output(stream, bytes) => Some(ChildEvent::Output(*stream, bytes)),
            Did::OutputEnd(stream) => Some(ChildEvent::OutputEnd(*stream)),
            Did::InputTaken(n) => Some(ChildEvent::InputTaken(*n)),
            Did::Exited(status) => Some(ChildEvent::Exited(*status)),
            Did::Waits | Did::Stalls => None,
        }
    }
}

#[derive(Debug)]
struct Running {
    conn: ConnId,
    steps: VecDeque<Step>,
    produced: [usize; 2],
    input: Vec<u8>,
    /// What `cat` took and has not written yet.
    echo: Vec<u8>,
    input_open: bool,
    /// Bytes dropped because nobody takes them, not yet told.
    dropped: usize,
    exited: bool,
    open: [bool; 2],
    held: bool,
}

/// The commands.
#[derive(Debug, Default)]
pub struct Children {
    jobs: Jobs,
    running: BTreeMap<JobId, Running>,
    spawned: u64,
    /// The number of the `exec` that fails, counted from 1.
    pub fail_at: Option<u64>,
}

/// After so many bytes the outputs of scripts repeat themselves.
const PERIOD: usize = 65_521;

/// The most bytes of output in one step.
pub const MAX_STEP: usize = 200_000;

/// What a script writes to an output: `length` bytes, at most [`MAX_STEP`], from byte `at` on.
pub fn pattern(stream: Stream, at: usize, length: usize) -> &'static [u8] {
    static PATTERNS: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| {
        [0, 7]
            .map(|shift| (0..PERIOD + MAX_STEP).map(|i| i % PERIOD).map(|i| (i * 31 + i / 251 + shift) as u8).collect())
    });
    &PATTERNS[stream as usize][at % PERIOD..][..length]
}

fn parse(script: &str) -> Option<VecDeque<Step>> {
    let step = |text: &str| {
        let (word, number) = text.trim().split_once(' ').unwrap_or((text.trim(), "0"));
        let number = number.parse().ok()?;
        Some(match word {
            "out" => Step::Output(Stream::Stdout, number),
            "err" => Step::Output(Stream::Stderr, number),
            "cat" => Step::Cat,
            "wait" => Step::Wait,
            "hold" => Step::Hold,
            "exit" => Step::Exit(ExitStatus::Code(number as i32)),
            _ => return None,
        })
    };
    let mut steps: VecDeque<Step> = script.split(';').map(step).collect::<Option<_>>()?;
    steps.push_back(Step::Exit(ExitStatus::Code(0)));
    Some(steps)
}

impl Children {
    pub fn spawn(&mut self, conn: ConnId, nick: &str, spawn: Spawn) -> Result<Spawned, Refusal> {
        self.spawned += 1;
        if self.fail_at == Some(self.spawned) {
            return Err(Refusal::new(ErrorCode::Limit, "no more commands now"));
        }
        let steps = match &spawn.program {
            Program::Shell(script) => parse(&script.to_string_lossy()),
            Program::Argv(_) => None,
        };
        let Some(steps) = steps else {
            return Err(Refusal::new(ErrorCode::NotFound, "there is no such program"));
        };
        let pid = 1_000 + self.spawned as u32;
        let is_terminal = spawn.pty.is_some();
        let running = Running {
            conn,
            steps,
            produced: [0; 2],
            input: Vec::new(),
            echo: Vec::new(),
            input_open: spawn.stdin || is_terminal,
            dropped: 0,
            exited: false,
            open: [true, !is_terminal],
            held: false,
        };
        let job = Job { conn, id: spawn.id, pid, nick: nick.to_owned(), program: spawn.program, started_ms: 0 };
        let job = self.jobs.add(job);
        self.running.insert(job, running);
        Ok(Spawned { job, pid })
    }

    pub fn effect(&mut self, job: JobId, effect: JobEffect) {
        let Some(running) = self.running.get_mut(&job) else { return };
        match effect {
            JobEffect::Write(bytes) if running.input_open && !running.exited => {
                running.input.extend_from_slice(&bytes);
            }
            JobEffect::Write(bytes) => running.dropped += bytes.len(),
            JobEffect::CloseInput => running.input_open = false,
            JobEffect::Signal(signal) => running.end(signal),
            JobEffect::Terminate => running.end(Signal::TERM),
            JobEffect::Resize { .. } => {}
            JobEffect::Release => assert!(self.forget(job).exited, "released before it had ended"),
            JobEffect::Abandon => drop(self.forget(job)),
        }
    }

    pub fn kill(&mut self, job: JobId, signal: Signal) -> Result<(), Refusal> {
        match self.running.get_mut(&job) {
            Some(running) => {
                running.end(signal);
                Ok(())
            }
            None => Err(Refusal::new(ErrorCode::NotFound, "there is no such job")),
        }
    }

    pub fn list(&self, asker: ConnId) -> Vec<u8> {
        self.jobs.list(asker)
    }

    fn forget(&mut self, job: JobId) -> Running {
        self.jobs.remove(job);
        self.running.remove(&job).expect("it was found before")
    }

    /// The next thing that a command does, writing at most `portion` bytes.
    pub fn step(&mut self, job: JobId, wants_output: bool, portion: usize) -> Option<(ConnId, Did)> {
        let running = self.running.get_mut(&job)?;
        Some((running.conn, running.step(wants_output, portion.max(1))))
    }

    pub fn ids(&self) -> Vec<JobId> {
        self.running.keys().copied().collect()
    }

    pub fn owner(&self, job: JobId) -> Option<ConnId> {
        self.running.get(&job).map(|running| running.conn)
    }

    pub fn len(&self) -> usize {
        self.running.len()
    }
}

impl Running {
    fn end(&mut self, signal: Signal) {
        if !self.exited {
            self.steps = VecDeque::from([Step::Exit(ExitStatus::Signal(signal))]);
            self.held = false;
        }
    }

    fn step(&mut self, wants_output: bool, portion: usize) -> Did {
        if self.dropped > 0 {
            return Did::InputTaken(std::mem::take(&mut self.dropped));
        }
        if !self.echo.is_empty() {
            if !wants_output {
                return Did::Stalls;
            }
            let rest = self.echo.split_off(portion.min(self.echo.len()));
            return Did::Output(Stream::Stdout, std::mem::replace(&mut self.echo, rest));
        }
        loop {
            match self.steps.front_mut() {
                Some(Step::Output(_, 0)) => drop(self.steps.pop_front()),
                Some(Step::Output(..)) if !wants_output => return Did::Stalls,
                Some(Step::Output(stream, left)) => {
                    let n = portion.min(*left).min(MAX_STEP);
                    *left -= n;
                    let from = &mut self.produced[*stream as usize];
                    let bytes = pattern(*stream, *from, n).to_vec();
                    *from += n;
                    return Did::Output(*stream, bytes);
                }
                Some(Step::Cat) if !self.input.is_empty() => {
                    self.echo = std::mem::take(&mut self.input);
                    return Did::InputTaken(self.echo.len());
                }
                Some(Step::Cat) if self.input_open => return Did::Waits,
                Some(Step::Cat) => drop(self.steps.pop_front()),
                Some(Step::Wait) => return Did::Waits,
                Some(Step::Hold) => {
                    self.held = true;
                    self.steps.pop_front();
                }
                Some(Step::Exit(status)) => {
                    let status = *status;
                    self.steps.clear();
                    self.exited = true;
                    self.dropped = std::mem::take(&mut self.input).len();
                    return Did::Exited(status);
                }
                None if self.held => return Did::Waits,
                None => {
                    for stream in [Stream::Stdout, Stream::Stderr] {
                        if std::mem::take(&mut self.open[stream as usize]) {
                            return Did::OutputEnd(stream);
                        }
                    }
                    return Did::Waits;
                }
            }
        }
    }
}
