//! How a command finds the process on a data folder: two files in it, readable by their owner alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

use crate::private::private;

/// The file that holds the process's address.
pub const ADDRESS_FILE: &str = "api.address";
/// The file that holds the token which every request must carry.
pub const TOKEN_FILE: &str = "api.token";

/// Where a process answers, and what opens the door.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The address, on loopback.
    pub address: SocketAddr,
    /// The token of this run of the process.
    pub token: SecretString,
}

impl Endpoint {
    /// What the process on this data folder has announced, if it has; it may be long gone.
    pub fn find(data_dir: &Path) -> Option<Self> {
        let read = |name: &str| fs::read_to_string(data_dir.join(name)).ok().map(|text| text.trim().to_owned());
        let address: SocketAddr = read(ADDRESS_FILE)?.parse().ok()?;
        let token = read(TOKEN_FILE).filter(|token| !token.is_empty())?;
        address.ip().is_loopback().then(|| Self { address, token: token.into() })
    }

    /// A new token.
    pub fn new_token() -> SecretString {
        format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple()).into()
    }

    /// Writes both files, the address last: whoever finds it finds the token too.
    pub fn announce(&self, data_dir: &Path) -> io::Result<Announced> {
        write_private(&data_dir.join(TOKEN_FILE), self.token.expose_secret())?;
        write_private(&data_dir.join(ADDRESS_FILE), &self.address.to_string())?;
        Ok(Announced { files: [ADDRESS_FILE, TOKEN_FILE].map(|name| data_dir.join(name)) })
    }
}

/// Takes the files away when the process ends in order.
#[derive(Debug)]
pub struct Announced {
    files: [PathBuf; 2],
}

impl Drop for Announced {
    fn drop(&mut self) {
        for file in &self.files {
            // A file that stays is harmless: nobody answers there.
            let _ = fs::remove_file(file);
        }
    }
}

/// Written beside and renamed, so that nobody reads a half, and private from the first byte.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("new");
    let _ = fs::remove_file(&beside);
    let mut file: File = private(OpenOptions::new().write(true).create_new(true)).open(&beside)?;
    writeln!(file, "{text}")?;
    fs::rename(beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_announced_is_found_until_it_is_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Endpoint::find(folder.path()).is_none());
        let endpoint = Endpoint { address: "127.0.0.1:7373".parse().unwrap(), token: Endpoint::new_token() };
        let announced = endpoint.announce(folder.path()).unwrap();
        let found = Endpoint::find(folder.path()).unwrap();
        assert_eq!((found.address, found.token.expose_secret()), (endpoint.address, endpoint.token.expose_secret()));
        drop(announced);
        assert!(Endpoint::find(folder.path()).is_none());
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_may_read_the_files() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        // A file that somebody else has put there with wider rights is replaced, not written into.
        fs::write(folder.path().join(TOKEN_FILE), "old").unwrap();
        fs::set_permissions(folder.path().join(TOKEN_FILE), fs::Permissions::from_mode(0o644)).unwrap();
        let endpoint = Endpoint { address: "127.0.0.1:7373".parse().unwrap(), token: Endpoint::new_token() };
        let _announced = endpoint.announce(folder.path()).unwrap();
        for name in [TOKEN_FILE, ADDRESS_FILE] {
            let mode = fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn an_address_beyond_loopback_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(ADDRESS_FILE), "192.0.2.1:7373").unwrap();
        fs::write(folder.path().join(TOKEN_FILE), "token").unwrap();
        assert!(Endpoint::find(folder.path()).is_none());
    }
}
