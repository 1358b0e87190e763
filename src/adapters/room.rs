//! Room on the disk: what is about to be written must leave some of it free.

use std::path::Path;

use crate::config::Size;

/// What is left free on the disk, whatever is written.
const RESERVE_BYTES: u64 = 16 * 1024 * 1024;

/// Where so many bytes do not fit into a folder, says so in words.
pub(super) fn lack_of(directory: &Path, needed: u64) -> std::io::Result<Option<String>> {
    let free = fs4::available_space(directory)?;
    if free >= needed.saturating_add(RESERVE_BYTES) {
        return Ok(None);
    }
    let (needed, free, reserve, directory) = (Size(needed), Size(free), Size(RESERVE_BYTES), directory.display());
    Ok(Some(format!("about {needed} in {directory}, where {free} are free and {reserve} are to stay free")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_told_in_sizes_that_people_read() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(lack_of(folder.path(), 1).unwrap(), None);
        let words = lack_of(folder.path(), u64::MAX).unwrap().unwrap();
        assert!(
            words.starts_with("about 1844674") && words.ends_with(" are free and 16MiB are to stay free"),
            "{words}"
        );
        assert!(lack_of(&folder.path().join("nowhere"), 1).is_err());
    }
}
