//! SQLite's write-ahead log, as far as it has to be read here: where committed frames end.
//!
//! Form: "The WAL File Format", <https://www.sqlite.org/walformat.html>. A frame counts only if it carries the salts of the
//! log's header and a checksum over everything before it; what counts ends with the last frame that commits.

use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Bytes before the first frame.
pub(super) const HEADER_BYTES: u64 = 32;
/// Bytes before the page of a frame.
pub(super) const FRAME_HEADER_BYTES: usize = 24;
const MAGIC_LITTLE_ENDIAN: u32 = 0x377f_0682;
const MAGIC_BIG_ENDIAN: u32 = 0x377f_0683;
const PAGE_BYTES_MAX: u32 = 65_536;
/// Frames that are asked of the file at once.
const FRAMES_AT_ONCE: usize = 64;

/// Which log: its two salts. A log that begins anew has others.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Salts(pub(super) [u8; 8]);

impl fmt::Debug for Salts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from(*self))
    }
}

impl From<Salts> for String {
    fn from(salts: Salts) -> Self {
        format!("{:016x}", u64::from_be_bytes(salts.0))
    }
}

impl TryFrom<String> for Salts {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let number = u64::from_str_radix(&text, 16).map_err(|_| format!("{text:?} is no pair of salts"))?;
        Ok(Self(number.to_be_bytes()))
    }
}

/// A place in a log: behind a frame that commits, or at the very beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPosition {
    /// Which log.
    pub salts: Salts,
    /// Bytes from its beginning.
    pub offset: u64,
}

/// The log of a database.
pub(super) fn log_of(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push("-wal");
    PathBuf::from(name)
}

/// A log's header.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    salts: Salts,
    frame_bytes: usize,
    is_big_endian: bool,
    sum: Sum,
}

/// The running checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sum(u32, u32);

impl Sum {
    fn over(mut self, bytes: &[u8], is_big_endian: bool) -> Self {
        let word = |bytes: &[u8]| {
            let bytes = [bytes[0], bytes[1], bytes[2], bytes[3]];
            if is_big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
        };
        for pair in bytes.chunks_exact(8) {
            self.0 = self.0.wrapping_add(word(&pair[..4])).wrapping_add(self.1);
            self.1 = self.1.wrapping_add(word(&pair[4..])).wrapping_add(self.0);
        }
        self
    }
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

impl Header {
    /// The place behind so many frames.
    pub(super) fn after(&self, frames: u64) -> LogPosition {
        LogPosition { salts: self.salts, offset: HEADER_BYTES + frames * self.frame_bytes as u64 }
    }

    /// How many frames lie before a place.
    fn frames(&self, offset: u64) -> u64 {
        offset.saturating_sub(HEADER_BYTES) / self.frame_bytes as u64
    }

    /// Whether a frame carries the salts of this log.
    fn owns(&self, frame: &[u8]) -> bool {
        frame[8..16] == self.salts.0
    }

    /// What a log begins with, and its bytes.
    fn read(file: &mut File) -> std::io::Result<Option<(Self, [u8; HEADER_BYTES as usize])>> {
        let mut bytes = [0; HEADER_BYTES as usize];
        let is_there = fill(file, &mut bytes)?;
        Ok(Self::parse(&bytes).filter(|_| is_there).map(|header| (header, bytes)))
    }

    /// Nothing where the bytes are no header, or one that is just being written.
    fn parse(bytes: &[u8; HEADER_BYTES as usize]) -> Option<Self> {
        let (magic, page_bytes) = (number(bytes, 0), number(bytes, 8));
        let is_big_endian = magic == MAGIC_BIG_ENDIAN;
        let is_known = is_big_endian || magic == MAGIC_LITTLE_ENDIAN;
        let sum = Sum(0, 0).over(&bytes[..24], is_big_endian);
        let is_sound = sum == Sum(number(bytes, 24), number(bytes, 28)) && page_bytes <= PAGE_BYTES_MAX;
        let salts = Salts([16, 17, 18, 19, 20, 21, 22, 23].map(|at| bytes[at]));
        let frame_bytes = FRAME_HEADER_BYTES + page_bytes as usize;
        (is_known && is_sound).then_some(Self { salts, frame_bytes, is_big_endian, sum })
    }
}

/// A log that is read from a place on, over and over, while it is written.
#[derive(Debug)]
pub(super) struct LogReader {
    path: PathBuf,
    header: Option<Header>,
    /// How far it was read: everything before was committed.
    offset: u64,
    sum: Sum,
}

/// What was committed since the last look.
#[derive(Debug)]
pub(super) struct Committed {
    /// Where it begins.
    pub from: LogPosition,
    /// The log's own bytes: with its header where it begins there.
    pub bytes: Vec<u8>,
}

impl LogReader {
    /// Reads a log from its beginning.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, header: None, offset: 0, sum: Sum(0, 0) }
    }

    /// Where the next look begins.
    pub(super) fn position(&self) -> Option<LogPosition> {
        Some(LogPosition { salts: self.header?.salts, offset: self.offset })
    }

    /// The header of the log as it is now; nothing where there is none, or one that is just being written.
    pub(super) fn header(&self) -> std::io::Result<Option<Header>> {
        Ok(open(&self.path)?.map(|mut file| Header::read(&mut file)).transpose()?.flatten().map(|(header, _)| header))
    }

    /// Whether the last frame that was read is the one that lies there.
    pub(super) fn is_still_there(&self) -> std::io::Result<bool> {
        let (Some(header), Some(mut file)) = (self.header, open(&self.path)?) else { return Ok(self.offset == 0) };
        let mut frame = [0; FRAME_HEADER_BYTES];
        file.seek(SeekFrom::Start(self.offset.saturating_sub(header.frame_bytes as u64)))?;
        Ok(fill(&mut file, &mut frame)? && self.sum == told_sum(&frame))
    }

    /// Goes on at a place behind a commit, without reading what lies before: SQLite has checked that, as far as it counts.
    /// `false` where the log is another one or is not counted so far.
    pub(super) fn go_to(&mut self, place: LogPosition, counted: u64) -> std::io::Result<bool> {
        let Some(mut file) = open(&self.path)? else { return Ok(false) };
        let is_of = |header: &Header| header.after(header.frames(place.offset)) == place;
        let Some((header, _)) = Header::read(&mut file)?.filter(|(header, _)| is_of(header)) else { return Ok(false) };
        let frames = header.frames(place.offset);
        if frames == 0 || frames > counted {
            return Ok(false);
        }
        let mut frame = [0; FRAME_HEADER_BYTES];
        file.seek(SeekFrom::Start(header.after(frames - 1).offset))?;
        if !fill(&mut file, &mut frame)? || !commits(&frame) || !header.owns(&frame) {
            return Ok(false);
        }
        (self.header, self.offset, self.sum) = (Some(header), place.offset, told_sum(&frame));
        Ok(true)
    }

    /// Reads what was committed since the last look, up to a place and some `most` bytes of it. A log that has begun anew
    /// is read from its beginning; one that the place is not of is not read.
    pub(super) fn look(&mut self, until: LogPosition, most: u64) -> std::io::Result<Option<Committed>> {
        let Some(mut file) = open(&self.path)? else { return Ok(None) };
        let Some((header, bytes)) = Header::read(&mut file)?.filter(|(header, _)| header.salts == until.salts) else {
            return Ok(None);
        };
        if self.header.is_none_or(|known| known.salts != header.salts) {
            (self.header, self.offset, self.sum) = (Some(header), 0, header.sum);
        }
        let from = LogPosition { salts: header.salts, offset: self.offset };
        let mut committed = if self.offset == 0 { bytes.to_vec() } else { Vec::new() };
        let most = most.min(until.offset.saturating_sub(self.offset));
        let mut frames = Frames::read(file, header, self.offset.max(HEADER_BYTES), self.sum)?;
        let mut whole = 0;
        while (whole as u64) < most
            && let Some(frame) = frames.next()?
        {
            committed.extend_from_slice(frame);
            if commits(frame) {
                (whole, self.sum) = (committed.len(), frames.sum);
            }
        }
        committed.truncate(whole);
        self.offset += whole as u64;
        Ok((whole > 0).then_some(Committed { from, bytes: committed }))
    }
}

/// The frames of a log from a place on, as long as they belong to it.
struct Frames {
    source: BufReader<File>,
    header: Header,
    /// Over everything until now.
    sum: Sum,
    frame: Vec<u8>,
}

impl Frames {
    fn read(mut file: File, header: Header, offset: u64, sum: Sum) -> std::io::Result<Self> {
        file.seek(SeekFrom::Start(offset))?;
        let source = BufReader::with_capacity(FRAMES_AT_ONCE * header.frame_bytes, file);
        Ok(Self { source, header, sum, frame: vec![0; header.frame_bytes] })
    }

    fn next(&mut self) -> std::io::Result<Option<&[u8]>> {
        if !fill(&mut self.source, &mut self.frame)? {
            return Ok(None);
        }
        let (head, page) = self.frame.split_at(FRAME_HEADER_BYTES);
        let is_big_endian = self.header.is_big_endian;
        self.sum = self.sum.over(&head[..8], is_big_endian).over(page, is_big_endian);
        Ok((self.header.owns(head) && self.sum == told_sum(head)).then_some(self.frame.as_slice()))
    }
}

/// Whether a frame ends a commit.
fn commits(frame: &[u8]) -> bool {
    number(frame, 4) > 0
}

/// The checksum over everything until the end of a frame, as the frame tells it.
fn told_sum(frame: &[u8]) -> Sum {
    Sum(number(frame, 16), number(frame, 20))
}

fn open(path: &Path) -> std::io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether there was enough to fill the buffer.
fn fill(source: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<bool> {
    match source.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// The ends of the commits in a whole log, as bytes from its beginning.
pub(super) fn ends_of_commits(path: &Path) -> std::io::Result<Vec<u64>> {
    let mut ends = Vec::new();
    let Some(mut file) = open(path)? else { return Ok(ends) };
    let Some((header, _)) = Header::read(&mut file)? else { return Ok(ends) };
    let (mut frames, mut end) = (Frames::read(file, header, HEADER_BYTES, header.sum)?, HEADER_BYTES);
    while let Some(frame) = frames.next()? {
        end += header.frame_bytes as u64;
        if commits(frame) {
            ends.push(end);
        }
    }
    Ok(ends)
}
