//! A terminal whose master side the test holds.

use super::PATIENCE;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use std::fs::File;
use std::io::{Read, Write};
use std::process::Stdio;

pub struct Terminal {
    master: File,
    slave: File,
    /// What was shown since the last wait began.
    pub shown: Vec<u8>,
}

impl Terminal {
    pub fn new(rows: u16, cols: u16) -> Terminal {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let slave = File::options().read(true).write(true).open(name).unwrap();
        let terminal = Terminal { master: File::from(master), slave, shown: Vec::new() };
        terminal.resize(rows, cols);
        terminal
    }

    pub fn resize(&self, rows: u16, cols: u16) {
        tcsetwinsize(&self.slave, Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    }

    /// The terminal as a program's input or output.
    pub fn stdio(&self) -> Stdio {
        self.slave.try_clone().unwrap().into()
    }

    pub fn types(&self, bytes: impl AsRef<[u8]>) {
        (&self.master).write_all(bytes.as_ref()).unwrap();
    }

    /// Waits until `text` is shown, after what was waited for before.
    pub fn shows(&mut self, text: &str) {
        let mut byte = [0];
        let patience = rustix::time::Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
        self.shown.clear();
        while !self.shown.ends_with(text.as_bytes()) {
            let ready = poll(&mut [PollFd::new(&self.master, PollFlags::IN)], Some(&patience)).unwrap();
            assert!(ready > 0, "waited in vain for {text:?} after {:?}", String::from_utf8_lossy(&self.shown));
            (&self.master).read_exact(&mut byte).unwrap();
            self.shown.extend(byte);
        }
    }

    pub fn is_raw(&self) -> bool {
        !tcgetattr(&self.slave).unwrap().local_modes.intersects(LocalModes::ICANON | LocalModes::ECHO)
    }
}
