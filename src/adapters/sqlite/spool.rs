//! What was copied from the log and is in no backup yet: files of sections, in the order of their names.
//!
//! A section is the log's salts (8 bytes), where it begins there and its length (8 bytes each, little endian), and the
//! log's own bytes. A section that a crash has cut off is forgotten: the log still has it.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};

use super::wal::{Committed, LogPosition, Salts};
use crate::private::{private, private_directory};

const SECTION_HEADER_BYTES: usize = 24;

/// The folder of the files. That it is there says that the log is to be kept.
#[derive(Debug)]
pub(super) struct Spool {
    directory: PathBuf,
    current: File,
    number: u64,
    bytes: u64,
}

/// A section as its header tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Section {
    /// Where it begins.
    pub from: LogPosition,
    /// Its bytes.
    pub length: u64,
}

impl Section {
    /// Where it ends.
    pub(super) fn end(&self) -> LogPosition {
        LogPosition { offset: self.from.offset + self.length, ..self.from }
    }

    fn to_bytes(self) -> [u8; SECTION_HEADER_BYTES] {
        let mut bytes = [0; SECTION_HEADER_BYTES];
        bytes[..8].copy_from_slice(&self.from.salts.0);
        bytes[8..16].copy_from_slice(&self.from.offset.to_le_bytes());
        bytes[16..].copy_from_slice(&self.length.to_le_bytes());
        bytes
    }

    /// The next section's header; nothing at the end.
    pub(super) fn read(source: &mut impl Read) -> std::io::Result<Option<Self>> {
        let mut bytes = [0; SECTION_HEADER_BYTES];
        match source.read_exact(&mut bytes) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let number = |at: usize| u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|next| bytes[at + next]));
        let salts = Salts([0, 1, 2, 3, 4, 5, 6, 7].map(|next| bytes[next]));
        Ok(Some(Self { from: LogPosition { salts, offset: number(8) }, length: number(16) }))
    }
}

impl Spool {
    /// Begins with nothing.
    pub(super) fn begin(directory: &Path) -> std::io::Result<Self> {
        Self::end(directory)?;
        private_directory(directory)?;
        let current = part(directory, 1)?;
        Ok(Self { directory: directory.to_owned(), current, number: 1, bytes: 0 })
    }

    /// Goes on after what lies there.
    pub(super) fn resume(directory: &Path) -> std::io::Result<Self> {
        let parts = parts(directory)?;
        for path in &parts {
            // Cut off by a crash: what follows would be taken for the rest of it.
            OpenOptions::new().write(true).open(path)?.set_len(sections(path)?.1)?;
        }
        let bytes = parts.iter().map(|path| Ok(path.metadata()?.len())).sum::<std::io::Result<u64>>()?;
        let number = parts.last().and_then(|path| path.file_stem()?.to_str()?.parse::<u64>().ok()).unwrap_or(0) + 1;
        Ok(Self { directory: directory.to_owned(), current: part(directory, number)?, number, bytes })
    }

    /// Forgets everything: no log is kept any more.
    pub(super) fn end(directory: &Path) -> std::io::Result<()> {
        match std::fs::remove_dir_all(directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Adds what was committed, durably.
    pub(super) fn add(&mut self, committed: &Committed) -> std::io::Result<()> {
        let section = Section { from: committed.from, length: committed.bytes.len() as u64 };
        self.current.write_all(&section.to_bytes())?;
        self.current.write_all(&committed.bytes)?;
        self.current.sync_data()?;
        self.bytes += section.length;
        Ok(())
    }

    /// How much lies there.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Begins another file, which says where it goes on, and answers those before it.
    pub(super) fn cut(&mut self, position: LogPosition) -> std::io::Result<Vec<PathBuf>> {
        let before = parts(&self.directory)?;
        self.number += 1;
        self.current = part(&self.directory, self.number)?;
        // Those before may wait for another try.
        self.bytes = before.iter().map(|path| Ok(path.metadata()?.len())).sum::<std::io::Result<u64>>()?;
        self.add(&Committed { from: position, bytes: Vec::new() })?;
        Ok(before)
    }
}

fn part(directory: &Path, number: u64) -> std::io::Result<File> {
    private(OpenOptions::new().write(true).create_new(true)).open(directory.join(format!("{number:09}.log")))
}

/// The files, oldest first.
pub(super) fn parts(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let files = std::fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    let mut parts: Vec<PathBuf> =
        files.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "log")).collect();
    parts.sort();
    Ok(parts)
}

/// The whole sections of a file, in order, and how many of its bytes they take.
pub(super) fn sections(path: &Path) -> std::io::Result<(Vec<Section>, u64)> {
    let size = path.metadata()?.len();
    let mut file = BufReader::new(File::open(path)?);
    let (mut sections, mut end) = (Vec::new(), 0);
    while let Some(section) = Section::read(&mut file)? {
        let after = end + SECTION_HEADER_BYTES as u64 + section.length;
        if after > size {
            break;
        }
        file.seek_relative(section.length as i64)?;
        sections.push(section);
        end = after;
    }
    Ok((sections, end))
}

/// Where the last of the sections in these files ends.
pub(super) fn end_of(directory: &Path) -> std::io::Result<Option<LogPosition>> {
    let mut last = None;
    for path in parts(directory)? {
        last = sections(&path)?.0.last().map(Section::end).or(last);
    }
    Ok(last)
}
