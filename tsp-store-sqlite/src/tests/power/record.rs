//! Reads what `strace -f -y -xx` wrote: names and bytes are in hexadecimal digits, and a call that another thread
//! interrupts stands in two lines.

use std::collections::HashMap;

use crate::tests::power::disk::{Change, DiskCall, FOLDER};

#[derive(Debug)]
pub(super) enum Event {
    /// On the standard error.
    Said(String),
    Changed(Change),
    Synced(String),
}

/// What became of the database's files, in order. A write counts when it begins, a sync when it has returned.
pub(super) fn read(record: &str) -> Vec<Event> {
    let mut begun: HashMap<&str, &str> = HashMap::new();
    let mut events = Vec::new();
    for line in record.lines() {
        let Some((thread, call)) = line.split_once(' ') else { continue };
        let call = call.trim_start();
        if let Some(rest) = call.strip_prefix("<... ") {
            assert!(rest.contains(" = 0") || !rest.contains("sync"), "a sync has failed: {line}");
            events.extend(begun.remove(thread).and_then(synced));
        } else if call.contains("<unfinished ...>") {
            events.extend(changed(call));
            begun.insert(thread, call);
        } else {
            events.extend(changed(call).or_else(|| synced(call)));
        }
    }
    events
}

fn synced(call: &str) -> Option<Event> {
    let (name, rest) = call.split_once('(')?;
    if name != "fsync" && name != "fdatasync" {
        return None;
    }
    let path = between(rest, '<', '>')?;
    // Only files of the database are synced, and their folder.
    let folder = !path.contains("/tsp.db");
    let file = if folder { Some(FOLDER.to_owned()) } else { database_file(&path) };
    file.map(Event::Synced)
}

fn changed(call: &str) -> Option<Event> {
    let (name, rest) = call.split_once('(')?;
    let file = || database_file(&between(rest, '<', '>')?);
    let bytes = || {
        let bytes = unhex(&between_raw(rest, "\"", "\"")?);
        assert!(!rest.contains("\"..."), "a write is longer than the record keeps");
        Some(bytes)
    };
    let number = |part: &str| part.trim().trim_end_matches(')').trim().parse::<usize>().ok();
    let last = || {
        let arguments = rest.split(") = ").next()?.split("<unfinished").next()?;
        number(arguments.rsplit(',').next()?)
    };
    match name {
        "write" if rest.starts_with("2<") => {
            Some(Event::Said(String::from_utf8_lossy(&bytes()?).into_owned()))
        }
        "pwrite64" => {
            let what = DiskCall::Write { at: last()?, bytes: bytes()? };
            Some(Event::Changed(Change { file: file()?, what }))
        }
        "ftruncate" => Some(Event::Changed(Change { file: file()?, what: DiskCall::Cut(last()?) })),
        "unlink" => {
            let path = String::from_utf8_lossy(&unhex(&between_raw(rest, "\"", "\"")?)).into_owned();
            Some(Event::Changed(Change { file: database_file(&path)?, what: DiskCall::Removed }))
        }
        _ => None,
    }
}

/// The name of a file that a crash leaves behind.
fn database_file(path: &str) -> Option<String> {
    let name = path.rsplit('/').next()?;
    ["tsp.db", "tsp.db-wal", "tsp.db-journal"].contains(&name).then(|| name.to_owned())
}

fn between(text: &str, open: char, close: char) -> Option<String> {
    let raw = between_raw(text, &open.to_string(), &close.to_string())?;
    Some(String::from_utf8_lossy(&unhex(&raw)).into_owned())
}

fn between_raw(text: &str, open: &str, close: &str) -> Option<String> {
    let (_, rest) = text.split_once(open)?;
    Some(rest.split_once(close)?.0.to_owned())
}

/// `\x74\x73`
fn unhex(text: &str) -> Vec<u8> {
    hex::decode(text.replace("\\x", "")).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn the_record_is_read_in_order() {
    let record = "\
        7 pwrite64(5<\\x2f\\x74\\x73\\x70\\x2e\\x64\\x62>, \"\\x01\\x02\", 2, 4096) = 2\n\
        7 fsync(5<\\x2f\\x74\\x73\\x70\\x2e\\x64\\x62> <unfinished ...>\n\
        8 write(2</dev/null>, \"\\x6f\\x6b\", 2) = 2\n\
        7 <... fsync resumed>) = 0\n\
        7 ftruncate(5<\\x2f\\x74\\x73\\x70\\x2e\\x64\\x62>, 0) = 0\n";
    let shown: Vec<_> = read(record).iter().map(|event| format!("{event:?}")).collect();
    assert_eq!(
        shown,
        [
            "Changed(Change { file: \"tsp.db\", what: Write { at: 4096, bytes: [1, 2] } })",
            "Said(\"ok\")",
            "Synced(\"tsp.db\")",
            "Changed(Change { file: \"tsp.db\", what: Cut(0) })",
        ]
    );
}
