//! Signals by name and by number, and what they do to this process by default.

use signal_hook::low_level::{emulate_default_handler, signal_name};

/// The highest number of a standard signal on Linux: signal(7).
const LAST_STANDARD: i32 = 31;

/// The number of the signal called `name`, with or without SIG.
pub fn number(name: &str) -> Option<i32> {
    let name = name.strip_prefix("SIG").unwrap_or(name);
    match name {
        // The two that signal-hook's table lacks: signal(7).
        "STKFLT" => return Some(16),
        "PWR" => return Some(30),
        _ => {}
    }
    (1..=LAST_STANDARD).find(|n| signal_name(*n).and_then(|known| known.strip_prefix("SIG")) == Some(name))
}

/// What a user may call a signal, as the protocol does: `9`, `kill` and
/// `SIGKILL` are all `KILL`. A name that is not known here passes, for the
/// server to judge.
pub fn wire_name(typed: &str) -> String {
    let upper = typed.trim_start_matches('-').to_ascii_uppercase();
    let name = match upper.parse::<i32>().ok().and_then(signal_name) {
        Some(name) => name.to_owned(),
        None => upper,
    };
    name.strip_prefix("SIG").unwrap_or(&name).to_owned()
}

/// Does to this process what `signal` does where nobody handles it: ends it,
/// so that whoever waits for it sees that signal, or stops it until it is
/// continued.
pub fn by_default(signal: i32) {
    if let Err(e) = emulate_default_handler(signal) {
        log::debug!("cannot act on signal {signal}: {e}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_numbers_of_linux() {
        assert_eq!(number("SIGKILL"), Some(9));
        assert_eq!(number("INT"), Some(2));
        assert_eq!(number("SIGPWR"), Some(30));
        assert_eq!(number("SIGNONE"), None);
    }

    #[test]
    fn a_signal_may_be_typed_in_many_ways() {
        for typed in ["9", "-9", "KILL", "kill", "SIGKILL", "-KILL"] {
            assert_eq!(wire_name(typed), "KILL");
        }
        assert_eq!(wire_name("NONE"), "NONE");
    }
}
