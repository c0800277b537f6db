//! What a disk may hold of files whose last writes were not synced.

use std::collections::BTreeMap;

/// By name.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// What was asked of a file.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) file: String,
    pub(super) what: DiskCall,
}

#[derive(Debug, Clone)]
pub(super) enum DiskCall {
    Write {
        at: usize,
        bytes: Vec<u8>,
    },
    Cut(usize),
    /// Durable with the next sync of the folder.
    Removed,
}

/// The name of what holds the files.
pub(super) const FOLDER: &str = "";

/// The least that a disk writes whole.
const SECTOR: usize = 512;

#[derive(Debug, Default)]
pub(super) struct Disk {
    durable: Files,
    /// Since the last sync of their file, in order.
    pending: Vec<Change>,
}

impl Disk {
    pub(super) fn change(&mut self, change: Change) {
        self.pending.push(change);
    }

    pub(super) fn sync(&mut self, file: &str) {
        let of_folder = file == FOLDER;
        let synced = |one: &Change| {
            let removed = matches!(one.what, DiskCall::Removed);
            removed == of_folder && (of_folder || one.file == file)
        };
        let (synced, left) = std::mem::take(&mut self.pending).into_iter().partition(synced);
        self.pending = left;
        for change in synced {
            apply(&mut self.durable, &change);
        }
    }

    /// The states that it may be found in: disks write in any order what they were not told to sync.
    pub(super) fn possible(&self) -> Vec<(&'static str, Files)> {
        let of = |keep: &dyn Fn(usize, &Change) -> bool| {
            let mut files = self.durable.clone();
            let kept = self.pending.iter().enumerate().filter(|(at, change)| keep(*at, change));
            kept.for_each(|(_, change)| apply(&mut files, change));
            files
        };
        let log = |change: &Change| change.file.ends_with("-wal");
        let mut all =
            vec![("all of it", of(&|_, _| true)), ("nothing since the last sync", of(&|_, _| false))];
        if self.pending.len() > 1 {
            all.push(("only the log", of(&|_, change| log(change))));
            all.push(("all but the log", of(&|_, change| !log(change))));
            all.push(("all but the first write", of(&|at, _| at != 0)));
            all.push(("each second write", of(&|at, _| at % 2 == 1)));
            all.push(("only the last write", of(&|at, _| at + 1 == self.pending.len())));
        }
        all.extend(self.torn());
        all
    }

    /// The last write in part; the rest of its place is garbage.
    fn torn(&self) -> Vec<(&'static str, Files)> {
        let Some((Change { file, what: DiskCall::Write { at, bytes } }, before)) = self.pending.split_last()
        else {
            return Vec::new();
        };
        let mut files = self.durable.clone();
        for change in before {
            apply(&mut files, change);
        }
        let part = if bytes.len() > SECTOR { SECTOR } else { bytes.len() / 2 };
        let torn = |rest: &dyn Fn(&[u8]) -> Vec<u8>| {
            let mut files = files.clone();
            let bytes = [&bytes[..part], &rest(&bytes[part..])].concat();
            apply(&mut files, &Change { file: file.clone(), what: DiskCall::Write { at: *at, bytes } });
            files
        };
        vec![
            ("the last write torn", torn(&|_| Vec::new())),
            ("zeros in the last write", torn(&|rest| vec![0; rest.len()])),
            ("garbage in the last write", torn(&|rest| rest.iter().map(|byte| byte ^ 0xa5).collect())),
        ]
    }
}

fn apply(files: &mut Files, change: &Change) {
    if let DiskCall::Removed = change.what {
        files.remove(&change.file);
        return;
    }
    let file = files.entry(change.file.clone()).or_default();
    match &change.what {
        DiskCall::Removed => {}
        DiskCall::Cut(len) => file.resize(*len, 0),
        DiskCall::Write { at, bytes } => {
            let end = at + bytes.len();
            if file.len() < end {
                file.resize(end, 0);
            }
            file[*at..end].copy_from_slice(bytes);
        }
    }
}
