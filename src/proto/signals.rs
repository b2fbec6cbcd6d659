//! Signals: their numbers on this machine and their names on the wire.
//!
//! Sending them is left to the drivers.

use crate::wire::error::{ErrorCode, Refusal};
use rustix::process::Signal as Named;
use std::borrow::Cow;

/// A signal by number, as the kernel of this machine counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal(pub i32);

/// The first real-time signal that the C library leaves to programs
/// (signal(7)); the others are called by their distance from this one.
const RTMIN: i32 = 34;

/// The last one.
const RTMAX: i32 = 64;

/// The names of signal(7), without their SIG. What stands twice there (IOT,
/// POLL, CLD) stands behind the name that is reported.
const NAMES: [(&str, Named); 33] = [
    ("HUP", Named::HUP),
    ("INT", Named::INT),
    ("QUIT", Named::QUIT),
    ("ILL", Named::ILL),
    ("TRAP", Named::TRAP),
    ("ABRT", Named::ABORT),
    ("IOT", Named::ABORT),
    ("BUS", Named::BUS),
    ("FPE", Named::FPE),
    ("KILL", Named::KILL),
    ("USR1", Named::USR1),
    ("SEGV", Named::SEGV),
    ("USR2", Named::USR2),
    ("PIPE", Named::PIPE),
    ("ALRM", Named::ALARM),
    ("TERM", Named::TERM),
    ("STKFLT", Named::STKFLT),
    ("CHLD", Named::CHILD),
    ("CONT", Named::CONT),
    ("STOP", Named::STOP),
    ("TSTP", Named::TSTP),
    ("TTIN", Named::TTIN),
    ("TTOU", Named::TTOU),
    ("URG", Named::URG),
    ("XCPU", Named::XCPU),
    ("XFSZ", Named::XFSZ),
    ("VTALRM", Named::VTALARM),
    ("PROF", Named::PROF),
    ("WINCH", Named::WINCH),
    ("IO", Named::IO),
    ("POLL", Named::IO),
    ("PWR", Named::POWER),
    ("SYS", Named::SYS),
];

impl Signal {
    /// What ends a command that has no terminal.
    pub const TERM: Signal = Signal(Named::TERM.as_raw());
    /// What ends a command on a terminal.
    pub const HUP: Signal = Signal(Named::HUP.as_raw());
    /// What no process can refuse.
    pub const KILL: Signal = Signal(Named::KILL.as_raw());
    /// What wakes a stopped process.
    pub const CONT: Signal = Signal(Named::CONT.as_raw());

    /// The signal of that name, with or without SIG. `bad_request` where there
    /// is none; real-time signals cannot be named.
    pub fn parse(name: &str) -> Result<Self, Refusal> {
        let bare = name.strip_prefix("SIG").unwrap_or(name);
        match NAMES.iter().find(|(known, _)| *known == bare) {
            Some((_, named)) => Ok(Signal(named.as_raw())),
            None => {
                let shown: String = name.chars().take(20).collect();
                let message = format!("there is no signal {shown:?}: expected a name such as \"INT\" or \"SIGTERM\"");
                Err(Refusal::new(ErrorCode::BadRequest, message))
            }
        }
    }

    /// The name with its SIG, such as `SIGKILL`, `SIGRTMIN+3` or, for a number
    /// that no name is known for, `SIG99`.
    pub fn name(self) -> Cow<'static, str> {
        match NAMES.iter().find(|(_, named)| named.as_raw() == self.0) {
            Some((name, _)) => format!("SIG{name}").into(),
            None if self.0 == RTMIN => "SIGRTMIN".into(),
            None if (RTMIN..=RTMAX).contains(&self.0) => format!("SIGRTMIN+{}", self.0 - RTMIN).into(),
            None => format!("SIG{}", self.0).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_understood_with_and_without_sig_and_reported_with_it() {
        for (name, named) in NAMES {
            assert_eq!(Signal::parse(name), Ok(Signal(named.as_raw())));
            assert_eq!(Signal::parse(&format!("SIG{name}")), Ok(Signal(named.as_raw())));
        }
        assert_eq!(Signal(9).name(), "SIGKILL");
        assert_eq!(Signal::parse("IOT").map(Signal::name), Ok("SIGABRT".into()));
        assert_eq!(Signal(37).name(), "SIGRTMIN+3");
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for name in ["", "SIG", "SIGSIGINT", "int", "9", "NOPE", "\u{0}INT"] {
            assert_eq!(Signal::parse(name).unwrap_err().code, ErrorCode::BadRequest, "{name:?}");
        }
    }
}
