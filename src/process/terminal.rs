//! Pseudo-terminals: opening one, its size, its end-of-file character. What is
//! read from and written to them is left to the drivers; pty(7) and termios(3)
//! say how they behave.

use rustix::io::Result;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{InputModes, OptionalActions, SpecialCodeIndex, Winsize};
use rustix::termios::{tcgetattr, tcsetattr, tcsetwinsize};
use std::os::fd::{AsFd, OwnedFd};

/// A terminal of that size: the server's side and the command's.
pub(super) fn open(rows: u16, cols: u16) -> Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let server = openpt(flags)?;
    grantpt(&server)?;
    unlockpt(&server)?;
    // By descriptor and not by name: the name may mean another terminal where
    // /dev/pts is mounted twice.
    let command = ioctl_tiocgptpeer(&server, flags)?;
    let mut modes = tcgetattr(&command)?;
    // So that erasing a character in the terminal's own line editing takes all its bytes.
    modes.input_modes |= InputModes::IUTF8;
    tcsetattr(&command, OptionalActions::Now, &modes)?;
    resize(&server, rows, cols)?;
    Ok((server, command))
}

/// Sets a terminal's size; the kernel tells its foreground group (SIGWINCH).
pub fn resize(terminal: impl AsFd, rows: u16, cols: u16) -> Result<()> {
    tcsetwinsize(terminal, Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 })
}

/// The character that means end of file on that terminal now (VEOF); `None`
/// where the program has turned it off.
pub fn end_of_file(terminal: impl AsFd) -> Result<Option<u8>> {
    let character = tcgetattr(terminal)?.special_codes[SpecialCodeIndex::VEOF];
    // _POSIX_VDISABLE of Linux.
    Ok(Some(character).filter(|character| *character != 0))
}
