//! The store's folder: whether others of this machine can read what should be the user's alone, and how much room its disk
//! has.

use std::path::Path;

use super::Checkup;
use super::store::size;

/// Free bytes below which the disk is as good as full.
const FREE_LEAST: u64 = 50 * 1024 * 1024;
/// Free bytes below which it soon will be.
const FREE_LOW: u64 = 1024 * 1024 * 1024;

/// Files whose text lets programs speak for the user.
#[cfg(unix)]
const SECRET: [&str; 2] = ["api.token", "api.address"];

/// Looks at the folder.
#[cfg(unix)]
pub(super) fn look(folder: &Path) -> Checkup {
    use std::os::unix::fs::PermissionsExt;
    let open_to_others = |path: &Path| {
        let metadata = std::fs::metadata(path).ok()?;
        (metadata.permissions().mode() & 0o077 != 0).then(|| path.display().to_string())
    };
    let mut checkup = Checkup::default();
    if !folder.exists() {
        checkup.ok("permissions", format!("{} is not there yet; it is made for its owner alone", folder.display()));
        return checkup;
    }
    let secret = SECRET.map(|name| folder.join(name));
    let open: Vec<_> =
        std::iter::once(folder).chain(secret.iter().map(|path| path.as_path())).filter_map(open_to_others).collect();
    match open.as_slice() {
        [] => checkup.ok("permissions", format!("{} is for its owner alone", folder.display())),
        paths => {
            let found = format!("other users of this machine may look into {}", paths.join(", "));
            checkup.warn("permissions", found, format!("chmod -R go= {}", folder.display()));
        }
    }
    checkup
}

/// Permissions are the system's own matter here.
#[cfg(not(unix))]
pub(super) fn look(folder: &Path) -> Checkup {
    let mut checkup = Checkup::default();
    checkup.ok("permissions", folder.display());
    checkup
}

/// How much room the folder's disk has, where no store can tell.
pub(super) fn disk(checkup: &mut Checkup, folder: &Path) {
    let there = folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("."));
    match fs4::available_space(there) {
        Ok(free) => room(checkup, free, ""),
        Err(error) => {
            checkup.warn("disk space", format!("it cannot be asked for ({error})"), "look whether the disk is there");
        }
    }
}

/// Whether that is enough.
pub(super) fn room(checkup: &mut Checkup, free: u64, taken: &str) {
    let found = format!("{} free{taken}", size(free));
    match free {
        free if free < FREE_LEAST => checkup.fail("disk space", found, "free some space: writes will fail"),
        free if free < FREE_LOW => checkup.warn("disk space", found, "free some space soon"),
        _ => checkup.ok("disk space", found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn a_disk_without_room_is_a_failure_before_it_is_full() {
        for (free, state) in [(FREE_LEAST - 1, State::Failure), (FREE_LOW - 1, State::Warning), (FREE_LOW, State::Ok)] {
            let mut checkup = Checkup::default();
            room(&mut checkup, free, "");
            assert_eq!(checkup.checks[0].state, state);
        }
        let mut checkup = Checkup::default();
        let folder = tempfile::tempdir().unwrap();
        disk(&mut checkup, &folder.path().join("not/there/yet"));
        assert!(checkup.checks[0].found.ends_with(" free"), "{checkup:?}");
    }
}
