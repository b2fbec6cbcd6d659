//! Starting a command: its program, environment, directory, and its pipes or
//! terminal.

use super::environment::DEFAULT_TERM;
use super::{Environment, Process, inheritance, program, terminal};
use crate::proto::exec::{Program, Spawn};
use crate::sys;
use crate::wire::error::Refusal;
use crate::wire::request::Pty;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, waitpid};
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// The shell that runs texts.
const SHELL: &str = "/bin/sh";

/// A command that was started, with the server's ends of what it reads and
/// writes: pipes, or a terminal twice. They block and are closed on exec.
#[derive(Debug)]
pub struct Child {
    /// The process.
    pub process: Process,
    /// Where its input is written to.
    pub stdin: Option<OwnedFd>,
    /// Where its output is read from.
    pub stdout: OwnedFd,
    /// Where its error output is read from; a terminal has none, nor has a
    /// command both of whose outputs share a pipe.
    pub stderr: Option<OwnedFd>,
}

/// The server's ends.
struct Ends {
    stdin: Option<OwnedFd>,
    stdout: OwnedFd,
    stderr: Option<OwnedFd>,
}

/// Starts a command. The refusal says what of it was wrong, in the client's
/// own words; it names no directory of the server.
pub fn spawn(environment: &Environment, spec: &Spawn) -> Result<Child, Refusal> {
    let cwd = match &spec.cwd {
        Some(cwd) => environment.home().join(cwd),
        None => environment.home().to_owned(),
    };
    let (name, arguments): (&str, &[String]) = match &spec.program {
        Program::Argv(argv) => argv.split_first().map(|(name, rest)| (name.as_str(), rest)).unwrap_or_default(),
        Program::Shell(_) => (SHELL, &[]),
    };
    let path = spec.env.iter().find(|(name, _)| name == "PATH").map(|(_, path)| OsStr::new(path));
    let own_path = || environment.variables().iter().find(|(name, _)| name == "PATH").map(|(_, path)| &**path);
    let found = program::find(name, path.or_else(own_path).unwrap_or_default(), &cwd)?;
    let mut started = start(command(environment, spec, &found, name, arguments, &cwd), name, spec);
    if started.as_ref().is_err_and(|error| error.raw_os_error() == Some(Errno::NOEXEC.raw_os_error())) {
        // A script without a first line that names its interpreter is the
        // shell's, as for execvp(3) and for every shell.
        let script: Vec<_> =
            std::iter::once(found.clone().into_os_string()).chain(arguments.iter().map(Into::into)).collect();
        started = start(command(environment, spec, Path::new(SHELL), SHELL, &script, &cwd), SHELL, spec);
    }
    started.map_err(|error| program::explain(&error, name, &found, &cwd))
}

fn command(
    environment: &Environment,
    spec: &Spawn,
    file: &Path,
    name: &str,
    arguments: &[impl AsRef<OsStr>],
    cwd: &Path,
) -> Command {
    let mut command = Command::new(file);
    command.arg0(name).args(arguments).current_dir(cwd).env_clear();
    if let Program::Shell(text) = &spec.program {
        command.arg("-c").arg(text);
    }
    command.envs(environment.variables().iter().map(|(name, value)| (name, value)));
    if let Some(pty) = &spec.pty {
        command.env("TERM", pty.term.as_deref().unwrap_or(DEFAULT_TERM));
    }
    command.envs(spec.env.iter().map(|(name, value)| (name, value)));
    command
}

fn start(mut command: Command, name: &str, spec: &Spawn) -> io::Result<Child> {
    let (pid, ends) = match &spec.pty {
        Some(pty) => on_terminal(&command, name, pty)?,
        None => on_pipes(&mut command, spec.stdin, spec.merge)?,
    };
    // The command's ends are closed with this, or no output would ever end.
    drop(command);
    inheritance::restore_limit(pid);
    let process = Process::new(pid, spec.pty.is_some()).inspect_err(|_| {
        // A command nobody can watch must not run. It is not reaped yet, so
        // the number can mean no other group.
        let killed = kill_process_group(pid, Signal::KILL);
        if let Err(e) = killed.and_then(|()| waitpid(Some(pid), WaitOptions::empty()).map(drop)) {
            log::error!("cannot end process {}: {e}", pid.as_raw_nonzero());
        }
    })?;
    let Ends { stdin, stdout, stderr } = ends;
    Ok(Child { process, stdin, stdout, stderr })
}

fn on_pipes(command: &mut Command, stdin: bool, merge: bool) -> io::Result<(Pid, Ends)> {
    command.process_group(0);
    let stdin = if stdin {
        let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC)?;
        command.stdin(Stdio::from(theirs));
        Some(ours)
    } else {
        command.stdin(Stdio::null());
        None
    };
    let (stdout, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
    let stderr = if merge {
        command.stderr(Stdio::from(theirs.try_clone()?));
        None
    } else {
        let (stderr, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
        command.stderr(Stdio::from(theirs));
        Some(stderr)
    };
    command.stdout(Stdio::from(theirs));
    let child = command.spawn()?;
    Ok((Pid::from_child(&child), Ends { stdin, stdout, stderr }))
}

fn on_terminal(command: &Command, name: &str, pty: &Pty) -> io::Result<(Pid, Ends)> {
    let (ours, theirs) = terminal::open(pty.rows, pty.cols)?;
    let stdin = ours.try_clone()?;
    let pid = sys::spawn_on_terminal(command, name.as_ref(), theirs.as_fd())?;
    Ok((pid, Ends { stdin: Some(stdin), stdout: ours, stderr: None }))
}
