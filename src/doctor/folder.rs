//! The store's folder: whether others of this machine can read what should be the user's alone, and how much room its disk
//! has.

use std::path::Path;

use super::Checkup;

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
