//! Notices that a configuration file has changed, and loads it anew.
//!
//! It looks at the files' times and sizes when it is asked to, instead of waiting for events of the file system:
//! those are lost on network folders and by editors and mounts that replace the file, and a look every few seconds
//! costs nothing.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{ConfigError, LoadOptions, Loaded};

/// A file as it was before it was read, so that no later change is missed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Watched {
    /// Where it is, or would be.
    pub path: PathBuf,
    /// Its time and size; nothing for a file that is not there.
    mark: Option<(SystemTime, u64)>,
}

impl Watched {
    /// The file as it is now.
    pub fn now(path: &Path) -> Self {
        let mark = std::fs::metadata(path).and_then(|metadata| Ok((metadata.modified()?, metadata.len()))).ok();
        Self { path: path.to_owned(), mark }
    }

    /// Whether it was there.
    pub fn exists(&self) -> bool {
        self.mark.is_some()
    }

    fn has_changed(&self) -> bool {
        Self::now(&self.path) != *self
    }
}

/// Watches the files that a configuration was loaded from, also those that did not exist.
#[derive(Debug)]
pub struct ConfigWatch {
    options: LoadOptions,
    seen: Vec<Watched>,
}

impl ConfigWatch {
    /// Watches from the moment on in which `loaded` was read.
    pub fn new(options: LoadOptions, loaded: &Loaded) -> Self {
        Self { options, seen: loaded.files.clone() }
    }

    /// The newly loaded configuration, if a file has changed since the last look; an error if it cannot be used, in
    /// which case the former one stays in force until the next change.
    pub fn look(&mut self) -> Option<Result<Loaded, ConfigError>> {
        self.seen.iter().any(Watched::has_changed).then(|| self.reload())
    }

    /// Loads anew whether a file has changed or not, as on SIGHUP.
    pub fn reload(&mut self) -> Result<Loaded, ConfigError> {
        self.seen = self.seen.iter().map(|file| Watched::now(&file.path)).collect();
        let loaded = Loaded::load(&self.options)?;
        self.seen = loaded.files.clone();
        Ok(loaded)
    }
}
