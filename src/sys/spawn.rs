//! posix_spawn(3) for commands on a terminal, which the standard library would
//! fork. A fork copies the server's page tables and stops the event loop
//! meanwhile, for a tenth of a second where the server is large.

use nix::libc::{self, c_char, c_int, c_short};
use rustix::process::Pid;
use std::ffi::{CString, OsStr};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

/// Starts what `command` says (program, arguments, directory, and exactly the
/// variables set on it), under the name `arg0`, as the leader of a new session
/// whose controlling terminal is `terminal`. That is its standard input and
/// both its outputs; signals are unblocked and at their defaults.
pub(crate) fn on_terminal(command: &Command, arg0: &OsStr, terminal: BorrowedFd<'_>) -> io::Result<Pid> {
    let text = |text: &OsStr| CString::new(text.as_bytes()).map_err(io::Error::from);
    let program = text(command.get_program())?;
    let arguments = std::iter::once(arg0).chain(command.get_args()).map(text).collect::<io::Result<Vec<_>>>()?;
    let variables = command.get_envs().filter_map(|(name, value)| {
        let value = value?;
        Some(CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).map_err(io::Error::from))
    });
    let variables = variables.collect::<io::Result<Vec<_>>>()?;

    let mut actions = Actions::new()?;
    if let Some(directory) = command.get_current_dir() {
        actions.change_directory(text(directory.as_os_str())?)?;
    }
    // A session leader that opens a terminal which controls none gets it as its
    // own (tty_ioctl(4)). Under this name it is the very one that is open here,
    // whatever is mounted at /dev/pts.
    actions.open(CString::new(format!("/proc/self/fd/{}", terminal.as_raw_fd())).map_err(io::Error::from)?)?;
    let attributes = Attributes::leading_a_session()?;

    let argv = null_terminated(&arguments);
    let envp = null_terminated(&variables);
    let mut pid = 0;
    // SAFETY: every pointer is to something that lives until the call returns:
    // both arrays end with a null, their texts with a NUL; actions and
    // attributes are initialized. posix_spawn keeps none of them.
    check(unsafe {
        libc::posix_spawn(
            &mut pid,
            program.as_ptr(),
            &actions.raw,
            &attributes.raw,
            argv.as_ptr().cast(),
            envp.as_ptr().cast(),
        )
    })?;
    Pid::from_raw(pid).ok_or_else(|| io::Error::from(io::ErrorKind::Other))
}

/// These functions return their errno.
fn check(errno: c_int) -> io::Result<()> {
    if errno == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(errno)) }
}

fn null_terminated(texts: &[CString]) -> Vec<*const c_char> {
    texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
}

/// What the child does before it becomes the program.
struct Actions {
    raw: libc::posix_spawn_file_actions_t,
}

impl Actions {
    fn new() -> io::Result<Self> {
        let mut raw = MaybeUninit::uninit();
        // SAFETY: the call initializes what it is given, or fails.
        unsafe {
            check(libc::posix_spawn_file_actions_init(raw.as_mut_ptr()))?;
            Ok(Actions { raw: raw.assume_init() })
        }
    }

    fn change_directory(&mut self, directory: CString) -> io::Result<()> {
        // SAFETY: the actions are initialized, and the text is copied.
        check(unsafe { libc::posix_spawn_file_actions_addchdir_np(&mut self.raw, directory.as_ptr()) })
    }

    /// Opens `path` as 0, 1 and 2.
    fn open(&mut self, path: CString) -> io::Result<()> {
        // SAFETY: the actions are initialized, and the text is copied.
        unsafe {
            check(libc::posix_spawn_file_actions_addopen(&mut self.raw, 0, path.as_ptr(), libc::O_RDWR, 0))?;
            check(libc::posix_spawn_file_actions_adddup2(&mut self.raw, 0, 1))?;
            check(libc::posix_spawn_file_actions_adddup2(&mut self.raw, 0, 2))
        }
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: they were initialized, and nobody uses them after this. The
        // only error there is would be that they were not.
        unsafe { libc::posix_spawn_file_actions_destroy(&mut self.raw) };
    }
}

/// What the child is like.
struct Attributes {
    raw: libc::posix_spawnattr_t,
}

impl Attributes {
    fn leading_a_session() -> io::Result<Self> {
        let mut raw = MaybeUninit::uninit();
        // SAFETY: the call initializes what it is given, or fails.
        let mut attributes = unsafe {
            check(libc::posix_spawnattr_init(raw.as_mut_ptr()))?;
            Attributes { raw: raw.assume_init() }
        };
        let flags = libc::POSIX_SPAWN_SETSID as c_int | libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF;
        let mut signals = MaybeUninit::uninit();
        // SAFETY: the attributes are initialized; each set is before it is
        // handed over, and is copied.
        unsafe {
            check(libc::posix_spawnattr_setflags(&mut attributes.raw, flags as c_short))?;
            libc::sigemptyset(signals.as_mut_ptr());
            check(libc::posix_spawnattr_setsigmask(&mut attributes.raw, signals.as_ptr()))?;
            libc::sigfillset(signals.as_mut_ptr());
            check(libc::posix_spawnattr_setsigdefault(&mut attributes.raw, signals.as_ptr()))?;
        }
        Ok(attributes)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: as for the actions.
        unsafe { libc::posix_spawnattr_destroy(&mut self.raw) };
    }
}
