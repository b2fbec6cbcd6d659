//! The warden: a small process that outlives a server killed with SIGKILL, and
//! ends the commands which that leaves behind.
//!
//! The server writes the number of each running group into a table in shared
//! memory (a memfd) and holds one end of a pipe on which nothing is ever sent.
//! The warden waits for the pipe to end, which happens when the server is gone,
//! however it went; then it reads the table and does what the server would have
//! done: TERM (HUP on a terminal), and KILL after [`KILL_GRACE`]. So a command
//! costs the server two small writes to memory, which never block, and the
//! warden sleeps all its life.
//!
//! What is promised: every command whose leader had not ended is ended, with
//! whoever is still in its process group. What is not: processes that moved to
//! another group or session; what commands that had ended left behind; a
//! command whose number the server did not know yet when it was killed, because
//! its program was only just being loaded; and anything where the warden itself
//! was killed too, as a service manager may do, which then ends the commands
//! itself.

use crate::proto::exec::KILL_GRACE;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{Errno, pread, pwrite, read};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// The first argument that makes the server's program a warden.
pub const ARGUMENT: &str = "--warden";

/// An entry of the table: a group's number as a little-endian integer, negated
/// where the group is on a terminal, 0 where there is none.
const ENTRY: usize = size_of::<i32>();

/// How often the warden looks whether the groups it ended are gone.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Signals that end a terminal's or a service's processes, and that the warden
/// must survive to do its work.
const OUTLIVED: [i32; 4] = [
    signal_hook::consts::SIGHUP,
    signal_hook::consts::SIGINT,
    signal_hook::consts::SIGQUIT,
    signal_hook::consts::SIGTERM,
];

/// The server's side. Threads share it: none waits for another but to start it.
#[derive(Debug)]
pub struct Warden {
    /// The program to start it from; `None` where none is wanted.
    program: Option<PathBuf>,
    /// Held by the thread that starts it.
    starting: Mutex<()>,
    watching: OnceLock<Watching>,
}

#[derive(Debug)]
struct Watching {
    /// The table of groups.
    table: OwnedFd,
    /// Held open for as long as this process lives.
    _lifeline: OwnedFd,
}

impl Warden {
    /// The warden of a server whose program can be run again under that path,
    /// and calls [`main`] when its first argument is [`ARGUMENT`].
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Warden { program: Some(program.into()), ..Self::off() }
    }

    /// No warden.
    pub const fn off() -> Self {
        Warden { program: None, starting: Mutex::new(()), watching: OnceLock::new() }
    }

    /// Starts it unless it watches. To be called before each command is
    /// started, which is then unwatched for no longer than a write takes.
    pub fn begin(&self) {
        let Some(program) = self.program.as_ref().filter(|_| self.watching.get().is_none()) else { return };
        let _alone = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        if self.watching.get().is_some() {
            return;
        }
        match start(program) {
            // Nobody else sets it while this thread is alone.
            Ok(watching) => drop(self.watching.set(watching)),
            // Tried again with the next command: what is short now may not be then.
            Err(e) => log::error!("cannot start the warden: this command would survive a killed server: {e}"),
        }
    }

    /// From now on the warden would end that group. `slot` is the caller's
    /// number for it, small and used by one group at a time.
    pub fn watch(&self, slot: usize, group: u32, on_terminal: bool) {
        let group = group as i32;
        self.write(slot, if on_terminal { -group } else { group });
    }

    /// That group is the warden's business no more.
    pub fn forget(&self, slot: usize) {
        self.write(slot, 0);
    }

    fn write(&self, slot: usize, entry: i32) {
        if let Some(Watching { table, .. }) = self.watching.get()
            && let Err(e) = pwrite(table, &entry.to_le_bytes(), (slot * ENTRY) as u64)
        {
            log::warn!("cannot tell the warden of a command: {e}");
        }
    }
}

fn start(program: &PathBuf) -> io::Result<Watching> {
    let table = memfd_create("reactord-groups", MemfdFlags::CLOEXEC)?;
    let (theirs, lifeline) = pipe_with(PipeFlags::CLOEXEC)?;
    let warden = Command::new(program)
        .arg(ARGUMENT)
        .env_clear()
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::from(table.try_clone()?))
        .stderr(Stdio::null())
        .spawn()?;
    log::debug!("the warden is process {}", warden.id());
    Ok(Watching { table, _lifeline: lifeline })
}

/// What the warden does: waits on standard input for the server's end, then
/// ends the groups that the table on standard output names.
pub fn main() -> ExitCode {
    for signal in OUTLIVED {
        if signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false))).is_err() {
            return ExitCode::FAILURE;
        }
    }
    loop {
        match read(rustix::stdio::stdin(), &mut [0; 1]) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return ExitCode::FAILURE,
        }
    }
    match groups() {
        Ok(groups) => {
            end(groups);
            ExitCode::SUCCESS
        }
        Err(_) => ExitCode::FAILURE,
    }
}

/// The table's groups, and whether each is on a terminal.
fn groups() -> rustix::io::Result<Vec<(Pid, bool)>> {
    let mut groups = Vec::new();
    let mut at = 0;
    loop {
        let mut entry = [0; ENTRY];
        if pread(rustix::stdio::stdout(), &mut entry, at)? < ENTRY {
            return Ok(groups);
        }
        at += ENTRY as u64;
        let entry = i32::from_le_bytes(entry);
        groups.extend(Pid::from_raw(entry.saturating_abs()).map(|group| (group, entry < 0)));
    }
}

fn end(mut groups: Vec<(Pid, bool)>) {
    // Only a group that has ended refuses, and that is what is wanted.
    let send = |group, signal| kill_process_group(group, signal).is_ok();
    groups.retain(|(group, on_terminal)| {
        send(*group, if *on_terminal { Signal::HUP } else { Signal::TERM }) && send(*group, Signal::CONT)
    });
    let kill_at = Instant::now() + KILL_GRACE;
    while !groups.is_empty() && Instant::now() < kill_at {
        std::thread::sleep(LOOK_AGAIN);
        groups.retain(|(group, _)| test_kill_process_group(*group).is_ok());
    }
    groups.retain(|(group, _)| send(*group, Signal::KILL));
}
