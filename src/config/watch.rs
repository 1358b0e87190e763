//! Notices that a configuration file has changed, and loads it anew.
//!
//! It looks at the files' times and sizes when it is asked to, instead of waiting for events of the file system:
//! those are lost on network folders and by editors and mounts that replace the file, and a look every few seconds
//! costs nothing.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{ConfigError, LoadOptions, Loaded};

/// Watches the files that a configuration was loaded from.
#[derive(Debug)]
pub struct ConfigWatch {
    options: LoadOptions,
    seen: Vec<(PathBuf, Mark)>,
}

/// What tells that a file is another one than before; nothing for a file that is not there.
type Mark = Option<(SystemTime, u64)>;

impl ConfigWatch {
    /// Watches the files that `loaded` came from, also those that did not exist.
    pub fn new(options: LoadOptions, loaded: &Loaded) -> Self {
        Self { options, seen: marked(&loaded.files) }
    }

    /// The newly loaded configuration, if a file has changed since the last look; an error if it cannot be used, in
    /// which case the former one stays in force until the next change.
    pub fn look(&mut self) -> Option<Result<Loaded, ConfigError>> {
        let now: Vec<_> = self.seen.iter().map(|(path, _)| (path.clone(), mark(path))).collect();
        (now != self.seen).then(|| {
            self.seen = now;
            self.reload()
        })
    }

    /// Loads anew whether a file has changed or not, as on SIGHUP.
    pub fn reload(&mut self) -> Result<Loaded, ConfigError> {
        let loaded = Loaded::load(&self.options)?;
        self.seen = marked(&loaded.files);
        Ok(loaded)
    }
}

fn marked(files: &[PathBuf]) -> Vec<(PathBuf, Mark)> {
    files.iter().map(|path| (path.clone(), mark(path))).collect()
}

fn mark(path: &Path) -> Mark {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}
