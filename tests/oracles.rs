//! The fuzzers' oracles as property tests, on random bytes and on the corpus.

mod support;

use proptest::collection::vec;
use proptest::prelude::*;
use std::path::Path;
use support::oracles;

/// Runs an oracle on everything that the fuzzers keep for it.
fn corpus(target: &str, oracle: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut ran = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        oracle(&std::fs::read(entry.unwrap().path()).unwrap());
        ran += 1;
    }
    assert!(ran > 0, "there is no corpus for {target}");
}

#[test]
fn the_corpus_of_each_fuzzer_holds() {
    corpus("decoder", oracles::decoder);
    corpus("header", oracles::header);
    corpus("session", oracles::session);
    corpus("path", oracles::path);
    corpus("terminal", oracles::terminal);
}

/// A stream of frames that are mostly well-formed.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let frame = prop_oneof![
        8 => vec(any::<u8>(), 1..40).prop_map(|header| [&(header.len() as i32).to_le_bytes()[..], &header].concat()),
        1 => vec(any::<u8>(), 0..20),
        1 => prop_oneof![Just(0), Just(-1), Just(65_536), Just(65_537), Just(4_097)].prop_map(|n: i32| n.to_le_bytes().to_vec()),
    ];
    (any::<[u8; 2]>(), vec(frame, 0..12)).prop_map(|(choice, frames)| [&choice[..], &frames.concat()].concat())
}

/// Headers that are nearly good.
fn nearly_a_header() -> impl Strategy<Value = Vec<u8>> {
    let value = prop_oneof![
        Just("\"echo\"".to_owned()),
        Just("\"join\"".to_owned()),
        Just("\"exec\"".to_owned()),
        Just("[1,{}]".to_owned()),
        Just("{\"rows\":1,\"cols\":2}".to_owned()),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        Just("1e3".to_owned()),
        Just("null".to_owned()),
    ];
    let key = prop::sample::select(vec!["cmd", "id", "size", "room", "shell", "pty", "env", "hangup", "history", "x"]);
    vec((key, value), 0..6).prop_map(|fields| {
        let fields: Vec<_> = fields.into_iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
        format!("{{{}}}", fields.join(",")).into_bytes()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_decoder_gives_the_same_frames_however_the_bytes_are_cut(data in stream()) {
        oracles::decoder(&data);
    }

    #[test]
    fn headers_are_understood_as_json_and_refused_briefly(data in prop_oneof![nearly_a_header(), vec(any::<u8>(), 0..80)]) {
        oracles::header(&data);
    }

    #[test]
    fn paths_obey_the_rules(data in prop_oneof!["[./a\0-]{0,12}", any::<String>(), ".{200,300}"]) {
        oracles::path(data.as_bytes());
    }

    #[test]
    fn nothing_dangerous_reaches_a_terminal(data in prop_oneof![any::<String>(), "[\\x00-\\x1f\u{200b}-\u{206f}a-z\\\\\"]{0,30}"]) {
        oracles::terminal(data.as_bytes());
    }

    #[test]
    fn sessions_survive_whatever_is_done_to_them(data in vec(any::<u8>(), 0..400)) {
        oracles::session(&data);
    }
}
