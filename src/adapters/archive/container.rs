//! The form of a backup's file, so that any byte that is not as it was written is noticed.
//!
//! ```text
//! magic      16 bytes, "tidelock backup\n"
//! payload    a zstd frame, in an age file where it is encrypted
//! manifest   JSON
//! length     of the manifest, 4 bytes, little endian
//! digest     BLAKE3 of everything before it, 32 bytes
//! ```
//!
//! A file gets its name only when it is whole and on the disk.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tidelock_actors::backups::ArchiveError;

use super::encryption::Keys;
use super::faults::{damaged, io};
use super::manifest::Manifest;
use crate::private::sync_directory;

const MAGIC: &[u8; 16] = b"tidelock backup\n";
const DIGEST_BYTES: usize = blake3::OUT_LEN;
/// What stands after the manifest.
const FOOT_BYTES: u64 = 4 + DIGEST_BYTES as u64;
/// No manifest is longer: its lists are as long as the configuration's.
const MANIFEST_BYTES: u32 = 16 * 1024 * 1024;
/// How hard zstd tries: a level that keeps up with a disk.
const LEVEL: i32 = 1;
/// How the names of files begin that are not whole yet.
pub(crate) const UNFINISHED: &str = ".unfinished-";
/// Bytes that are copied at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// Everything that is written goes into the digest as well.
struct Digested<W> {
    hasher: blake3::Hasher,
    inner: W,
    bytes: u64,
}

impl<W: Write> Write for Digested<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

/// Writes a backup: `payload` fills it, then `manifest` is told how many bytes went in. Answers the manifest with its
/// digest, and the file's size.
pub(super) fn write(
    path: &Path,
    keys: &Keys,
    payload: impl FnOnce(&mut dyn Write) -> Result<u64, ArchiveError>,
    manifest: impl FnOnce(u64) -> Manifest,
) -> Result<(Manifest, u64), ArchiveError> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut file = unfinished(directory).map_err(io)?;
    let inner = BufWriter::with_capacity(BUFFER_BYTES, file.as_file_mut());
    let mut digested = Digested { hasher: blake3::Hasher::new(), inner, bytes: 0 };
    digested.write_all(MAGIC).map_err(io)?;
    let plain_bytes = keys.write(&mut digested, |sink| compressed(sink, payload))?;
    let manifest = Manifest { is_encrypted: keys.encrypts(), ..manifest(plain_bytes) };
    let (digest, bytes) = finish(&mut digested, &manifest).map_err(io)?;
    drop(digested);
    file.as_file().sync_all().map_err(io)?;
    file.persist_noclobber(path).map_err(|error| io(error.error))?;
    sync_directory(directory).map_err(io)?;
    Ok((Manifest { digest, ..manifest }, bytes))
}

fn compressed(
    sink: &mut dyn Write,
    payload: impl FnOnce(&mut dyn Write) -> Result<u64, ArchiveError>,
) -> Result<u64, ArchiveError> {
    let mut encoder = zstd::stream::write::Encoder::new(sink, LEVEL).map_err(io)?;
    let plain_bytes = payload(&mut encoder)?;
    encoder.finish().map_err(io)?;
    Ok(plain_bytes)
}

/// A file that has no name of its own yet; one that is left over after a crash is known by this one.
fn unfinished(directory: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(directory)
}

fn finish<W: Write>(digested: &mut Digested<W>, manifest: &Manifest) -> std::io::Result<(String, u64)> {
    let text = serde_json::to_vec(manifest)?;
    digested.write_all(&text)?;
    digested.write_all(&(text.len() as u32).to_le_bytes())?;
    let digest = digested.hasher.finalize();
    digested.inner.write_all(digest.as_bytes())?;
    digested.inner.flush()?;
    Ok((digest.to_hex().to_string(), digested.bytes + DIGEST_BYTES as u64))
}

/// An opened backup, of which only the manifest has been read.
pub(super) struct Backup {
    file: File,
    path: PathBuf,
    /// What it says of itself.
    pub manifest: Manifest,
    /// Its size.
    pub bytes: u64,
    payload_end: u64,
}

/// Opens a backup and reads its manifest.
pub(super) fn open(path: &Path) -> Result<Backup, ArchiveError> {
    let mut file = File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => ArchiveError::Unknown(format!("there is no backup {}", path.display())),
        _ => io(error),
    })?;
    let bytes = file.metadata().map_err(io)?.len();
    let head = MAGIC.len() as u64;
    if bytes < head + FOOT_BYTES {
        return Err(damaged(path, "it is too short to be a backup"));
    }
    let magic: [u8; MAGIC.len()] = read_at(&mut file, 0).map_err(io)?;
    if &magic != MAGIC {
        return Err(damaged(path, "it does not begin like a backup"));
    }
    let length = u32::from_le_bytes(read_at(&mut file, bytes - FOOT_BYTES).map_err(io)?);
    let digest: [u8; DIGEST_BYTES] = read_at(&mut file, bytes - DIGEST_BYTES as u64).map_err(io)?;
    let payload_end = bytes.checked_sub(FOOT_BYTES + u64::from(length)).filter(|end| *end >= head);
    let payload_end = payload_end.filter(|_| length <= MANIFEST_BYTES);
    let payload_end = payload_end.ok_or_else(|| damaged(path, "its end is not a backup's"))?;
    let mut text = vec![0; length as usize];
    file.seek(SeekFrom::Start(payload_end)).and_then(|_| file.read_exact(&mut text)).map_err(io)?;
    let digest = blake3::Hash::from_bytes(digest).to_hex().to_string();
    let manifest = Manifest { digest, ..Manifest::parse(&text, path)? };
    Ok(Backup { file, path: path.to_owned(), manifest, bytes, payload_end })
}

fn read_at<const N: usize>(file: &mut File, at: u64) -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

impl Backup {
    /// Reads every byte and compares the digest.
    pub fn check(&mut self) -> Result<(), ArchiveError> {
        self.file.rewind().map_err(io)?;
        let mut hasher = blake3::Hasher::new();
        let covered = self.bytes - DIGEST_BYTES as u64;
        let mut bytes = BufReader::with_capacity(BUFFER_BYTES, &self.file).take(covered);
        let read = std::io::copy(&mut bytes, &mut hasher).map_err(io)?;
        let is_whole = read == covered && hasher.finalize().to_hex().as_str() == self.manifest.digest;
        let differs = || damaged(&self.path, "its bytes are not the ones that were written (BLAKE3 differs)");
        is_whole.then_some(()).ok_or_else(differs)
    }

    /// What was put in. Only after `check`: a decoder is no place for strange bytes.
    pub fn payload(&mut self, keys: &Keys) -> Result<Box<dyn Read + '_>, ArchiveError> {
        let start = MAGIC.len() as u64;
        self.file.seek(SeekFrom::Start(start)).map_err(io)?;
        let stored = BufReader::with_capacity(BUFFER_BYTES, (&self.file).take(self.payload_end - start));
        let packed: Box<dyn Read> = match self.manifest.is_encrypted {
            true => keys.decrypted(stored, &self.path)?,
            false => Box::new(stored),
        };
        let decoder = zstd::stream::read::Decoder::new(packed).map_err(io)?;
        Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, decoder.single_frame())))
    }
}
