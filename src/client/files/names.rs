//! Names: what a server may call an entry, and what a path typed here means.

use crate::client::error::{ClientError, Result};
use crate::client::text;

/// The longest component, in bytes.
pub const MAX_COMPONENT: usize = 255;

/// Why `name`, which a server sent, cannot be one component of a local path.
/// A hostile server might hope that it leads elsewhere.
pub fn check_component(name: &str) -> std::result::Result<(), &'static str> {
    if name.is_empty() {
        Err("its name is empty")
    } else if name == "." || name == ".." {
        Err("its name leads to another directory")
    } else if name.contains('/') {
        Err("its name has a /")
    } else if name.contains(char::is_control) {
        Err("its name has control characters")
    } else if name.len() > MAX_COMPONENT {
        Err("its name is over 255 bytes long")
    } else {
        Ok(())
    }
}

/// A path on the server as typed: trailing `/` go; `/` and `.` are the root.
pub fn remote(typed: &str) -> &str {
    match typed.trim_end_matches('/') {
        "." => "",
        path => path,
    }
}

/// Whether a path on the server, as typed, says "into this directory".
pub fn is_directory(typed: &str) -> bool {
    typed.is_empty() || typed == "." || typed.ends_with('/')
}

/// `name` in the directory `path` of the server.
pub fn join(path: &str, name: &str) -> String {
    match (path, name) {
        ("", name) => name.to_owned(),
        (path, "") => path.to_owned(),
        (path, name) => format!("{path}/{name}"),
    }
}

/// The local name for the remote path that the user typed: its last component.
/// `None` for the root, which has no name.
pub fn local_name(typed: &str) -> Result<Option<&str>> {
    let path = remote(typed);
    if path.is_empty() {
        return Ok(None);
    }
    let name = path.rsplit('/').next().unwrap_or(path);
    match check_component(name) {
        Ok(()) => Ok(Some(name)),
        Err(why) => {
            let typed = text::visible(typed);
            Err(ClientError::Usage(format!(
                "\"{typed}\" gives no local name: {why}; expected a path like docs/notes.txt"
            )))
        }
    }
}

/// A name for what identifies a transfer: the same parts give the same digits,
/// 32 of them, and other parts give others.
pub fn digest(parts: &[&[u8]]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        // The length first, so that no two lists of parts run together alike.
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    hasher.finalize().to_hex()[..32].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_cannot_name_its_way_out() {
        for bad in ["", ".", "..", "../x", "/etc", "a/b", "a\0b", "a\nb", "\u{9b}2J", &"x".repeat(256)] {
            assert!(check_component(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "...", "..a", "漢字", ".hidden", "-r", &"x".repeat(255)] {
            assert!(check_component(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn the_local_name_is_the_last_component_that_was_typed() {
        assert_eq!(local_name("docs/a.txt"), Ok(Some("a.txt")));
        assert_eq!(local_name("docs/"), Ok(Some("docs")));
        assert_eq!((local_name("/"), local_name(".")), (Ok(None), Ok(None)));
        assert!(local_name("a/..").is_err());
    }

    #[test]
    fn a_digest_tells_where_a_part_ends() {
        assert_ne!(digest(&[b"ab", b"c"]), digest(&[b"a", b"bc"]));
        assert_eq!(digest(&[b"a"]), digest(&[b"a"]));
    }
}
