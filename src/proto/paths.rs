//! Which texts are paths below the root: the rules that need no disk.
//!
//! What a path leads to, and whether it stays inside, only the disk can say.

use crate::wire::error::{ErrorCode, Refusal};

/// The longest component of a path, in bytes (`NAME_MAX`, limits.h(0p)).
pub const MAX_COMPONENT: usize = 255;

/// The longest path, in bytes. `PATH_MAX` is 4,096 with the final NUL; the
/// difference is for what the server itself puts before or behind a path.
pub const MAX_PATH: usize = 4_000;

/// Names that begin so are the server's own: unfinished uploads.
pub const RESERVED: &str = ".reactord-";

/// How much of a path an error message repeats, in characters.
const SHOWN: usize = 120;

/// Checks a path that must name something below the root.
///
/// # Errors
/// `invalid_path`, with a sentence that says which rule it breaks.
pub fn check(path: &str) -> Result<(), Refusal> {
    if path.is_empty() {
        return Err(invalid("the path is empty, which is the root itself: expected a name below it"));
    }
    check_or_root(path)
}

/// Checks a path that may also be `""`, the root itself.
///
/// # Errors
/// As [`check`].
pub fn check_or_root(path: &str) -> Result<(), Refusal> {
    if path.is_empty() {
        return Ok(());
    }
    if path.len() > MAX_PATH {
        let length = path.len();
        return Err(invalid(format!("the path is {length} bytes long: expected at most {MAX_PATH}")));
    }
    if path.starts_with('/') {
        return Err(invalid(format!("{}: an absolute path; expected one relative to the root", shown(path))));
    }
    if path.chars().any(char::is_control) {
        return Err(invalid(format!("{}: a control character in a path", shown(path))));
    }
    for component in path.split('/') {
        let wrong = match component {
            "" => "an empty component; expected names separated by single slashes".to_owned(),
            "." | ".." => format!("\"{component}\" is no component of a path here"),
            long if long.len() > MAX_COMPONENT => format!("a component is longer than {MAX_COMPONENT} bytes"),
            own if own.starts_with(RESERVED) => format!("names that begin with \"{RESERVED}\" are the server's own"),
            _ => continue,
        };
        return Err(invalid(format!("{}: {wrong}", shown(path))));
    }
    Ok(())
}

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new(ErrorCode::InvalidPath, message)
}

/// A path as error messages show it: quoted, escaped, of bounded length.
pub fn shown(path: &str) -> String {
    match path.char_indices().nth(SHOWN) {
        _ if path.is_empty() => "the root".to_owned(),
        None => format!("{path:?}"),
        Some((at, _)) => format!("{:?}...", &path[..at]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ordinary_names_are_paths() {
        let long = "n".repeat(255);
        for path in ["a", "a/b/c", "...", "..a", "a b", "文件/数据.bin", ".hidden", ".reactord", &long] {
            assert_eq!(check(path), Ok(()), "{path}");
        }
        assert_eq!(check_or_root(""), Ok(()));
    }

    #[test]
    fn everything_else_is_an_invalid_path() {
        let (long, deep) = ("n".repeat(256), "d/".repeat(2_100) + "f");
        for path in [
            "",
            "/",
            "/etc",
            ".",
            "..",
            "../a",
            "a/..",
            "a/../b",
            "./a",
            "a//b",
            "a/",
            "a\0",
            "a\nb",
            "\u{7f}",
            "a/\u{9b}",
            ".reactord-x",
            "a/.reactord-part-1/b",
            &long,
            &deep,
        ] {
            assert_eq!(check(path).unwrap_err().code, ErrorCode::InvalidPath, "{path:?}");
        }
    }

    proptest! {
        #[test]
        fn no_accepted_path_can_climb(path in "[./a\0-]{0,12}") {
            if check(&path).is_ok() {
                prop_assert!(std::path::Path::new(&path).components().all(|c| matches!(c, std::path::Component::Normal(_))));
            }
        }

        #[test]
        fn a_message_never_carries_raw_control_characters(path in any::<String>()) {
            if let Err(refusal) = check(&path) {
                prop_assert!(!refusal.message.chars().any(char::is_control));
            }
        }
    }
}
