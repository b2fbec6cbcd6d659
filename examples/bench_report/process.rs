//! Processes that are ended with the report, and the cores they run on.

use crate::Result;
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a server may take to listen.
const START: Duration = Duration::from_secs(10);

/// Everything that runs now, for a signal that ends the report.
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// A process that ends when this is dropped.
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts `command` on the servers' core.
    pub fn spawn(command: &mut Command) -> Result<Process> {
        // A child inherits the core, and so do the threads that it makes.
        pin(Core::Server)?;
        let spawned = command.stdin(Stdio::null()).spawn();
        pin(Core::Load)?;
        let child = spawned.map_err(|e| format!("{}: {e}", command.get_program().display()))?;
        let process = Process { child };
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner).push(Pid::from_child(&process.child));
        Ok(process)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// Waits until something listens at `address`.
    pub fn wait_for(&mut self, address: SocketAddr) -> Result<()> {
        let until = Instant::now() + START;
        while TcpStream::connect(address).is_err() {
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("a server ended while starting: {status}").into());
            }
            if Instant::now() > until {
                return Err(format!("nothing listens at {address}").into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let pid = Pid::from_child(&self.child);
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner).retain(|running| *running != pid);
        // It may have ended by itself, and then there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// From now on INT, TERM and HUP end what was started before they end the report.
pub fn end_children_on_signals() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            // Held to the end: nothing more may be started.
            let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
            for pid in running.iter() {
                // It may just have ended by itself.
                let _ = kill_process(*pid, Signal::KILL);
            }
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

/// Which side a core is for.
#[derive(Clone, Copy)]
pub enum Core {
    Server,
    Load,
}

/// The first two cores that this process may use; the same one twice where
/// there is one alone.
pub fn cores() -> Result<(usize, usize)> {
    static CORES: Mutex<Option<(usize, usize)>> = Mutex::new(None);
    let mut known = CORES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(cores) = *known {
        return Ok(cores);
    }
    let allowed = sched_getaffinity(None)?;
    let mut free = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
    let first = free.next().ok_or("no processor to run on")?;
    Ok(*known.insert((first, free.next().unwrap_or(first))))
}

/// Moves this thread, and whatever it starts from now on, to a core.
pub fn pin(core: Core) -> Result<()> {
    let (server, load) = cores()?;
    let mut set = CpuSet::new();
    set.set(match core {
        Core::Server => server,
        Core::Load => load,
    });
    Ok(sched_setaffinity(None, &set)?)
}

/// A loopback address that nobody listened at a moment ago, for servers that
/// cannot choose one by themselves.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Where a program is installed; daemons' directories are not in every PATH.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let daemons = ["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(daemons).map(|dir| dir.join(program)).find(|path| path.is_file())
}
