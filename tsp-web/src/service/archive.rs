//! Reads the files of a ZIP archive that is part of the executable.

use std::collections::BTreeMap;

use bytes::Bytes;
use miniz_oxide::inflate::decompress_to_vec_with_limit;

/// What a record begins with.
const END: &[u8] = b"PK\x05\x06";
const FILE: &[u8] = b"PK\x01\x02";
const STORED: usize = 0;
const DEFLATED: usize = 8;

/// The files of `folder`, which stands in the archive's one top folder, by their paths in it. What cannot be read is
/// left out.
pub(super) fn files(archive: &'static [u8], folder: &str) -> BTreeMap<&'static str, Bytes> {
    let mut files = BTreeMap::new();
    let Some((count, mut directory)) = directory(archive) else { return files };
    for _ in 0..count {
        let Some((entry, rest)) = Entry::read(directory) else { break };
        directory = rest;
        let path =
            entry.path.split_once('/').and_then(|(_, path)| path.strip_prefix(folder)?.strip_prefix('/'));
        if let Some(path) = path.filter(|path| !path.is_empty())
            && let Some(content) = entry.content(archive)
        {
            files.insert(path, content);
        }
    }
    files
}

/// How many entries the archive has, and where the first one stands.
fn directory(archive: &'static [u8]) -> Option<(usize, &'static [u8])> {
    let end = archive.windows(END.len()).rposition(|bytes| bytes == END)?;
    let end = archive.get(end..)?;
    Some((number::<2>(end, 10)?, archive.get(number::<4>(end, 16)?..)?))
}

/// What the directory says of a file.
struct Entry {
    path: &'static str,
    method: usize,
    packed: usize,
    unpacked: usize,
    /// Where its own header stands.
    header: usize,
}

impl Entry {
    /// The entry that `directory` begins with, and what follows it.
    fn read(directory: &'static [u8]) -> Option<(Self, &'static [u8])> {
        let path_len = number::<2>(directory, 28)?;
        let len = 46 + path_len + number::<2>(directory, 30)? + number::<2>(directory, 32)?;
        let entry = Self {
            path: str::from_utf8(directory.strip_prefix(FILE)?.get(42..42 + path_len)?).ok()?,
            method: number::<2>(directory, 10)?,
            packed: number::<4>(directory, 20)?,
            unpacked: number::<4>(directory, 24)?,
            header: number::<4>(directory, 42)?,
        };
        Some((entry, directory.get(len..)?))
    }

    fn content(&self, archive: &'static [u8]) -> Option<Bytes> {
        let header = archive.get(self.header..)?;
        let start = 30 + number::<2>(header, 26)? + number::<2>(header, 28)?;
        let packed = header.get(start..start + self.packed)?;
        let content = match self.method {
            STORED => Bytes::from_static(packed),
            DEFLATED => decompress_to_vec_with_limit(packed, self.unpacked).ok()?.into(),
            _ => return None,
        };
        (content.len() == self.unpacked).then_some(content)
    }
}

/// A number of `N` bytes, the lowest one first.
fn number<const N: usize>(record: &[u8], at: usize) -> Option<usize> {
    let bytes = record.get(at..at + N)?;
    Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte)))
}
